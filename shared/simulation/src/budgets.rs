//! AWS API rate limits of one account in one Region, modelled as token buckets that calls draw on.
//!
//! A call takes one token and is throttled when the bucket is empty; a throttled call takes no token. Buckets refill
//! evenly.
//!
//! | bucket | burst | a second | where that is from |
//! |---|---|---|---|
//! | ECS: modify services | 50 | 5 | ECS API Reference, "Request throttling for the Amazon ECS API" |
//! | ECS: register task definitions | 20 | 1 | the same |
//! | ECS: read services | 100 | 20 | the same |
//! | ECS: read task definitions | 50 | 20 | the same |
//! | ECS: read tasks | 100 | 20 | the same |
//! | ECS: read service deployments, read service revisions | 50 each | 20 | the same |
//! | ECS: read task protection | 200 | 80 | the same |
//! | ELBv2: read | 40 | 10 | ELB User Guide, "Request throttling for the ELB API" |
//! | ELBv2: write rules and listeners | 20 | 3 | not confirmed; on the careful side |
//! | CloudWatch: `DescribeAlarms` | 9 | 9 | CloudWatch User Guide, "CloudWatch service quotas" |
//! | Application Auto Scaling: read, write | 20 | 10 | not published; on the careful side |

use jiff::Timestamp;
use std::collections::BTreeMap;

/// The size of a bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Display name, the key of [`Budgets::usage`].
    pub name: &'static str,
    /// Capacity in tokens.
    pub burst: f64,
    /// Refill rate in tokens per second.
    pub per_second: f64,
}

/// The bucket that an operation (`ecs:UpdateService`) draws on; none: AWS documents no limit for the operation.
#[must_use]
pub fn bucket(operation: &str) -> Option<Bucket> {
    let (name, burst, per_second) = match operation {
        "ecs:CreateService" | "ecs:UpdateService" | "ecs:DeleteService" => ("ecs service modify", 50.0, 5.0),
        "ecs:RegisterTaskDefinition" => ("ecs register", 20.0, 1.0),
        "ecs:DescribeServices" | "ecs:ListServices" => ("ecs service read", 100.0, 20.0),
        "ecs:DescribeTaskDefinition" | "ecs:ListTaskDefinitions" => ("ecs task definition read", 50.0, 20.0),
        "ecs:DescribeTasks" | "ecs:ListTasks" => ("ecs task read", 100.0, 20.0),
        "ecs:DescribeServiceDeployments" | "ecs:ListServiceDeployments" => ("ecs service deployment read", 50.0, 20.0),
        "ecs:DescribeServiceRevisions" => ("ecs service revision read", 50.0, 20.0),
        "ecs:GetTaskProtection" => ("ecs task protection read", 200.0, 80.0),
        "cloudwatch:DescribeAlarms" => ("cloudwatch describe alarms", 9.0, 9.0),
        "elasticloadbalancing:ModifyRule" | "elasticloadbalancing:ModifyListener" => ("elbv2 write", 20.0, 3.0),
        _ if operation.starts_with("elasticloadbalancing:Describe") => ("elbv2 read", 40.0, 10.0),
        _ if operation.starts_with("application-autoscaling:Describe") => ("autoscaling read", 20.0, 10.0),
        _ if operation.starts_with("application-autoscaling:") => ("autoscaling write", 20.0, 10.0),
        _ => return None,
    };
    Some(Bucket { name, burst, per_second })
}

/// Call counts of one bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BucketUsage {
    /// Calls that got a token.
    pub admitted: u64,
    /// Calls that were rejected for lack of a token.
    pub throttled: u64,
}

/// All buckets of an account in a Region. Each starts full.
#[derive(Debug, Clone)]
pub struct Budgets {
    /// Multiple of AWS's real sizes.
    scale: f64,
    levels: BTreeMap<&'static str, (f64, Timestamp)>,
    usage: BTreeMap<&'static str, BucketUsage>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self::scaled(1.0)
    }
}

impl Budgets {
    /// Buckets whose capacity and refill rate are `scale` times AWS's: a few targets on small buckets behave like many
    /// targets on large ones. The minimum capacity is two tokens.
    #[must_use]
    pub fn scaled(scale: f64) -> Self {
        Self { scale, levels: BTreeMap::new(), usage: BTreeMap::new() }
    }

    /// Draws one token; false: the call is throttled.
    pub fn try_acquire(&mut self, operation: &str, now: Timestamp) -> bool {
        let Some(bucket) = bucket(operation) else { return true };
        let (burst, per_second) = ((bucket.burst * self.scale).max(2.0), bucket.per_second * self.scale);
        let (level, since) = self.levels.entry(bucket.name).or_insert((burst, now));
        let passed = (now.as_millisecond() - since.as_millisecond()).max(0) as f64 / 1000.0;
        *level = (*level + passed * per_second).min(burst);
        *since = now;
        let usage = self.usage.entry(bucket.name).or_default();
        if *level < 1.0 {
            usage.throttled += 1;
            return false;
        }
        *level -= 1.0;
        usage.admitted += 1;
        true
    }

    /// Multiple of AWS's real sizes.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Admitted and throttled calls so far, per bucket.
    #[must_use]
    pub fn usage(&self) -> &BTreeMap<&'static str, BucketUsage> {
        &self.usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_767_225_600_000 + ms).expect("a time")
    }

    #[test]
    fn a_bucket_admits_its_burst_and_then_refills() {
        let mut budgets = Budgets::default();
        let mut admitted = |ms| (0..100).filter(|_| budgets.try_acquire("ecs:RegisterTaskDefinition", at(ms))).count();
        assert_eq!([admitted(0), admitted(900), admitted(1_000), admitted(61_000)], [20, 0, 1, 20]);
        assert_eq!(budgets.usage()["ecs register"], BucketUsage { admitted: 41, throttled: 359 });
    }

    #[test]
    fn operations_share_buckets_and_unknown_ones_are_unlimited() {
        let mut budgets = Budgets::scaled(0.1);
        let reads = ["elasticloadbalancing:DescribeRules", "elasticloadbalancing:DescribeTargetHealth"];
        let admitted: Vec<bool> = (0..6).map(|n| budgets.try_acquire(reads[n % 2], at(0))).collect();
        assert_eq!(admitted, [true, true, true, true, false, false]);
        assert!((0..1000).all(|_| budgets.try_acquire("dynamodb:UpdateItem", at(0))));
    }
}
