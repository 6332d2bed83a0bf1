//! Drift detection: compares what an idle target's observation shows with what the last deployment left.
//!
//! Each edit is reported once. The observation alone shows whether there is one; CloudTrail's event merely names its
//! author. Where the policy says so, weights are restored by a deployment of their own ([`Purpose::Repair`]), and never
//! onto a side without a healthy target.

use super::Inbox;
use super::builder::Builder;
use super::health;
use super::replacement;
use super::start::start;
use crate::command::{CommandId, DeployOptions, Overrides};
use crate::deployment::Purpose;
use crate::journal::Fact;
use crate::names::{Actor, Slot};
use crate::observation::idle_observation;
use crate::platform::Way;
use crate::policy::{Drift, TargetPolicy};
use crate::snapshot::{Reading, Snapshot, Weights};
use crate::target::{DetectedDrift, IdleState, Queued, StableSide};
use crate::template::{ConfigurationTrigger, TemplateReading};
use crate::time::Seconds;
use jiff::Timestamp;

/// Retry interval after a failed reading.
const UNREAD_POLL: Seconds = Seconds(60);
/// The same after throttling by AWS: idle observations are not urgent.
const THROTTLED_POLL: Seconds = Seconds(300);
/// After this many failed readings in a row, an unreadable resource is reported: a deleted rule or service looks like
/// this.
const MAX_FAILED_READS: u8 = 3;
/// How soon to check again whether the weights can be restored.
const REVERT_POLL: Seconds = Seconds(60);
/// Minimum time between two restorations of the weights, so that Switchback does not fight another tool that keeps
/// changing them.
const REVERT_PAUSE: Seconds = Seconds(600);

/// A difference between the observed and the recorded state.
struct FoundDrift {
    /// What was observed and what was expected.
    reason: String,
    /// Text about the health of the side that receives the traffic; empty: nothing to add. It is not part of `reason`:
    /// it changes with every task, and a changed reason is reported again.
    traffic_health: String,
    /// A rule sends traffic to the side that is not stable.
    moves_traffic: bool,
}

/// Compares the observation with the record and reports new differences.
pub(super) fn compare(builder: &mut Builder, inbox: &Inbox<'_>, snapshot: &Snapshot) {
    let (Some(applied), Some(stable)) = (inbox.policy, builder.state.stable.clone()) else { return };
    let policy = &applied.policy;
    let full = is_full(builder, policy, snapshot);
    let before = builder.state.idle.take();
    let (was, tries, services_seen_at) = match &before {
        Some(before) => (before.drift.clone(), before.failed_reads, before.services_seen_at),
        None => (None, 0, None),
    };
    let mut now = IdleState {
        seen_at: builder.seen_at,
        weights: common_weights(snapshot),
        services_seen_at: if full { Some(builder.seen_at) } else { services_seen_at },
        drift: was.clone(),
        failed_reads: 0,
        recheck_at: None,
        newer_template: newer_template(builder, inbox, before.as_ref()),
    };
    let mut found = first_difference(policy, &stable, snapshot, full);
    if let Some(reason) = unread(policy, snapshot, full) {
        now.failed_reads = if snapshot.throttled { tries } else { tries.saturating_add(1) };
        if found.is_none() && now.failed_reads < MAX_FAILED_READS {
            let poll = if snapshot.throttled { THROTTLED_POLL } else { UNREAD_POLL };
            now.services_seen_at = services_seen_at;
            return recheck(builder, now, poll.after(builder.now));
        }
        let reason = format!("{reason} ({MAX_FAILED_READS} looks in a row)");
        let unreadable = FoundDrift { reason, traffic_health: String::new(), moves_traffic: false };
        found.get_or_insert(unreadable);
    }
    let moves_traffic = found.as_ref().is_some_and(|found| found.moves_traffic);
    if moves_traffic && !full {
        // Whether anything serves the traffic there is known only after the services and their targets have been read.
        let at = builder.now;
        builder.observe_again();
        return recheck(builder, now, at);
    }
    // What a deployment could not finish is not a foreign edit, and was reported when the deployment ended.
    let known = builder.state.drift().is_some() && was.is_none();
    builder.record_traffic(snapshot, false);
    let found = found.filter(|found| !(known && found.moves_traffic));
    now.drift = match (was, found) {
        (was, Some(found)) => Some(note(builder, policy, snapshot, &stable, was, found)),
        (Some(_), None) => {
            builder.note(None, Fact::DriftResolved);
            None
        }
        (None, None) => None,
    };
    let wants_revert = now.drift.as_ref().is_some_and(|drift| drift.moves_traffic) && policy.drift == Drift::Revert;
    if wants_revert && revert_blocker(builder, snapshot, &stable).is_some() {
        return recheck(builder, now, REVERT_POLL.after(builder.now));
    }
    builder.state.idle = Some(now);
}

