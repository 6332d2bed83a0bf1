//! What is seen while nothing is deployed, compared with what the last deployment left.
//!
//! An edit is told once, with who made it where CloudTrail has said so. What is read decides, never the event: an event names
//! only whom to blame. Weights are put back where the policy says so, as a deployment of its own ([`Purpose::Repair`]), and
//! never onto a side without a healthy target.

use super::Inbox;
use super::commands;
use super::gates;
use super::pass::Pass;
use crate::command::{CommandId, Overrides, Terms};
use crate::journal::Fact;
use crate::look::look_at_rest;
use crate::names::{Actor, Slot};
use crate::policy::{Drift, TargetPolicy};
use crate::snapshot::{Reading, Snapshot, Weights};
use crate::target::{AtRest, DriftSeen, Purpose, Queued, StableSide};
use crate::time::Seconds;
use jiff::Timestamp;

/// How soon something that could not be read is read again.
const UNREAD_POLL: Seconds = Seconds(60);
/// The same where AWS throttled: nobody is in a hurry here.
const THROTTLED_POLL: Seconds = Seconds(300);
/// After so many looks in a row, what cannot be read is told as gone: a rule or a service that somebody deleted reads so.
const MOST_UNREAD: u8 = 3;
/// How soon it is looked again whether the weights can be put back.
const KEPT_POLL: Seconds = Seconds(60);
/// Weights are put back once in this time: another tool that puts them there again and again is not fought with.
const REVERT_PAUSE: Seconds = Seconds(600);

/// Something that is otherwise than it was left.
struct Found {
    /// What was seen, and what was left.
    reason: String,
    /// How those fare whose requests go there; empty: nothing to add. It changes with every task, and is told once.
    besides: String,
    moves_traffic: bool,
}

/// Compares, and tells of what is new.
pub(super) fn compare(pass: &mut Pass, inbox: &Inbox<'_>, snapshot: &Snapshot) {
    let (Some(applied), Some(stable)) = (inbox.policy, pass.state.stable.clone()) else { return };
    let policy = &applied.policy;
    let whole = is_whole(pass, policy, snapshot);
    let before = pass.state.at_rest.take();
    let (was, tries, services_seen_at) = match &before {
        Some(before) => (before.drift.clone(), before.unread, before.services_seen_at),
        None => (None, 0, None),
    };
    let mut now = AtRest {
        seen_at: pass.seen_at,
        weights: common_weights(snapshot),
        services_seen_at: if whole { Some(pass.seen_at) } else { services_seen_at },
        drift: was.clone(),
        unread: 0,
        look_at: None,
    };
    let mut found = edited(policy, &stable, snapshot, whole);
    if let Some(reason) = unread(policy, snapshot, whole) {
        now.unread = if snapshot.throttled { tries } else { tries.saturating_add(1) };
        if found.is_none() && now.unread < MOST_UNREAD {
            let poll = if snapshot.throttled { THROTTLED_POLL } else { UNREAD_POLL };
            now.services_seen_at = services_seen_at;
            return again(pass, now, poll.after(pass.now));
        }
        let reason = format!("{reason} ({MOST_UNREAD} looks in a row)");
        let gone = Found { reason, besides: String::new(), moves_traffic: false };
        found.get_or_insert(gone);
    }
    let moves_traffic = found.as_ref().is_some_and(|found| found.moves_traffic);
    if moves_traffic && !whole {
        // Whether anything serves what is sent there is seen with the services and their targets.
        let at = pass.now;
        pass.look_again();
        return again(pass, now, at);
    }
    // What a deployment could not finish is nobody's edit, and was told when it ended.
    let known = pass.state.drift().is_some() && was.is_none();
    pass.saw_traffic(snapshot, false);
    let found = found.filter(|found| !(known && found.moves_traffic));
    now.drift = match (was, found) {
        (was, Some(found)) => Some(told(pass, policy, snapshot, &stable, was, found)),
        (Some(_), None) => {
            pass.note(None, Fact::DriftGone);
            None
        }
        (None, None) => None,
    };
    let kept = now.drift.as_ref().is_some_and(|drift| drift.moves_traffic) && policy.drift == Drift::Revert;
    if kept && kept_because(pass, snapshot, &stable).is_some() {
        return again(pass, now, KEPT_POLL.after(pass.now));
    }
    pass.state.at_rest = Some(now);
}

fn again(pass: &mut Pass, now: AtRest, at: Timestamp) {
    pass.look_by(at);
    pass.state.at_rest = Some(AtRest { look_at: Some(at), ..now });
}

/// Whether the services and their targets were asked for, too.
fn is_whole(pass: &Pass, policy: &TargetPolicy, snapshot: &Snapshot) -> bool {
    let by_itself = look_at_rest(&pass.state, policy, false, pass.seen_at).is_some_and(|look| look.sides);
    let known = [&snapshot.blue, &snapshot.green].into_iter().any(|side| side.known().is_some());
    by_itself || known || snapshot.api_call.is_some()
}

/// The weights that all rules have.
fn common_weights(snapshot: &Snapshot) -> Option<Weights> {
    let mut all = snapshot.rules.iter().map(|rule| rule.known().map(|rule| rule.weights));
    let first = all.next()??;
    all.all(|weights| weights.is_some_and(|weights| weights.same_split(first))).then_some(first)
}

