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
        window: None,
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
    deadlines.wait_for_body(of_body(start, 640 << 10), None);
    let slow = Some((start + seconds(40), Expiry::SlowFrame));
    assert_eq!(deadlines.next(quiet(start)), slow);
    assert_eq!(deadlines.next(in_flight), slow);
    deadlines.frame_came(start + seconds(7));
    deadlines.wait_for_peer();
    let idle = Some((start + seconds(607), Expiry::Idle));
    assert_eq!(deadlines.next(quiet(start)), idle);
}

#[tokio::test(start_paused = true)]
async fn windows_come_before_the_deadlines_of_who_waits_for_nobody() {
    let start = Instant::now();
    let mut deadlines = deadlines(start);
    let window = Window {
        since: start,
        moved: 0,
    };
    deadlines.wait_for_body(of_body(start, 100 << 20), Some(window));
    let frame = (start + FRAME_WINDOW, Expiry::FrameWindow);
    assert_eq!(deadlines.next(quiet(start)), Some(frame));
    deadlines.next_frame_window(Window {
        since: start + seconds(1),
        moved: 9,
    });
    assert_eq!(deadlines.frame_window().map(|window| window.moved), Some(9));
    let frame = (start + seconds(1) + FRAME_WINDOW, Expiry::FrameWindow);
    assert_eq!(deadlines.next(quiet(start)), Some(frame));
    deadlines.wait_for_peer();
    let unread = Activity {
        in_flight: true,
        has_output: true,
        window: Some(window),
        ..quiet(start)
    };
    let answers = (start + ANSWER_WINDOW, Expiry::AnswerWindow);
    assert_eq!(deadlines.next(unread), Some(answers));
}

#[test]
fn who_holds_much_has_to_be_quick() {
    let window = Window {
        since: Instant::now(),
        moved: 1000,
    };
    for (moved, held, kept) in [
        (1000, 0, false),
        (1000 + LEAST_PROGRESS_BYTES - 1, 0, false),
        (1000 + LEAST_PROGRESS_BYTES, 0, true),
        (1000 + LEAST_PROGRESS_BYTES, 64 << 20, false),
        (1000 + (8 << 20), 64 << 20, true),
    ] {
        assert_eq!(window.kept_pace(moved, held), kept, "{moved} of {held}");
    }
}

#[tokio::test(start_paused = true)]
async fn authentication_has_its_own_deadline_in_every_phase() {
    let start = Instant::now();
    let mut deadlines = Deadlines::new(start, start + seconds(10), IDLE);
    let expected = Some((start + seconds(10), Expiry::Authentication));
    assert_eq!(deadlines.next(quiet(start)), expected);
    deadlines.wait_for_broker();
    assert_eq!(deadlines.next(quiet(start)), expected);
    deadlines.wait_for_body(of_body(start, 8), None);
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
    deadlines.wait_for_body(of_body(Instant::now(), 8), None);
    let expiry = poll_fn(|cx| deadlines.poll(cx, quiet(start))).await;
    assert_eq!(expiry, Expiry::SlowFrame);
    assert_eq!(start.elapsed().as_secs(), 930);
}

#[tokio::test(start_paused = true)]
async fn a_duration_beyond_the_clock_means_never() {
    let start = Instant::now();
    assert!(after(start, Duration::MAX) > start + seconds(1 << 29));
}
