//! The commands of the `tidegate` binary.
