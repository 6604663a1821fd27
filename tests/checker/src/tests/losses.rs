use super::*;

#[test]
fn an_acknowledged_write_that_a_reader_went_past_is_lost() {
    let mut sketch = Sketch::default();
    sketch
        .send(write(10, 0))
        .send(write(11, 1))
        .send(write(12, 2));
    sketch.poll(read(0, &[(0, 10), (2, 12)], 3));
    sketch.shows("lost: orders-0 value 11, promised or shown at offset 1; process 8");
}

#[test]
fn a_write_without_an_answer_may_be_missing_or_there() {
    for records in [vec![(0, 10)], vec![(0, 10), (1, 11)]] {
        let mut sketch = Sketch::default();
        sketch.send(write(10, 0));
        let unanswered = Send {
            base_offset: None,
            ..write(11, 0)
        };
        sketch.send_by(WRITER, Outcome::Info, unanswered);
        sketch.poll(read(0, &records, 2)).clean();
    }
}

#[test]
fn a_record_that_one_reader_went_past_and_another_saw_is_skipped() {
    let mut sketch = Sketch::default();
    sketch.send(write(10, 0)).send(write(11, 1));
    sketch
        .poll(read(0, &[(1, 11)], 2))
        .poll(read(0, &[(0, 10), (1, 11)], 2));
    sketch.shows("skipped: orders-0 value 10 at offset 0; process 8");
}

#[test]
fn a_reader_that_starts_later_skips_nothing() {
    let mut sketch = Sketch::default();
    sketch.send(write(10, 0)).send(write(11, 1));
    sketch
        .poll(read(1, &[(1, 11)], 2))
        .poll(read(0, &[(0, 10)], 1))
        .clean();
}

#[test]
fn what_was_shown_must_stay_even_if_nobody_acknowledged_it() {
    let unanswered = || Send {
        base_offset: None,
        ..write(10, 0)
    };
    let mut sketch = Sketch::default();
    sketch.send_by(WRITER, Outcome::Info, unanswered());
    sketch
        .poll(read(0, &[(0, 10)], 1))
        .crash(Crash::PowerLoss)
        .poll(read(0, &[], 1));
    sketch.shows("lost: orders-0 value 10");
    // Where the topic promises less to its readers it may go.
    sketch.history.shown_survives = WEAK;
    sketch.clean();
}

#[test]
fn an_acknowledged_write_that_nobody_reached_is_unseen() {
    let mut sketch = Sketch::default();
    sketch
        .send(write(10, 0))
        .send(write(11, 1))
        .poll(read(0, &[(0, 10)], 1));
    sketch.shows("unseen: orders-0 value 11, acknowledged to process 1 (offset Some(1))");
    sketch.poll(read(1, &[(1, 11)], 2)).clean();
}

#[test]
fn an_acknowledgement_without_an_offset_promises_as_much() {
    let again = Send {
        base_offset: None,
        ..write(10, 0)
    };
    let mut sketch = Sketch::default();
    sketch.send(again).poll(read(0, &[], 0));
    sketch.shows("unseen: orders-0 value 10");
}

#[test]
fn acks_one_outlives_the_process() {
    let weak = Send {
        survives: WEAK,
        ..write(10, 0)
    };
    let mut sketch = Sketch::default();
    sketch
        .send(weak)
        .crash(Crash::Process)
        .poll(read(0, &[], 1));
    sketch.shows("lost: orders-0 value 10");
}

#[test]
fn a_loss_of_power_takes_acks_one_from_the_end() {
    let weak = |value, offset| Send {
        survives: WEAK,
        ..write(value, offset)
    };
    let mut sketch = Sketch::default();
    sketch
        .send(write(10, 0))
        .send(weak(11, 1))
        .send(weak(12, 2))
        .crash(Crash::PowerLoss);
    // The offsets are given to others.
    sketch
        .send(write(20, 1))
        .poll(read(0, &[(0, 10), (1, 20)], 2))
        .clean();
}

#[test]
fn a_loss_of_power_does_not_take_acks_one_from_the_middle() {
    let weak = |value, offset| Send {
        survives: WEAK,
        ..write(value, offset)
    };
    let mut sketch = Sketch::default();
    sketch
        .send(weak(10, 0))
        .send(weak(11, 1))
        .send(weak(12, 2))
        .crash(Crash::PowerLoss);
    sketch.poll(read(0, &[(0, 10), (2, 12)], 3));
    sketch.shows("lost: orders-0 value 11");
}

#[test]
fn a_loss_of_power_does_not_take_acks_all() {
    let mut sketch = Sketch::default();
    sketch.send(write(10, 0)).crash(Crash::PowerLoss);
    sketch.send(write(20, 0)).poll(read(0, &[(0, 20)], 1));
    sketch.shows("lost: orders-0 value 10");
}

#[test]
fn what_was_let_go_is_not_lost() {
    let mut sketch = Sketch::default();
    sketch.send(write(10, 0)).send(write(11, 1));
    sketch.done(0, Outcome::Ok, Action::Trim(partition(), 1));
    sketch.poll(read(0, &[(1, 11)], 2)).clean();
    let mut sketch = Sketch::default();
    sketch.send(write(10, 0)).send(write(11, 1));
    sketch.done(0, Outcome::Ok, Action::Trim(partition(), 1));
    sketch
        .poll(read(0, &[], 2))
        .shows("lost: orders-0 value 11");
}