/// What could not be read of what was asked for.
fn unread(policy: &TargetPolicy, snapshot: &Snapshot, whole: bool) -> Option<String> {
    for (arn, rule) in policy.pair.rules.iter().zip(&snapshot.rules) {
        if let Reading::Unknown(reason) = rule {
            return Some(format!("{} could not be read: {reason}", gates::short_rule(arn)));
        }
    }
    if !whole {
        return None;
    }
    [Slot::Blue, Slot::Green].into_iter().find_map(|slot| match snapshot.side(slot) {
        Reading::Unknown(reason) => Some(format!("{slot} could not be read: {reason}")),
        Reading::Known(_) => None,
    })
}

/// What is seen otherwise than the last deployment left it: traffic first.
fn edited(policy: &TargetPolicy, stable: &StableSide, snapshot: &Snapshot, whole: bool) -> Option<Found> {
    let rules = || policy.pair.rules.iter().zip(&snapshot.rules).filter_map(|(arn, rule)| Some((arn, rule.known()?)));
    let (idle, left) = (stable.slot.other(), stable.slot);
    let quiet = |reason| Some(Found { reason, besides: String::new(), moves_traffic: false });
    if let Some((arn, rule)) = rules().find(|(_, rule)| rule.weights.only() != Some(stable.slot)) {
        let Weights { blue, green } = rule.weights;
        let dead = snapshot.side(idle).known().is_some_and(|side| side.targets.healthy == 0);
        let besides =
            if dead && rule.weights.of(idle) > 0 { format!("; {idle} has no healthy target") } else { String::new() };
        let (rule, others) = (gates::short_rule(arn), gates::strangers(rule));
        let reason = format!("{rule} has blue {blue} / green {green}{others}; all of it was left on {left}");
        return Some(Found { reason, besides, moves_traffic: true });
    }
    if let Some((arn, rule)) = rules().find(|(_, rule)| !gates::rule_is_sound(rule)) {
        return quiet(format!("{} sends all traffic to {left}{}", gates::short_rule(arn), gates::strangers(rule)));
    }
    let side = snapshot.side(stable.slot).known().filter(|_| whole)?;
    if side.task_definition != stable.task_definition {
        return quiet(format!("{left} runs {}; it was left with {}", side.task_definition, stable.task_definition));
    }
    None
}

/// Tells of what was found, where it is new, or where it is known now who did it.
fn told(
    pass: &mut Pass,
    policy: &TargetPolicy,
    snapshot: &Snapshot,
    stable: &StableSide,
    was: Option<DriftSeen>,
    found: Found,
) -> DriftSeen {
    let Found { reason, besides, moves_traffic } = found;
    let was = was.filter(|was| was.reason == reason);
    let by = was.as_ref().and_then(|was| was.by.clone()).or_else(|| snapshot.api_call.clone());
    let since = was.as_ref().map_or(pass.now, |was| was.since);
    if was.is_none_or(|was| was.by != by) {
        let kept =
            if moves_traffic && policy.drift == Drift::Revert { kept_because(pass, snapshot, stable) } else { None };
        pass.note(None, Fact::DriftFound { reason: format!("{reason}{besides}"), by: by.clone(), kept });
    }
    DriftSeen { reason, since, by, moves_traffic }
}

/// Why weights are not put back although the policy says so; none: they are.
fn kept_because(pass: &Pass, snapshot: &Snapshot, stable: &StableSide) -> Option<String> {
    let slot = stable.slot;
    if stable.release.is_none() {
        return Some(format!("what runs on {slot} was not deployed by Switchback"));
    }
    if let Some(frozen) = &pass.state.frozen {
        return Some(format!("the target is frozen since deployment #{}", frozen.deployment));
    }
    match snapshot.side(slot) {
        Reading::Unknown(reason) => return Some(format!("{slot} could not be read: {reason}")),
        Reading::Known(side) if side.targets.healthy == 0 => return Some(format!("{slot} has no healthy target")),
        Reading::Known(_) => {}
    }
    let last = pass.state.reverted_at?;
    (pass.now < REVERT_PAUSE.after(last)).then(|| format!("they were put back at {last}, and were edited again"))
}

/// Puts weights back where the policy says so: begins the deployment that does it.
pub(super) fn revert(pass: &mut Pass, inbox: &Inbox<'_>, snapshot: &Snapshot) {
    let (Some(applied), Some(stable)) = (inbox.policy, pass.state.stable.clone()) else { return };
    let drift = pass.state.at_rest.as_ref().and_then(|seen| seen.drift.clone());
    let Some(drift) = drift.filter(|drift| drift.moves_traffic) else { return };
    let busy = pass.state.running.is_some() || !pass.state.queued.is_empty();
    if busy || applied.policy.drift != Drift::Revert || kept_because(pass, snapshot, &stable).is_some() {
        return;
    }
    let Some(release) = stable.release else { return };
    pass.state.reverted_at = Some(pass.now);
    let by = drift.by.map(|call| format!(" ({}, {})", call.by, call.operation)).unwrap_or_default();
    let order = Queued {
        release,
        actor: Actor::Switchback,
        reason: format!("somebody else edited a rule{by}, and the policy reverts that: {}", drift.reason),
        overrides: Overrides::default(),
        terms: Terms::default(),
        command: CommandId(format!("revert:{}", pass.now)),
        at: pass.now,
    };
    commands::start(pass, order, Purpose::Repair, Some(stable.task_definition), applied);
}
