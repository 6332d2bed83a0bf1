//! Processes the commands of the inbox: in order, each consumed once, each answered in the journal.

use super::apply::apply;
use super::builder::Builder;
use super::going_back::RollbackAnswer;
use super::rollback;
use super::start::start;
use super::transition::Transition;
use super::{Inbox, abandoning, gate, naming, operator, queue, verification};
use crate::command::{Command, DeployOptions, Instruction, Overrides, Train};
use crate::command_checks;
use crate::deployment::{Deployment, Purpose};
use crate::journal::Fact;
use crate::names::{Actor, ImageDigest, Name, TargetId};
use crate::phase::{Moving, Phase};
use crate::refusal::CommandRefusal;
use crate::release::ReleaseRef;
use crate::target::{Queued, StableSide};
use crate::time::Seconds;
use crate::verdict::{Cause, Verdict};
use crate::weighted::Weighted;

/// Writes a decision may have accumulated before it processes another command. A decision is one transaction, and
/// transactions are bounded (DynamoDB: 100 items); a larger one would be decided again and again and never written.
const MAX_WRITES: usize = 40;

/// Outbox messages a decision may have accumulated before it processes another command: they stay in the state until
/// sent.
const MAX_MESSAGES: usize = 4;

/// How soon a member of a train looks again whether those that depend on it have gone back.
const DEPENDENTS_POLL: Seconds = Seconds(10);

/// Processes the commands of the inbox; those that do not fit into one decision are left for the next.
pub(super) fn process(builder: &mut Builder, inbox: &Inbox<'_>) {
    for command in inbox.commands {
        if builder.writes() >= MAX_WRITES || builder.state.outbox.len() >= MAX_MESSAGES {
            return builder.observe_again();
        }
        builder.actor = command.actor.clone();
        let consumed = process_one(builder, inbox, command);
        builder.actor = Actor::Switchback;
        if consumed {
            builder.consume(&command.id);
        } else {
            // Processed again when the deployment has ended.
            builder.has_deferred_command = true;
        }
    }
}

/// Processes one command; returns whether it is consumed.
fn process_one(builder: &mut Builder, inbox: &Inbox<'_>, command: &Command) -> bool {
    match &command.instruction {
        Instruction::Deploy { release, image, tag, overrides, options } => {
            let release = ReleaseRef {
                id: release.clone(),
                image: image.clone(),
                tag: tag.clone(),
                pushed_at: options.pushed_at,
            };
            queue::enqueue(builder, inbox, queued_release(command, release, overrides.clone(), options.clone()));
        }
        Instruction::Abort { deployment } => abort(builder, command, *deployment),
        Instruction::Rollback => rollback(builder, inbox, command),
        Instruction::Approve { deployment, plan } => {
            let answered = gate::answer(builder, inbox, command, (*deployment, plan), true);
            apply_or_refuse(builder, "approve", answered);
        }
        Instruction::Reject { deployment, plan } => {
            let answered = gate::answer(builder, inbox, command, (*deployment, plan), false);
            apply_or_refuse(builder, "reject", answered);
        }
        Instruction::Override { deployment, gates } => {
            let opened = gate::override_gates(&builder.state, command, *deployment, gates, builder.now);
            apply_or_refuse(builder, "override", opened);
        }
        Instruction::Resume => resume(builder, command),
        Instruction::ApproveTrain { train, lead, policy_version, votes } => {
            let approval = gate::ApprovedTrain { train, lead, policy_version: *policy_version, votes };
            return gate::approve_with_train(builder, inbox, &approval);
        }
        Instruction::StopTrain { train, service } => return stop_train(builder, inbox, command, train, service),
        Instruction::NameRelease { release, tag } => naming::name(builder, release, tag),
        Instruction::NoteRefusal { what } => {
            builder.refuse(what, CommandRefusal::AtEntryPoint { reason: command.reason.clone() });
        }
    }
    true
}

/// Applies the transition that a command produced, or journals why the command changes nothing.
fn apply_or_refuse(builder: &mut Builder, command: &str, asked: Result<Transition, CommandRefusal>) {
    match asked {
        Ok(transition) => {
            apply(builder, transition, None);
        }
        Err(reason) => builder.refuse(command, reason),
    }
}

/// The release that a command requests, as an entry of the queue.
fn queued_release(command: &Command, release: ReleaseRef, overrides: Overrides, options: DeployOptions) -> Queued {
    Queued {
        release,
        actor: command.actor.clone(),
        reason: command.reason.clone(),
        overrides,
        options,
        command: command.id.clone(),
        at: command.at,
    }
}

/// Ends the running deployment if it can still be ended.
fn abort(builder: &mut Builder, command: &Command, number: Option<u64>) {
    let cause = Cause::Aborted { actor: command.actor.clone(), reason: command.reason.clone() };
    let running = command_checks::deployment_to_abort(&builder.state, number);
    let ended = running.and_then(|running| end_by_hand(builder, running, cause));
    apply_or_refuse(builder, "abort", ended);
}

