//! Loss of power under load, on a real file system: what was acknowledged with `acks=all`, committed, or shown to a consumer
//! is there afterwards; of `acks=1` only the end of a log may be gone.

use std::fs::{self, File};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use harness::{Broker, Seed, Suite, say, setting};
use tidegate_checker::Crash;

use crate::image::Image;
use crate::load::Load;

/// The longest load before the power goes, in ms.
const LONGEST_LOAD_MS: u64 = 1000;

/// The broker believes in a new start of the machine when the boot id is another.
const UNDER_A_BOOT_ID: &str = r#"mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@""#;

fn round(
    broker: &mut Broker,
    image: &mut Image,
    load: &mut Load,
    seed: &mut Seed,
) -> Result<Duration> {
    let address = broker.tcp();
    let moment = Duration::from_millis(seed.between(1, LONGEST_LOAD_MS));
    let clock = load.clock();
    let mut lost = clock.now();
    let crash = |killing: &AtomicBool| {
        // The moment is the test's subject: nothing is awaited here.
        thread::sleep(moment);
        killing.store(true, Ordering::SeqCst);
        broker.pause()?;
        lost = clock.now();
        image.lose_power(|| broker.kill9())
    };
    load.run(address, seed, None, crash)?;
    let took = broker.restart()?;
    load.settle_and_judge(broker, Crash::PowerLoss, lost)?;
    load.skip_verification();
    Ok(took)
}

#[test]
fn a_loss_of_power_under_load_takes_nothing_that_was_promised_to_survive_it() {
    let rounds = setting("TIDEGATE_POWER_LOSS_ROUNDS", 3);
    let suite = Suite {
        name: "loss of power",
    };
    let Some(mut image) = suite.need(Image::create()) else {
        return;
    };
    let mut seed = Seed::from_env("loss of power");
    let boot_id = image.boot_id().display().to_string();
    let mut broker = Broker::builder()
        .data(image.mounted().join("data"))
        .through(&["unshare", "--mount", "sh", "-c", UNDER_A_BOOT_ID, &boot_id])
        .start()
        .unwrap_or_else(|error| panic!("{error:#}"));
    let mut load = Load::start(&mut broker.connect()).unwrap_or_else(|error| panic!("{error:#}"));
    let mut slowest = Duration::ZERO;
    for number in 1..=rounds {
        let took = round(&mut broker, &mut image, &mut load, &mut seed).unwrap_or_else(|error| {
            let log = broker.log_tail();
            panic!("round {number}: {error:#}\nthe broker's log ends:\n{log}")
        });
        slowest = slowest.max(took);
    }
    let (acknowledged, tally) = (load.acknowledged(), load.tally());
    say(&format!(
        "loss of power: {rounds} rounds, {acknowledged} records acknowledged, no anomaly, slowest recovery {slowest:?}; {tally}"
    ));
    assert!(acknowledged > 0, "no round acknowledged anything");
    tally.check();
    // The file system cannot go before the process that uses it.
    drop(broker);
}

/// The method itself: it keeps what was synced and drops what was not.
#[test]
fn a_loss_of_power_takes_what_was_not_synced_and_nothing_else() {
    let suite = Suite {
        name: "loss of power",
    };
    let Some(mut image) = suite.need(Image::create()) else {
        return;
    };
    let [synced, unsynced] = ["synced", "unsynced"].map(|name| image.mounted().join(name));
    let mut file = File::create(&synced).expect("the file system is writable");
    file.write_all(b"kept").expect("there is space");
    file.sync_all().expect("the disk works");
    let directory = File::open(image.mounted()).expect("a directory");
    directory.sync_all().expect("the disk works");
    file.write_all(b" and more").expect("there is space");
    fs::write(&unsynced, b"dropped").expect("there is space");
    drop((file, directory));
    image
        .lose_power(|| ())
        .unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(fs::read(&synced).ok().as_deref(), Some(&b"kept"[..]));
    assert!(!unsynced.exists(), "what nobody synced is still there");
}
