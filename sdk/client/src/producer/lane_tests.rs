use super::*;
use crate::error::ErrorCode;
use crate::records::{BatchBuilder, Compression};

const COUNT: i32 = 10;

fn batch(id: u64, now: Instant) -> LaneBatch {
    let mut builder = BatchBuilder::new();
    for _ in 0..COUNT {
        builder.push(0, None, None, &[]);
    }
    let sealed = builder.seal(Compression::None).unwrap();
    LaneBatch::new(
        id,
        sealed,
        Arc::default(),
        now + Duration::from_secs(60),
        100,
    )
}

fn failure(code: ErrorCode) -> Failure {
    Failure::from(Error::Broker {
        broker: "test".into(),
        api: "Produce",
        subject: "t-0".into(),
        code,
        message: None,
    })
}

fn gap() -> BatchAnswer {
    BatchAnswer::SequenceGap(failure(ErrorCode::OutOfOrderSequenceNumber))
}

fn again() -> BatchAnswer {
    BatchAnswer::Again(failure(ErrorCode::NotLeaderOrFollower))
}

fn stored() -> BatchAnswer {
    BatchAnswer::Stored(Placed::default())
}

fn lane_with(batches: u64, now: Instant) -> Lane {
    let mut lane = Lane::default();
    for id in 0..batches {
        assert!(lane.has_room());
        let sequence = lane.send(batch(id, now)).sequence;
        assert_eq!(sequence, id as i32 * COUNT);
    }
    lane
}

fn resent(lane: &mut Lane, now: Instant) -> Vec<(u64, i32)> {
    let mut out = Vec::new();
    while lane.can_resend(now) {
        let batch = lane.resend().unwrap();
        out.push((batch.id, batch.sequence));
    }
    out
}

#[test]
fn five_batches_are_in_flight_at_most() {
    let lane = lane_with(MAX_IN_FLIGHT as u64, Instant::now());
    assert!(!lane.has_room());
}

#[test]
fn what_failed_goes_out_again_in_order_once_nothing_is_in_flight() {
    let now = Instant::now();
    let mut lane = lane_with(3, now);
    lane.settle(1, gap(), now);
    lane.settle(0, again(), now);
    assert!(!lane.can_resend(now), "batch 2 is still in flight");
    lane.settle(2, gap(), now);
    assert_eq!(resent(&mut lane, now), [(0, 0), (1, 10), (2, 20)]);
    for id in 0..3 {
        let settled = lane.settle(id, stored(), now);
        assert!(settled.finished[0].1.is_ok() && !settled.needs_new_id);
    }
    assert!(lane.is_quiet());
}

#[test]
fn a_pause_is_kept_before_sending_again() {
    let now = Instant::now();
    let later = now + Duration::from_millis(100);
    let mut lane = lane_with(1, now);
    lane.settle(0, again(), later);
    assert!(!lane.can_resend(now));
    assert_eq!(lane.due(), Some(later));
    assert!(lane.can_resend(later));
}

#[test]
fn a_refused_batch_leaves_no_hole_behind() {
    let now = Instant::now();
    let mut lane = lane_with(3, now);
    let refused = BatchAnswer::Refused(failure(ErrorCode::InvalidRecord));
    let settled = lane.settle(0, refused, now);
    assert!(settled.finished[0].1.is_err() && !settled.needs_new_id);
    // The later ones went out with the old numbers: the broker sees a gap, and they go out with the new.
    assert!(lane.settle(1, gap(), now).finished.is_empty());
    assert!(lane.settle(2, gap(), now).finished.is_empty());
    assert_eq!(resent(&mut lane, now), [(1, 0), (2, 10)]);
    assert_eq!(lane.send(batch(3, now)).sequence, 20);
}

#[test]
fn a_gap_with_nothing_earlier_fails_the_lane_and_asks_for_a_new_id() {
    let now = Instant::now();
    let mut lane = lane_with(3, now);
    lane.settle(0, stored(), now);
    let settled = lane.settle(1, gap(), now);
    assert!(settled.needs_new_id);
    assert_eq!(settled.finished.len(), 2);
    assert!(settled.finished.iter().all(|(_, fate)| fate.is_err()));
    assert!(lane.is_quiet());
    assert!(
        lane.settle(2, stored(), now).finished.is_empty(),
        "settled already"
    );
    lane.restart();
    assert_eq!(lane.send(batch(9, now)).sequence, 0);
}

#[test]
fn a_batch_out_of_time_fails_the_lane() {
    let now = Instant::now();
    let mut lane = lane_with(2, now);
    lane.settle(0, again(), now);
    lane.settle(1, again(), now);
    let timeout = Duration::from_secs(60);
    assert!(
        lane.expire(now, timeout, || "t-0".into())
            .finished
            .is_empty()
    );
    let settled = lane.expire(now + timeout, timeout, || "t-0".into());
    assert_eq!(settled.finished.len(), 2);
    assert!(settled.needs_new_id && lane.is_quiet());
}

#[test]
fn sequences_begin_again_behind_the_largest() {
    assert_eq!(advance(i32::MAX, 1), 0);
    assert_eq!(advance(i32::MAX - 3, 10), 6);
    assert_eq!(retreat(6, 10), i32::MAX - 3);
}
