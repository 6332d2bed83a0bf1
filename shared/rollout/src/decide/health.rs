//! Health checks: whether a deployment may widen, and whether it has to roll back. They judge the observation and
//! change nothing: rules as decided, no alarm firing, candidate healthy.

use super::tasks;
use super::transition::Change;
use crate::deployment::{Deployment, Purpose};
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::names::Slot;
use crate::policy::{AlarmAtStart, AlarmEffect, AlarmPolicy, MissingData, StableFiring};
use crate::snapshot::{AlarmReading, Reading, RuleReading, Snapshot, Weights};
use crate::time::Seconds;
use crate::verdict::Cause;
use crate::weighted::{Candidate, Forward, ForwardStep, Weighted, WeightedStage};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Poll interval while alarms and health are watched.
pub(super) const WATCH_POLL: Seconds = Seconds(15);
/// Retry interval after a failed reading.
pub(super) const UNREAD_POLL: Seconds = Seconds(5);
/// How long after its first traffic an alarm of one side may still have no data: CloudWatch receives load balancer
/// metrics one to three minutes late, and the shortest period is one minute.
const FIRST_DATA: Seconds = Seconds(300);

/// Describes a rule's actual and expected weights.
pub(super) fn describe_rule(arn: &str, rule: &RuleReading, expected: Weights) -> String {
    let Weights { blue, green } = rule.weights;
    format!(
        "{} has blue {blue} / green {green}{}, expected blue {} / green {}",
        short_rule(arn),
        foreign_groups(rule),
        expected.blue,
        expected.green,
    )
}

/// Whether any rule sends traffic to this side, whoever configured it: a side that had traffic is not scaled down at
/// once.
pub(super) fn has_traffic(snapshot: &Snapshot, slot: Slot) -> bool {
    snapshot.rules.iter().any(|rule| rule.known().is_some_and(|rule| rule.weights.of(slot) > 0))
}

/// The last two parts of a rule's or listener's ARN, as shown in the AWS console's URL.
pub(super) fn short_rule(arn: &str) -> String {
    let mut parts = arn.rsplit('/').take(2).collect::<Vec<_>>();
    parts.reverse();
    format!("rule …{}", parts.join("/"))
}

/// Whether the rule forwards to both sides and to no other target group.
pub(super) fn rule_is_sound(rule: &RuleReading) -> bool {
    rule.has_both_groups && rule.foreign_groups.is_empty()
}

/// Describes a rule's foreign target groups and missing sides; appended after its weights.
pub(super) fn foreign_groups(rule: &RuleReading) -> String {
    let others = rule.foreign_groups.join(", ");
    match (rule.has_both_groups, rule.weights.blue, rule.weights.green) {
        (true, ..) if others.is_empty() => String::new(),
        (true, ..) => format!(" and also forwards to {others}"),
        // Both weights are 0, which does not tell whether one of the two sides is in the rule.
        (false, 0, 0) if others.is_empty() => " and forwards to neither side".to_owned(),
        (false, 0, 0) => format!(" and forwards to neither side, but to {others}"),
        (false, blue, _) => {
            let lacking = if blue == 0 { Slot::Blue } else { Slot::Green };
            let others = if others.is_empty() { String::new() } else { format!(", and also forwards to {others}") };
            format!(" and lacks {lacking}'s target group{others}")
        }
    }
}

/// The inputs of the checks of a candidate: a deployment with both sides, and its observation.
#[derive(Clone, Copy)]
pub(super) struct HealthInput<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) weighted: &'a Weighted,
    pub(super) snapshot: &'a Snapshot,
}

/// The live weights of the rules, compared with the weights that were decided last.
pub(super) enum LiveWeights {
    /// Every rule has the decided weights.
    AsDecided,
    /// Some rule still has other weights.
    NotYet,
    /// Some rule could not be read.
    Unknown(String),
}

/// Compares the live rules with the weights decided last.
pub(super) fn live_weights(deployment: &Deployment, weighted: &Weighted, snapshot: &Snapshot) -> LiveWeights {
    let Some(record) = weighted.weights else { return LiveWeights::NotYet };
    let mut result = LiveWeights::AsDecided;
    for rule in &snapshot.rules {
        match rule {
            Reading::Unknown(reason) => return LiveWeights::Unknown(format!("a rule could not be read: {reason}")),
            Reading::Known(rule) if !rule.weights.same_split(record.decided) => result = LiveWeights::NotYet,
            Reading::Known(_) => {}
        }
    }
    if snapshot.rules.len() < deployment.policy.resources.rules().count() {
        return LiveWeights::Unknown("not every rule was read".to_owned());
    }
    result
}

