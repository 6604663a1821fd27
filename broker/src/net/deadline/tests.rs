use std::future::poll_fn;

use super::*;

const IDLE: Duration = Duration::from_secs(600);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn quiet(start: Instant) -> Activity {
    Activity {
        in_flight: false,
        has_output: false,
        last_write: start,
    }
}

/// A connection that has authenticated.
fn deadlines(start: Instant) -> Deadlines {
    let mut deadlines = Deadlines::new(start, start + seconds(10), IDLE);
    deadlines.authenticated();
    deadlines
}

#[tokio::test(start_paused = true)]
async fn the_deadline_follows_the_phase() {
    let start = Instant::now();
    let mut deadlines = deadlines(start);
    let in_flight = Activity {
        in_flight: true,
        ..quiet(start)
    };
    let unread = Activity {
        has_output: true,
        last_write: start + seconds(5),
        ..in_flight
    };
    let stall = start + seconds(605);
    assert_eq!(
        deadlines.next(quiet(start)),
        Some((start + IDLE, Expiry::Idle))
    );
    // The broker's own slowness is not the peer's fault.
    assert_eq!(deadlines.next(in_flight), None);
    assert_eq!(deadlines.next(unread), Some((stall, Expiry::NotReading)));
    deadlines.wait_for_broker();
    assert_eq!(deadlines.next(quiet(start)), None);
    assert_eq!(deadlines.next(unread), Some((stall, Expiry::NotReading)));
    deadlines.wait_for_body(start, 640 << 10);
    let slow = Some((start + seconds(40), Expiry::SlowFrame));
    assert_eq!(deadlines.next(quiet(start)), slow);
    assert_eq!(deadlines.next(in_flight), slow);
    deadlines.frame_came(start + seconds(7));
    deadlines.wait_for_peer();
    let idle = Some((start + seconds(607), Expiry::Idle));
    assert_eq!(deadlines.next(quiet(start)), idle);
}

#[tokio::test(start_paused = true)]
async fn authentication_has_its_own_deadline_in_every_phase() {
    let start = Instant::now();
    let mut deadlines = Deadlines::new(start, start + seconds(10), IDLE);
    let expected = Some((start + seconds(10), Expiry::Authentication));
    assert_eq!(deadlines.next(quiet(start)), expected);
    deadlines.wait_for_broker();
    assert_eq!(deadlines.next(quiet(start)), expected);
    deadlines.wait_for_body(start, 8);
    assert_eq!(deadlines.next(quiet(start)), expected);
    deadlines.authenticated();
    assert_ne!(deadlines.next(quiet(start)), expected);
}

#[tokio::test(start_paused = true)]
async fn the_timer_fires_at_the_deadline_that_holds_then() {
    let start = Instant::now();
    let mut deadlines = deadlines(start);
    // Moved on while the timer still stands at the earlier time.
    deadlines.frame_came(start + seconds(300));
    deadlines.wait_for_peer();
    let expiry = poll_fn(|cx| deadlines.poll(cx, quiet(start))).await;
    assert_eq!(expiry, Expiry::Idle);
    assert_eq!(start.elapsed().as_secs(), 900);
    // An earlier deadline pulls the timer forward.
    deadlines.wait_for_body(Instant::now(), 8);
    let expiry = poll_fn(|cx| deadlines.poll(cx, quiet(start))).await;
    assert_eq!(expiry, Expiry::SlowFrame);
    assert_eq!(start.elapsed().as_secs(), 930);
}

#[tokio::test(start_paused = true)]
async fn a_duration_beyond_the_clock_means_never() {
    let start = Instant::now();
    assert!(after(start, Duration::MAX) > start + seconds(1 << 29));
}
