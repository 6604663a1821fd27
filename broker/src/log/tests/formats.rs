//! Every released format opens: the folders under `tests/data` were written by the version that they are named after.

use super::*;
use crate::log::inspect;

const FIRST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/log-format-1");

#[test]
fn version_1_is_read_and_goes_on() {
    let fixture = Fixture::new();
    copy_folder(Path::new(FIRST), fixture.directory.path());
    let report = inspect::verify(fixture.directory.path()).expect("report");
    assert_eq!(report.findings, []);
    assert_eq!((report.partitions, report.records), (2, 10));
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let mut expected: Vec<Vec<u8>> = vec![b"first".into(), b"second".into()];
    expected.extend(vec![b"v".to_vec(); 3]);
    expected.extend((0..4).map(|number| vec![b'a' + number; 200]));
    let found: Vec<_> = read_all(&log).into_iter().map(|(_, value)| value).collect();
    assert_eq!(found, expected);
    let again = log.append(numbered(7, 1, 0, 3)).expect("answered");
    assert!(again.duplicate && again.base_offset == 2);
    assert_eq!(append(&log, &[b"on"]).base_offset, 9);
    let other = fixture.partition(&logs, 2);
    assert_eq!(read_all(&other), [(0, b"never checkpointed".to_vec())]);
    logs.shutdown();
    drop((log, other, logs));
    let logs = fixture.open();
    assert_eq!(read_all(&fixture.partition(&logs, 1)).len(), 10);
}
