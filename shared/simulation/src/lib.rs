//! A seeded world behind the ports: virtual time, faults, and nothing that runs by itself.
//!
//! | module | what it is |
//! |---|---|
//! | [`world`] | the model: ECS, balancers, autoscaling, alarms, traffic; pure and deterministic |
//! | [`ledger`] | [`engine::Ledger`] in memory, with the conditions of the one on DynamoDB |
//! | [`LiveCloud`] | [`engine::Cloud`] over a world that somebody else steps, without faults |
//! | [`invariants`] | what must be so after every step, whatever goes wrong |
//! | [`minimal`] | the smallest part of what happened that still ends badly |
//! | [`budgets`] | what AWS lets an account do in a Region: token buckets |
//! | [`virtual_time`] | all ports over the world in virtual time, with faults, and the runner |
//! | [`load`] | thousands of targets at once before one account's budgets, each in a world of its own |

pub mod budgets;
pub mod invariants;
pub mod ledger;
mod live;
pub mod load;
pub mod minimal;
pub mod virtual_time;
pub mod world;

pub use live::LiveCloud;
