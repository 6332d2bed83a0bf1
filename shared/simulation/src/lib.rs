//! A seeded model of AWS behind the engine's ports: virtual time, injected faults, and no background activity.
//!
//! | module | what it is |
//! |---|---|
//! | [`world`] | the model: ECS, balancers, autoscaling, alarms, traffic; pure and deterministic |
//! | [`ledger`] | [`engine::Ledger`] in memory, with the conditions of the one on DynamoDB |
//! | [`LiveCloud`] | [`engine::Cloud`] over a world whose clock the caller steps, without faults |
//! | [`invariants`] | properties that must hold after every step, whatever goes wrong |
//! | [`shrink`] | reduces a failing run to a minimal set of events that still fails |
//! | [`budgets`] | AWS API rate limits of one account in one Region: token buckets |
//! | [`virtual_time`] | all ports over the world in virtual time, with faults, and the runner |
//! | [`load`] | thousands of concurrent targets on one account's API budgets, each in a world of its own |

pub mod budgets;
pub mod invariants;
pub mod ledger;
mod live;
pub mod load;
pub mod shrink;
pub mod virtual_time;
pub mod world;

pub use live::LiveCloud;
