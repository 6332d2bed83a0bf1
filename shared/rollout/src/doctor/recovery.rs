//! Checks how long a rollback may take: against the environment's recovery time, and for the services of a release train
//! that rolls back together.

use super::Findings;
use super::inspected::{AlarmKind, InspectionResult};
use crate::alarm::watched;
use crate::names::{Name, TargetId};
use crate::platform::Way;
use crate::policy::{AlarmEffect, Policy, Step, TargetPolicy};
use crate::snapshot::Reading;
use crate::time::Seconds;
use std::collections::BTreeSet;

/// How late CloudWatch has a load balancer's metrics at most, before an alarm can see them (three minutes, as for the
/// first data of a side).
const METRIC_DELAY: Seconds = Seconds(180);

pub(super) fn judge(
    policy: &Policy,
    target: &TargetId,
    wanted: &TargetPolicy,
    seen: &InspectionResult,
    findings: &mut Findings,
) {
    check_recovery_time(target, wanted, seen, findings);
    // In place, no old side is kept.
    if wanted.resources.platform.way() == Way::Weighted {
        check_keep_warm(policy, target, wanted, findings);
    }
}

/// Adds up what lies between a fault and the return of the traffic (in place: of the version before), and compares it
/// with the stated recovery time.
fn check_recovery_time(target: &TargetId, wanted: &TargetPolicy, seen: &InspectionResult, findings: &mut Findings) {
    let Some(stated) = wanted.recovery_time else { return };
    let Reading::Known(alarms) = &seen.alarms else { return };
    let decisive = wanted.alarms.iter().filter(|alarm| alarm.firing == AlarmEffect::Back);
    let names = decisive.flat_map(|alarm| watched(&alarm.name, alarms));
    let windows = names.filter_map(|name| match alarms.get(name)?.kind {
        AlarmKind::Metric(ref metric) => Some(u64::from(metric.period_s) * u64::from(metric.datapoints)),
        AlarmKind::Log { period_s, results } => Some(u64::from(period_s) * u64::from(results)),
        AlarmKind::Composite { .. } => None,
    });
    // Without one, nothing brings traffic back by itself, which is another finding's subject.
    let Some(slowest) = windows.max().map(Seconds) else { return };
    let back = wanted.rollback_deadline_after_alarm();
    let most = Seconds(slowest.0 + METRIC_DELAY.0 + back.0);
    if most > stated {
        let returns = match wanted.resources.platform.way() {
            Way::Weighted => "traffic",
            Way::InPlace => "the version before",
        };
        let problem = format!(
            "from a fault to the return of {returns} it may take {most}: up to {slowest} of data until the slowest \
             alarm fires, {METRIC_DELAY} until CloudWatch has it, and {back} until the rollback's deadline; \
             recovery_time is {stated}"
        );
        let remedy = "shorten `deadlines.rollback` or the alarm's period, or state a longer recovery_time";
        findings.risky("recovery_time_exceeded", &target.to_string(), problem, remedy);
    }
}

/// A member of a release train that rolls back together goes back in seconds only as long as its old side is kept warm:
/// until those that depend on it are verified.
fn check_keep_warm(policy: &Policy, target: &TargetId, wanted: &TargetPolicy, findings: &mut Findings) {
    let together = policy
        .environments
        .get(&target.environment)
        .is_some_and(|environment| environment.entry.rollback_train_together);
    if !together {
        return;
    }
    let takes = verified_after(policy, target, &mut BTreeSet::new());
    let kept = wanted.strategy.keep_warm;
    if kept < takes {
        let problem = format!(
            "its old side is kept warm for {kept}, and the services that depend on it take at least {takes}, one after \
             the other, until they are verified: should one of them fail late, this one goes back as slowly as it was \
             deployed"
        );
        let remedy =
            format!("set strategy.keep_warm to more than {takes}, or shorten the holds and bakes of those services");
        findings.risky("keep_warm_short", &target.to_string(), problem, remedy);
    }
}

/// How long it takes at least until everything is verified that depends on this target's service, directly or not: a
/// service begins when those that it depends on are verified. `seen` guards against circles.
fn verified_after(policy: &Policy, target: &TargetId, seen: &mut BTreeSet<Name>) -> Seconds {
    if !seen.insert(target.service.clone()) {
        return Seconds(0);
    }
    let dependents = policy.services.iter().filter(|(_, service)| service.depends_on.contains(&target.service));
    let longest = dependents.map(|(name, _)| {
        let dependent = TargetId { service: name.clone(), ..target.clone() };
        let own = policy.target(&dependent).map_or(0, |dependent| {
            let steps: &[Step] = match dependent.resources.platform.way() {
                Way::Weighted => &dependent.strategy.steps,
                Way::InPlace => &[],
            };
            steps.iter().map(|step| step.hold.0).sum::<u64>() + dependent.strategy.bake.0
        });
        own + verified_after(policy, &dependent, seen).0
    });
    let longest = Seconds(longest.max().unwrap_or(0));
    seen.remove(&target.service);
    longest
}
