//! A target behind a second load balancer: its target groups and its listener are checked like the first one's.

use super::account::*;
use super::findings;
use rollout::doctor::Severity;
use rollout::doctor::inspected::{InspectedRule, InspectionResult};
use rollout::{Leg, Reading, Slot};

const LISTENER: &str =
    "arn:aws:elasticloadbalancing:eu-central-1:111122223333:listener/net/internal/50dc6c495c0c9188/f2f7dc8efc522ab2";

fn internal(slot: Slot) -> String {
    format!("arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/internal-{slot}/73e2")
}

/// Check and subject of each finding of an account whose target is behind an internal load balancer, too.
fn findings_with_leg(change: impl FnOnce(&mut InspectionResult)) -> Vec<(Severity, String, String)> {
    let found = findings(|policy, seen| {
        let (blue, green) = (internal(Slot::Blue), internal(Slot::Green));
        let leg = Leg { blue: blue.clone(), green: green.clone(), rules: vec![LISTENER.to_owned()], test_rule: None };
        target_policy(policy).resources.traffic.push(leg);
        for (side, arn) in sides(seen).into_iter().zip([&blue, &green]) {
            let group = side.groups[0].clone();
            side.groups.push(group);
            known_mut(&mut side.service).as_mut().expect("it is there").groups.push(arn.clone());
        }
        let rule = InspectedRule { groups: vec![(blue, 100), (green, 0)], sticky_s: None };
        pair(seen).rules.insert(LISTENER.to_owned(), Reading::Known(rule));
        change(seen);
    });
    found.into_iter().map(|finding| (finding.severity, finding.check, finding.subject)).collect()
}

#[track_caller]
fn expect(change: impl FnOnce(&mut InspectionResult), expected: &[(Severity, &str, &str)]) {
    let found = findings_with_leg(change);
    let found: Vec<_> =
        found.iter().map(|(severity, check, subject)| (*severity, check.as_str(), subject.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn two_sound_legs_have_no_findings() {
    expect(|_| {}, &[]);
}

#[test]
fn a_service_has_to_register_in_the_groups_of_every_leg() {
    let unattached = |seen: &mut InspectionResult| _ = service(seen).groups.pop();
    expect(unattached, &[(Severity::Broken, "target_group_unattached", "service api-green")]);
    let missing = |seen: &mut InspectionResult| pair(seen).green.groups[1] = Reading::Known(None);
    expect(missing, &[(Severity::Broken, "target_group_missing", "target group internal-green")]);
}

#[test]
fn the_groups_of_a_leg_have_the_same_settings() {
    let slow_checks = |seen: &mut InspectionResult| {
        known_mut(&mut pair(seen).green.groups[1]).as_mut().expect("it is there").check_path = "/".to_owned();
    };
    expect(slow_checks, &[(Severity::Risky, "sides_differ", "target group internal-blue and internal-green")]);
}

#[test]
fn the_listener_of_a_leg_forwards_to_both_of_its_groups_with_the_same_share() {
    let rule = |groups: &[(Slot, u32)]| InspectedRule {
        groups: groups.iter().map(|(slot, weight)| (internal(*slot), *weight)).collect(),
        sticky_s: None,
    };
    let subject = "listener f2f7dc8efc522ab2 of internal";
    let lacks = |seen: &mut InspectionResult| {
        pair(seen).rules.insert(LISTENER.to_owned(), Reading::Known(rule(&[(Slot::Blue, 100)])));
    };
    expect(lacks, &[(Severity::Broken, "rule_lacks_group", subject)]);
    // The groups of another leg are not its own.
    let of_the_other_leg = |seen: &mut InspectionResult| {
        let rule = weights(&[(Slot::Blue, 100), (Slot::Green, 0)]);
        pair(seen).rules.insert(LISTENER.to_owned(), Reading::Known(rule));
    };
    expect(of_the_other_leg, &[(Severity::Broken, "rule_lacks_group", subject); 2]);
    let half = |seen: &mut InspectionResult| {
        let rule = rule(&[(Slot::Blue, 50), (Slot::Green, 50)]);
        pair(seen).rules.insert(LISTENER.to_owned(), Reading::Known(rule));
    };
    let all = format!("rule 9683 of shop, {subject}");
    expect(half, &[(Severity::Broken, "weight_without_health", subject), (Severity::Broken, "rules_disagree", &all)]);
}
