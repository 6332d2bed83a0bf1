//! Who waits for the running deployment to end, who gives way, and whom it turns back for: the environment's rule.
//!
//! What is verified is never dropped: a deployment whose bake is over is finished, and so is one that goes back.

use super::admission::{self, Admission};
use super::commands::refuse;
use super::pass::{Flow, Pass};
use super::{Inbox, back, frozen};
use crate::command::{Lane, Terms};
use crate::journal::Fact;
use crate::names::Actor;
use crate::policy::Concurrency;
use crate::stage::{Cause, Stage, Verdict};
use crate::target::{AppliedTarget, Deployment, Errand, MOST_QUEUED, MOST_QUEUED_BYTES, Purpose, Queued};

/// Takes in a release that is asked for. A running deployment's candidate is never changed.
pub(super) fn enqueue(pass: &mut Pass, inbox: &Inbox<'_>, wanted: Queued) {
    let digest = &wanted.release.id.digest;
    let tag = &wanted.release.tag;
    let Some(applied) = inbox.policy else {
        return turn_away(pass, &wanted, "no applied policy names this target: apply a switchback.yaml that does");
    };
    let hotfix = wanted.terms.lane == Lane::Hotfix;
    let waiting = pass.state.queued.iter_mut().find(|queued| &queued.release.id.digest == digest && !hotfix);
    if let Some(waiting) = waiting {
        board(&mut waiting.terms, &wanted);
        return decline(pass, &wanted, format!("{tag} is already waiting to be deployed"));
    }
    // A rollback that waits for the service to wake gives way to nothing.
    let waits_at_gates = |running: &Deployment| running.purpose == Purpose::Deploy && running.stage.has_not_begun();
    let at_its_gates = pass.state.running.as_ref().is_some_and(waits_at_gates);
    match &mut pass.state.running {
        // The short way for what waits at the long one's gates.
        Some(running) if hotfix && at_its_gates && running.terms.lane != Lane::Hotfix => {}
        Some(running) if &running.release.id.digest == digest && !goes_back(running) => {
            let number = running.number;
            board(&mut running.terms, &wanted);
            let for_a_hotfix = pass.state.queued.iter().any(is_hotfix);
            if !for_a_hotfix && running.superseded_by.take().is_some() {
                // It was to turn back for another one, and is the newest that is asked for again.
                all_give_way(pass, &wanted);
            }
            return decline(pass, &wanted, format!("deployment #{number} is already bringing {tag}"));
        }
        _ => {}
    }
    // A hotfix gives way to a hotfix, and to nothing else.
    let gives_way = |lane: &Lane| hotfix || *lane != Lane::Hotfix;
    let newest = matches!(applied.concurrency, Concurrency::QueueNewest | Concurrency::CancelRunning);
    let displaces =
        hotfix || (newest && pass.state.running.as_ref().is_none_or(|running| gives_way(&running.terms.lane)));
    let nothing_before = pass.state.queued.is_empty() && (pass.state.running.is_none() || (at_its_gates && displaces));
    let stable = pass.state.stable.as_ref().and_then(|stable| stable.release.as_ref());
    if nothing_before && pass.state.drift().is_none() && stable.is_some_and(|stable| &stable.id.digest == digest) {
        return decline(pass, &wanted, format!("{tag} is the stable release already"));
    }
    match admission::admit(&pass.state, inbox, applied, &wanted, pass.now) {
        Admission::Yes => {}
        Admission::NotYet => return,
        Admission::No(reason) => return turn_away(pass, &wanted, &format!("{tag}: {reason}")),
        Admission::Skipped(reason) => {
            let fact = Fact::PromotionSkipped { digest: digest.to_string(), tag: tag.clone(), reason };
            return pass.note(None, fact);
        }
    }
    if applied.concurrency == Concurrency::Reject
        && !(at_its_gates && displaces && pass.state.queued.is_empty())
        && let Some(reason) = taken(pass)
    {
        return turn_away(pass, &wanted, &reason);
    }
    if at_its_gates
        && displaces
        && let Some(waiting) = pass.state.running.take()
    {
        // Nothing of it has begun, and what verified it has not forgotten it.
        pass.end(&waiting, Verdict::Superseded, format!("replaced by {tag}"), None);
    }
    match applied.concurrency {
        Concurrency::QueueNewest | Concurrency::Reject => all_give_way(pass, &wanted),
        Concurrency::QueueAll => make_room(pass, &wanted),
        Concurrency::CancelRunning => {
            all_give_way(pass, &wanted);
            if let Some(running) = &mut pass.state.running
                && gives_way(&running.terms.lane)
                && may_turn_back_for_another(running)
            {
                running.superseded_by = Some(tag.clone());
            }
        }
    }
    if pass.state.running.is_some() || !pass.state.queued.is_empty() {
        pass.note(None, Fact::Queued { digest: digest.to_string(), tag: tag.clone() });
    }
    if hotfix {
        pass.state.queued.retain(|queued| queued.release.id != wanted.release.id);
        pass.state.queued.insert(0, wanted);
    } else {
        pass.state.queued.push(wanted);
    }
}

