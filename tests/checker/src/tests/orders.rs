use super::*;

#[test]
fn an_idempotent_value_at_two_offsets_is_a_duplicate() {
    let mut sketch = Sketch::default();
    sketch
        .send(write(10, 0))
        .poll(read(0, &[(0, 10), (1, 10)], 2));
    sketch.shows("duplicate: orders-0 value 10 stands at offsets [0, 1]");
}

#[test]
fn a_plain_producer_that_sends_twice_may_write_twice_and_no_more() {
    let plain = || Send {
        idempotent: false,
        base_offset: None,
        ..write(10, 0)
    };
    let mut sketch = Sketch::default();
    sketch
        .send_by(WRITER, Outcome::Info, plain())
        .send_by(WRITER, Outcome::Info, plain());
    sketch.poll(read(0, &[(0, 10), (1, 10)], 2)).clean();
    sketch
        .poll(read(2, &[(2, 10)], 3))
        .shows("duplicate: orders-0 value 10");
}

#[test]
fn an_idempotent_value_sent_again_stands_where_it_was() {
    let again = Send {
        base_offset: None,
        ..write(10, 0)
    };
    let mut sketch = Sketch::default();
    sketch
        .send_by(WRITER, Outcome::Info, again)
        .crash(Crash::Process)
        .send(write(10, 0));
    sketch.poll(read(0, &[(0, 10)], 1)).clean();
}

#[test]
fn a_value_at_another_offset_than_promised_is_misplaced() {
    let mut sketch = Sketch::default();
    sketch.send(write(10, 4)).poll(read(5, &[(5, 10)], 6));
    sketch.shows("misplaced: orders-0 value 10 belongs at offset 4, is at 5");
}

#[test]
fn a_value_moves_over_a_loss_of_power_only_if_it_was_sent_again() {
    let unanswered = || Send {
        base_offset: None,
        ..write(10, 0)
    };
    let mut sketch = Sketch::default();
    sketch.history.shown_survives = WEAK;
    sketch
        .send_by(WRITER, Outcome::Info, unanswered())
        .poll(read(3, &[(3, 10)], 4));
    sketch.crash(Crash::PowerLoss).poll(read(2, &[(2, 10)], 3));
    sketch.shows("misplaced: orders-0 value 10 belongs at offset 3, is at 2");
    let mut sketch = Sketch::default();
    sketch.history.shown_survives = WEAK;
    sketch
        .send_by(WRITER, Outcome::Info, unanswered())
        .poll(read(3, &[(3, 10)], 4));
    sketch
        .crash(Crash::PowerLoss)
        .send(write(10, 2))
        .poll(read(2, &[(2, 10)], 3))
        .clean();
}

#[test]
fn an_offset_has_one_value() {
    let mut sketch = Sketch::default();
    sketch.send(write(10, 0));
    let unanswered = Send {
        base_offset: None,
        ..write(11, 0)
    };
    sketch.send_by(WRITER, Outcome::Info, unanswered);
    sketch
        .poll(read(0, &[(0, 10)], 1))
        .poll(read(0, &[(0, 10), (0, 11)], 1));
    let told: Vec<_> = check(&sketch.history)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        told.contains(&"inconsistent offset: orders-0 offset 0 has values [10, 11]".to_owned()),
        "{told:#?}"
    );
}

#[test]
fn what_nobody_sent_is_not_read() {
    let mut sketch = Sketch::default();
    sketch
        .send(write(10, 0))
        .poll(read(0, &[(0, 10), (1, 99)], 2));
    sketch.shows("never sent: orders-0 value 99 at offset 1");
}

#[test]
fn nothing_is_read_before_it_is_sent() {
    let mut sketch = Sketch::default();
    sketch
        .poll(read(0, &[(0, 10)], 1))
        .send(write(10, 0))
        .poll(read(0, &[(0, 10)], 1));
    sketch.shows("never sent: orders-0 value 10 at offset 0, read by process 8 at 0.000000 s");
}

#[test]
fn a_refused_write_is_not_read() {
    let refused = Send {
        base_offset: None,
        ..write(10, 0)
    };
    let mut sketch = Sketch::default();
    sketch
        .send_by(WRITER, Outcome::Fail, refused)
        .poll(read(0, &[], 0))
        .clean();
    sketch
        .poll(read(0, &[(0, 10)], 1))
        .shows("refused write read (G1a)");
}

