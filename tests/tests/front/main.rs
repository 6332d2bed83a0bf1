//! The wire front, driven with the real SDK clients: every operation, what is refused, and each fault.

mod alarms;
mod balancer;
mod deployments;
mod ecs;
mod faults;
mod fixture;
mod forwarding;
mod functions;
mod log;
