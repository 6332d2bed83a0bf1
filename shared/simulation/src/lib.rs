//! A seeded world behind the ports: virtual time, faults, and nothing that runs by itself.
//!
//! | module | what it is |
//! |---|---|
//! | [`world`] | the model: ECS, balancers, autoscaling, alarms, traffic; pure and deterministic |

pub mod world;
