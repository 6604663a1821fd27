//! CPU time of both sides over a run.

use crate::broker::{Broker, Usage, own_usage};

/// Taken before a run.
pub struct Stopwatch<B> {
    /// The broker's time up to now.
    broker: B,
    broker_before: Option<Usage>,
    client_before: Option<Usage>,
}

/// CPU seconds for each 10⁹ bytes of values, user and system together.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    pub broker: Option<f64>,
    /// Of this process, which makes the load.
    pub client: Option<f64>,
}

impl Stopwatch<()> {
    pub fn start(broker: &Broker) -> Stopwatch<impl Fn() -> Option<Usage>> {
        Self::of(|| broker.usage())
    }

    /// Of a process that is not a Kafka broker.
    pub fn of<B: Fn() -> Option<Usage>>(broker: B) -> Stopwatch<B> {
        Stopwatch {
            broker_before: broker(),
            client_before: own_usage(),
            broker,
        }
    }
}

impl<B: Fn() -> Option<Usage>> Stopwatch<B> {
    pub fn stop(self, bytes: u64) -> Spent {
        Spent {
            broker: per_gigabyte(self.broker_before, (self.broker)(), bytes),
            client: per_gigabyte(self.client_before, own_usage(), bytes),
        }
    }
}

pub fn per_gigabyte(before: Option<Usage>, after: Option<Usage>, bytes: u64) -> Option<f64> {
    let spent = after?.cpu_seconds - before?.cpu_seconds;
    Some(spent / (bytes as f64 / 1e9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_told_for_each_gigabyte() {
        let at = |cpu_seconds| Some(Usage { cpu_seconds });
        let spent = per_gigabyte(at(1.0), at(2.0), 500_000_000).unwrap();
        assert!((spent - 2.0).abs() < 1e-9);
        assert_eq!(per_gigabyte(None, at(2.0), 1), None, "not known before");
    }
}
