//! `tidegate config`: check a file as the broker would, print an example or the reference.