/// The newest template, if it is newer than the one that the stable version was made of and differs from what is live;
/// journalled once. While it cannot be read, the last known one stays.
fn newer_template(builder: &mut Builder, inbox: &Inbox<'_>, before: Option<&IdleState>) -> Option<TemplateReading> {
    let known = before.and_then(|before| before.newer_template.clone());
    let newest = match inbox.gate_context.and_then(|context| context.template.as_ref()) {
        Some(Reading::Known(newest)) => newest,
        Some(Reading::Unknown(_)) | None => return known,
    };
    let stable = builder.state.stable.as_ref().and_then(|stable| stable.template.as_ref());
    if stable == Some(&newest.version) || newest.is_unchanged() {
        return None;
    }
    if known.as_ref().is_none_or(|known| known.version != newest.version) {
        builder.note(None, Fact::TemplateFound { template: newest.clone() });
    }
    Some(newest.clone())
}

/// Deploys a newer template where the policy says so, unless it has failed here before.
pub(super) fn configure(builder: &mut Builder, inbox: &Inbox<'_>) {
    let Some(applied) = inbox.policy.filter(|applied| applied.policy.configuration == ConfigurationTrigger::Automatic)
    else {
        return;
    };
    let newer = builder.state.idle.as_ref().and_then(|idle| idle.newer_template.clone());
    let failed = builder.state.failed_template.as_ref();
    let Some(newer) = newer.filter(|newer| Some(&newer.version) != failed) else { return };
    let held = builder.state.operator_hold.is_some() || builder.state.promotion_hold.is_some();
    let busy = builder.state.running.is_some() || !builder.state.queued.is_empty();
    let release = builder.state.stable.as_ref().and_then(|stable| stable.release.clone());
    let Some(release) = release.filter(|_| !held && !busy) else { return };
    let order = Queued {
        options: DeployOptions { configuration: true, pushed_at: release.pushed_at, ..DeployOptions::default() },
        release,
        actor: Actor::Switchback,
        reason: format!("newer configuration: {}", newer.version.rsplit('/').next().unwrap_or_default()),
        overrides: Overrides::default(),
        command: CommandId(format!("configuration:{}", newer.version)),
        at: builder.now,
    };
    start(builder, order, Purpose::Deploy, None, applied);
}

/// Keeps what was observed, and observes again at `at`.
fn recheck(builder: &mut Builder, now: IdleState, at: Timestamp) {
    builder.observe_by(at);
    builder.state.idle = Some(IdleState { recheck_at: Some(at), ..now });
}

/// Whether the observation also covers the services and their targets.
fn is_full(builder: &Builder, policy: &TargetPolicy, snapshot: &Snapshot) -> bool {
    let by_itself = idle_observation(&builder.state, policy, false, builder.seen_at).is_some_and(|plan| plan.workloads);
    let known = [&snapshot.blue, &snapshot.green].into_iter().any(|side| side.known().is_some());
    by_itself || known || snapshot.workload.known().is_some() || snapshot.api_call.is_some()
}

/// The weights common to all rules; `None` if they differ.
fn common_weights(snapshot: &Snapshot) -> Option<Weights> {
    let mut all = snapshot.rules.iter().map(|rule| rule.known().map(|rule| rule.weights));
    let first = all.next()??;
    all.all(|weights| weights.is_some_and(|weights| weights.same_split(first))).then_some(first)
}

/// Describes the parts of the observation that could not be read.
fn unread(policy: &TargetPolicy, snapshot: &Snapshot, full: bool) -> Option<String> {
    for (arn, rule) in policy.resources.rules().zip(&snapshot.rules) {
        if let Reading::Unknown(reason) = rule {
            return Some(format!("{} could not be read: {reason}", health::short_rule(arn)));
        }
    }
    if !full {
        return None;
    }
    if policy.resources.platform.way() == Way::InPlace {
        return match &snapshot.workload {
            Reading::Unknown(reason) => Some(replacement::unread(reason)),
            Reading::Known(_) => None,
        };
    }
    Slot::BOTH.into_iter().find_map(|slot| match snapshot.side(slot) {
        Reading::Unknown(reason) => Some(format!("{slot} could not be read: {reason}")),
        Reading::Known(_) => None,
    })
}

