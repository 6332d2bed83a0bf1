//! The step of a deployment that waits at its gates: whether it may start, and people's approvals and overrides.

use super::admission::{is_explicit_request, is_older, stable_digest};
use super::apply::apply;
use super::builder::Builder;
use super::transition::{Change, Context, Transition};
use super::{Inbox, asleep};
use crate::command::{Command, DeployOptions, PlanId, Train, TrainApproval, Vote};
use crate::command_checks;
use crate::deployment::{Deployment, GateOverride, Purpose};
use crate::entry::Gate;
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::names::{Name, ReleaseId, TargetId};
use crate::phase::{Gated, Phase};
use crate::policy::AppliedTarget;
use crate::promotion::{GateContext, GateInput, GateResult, GateResults, evaluate_gates, plan_id, rules, takes_lock};
use crate::refusal::CommandRefusal;
use crate::snapshot::{Reading, Snapshot};
use crate::target::TargetState;
use crate::template::TemplateReading;
use crate::time::Seconds;
use crate::verdict::Verdict;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Poll interval of gates. Opening a gate sends a wake; polling only covers a lost wake.
const GATE_POLL: Seconds = Seconds(60);
/// The same after a failed reading.
const UNREAD_POLL: Seconds = Seconds(5);

/// One step of a gated deployment: it ends, keeps waiting, or proceeds to preflight.
pub(super) fn step(
    context: &Context<'_>,
    deployment: &Deployment,
    gated: &Gated,
    inbox: &Inbox<'_>,
    snapshot: Option<&Snapshot>,
) -> Transition {
    let (now_gated, woken) = asleep::woken(context, deployment, gated, snapshot);
    let woke = gated.asleep && !now_gated.asleep;
    let deployment = deployment.with_phase(Phase::Gated(now_gated.clone()));
    let mut changes: Vec<Change> = woken.into_iter().collect();
    let Some(applied) = inbox.policy else {
        let why = "no applied policy names this target any more";
        return Transition::end_without_rules(deployment, Verdict::Failed, why).changes(changes);
    };
    let gates = deployment.gates.as_ref();
    let waited = gates.is_some_and(|gates| gates.requested_at.is_some() || !gates.journalled.is_empty());
    let (deployment, plan_changed) = adopt_policy(context.state, deployment, applied, inbox.gate_context);
    changes.extend(plan_changed);
    let gate_input = GateInput::of(context.state, &deployment, applied, inbox.gate_context, context.now);
    let gate_results = match gate_input.as_ref().map(evaluate_gates) {
        Some(gate_results) => gate_results,
        // For a rollback this is the only gate.
        None if now_gated.asleep => {
            return asleep::wait(context, deployment, now_gated.deadline).with_changes_first(changes);
        }
        // The deployment is not gated: there is nothing to wait for.
        None => return to_preflight(context, &deployment, &now_gated, woke).with_changes_first(changes),
    };
    if let Some((gate, reason, verdict)) = gate_results.never() {
        let reason = format!("{gate}: {reason}");
        return Transition::end_without_rules(deployment, verdict, reason).changes(changes);
    }
    if !gate_results.is_open() && context.now >= now_gated.deadline {
        let open: Vec<String> = gate_results.waits().map(|(gate, reason, _)| format!("{gate}: {reason}")).collect();
        let most = applied.entry.rules.give_up_after;
        let reason = format!("it waited at its gates for {most}: {}", open.join("; "));
        return Transition::end_without_rules(deployment, Verdict::Expired, reason).changes(changes);
    }
    if !gate_results.is_open() && !waited {
        let names: Vec<&str> = gate_results.waits().map(|(gate, ..)| gate.name()).collect();
        let fact = Fact::StageEntered { stage: deployment.stage(), detail: names.join(", ") };
        changes.push(Change::Fact(fact));
    }
    let takes_lock = gate_input.as_ref().is_some_and(takes_lock);
    let (mut deployment, journalled) = journal(deployment, &gate_results, inbox);
    changes.extend(journalled);
    if let Some(gates) = &mut deployment.gates {
        gates.waits_for_lock = gate_results.waits_for_lock();
    }
    if gate_results.is_open() {
        deployment.holds_lock = takes_lock;
        changes.extend(train_approval(context.state, &deployment, applied));
        return to_preflight(context, &deployment, &now_gated, waited).with_changes_first(changes);
    }
    let (deployment, asked) = request_approval(context, deployment, inbox, applied, &gate_results);
    changes.extend(asked);
    wait(context, deployment, applied, inbox).with_changes_first(changes)
}

