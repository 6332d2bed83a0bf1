//! How long a rollback may take, against what the policy states.

use super::account::*;
use super::findings;
use rollout::Seconds;
use rollout::doctor::Severity;
use rollout::policy::{AlarmEffect, Policy};

#[track_caller]
fn expect(change: impl FnOnce(&mut Policy), expected: &[(Severity, &str)]) {
    let found = findings(|policy, _| change(policy));
    let found: Vec<_> = found.iter().map(|finding| (finding.severity, finding.check.as_str())).collect();
    assert_eq!(found, expected);
}

/// Two data points of a minute, three minutes until CloudWatch has them, one until they are answered, and 30 minutes in
/// which the weights are tried.
#[test]
fn a_recovery_time_has_to_be_longer_than_the_sum() {
    expect(|policy| target_policy(policy).recovery_time = Some(Seconds(36 * 60)), &[]);
    let shorter = |policy: &mut Policy| target_policy(policy).recovery_time = Some(Seconds(36 * 60 - 1));
    expect(shorter, &[(Severity::Risky, "recovery_time_exceeded")]);
    // Where no alarm sends traffic back, that is what is said.
    let only_notifying = |policy: &mut Policy| {
        let target = target_policy(policy);
        target.recovery_time = Some(Seconds(34 * 60));
        target.alarms.iter_mut().for_each(|alarm| alarm.firing = AlarmEffect::Tell);
    };
    expect(only_notifying, &[(Severity::Risky, "alarms_none")]);
}

#[test]
fn an_old_side_is_kept_warm_until_those_that_depend_on_it_are_verified() {
    // Steps of 5 minutes in all and a bake of 10, and the old side is kept for 5.
    let with_dependent = |policy: &mut Policy, together: bool| {
        let api = policy.services[&name("api")].clone();
        let web = rollout::policy::ServicePolicy { depends_on: vec![name("api")], ..api };
        policy.services.insert(name("web"), web);
        let prod = policy.environments.get_mut(&name("prod")).expect("it is there");
        let target = prod.targets[&name("api")].clone();
        prod.targets.insert(name("web"), target);
        prod.entry.rollback_train_together = together;
    };
    expect(|policy| with_dependent(policy, true), &[(Severity::Risky, "keep_warm_short")]);
    expect(|policy| with_dependent(policy, false), &[]);
    let longer = |policy: &mut Policy| {
        with_dependent(policy, true);
        target_policy(policy).strategy.keep_warm = Seconds(15 * 60);
    };
    expect(longer, &[]);
}
