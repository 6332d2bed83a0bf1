//! The queue of a target: whether a requested release is queued, refused, supersedes others, or makes the running
//! deployment roll back, according to the environment's concurrency rule.
//!
//! A verified release is never dropped: a deployment whose bake is over is finished, and so is a rollback.

use super::Inbox;
use super::admission::{self, Admission};
use super::apply::apply;
use super::builder::Builder;
use super::superseding::may_be_superseded;
use super::transition::Transition;
use crate::command::{DeployOptions, Lane};
use crate::deployment::{Deployment, Purpose};
use crate::journal::Fact;
use crate::names::Actor;
use crate::phase::{Phase, Preparing};
use crate::policy::AppliedTarget;
use crate::policy::Concurrency;
use crate::refusal::CommandRefusal;
use crate::target::{MAX_QUEUED, MAX_QUEUED_BYTES, OutboxMessage, Queued};
use crate::verdict::Verdict;

/// Enqueues a requested release. A running deployment's candidate is never changed.
pub(super) fn enqueue(builder: &mut Builder, inbox: &Inbox<'_>, wanted: Queued) {
    let digest = &wanted.release.id.digest;
    let tag = &wanted.release.tag;
    let Some(applied) = inbox.policy else {
        return refuse_and_stop_train(builder, &wanted, CommandRefusal::NoPolicy);
    };
    let hotfix = wanted.options.lane == Lane::Hotfix;
    // A rollback that waits for the service to wake is not superseded.
    let waits_at_gates =
        |running: &Deployment| running.purpose == Purpose::Deploy && running.phase.is_waiting_to_start();
    let at_its_gates = builder.state.running.as_ref().is_some_and(waits_at_gates);
    if let Some(reason) = already_under_way(builder, &wanted, at_its_gates) {
        return refuse_redundant(builder, &wanted, reason);
    }
    // A hotfix is superseded only by another hotfix.
    let may_supersede = |lane: &Lane| hotfix || *lane != Lane::Hotfix;
    let newest = matches!(applied.concurrency, Concurrency::QueueNewest | Concurrency::CancelRunning);
    let displaces =
        hotfix || (newest && builder.state.running.as_ref().is_none_or(|running| may_supersede(&running.options.lane)));
    let nothing_before =
        builder.state.queued.is_empty() && (builder.state.running.is_none() || (at_its_gates && displaces));
    let stable = builder.state.stable.as_ref().and_then(|stable| stable.release.as_ref());
    let is_stable = stable.is_some_and(|stable| &stable.id.digest == digest) && !wanted.options.configuration;
    if nothing_before && !builder.state.needs_repair() && is_stable {
        return refuse_redundant(builder, &wanted, CommandRefusal::AlreadyStable { tag: tag.clone() });
    }
    match admission::admit(&builder.state, inbox, applied, &wanted, builder.now) {
        Admission::Yes => {}
        Admission::NotYet => return,
        Admission::No(refusal) => return refuse_and_stop_train(builder, &wanted, refusal),
        Admission::Skipped(reason) => {
            let fact = Fact::PromotionSkipped { digest: digest.to_string(), tag: tag.clone(), reason };
            return builder.note(None, fact);
        }
    }
    if applied.concurrency == Concurrency::Reject
        && !(at_its_gates && displaces && builder.state.queued.is_empty())
        && let Some(refusal) = busy_reason(builder)
    {
        return refuse_and_stop_train(builder, &wanted, refusal);
    }
    if let Some(waiting) = builder.state.running.clone().filter(|_| at_its_gates && displaces) {
        // Nothing of it has started, so the environments that verified it still list it.
        let reason = format!("replaced by {tag}");
        apply(builder, Transition::end_without_rules(waiting, Verdict::Superseded, reason), None);
    }
    match applied.concurrency {
        Concurrency::QueueNewest | Concurrency::Reject => supersede_queued(builder, &wanted),
        Concurrency::QueueAll => make_room(builder, &wanted),
        Concurrency::CancelRunning => {
            supersede_queued(builder, &wanted);
            if let Some(running) = &mut builder.state.running
                && may_supersede(&running.options.lane)
                && may_be_superseded(running)
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

/// Why the release need not be deployed: it is already queued or running. The existing deployment then joins the train
/// of the request.
fn already_under_way(builder: &mut Builder, wanted: &Queued, at_its_gates: bool) -> Option<CommandRefusal> {
    let (digest, tag) = (&wanted.release.id.digest, &wanted.release.tag);
    let hotfix = is_hotfix(wanted);
    let mut queued = builder.state.queued.iter_mut();
    let configures = wanted.options.configuration;
    let same = |queued: &&mut Queued| &queued.release.id.digest == digest && queued.options.configuration == configures;
    if let Some(waiting) = queued.find(|queued| same(queued) && !hotfix) {
        join_train(&mut waiting.options, wanted);
        return Some(CommandRefusal::AlreadyQueued { tag: tag.clone() });
    }
    let running = builder.state.running.as_mut()?;
    // The hotfix lane overtakes a deployment waiting at the gates of the regular lane.
    let overtakes = hotfix && at_its_gates && running.options.lane != Lane::Hotfix;
    // One that has begun may be made of an older template.
    let may_lack_it = configures && !at_its_gates;
    if overtakes || may_lack_it || &running.release.id.digest != digest || running.is_backing_out() {
        return None;
    }
    let number = running.number;
    join_train(&mut running.options, wanted);
    let for_a_hotfix = builder.state.queued.iter().any(is_hotfix);
    if !for_a_hotfix && running.superseded_by.take().is_some() {
        // It was to roll back for another release, and is now requested again as the newest.
        supersede_queued(builder, wanted);
    }
    Some(CommandRefusal::AlreadyRunning { deployment: number, tag: tag.clone() })
}

/// Refuses a release that is deployed or under way. Requests without a requester are not answered: an automatic
/// promotion has none, and a push already has what it asks for, since each of a build's tags sends an event of its own.
fn refuse_redundant(builder: &mut Builder, wanted: &Queued, refusal: CommandRefusal) {
    if !is_automatic(wanted) {
        builder.refuse("deploy", refusal);
    }
}

fn is_automatic(wanted: &Queued) -> bool {
    matches!(wanted.options.lane, Lane::Automatic { .. }) || matches!(wanted.actor, Actor::Push { .. })
}

/// A deployment already under way joins the train of the request: it notifies the other members if it fails.
fn join_train(options: &mut DeployOptions, wanted: &Queued) {
    if options.train.is_none() {
        options.train.clone_from(&wanted.options.train);
    }
}

/// Refuses a release; the other members of its train need not wait for it.
fn refuse_and_stop_train(builder: &mut Builder, wanted: &Queued, refusal: CommandRefusal) {
    stop_train(builder, wanted, &refusal.to_string());
    builder.refuse("deploy", refusal);
}

/// Notifies the other members of the release's train, if it has one, that this member does not deploy it.
fn stop_train(builder: &mut Builder, order: &Queued, reason: &str) {
    if let Some(train) = order.options.train.clone() {
        builder.send(OutboxMessage::TrainStopped { train, reason: reason.to_owned() });
    }
}

/// Why the target accepts no other release now (`concurrency: reject`); `None`: nothing runs or is queued.
fn busy_reason(builder: &Builder) -> Option<CommandRefusal> {
    let (running, tag) = match (&builder.state.running, builder.state.queued.first()) {
        (Some(running), _) => (Some((running.number, running.stage())), &running.release.tag),
        (None, Some(next)) => (None, &next.release.tag),
        (None, None) => return None,
    };
    let environment = builder.state.target.environment.clone();
    Some(CommandRefusal::Busy { environment, running, tag: tag.clone() })
}

fn is_hotfix(order: &Queued) -> bool {
    order.options.lane == Lane::Hotfix
}

/// Everything queued is superseded; a hotfix only by another hotfix.
fn supersede_queued(builder: &mut Builder, wanted: &Queued) {
    let (kept, superseded): (Vec<Queued>, Vec<Queued>) =
        std::mem::take(&mut builder.state.queued).into_iter().partition(|order| is_hotfix(order) && !is_hotfix(wanted));
    builder.state.queued = kept;
    for older in superseded {
        journal_superseded(builder, older, &wanted.release.tag);
    }
}

/// The queue is bounded by count and by its size in the ledger: the oldest entry is dropped, except a release that was
/// stable here before.
fn make_room(builder: &mut Builder, wanted: &Queued) {
    let by_tag = &wanted.release.tag;
    while builder.state.queued.len() >= MAX_QUEUED || !fits(&builder.state.queued, wanted) {
        if builder.state.queued.is_empty() {
            return;
        }
        let unverified = |queued: &Queued| !builder.state.was_stable(&queued.release.id);
        let oldest = builder.state.queued.iter().position(unverified).unwrap_or(0);
        let older = builder.state.queued.remove(oldest);
        journal_superseded(builder, older, by_tag);
    }
}

fn journal_superseded(builder: &mut Builder, older: Queued, by_tag: &str) {
    stop_train(builder, &older, &format!("replaced by {by_tag}"));
    let digest = older.release.id.digest.to_string();
    builder.note(None, Fact::Superseded { digest, tag: older.release.tag, by_tag: by_tag.to_owned() });
}

fn fits(queued: &[Queued], wanted: &Queued) -> bool {
    let size = |order: &Queued| serde_json::to_vec(order).map_or(0, |text| text.len());
    queued.iter().chain([wanted]).map(size).sum::<usize>() <= MAX_QUEUED_BYTES
}

/// A deployment that waits for a person before anything of it has started is superseded by a newer release that came
/// meanwhile, as at the gates.
pub(super) fn replace_waiting(builder: &mut Builder, inbox: &Inbox<'_>) {
    let newest =
        |applied: &AppliedTarget| matches!(applied.concurrency, Concurrency::QueueNewest | Concurrency::CancelRunning);
    let Some(running) = &builder.state.running else { return };
    let waits = matches!(running.phase, Phase::Preparing(Preparing { awaiting_operator: true, .. }));
    let supersedable = running.options.lane != Lane::Hotfix || builder.state.queued.iter().any(is_hotfix);
    let next = builder.state.queued.last().filter(|_| waits && supersedable && inbox.policy.is_some_and(newest));
    if let Some(next) = next {
        let reason = format!("replaced by {}", next.release.tag);
        let ended = Transition::end_without_rules(running.clone(), Verdict::Superseded, reason);
        apply(builder, ended, None);
    }
}

/// The next deployment to start, if nothing runs.
pub(super) fn next<'a>(builder: &mut Builder, inbox: &Inbox<'a>) -> Option<(Queued, &'a AppliedTarget)> {
    while builder.state.running.is_none() && !builder.state.queued.is_empty() {
        let order = builder.state.queued.remove(0);
        let stable = builder.state.stable.as_ref().and_then(|stable| stable.release.as_ref());
        let is_stable =
            stable.is_some_and(|stable| stable.id.digest == order.release.id.digest) && !order.options.configuration;
        match inbox.policy {
            None => refuse_and_stop_train(builder, &order, CommandRefusal::NoPolicy),
            Some(_) if is_stable && !builder.state.needs_repair() => {
                let refusal = CommandRefusal::AlreadyStable { tag: order.release.tag.clone() };
                refuse_redundant(builder, &order, refusal);
            }
            Some(applied) => return Some((order, applied)),
        }
    }
    None
}
