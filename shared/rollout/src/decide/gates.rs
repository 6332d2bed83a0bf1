//! What must hold before anything widens: the rules are as they were left, no alarm fires, the candidate is fit.

use super::back;
use super::pass::{Flow, Pass, live_side};
use super::{frozen, queue, tasks};
use crate::journal::Fact;
use crate::names::Slot;
use crate::policy::{MissingData, StableFiring};
use crate::snapshot::{AlarmReading, Reading, RuleReading, Snapshot, Weights};
use crate::stage::{Cause, RetirePhase, ShiftPhase, Stage};
use crate::target::{Deployment, Halt, Purpose, WaitingOn};
use crate::time::Seconds;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How soon a reading that could not be had is tried again.
pub(super) const UNREAD_POLL: Seconds = Seconds(5);
/// How soon a rule is read again that may have been read as it was before the last writes.
const LAG_POLL: Seconds = Seconds(2);
/// How often a halted rule is looked at; a person works on it.
const HALTED_POLL: Seconds = Seconds(20);
/// How long after its first traffic an alarm of one side may still have no data: CloudWatch has metrics of a balancer one
/// to three minutes late, and the shortest period is one minute.
const FIRST_NEWS: Seconds = Seconds(300);

/// What is checked whatever the stage is. A reason to go back (a firing alarm, a dead candidate, a newer release that takes
/// the place of this one) comes before what only holds: a rule that somebody else edited.
pub(super) fn before_any_stage(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot) -> Flow {
    if let Some(alarms) = snapshot.alarms.known() {
        // An override is for the alarm that fired at the start: once it was OK, it is judged like any other.
        deployment.overrides.firing_alarms.retain(|name| !matches!(alarms.get(name), Some(AlarmReading::Ok)));
    }
    if deployment.frozen.is_some() {
        return frozen::wait(pass, deployment, snapshot);
    }
    match &deployment.stage {
        Stage::Preflight { .. } => return queue::give_way(pass, deployment),
        Stage::LettingGo { .. } => return Flow::Onward,
        Stage::RollingBack { .. } => {
            back::put_back_again(pass, deployment, snapshot);
            return Flow::Onward;
        }
        Stage::Retiring { phase: RetirePhase::ScalingDown, .. } => return foreign_edit(pass, deployment, snapshot),
        _ => {}
    }
    let seen = alarms(deployment, snapshot, pass.now);
    note_stable_alarm(pass, deployment, &seen);
    if let Alarms::Firing { name, reason } = seen {
        back::begin(pass, deployment, Cause::Alarm { name, reason });
        return frozen::wait(pass, deployment, snapshot);
    }
    if let Some(cause) = fallen(deployment, snapshot) {
        back::begin(pass, deployment, cause);
        return frozen::wait(pass, deployment, snapshot);
    }
    match queue::give_way(pass, deployment) {
        Flow::Onward if matches!(deployment.stage, Stage::RollingBack { .. }) => Flow::Onward,
        Flow::Onward => foreign_edit(pass, deployment, snapshot),
        stopped => stopped,
    }
}

/// People are called once when the stable side's own alarm begins to fire, and told when that is over.
fn note_stable_alarm(pass: &mut Pass, deployment: &mut Deployment, seen: &Alarms) {
    let number = Some(deployment.number);
    match seen {
        // What the old side does after the bake is over keeps nothing back.
        Alarms::StableFiring { name, reason } if !deployment.stage.is_verified() => {
            if deployment.stable_alarm.as_ref().is_none_or(|(known, _)| known != name) {
                deployment.stable_alarm = Some((name.clone(), pass.now));
                pass.note(number, Fact::StableAlarm { alarm: name.clone(), reason: reason.clone() });
            }
        }
        Alarms::Unknown(_) => {}
        _ => {
            if let Some((alarm, _)) = deployment.stable_alarm.take() {
                pass.note(number, Fact::StableAlarmOver { alarm });
            }
        }
    }
}

