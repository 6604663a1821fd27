//! The plugin host with real guests: the first-party plugins do what they say, and hostile ones reach no further than their own
//! call.

mod authorizing;
mod compiling;
mod containment;
mod demo;
mod deployment;
mod partitioning;
mod producing;
mod support;
mod transforming;
