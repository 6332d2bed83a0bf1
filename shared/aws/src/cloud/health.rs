//! Health of a target group: what its targets' states mean is said in the core ([`rollout::answers::elb`]).

use super::AwsCloud;
use crate::error::AwsFailure;
use aws_sdk_elasticloadbalancingv2::types::TargetHealthDescription;
use futures::future::try_join_all;
use rollout::answers::elb;
use rollout::snapshot::TargetHealth;

fn counts(targets: &[TargetHealthDescription]) -> TargetHealth {
    let health = targets.iter().map(|target| target.target_health());
    elb::target_health(health.map(|health| Some(health?.state()?.as_str())))
}

impl AwsCloud {
    /// Health of the targets of these groups: that of the worst group. One call per group, in parallel.
    pub(super) async fn worst_health(&self, groups: Vec<&str>) -> Result<TargetHealth, AwsFailure> {
        let groups = groups.into_iter().map(|group| Box::pin(self.target_health(group)));
        Ok(TargetHealth::worst(try_join_all(groups).await?))
    }

    /// Health of one target group; the API accepts one group per call.
    pub(super) async fn target_health(&self, group: &str) -> Result<TargetHealth, AwsFailure> {
        let answer = self.clients.elb().await.describe_target_health().target_group_arn(group).send().await;
        let answer = answer.map_err(|error| {
            // With several groups, which of them it was.
            AwsFailure::of(&format!("DescribeTargetHealth of {}", elb::target_group_name(group)), &error)
        })?;
        Ok(counts(answer.target_health_descriptions()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_elasticloadbalancingv2::types::{TargetHealth as Health, TargetHealthStateEnum as State};

    /// The SDK does not know `new`; it carries the text of such a state.
    #[test]
    fn states_are_passed_on_as_aws_writes_them() {
        let states = ["healthy", "unhealthy.draining", "initial", "draining", "unused", "new"];
        let mut described = states.map(|state| {
            let health = Health::builder().state(State::from(state)).build();
            TargetHealthDescription::builder().target_health(health).build()
        });
        let expected = TargetHealth { healthy: 1, unhealthy: 2, initial: 1, draining: 1, unused: 1 };
        assert_eq!(counts(&described), expected);
        described[0].target_health = None;
        assert_eq!(counts(&described), TargetHealth { healthy: 0, unhealthy: 3, ..expected });
    }
}
