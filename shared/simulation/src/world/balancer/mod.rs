//! ELBv2: load balancers, listeners and rules whose actions are replaced as a whole, and target groups with health
//! checks.

mod listeners;
mod shapes;
mod targets;

pub use shapes::{
    Action, ActionKind, Forward, GroupSettings, GroupStickiness, HealthState, Listener, LoadBalancer, Rule,
    TargetGroup, TargetHealth, TargetId, WeightedGroup,
};
pub(super) use targets::GroupState;