#[test]
fn a_write_stands_behind_what_was_acknowledged_before_it() {
    let mut sketch = Sketch::default();
    sketch
        .send(write(10, 1))
        .send_by(OTHER_WRITER, Outcome::Ok, write(20, 0));
    sketch.poll(read(0, &[(0, 20), (1, 10)], 2));
    sketch.shows(
        "write cycle (G0): in orders-0 value 20 at offset 0 stands before value 10 at offset 1",
    );
}

#[test]
fn writes_at_the_same_time_stand_in_any_order() {
    let mut sketch = Sketch::default();
    let history = &mut sketch.history;
    let first = history.invoke(WRITER, 1, Action::Send(write(10, 1)));
    let second = history.invoke(OTHER_WRITER, 2, Action::Send(write(20, 0)));
    history.complete(first, 3, Outcome::Ok);
    history.complete(second, 4, Outcome::Ok);
    sketch.now = 4;
    sketch.poll(read(0, &[(0, 20), (1, 10)], 2)).clean();
}

#[test]
fn an_idempotent_producer_keeps_its_order_without_waiting() {
    let mut sketch = Sketch::default();
    let history = &mut sketch.history;
    let first = history.invoke(WRITER, 1, Action::Send(write(10, 1)));
    let second = history.invoke(WRITER, 2, Action::Send(write(20, 0)));
    history.complete(first, 3, Outcome::Ok);
    history.complete(second, 4, Outcome::Ok);
    sketch.now = 4;
    sketch
        .poll(read(0, &[(0, 20), (1, 10)], 2))
        .shows("write cycle (G0)");
}

#[test]
fn a_write_cycle_of_transactions_names_the_other_partition() {
    let elsewhere = |send| Send {
        partition: other_partition(),
        ..send
    };
    let mut sketch = Sketch::default();
    sketch
        .send(write_in(1, 10, 2))
        .send(elsewhere(write_in(1, 11, 0)));
    sketch.end(1, End::Commit, Outcome::Ok);
    sketch.send_by(OTHER_WRITER, Outcome::Ok, write_in(2, 20, 0));
    sketch.send_by(OTHER_WRITER, Outcome::Ok, elsewhere(write_in(2, 21, 2)));
    sketch.end(2, End::Commit, Outcome::Ok);
    sketch.poll(read(0, &[(0, 20), (2, 10)], 4));
    let there = Poll {
        partition: other_partition(),
        ..read(0, &[(0, 11), (2, 21)], 4)
    };
    sketch.poll(there);
    sketch.shows(
        "write cycle (G0): in orders-0 value 20 at offset 0 stands before value 10 at offset 2, which was written first; \
        in orders-1 they stand in the right order",
    );
}

#[test]
fn offsets_of_a_session_rise() {
    let mut sketch = Sketch::default();
    sketch.send(write(10, 0)).send(write(11, 1));
    sketch
        .poll_on(read(0, &[(0, 10), (1, 11)], 2))
        .poll_on(read(2, &[(1, 11)], 2));
    sketch.shows("backwards: orders-0 process 8 stood at 2 and was given offset 1");
    let mut sketch = Sketch::default();
    sketch.send(write(10, 0)).send(write(11, 1));
    sketch.poll(read(0, &[(1, 11), (0, 10)], 2));
    sketch.shows("backwards: orders-0 process 8 stood at 2 and was given offset 0");
}

#[test]
fn a_session_goes_on_where_it_stood() {
    let mut sketch = Sketch::default();
    sketch
        .send(write(10, 0))
        .send(write(11, 1))
        .send(write(12, 2));
    sketch.poll(read(0, &[(0, 10), (1, 11), (2, 12)], 3));
    sketch.poll_on(Poll {
        session: 77,
        ..read(0, &[(0, 10)], 1)
    });
    sketch.poll_on(Poll {
        session: 77,
        ..read(2, &[(2, 12)], 3)
    });
    sketch.shows("jumped: orders-0 process 8 stood at 1 and went on at 2");
}

#[test]
fn another_session_may_start_anywhere() {
    let mut sketch = Sketch::default();
    sketch.send(write(10, 0)).send(write(11, 1));
    sketch
        .poll(read(0, &[(0, 10), (1, 11)], 2))
        .poll(read(0, &[(0, 10)], 1))
        .clean();
}
