//! An idempotent producer as a client keeps it: batches are numbered, and sent again until they are answered.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Target;

/// As many batches as a client may have in flight (KIP-98).
pub const WINDOW: usize = 5;

/// A batch that has no answer yet.
#[derive(Clone, Debug)]
pub struct Unanswered {
    pub base_sequence: i32,
    pub numbers: Vec<u64>,
    pub batch: Bytes,
    pub is_in_flight: bool,
}

/// One idempotent producer, which writes to one partition.
#[derive(Clone, Debug, Default)]
pub struct Producer {
    /// Its id and epoch.
    pub identity: Option<(i64, i16)>,
    pub is_initializing: bool,
    pub target: Option<Target>,
    pub next_sequence: i32,
    /// The oldest first.
    pub window: VecDeque<Unanswered>,
    /// Tells its present identity from earlier ones.
    pub generation: u64,
}

impl Producer {
    /// Begins anew, as another producer.
    pub fn reset(&mut self) {
        *self = Self {
            generation: self.generation + 1,
            ..Self::default()
        };
    }

    pub fn next_batch_fits(&self) -> bool {
        self.window.len() < WINDOW && self.window.iter().all(|batch| batch.is_in_flight)
    }

    /// The oldest batch that has to be sent again, once nothing sent before is on its way.
    pub fn to_repeat(&self) -> Option<usize> {
        let place = self.window.iter().position(|batch| !batch.is_in_flight)?;
        let none_after = self
            .window
            .iter()
            .skip(place)
            .all(|batch| !batch.is_in_flight);
        none_after.then_some(place)
    }
}
