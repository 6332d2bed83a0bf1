//! Scenarios, the end-to-end harness and the structure test.

pub mod front;
pub mod harness;
pub mod ledger_contract;

use rollout::{EcsPair, Platform, TargetResources};

/// The pair of services of a target that has one.
///
/// # Panics
/// Where it has none.
pub fn pair_of(resources: &mut TargetResources) -> &mut EcsPair {
    match &mut resources.platform {
        Platform::EcsPair(pair) => pair,
        other => panic!("not a pair: {other:?}"),
    }
}