/// Combined result of all alarms.
pub(super) enum Alarms {
    /// No alarm stands in the way.
    Clear,
    /// An alarm fires for which the deployment rolls back.
    Firing { name: String, reason: String },
    /// An alarm on the stable side alone fires. The deployment does not roll back to that side.
    StableFiring { name: String, reason: String },
    /// An alarm fires that holds the deployment.
    Holding { name: String, reason: String },
    /// No alarm fires, but some give no result.
    Silent(Silence),
    /// The alarms could not be read.
    Unknown(String),
}

/// The alarms that give no result, by reason.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Alarms without data.
    pub(super) without_data: BTreeSet<String>,
    /// Alarms that do not exist in CloudWatch.
    pub(super) absent: BTreeSet<String>,
    /// Alarms that CloudWatch does not evaluate, with its explanation.
    pub(super) not_evaluated: BTreeMap<String, String>,
}

impl Silence {
    fn is_empty(&self) -> bool {
        self.without_data.is_empty() && self.absent.is_empty() && self.not_evaluated.is_empty()
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let mut parts = Vec::new();
        if !self.absent.is_empty() {
            parts.push(format!("CloudWatch has no alarm {}", list(&self.absent)));
        }
        let not_evaluated = self.not_evaluated.iter();
        parts.extend(not_evaluated.map(|(name, reason)| format!("alarm {name} is not evaluated ({reason})")));
        if !self.without_data.is_empty() {
            parts.push(format!("no data from {}", list(&self.without_data)));
        }
        formatter.write_str(&parts.join("; "))
    }
}

