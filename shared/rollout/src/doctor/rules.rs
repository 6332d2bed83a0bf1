//! Rules and listeners of the policy, and who else forwards to the pair.

use super::seen::{Inspected, RuleSeen};
use super::{Findings, SLOTS, called, place_of_group, place_of_rule};
use crate::names::Slot;
use crate::policy::TargetPolicy;
use crate::snapshot::Reading;
use crate::time::Seconds;
use std::collections::BTreeSet;

/// Target groups that one action can forward to (ELB quotas).
const MOST_GROUPS: usize = 5;

pub(super) fn judge(policy: &TargetPolicy, seen: &Inspected, findings: &mut Findings) {
    let pair = &policy.pair;
    let mut shares = BTreeSet::new();
    for arn in &pair.rules {
        if let Some(rule) = look_up(arn, seen, findings) {
            judge_rule(policy, seen, arn, rule, findings);
            without_health(policy, seen, arn, rule, findings);
            let weights = SLOTS.map(|slot| rule.weight(&pair.side(slot).target_group));
            if let [Some(blue), Some(green)] = weights {
                let place = place_of_rule(arn);
                if (blue, green) == (0, 0) {
                    let what = "both sides have weight 0: neither is live, and nothing can be deployed beside nothing";
                    let remedy = "give the side that is to be live all the weight: 100, and the other one 0";
                    findings.broken("weights_none", &place, what, remedy);
                } else {
                    shares.insert((u64::from(blue) * 1000) / u64::from(blue + green));
                }
            }
        }
    }
    if shares.len() > 1 {
        let place = pair.rules.iter().map(|arn| place_of_rule(arn)).collect::<Vec<_>>().join(", ");
        let what = "the rules of the policy share traffic differently, so that nobody can say which side is live";
        findings.broken("rules_disagree", &place, what, "give the same side all the weight on each of them");
    }
    if let Some(arn) = &pair.test_rule
        && let Some(rule) = look_up(arn, seen, findings)
    {
        lacks(policy, arn, rule, findings);
    }
    others(policy, seen, findings);
}

fn look_up<'s>(arn: &str, seen: &'s Inspected, findings: &mut Findings) -> Option<&'s RuleSeen> {
    let place = place_of_rule(arn);
    match seen.rules.get(arn) {
        Some(Reading::Unknown(reason)) if is_missing(reason) => {
            let remedy = "create it, or give the right ARN under `rules`";
            findings.broken("rule_missing", &place, "there is no such rule or listener", remedy);
            None
        }
        Some(reading) => findings.known(&place, reading),
        None => None,
    }
}

/// ELB's codes for what it does not have (API reference, errors of DescribeRules and DescribeListeners).
fn is_missing(reason: &str) -> bool {
    ["RuleNotFound", "ListenerNotFound"].iter().any(|code| reason.contains(code))
}

/// Whether one of the pair's groups is not in the rule.
fn lacks(policy: &TargetPolicy, arn: &str, rule: &RuleSeen, findings: &mut Findings) -> bool {
    let place = place_of_rule(arn);
    let missing: Vec<_> =
        SLOTS.into_iter().filter(|slot| rule.weight(&policy.pair.side(*slot).target_group).is_none()).collect();
    for slot in &missing {
        let group = called(&policy.pair.side(*slot).target_group);
        let what = match rule.groups.as_slice() {
            [] => format!("it forwards to no target group: `{slot}`'s, {group}, must be in it"),
            _ => format!("it does not forward to `{slot}`'s target group {group}, so no weight can be given to it"),
        };
        let remedy = match rule.groups.len() {
            MOST_GROUPS.. => format!(
                "an action forwards to {MOST_GROUPS} target groups at most: take one out, then add {group} with weight 0"
            ),
            _ => format!("add {group} to its forward action, with weight 0"),
        };
        findings.broken("rule_lacks_group", &place, what, remedy);
    }
    !missing.is_empty()
}