/// Adopts a policy that was applied meanwhile: nothing has started, so the previous policy is not binding. Approvals of
/// another plan become void.
fn adopt_policy(
    state: &TargetState,
    mut deployment: Deployment,
    applied: &AppliedTarget,
    gate_context: Option<&GateContext>,
) -> (Deployment, Option<Change>) {
    deployment.policy.clone_from(&applied.policy);
    deployment.policy_version = applied.version;
    deployment.auto_promotes = applied.entry.auto_promotes;
    // A release that is forward-only in an upstream environment has no automatic rollback here either, whichever way it
    // was requested.
    deployment.options.forward_only |=
        marked_forward_only(&state.target, &deployment.release.id, applied, gate_context);
    deployment.options.template = template(&deployment, gate_context);
    if let (None, Some(gates)) = (&applied.entry.rules.approval, &mut deployment.gates) {
        // No approval is pending any more. If approval is required again, that is a new request with its own deadline.
        gates.requested_at = None;
        gates.votes.clear();
        gates.approved_with = None;
    }
    let Deployment { release, options, overrides, .. } = &deployment;
    let plan = plan_id(&state.target, &release.id, options, overrides, applied, stable_digest(state));
    let Some(gates) = deployment.gates.as_mut().filter(|gates| gates.plan != plan) else {
        return (deployment, None);
    };
    gates.plan = plan.clone();
    let voided = u8::try_from(gates.votes.len()).unwrap_or(u8::MAX);
    let was_asked = gates.requested_at.take().is_some() | gates.approved_with.take().is_some();
    gates.votes.clear();
    let fact = Fact::PlanChanged { plan, policy_version: applied.version, voided };
    (deployment, was_asked.then_some(Change::Fact(fact)))
}

/// The template to make the new version of: the newest, as long as nothing has started. The last known one stays while it
/// cannot be read.
fn template(deployment: &Deployment, gate_context: Option<&GateContext>) -> Option<Box<TemplateReading>> {
    deployment.policy.template.family()?;
    if deployment.purpose != Purpose::Deploy {
        // It returns to a version that is made already.
        return deployment.options.template.clone();
    }
    match gate_context.and_then(|context| context.template.as_ref()) {
        Some(Reading::Known(newest)) => Some(Box::new(newest.clone())),
        Some(Reading::Unknown(_)) | None => deployment.options.template.clone(),
    }
}

/// Whether an upstream environment verified the release as forward-only.
fn marked_forward_only(
    target: &TargetId,
    release: &ReleaseId,
    applied: &AppliedTarget,
    gate_context: Option<&GateContext>,
) -> bool {
    let before = applied.entry.rules.after.iter().flat_map(|after| after.environments());
    before
        .filter_map(|environment| {
            gate_context?.related_targets.get(&TargetId { environment: environment.clone(), ..target.clone() })
        })
        .flat_map(|neighbour| &neighbour.verified)
        .any(|known| known.release.id.digest == release.digest && known.forward_only)
}

