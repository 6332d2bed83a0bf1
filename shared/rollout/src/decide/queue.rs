//! The queue of a target: which releases wait, are superseded, or make a running deployment roll back, by the environment's rule.
//!
//! A verified release is never dropped: a deployment whose bake is over is finished, and so is a rollback.

use super::Inbox;
use super::admission::{self, Admission};
use super::apply::apply;
use super::builder::Builder;
use super::superseding::{is_leaving, may_yield};
use super::transition::Transition;
use crate::command::{DeployOptions, Lane};
use crate::deployment::{Deployment, Purpose};
use crate::journal::Fact;
use crate::names::Actor;
use crate::phase::{Phase, Preparing};
use crate::policy::AppliedTarget;
use crate::policy::Concurrency;
use crate::target::{MAX_QUEUED, MAX_QUEUED_BYTES, OutboxMessage, Queued};
use crate::verdict::Verdict;

/// Enqueues a requested release. A running deployment's candidate is never changed.
pub(super) fn enqueue(builder: &mut Builder, inbox: &Inbox<'_>, wanted: Queued) {
    let digest = &wanted.release.id.digest;
    let tag = &wanted.release.tag;
    let Some(applied) = inbox.policy else {
        return turn_away(builder, &wanted, "no applied policy names this target: apply a switchback.yaml that does");
    };
    let hotfix = wanted.options.lane == Lane::Hotfix;
    // A rollback that waits for the service to wake is not superseded.
    let waits_at_gates =
        |running: &Deployment| running.purpose == Purpose::Deploy && running.phase.is_waiting_to_start();
    let at_its_gates = builder.state.running.as_ref().is_some_and(waits_at_gates);
    if let Some(reason) = on_its_way(builder, &wanted, at_its_gates) {
        return decline(builder, &wanted, reason);
    }
    // A hotfix is superseded only by another hotfix.
    let yields = |lane: &Lane| hotfix || *lane != Lane::Hotfix;
    let newest = matches!(applied.concurrency, Concurrency::QueueNewest | Concurrency::CancelRunning);
    let displaces =
        hotfix || (newest && builder.state.running.as_ref().is_none_or(|running| yields(&running.options.lane)));
    let nothing_before =
        builder.state.queued.is_empty() && (builder.state.running.is_none() || (at_its_gates && displaces));
    let stable = builder.state.stable.as_ref().and_then(|stable| stable.release.as_ref());
    if nothing_before && builder.state.drift().is_none() && stable.is_some_and(|stable| &stable.id.digest == digest) {
        return decline(builder, &wanted, format!("{tag} is the stable release already"));
    }
    match admission::admit(&builder.state, inbox, applied, &wanted, builder.now) {
        Admission::Yes => {}
        Admission::NotYet => return,
        Admission::No(reason) => return turn_away(builder, &wanted, &format!("{tag}: {reason}")),
        Admission::Skipped(reason) => {
            let fact = Fact::PromotionSkipped { digest: digest.to_string(), tag: tag.clone(), reason };
            return builder.note(None, fact);
        }
    }
    if applied.concurrency == Concurrency::Reject
        && !(at_its_gates && displaces && builder.state.queued.is_empty())
        && let Some(reason) = taken(builder)
    {
        return turn_away(builder, &wanted, &reason);
    }
    if let Some(waiting) = builder.state.running.clone().filter(|_| at_its_gates && displaces) {
        // Nothing of it has started, so the environments that verified it still list it.
        let reason = format!("replaced by {tag}");
        apply(builder, Transition::end_unseen(waiting, Verdict::Superseded, reason), None);
    }
    match applied.concurrency {
        Concurrency::QueueNewest | Concurrency::Reject => all_yield(builder, &wanted),
        Concurrency::QueueAll => make_room(builder, &wanted),
        Concurrency::CancelRunning => {
            all_yield(builder, &wanted);
            if let Some(running) = &mut builder.state.running
                && yields(&running.options.lane)
                && may_yield(running)
            {
                running.superseded_by = Some(tag.clone());
            }
        }
    }
    if builder.state.running.is_some() || !builder.state.queued.is_empty() {
        builder.note(None, Fact::Queued { digest: digest.to_string(), tag: tag.clone() });
    }
    if hotfix {
        builder.state.queued.retain(|queued| queued.release.id != wanted.release.id);
        builder.state.queued.insert(0, wanted);
    } else {
        builder.state.queued.push(wanted);
    }
}

/// Why the release need not be deployed: it is already queued or running. The existing deployment joins the train of the request.
fn on_its_way(builder: &mut Builder, wanted: &Queued, at_its_gates: bool) -> Option<String> {
    let (digest, tag) = (&wanted.release.id.digest, &wanted.release.tag);
    let hotfix = is_hotfix(wanted);
    let mut queued = builder.state.queued.iter_mut();
    if let Some(waiting) = queued.find(|queued| &queued.release.id.digest == digest && !hotfix) {
        board(&mut waiting.options, wanted);
        return Some(format!("{tag} is already waiting to be deployed"));
    }
    let running = builder.state.running.as_mut()?;
    // The hotfix lane overtakes a deployment waiting at the gates of the regular lane.
    let overtakes = hotfix && at_its_gates && running.options.lane != Lane::Hotfix;
    if overtakes || &running.release.id.digest != digest || is_leaving(running) {
        return None;
    }
    let number = running.number;
    board(&mut running.options, wanted);
    let for_a_hotfix = builder.state.queued.iter().any(is_hotfix);
    if !for_a_hotfix && running.superseded_by.take().is_some() {
        // It was to roll back for another release, and is now requested again as the newest.
        all_yield(builder, wanted);
    }
    Some(format!("deployment #{number} is already bringing {tag}"))
}

