//! Events to commands and wakes.
