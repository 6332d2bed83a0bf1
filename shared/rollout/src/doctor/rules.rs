//! Checks the policy's rules and listeners, and other rules that forward to its target groups.

use super::inspected::{InspectedPair, InspectedRule};
use super::{Findings, rule_label, short_name, target_group_label};
use crate::names::Slot;
use crate::policy::TargetPolicy;
use crate::resources::Leg;
use crate::snapshot::Reading;
use crate::time::Seconds;
use std::collections::BTreeSet;

/// Maximum number of target groups per forward action (ELB quotas).
const MAX_TARGET_GROUPS: usize = 5;

pub(super) fn judge(policy: &TargetPolicy, seen: &InspectedPair, findings: &mut Findings) {
    let mut shares = BTreeSet::new();
    for (number, leg) in policy.resources.traffic.iter().enumerate() {
        for arn in &leg.rules {
            let Some(rule) = find_rule(arn, seen, findings) else { continue };
            check_rule(leg, number, seen, arn, rule, findings);
            check_healthy_targets(leg, number, seen, arn, rule, findings);
            let weights = Slot::BOTH.map(|slot| rule.weight(leg.target_group(slot)));
            if let [Some(blue), Some(green)] = weights {
                let subject = rule_label(arn);
                if (blue, green) == (0, 0) {
                    let problem =
                        "both sides have weight 0: neither is live, and nothing can be deployed beside nothing";
                    let remedy = "give the side that is to be live all the weight: 100, and the other one 0";
                    findings.broken("weights_none", &subject, problem, remedy);
                } else {
                    shares.insert((u64::from(blue) * 1000) / u64::from(blue + green));
                }
            }
        }
        if let Some(arn) = &leg.test_rule
            && let Some(rule) = find_rule(arn, seen, findings)
        {
            lacks_target_group(leg, arn, rule, findings);
        }
    }
    if shares.len() > 1 {
        let subject = policy.resources.rules().map(rule_label).collect::<Vec<_>>().join(", ");
        let problem = "the rules of the policy share traffic differently, so that nobody can say which side is live";
        findings.broken("rules_disagree", &subject, problem, "give the same side all the weight on each of them");
    }
    others(policy, seen, findings);
}

fn find_rule<'s>(arn: &str, seen: &'s InspectedPair, findings: &mut Findings) -> Option<&'s InspectedRule> {
    let subject = rule_label(arn);
    match seen.rules.get(arn) {
        Some(Reading::Unknown(reason)) if is_missing(reason) => {
            let remedy = "create it, or give the right ARN under `rules`";
            findings.broken("rule_missing", &subject, "there is no such rule or listener", remedy);
            None
        }
        Some(reading) => findings.known(&subject, reading),
        None => None,
    }
}

/// ELB's error codes for a missing rule or listener (API reference, errors of DescribeRules and DescribeListeners).
fn is_missing(reason: &str) -> bool {
    ["RuleNotFound", "ListenerNotFound"].iter().any(|code| reason.contains(code))
}

/// Whether a target group of the leg is missing from the rule; adds a finding for each.
fn lacks_target_group(leg: &Leg, arn: &str, rule: &InspectedRule, findings: &mut Findings) -> bool {
    let subject = rule_label(arn);
    let missing: Vec<_> =
        Slot::BOTH.into_iter().filter(|slot| rule.weight(leg.target_group(*slot)).is_none()).collect();
    for slot in &missing {
        let group = short_name(leg.target_group(*slot));
        let problem = match rule.groups.as_slice() {
            [] => format!("it forwards to no target group: `{slot}`'s, {group}, must be in it"),
            _ => format!("it does not forward to `{slot}`'s target group {group}, so no weight can be given to it"),
        };
        let remedy = match rule.groups.len() {
            MAX_TARGET_GROUPS.. => format!(
                "an action forwards to {MAX_TARGET_GROUPS} target groups at most: take one out, then add {group} with \
                 weight 0"
            ),
            _ => format!("add {group} to its forward action, with weight 0"),
        };
        findings.broken("rule_lacks_group", &subject, problem, remedy);
    }
    !missing.is_empty()
}

