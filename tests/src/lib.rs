//! Scenarios, the end-to-end harness and the structure test.

pub mod harness;
