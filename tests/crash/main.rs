//! `kill -9`, SIGSTOP and loss of power under load: what was acknowledged is there afterwards, once, in order, byte for byte;
//! transactions are there whole or not at all. What the clients saw is judged by `tidegate-checker`, round by round.
//!
//! `TIDEGATE_CRASH_ROUNDS` (default 10; the full run is 1,000), `TIDEGATE_POWER_LOSS_ROUNDS` (default 3),
//! `TIDEGATE_RPW_SECONDS` (default 20; the full run is 600),
//! `TIDEGATE_RECOVERY_LOG_BYTES` (default 128 MiB; the full run is 10 GiB), `TIDEGATE_RECOVERY_PARTITIONS` (default 100; the full
//! run has 1,000) and `TIDEGATE_RECOVERY_LIMIT_MS` (default 2,000) set the size; `TIDEGATE_SEED` replays a run's random choices.

mod image;
mod lane;
mod load;
mod power;
mod processing;
mod reader;
mod record;
mod recovery;
mod rounds;
mod tally;
mod transactional;
