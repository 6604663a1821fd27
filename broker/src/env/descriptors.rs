//! How many files and sockets may be open at once, and how that is shared out before any of it is used.
//!
//! A **descriptor** is what the process holds for each. Connections and the segment files that are written to have a
//! **share** each; what is left over is a **reserve** for all that must go on whatever clients do: accepting, the admin
//! port, the catalog, reads of old segments, checkpoints.

use rustix::process::{Resource, getrlimit};

/// Enough for listeners, admin connections and the files that are open for a moment.
const RESERVE: usize = 128;

/// What may be open at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shares {
    pub connections: usize,
    /// Segment files that are being written to, one a partition.
    pub segments: usize,
}

impl Shares {
    /// Connections get what they are configured to have, but no more than half of what lies above the reserve; segments
    /// get the rest.
    pub fn of(limit: usize, max_connections: usize) -> Self {
        let shared = limit.saturating_sub(RESERVE.min(limit / 4)).max(2);
        let connections = max_connections.min(shared / 2);
        Self {
            connections,
            segments: shared - connections,
        }
    }
}

/// The most that this process may have open.
pub fn limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_reserve_are_no_more_than_there_is() {
        for (limit, max_connections, connections, segments) in [
            (1_024, 10_000, 448, 448),
            (1_024, 100, 100, 796),
            (1_048_576, 10_000, 10_000, 1_038_448),
            (64, 10_000, 24, 24),
            (0, 10, 1, 1),
        ] {
            let shares = Shares::of(limit, max_connections);
            let expected = Shares {
                connections,
                segments,
            };
            assert_eq!(shares, expected, "{limit} {max_connections}");
        }
        let all = Shares::of(usize::MAX, 10_000);
        assert_eq!(all.connections, 10_000);
    }
}