/// Refuses a release that is deployed or under way. Automatic promotions have no requester to answer; a push already has what it
/// asks for, since one build has several tags and each sends an event of its own.
fn decline(builder: &mut Builder, wanted: &Queued, reason: String) {
    if !comes_by_itself(wanted) {
        builder.refuse("deploy", reason);
    }
}

fn comes_by_itself(wanted: &Queued) -> bool {
    matches!(wanted.options.lane, Lane::Automatic { .. }) || matches!(wanted.actor, Actor::Push { .. })
}

/// A deployment already under way joins the train of the request: it notifies the other members if it fails.
fn board(options: &mut DeployOptions, wanted: &Queued) {
    if options.train.is_none() {
        options.train.clone_from(&wanted.options.train);
    }
}

/// Refuses a release; the other members of its train need not wait for it.
fn turn_away(builder: &mut Builder, wanted: &Queued, reason: &str) {
    builder.refuse("deploy", reason);
    leave_train(builder, wanted, reason);
}

fn leave_train(builder: &mut Builder, order: &Queued, reason: &str) {
    if let Some(train) = order.options.train.clone() {
        builder.send(OutboxMessage::TrainStopped { train, reason: reason.to_owned() });
    }
}

/// Why the target takes no other release now, in environments that take one at a time.
fn taken(builder: &Builder) -> Option<String> {
    let who = match (&builder.state.running, builder.state.queued.first()) {
        (Some(running), _) => {
            format!("deployment #{} ({}, {}) is running", running.number, running.release.tag, running.stage().name())
        }
        (None, Some(next)) => format!("{} is about to be deployed", next.release.tag),
        (None, None) => return None,
    };
    let environment = &builder.state.target.environment;
    Some(format!("{who}, and {environment} takes no other release until it is over (concurrency: reject)"))
}

fn is_hotfix(order: &Queued) -> bool {
    order.options.lane == Lane::Hotfix
}

/// Everything queued is superseded; a hotfix only by another hotfix.
fn all_yield(builder: &mut Builder, wanted: &Queued) {
    let (stay, gone) =
        std::mem::take(&mut builder.state.queued).into_iter().partition(|order| is_hotfix(order) && !is_hotfix(wanted));
    builder.state.queued = stay;
    let gone: Vec<Queued> = gone;
    for older in gone {
        note_superseded(builder, older, &wanted.release.tag);
    }
}

/// The queue is bounded by count and by its size in the ledger: the oldest entry is dropped, except a release that was stable
/// here before.
fn make_room(builder: &mut Builder, wanted: &Queued) {
    let by_tag = &wanted.release.tag;
    while builder.state.queued.len() >= MAX_QUEUED || !fits(&builder.state.queued, wanted) {
        if builder.state.queued.is_empty() {
            return;
        }
        let unverified = |queued: &Queued| !builder.state.was_stable(&queued.release.id);
        let oldest = builder.state.queued.iter().position(unverified).unwrap_or(0);
        let older = builder.state.queued.remove(oldest);
        note_superseded(builder, older, by_tag);
    }
}

fn note_superseded(builder: &mut Builder, older: Queued, by_tag: &str) {
    leave_train(builder, &older, &format!("replaced by {by_tag}"));
    let digest = older.release.id.digest.to_string();
    builder.note(None, Fact::Superseded { digest, tag: older.release.tag, by_tag: by_tag.to_owned() });
}

fn fits(queued: &[Queued], wanted: &Queued) -> bool {
    let size = |order: &Queued| serde_json::to_vec(order).map_or(0, |text| text.len());
    queued.iter().chain([wanted]).map(size).sum::<usize>() <= MAX_QUEUED_BYTES
}

/// A deployment that waits for a person before anything of it has started is superseded by a newer release that came meanwhile,
/// as at the gates.
pub(super) fn replace_waiting(builder: &mut Builder, inbox: &Inbox<'_>) {
    let newest =
        |applied: &AppliedTarget| matches!(applied.concurrency, Concurrency::QueueNewest | Concurrency::CancelRunning);
    let Some(running) = &builder.state.running else { return };
    let waits = matches!(running.phase, Phase::Preparing(Preparing { awaiting_operator: true, .. }));
    let yields = running.options.lane != Lane::Hotfix || builder.state.queued.iter().any(is_hotfix);
    let next = builder.state.queued.last().filter(|_| waits && yields && inbox.policy.is_some_and(newest));
    if let Some(next) = next {
        let reason = format!("replaced by {}", next.release.tag);
        let ended = Transition::end_unseen(running.clone(), Verdict::Superseded, reason);
        apply(builder, ended, None);
    }
}

/// The next deployment to start, if nothing runs.
pub(super) fn next<'a>(builder: &mut Builder, inbox: &Inbox<'a>) -> Option<(Queued, &'a AppliedTarget)> {
    while builder.state.running.is_none() && !builder.state.queued.is_empty() {
        let order = builder.state.queued.remove(0);
        let stable = builder.state.stable.as_ref().and_then(|stable| stable.release.as_ref());
        let is_stable = stable.is_some_and(|stable| stable.id.digest == order.release.id.digest);
        match inbox.policy {
            None => turn_away(builder, &order, "no applied policy names this target any more"),
            Some(_) if is_stable && builder.state.drift().is_none() => {
                let reason = format!("{} is the stable release already", order.release.tag);
                decline(builder, &order, reason);
            }
            Some(applied) => return Some((order, applied)),
        }
    }
    None
}