/// The first difference from what the last deployment left, traffic first.
fn first_difference(policy: &TargetPolicy, stable: &StableSide, snapshot: &Snapshot, full: bool) -> Option<FoundDrift> {
    let rules = || policy.resources.rules().zip(&snapshot.rules).filter_map(|(arn, rule)| Some((arn, rule.known()?)));
    let quiet = |reason| Some(FoundDrift { reason, traffic_health: String::new(), moves_traffic: false });
    let Some(left) = stable.slot else {
        let workload = snapshot.workload.known().filter(|workload| workload.version != stable.version)?;
        return quiet(format!("the workload was left with {}; it is set to run {}", stable.version, workload.version));
    };
    let idle = left.other();
    if let Some((arn, rule)) = rules().find(|(_, rule)| rule.weights.sole_side() != Some(left)) {
        let Weights { blue, green } = rule.weights;
        let dead = snapshot.side(idle).known().is_some_and(|side| side.targets.healthy == 0);
        let traffic_health =
            if dead && rule.weights.of(idle) > 0 { format!("; {idle} has no healthy target") } else { String::new() };
        let (rule, others) = (health::short_rule(arn), health::foreign_groups(rule));
        let reason = format!("{rule} has blue {blue} / green {green}{others}; all of it was left on {left}");
        return Some(FoundDrift { reason, traffic_health, moves_traffic: true });
    }
    if let Some((arn, rule)) = rules().find(|(_, rule)| !health::rule_is_sound(rule)) {
        return quiet(format!(
            "{} sends all traffic to {left}{}",
            health::short_rule(arn),
            health::foreign_groups(rule)
        ));
    }
    let side = snapshot.side(left).known().filter(|_| full)?;
    if side.version != stable.version {
        return quiet(format!("{left} runs {}; it was left with {}", side.version, stable.version));
    }
    None
}

/// Journals a difference if it is new, or if its author has just become known.
fn note(
    builder: &mut Builder,
    policy: &TargetPolicy,
    snapshot: &Snapshot,
    stable: &StableSide,
    was: Option<DetectedDrift>,
    found: FoundDrift,
) -> DetectedDrift {
    let FoundDrift { reason, traffic_health, moves_traffic } = found;
    let was = was.filter(|was| was.reason == reason);
    let by = was.as_ref().and_then(|was| was.by.clone()).or_else(|| snapshot.api_call.clone());
    let since = was.as_ref().map_or(builder.now, |was| was.since);
    if was.is_none_or(|was| was.by != by) {
        let reverts = moves_traffic && policy.drift == Drift::Revert;
        let kept = if reverts { revert_blocker(builder, snapshot, stable) } else { None };
        builder.note(None, Fact::DriftDetected { reason: format!("{reason}{traffic_health}"), by: by.clone(), kept });
    }
    DetectedDrift { reason, since, by, moves_traffic }
}

/// Why weights are not restored although the policy says so; `None`: they are restored.
fn revert_blocker(builder: &Builder, snapshot: &Snapshot, stable: &StableSide) -> Option<String> {
    let Some(slot) = stable.slot else { return Some("there are no weights".to_owned()) };
    if stable.release.is_none() {
        return Some(format!("what runs on {slot} was not deployed by Switchback"));
    }
    if let Some(hold) = &builder.state.operator_hold {
        return Some(format!("the target awaits an operator since deployment #{}", hold.deployment));
    }
    match snapshot.side(slot) {
        Reading::Unknown(reason) => return Some(format!("{slot} could not be read: {reason}")),
        Reading::Known(side) if side.targets.healthy == 0 => return Some(format!("{slot} has no healthy target")),
        Reading::Known(_) => {}
    }
    let last = builder.state.reverted_at?;
    (builder.now < REVERT_PAUSE.after(last)).then(|| format!("they were put back at {last}, and were edited again"))
}

/// Restores weights where the policy says so: starts the repair deployment.
pub(super) fn revert(builder: &mut Builder, inbox: &Inbox<'_>, snapshot: &Snapshot) {
    let (Some(applied), Some(stable)) = (inbox.policy, builder.state.stable.clone()) else { return };
    let drift = builder.state.idle.as_ref().and_then(|seen| seen.drift.clone());
    let Some(drift) = drift.filter(|drift| drift.moves_traffic) else { return };
    let busy = builder.state.running.is_some() || !builder.state.queued.is_empty();
    if busy || applied.policy.drift != Drift::Revert || revert_blocker(builder, snapshot, &stable).is_some() {
        return;
    }
    let Some(release) = stable.release.clone() else { return };
    builder.state.reverted_at = Some(builder.now);
    let by = drift.by.map(|call| format!(" ({}, {})", call.by, call.operation)).unwrap_or_default();
    let order = Queued {
        release,
        actor: Actor::Switchback,
        reason: format!("somebody else edited a rule{by}, and the policy reverts that: {}", drift.reason),
        overrides: Overrides::default(),
        options: DeployOptions::default(),
        command: CommandId(format!("revert:{}", builder.now)),
        at: builder.now,
    };
    start(builder, order, Purpose::Repair, Some(&stable), applied);
}
