//! From being asked for to beginning: what is taken in at all, the gates that are waited at, and what people say there.

use super::commands::refuse;
use super::pass::{Flow, Pass};
use super::{Inbox, asleep};
use crate::command::{Command, Lane, PlanId};
use crate::entry::Gate;
use crate::journal::Fact;
use crate::names::Actor;
use crate::promotion::{Opinion, Question, Ruling, Surroundings, judge, plan_id, rules};
use crate::snapshot::{Reading, Snapshot};
use crate::stage::{Stage, Verdict};
use crate::target::{
    AppliedTarget, Deployment, Gates, Overridden, PromotionHold, Queued, TargetState, Vote, WaitingOn,
};
use crate::time::Seconds;
use std::collections::{BTreeMap, BTreeSet};

/// How often gates are looked at; whoever opens one sends a wake, and this is for a wake that is lost.
const GATE_POLL: Seconds = Seconds(60);
/// The same for what could not be read.
const UNREAD_POLL: Seconds = Seconds(5);

/// Whether a release that is asked for is taken in.
pub(super) enum Admission {
    /// It is; there may be gates that it waits at.
    Yes,
    /// It is not, and whoever asked is told why.
    No(String),
    /// It is promoted by itself as soon as the other environments have verified it, too.
    NotYet,
    /// It would be promoted by itself, and something keeps that from happening.
    Skipped(String),
}

/// Judges what is known at once: a release that may not come here at all does not displace one that may.
pub(super) fn admit(
    state: &TargetState,
    inbox: &Inbox<'_>,
    applied: &AppliedTarget,
    wanted: &Queued,
    now: jiff::Timestamp,
) -> Admission {
    let rules = &applied.entry.rules;
    if wanted.terms.lane == Lane::Hotfix {
        if rules.hotfix_skips.is_empty() {
            return Admission::No("this environment has no hotfix lane (`hotfix` in the policy)".to_owned());
        }
        if wanted.reason.trim().is_empty() {
            return Admission::No("a hotfix needs a reason".to_owned());
        }
    }
    let automatic = matches!(wanted.terms.lane, Lane::Automatic { .. });
    let gates = no_gates(PlanId(String::new()));
    let ruling = judge(&Question {
        target: &state.target,
        release: &wanted.release.id,
        terms: &wanted.terms,
        requester: &wanted.actor,
        applied,
        gates: &gates,
        frozen: state.frozen.as_ref(),
        asleep: false,
        around: inbox.around,
        now,
    });
    if let Some((gate, reason, _)) = ruling.never() {
        if automatic && gate == Gate::Image {
            return Admission::Skipped(reason.to_owned());
        }
        return if automatic { Admission::NotYet } else { Admission::No(reason.to_owned()) };
    }
    if !automatic {
        return Admission::Yes;
    }
    if let Some(hold) = &state.promotion_hold {
        return Admission::Skipped(format!("automatic promotion is held: {}", hold.reason));
    }
    match newer(state, wanted) {
        Some(tag) => Admission::Skipped(format!("{tag} is newer, and here already")),
        None => Admission::Yes,
    }
}

/// The tag of a release that was pushed later and is stable, running or waiting here.
fn newer<'s>(state: &'s TargetState, wanted: &Queued) -> Option<&'s str> {
    let pushed_at = wanted.release.pushed_at?;
    let stable = state.stable.as_ref().and_then(|stable| stable.release.as_ref());
    let known = stable.into_iter().chain(state.running.as_ref().map(|running| &running.release));
    let mut known = known.chain(state.queued.iter().map(|queued| &queued.release));
    known.find(|release| release.pushed_at.is_some_and(|other| other > pushed_at)).map(|release| release.tag.as_str())
}

/// Gates at which nothing was said yet.
fn no_gates(plan: PlanId) -> Gates {
    Gates {
        plan,
        asked_at: None,
        votes: Vec::new(),
        skipped: BTreeSet::new(),
        overridden: BTreeMap::new(),
        told: BTreeMap::new(),
    }
}

