//! The data folder through the years and through damage: folders of released versions open, disks fill up, bytes flip.
//!
//! `TIDEGATE_FLIPS` (default 200; the full run is 10,000) and `TIDEGATE_FLIP_LOG_BYTES` (default 4 MiB; the full run is 100 MB) set
//! the size of the test that flips bytes; `TIDEGATE_SEED` replays its choices. A test that needs more than a temporary folder
//! says `SKIPPED` with its reason where it cannot have it.

mod catalog;
mod descriptors;
mod fixtures;
mod flips;
mod folder;
mod full;
mod modes;
mod removed;