/// What is here or on its way already. Nobody asked for what comes by itself, and a push has what it asks for: one build
/// has several tags, and each comes with an event of its own.
fn decline(pass: &mut Pass, wanted: &Queued, reason: String) {
    if !comes_by_itself(wanted) {
        refuse(pass, "deploy", reason);
    }
}

fn comes_by_itself(wanted: &Queued) -> bool {
    matches!(wanted.terms.lane, Lane::Automatic { .. }) || matches!(wanted.actor, Actor::Push { .. })
}

/// What is on its way already travels with the train that asks for it: it tells the others if it does not make it.
fn board(terms: &mut Terms, wanted: &Queued) {
    if terms.train.is_none() {
        terms.train.clone_from(&wanted.terms.train);
    }
}

/// What does not come here. The rest of its train need not wait for it.
fn turn_away(pass: &mut Pass, wanted: &Queued, reason: &str) {
    refuse(pass, "deploy", reason);
    leave_train(pass, wanted, reason);
}

fn leave_train(pass: &mut Pass, order: &Queued, reason: &str) {
    if let Some(train) = order.terms.train.clone() {
        pass.tell_others(Errand::TrainStopped { train, reason: reason.to_owned() });
    }
}

fn goes_back(running: &Deployment) -> bool {
    matches!(running.stage, Stage::RollingBack { .. } | Stage::LettingGo { .. })
}

/// A rollback and a repair never do, nor does what is verified.
fn may_turn_back_for_another(running: &Deployment) -> bool {
    let stays = frozen::is_forward_only(running) && running.traffic_moved;
    running.purpose == Purpose::Deploy && !running.stage.is_verified() && !goes_back(running) && !stays
}

/// Why the target takes no other release now, where it takes one at a time.
fn taken(pass: &Pass) -> Option<String> {
    let who = match (&pass.state.running, pass.state.queued.first()) {
        (Some(running), _) => {
            format!("deployment #{} ({}, {}) is running", running.number, running.release.tag, running.stage.name())
        }
        (None, Some(next)) => format!("{} is about to be deployed", next.release.tag),
        (None, None) => return None,
    };
    let environment = &pass.state.target.environment;
    Some(format!("{who}, and {environment} takes no other release until it is over (concurrency: reject)"))
}

fn is_hotfix(order: &Queued) -> bool {
    order.terms.lane == Lane::Hotfix
}

/// Whoever waits gives way; a hotfix to a hotfix only.
fn all_give_way(pass: &mut Pass, wanted: &Queued) {
    let (stay, gone) =
        std::mem::take(&mut pass.state.queued).into_iter().partition(|order| is_hotfix(order) && !is_hotfix(wanted));
    pass.state.queued = stay;
    let gone: Vec<Queued> = gone;
    for older in gone {
        gave_way(pass, older, &wanted.release.tag);
    }
}

