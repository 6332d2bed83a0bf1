//! Number of targets per health state in a target group.

use super::AwsCloud;
use crate::error::Failure;
use aws_sdk_elasticloadbalancingv2::types::{TargetHealthDescription, TargetHealthStateEnum as State};
use rollout::snapshot::TargetHealth;

/// Counts targets by state; an unknown state counts as not healthy.
pub(super) fn counts(targets: &[TargetHealthDescription]) -> TargetHealth {
    let mut counts = TargetHealth::default();
    for target in targets {
        let count = match target.target_health().and_then(|health| health.state()) {
            Some(State::Healthy) => &mut counts.healthy,
            Some(State::Initial) => &mut counts.initial,
            Some(State::Draining) => &mut counts.draining,
            Some(State::Unused) => &mut counts.unused,
            _ => &mut counts.unhealthy,
        };
        *count += 1;
    }
    counts
}

impl AwsCloud {
    /// Health of one target group; the API accepts one group per call.
    pub(super) async fn target_health(&self, group: &str) -> Result<TargetHealth, Failure> {
        let answer = self.clients.elb().await.describe_target_health().target_group_arn(group).send().await;
        let answer = answer.map_err(|error| Failure::of("DescribeTargetHealth", &error))?;
        Ok(counts(answer.target_health_descriptions()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_elasticloadbalancingv2::types::TargetHealth as Health;

    #[test]
    fn every_health_state_is_counted() {
        let states = [
            "healthy",
            "healthy",
            "unhealthy",
            "unhealthy.draining",
            "unavailable",
            "initial",
            "draining",
            "unused",
            "new",
        ];
        let described = states.map(|state| {
            let health = Health::builder().state(State::from(state)).build();
            TargetHealthDescription::builder().target_health(health).build()
        });
        let expected = TargetHealth { healthy: 2, unhealthy: 4, initial: 1, draining: 1, unused: 1 };
        assert_eq!(counts(&described), expected);
    }
}