/// The gates of a deployment that is about to begin.
pub(super) fn gates_of(state: &TargetState, order: &Queued, applied: &AppliedTarget) -> Gates {
    let replaces = stable_digest(state);
    let plan = plan_id(&state.target, &order.release.id, &order.terms, &order.overrides, applied, replaces);
    let skipped = match order.terms.lane {
        Lane::Hotfix => applied.entry.rules.hotfix_skips.clone(),
        Lane::Asked | Lane::Automatic { .. } => BTreeSet::new(),
    };
    Gates { skipped, ..no_gates(plan) }
}

fn stable_digest(state: &TargetState) -> Option<&crate::ImageDigest> {
    state.stable.as_ref().and_then(|stable| stable.release.as_ref()).map(|release| &release.id.digest)
}

/// The question that a deployment at its gates asks; none: it is not at its gates.
pub(crate) fn question<'q>(
    target: &'q crate::TargetId,
    frozen: Option<&'q crate::target::TargetFreeze>,
    deployment: &'q Deployment,
    applied: &'q AppliedTarget,
    around: Option<&'q Surroundings>,
    now: jiff::Timestamp,
) -> Option<Question<'q>> {
    if !matches!(deployment.stage, Stage::Gated { .. }) {
        return None;
    }
    Some(Question {
        target,
        release: &deployment.release.id,
        terms: &deployment.terms,
        requester: &deployment.actor,
        applied,
        gates: deployment.gates.as_ref()?,
        frozen,
        asleep: deployment.asleep,
        around,
        now,
    })
}

/// A deployment at its gates: ended, waiting, or on its way to preflight.
pub(super) fn gated(
    pass: &mut Pass,
    deployment: &mut Deployment,
    inbox: &Inbox<'_>,
    snapshot: Option<&Snapshot>,
) -> Flow {
    let deadline = deployment.stage.deadline();
    let woke = asleep::has_woken(pass, deployment, snapshot);
    let Some(applied) = inbox.policy else {
        let why = "no applied policy names this target any more";
        return pass.end(deployment, Verdict::Failed, why, None);
    };
    let waited = deployment.gates.as_ref().is_some_and(|gates| gates.asked_at.is_some() || !gates.told.is_empty());
    adopt(pass, deployment, applied, inbox.around);
    let ruling = match ruling(pass, deployment, applied, inbox) {
        Some(ruling) => ruling,
        // A rollback waits at no gate but this one.
        None if deployment.asleep => return asleep::wait(pass, deployment, deadline),
        // Not at its gates: nothing to wait for.
        None => return to_preflight(pass, deployment, woke),
    };
    if let Some((gate, reason, verdict)) = ruling.never() {
        let reason = format!("{gate}: {reason}");
        return pass.end(deployment, verdict, reason, None);
    }
    if !ruling.is_open() && pass.now >= deadline {
        let open: Vec<String> = ruling.waits().map(|(gate, reason, _)| format!("{gate}: {reason}")).collect();
        let most = applied.entry.rules.give_up_after;
        let reason = format!("it waited at its gates for {most}: {}", open.join("; "));
        return pass.end(deployment, Verdict::Expired, reason, None);
    }
    if !ruling.is_open() && !waited {
        let names: Vec<&str> = ruling.waits().map(|(gate, ..)| gate.name()).collect();
        let fact = Fact::StageEntered { stage: deployment.stage.name().to_owned(), detail: names.join(", ") };
        pass.note(Some(deployment.number), fact);
    }
    tell(pass, deployment, &ruling, inbox);
    if ruling.is_open() {
        return to_preflight(pass, deployment, waited);
    }
    ask_people(pass, deployment, applied, &ruling);
    wait(pass, deployment, applied, inbox)
}

fn ruling(pass: &Pass, deployment: &Deployment, applied: &AppliedTarget, inbox: &Inbox<'_>) -> Option<Ruling> {
    let (target, frozen) = (&pass.state.target, pass.state.frozen.as_ref());
    question(target, frozen, deployment, applied, inbox.around, pass.now).map(|question| judge(&question))
}

