//! What must hold before anything widens: the rules are as they were left, no alarm fires, the candidate is fit.

use super::back;
use super::pass::{Flow, Pass, live_side};
use super::{frozen, queue};
use crate::journal::Fact;
use crate::names::Slot;
use crate::policy::MissingData;
use crate::snapshot::{AlarmReading, Reading, RuleReading, Snapshot};
use crate::stage::{Cause, RetirePhase, RollbackPhase, Stage};
use crate::target::{Deployment, Halt, Purpose, WaitingOn};
use crate::time::Seconds;
use jiff::Timestamp;
use std::collections::BTreeSet;

/// How soon a reading that could not be had is tried again.
pub(super) const UNREAD_POLL: Seconds = Seconds(5);
/// How soon a rule is read again that may have been read as it was before the last writes.
const LAG_POLL: Seconds = Seconds(2);
/// How often a halted rule is looked at; a person works on it.
const HALTED_POLL: Seconds = Seconds(20);
/// A candidate whose tasks stopped by themselves this often will not come up. One may be an accident of its host.
const MOST_FAILED_STARTS: usize = 2;
/// A task that cannot be placed for this long will not be; capacity providers add a host within it or not at all.
const PLACEMENT_PATIENCE: Seconds = Seconds(60);

/// What is checked whatever the stage is: a foreign edit halts, a firing alarm turns back, and so does a newer release
/// that takes the place of this one.
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
        Stage::LettingGo { .. } | Stage::RollingBack { phase: RollbackPhase::WeightsBack, .. } => return Flow::Onward,
        _ => {}
    }
    if let Flow::Wait = foreign_edit(pass, deployment, snapshot) {
        return Flow::Wait;
    }
    match &deployment.stage {
        Stage::RollingBack { .. } | Stage::LettingGo { .. } => return Flow::Onward,
        Stage::Retiring { phase: RetirePhase::ScalingDown, .. } => return Flow::Onward,
        _ => {}
    }
    if let Alarms::Firing { name, reason } = alarms(deployment, snapshot) {
        back::begin(pass, deployment, Cause::Alarm { name, reason });
        return frozen::wait(pass, deployment, snapshot);
    }
    queue::give_way(pass, deployment)
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
            strange = Some(format!(
                "{} has blue {} / green {}{}, and Switchback left it at blue {} / green {}",
                short_rule(arn),
                rule.weights.blue,
                rule.weights.green,
                strangers(rule),
                record.decided.blue,
                record.decided.green,
            ));
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
    let going_back = matches!(deployment.stage, Stage::RollingBack { .. });
    if !going_back && stable.is_some() && live_side(snapshot) == stable && deployment.way_back().is_some() {
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

pub(super) fn strangers(rule: &RuleReading) -> String {
    match (rule.has_both, rule.strangers.is_empty()) {
        (true, true) => String::new(),
        (false, _) => " and lacks one of the two target groups".to_owned(),
        (true, false) => format!(" and also forwards to {}", rule.strangers.join(", ")),
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
    Firing { name: String, reason: String },
    Silent(BTreeSet<String>),
    Unknown(String),
}

/// Judges the policy's alarms; one that fired at the start and was overridden does not count. A deployment that goes
/// back to an older release is not judged by alarms: they fire for what it takes away, and a rollback is never
/// rolled back.
pub(super) fn alarms(deployment: &Deployment, snapshot: &Snapshot) -> Alarms {
    if deployment.policy.alarms.is_empty() || deployment.purpose != Purpose::Deploy {
        return Alarms::Clear;
    }
    let readings = match &snapshot.alarms {
        Reading::Known(readings) => readings,
        Reading::Unknown(reason) => return Alarms::Unknown(format!("the alarms could not be read: {reason}")),
    };
    let mut silent = BTreeSet::new();
    for alarm in &deployment.policy.alarms {
        if deployment.overrides.firing_alarms.contains(&alarm.name) {
            continue;
        }
        match (readings.get(&alarm.name), alarm.missing) {
            (Some(AlarmReading::Ok), _) | (Some(AlarmReading::NoData), MissingData::Healthy) => {}
            (Some(AlarmReading::Firing { reason }), _) => {
                return Alarms::Firing { name: alarm.name.clone(), reason: reason.clone() };
            }
            (Some(AlarmReading::NoData), MissingData::Unhealthy) => {
                let reason = "it has no data, and the policy takes silence for failure".to_owned();
                return Alarms::Firing { name: alarm.name.clone(), reason };
            }
            (Some(AlarmReading::NoData), MissingData::Wait) | (Some(AlarmReading::Absent) | None, _) => {
                silent.insert(alarm.name.clone());
            }
        }
    }
    if silent.is_empty() { Alarms::Clear } else { Alarms::Silent(silent) }
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
    if let Some(newest) = side.failed_starts.first()
        && side.failed_starts.len() >= MOST_FAILED_STARTS
    {
        return Fit::Never {
            reason: format!("{} tasks stopped, the last one: {}", side.failed_starts.len(), newest.reason),
        };
    }
    // Counted from the stage's start: the newest event alone would move its own beginning every time it is written.
    if let Some(event) = &side.placement_failure
        && side.running < want
        && now >= PLACEMENT_PATIENCE.after(deployment.stage_entered_at)
    {
        return Fit::Never { reason: event.message.clone() };
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
            parts.push(event.message.clone());
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
