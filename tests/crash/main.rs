//! `kill -9` under load: what was acknowledged is there after the restart, once, in order, byte for byte.
//!
//! `TIDEGATE_CRASH_ROUNDS` (default 10; the full run is 200), `TIDEGATE_RECOVERY_LOG_BYTES` (default 128 MiB; the full run is
//! 1 GiB) and `TIDEGATE_RECOVERY_LIMIT_MS` (default 1,000) set the size; `TIDEGATE_SEED` replays a run's random choices.

mod lane;
mod recovery;
mod rounds;