/// Takes over a policy that was applied meanwhile: nothing has begun that would have to be kept to. What was said to
/// another plan is void.
fn adopt(pass: &mut Pass, deployment: &mut Deployment, applied: &AppliedTarget, around: Option<&Surroundings>) {
    deployment.policy.clone_from(&applied.policy);
    deployment.policy_version = applied.version;
    deployment.promotes_itself = applied.entry.promotes_itself;
    // A release that was forward-only where it comes from has no way back by itself here, however it comes.
    deployment.terms.forward_only |= marked_forward_only(&pass.state.target, &deployment.release.id, applied, around);
    if let (None, Some(gates)) = (&applied.entry.rules.approval, &mut deployment.gates) {
        // Nobody is asked any more. If somebody is to be asked again, it is a new question, with its own time.
        gates.asked_at = None;
        gates.votes.clear();
    }
    let Deployment { release, terms, overrides, .. } = &*deployment;
    let replaces = stable_digest(&pass.state);
    let plan = plan_id(&pass.state.target, &release.id, terms, overrides, applied, replaces);
    let Some(gates) = deployment.gates.as_mut().filter(|gates| gates.plan != plan) else { return };
    gates.plan = plan.clone();
    let voided = u8::try_from(gates.votes.len()).unwrap_or(u8::MAX);
    gates.votes.clear();
    if gates.asked_at.take().is_some() {
        let fact = Fact::PlanChanged { plan, policy_version: applied.version, voided };
        pass.note(Some(deployment.number), fact);
    }
}

/// Whether one of the environments before has verified the release as forward-only.
fn marked_forward_only(
    target: &crate::TargetId,
    release: &crate::ReleaseId,
    applied: &AppliedTarget,
    around: Option<&Surroundings>,
) -> bool {
    let before = applied.entry.rules.after.iter().flat_map(|after| after.environments());
    before
        .filter_map(|environment| {
            around?.neighbours.get(&crate::TargetId { environment: environment.clone(), ..target.clone() })
        })
        .flat_map(|neighbour| &neighbour.verified)
        .any(|known| known.release.id.digest == release.digest && known.forward_only)
}

fn to_preflight(pass: &mut Pass, deployment: &mut Deployment, waited: bool) -> Flow {
    let deadline = deployment.policy.deadlines.preflight.after(pass.now);
    if waited {
        pass.enter(deployment, Stage::preflight(deadline), "every gate is open");
    } else {
        deployment.stage = Stage::preflight(deadline);
        deployment.stage_entered_at = pass.now;
    }
    let_promotion_go_on(pass, deployment);
    pass.look_again();
    Flow::Onward
}

/// Each gate's word is journalled when it changes, and no more often.
fn tell(pass: &mut Pass, deployment: &mut Deployment, ruling: &Ruling, inbox: &Inbox<'_>) {
    let Some(mut gates) = deployment.gates.take() else { return };
    let unread = !matches!(inbox.around.map(|around| &around.brakes), Some(Reading::Known(_)));
    for (gate, opinion) in &ruling.opinions {
        match opinion {
            Opinion::Waits { reason, until } => {
                // What cannot be read is told once, not at every look; what people are asked has its own entry.
                let unreadable = unread && matches!(gate, Gate::Freeze | Gate::StopTheLine);
                if *gate == Gate::Approval || (unreadable && inbox.around.is_none()) {
                    continue;
                }
                let known = if unreadable { "unread".to_owned() } else { reason.clone() };
                if gates.told.get(gate) != Some(&known) {
                    let fact = Fact::GateWaits { gate: *gate, reason: reason.clone(), until: *until };
                    pass.note(Some(deployment.number), fact);
                    gates.told.insert(*gate, known);
                }
            }
            Opinion::Open(how) => {
                let told = gates.told.remove(gate).is_some();
                let silence = *gate == Gate::Approval && how.is_some() && gates.asked_at.is_some();
                if (told || silence) && !gates.overridden.contains_key(gate) {
                    let how = how.clone().unwrap_or_else(|| "nothing is against it any more".to_owned());
                    pass.note(Some(deployment.number), Fact::GateOpened { gate: *gate, how });
                }
            }
            Opinion::Never { .. } => {}
        }
    }
    deployment.gates = Some(gates);
}