/// All gates are open. A person who deploys another release ends a promotion hold; before this point the request had no
/// effect.
fn to_preflight(context: &Context<'_>, deployment: &Deployment, gated: &Gated, waited: bool) -> Transition {
    let deadline = deployment.policy.deadlines.preflight.after(context.now);
    let phase = Phase::preparing(deadline, gated.deadline, gated.version.clone());
    let begun = deployment.with_phase(phase);
    let entered = if waited {
        Transition::enter_and_wait(begun, "every gate is open")
    } else {
        Transition::stay(Deployment { stage_entered_at: context.now, ..begun })
    };
    let entered = entered.observe_again();
    if is_explicit_request(deployment) && !is_older(context.state, deployment) {
        return entered.change_after_entry(Change::PromotionResumed { actor: deployment.actor.clone() });
    }
    entered
}

/// Journals the result of each gate, only when it changes.
fn journal(mut deployment: Deployment, gate_results: &GateResults, inbox: &Inbox<'_>) -> (Deployment, Vec<Change>) {
    let mut changes = Vec::new();
    let Some(gates) = &mut deployment.gates else { return (deployment, changes) };
    let unread = !matches!(inbox.gate_context.map(|context| &context.brakes), Some(Reading::Known(_)));
    for (gate, opinion) in &gate_results.results {
        match opinion {
            GateResult::Waits { reason, until } => {
                // An unreadable gate is journalled once, not at every observation; approval requests have their own
                // entry.
                let unreadable = unread && matches!(gate, Gate::Freeze | Gate::StopTheLine);
                if *gate == Gate::Approval || (unreadable && inbox.gate_context.is_none()) {
                    continue;
                }
                let known = if unreadable { "unread".to_owned() } else { reason.clone() };
                if gates.journalled.get(gate) != Some(&known) {
                    let fact = Fact::BlockedByGate { gate: *gate, reason: reason.clone(), until: *until };
                    changes.push(Change::Fact(fact));
                    gates.journalled.insert(*gate, known);
                }
            }
            GateResult::Open(how) => {
                let journalled = gates.journalled.remove(gate).is_some();
                let silence = *gate == Gate::Approval && how.is_some() && gates.requested_at.is_some();
                if (journalled || silence) && !gates.overridden.contains_key(gate) {
                    let how = how.clone().unwrap_or_else(|| "nothing is against it any more".to_owned());
                    changes.push(Change::Fact(Fact::GateOpened { gate: *gate, how }));
                }
            }
            GateResult::Never { .. } => {}
        }
    }
    (deployment, changes)
}

/// Requests approval once the gates before it are open.
fn request_approval(
    context: &Context<'_>,
    mut deployment: Deployment,
    inbox: &Inbox<'_>,
    applied: &AppliedTarget,
    gate_results: &GateResults,
) -> (Deployment, Option<Change>) {
    let Some(policy) = &applied.entry.rules.approval else { return (deployment, None) };
    let gate_input = GateInput::of(context.state, &deployment, applied, inbox.gate_context, context.now);
    if !gate_input.is_some_and(|gate_input| rules::asks_for_itself(&gate_input)) {
        return (deployment, None);
    }
    let waits = matches!(gate_results.of(Gate::Approval), Some(GateResult::Waits { .. }));
    match &mut deployment.gates {
        Some(gates) if gates.requested_at.is_none() && waits && rules::is_ready_for_approval(gate_results) => {
            gates.requested_at = Some(context.now);
        }
        _ => return (deployment, None),
    }
    let asked = GateInput::of(context.state, &deployment, applied, None, context.now).map(|gate_input| {
        Change::Fact(Fact::ApprovalRequested {
            plan: gate_input.gates.plan.clone(),
            digest: deployment.release.id.digest.to_string(),
            tag: deployment.release.tag.clone(),
            required: policy.required,
            approvers: rules::eligible_approvers(&gate_input).into_iter().cloned().collect(),
            expires_at: policy.expires.after(context.now),
            with: approved_with_it(context.state, &deployment),
        })
    });
    (deployment, asked)
}

