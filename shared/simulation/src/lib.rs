//! A seeded model of AWS behind the engine's ports: virtual time, injected faults, and no background activity. A module
//! uses only those above it in this table.
//!
//! | module | what it is |
//! |---|---|
//! | [`budgets`] | AWS API rate limits of one account in one Region: token buckets |
//! | [`world`] | the model: ECS, balancers, autoscaling, alarms, traffic; pure and deterministic |
//! | [`ledger`] | [`engine::Ledger`] in memory, with the conditions of the one on DynamoDB |
//! | [`trace`] | what passes observed and did in a run, and the faults that were injected |
//! | [`invariants`] | properties that must hold after every step, whatever goes wrong |
//! | [`virtual_time`] | all ports over the world in virtual time, with faults, and the runner |
//! | [`live`](LiveCloud) | [`engine::Cloud`] over a world whose clock the caller steps, without faults |
//! | [`load`] | thousands of concurrent targets on one account's API budgets, each in a world of its own |
//! | [`shrink`] | reduces a failing run to a minimal set of events that still fails |

pub mod budgets;
pub mod invariants;
pub mod ledger;
mod live;
pub mod load;
pub mod shrink;
pub mod trace;
pub mod virtual_time;
pub mod world;

pub use live::LiveCloud;
