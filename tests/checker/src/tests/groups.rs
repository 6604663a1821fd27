use super::*;

fn commit(offset: Offset, transaction: Option<TransactionId>) -> Action {
    Action::CommitOffset(OffsetCommit {
        group: "workers".into(),
        partition: partition(),
        offset,
        transaction,
    })
}

fn answer(offset: Option<Offset>) -> Action {
    Action::ReadOffset(OffsetRead {
        group: "workers".into(),
        partition: partition(),
        offset,
    })
}

#[test]
fn a_group_has_the_last_offset_that_was_committed() {
    let mut sketch = Sketch::default();
    sketch
        .done(WRITER, Outcome::Ok, commit(5, None))
        .done(WRITER, Outcome::Ok, commit(7, None));
    sketch.done(READER, Outcome::Ok, answer(Some(7))).clean();
    sketch.done(READER, Outcome::Ok, answer(Some(5)));
    sketch.shows("lost offset: group workers committed 7 for orders-0 and has Some(5)");
}

#[test]
fn a_committed_offset_outlives_crashes() {
    let mut sketch = Sketch::default();
    sketch
        .done(WRITER, Outcome::Ok, commit(5, None))
        .crash(Crash::PowerLoss);
    sketch
        .done(READER, Outcome::Ok, answer(None))
        .shows("lost offset");
}

#[test]
fn a_group_has_no_offset_that_nobody_committed() {
    let mut sketch = Sketch::default();
    sketch.done(READER, Outcome::Ok, answer(None)).clean();
    sketch
        .done(READER, Outcome::Ok, answer(Some(3)))
        .done(WRITER, Outcome::Info, commit(3, None));
    sketch.shows("offset never committed: group workers has 3 for orders-0");
}

#[test]
fn offsets_follow_their_transaction() {
    let with_end = |end, outcome| {
        let mut sketch = Sketch::default();
        sketch
            .done(WRITER, Outcome::Ok, commit(5, Some(1)))
            .end(1, end, outcome);
        sketch
    };
    with_end(End::Commit, Outcome::Ok)
        .done(READER, Outcome::Ok, answer(Some(5)))
        .clean();
    with_end(End::Commit, Outcome::Ok)
        .done(READER, Outcome::Ok, answer(None))
        .shows("lost offset");
    with_end(End::Abort, Outcome::Ok)
        .done(READER, Outcome::Ok, answer(None))
        .clean();
    with_end(End::Abort, Outcome::Ok)
        .done(READER, Outcome::Ok, answer(Some(5)))
        .shows(
            "aborted offset: group workers has 5 for orders-0, of transaction 1, which was aborted",
        );
}

#[test]
fn records_and_offsets_of_a_transaction_go_together() {
    let unknown = || {
        let mut sketch = Sketch::default();
        sketch
            .send(write_in(1, 10, 0))
            .done(WRITER, Outcome::Ok, commit(5, Some(1)));
        sketch.end(1, End::Commit, Outcome::Info);
        sketch
    };
    let mut committed = unknown();
    committed
        .poll(read(0, &[(0, 10)], 2))
        .done(READER, Outcome::Ok, answer(Some(5)))
        .clean();
    let mut aborted = unknown();
    aborted
        .poll(read(0, &[], 2))
        .done(READER, Outcome::Ok, answer(None))
        .clean();
    let mut records_only = unknown();
    records_only
        .poll(read(0, &[(0, 10)], 2))
        .done(OTHER_READER, Outcome::Ok, answer(None));
    records_only.shows(
        "partial transaction 1: orders-0 value 10 at offset 0 was seen as committed, offset 5 of group workers",
    );
    let mut offsets_only = unknown();
    offsets_only
        .poll(read(0, &[], 2))
        .done(OTHER_READER, Outcome::Ok, answer(Some(5)));
    offsets_only.shows(
        "partial transaction 1: offset 5 of group workers for orders-0 was seen as committed",
    );
}