fn ask_people(pass: &mut Pass, deployment: &mut Deployment, applied: &AppliedTarget, ruling: &Ruling) {
    let Some(policy) = &applied.entry.rules.approval else { return };
    let waits = matches!(ruling.of(Gate::Approval), Some(Opinion::Waits { .. }));
    let asked = deployment.gates.as_ref().is_none_or(|gates| gates.asked_at.is_some());
    if !waits || asked || !rules::asks_people(ruling) {
        return;
    }
    if let Some(gates) = &mut deployment.gates {
        gates.asked_at = Some(pass.now);
    }
    let (target, frozen) = (&pass.state.target, pass.state.frozen.as_ref());
    let Some(question) = question(target, frozen, deployment, applied, None, pass.now) else { return };
    let fact = Fact::ApprovalRequested {
        plan: question.gates.plan.clone(),
        digest: deployment.release.id.digest.to_string(),
        tag: deployment.release.tag.clone(),
        required: policy.required,
        approvers: rules::may_approve(&question).into_iter().cloned().collect(),
        expires_at: policy.expires.after(pass.now),
    };
    pass.note(Some(deployment.number), fact);
}

fn wait(pass: &mut Pass, deployment: &Deployment, applied: &AppliedTarget, inbox: &Inbox<'_>) -> Flow {
    let deadline = deployment.stage.deadline();
    let (target, frozen) = (pass.state.target.clone(), pass.state.frozen.clone());
    let asked = question(&target, frozen.as_ref(), deployment, applied, inbox.around, pass.now);
    let Some(question) = asked else { return Flow::Wait };
    let unread = !matches!(inbox.around.map(|around| &around.brakes), Some(Reading::Known(_)));
    let poll = if unread { UNREAD_POLL } else { GATE_POLL };
    // While the service sleeps every look is one at AWS. Whoever opens another gate wakes the target.
    let poll = if deployment.asleep { asleep::POLL } else { poll };
    for (gate, reason, until) in judge(&question).waits() {
        let over = until.unwrap_or(deadline).min(deadline);
        let on = match (&applied.entry.rules.approval, question.gates.asked_at) {
            (Some(policy), Some(asked_at)) if gate == Gate::Approval => WaitingOn::Approval {
                plan: question.gates.plan.clone(),
                approved: rules::counted(&question).into_iter().map(|vote| vote.person.clone()).collect(),
                required: policy.required,
                may: rules::may_approve(&question).into_iter().cloned().collect(),
                expires_at: policy.expires.after(asked_at),
            },
            _ => WaitingOn::Gate { gate, reason: reason.to_owned(), until, deadline },
        };
        pass.wait(on, poll, over);
    }
    if inbox.around.is_none() {
        // Asked for before anything around could be read: at once, not in a minute.
        pass.look_again();
    }
    Flow::Wait
}

/// Somebody's yes or no.
pub(super) fn answer(pass: &mut Pass, inbox: &Inbox<'_>, command: &Command, number: u64, plan: &PlanId, yes: bool) {
    let what = if yes { "approve" } else { "reject" };
    let Some(mut running) = pass.state.running.take() else {
        return refuse(pass, what, format!("deployment #{number} is over, and nothing else waits here"));
    };
    match judged(pass, inbox, command, &running, number, plan, yes) {
        Err(reason) => refuse(pass, what, reason),
        Ok((person, _)) if !yes => {
            let why = if command.reason.is_empty() { String::new() } else { format!(": {}", command.reason) };
            pass.end(&running, Verdict::Rejected, format!("by {person}{why}"), None);
            return;
        }
        Ok((person, required)) => {
            let Some(gates) = &mut running.gates else { return };
            // What they said as somebody whom they are no more does not count beside it.
            gates.votes.retain(|vote| vote.person != person);
            gates.votes.push(Vote { person: person.clone(), actor: command.actor.clone(), at: pass.now });
            let approvals = u8::try_from(gates.votes.len()).unwrap_or(u8::MAX);
            let reason = command.reason.clone();
            let fact = Fact::Approved { person, plan: plan.clone(), approvals, required, reason };
            pass.note(Some(number), fact);
        }
    }
    pass.state.running = Some(running);
}