/// The candidate carries traffic and cannot any more: no deadline is waited for, and nobody's edit.
fn fallen(deployment: &Deployment, snapshot: &Snapshot) -> Option<Cause> {
    let slot = deployment.candidate()?;
    let left_to_it = matches!(
        deployment.stage,
        Stage::Shifting { phase: ShiftPhase::Holding { .. }, .. }
            | Stage::AfterTraffic { .. }
            | Stage::Baking { .. }
            | Stage::KeepingWarm { .. }
            | Stage::Retiring { .. }
    );
    if !left_to_it && !has_traffic(snapshot, slot) {
        return None;
    }
    if let Some(reason) = candidate_is_dead(deployment, snapshot) {
        return Some(Cause::Unhealthy { reason });
    }
    if matches!(deployment.stage, Stage::Retiring { .. }) {
        return None;
    }
    match candidate(deployment, snapshot, 0, Timestamp::MIN) {
        Fit::Never { reason } => Some(Cause::Tasks { reason }),
        _ => None,
    }
}

/// Halts while a rule is not as this deployment left it.
fn foreign_edit(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot) -> Flow {
    let Some(record) = deployment.weights else { return Flow::Onward };
    // What it wrote itself a moment ago may still be read as it was.
    let may_lag = !record.verified || deployment.settles_at(pass.seen_at, pass.now).is_some();
    let (mut strange, mut unread) = (None, false);
    for (arn, rule) in deployment.policy.pair.rules.iter().zip(&snapshot.rules) {
        // What could not be read is not foreign; the stages wait for it where they need it.
        let Reading::Known(rule) = rule else {
            unread = true;
            continue;
        };
        let as_left = rule.weights.same_split(record.decided) || (may_lag && rule.weights.same_split(record.before));
        if !rule_is_sound(rule) || !as_left {
            strange = Some(described(arn, rule, if record.verified { record.decided } else { record.before }));
            break;
        }
    }
    // While a rule cannot be read nobody knows whether it was put back.
    let known = || deployment.halted.as_ref().filter(|_| unread).map(|halt| halt.reason.clone());
    let Some(reason) = strange.or_else(known) else {
        if deployment.halted.take().is_some() {
            deployment.resumed_at = Some(pass.now);
            pass.note(Some(deployment.number), Fact::Resumed);
        }
        return Flow::Onward;
    };
    if let Some(settled) = deployment.settles_at(pass.seen_at, pass.now).filter(|_| deployment.halted.is_none()) {
        // It may be what was so before several writes, some of which came to nothing: nobody is blamed for that yet.
        return pass.wait(WaitingOn::Settling { reason, until: settled }, LAG_POLL, settled);
    }
    let stable = deployment.sides.as_ref().map(|sides| sides.stable);
    if let Some(stable) = stable {
        deployment.traffic_moved |= has_traffic(snapshot, stable.other());
    }
    if stable.is_some() && live_side(snapshot) == stable && deployment.way_back().is_some() {
        // Somebody switched back by hand, everywhere: that is plain enough to follow.
        deployment.halted = None;
        back::begin(pass, deployment, Cause::ByHand);
        return Flow::Onward;
    }
    let deadline = match &deployment.halted {
        Some(halt) => halt.deadline,
        None => {
            let deadline = deployment.policy.deadlines.shift.after(pass.now);
            pass.note(Some(deployment.number), Fact::Halted { reason: reason.clone() });
            deadline
        }
    };
    deployment.halted = Some(Halt {
        reason: reason.clone(),
        since: deployment.halted.as_ref().map_or(pass.now, |halt| halt.since),
        deadline,
    });
    if pass.now >= deadline {
        deployment.halted = None;
        back::let_go(pass, deployment, format!("somebody else edited a rule: {reason}"));
        return Flow::Onward;
    }
    back::keep_up(pass, deployment, snapshot);
    pass.wait(WaitingOn::ForeignEdit { reason, deadline }, HALTED_POLL, deadline)
}

/// What a rule has, and what is expected of it.
pub(super) fn described(arn: &str, rule: &RuleReading, expected: Weights) -> String {
    let Weights { blue, green } = rule.weights;
    format!(
        "{} has blue {blue} / green {green}{}, expected blue {} / green {}",
        short_rule(arn),
        strangers(rule),
        expected.blue,
        expected.green,
    )
}

/// Some rule is seen to send this side traffic. Whoever gave it: a side that had traffic is not taken down at once.
pub(super) fn has_traffic(snapshot: &Snapshot, slot: Slot) -> bool {
    snapshot.rules.iter().any(|rule| rule.known().is_some_and(|rule| rule.weights.of(slot) > 0))
}

/// The last two parts of a rule's or listener's ARN: what people see in the console's address.
pub(super) fn short_rule(arn: &str) -> String {
    let mut parts = arn.rsplit('/').take(2).collect::<Vec<_>>();
    parts.reverse();
    format!("rule …{}", parts.join("/"))
}

