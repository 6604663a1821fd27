//! The data folder through the years and through damage: folders of released versions open, disks fill up, bytes flip.
//!
//! Each test that needs more than a temporary folder says `SKIPPED` with its reason where it cannot have it.

mod fixtures;
mod folder;
