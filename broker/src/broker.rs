//! The composition root: configuration in, a running broker out.