/// Both sides are in it, and nobody else.
pub(super) fn rule_is_sound(rule: &RuleReading) -> bool {
    rule.has_both && rule.strangers.is_empty()
}

/// What a rule has beside both sides, and what it lacks of them; goes on after its weights.
pub(super) fn strangers(rule: &RuleReading) -> String {
    let others = rule.strangers.join(", ");
    match (rule.has_both, rule.weights.blue, rule.weights.green) {
        (true, ..) if others.is_empty() => String::new(),
        (true, ..) => format!(" and also forwards to {others}"),
        // Neither has a weight: whether one of the two is there all the same cannot be told from that.
        (false, 0, 0) if others.is_empty() => " and forwards to neither side".to_owned(),
        (false, 0, 0) => format!(" and forwards to neither side, but to {others}"),
        (false, blue, _) => {
            let lacking = if blue == 0 { Slot::Blue } else { Slot::Green };
            let others = if others.is_empty() { String::new() } else { format!(", and also forwards to {others}") };
            format!(" and lacks {lacking}'s target group{others}")
        }
    }
}

/// What the rules look like, if all of them could be read.
pub(super) enum Live {
    /// Every rule has the split that was decided.
    AsDecided,
    /// Some rule still has another split.
    NotYet,
    /// Some rule could not be read.
    Unknown(String),
}

/// Compares the live rules with what was decided last.
pub(super) fn live(deployment: &Deployment, snapshot: &Snapshot) -> Live {
    let Some(record) = deployment.weights else { return Live::NotYet };
    let mut result = Live::AsDecided;
    for rule in &snapshot.rules {
        match rule {
            Reading::Unknown(reason) => return Live::Unknown(format!("a rule could not be read: {reason}")),
            Reading::Known(rule) if !rule.weights.same_split(record.decided) => result = Live::NotYet,
            Reading::Known(_) => {}
        }
    }
    if snapshot.rules.len() < deployment.policy.pair.rules.len() {
        return Live::Unknown("not every rule was read".to_owned());
    }
    result
}

/// What the alarms say, taken together.
pub(super) enum Alarms {
    Clear,
    Firing {
        name: String,
        reason: String,
    },
    /// One that looks at the stable side alone fires. Nothing goes back to the side that it is about.
    StableFiring {
        name: String,
        reason: String,
    },
    Silent(Silence),
    Unknown(String),
}

/// Alarms that say nothing, by why they do not.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Those that have no data.
    pub(super) without_data: BTreeSet<String>,
    /// Those that CloudWatch does not have.
    pub(super) absent: BTreeSet<String>,
    /// Those that CloudWatch does not evaluate, with its words.
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

/// Judges the policy's alarms; one that fired at the start and was overridden does not count. A deployment that goes
/// back to an older release is not judged by alarms: they fire for what it takes away, and a rollback is never
/// rolled back.
///
/// The silence of an alarm that looks at one side alone means nothing while that side has no traffic: the balancer
/// publishes no data point for a target group without requests (ELB User Guide, "CloudWatch metrics for your Application
/// Load Balancer"). Shortly after the side got some it is no failure yet, and no health either: it is waited for.
pub(super) fn alarms(deployment: &Deployment, snapshot: &Snapshot, now: Timestamp) -> Alarms {
    if deployment.policy.alarms.is_empty() || deployment.purpose != Purpose::Deploy {
        return Alarms::Clear;
    }
    let readings = match &snapshot.alarms {
        Reading::Known(readings) => readings,
        Reading::Unknown(reason) => return Alarms::Unknown(format!("the alarms could not be read: {reason}")),
    };
    let mut silent = Silence::default();
    let mut stable_firing = None;
    for alarm in &deployment.policy.alarms {
        if deployment.overrides.firing_alarms.contains(&alarm.name) {
            continue;
        }
        let side = snapshot.alarm_sides.get(&alarm.name).copied();
        let firing = match (readings.get(&alarm.name), alarm.missing) {
            (Some(AlarmReading::Ok), _) | (Some(AlarmReading::NoData), MissingData::Healthy) => continue,
            (Some(AlarmReading::NotEvaluated { .. }), MissingData::Healthy) => continue,
            (Some(AlarmReading::NoData), _) if side.is_some_and(|side| !carries(deployment, snapshot, side)) => {
                continue;
            }
            (Some(AlarmReading::Firing { reason }), _) => reason.clone(),
            (Some(AlarmReading::NoData), MissingData::Unhealthy) if !is_young(deployment, side, now) => {
                "it has no data, and the policy takes silence for failure".to_owned()
            }
            (Some(AlarmReading::NotEvaluated { reason }), MissingData::Unhealthy) => {
                format!("it is not evaluated ({reason}), and the policy takes silence for failure")
            }
            (Some(AlarmReading::NoData), _) => {
                silent.without_data.insert(alarm.name.clone());
                continue;
            }
            (Some(AlarmReading::NotEvaluated { reason }), MissingData::Wait) => {
                silent.not_evaluated.insert(alarm.name.clone(), reason.clone());
                continue;
            }
            (Some(AlarmReading::Absent) | None, _) => {
                silent.absent.insert(alarm.name.clone());
                continue;
            }
        };
        let stable = deployment.sides.as_ref().map(|sides| sides.stable);
        if side.is_none() || side != stable {
            return Alarms::Firing { name: alarm.name.clone(), reason: firing };
        }
        if alarm.stable_firing == StableFiring::Hold {
            stable_firing.get_or_insert((alarm.name.clone(), firing));
        }
    }
    match stable_firing {
        Some((name, reason)) => Alarms::StableFiring { name, reason },
        None if silent.is_empty() => Alarms::Clear,
        None => Alarms::Silent(silent),
    }
}