/// Who answers, and how many approvals are needed; else why the answer is not taken.
fn judged(
    pass: &Pass,
    inbox: &Inbox<'_>,
    command: &Command,
    running: &Deployment,
    number: u64,
    plan: &PlanId,
    yes: bool,
) -> Result<(crate::Name, u8), String> {
    if number != running.number {
        return Err(format!(
            "deployment #{number} is over: #{} ({}) took its place",
            running.number, running.release.tag
        ));
    }
    let applied = inbox.policy.ok_or_else(|| "no applied policy names this target".to_owned())?;
    let (target, frozen) = (&pass.state.target, pass.state.frozen.as_ref());
    let question = question(target, frozen, running, applied, inbox.around, pass.now)
        .ok_or_else(|| format!("deployment #{number} is past its gates ({})", running.stage.name()))?;
    rules::answerable(&question, plan, &command.actor, yes)
}

/// Gates opened by hand.
pub(super) fn open_by_hand(pass: &mut Pass, command: &Command, number: u64, wanted: &BTreeSet<Gate>) {
    let Some(mut running) = pass.state.running.take() else {
        return refuse(pass, "override", "no deployment waits at its gates here");
    };
    let waits = matches!(running.stage, Stage::Gated { .. });
    match &mut running.gates {
        _ if number != running.number => {
            let reason =
                format!("deployment #{number} is over: #{} ({}) is here now", running.number, running.release.tag);
            refuse(pass, "override", reason);
        }
        Some(gates) if waits => {
            if command.reason.trim().is_empty() {
                refuse(pass, "override", "opening a gate by hand needs a reason");
            } else if wanted.contains(&Gate::Asleep) {
                refuse(pass, "override", "nothing can be deployed while both sides are at 0 tasks: wake the service");
            } else if wanted.contains(&Gate::Train) {
                refuse(pass, "override", "the order of a release train cannot be overridden: deploy the service alone");
            } else if wanted.contains(&Gate::Image) {
                refuse(pass, "override", "an image that the registry does not have cannot be deployed: push it again");
            } else {
                for gate in wanted {
                    let opened =
                        Overridden { actor: command.actor.clone(), reason: command.reason.clone(), at: pass.now };
                    gates.overridden.insert(*gate, opened);
                    gates.told.remove(gate);
                    let fact = Fact::GateOverridden { gate: *gate, reason: command.reason.clone() };
                    pass.note(Some(number), fact);
                }
            }
        }
        _ => refuse(pass, "override", format!("deployment #{number} is past its gates ({})", running.stage.name())),
    }
    pass.state.running = Some(running);
}

/// A person who asks for an older release pins it: nothing is promoted over it by itself.
pub(super) fn pin(pass: &mut Pass, deployment: &Deployment) {
    if deployment.promotes_itself && asked_by_somebody(deployment) && is_older(pass, deployment) {
        let reason = format!("{} was pinned by {}", deployment.release.tag, deployment.actor);
        hold(pass, Some(deployment.number), &deployment.actor, reason);
    }
}

/// A person who brings another lets promotion go on: when it has passed its gates, since nothing came of it before.
fn let_promotion_go_on(pass: &mut Pass, deployment: &Deployment) {
    if asked_by_somebody(deployment) && !is_older(pass, deployment) && pass.state.promotion_hold.take().is_some() {
        let before = std::mem::replace(&mut pass.actor, deployment.actor.clone());
        pass.note(Some(deployment.number), Fact::PromotionResumed);
        pass.actor = before;
    }
}

fn asked_by_somebody(deployment: &Deployment) -> bool {
    let by_person = matches!(deployment.actor, Actor::Person { .. } | Actor::Workflow { .. });
    by_person && !matches!(deployment.terms.lane, Lane::Automatic { .. })
}

/// Whether it was pushed before what is stable.
pub(super) fn is_older(pass: &Pass, deployment: &Deployment) -> bool {
    let stable = pass.state.stable.as_ref().and_then(|stable| stable.release.as_ref());
    match (deployment.release.pushed_at, stable.and_then(|stable| stable.pushed_at)) {
        (Some(wanted), Some(stable)) => wanted < stable,
        _ => false,
    }
}

/// Nothing is promoted here by itself from now on.
pub(super) fn hold(pass: &mut Pass, number: Option<u64>, actor: &Actor, reason: String) {
    pass.note(number, Fact::PromotionHeld { reason: reason.clone() });
    pass.state.promotion_hold = Some(PromotionHold { since: pass.now, actor: actor.clone(), reason });
}