/// The queue is bounded, in what waits and in what that takes in the ledger: the oldest gives way, but not one that was
/// stable here before.
fn make_room(pass: &mut Pass, wanted: &Queued) {
    let by_tag = &wanted.release.tag;
    while pass.state.queued.len() >= MOST_QUEUED || !fits(&pass.state.queued, wanted) {
        if pass.state.queued.is_empty() {
            return;
        }
        let unverified = |queued: &Queued| !pass.state.was_stable(&queued.release.id);
        let oldest = pass.state.queued.iter().position(unverified).unwrap_or(0);
        let older = pass.state.queued.remove(oldest);
        gave_way(pass, older, by_tag);
    }
}

fn gave_way(pass: &mut Pass, older: Queued, by_tag: &str) {
    leave_train(pass, &older, &format!("replaced by {by_tag}"));
    let digest = older.release.id.digest.to_string();
    pass.note(None, Fact::Superseded { digest, tag: older.release.tag, by_tag: by_tag.to_owned() });
}

fn fits(queued: &[Queued], wanted: &Queued) -> bool {
    let size = |order: &Queued| serde_json::to_vec(order).map_or(0, |text| text.len());
    queued.iter().chain([wanted]).map(size).sum::<usize>() <= MOST_QUEUED_BYTES
}

/// The deployment turns back if a newer release takes its place. Asked for where nobody else holds a rule and no alarm
/// fires: those are told as what they are.
pub(super) fn give_way(pass: &mut Pass, deployment: &mut Deployment) -> Flow {
    let Some(by_tag) = deployment.superseded_by.clone() else { return Flow::Onward };
    // A bake that is over is judged first: what turns out to be verified stays.
    let baked = matches!(deployment.stage, Stage::Baking { until, .. } if pass.now >= until);
    if baked || !may_turn_back_for_another(deployment) {
        return Flow::Onward;
    }
    match back::begin(pass, deployment, Cause::Superseded { by_tag }) {
        back::Begun::Over => Flow::Ended,
        back::Begun::Going | back::Begun::Impossible => Flow::Onward,
    }
}

/// What waits for a person before anything of it has begun gives way to a newer release that came meanwhile, as at the
/// gates.
pub(super) fn replaced(pass: &mut Pass, deployment: &Deployment, inbox: &Inbox<'_>) -> Flow {
    let newest =
        |applied: &AppliedTarget| matches!(applied.concurrency, Concurrency::QueueNewest | Concurrency::CancelRunning);
    let waits = matches!(deployment.stage, Stage::Preflight { awaiting_operator: true, .. });
    let gives_way = deployment.terms.lane != Lane::Hotfix || pass.state.queued.iter().any(is_hotfix);
    match pass.state.queued.last().map(|newer| newer.release.tag.clone()) {
        Some(tag) if waits && gives_way && inbox.policy.is_some_and(newest) => {
            pass.end(deployment, Verdict::Superseded, format!("replaced by {tag}"), None)
        }
        _ => Flow::Wait,
    }
}

/// What starts next, if nothing runs.
pub(super) fn next<'a>(pass: &mut Pass, inbox: &Inbox<'a>) -> Option<(Queued, &'a AppliedTarget)> {
    while pass.state.running.is_none() && !pass.state.queued.is_empty() {
        let order = pass.state.queued.remove(0);
        let stable = pass.state.stable.as_ref().and_then(|stable| stable.release.as_ref());
        let is_stable = stable.is_some_and(|stable| stable.id.digest == order.release.id.digest);
        match inbox.policy {
            None => turn_away(pass, &order, "no applied policy names this target any more"),
            Some(_) if is_stable && pass.state.drift().is_none() => {
                let reason = format!("{} is the stable release already", order.release.tag);
                decline(pass, &order, reason);
            }
            Some(applied) => return Some((order, applied)),
        }
    }
    None
}
