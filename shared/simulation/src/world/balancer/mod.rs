//! ELBv2: load balancers, listeners and rules whose actions are replaced whole, and target groups with health.

mod listeners;
mod shapes;
mod targets;

pub use shapes::{
    Action, ActionKind, Forward, GroupSettings, GroupStickiness, HealthState, Listener, LoadBalancer, Rule,
    TargetGroup, TargetHealth, TargetId, WeightedGroup,
};
pub(super) use targets::GroupState;
