//! A seeded world behind the ports: virtual time, faults, and nothing that runs by itself.
//!
//! | module | what it is |
//! |---|---|
//! | [`world`] | the model: ECS, balancers, autoscaling, alarms, traffic; pure and deterministic |
//! | [`ledger`] | [`engine::Ledger`] in memory, with the conditions of the one on DynamoDB |
//! | [`virtual_time`] | all ports over the world in virtual time, with faults, and the runner |

pub mod ledger;
pub mod virtual_time;
pub mod world;