/// Evaluates the policy's alarms; an alarm that fired at the start and was overridden does not count. A deployment back
/// to an earlier release is judged by its tasks, their health and its deadlines, not by alarms: they fire because of
/// what it removes.
///
/// Missing data of an alarm on one side alone means nothing while that side has no traffic: the load balancer publishes
/// no data point for a target group without requests (ELB User Guide, "CloudWatch metrics for your Application Load
/// Balancer"). Shortly after the side received traffic, missing data counts neither as failure nor as health: the
/// deployment waits for it.
///
/// `weighted`: `None` where there are no sides, or before they are determined.
pub(super) fn alarms(
    deployment: &Deployment,
    weighted: Option<&Weighted>,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Alarms {
    if deployment.purpose != Purpose::Deploy || judged_alarms(deployment).next().is_none() {
        return Alarms::Clear;
    }
    let readings = match &snapshot.alarms {
        Reading::Known(readings) => readings,
        Reading::Unknown(reason) => return Alarms::Unknown(format!("the alarms could not be read: {reason}")),
    };
    let mut silent = Silence::default();
    let (mut stable_firing, mut holding) = (None, None);
    for alarm in judged_alarms(deployment) {
        if deployment.overrides.firing_alarms.contains(&alarm.name) {
            continue;
        }
        let firing = match opinion(alarm, readings.get(&alarm.name), weighted, snapshot, now) {
            AlarmOpinion::Clear => continue,
            AlarmOpinion::Firing(reason) => reason,
            AlarmOpinion::WithoutData => {
                silent.without_data.insert(alarm.name.clone());
                continue;
            }
            AlarmOpinion::NotEvaluated(reason) => {
                silent.not_evaluated.insert(alarm.name.clone(), reason);
                continue;
            }
            AlarmOpinion::Absent => {
                silent.absent.insert(alarm.name.clone());
                continue;
            }
        };
        match (watches_stable(alarm, weighted, snapshot), alarm.firing) {
            (false, AlarmEffect::Back) => return Alarms::Firing { name: alarm.name.clone(), reason: firing },
            (false, AlarmEffect::Hold | AlarmEffect::Tell) => {
                holding.get_or_insert((alarm.name.clone(), firing));
            }
            // It holds, or the deployment goes on; it never goes back to the side that the alarm is about.
            (true, _) if alarm.stable_firing == StableFiring::Hold => {
                stable_firing.get_or_insert((alarm.name.clone(), firing));
            }
            (true, _) => {}
        }
    }
    match (stable_firing, holding) {
        (Some((name, reason)), _) => Alarms::StableFiring { name, reason },
        (None, Some((name, reason))) => Alarms::Holding { name, reason },
        (None, None) if silent.is_empty() => Alarms::Clear,
        (None, None) => Alarms::Silent(silent),
    }
}

/// What the alarms mean for a step that would widen traffic or finish.
pub(super) enum AlarmCheck {
    /// Nothing stands in the way.
    Clear,
    /// The deployment rolls back.
    RollBack(Cause),
    /// It waits, at most until the step's deadline.
    Wait { on: WaitingOn, poll: Seconds },
    /// An alarm on the stable side alone holds it.
    HeldByStable { name: String, reason: String },
    /// The alarms could not be read.
    Unread(String),
}

/// Checks the alarms before a step whose deadline is `deadline`.
pub(super) fn check_alarms(alarms: Alarms, deadline: Timestamp, now: Timestamp) -> AlarmCheck {
    match alarms {
        Alarms::Clear => AlarmCheck::Clear,
        Alarms::Firing { name, reason } => AlarmCheck::RollBack(Cause::Alarm { name, reason }),
        Alarms::StableFiring { name, reason } => AlarmCheck::HeldByStable { name, reason },
        Alarms::Holding { name, reason } if now >= deadline => AlarmCheck::RollBack(Cause::Alarm { name, reason }),
        Alarms::Holding { name, reason } => {
            AlarmCheck::Wait { on: WaitingOn::FiringAlarm { name, reason, deadline }, poll: WATCH_POLL }
        }
        Alarms::Unknown(reason) => AlarmCheck::Unread(reason),
        Alarms::Silent(silence) if now >= deadline => {
            AlarmCheck::RollBack(Cause::Deadline { reason: format!("{silence}: silence is not health") })
        }
        Alarms::Silent(Silence { without_data: names, absent, not_evaluated }) => {
            AlarmCheck::Wait { on: WaitingOn::Alarms { names, absent, not_evaluated, deadline }, poll: WATCH_POLL }
        }
    }
}

/// The alarms that can hold or roll back a deployment.
pub(super) fn judged_alarms(deployment: &Deployment) -> impl Iterator<Item = &AlarmPolicy> {
    deployment.policy.alarms.iter().filter(|alarm| alarm.firing != AlarmEffect::Tell)
}

/// What an alarm says, by the policy's reading of silence.
enum AlarmOpinion {
    /// All is well, or its silence means nothing.
    Clear,
    /// It fires, or its silence counts as failure; with CloudWatch's reason or ours.
    Firing(String),
    /// It has no data, which is neither good nor bad.
    WithoutData,
    /// CloudWatch does not evaluate it, with its reason.
    NotEvaluated(String),
    /// CloudWatch has no such alarm.
    Absent,
}

fn opinion(
    alarm: &AlarmPolicy,
    reading: Option<&AlarmReading>,
    weighted: Option<&Weighted>,
    snapshot: &Snapshot,
    now: Timestamp,
) -> AlarmOpinion {
    let side = snapshot.alarm_sides.get(&alarm.name).copied();
    match (reading, alarm.missing) {
        (Some(AlarmReading::Ok), _) | (Some(AlarmReading::NoData), MissingData::Healthy) => AlarmOpinion::Clear,
        (Some(AlarmReading::NotEvaluated { .. }), MissingData::Healthy) => AlarmOpinion::Clear,
        (Some(AlarmReading::NoData), _) if side.is_some_and(|side| !may_have_traffic(weighted, snapshot, side)) => {
            AlarmOpinion::Clear
        }
        (Some(AlarmReading::Firing { reason }), _) => AlarmOpinion::Firing(reason.clone()),
        (Some(AlarmReading::NoData), MissingData::Unhealthy) if !awaits_first_data(weighted, side, now) => {
            AlarmOpinion::Firing("it has no data, and the policy takes silence for failure".to_owned())
        }
        (Some(AlarmReading::NotEvaluated { reason }), MissingData::Unhealthy) => {
            AlarmOpinion::Firing(format!("it is not evaluated ({reason}), and the policy takes silence for failure"))
        }
        (Some(AlarmReading::NoData), _) => AlarmOpinion::WithoutData,
        (Some(AlarmReading::NotEvaluated { reason }), MissingData::Wait) => AlarmOpinion::NotEvaluated(reason.clone()),
        (Some(AlarmReading::Absent) | None, _) => AlarmOpinion::Absent,
    }
}

/// Whether the alarm watches the stable side alone.
fn watches_stable(alarm: &AlarmPolicy, weighted: Option<&Weighted>, snapshot: &Snapshot) -> bool {
    let side = snapshot.alarm_sides.get(&alarm.name);
    weighted.is_some_and(|weighted| side == Some(&weighted.sides.stable))
}

/// The alarms that people are to be notified of although they do not roll the deployment back.
pub(super) struct NoticedAlarms {
    /// Those that fire, with their reason and what they do. An alarm of the stable side that holds is not among them: it
    /// has a notification of its own.
    pub(super) firing: BTreeMap<String, (String, AlarmEffect)>,
    /// Those that CloudWatch reports as OK.
    pub(super) ok: BTreeSet<String>,
}

/// `None`: the alarms could not be read, or do not count for this deployment.
pub(super) fn noticed_alarms(
    deployment: &Deployment,
    weighted: Option<&Weighted>,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Option<NoticedAlarms> {
    let readings = snapshot.alarms.known().filter(|_| deployment.purpose == Purpose::Deploy)?;
    let mut noticed = NoticedAlarms { firing: BTreeMap::new(), ok: BTreeSet::new() };
    for alarm in deployment.policy.alarms.iter().filter(|alarm| alarm.firing != AlarmEffect::Back) {
        let reading = readings.get(&alarm.name);
        if matches!(reading, Some(AlarmReading::Ok)) {
            noticed.ok.insert(alarm.name.clone());
        }
        let holds_stable = alarm.firing == AlarmEffect::Hold && watches_stable(alarm, weighted, snapshot);
        if holds_stable || deployment.overrides.firing_alarms.contains(&alarm.name) {
            continue;
        }
        if let AlarmOpinion::Firing(reason) = opinion(alarm, reading, weighted, snapshot, now) {
            noticed.firing.insert(alarm.name.clone(), (reason, alarm.firing));
        }
    }
    Some(noticed)
}

/// Changes that journal which of these alarms have begun to fire or have cleared, and those that are known to fire then;
/// `None`: nothing changed. `known`: those that were known to fire.
pub(super) fn changed_notices(
    known: &BTreeSet<String>,
    seen: &NoticedAlarms,
) -> Option<(Vec<Change>, BTreeSet<String>)> {
    let started = seen.firing.iter().filter(|(name, _)| !known.contains(*name)).map(|(name, (reason, effect))| {
        Fact::AlarmFiring { alarm: name.clone(), reason: reason.clone(), holds: *effect == AlarmEffect::Hold }
    });
    // Silence clears nothing, and neither does a person who accepts it.
    let cleared = known.intersection(&seen.ok).map(|name| Fact::AlarmCleared { alarm: name.clone() });
    let changes: Vec<Change> = started.chain(cleared).map(Change::Fact).collect();
    let now = || known.difference(&seen.ok).chain(seen.firing.keys()).cloned().collect();
    (!changes.is_empty()).then(|| (changes, now()))
}

/// The alarms that fire at the start of a deployment and do not block it, with their reason.
pub(super) fn passed_at_start(
    deployment: &Deployment,
    snapshot: &Snapshot,
    now: Timestamp,
) -> BTreeMap<String, String> {
    let Some(readings) = snapshot.alarms.known().filter(|_| deployment.purpose == Purpose::Deploy) else {
        return BTreeMap::new();
    };
    let passes = judged_alarms(deployment).filter(|alarm| {
        alarm.at_start == AlarmAtStart::Pass && !deployment.overrides.firing_alarms.contains(&alarm.name)
    });
    passes
        .filter_map(|alarm| match opinion(alarm, readings.get(&alarm.name), None, snapshot, now) {
            AlarmOpinion::Firing(reason) => Some((alarm.name.clone(), reason)),
            _ => None,
        })
        .collect()
}

/// Whether the side has traffic, or may have some: while a rule cannot be read, the decided weights count.
fn may_have_traffic(weighted: Option<&Weighted>, snapshot: &Snapshot, side: Slot) -> bool {
    let unread = snapshot.rules.iter().any(|rule| rule.known().is_none());
    let record = weighted.and_then(|weighted| weighted.weights);
    let left = record.is_some_and(|record| record.decided.of(side) > 0);
    has_traffic(snapshot, side) || (unread && left)
}

/// Whether an alarm on the candidate's side alone cannot be expected to have data yet.
fn awaits_first_data(weighted: Option<&Weighted>, side: Option<Slot>, now: Timestamp) -> bool {
    weighted.is_some_and(|weighted| {
        side == Some(weighted.candidate_slot())
            && weighted.traffic_since.is_none_or(|since| now < FIRST_DATA.after(since))
    })
}

/// The reason to stop retrying: AWS refused permanently, or the deadline has passed.
pub(super) fn give_up_cause(
    deployment: &Deployment,
    now: Timestamp,
    deadline: Timestamp,
    waited_for: &str,
) -> Option<Cause> {
    let over = now >= deadline;
    match &deployment.effect_failure {
        Some(failure) if failure.refused => Some(Cause::Refused { reason: failure.reason.clone() }),
        Some(failure) if over => {
            Some(Cause::Deadline { reason: format!("{waited_for} (last try: {})", failure.reason) })
        }
        _ => over.then(|| Cause::Deadline { reason: waited_for.to_owned() }),
    }
}

/// Whether the candidate may carry (more) traffic.
pub(super) enum Readiness {
    /// Every target is healthy.
    Ready { healthy: u32 },
    /// Tasks or targets are missing, or not all are healthy.
    NotYet { healthy: u32, detail: String },
    /// The candidate will not start: ECS reported a permanent failure.
    Never { reason: String },
    /// The candidate's side could not be read.
    Unknown(String),
}

/// Judges the candidate: the right version, `want` tasks running, every target healthy.
pub(super) fn candidate_readiness(on: &HealthInput<'_>, candidate: &Candidate, want: u32, now: Timestamp) -> Readiness {
    let HealthInput { deployment, weighted, snapshot } = *on;
    let slot = weighted.candidate_slot();
    let version = &candidate.version;
    let side = match snapshot.side(slot) {
        Reading::Known(side) => side,
        Reading::Unknown(reason) => return Readiness::Unknown(format!("{slot} could not be read: {reason}")),
    };
    let healthy = side.targets.healthy;
    if let Some(reason) = &side.circuit_breaker_reason {
        return Readiness::Never { reason: format!("ECS gave up: {reason}") };
    }
    if let Some(reason) = tasks::too_many_failed(deployment, candidate, side, snapshot.side(slot.other()).known()) {
        return Readiness::Never { reason };
    }
    if let Some(reason) = tasks::launch_failure(deployment, side, want, now) {
        return Readiness::Never { reason };
    }
    if &side.version != version {
        if candidate.seen_running {
            let reason = format!(
                "{slot} runs {} again: ECS's circuit breaker or somebody else took {} away",
                side.version, version
            );
            return Readiness::Never { reason };
        }
        return Readiness::NotYet { healthy, detail: format!("{slot} does not run the new version yet") };
    }
    let targets = side.targets;
    let detail = || {
        let mut parts = vec![format!("{} of {want} tasks running", side.running)];
        for (count, state) in
            [(targets.initial, "starting"), (targets.unhealthy, "unhealthy"), (targets.unused, "unused")]
        {
            if count > 0 {
                parts.push(format!("{count} targets {state}"));
            }
        }
        if let Some(failed) = side.failed_starts.first() {
            parts.push(format!("a task stopped: {}", failed.reason));
        }
        if let Some(event) = &side.placement_failure
            && side.running < want
        {
            parts.push(tasks::not_placed(&side.placed_by, event));
        }
        parts.join(", ")
    };
    if side.running < want || healthy < want || healthy < targets.registered() {
        return Readiness::NotYet { healthy, detail: detail() };
    }
    Readiness::Ready { healthy }
}

/// Why a candidate with traffic can no longer serve: a reason to roll back without waiting for a deadline.
pub(super) fn candidate_failure(on: &HealthInput<'_>) -> Option<Cause> {
    let slot = on.weighted.candidate_slot();
    let forward = match &on.weighted.at {
        WeightedStage::Forward(forward) => Some(forward),
        _ => None,
    };
    let was_given_traffic = forward.is_some_and(|forward| {
        !matches!(
            forward.step,
            ForwardStep::BeforeTraffic { .. }
                | ForwardStep::Scaling { .. }
                | ForwardStep::Testing { .. }
                | ForwardStep::Writing { .. }
        )
    });
    if !was_given_traffic && !has_traffic(on.snapshot, slot) {
        return None;
    }
    // All of its targets are gone: the load balancer would fail open.
    if let Some(side) = on.snapshot.side(slot).known().filter(|side| side.targets.healthy == 0) {
        let reason = format!("{slot} has no healthy target left ({} running)", side.running);
        return Some(Cause::Unhealthy { reason });
    }
    match forward {
        Some(Forward { step: ForwardStep::Draining { .. }, .. }) | None => None,
        Some(forward) => match candidate_readiness(on, &forward.candidate, 0, Timestamp::MIN) {
            Readiness::Never { reason } => Some(Cause::Tasks { reason }),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests;
