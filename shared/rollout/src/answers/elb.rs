//! Elastic Load Balancing: the health of a target group, and how a rule splits traffic between the two sides.

use crate::resources::Leg;
use crate::snapshot::{RuleReading, TargetHealth, Weights};
use crate::time::Seconds;

/// Weight of a target group whose action specifies none: it is the only group, or all have equal weights.
pub const DEFAULT_WEIGHT: i32 = 1;

/// The name in a target group's ARN (`…:targetgroup/NAME/ID`), or the text itself.
#[must_use]
pub fn target_group_name(arn: &str) -> &str {
    arn.split_once(":targetgroup/").and_then(|(_, rest)| rest.split('/').next()).unwrap_or(arn)
}

/// Number of a group's targets per state (ELBv2 API reference, `TargetHealth.State`). Any other state counts as
/// unhealthy: `unhealthy.draining`, `unavailable` (no health checks), and those that are not known here.
#[must_use]
pub fn target_health<'a>(states: impl IntoIterator<Item = Option<&'a str>>) -> TargetHealth {
    let mut counts = TargetHealth::default();
    for state in states {
        let count = match state {
            Some("healthy") => &mut counts.healthy,
            Some("initial") => &mut counts.initial,
            Some("draining") => &mut counts.draining,
            Some("unused") => &mut counts.unused,
            _ => &mut counts.unhealthy,
        };
        *count += 1;
    }
    counts
}

/// The leg's weights in a forward action with these target groups, given by ARN and weight. An action without groups,
/// or one that does not forward, has neither side. `sticky_for_s`: seconds for which the action's own cookie binds a
/// client to a target group (`TargetGroupStickinessConfig`), where that is on.
#[must_use]
pub fn rule_reading<'a>(
    groups: impl Iterator<Item = (&'a str, Option<i64>)> + Clone,
    sticky_for_s: Option<i64>,
    leg: &Leg,
) -> RuleReading {
    let [blue, green] = [&leg.blue, &leg.green].map(|side| {
        let (_, weight) = groups.clone().find(|(group, _)| group == side)?;
        Some(u16::try_from(weight.unwrap_or(i64::from(DEFAULT_WEIGHT))).unwrap_or(0))
    });
    let is_foreign = |group: &&str| *group != leg.blue && *group != leg.green;
    RuleReading {
        weights: Weights { blue: blue.unwrap_or(0), green: green.unwrap_or(0) },
        has_both_groups: blue.is_some() && green.is_some(),
        foreign_groups: groups.map(|(group, _)| group).filter(is_foreign).map(str::to_owned).collect(),
        sticky_for: sticky_for_s.and_then(|seconds| u64::try_from(seconds).ok()).map(Seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_health_state_is_counted() {
        let states = [
            Some("healthy"),
            Some("healthy"),
            Some("unhealthy"),
            Some("unhealthy.draining"),
            Some("unavailable"),
            Some("initial"),
            Some("draining"),
            Some("unused"),
            Some("new"),
            None,
        ];
        let expected = TargetHealth { healthy: 2, unhealthy: 5, initial: 1, draining: 1, unused: 1 };
        assert_eq!(target_health(states), expected);
    }

    #[test]
    fn a_rule_is_read_for_its_leg() {
        let (blue, green) = ("arn:group/blue".to_owned(), "arn:group/green".to_owned());
        let leg = Leg { blue, green, rules: Vec::new(), test_rule: None };
        let (blue, green, canary) = ("arn:group/blue", "arn:group/green", "arn:group/canary");
        // The groups of a rule; weights of blue and green; both are there; the others.
        type Case<'a> = (&'a [(&'a str, Option<i64>)], (u16, u16), bool, &'a [&'a str]);
        let cases: [Case<'_>; 6] = [
            (&[(blue, Some(90)), (green, Some(10))], (90, 10), true, &[]),
            (&[(green, Some(10)), (canary, Some(3)), (blue, Some(90))], (90, 10), true, &[canary]),
            (&[(blue, None), (green, Some(0))], (1, 0), true, &[]),
            (&[(blue, None)], (1, 0), false, &[]),
            (&[(blue, Some(-1)), (green, Some(70_000))], (0, 0), true, &[]),
            (&[], (0, 0), false, &[]),
        ];
        for (groups, (blue, green), has_both_groups, foreign) in cases {
            let expected = RuleReading {
                weights: Weights { blue, green },
                has_both_groups,
                foreign_groups: foreign.iter().map(|group| (*group).to_owned()).collect(),
                sticky_for: Some(Seconds(600)),
            };
            assert_eq!(rule_reading(groups.iter().copied(), Some(600), &leg), expected, "{groups:?}");
        }
    }
}
