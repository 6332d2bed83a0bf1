//! Token buckets of the APIs, as far as their sizes are published or measured.

use jiff::Timestamp;
use std::collections::BTreeMap;

/// Burst and refill per second of the bucket that an operation draws on.
fn bucket(operation: &str) -> Option<(&'static str, f64, f64)> {
    Some(match operation {
        "ecs:CreateService" | "ecs:UpdateService" | "ecs:DeleteService" => ("ecs service modify", 50.0, 5.0),
        "ecs:RegisterTaskDefinition" => ("ecs register", 20.0, 1.0),
        "ecs:DescribeServices" | "ecs:ListServices" => ("ecs service read", 100.0, 20.0),
        "ecs:DescribeTaskDefinition" | "ecs:ListTaskDefinitions" => ("ecs task definition read", 50.0, 20.0),
        "ecs:DescribeTasks" | "ecs:ListTasks" => ("ecs task read", 100.0, 20.0),
        "cloudwatch:DescribeAlarms" => ("cloudwatch describe alarms", 9.0, 9.0),
        _ if operation.starts_with("elasticloadbalancing:Describe") => ("elbv2 read", 40.0, 10.0),
        _ => return None,
    })
}

/// All buckets, full until they are drawn on.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    levels: BTreeMap<&'static str, (f64, Timestamp)>,
}

impl Limits {
    /// Draws one token; false: the call is throttled.
    pub(super) fn admits(&mut self, operation: &str, now: Timestamp) -> bool {
        let Some((name, burst, refill)) = bucket(operation) else { return true };
        let (level, since) = self.levels.entry(name).or_insert((burst, now));
        let passed = (now.as_millisecond() - since.as_millisecond()).max(0) as f64 / 1000.0;
        *level = (*level + passed * refill).min(burst);
        *since = now;
        if *level < 1.0 {
            return false;
        }
        *level -= 1.0;
        true
    }
}