fn check_rule(
    leg: &Leg,
    number: usize,
    seen: &InspectedPair,
    arn: &str,
    rule: &InspectedRule,
    findings: &mut Findings,
) {
    if lacks_target_group(leg, arn, rule, findings) {
        return;
    }
    let subject = rule_label(arn);
    let ours = |group: &str| Slot::BOTH.iter().any(|slot| leg.target_group(*slot) == group);
    let foreign_groups: Vec<&str> =
        rule.groups.iter().filter(|(group, _)| !ours(group)).map(|(group, _)| short_name(group)).collect();
    if !foreign_groups.is_empty() {
        let names = foreign_groups.join(", ");
        let problem = format!("it also forwards to {names}: no deployment starts beside foreign target groups");
        let remedy = "leave the two sides alone in the rule's forward action";
        findings.broken("rule_with_foreign_groups", &subject, problem, remedy);
    }
    if let Some(seconds) = rule.sticky_s {
        let problem = format!(
            "clients stay with a side for {}: they do not follow the weights, neither forward nor back",
            Seconds(u64::from(seconds))
        );
        let remedy = "turn the stickiness of its target groups off, or make it shorter than the shortest hold";
        findings.risky("rule_sticky", &subject, problem, remedy);
    }
    for slot in Slot::BOTH {
        let Some(Reading::Known(Some(group))) = seen.side(slot).groups.get(number) else { continue };
        if group.sticky && rule.sticky_s.is_none() {
            let problem = format!(
                "{} is sticky, and the rule is not: ELB refuses weights on such a rule",
                target_group_label(leg.target_group(slot))
            );
            let remedy = "turn off the stickiness of the target group, or turn on that of the rule";
            findings.broken("rule_refuses_weights", &subject, problem, remedy);
        }
    }
}

/// Traffic to a side without healthy targets. Where both sides want no tasks, the service is asleep on purpose.
fn check_healthy_targets(
    leg: &Leg,
    number: usize,
    seen: &InspectedPair,
    arn: &str,
    rule: &InspectedRule,
    findings: &mut Findings,
) {
    let wants = |slot: Slot| matches!(&seen.side(slot).service, Reading::Known(Some(service)) if service.desired > 0);
    if !Slot::BOTH.into_iter().any(wants) {
        return;
    }
    for slot in Slot::BOTH {
        let weight = rule.weight(leg.target_group(slot)).unwrap_or(0);
        if weight > 0 && seen.side(slot).healthy_targets(number) == Some(0) {
            let name = short_name(leg.target_group(slot));
            let problem =
                format!("it gives {slot} a weight of {weight}, and {name} has no healthy target: requests fail");
            let remedy = "put all weight back on the side that serves: `switchback rollback` does so, if that is the \
                          stable side";
            findings.broken("weight_without_health", &rule_label(arn), problem, remedy);
        }
    }
}

/// Rules outside the policy that forward to its target groups: their weights are never shifted.
fn others(policy: &TargetPolicy, seen: &InspectedPair, findings: &mut Findings) {
    let Some(others) = findings.known("other rules of the balancer", &seen.others) else { return };
    let named: BTreeSet<&str> = policy.resources.rules().chain(policy.resources.test_rules()).collect();
    for (arn, rule) in others.iter().filter(|(arn, _)| !named.contains(arn.as_str())) {
        let groups: Vec<&str> = Slot::BOTH
            .into_iter()
            .flat_map(|slot| policy.resources.target_groups(slot))
            .filter(|group| rule.weight(group).is_some_and(|weight| weight > 0))
            .map(short_name)
            .collect();
        if groups.is_empty() {
            continue;
        }
        let groups = groups.join(" and ");
        let remedy = format!("add {arn} to `rules`, or let it forward elsewhere");
        if arn.contains(":listener-rule/") {
            let problem =
                format!("it forwards to {groups}, and is not in the policy: its traffic stays there, shifted or not");
            findings.risky("rule_left_out", &rule_label(arn), problem, remedy);
        } else {
            // Often a rule matches all traffic, and the default action exists only to attach the target group.
            let problem = format!("requests that no rule matches go to {groups}, shifted or not");
            findings.advice("default_left_out", &rule_label(arn), problem, remedy);
        }
    }
}