/// The transition for a person's request to end a deployment.
fn end_by_hand(builder: &Builder, running: &Deployment, cause: Cause) -> Result<Transition, CommandRefusal> {
    if running.awaiting_operator().is_some() && matches!(cause, Cause::Aborted { .. }) {
        // Leaves everything as it is: the next deployment corrects it.
        match &running.phase {
            Phase::Moving(Moving::Weighted(weighted)) => {
                let weighted = Weighted { awaiting_operator: None, ..(**weighted).clone() };
                return Ok(abandoning::start(running, weighted, cause.summary(), builder.now).observe_again());
            }
            Phase::Moving(Moving::InPlace(in_place)) => {
                return Ok(operator::left_in_place(running, (**in_place).clone(), cause.summary()));
            }
            Phase::Moving(Moving::First(_)) | Phase::Gated(_) | Phase::Preparing(_) => {}
        }
    }
    match rollback::request(running, cause, builder.now) {
        RollbackAnswer::Begun(transition) | RollbackAnswer::NothingToUndo(transition) => Ok(transition),
        RollbackAnswer::AlreadyRollingBack => Err(CommandRefusal::AlreadyRollingBack { deployment: running.number }),
        RollbackAnswer::NoPath => {
            Err(CommandRefusal::NoRollbackPath { deployment: running.number, stage: running.stage() })
        }
    }
}

/// Rolls back: a running deployment to its stable side, otherwise the target to its previous release.
fn rollback(builder: &mut Builder, inbox: &Inbox<'_>, command: &Command) {
    if let Some(running) = &builder.state.running {
        let cause = Cause::Asked { actor: command.actor.clone(), reason: command.reason.clone() };
        if !running.phase.is_waiting_to_start() {
            let ended = end_by_hand(builder, running, cause);
            return apply_or_refuse(builder, "rollback", ended);
        }
        // The deployment has not touched anything yet, so the request means the release that serves now.
        let ended = Transition::end_without_rules(running.clone(), Verdict::Cancelled, cause.summary());
        apply(builder, ended, None);
    }
    let (purpose, goal) = match command_checks::rollback_goal(&builder.state) {
        Ok((purpose, goal)) => (purpose, goal.clone()),
        Err(refusal) => return builder.refuse("rollback", refusal),
    };
    let release = match (&goal.release, purpose) {
        (Some(release), _) => release.clone(),
        // The stable side is up and only its traffic has to be restored; its release need not be known for that.
        (None, Purpose::Repair) => goal.release_or_placeholder(&builder.state.target),
        (None, _) => return builder.refuse("rollback", CommandRefusal::EarlierReleaseUnknown),
    };
    let Some(applied) = inbox.policy else {
        return builder.refuse("rollback", CommandRefusal::NoPolicy);
    };
    if purpose == Purpose::Rollback {
        verification::leave_stable(builder, command);
    }
    let order = queued_release(command, release, Overrides::default(), DeployOptions::default());
    start(builder, order, purpose, Some(&goal), applied);
}

/// Resumes what waits for an operator: the running deployment, or the target.
fn resume(builder: &mut Builder, command: &Command) {
    let resumed = |number| (number, Fact::OperatorResumed { reason: command.reason.clone() });
    if let Some(running) = builder.state.running.clone() {
        if let Some(waits) = running.awaiting_operator() {
            let (number, fact) = resumed(Some(running.number));
            builder.note(number, fact);
            let since = waits.since;
            let running = operator::resumed(&running, waits, builder.now);
            // Promotion was held for this incident; a pin stays in place.
            let for_this = builder.state.promotion_hold.as_ref().is_some_and(|hold| hold.since == since);
            if for_this && !super::admission::is_older(&builder.state, &running) {
                builder.state.promotion_hold = None;
                builder.note(number, Fact::PromotionResumed);
            }
            builder.state.running = Some(running);
            return;
        }
        if let Some((weighted, alarm)) = running.weighted().and_then(|it| Some((it, it.stable_alarm.clone()?))) {
            // Ignored until the alarm has been OK once; after that the alarm is judged again.
            let mut running = running.with_weighted(Weighted { stable_alarm: None, ..weighted.clone() });
            running.overrides.firing_alarms.insert(alarm.name);
            let (number, fact) = resumed(Some(running.number));
            builder.note(number, fact);
            builder.state.running = Some(running);
            return;
        }
    }
    match builder.state.operator_hold.take() {
        Some(hold) => {
            let (number, fact) = resumed(Some(hold.deployment));
            builder.note(number, fact);
        }
        None => builder.refuse("resume", CommandRefusal::NotOnHold),
    }
}