/// Whether the side has traffic, as far as can be told.
fn carries(deployment: &Deployment, snapshot: &Snapshot, side: Slot) -> bool {
    let unread = snapshot.rules.iter().any(|rule| rule.known().is_none());
    let left = deployment.weights.is_some_and(|record| record.decided.of(side) > 0);
    has_traffic(snapshot, side) || (unread && left)
}

/// Whether an alarm that looks at the candidate's side alone cannot be expected to have data yet.
fn is_young(deployment: &Deployment, side: Option<Slot>, now: Timestamp) -> bool {
    side.is_some()
        && side == deployment.candidate()
        && deployment.traffic_since.is_none_or(|since| now < FIRST_NEWS.after(since))
}

/// Whether the candidate may carry (more) traffic.
pub(super) enum Fit {
    Yes {
        healthy: u32,
    },
    NotYet {
        healthy: u32,
        detail: String,
    },
    /// It will not come up: ECS says so.
    Never {
        reason: String,
    },
    Unknown(String),
}

/// Judges the candidate: the right task definition, `want` tasks running, every target healthy.
pub(super) fn candidate(deployment: &Deployment, snapshot: &Snapshot, want: u32, now: Timestamp) -> Fit {
    let (Some(slot), Some(task_definition)) = (deployment.candidate(), &deployment.task_definition) else {
        return Fit::Unknown("the sides are not settled".to_owned());
    };
    let side = match snapshot.side(slot) {
        Reading::Known(side) => side,
        Reading::Unknown(reason) => return Fit::Unknown(format!("{slot} could not be read: {reason}")),
    };
    let healthy = side.targets.healthy;
    if let Some(reason) = &side.gave_up {
        return Fit::Never { reason: format!("ECS gave up: {reason}") };
    }
    if let Some(reason) = tasks::too_many_failed(deployment, side, snapshot.side(slot.other()).known()) {
        return Fit::Never { reason };
    }
    if let Some(reason) = tasks::never_started(deployment, side, want, now) {
        return Fit::Never { reason };
    }
    if &side.task_definition != task_definition {
        if deployment.candidate_updated {
            let reason = format!(
                "{slot} runs {} again: ECS's circuit breaker or somebody else took {} away",
                side.task_definition, task_definition
            );
            return Fit::Never { reason };
        }
        return Fit::NotYet { healthy, detail: format!("{slot} does not run the new task definition yet") };
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
            parts.push(tasks::not_placed(side, event));
        }
        parts.join(", ")
    };
    if side.running < want || healthy < want || healthy < targets.registered() {
        return Fit::NotYet { healthy, detail: detail() };
    }
    Fit::Yes { healthy }
}

/// All of the candidate's targets are gone while it carries traffic: the balancer would fail open.
pub(super) fn candidate_is_dead(deployment: &Deployment, snapshot: &Snapshot) -> Option<String> {
    let slot = deployment.candidate()?;
    let side = snapshot.side(slot).known()?;
    (side.targets.healthy == 0).then(|| format!("{slot} has no healthy target left ({} running)", side.running))
}
