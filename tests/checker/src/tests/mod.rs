//! Each anomaly in a history made by hand that shows it, beside one that comes close and is clean.

mod groups;
mod losses;
mod orders;
mod transactions;

use crate::*;

const DURABLE: Survives = Survives::PowerLoss;
const WEAK: Survives = Survives::ProcessCrash;
/// Processes of the sketches.
const WRITER: u32 = 1;
const OTHER_WRITER: u32 = 2;
const READER: u32 = 8;
const OTHER_READER: u32 = 9;

/// A history in which each operation takes one tick and follows the last, unless it says otherwise.
#[derive(Default)]
struct Sketch {
    history: History,
    now: Time,
    session: u64,
}

fn partition() -> Partition {
    Partition::new("orders", 0)
}

fn other_partition() -> Partition {
    Partition::new("orders", 1)
}

/// One value, acknowledged with `acks=all` by an idempotent producer.
fn write(value: Value, offset: Offset) -> Send {
    Send {
        partition: partition(),
        values: vec![value],
        base_offset: Some(offset),
        survives: DURABLE,
        idempotent: true,
        transaction: None,
    }
}

fn write_in(transaction: TransactionId, value: Value, offset: Offset) -> Send {
    Send {
        transaction: Some(transaction),
        ..write(value, offset)
    }
}

fn read(from: Offset, records: &[(Offset, Value)], next: Offset) -> Poll {
    Poll {
        partition: partition(),
        isolation: Isolation::ReadCommitted,
        session: 0,
        from,
        records: records.to_vec(),
        next,
    }
}

impl Sketch {
    fn done(&mut self, process: u32, outcome: Outcome, action: Action) -> &mut Self {
        let (begun, ended) = (self.now + 1, self.now + 2);
        self.now = ended;
        let id = self.history.invoke(process, begun, action);
        self.history.complete(id, ended, outcome);
        self
    }

    fn send(&mut self, send: Send) -> &mut Self {
        self.done(WRITER, Outcome::Ok, Action::Send(send))
    }

    fn send_by(&mut self, process: u32, outcome: Outcome, send: Send) -> &mut Self {
        self.done(process, outcome, Action::Send(send))
    }

    /// Each poll is a session of its own; see [`Self::poll_on`].
    fn poll(&mut self, poll: Poll) -> &mut Self {
        self.session += 1;
        let session = self.session;
        self.poll_on(Poll { session, ..poll })
    }

    fn poll_on(&mut self, poll: Poll) -> &mut Self {
        self.done(READER, Outcome::Ok, Action::Poll(poll))
    }

    fn end(&mut self, id: TransactionId, end: End, outcome: Outcome) -> &mut Self {
        self.done(WRITER, outcome, Action::End(id, end))
    }

    fn crash(&mut self, crash: Crash) -> &mut Self {
        self.done(0, Outcome::Ok, Action::Crash(crash))
    }

    #[track_caller]
    fn clean(&mut self) {
        let found = check(&self.history);
        assert!(found.is_empty(), "{}", explain(&found));
    }

    /// Exactly one anomaly, told like this.
    #[track_caller]
    fn shows(&mut self, told: &str) {
        let found = check(&self.history);
        let text: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 1, "{text:#?}");
        assert!(text[0].starts_with(told), "{text:#?}\nis not: {told}");
    }
}
