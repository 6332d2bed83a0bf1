//! ELBv2: load balancers, listeners and rules whose actions are replaced as a whole, and target groups with health
//! checks.

mod listeners;
mod shapes;
mod targets;

pub use shapes::{
    ActionKind, ElbTarget, ForwardActionConfig, GroupSettings, GroupStickiness, HealthState, Listener, ListenerAction,
    ListenerRule, LoadBalancer, TargetGroup, TargetHealthDescription, WeightedGroup,
};
pub(super) use targets::GroupState;