fn judge_rule(policy: &TargetPolicy, seen: &Inspected, arn: &str, rule: &RuleSeen, findings: &mut Findings) {
    if lacks(policy, arn, rule, findings) {
        return;
    }
    let place = place_of_rule(arn);
    let ours = |group: &str| SLOTS.iter().any(|slot| policy.pair.side(*slot).target_group == group);
    let strangers: Vec<&str> =
        rule.groups.iter().filter(|(group, _)| !ours(group)).map(|(group, _)| called(group)).collect();
    if !strangers.is_empty() {
        let what = format!("it also forwards to {}: no deployment starts beside strangers", strangers.join(", "));
        findings.broken("rule_with_strangers", &place, what, "leave the pair alone in the rule's forward action");
    }
    if let Some(seconds) = rule.sticky_s {
        let what = format!(
            "clients stay with a side for {}: they do not follow the weights, neither forward nor back",
            Seconds(u64::from(seconds))
        );
        let remedy = "turn the stickiness of its target groups off, or make it shorter than the shortest hold";
        findings.risky("rule_sticky", &place, what, remedy);
    }
    for slot in SLOTS {
        let Reading::Known(Some(group)) = &seen.side(slot).group else { continue };
        if group.sticky && rule.sticky_s.is_none() {
            let what = format!(
                "{} is sticky, and the rule is not: ELB refuses weights on such a rule",
                place_of_group(policy, slot)
            );
            let remedy = "turn off the stickiness of the target group, or turn on that of the rule";
            findings.broken("rule_refuses_weights", &place, what, remedy);
        }
    }
}

/// Traffic that nobody serves. Where both sides want no tasks the service is asleep, and that is somebody's wish.
fn without_health(policy: &TargetPolicy, seen: &Inspected, arn: &str, rule: &RuleSeen, findings: &mut Findings) {
    let wants = |slot: Slot| matches!(&seen.side(slot).service, Reading::Known(Some(service)) if service.desired > 0);
    if !SLOTS.into_iter().any(wants) {
        return;
    }
    for slot in SLOTS {
        let weight = rule.weight(&policy.pair.side(slot).target_group).unwrap_or(0);
        let Reading::Known(Some(group)) = &seen.side(slot).group else { continue };
        if weight > 0 && group.healthy == 0 {
            let name = called(&policy.pair.side(slot).target_group);
            let what = format!("it gives {slot} a weight of {weight}, and {name} has no healthy target: requests fail");
            let remedy = "put all weight back on the side that serves: `switchback rollback` does so, if that is the stable side";
            findings.broken("weight_without_health", &place_of_rule(arn), what, remedy);
        }
    }
}

/// Rules that nobody moves.
fn others(policy: &TargetPolicy, seen: &Inspected, findings: &mut Findings) {
    let Some(others) = findings.known("other rules of the balancer", &seen.others) else { return };
    let named: BTreeSet<&String> = policy.pair.rules.iter().chain(&policy.pair.test_rule).collect();
    for (arn, rule) in others.iter().filter(|(arn, _)| !named.contains(arn)) {
        let groups: Vec<&str> = SLOTS
            .into_iter()
            .map(|slot| policy.pair.side(slot).target_group.as_str())
            .filter(|group| rule.weight(group).is_some_and(|weight| weight > 0))
            .map(called)
            .collect();
        if groups.is_empty() {
            continue;
        }
        let groups = groups.join(" and ");
        let remedy = format!("add {arn} to `rules`, or let it forward elsewhere");
        if arn.contains(":listener-rule/") {
            let what =
                format!("it forwards to {groups}, and is not in the policy: its traffic stays there, shifted or not");
            findings.risky("rule_left_out", &place_of_rule(arn), what, remedy);
        } else {
            // Often a rule takes all of the traffic, and the default action is there for a group to be attached.
            let what = format!("requests that no rule matches go to {groups}, shifted or not");
            findings.advice("default_left_out", &place_of_rule(arn), what, remedy);
        }
    }
}
