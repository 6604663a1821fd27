//! The disk's reserve: there, given when what gives space back needs it, and made again. How it lets a real disk be left is
//! shown in `tests/storage`.

use rustix::io::Errno;

use super::*;
use crate::log::file::Operation;

const BYTES: u64 = 1 << 20;

fn file(fixture: &Fixture) -> std::io::Result<std::fs::Metadata> {
    std::fs::metadata(fixture.directory.path().join("reserve"))
}

fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.config.disk_reserve = BYTES;
    fixture.topic.segment_bytes = 4096 + 400;
    fixture
}

#[test]
fn is_as_large_as_the_setting_says_and_has_its_blocks() {
    use std::os::unix::fs::MetadataExt;
    let mut fixture = fixture();
    for bytes in [BYTES, 3 * BYTES, BYTES / 2] {
        fixture.config.disk_reserve = bytes;
        let logs = fixture.open_manually();
        assert_eq!(logs.reserve_stats().kept, bytes);
        let metadata = file(&fixture).expect("a reserve");
        assert_eq!(metadata.len(), bytes);
        assert!(metadata.blocks() * 512 >= bytes, "{metadata:?}");
    }
    fixture.config.disk_reserve = 0;
    drop(fixture.open_manually());
    assert!(file(&fixture).is_err(), "none is kept");
}

#[test]
fn is_released_for_deleting_alone_and_holds_appends_back_until_it_is_there_again() {
    let fixture = fixture();
    let logs = fixture.open_manually();
    let log = fixture.partition(&logs, 1);
    for number in 0..6 {
        append(&log, &[&[number; 100]]);
    }
    while logs.step(Work::Flush) || logs.step(Work::LazyFlush) {}
    log.checkpoint().expect("a clean point");
    let full = |operation| fixture.disk.faults.fail(operation, 0, Errno::NOSPC);
    full(Operation::Write);
    full(Operation::Allocate);
    let refused = log.append(batch_of(&[&[7; 300]]));
    assert!(
        matches!(refused, Err(AppendError::Storage(_))),
        "{refused:?}"
    );
    log.checkpoint().expect_err("no room for a checkpoint");
    assert_eq!(logs.reserve_stats().kept, BYTES, "neither was given it");

    log.delete_records(Some(4))
        .expect_err("more than a reserve");
    let stats = logs.reserve_stats();
    assert_eq!((stats.kept, stats.released), (0, 1));
    assert!(file(&fixture).is_err());
    fixture.disk.faults.heal();
    full(Operation::Allocate);
    let refused = log.append(batch_of(&[&[7; 300]]));
    assert!(
        matches!(refused, Err(AppendError::Storage(_))),
        "{refused:?}"
    );

    assert_eq!(log.delete_records(Some(4)).ok(), Some(4));
    assert_eq!(logs.reserve_stats().kept, 0, "the disk has no room for it");
    fixture.disk.faults.heal();
    append(&log, &[&[7; 300]]);
    assert_eq!(logs.reserve_stats().kept, BYTES);
    assert!(log.stats().stopped.is_none());
}
