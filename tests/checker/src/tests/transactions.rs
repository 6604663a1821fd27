use super::*;

/// A transaction of two writes in two partitions, with its end.
fn two_writes(end: End, outcome: Outcome) -> Sketch {
    let mut sketch = Sketch::default();
    sketch.send(write_in(1, 10, 0));
    sketch.send(Send {
        partition: other_partition(),
        ..write_in(1, 11, 0)
    });
    sketch.end(1, end, outcome);
    sketch
}

fn there(poll: Poll) -> Poll {
    Poll {
        partition: other_partition(),
        ..poll
    }
}

#[test]
fn a_committed_transaction_is_seen_whole() {
    let mut sketch = two_writes(End::Commit, Outcome::Ok);
    sketch
        .poll(read(0, &[(0, 10)], 2))
        .poll(there(read(0, &[(0, 11)], 2)))
        .clean();
}

#[test]
fn a_committed_transaction_of_which_a_part_is_gone_is_lost_and_partial() {
    let mut sketch = two_writes(End::Commit, Outcome::Ok);
    sketch
        .poll(read(0, &[(0, 10)], 2))
        .poll(there(read(0, &[], 2)));
    let told = explain(&check(&sketch.history));
    assert!(told.contains("lost: orders-1 value 11"), "{told}");
    assert!(
        told.contains(
            "partial transaction 1: orders-0 value 10 at offset 0 was seen as committed, orders-1 value 11 at offset 0 was not"
        ),
        "{told}"
    );
}

#[test]
fn a_commit_without_an_answer_holds_for_all_or_nothing() {
    let unknown = || two_writes(End::Commit, Outcome::Info);
    unknown()
        .poll(read(0, &[(0, 10)], 2))
        .poll(there(read(0, &[(0, 11)], 2)))
        .clean();
    unknown()
        .poll(read(0, &[], 2))
        .poll(there(read(0, &[], 2)))
        .clean();
    let mut partial = unknown();
    partial
        .poll(read(0, &[(0, 10)], 2))
        .poll(there(read(0, &[], 2)));
    partial.shows("partial transaction 1: orders-0 value 10 at offset 0 was seen as committed");
}

#[test]
fn an_aborted_transaction_is_hidden_from_read_committed_only() {
    let uncommitted = |poll| Poll {
        isolation: Isolation::ReadUncommitted,
        ..poll
    };
    let mut sketch = two_writes(End::Abort, Outcome::Ok);
    sketch
        .poll(read(0, &[], 2))
        .poll(uncommitted(read(0, &[(0, 10)], 2)));
    sketch.poll(there(read(0, &[], 2))).clean();
    sketch.poll(there(read(0, &[(0, 11)], 2)));
    sketch.shows("aborted read (G1a): process 8 read orders-1 value 11 at offset 0 as committed; transaction 1 was not");
}

#[test]
fn a_transaction_that_nobody_ended_is_never_seen() {
    let mut sketch = Sketch::default();
    sketch
        .send(write_in(1, 10, 0))
        .crash(Crash::Process)
        .poll(read(0, &[], 2))
        .clean();
    sketch
        .poll(read(0, &[(0, 10)], 2))
        .shows("aborted read (G1a)");
}

#[test]
fn a_commit_that_was_refused_is_an_abort() {
    let mut sketch = two_writes(End::Commit, Outcome::Fail);
    sketch
        .poll(read(0, &[(0, 10)], 2))
        .shows("aborted read (G1a)");
}

#[test]
fn nothing_is_seen_before_the_commit() {
    let mut sketch = Sketch::default();
    sketch.send(write_in(1, 10, 0)).poll(read(0, &[(0, 10)], 1));
    sketch.end(1, End::Commit, Outcome::Ok);
    sketch.shows("intermediate read (G1b): process 8 read orders-0 value 10 at offset 0 as committed, before");
}

#[test]
fn what_is_below_the_last_stable_offset_is_not_skipped() {
    // The transaction is open: a reader stops before it, and another record behind it waits.
    let mut sketch = Sketch::default();
    sketch.send(write(9, 0)).send(write_in(1, 10, 1));
    sketch
        .send_by(OTHER_WRITER, Outcome::Ok, write(20, 2))
        .poll(read(0, &[(0, 9)], 1));
    sketch.end(1, End::Commit, Outcome::Ok);
    sketch.poll(read(1, &[(1, 10), (2, 20)], 4)).clean();
}

#[test]
fn a_transaction_has_one_outcome() {
    let mut sketch = two_writes(End::Commit, Outcome::Ok);
    sketch
        .poll(read(0, &[(0, 10)], 2))
        .poll(there(read(0, &[(0, 11)], 2)));
    sketch.end(1, End::Commit, Outcome::Ok).clean();
    sketch.end(1, End::Abort, Outcome::Ok);
    sketch.shows("two outcomes: transaction 1");
}

#[test]
fn a_committed_transaction_outlives_a_loss_of_power() {
    let mut sketch = two_writes(End::Commit, Outcome::Ok);
    sketch
        .crash(Crash::PowerLoss)
        .poll(read(0, &[(0, 10)], 2))
        .poll(there(read(0, &[], 0)));
    sketch.shows("unseen: orders-1 value 11");
}
