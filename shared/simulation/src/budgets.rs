//! What AWS lets one account do in one Region: the token buckets that calls draw on.
//!
//! A call takes one token, and is throttled where there is none; a throttled call takes nothing. Buckets refill evenly.
//!
//! | bucket | burst | a second | where that is from |
//! |---|---|---|---|
//! | ECS: modify services | 50 | 5 | ECS API Reference, "Request throttling for the Amazon ECS API" |
//! | ECS: register task definitions | 20 | 1 | the same |
//! | ECS: read services | 100 | 20 | the same |
//! | ECS: read task definitions | 50 | 20 | the same |
//! | ECS: read tasks | 100 | 20 | the same |
//! | ELBv2: read | 40 | 10 | ELB User Guide, "Request throttling for the ELB API" |
//! | ELBv2: write rules and listeners | 20 | 3 | not confirmed; on the careful side |
//! | CloudWatch: `DescribeAlarms` | 9 | 9 | CloudWatch User Guide, "CloudWatch service quotas" |
//! | Application Auto Scaling: read, write | 20 | 10 | not published; on the careful side |

use jiff::Timestamp;
use std::collections::BTreeMap;

/// The size of a bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Which.
    pub name: &'static str,
    /// Tokens that it holds.
    pub burst: f64,
    /// Tokens that come back each second.
    pub a_second: f64,
}

/// The bucket that an operation (`ecs:UpdateService`) draws on; none: nobody has said that there is one.
#[must_use]
pub fn bucket(operation: &str) -> Option<Bucket> {
    let (name, burst, a_second) = match operation {
        "ecs:CreateService" | "ecs:UpdateService" | "ecs:DeleteService" => ("ecs service modify", 50.0, 5.0),
        "ecs:RegisterTaskDefinition" => ("ecs register", 20.0, 1.0),
        "ecs:DescribeServices" | "ecs:ListServices" => ("ecs service read", 100.0, 20.0),
        "ecs:DescribeTaskDefinition" | "ecs:ListTaskDefinitions" => ("ecs task definition read", 50.0, 20.0),
        "ecs:DescribeTasks" | "ecs:ListTasks" => ("ecs task read", 100.0, 20.0),
        "cloudwatch:DescribeAlarms" => ("cloudwatch describe alarms", 9.0, 9.0),
        "elasticloadbalancing:ModifyRule" | "elasticloadbalancing:ModifyListener" => ("elbv2 write", 20.0, 3.0),
        _ if operation.starts_with("elasticloadbalancing:Describe") => ("elbv2 read", 40.0, 10.0),
        _ if operation.starts_with("application-autoscaling:Describe") => ("autoscaling read", 20.0, 10.0),
        _ if operation.starts_with("application-autoscaling:") => ("autoscaling write", 20.0, 10.0),
        _ => return None,
    };
    Some(Bucket { name, burst, a_second })
}

/// How calls fared at one bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drawn {
    /// Calls that got a token.
    pub admitted: u64,
    /// Calls that did not.
    pub throttled: u64,
}

/// All buckets of an account in a Region, full until they are drawn on.
#[derive(Debug, Clone)]
pub struct Budgets {
    /// Times the real sizes.
    scale: f64,
    levels: BTreeMap<&'static str, (f64, Timestamp)>,
    drawn: BTreeMap<&'static str, Drawn>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self::scaled(1.0)
    }
}

impl Budgets {
    /// Buckets that hold and get back so many times what AWS gives: a small crowd before small buckets behaves as a large one
    /// before large ones does. None holds less than two tokens.
    #[must_use]
    pub fn scaled(scale: f64) -> Self {
        Self { scale, levels: BTreeMap::new(), drawn: BTreeMap::new() }
    }

    /// Draws one token; false: the call is throttled.
    pub fn admits(&mut self, operation: &str, now: Timestamp) -> bool {
        let Some(bucket) = bucket(operation) else { return true };
        let (burst, a_second) = ((bucket.burst * self.scale).max(2.0), bucket.a_second * self.scale);
        let (level, since) = self.levels.entry(bucket.name).or_insert((burst, now));
        let passed = (now.as_millisecond() - since.as_millisecond()).max(0) as f64 / 1000.0;
        *level = (*level + passed * a_second).min(burst);
        *since = now;
        let drawn = self.drawn.entry(bucket.name).or_default();
        if *level < 1.0 {
            drawn.throttled += 1;
            return false;
        }
        *level -= 1.0;
        drawn.admitted += 1;
        true
    }

    /// Times the real sizes.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// How calls have fared so far, bucket by bucket.
    #[must_use]
    pub fn drawn(&self) -> &BTreeMap<&'static str, Drawn> {
        &self.drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_767_225_600_000 + ms).expect("a time")
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_what_comes_back() {
        let mut budgets = Budgets::default();
        let mut admitted = |ms| (0..100).filter(|_| budgets.admits("ecs:RegisterTaskDefinition", at(ms))).count();
        assert_eq!([admitted(0), admitted(900), admitted(1_000), admitted(61_000)], [20, 0, 1, 20]);
        assert_eq!(budgets.drawn()["ecs register"], Drawn { admitted: 41, throttled: 359 });
    }

    #[test]
    fn operations_share_a_bucket_or_have_none() {
        let mut budgets = Budgets::scaled(0.1);
        let reads = ["elasticloadbalancing:DescribeRules", "elasticloadbalancing:DescribeTargetHealth"];
        let admitted: Vec<bool> = (0..6).map(|n| budgets.admits(reads[n % 2], at(0))).collect();
        assert_eq!(admitted, [true, true, true, true, false, false]);
        assert!((0..1000).all(|_| budgets.admits("dynamodb:UpdateItem", at(0))));
    }
}