/// The train that a deployment asks for the approval of, besides its own.
fn led_train<'d>(state: &TargetState, deployment: &'d Deployment) -> Option<&'d Train> {
    let train = deployment.options.train.as_ref()?;
    (train.lead.as_ref() == Some(&state.target.service)).then_some(train)
}

/// The other members of that train, and what each gets.
fn approved_with_it(state: &TargetState, deployment: &Deployment) -> BTreeMap<Name, String> {
    let Some(train) = led_train(state, deployment) else { return BTreeMap::new() };
    let others = train.members.keys().filter(|service| **service != state.target.service);
    others.map(|service| (service.clone(), train.label_of(service))).collect()
}

/// The message that passes an approval on to the other members of the train. A gate that a person opened by hand, or
/// that a hotfix skips, is open for this deployment alone.
fn train_approval(state: &TargetState, deployment: &Deployment, applied: &AppliedTarget) -> Option<Change> {
    let train = led_train(state, deployment)?;
    let gates = deployment.gates.as_ref()?;
    if applied.entry.rules.approval.is_none() || gates.requested_at.is_none() {
        return None;
    }
    if gates.overridden.contains_key(&Gate::Approval) || gates.skipped.contains(&Gate::Approval) {
        return None;
    }
    Some(Change::TrainApproved(Box::new(TrainApproval {
        train: Box::new(train.clone()),
        deployment: deployment.number,
        policy_version: applied.version,
        votes: gates.votes.clone(),
    })))
}

/// Takes over the approval that the lead of the train was given. Returns `false` if the member's deployment has not
/// started yet.
pub(super) fn approve_with_train(builder: &mut Builder, inbox: &Inbox<'_>, approval: &ApprovedTrain<'_>) -> bool {
    let of_it = |options: &DeployOptions| options.train.as_ref().is_some_and(|train| train.id == approval.train);
    let running = builder.state.running.clone().filter(|running| of_it(&running.options));
    let Some(mut approved) = running.filter(|running| matches!(running.phase, Phase::Gated(_))) else {
        return !builder.state.queued.iter().any(|queued| of_it(&queued.options));
    };
    // Under another policy it would do something else than what was approved: it asks by itself.
    let is_same = inbox.policy.is_some_and(|applied| applied.version == approval.policy_version);
    let Some(gates) = approved.gates.as_mut().filter(|gates| is_same && gates.requested_at.is_none()) else {
        return true;
    };
    gates.votes = approval.votes.to_vec();
    gates.approved_with = Some(approval.lead.clone());
    let people = approval.votes.iter().map(|vote| vote.person.clone()).collect();
    let fact = Fact::ApprovedWithTrain { service: approval.lead.clone(), people };
    apply(builder, Transition::stay(approved).fact(fact), None);
    true
}

/// The approval of a train, as [`Instruction::ApproveTrain`](crate::Instruction::ApproveTrain) has it.
pub(super) struct ApprovedTrain<'a> {
    pub(super) train: &'a str,
    pub(super) lead: &'a Name,
    pub(super) policy_version: u64,
    pub(super) votes: &'a [Vote],
}

