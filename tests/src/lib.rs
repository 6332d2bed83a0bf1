//! Scenarios, the end-to-end harness and the structure test.

pub mod front;
pub mod harness;
pub mod ledger_contract;
