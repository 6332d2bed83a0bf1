//! Checks a target group on whatever platform: that it can be healthy, drains in time, and notices ill targets in time.

use super::Findings;
use super::inspected::InspectedTargetGroup;
use crate::time::Seconds;

/// A deregistration delay above this makes replacing tasks slow (ELB's default is 300 s).
const SLOW_DRAIN_S: u32 = 120;

/// What must be over before a deadline, and what happens otherwise.
pub(super) struct TimeLimit<'a> {
    /// Name of the deadline in the policy: `retire`.
    pub(super) name: &'a str,
    /// The deadline.
    pub(super) limit: Seconds,
    /// What happens where it passes.
    pub(super) consequence: &'a str,
}

/// Adds the finding that there is no such target group. `meant`: which one the policy has to name instead.
pub(super) fn report_missing(subject: &str, meant: &str, findings: &mut Findings) {
    let remedy = format!("create it, or give the ARN of the one that {meant} registers in");
    findings.broken("target_group_missing", subject, "there is no such target group", remedy);
}

/// Checks that a load balancer forwards to it; `attach` is what to do otherwise.
pub(super) fn check_balancers(subject: &str, group: &InspectedTargetGroup, attach: &str, findings: &mut Findings) {
    if group.balancers.is_empty() {
        let problem =
            "no rule forwards to it: its targets are `unused`, and ECS refuses the service that registers there";
        findings.broken("target_group_unattached", subject, problem, attach);
    }
}

/// Checks its deregistration delay against the deadline until which tasks that go have to be gone.
pub(super) fn check_draining(
    subject: &str,
    group: &InspectedTargetGroup,
    gone: &TimeLimit<'_>,
    findings: &mut Findings,
) {
    let delay = Seconds(u64::from(group.deregistration_delay_s));
    if delay.0 == 0 {
        let problem = "its deregistration delay is 0: requests in flight are cut off when a task goes";
        let remedy = "set deregistration_delay to what the longest request takes, 30 seconds say";
        findings.risky("drain_none", subject, problem, remedy);
    } else if delay >= gone.limit {
        let TimeLimit { name, limit, consequence } = gone;
        let problem = format!("its deregistration delay is {delay}, and the deadline `{name}` {limit}: {consequence}");
        let remedy = format!("shorten deregistration_delay, or lengthen `deadlines.{name}`");
        findings.risky("drain_outlasts_deadline", subject, problem, remedy);
    } else if group.deregistration_delay_s > SLOW_DRAIN_S {
        let problem = format!("its deregistration delay is {delay}: that long every task takes to go");
        let remedy = "set deregistration_delay to what the longest request takes, 30 seconds say";
        findings.advice("drain_long", subject, problem, remedy);
    }
}

/// Checks that a new target can be healthy before the deadline `healthy`.
pub(super) fn check_first_health(
    subject: &str,
    group: &InspectedTargetGroup,
    deadline: Seconds,
    findings: &mut Findings,
) {
    let healthy = Seconds(u64::from(group.check_interval_s) * u64::from(group.healthy_threshold));
    if healthy >= deadline {
        let problem = format!(
            "its health check needs {healthy} for a first yes, and the deadline `healthy` is {deadline}: no candidate \
             is healthy in time"
        );
        findings.broken(
            "health_check_slow",
            subject,
            problem,
            "shorten the interval or the healthy threshold, or lengthen the deadline",
        );
    }
}

/// Checks that an ill target is noticed while the new version is watched: `watched` is the longest such time,
/// `too_short` says so, and `remedy` is how to watch for longer.
pub(super) fn check_illness(
    subject: &str,
    group: &InspectedTargetGroup,
    watched: Seconds,
    [too_short, remedy]: [&str; 2],
    findings: &mut Findings,
) {
    let unhealthy = Seconds(u64::from(group.check_interval_s) * u64::from(group.unhealthy_threshold));
    if unhealthy > watched {
        let problem =
            format!("its health check notices after {unhealthy} that a target is ill, and {too_short} {watched}");
        let remedy = format!("shorten the interval or the unhealthy threshold, or {remedy}");
        findings.risky("health_check_blind", subject, problem, remedy);
    }
}