/// Waits for every closed gate.
fn wait(context: &Context<'_>, deployment: Deployment, applied: &AppliedTarget, inbox: &Inbox<'_>) -> Transition {
    let deadline = deployment.phase.deadline();
    let mut transition = Transition::stay(deployment.clone());
    let asked = GateInput::of(context.state, &deployment, applied, inbox.gate_context, context.now);
    let Some(gate_input) = asked else { return transition };
    let unread = !matches!(inbox.gate_context.map(|context| &context.brakes), Some(Reading::Known(_)));
    let poll = if unread { UNREAD_POLL } else { GATE_POLL };
    // While the service sleeps, every poll costs AWS calls. Opening another gate wakes the target.
    let poll = if deployment.is_asleep() { asleep::POLL } else { poll };
    for (gate, reason, until) in evaluate_gates(&gate_input).waits() {
        let over = until.unwrap_or(deadline).min(deadline);
        let on = match (&applied.entry.rules.approval, gate_input.gates.requested_at) {
            (Some(policy), Some(requested_at)) if gate == Gate::Approval => WaitingOn::Approval {
                plan: gate_input.gates.plan.clone(),
                approved: rules::valid_votes(&gate_input).into_iter().map(|vote| vote.person.clone()).collect(),
                required: policy.required,
                eligible: rules::eligible_approvers(&gate_input).into_iter().cloned().collect(),
                expires_at: policy.expires.after(requested_at),
            },
            _ => WaitingOn::Gate { gate, reason: reason.to_owned(), until, deadline },
        };
        transition = transition.waiting(on, poll, over);
    }
    // The deployment was requested before the gate context could be read: check again at once instead of in a minute.
    if inbox.gate_context.is_none() { transition.observe_again() } else { transition }
}

/// Records an approval or a rejection.
pub(super) fn answer(
    builder: &Builder,
    inbox: &Inbox<'_>,
    command: &Command,
    (number, plan): (u64, &PlanId),
    approves: bool,
) -> Result<Transition, CommandRefusal> {
    let running = command_checks::gated_deployment(&builder.state, number)?;
    let (person, required) = validate_answer(builder, inbox, command, running, plan, approves)?;
    if !approves {
        let why = if command.reason.is_empty() { String::new() } else { format!(": {}", command.reason) };
        return Ok(Transition::end_without_rules(running.clone(), Verdict::Rejected, format!("by {person}{why}")));
    }
    let mut approved = running.clone();
    let Some(gates) = &mut approved.gates else { return Ok(Transition::stay(approved)) };
    // An earlier decision of the same person, under an identity that they no longer have, does not count in addition.
    gates.votes.retain(|vote| vote.person != person);
    gates.votes.push(Vote { person: person.clone(), actor: command.actor.clone(), at: builder.now });
    let approvals = u8::try_from(gates.votes.len()).unwrap_or(u8::MAX);
    let reason = command.reason.clone();
    let fact = Fact::Approved { person, plan: plan.clone(), approvals, required, reason };
    Ok(Transition::stay(approved).fact(fact))
}

/// The person who answers, and the number of approvals required.
fn validate_answer(
    builder: &Builder,
    inbox: &Inbox<'_>,
    command: &Command,
    running: &Deployment,
    plan: &PlanId,
    approves: bool,
) -> Result<(Name, u8), CommandRefusal> {
    let applied = inbox.policy.ok_or(CommandRefusal::NoPolicy)?;
    let past = || CommandRefusal::PastItsGates { deployment: running.number, stage: running.stage() };
    let gate_input =
        GateInput::of(&builder.state, running, applied, inbox.gate_context, builder.now).ok_or_else(past)?;
    rules::validate_approval_decision(&gate_input, plan, &command.actor, approves)
}

/// Overrides gates manually.
pub(super) fn override_gates(
    state: &TargetState,
    command: &Command,
    number: u64,
    wanted: &BTreeSet<Gate>,
    now: Timestamp,
) -> Result<Transition, CommandRefusal> {
    let mut opened = command_checks::gated_deployment(state, number)?.clone();
    if command.reason.trim().is_empty() {
        return Err(CommandRefusal::OverrideWithoutReason);
    }
    command_checks::overridable(wanted)?;
    let Some(gates) = &mut opened.gates else { return Ok(Transition::stay(opened)) };
    let mut changes = Vec::new();
    for gate in wanted {
        let by = GateOverride { actor: command.actor.clone(), reason: command.reason.clone(), at: now };
        gates.overridden.insert(*gate, by);
        gates.journalled.remove(gate);
        changes.push(Change::Fact(Fact::GateOverridden { gate: *gate, reason: command.reason.clone() }));
    }
    Ok(Transition::stay(opened).changes(changes))
}