/// Another member of a release train failed. Returns `false` if the command must be processed again later.
fn stop_train(builder: &mut Builder, inbox: &Inbox<'_>, command: &Command, train_id: &str, service: &Name) -> bool {
    let of_it = |known: Option<&Train>| known.is_some_and(|known| known.id == train_id);
    let cause = Cause::Train { service: service.clone(), reason: command.reason.clone() };
    let (stopped, kept): (Vec<Queued>, Vec<Queued>) = std::mem::take(&mut builder.state.queued)
        .into_iter()
        .partition(|queued| of_it(queued.options.train.as_deref()));
    builder.state.queued = kept;
    for queued in stopped {
        let refusal = CommandRefusal::TrainFailed { tag: queued.release.tag, cause: cause.summary() };
        builder.refuse("deploy", refusal);
    }
    if waits_for_dependents(builder, inbox, command, train_id) {
        builder.observe_by(DEPENDENTS_POLL.after(builder.now));
        return false;
    }
    let Some(running) = builder.state.running.clone() else {
        if builder.state.stable.as_ref().is_some_and(|stable| of_it(stable.train.as_deref())) {
            roll_back_with_train(builder, inbox, command, &cause);
        }
        return true;
    };
    let at_its_gates = matches!(running.phase, Phase::Gated(_));
    let train = running.options.train.as_deref();
    if !of_it(train) {
        let stable = builder.state.stable.as_ref().and_then(|stable| stable.train.as_ref());
        if !stable.is_some_and(|train| train.id == train_id && train.rollback_together) {
            return true;
        }
        // A newer release is about to replace the train's release. If that deployment fails too, the train's release
        // has to be rolled back after all.
        if at_its_gates {
            roll_back_with_train(builder, inbox, command, &cause);
        }
        return at_its_gates;
    }
    let together = train.is_some_and(|train| train.rollback_together);
    let mut alone = running.clone();
    alone.options.train = None;
    if at_its_gates {
        apply(builder, Transition::end_without_rules(alone, Verdict::Failed, cause.summary()), None);
    } else if together {
        match rollback::request(&alone, cause, builder.now) {
            RollbackAnswer::NothingToUndo(transition) | RollbackAnswer::Begun(transition) => {
                apply(builder, transition, None);
            }
            RollbackAnswer::AlreadyRollingBack => builder.state.running = Some(alone),
            RollbackAnswer::NoPath => return false,
        }
    }
    true
}

/// Whether a member of a train that goes back as a whole still waits for those that depend on it: they go back first, so
/// that none of them meets a release of what it depends on that is older than it knows. Only a verified member has
/// dependents that may have started. It waits at most as long as a rollback may take.
fn waits_for_dependents(builder: &Builder, inbox: &Inbox<'_>, command: &Command, train_id: &str) -> bool {
    let running = builder.state.running.as_ref().filter(|running| running.stage().has_baked());
    let stable = builder.state.stable.as_ref().and_then(|stable| stable.train.as_ref());
    let train = running.and_then(|running| running.options.train.as_ref()).or(stable);
    let Some(train) = train.filter(|train| train.id == train_id && train.rollback_together) else { return false };
    let Some(applied) = inbox.policy else { return false };
    if builder.now >= applied.policy.deadlines.rollback.after(command.at) {
        return false;
    }
    let is_rid_of = |service: &Name, digest: &ImageDigest| {
        let target = TargetId { service: service.clone(), ..builder.state.target.clone() };
        let known = inbox.gate_context.and_then(|context| context.related_targets.get(&target));
        known.is_some_and(|known| known.is_rid_of(digest))
    };
    let mut dependents = train.members.iter().filter(|(service, _)| applied.entry.dependents.contains(*service));
    dependents.any(|(service, digest)| !is_rid_of(service, digest))
}

/// The train's release is stable here: rolls it back if the train rolls back together.
fn roll_back_with_train(builder: &mut Builder, inbox: &Inbox<'_>, command: &Command, cause: &Cause) {
    let Some(stable) = builder.state.stable.as_mut() else { return };
    if stable.train.take().is_some_and(|train| train.rollback_together) {
        if stable.forward_only {
            builder.refuse("rollback", CommandRefusal::ForwardOnly { cause: cause.summary() });
        } else {
            let asked = Command { reason: cause.summary(), ..command.clone() };
            rollback(builder, inbox, &asked);
        }
    }
}

/// Starts the next queued deployment if nothing runs.
pub(super) fn start_queued(builder: &mut Builder, inbox: &Inbox<'_>) {
    if let Some((order, applied)) = queue::next(builder, inbox) {
        let configures = order.options.configuration;
        // In place the version is set again like any other, with the same proof.
        let is_stable = |stable: &StableSide| stable.slot.is_some() && stable.runs(&order.release) && !configures;
        match builder.state.stable.clone().filter(is_stable) {
            // The stable side lost traffic: the weights are restored, and nothing is rolled out.
            Some(stable) => start(builder, order, Purpose::Repair, Some(&stable), applied),
            None => start(builder, order, Purpose::Deploy, None, applied),
        }
    }
}
