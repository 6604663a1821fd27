//! A consumer of every partition, of one isolation.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{RawClient, fetch_all};
use tidegate_checker::{Action, Isolation, Outcome, Partition, Poll, Value};

use crate::record::{Patience, Recorder, Refused, timed_out, value_of};

/// How long a poll waits for a first record.
const WAIT: Duration = Duration::from_millis(5);
/// How long the end of a quiet partition may take to be readable.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);

/// Partitions and offsets in them.
type Positions = BTreeMap<(&'static str, i32), i64>;

#[derive(Debug)]
pub struct Reader {
    isolation: Isolation,
    session: u64,
    positions: Positions,
    /// Where the window began.
    start: Positions,
    pub recorder: Recorder,
}

impl Reader {
    pub fn new(
        isolation: Isolation,
        partitions: impl IntoIterator<Item = (&'static str, i32)>,
        recorder: Recorder,
    ) -> Self {
        let positions: Positions = partitions.into_iter().map(|it| (it, 0)).collect();
        Self {
            isolation,
            session: 0,
            start: positions.clone(),
            positions,
            recorder,
        }
    }

    /// Reads what comes until the broker is killed; over a new connection it goes on where it stood.
    ///
    /// # Errors
    /// When the connection breaks before `killing` was set, or a record is damaged.
    pub fn read_until_killed(
        &mut self,
        address: SocketAddr,
        killing: &AtomicBool,
        patience: Patience,
    ) -> Result<()> {
        loop {
            match self.keep_reading(address, patience) {
                Err(error) if error.is::<Refused>() => return Err(error),
                _ if killing.load(Ordering::SeqCst) => return Ok(()),
                Err(error) if patience.is_some() && timed_out(&error) => {}
                Err(error) => return Err(error),
                Ok(never) => match never {},
            }
        }
    }

    fn keep_reading(&mut self, address: SocketAddr, patience: Patience) -> Result<Infallible> {
        let mut client = RawClient::connect(address)?;
        if let Some(patience) = patience {
            client.set_answer_limit(patience)?;
        }
        loop {
            self.poll(&mut client)?;
        }
    }

    /// Reads the whole window once more from its start, as another consumer would, to the end of every partition. The next
    /// window starts there.
    ///
    /// # Errors
    /// When the end cannot be reached or a record is damaged.
    pub fn read_window(&mut self, client: &mut RawClient) -> Result<()> {
        self.session += 1;
        self.positions = self.start.clone();
        let mut ends = Positions::new();
        for (topic, partition) in self.start.keys() {
            let end = client.list_offset(topic, *partition, -1)?;
            ends.insert((topic, *partition), end);
        }
        let deadline = Instant::now() + DRAIN_LIMIT;
        while self
            .positions
            .iter()
            .any(|(partition, position)| *position < ends[partition])
        {
            ensure!(
                Instant::now() < deadline,
                "{:?}: stands at {:?}, the ends are {ends:?}",
                self.isolation,
                self.positions
            );
            self.poll(client)?;
        }
        self.session += 1;
        self.start = self.positions.clone();
        Ok(())
    }

    fn poll(&mut self, client: &mut RawClient) -> Result<()> {
        let positions = self.positions.iter();
        let wanted: Vec<_> = positions
            .map(|((topic, at), offset)| (*topic, *at, *offset))
            .collect();
        let committed = self.isolation == Isolation::ReadCommitted;
        let begun = self.recorder.now();
        let fetched = fetch_all(client, &wanted, committed, WAIT)?;
        for (topic, index, from) in &wanted {
            let own = |it: &&harness::Fetched| it.topic == *topic && it.partition == *index;
            let found = fetched
                .iter()
                .find(own)
                .context("a partition has no answer")?;
            ensure!(
                found.error_code == 0,
                Refused(format!(
                    "fetch {topic} [{index}] from {from}: error {}",
                    found.error_code
                ))
            );
            // Polls that bring nothing are most of them, and tell nothing.
            if found.next == *from && found.records.is_empty() {
                continue;
            }
            let mut records: Vec<(i64, Value)> = Vec::new();
            for record in &found.records {
                let value = value_of(record.value.as_deref().unwrap_or_default());
                let value = value.ok_or_else(|| {
                    Refused(format!(
                        "{topic} [{index}] offset {} is damaged",
                        record.offset
                    ))
                })?;
                records.push((record.offset, value));
            }
            let poll = Poll {
                partition: Partition::new(*topic, *index),
                isolation: self.isolation,
                session: self.session,
                from: *from,
                records,
                next: found.next,
            };
            let operation = self.recorder.begin_at(begun, Action::Poll(poll));
            self.recorder.end(operation, Outcome::Ok);
            self.positions.insert((topic, *index), found.next);
        }
        Ok(())
    }
}
