//! Processes the commands of the inbox: in order, each consumed once, each answered in the journal.

use super::apply::apply;
use super::builder::Builder;
use super::rollback::{self, RollbackStart};
use super::start::start;
use super::transition::Transition;
use super::{Inbox, abandoning, gate, naming, operator, queue, verification};
use crate::command::{Command, DeployOptions, Instruction, Overrides, Train};
use crate::deployment::{Deployment, Purpose};
use crate::journal::Fact;
use crate::names::{Actor, Name};
use crate::release::ReleaseRef;
use crate::target::Queued;
use crate::verdict::{Cause, Verdict};
use crate::weighted::Weighted;

/// Writes a decision may have accumulated before it takes in another command. A decision is one transaction, and transactions are
/// bounded (DynamoDB: 100 items); a larger one would be decided again and again and never written.
const MOST_WRITES: usize = 40;

/// Outbox messages a decision may have accumulated before it takes in another command: they stay in the state until sent.
const MOST_MESSAGES: usize = 4;

/// Takes in all commands; those that do not fit into one decision are left for the next.
pub(super) fn take_in(builder: &mut Builder, inbox: &Inbox<'_>) {
    for command in inbox.commands {
        if builder.writes() >= MOST_WRITES || builder.state.outbox.len() >= MOST_MESSAGES {
            return builder.look_again();
        }
        builder.actor = command.actor.clone();
        let consumed = take(builder, inbox, command);
        builder.actor = Actor::Switchback;
        if consumed {
            builder.consume(&command.id);
        } else {
            // Processed again when the deployment has ended.
            builder.left_over = true;
        }
    }
}

/// Processes one command; returns whether it is consumed.
fn take(builder: &mut Builder, inbox: &Inbox<'_>, command: &Command) -> bool {
    match &command.instruction {
        Instruction::Deploy { release, image, tag, overrides, options } => {
            let release = ReleaseRef {
                id: release.clone(),
                image: image.clone(),
                tag: tag.clone(),
                pushed_at: options.pushed_at,
            };
            queue::enqueue(builder, inbox, order(command, release, overrides.clone(), options.clone()));
        }
        Instruction::Abort { deployment } => abort(builder, command, *deployment),
        Instruction::Rollback => rollback(builder, inbox, command),
        Instruction::Approve { deployment, plan } => {
            let answered = gate::answer(builder, inbox, command, (*deployment, plan), true);
            carry_out(builder, "approve", answered);
        }
        Instruction::Reject { deployment, plan } => {
            let answered = gate::answer(builder, inbox, command, (*deployment, plan), false);
            carry_out(builder, "reject", answered);
        }
        Instruction::Override { deployment, gates } => {
            let opened = gate::open_by_hand(&builder.state, command, *deployment, gates, builder.now);
            carry_out(builder, "override", opened);
        }
        Instruction::Resume => resume(builder, command),
        Instruction::StopTrain { train, service } => return stop_train(builder, inbox, command, train, service),
        Instruction::NameRelease { release, tag } => naming::name(builder, release, tag),
        Instruction::NoteRefusal { what } => builder.refuse(what, command.reason.clone()),
    }
    true
}

/// Applies the transition that a command produced, or journals why the command changes nothing.
fn carry_out(builder: &mut Builder, command: &str, asked: Result<Transition, String>) {
    match asked {
        Ok(transition) => {
            apply(builder, transition, None);
        }
        Err(reason) => builder.refuse(command, reason),
    }
}

fn order(command: &Command, release: ReleaseRef, overrides: Overrides, options: DeployOptions) -> Queued {
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
    let ended = match builder.state.running.as_ref() {
        None => Err("nothing is running here".to_owned()),
        Some(running) if number.is_some_and(|number| number != running.number) => {
            Err(format!("deployment #{} is running, not that one", running.number))
        }
        Some(running) => {
            let cause = Cause::Aborted { actor: command.actor.clone(), reason: command.reason.clone() };
            end_by_hand(builder, running, cause)
        }
    };
    carry_out(builder, "abort", ended);
}

/// The transition for a person's request to end a deployment; `Err`: why it changes nothing.
fn end_by_hand(builder: &Builder, running: &Deployment, cause: Cause) -> Result<Transition, String> {
    if let (Some(weighted), Some(_), Cause::Aborted { .. }) = (running.weighted(), running.awaiting_operator(), &cause)
    {
        // Leaves everything as it is: the next deployment corrects it.
        let weighted = Weighted { awaiting_operator: None, ..weighted.clone() };
        return Ok(abandoning::start(running, weighted, cause.summary(), builder.now).look_again());
    }
    match rollback::start(running, cause, builder.now) {
        RollbackStart::Started(transition) | RollbackStart::NothingToUndo(transition) => Ok(transition),
        RollbackStart::AlreadyGoing => Err(format!("deployment #{} is going back already", running.number)),
        RollbackStart::NoPath => Err(format!(
            "deployment #{} is past its way back ({}): wait for its end, then ask for a rollback",
            running.number,
            running.stage().name()
        )),
    }
}

/// Rolls back: a running deployment to its stable side, otherwise the target to its previous release.
fn rollback(builder: &mut Builder, inbox: &Inbox<'_>, command: &Command) {
    if let Some(running) = &builder.state.running {
        let cause = Cause::Asked { actor: command.actor.clone(), reason: command.reason.clone() };
        if !running.phase.is_waiting_to_start() {
            let ended = end_by_hand(builder, running, cause);
            return carry_out(builder, "rollback", ended);
        }
        // The deployment has not touched anything yet, so the request means the release that serves now.
        let ended = Transition::end_unseen(running.clone(), Verdict::Cancelled, cause.summary());
        apply(builder, ended, None);
    }
    let (purpose, goal) = if builder.state.drift().is_some() {
        (Purpose::Repair, builder.state.stable.clone())
    } else {
        (Purpose::Rollback, builder.state.previous.clone())
    };
    let Some(goal) = goal else {
        return builder.refuse("rollback", "no earlier release of this target is known");
    };
    let release = match (&goal.release, purpose) {
        (Some(release), _) => release.clone(),
        // The stable side is up and only its traffic has to be restored; its release need not be known for that.
        (None, Purpose::Repair) => goal.release_or_placeholder(&builder.state.target),
        (None, _) => {
            let what = "what ran before was not deployed by Switchback: deploy a release by name instead";
            return builder.refuse("rollback", what);
        }
    };
    let Some(applied) = inbox.policy else {
        let why = "no applied policy names this target: apply a switchback.yaml that does";
        return builder.refuse("rollback", why);
    };
    if purpose == Purpose::Rollback {
        verification::leave_stable(builder, command);
    }
    let order = order(command, release, Overrides::default(), DeployOptions::default());
    start(builder, order, purpose, Some(goal.task_definition), applied);
}

/// Resumes what waits for an operator: the running deployment, or the target.
fn resume(builder: &mut Builder, command: &Command) {
    let resumed = |number| (number, Fact::OperatorResumed { reason: command.reason.clone() });
    if let Some(running) = builder.state.running.clone()
        && let Some(weighted) = running.weighted()
    {
        if let Some(waits) = &weighted.awaiting_operator {
            let (number, fact) = resumed(Some(running.number));
            builder.note(number, fact);
            let since = waits.since;
            let running = operator::resumed(&running, weighted, waits, builder.now);
            // Promotion was held for this incident; a pin stays in place.
            let for_this = builder.state.promotion_hold.as_ref().is_some_and(|hold| hold.since == since);
            if for_this && !super::admission::is_older(&builder.state, &running) {
                builder.state.promotion_hold = None;
                builder.note(number, Fact::PromotionResumed);
            }
            builder.state.running = Some(running);
            return;
        }
        if let Some(alarm) = weighted.stable_alarm.clone() {
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
        None => builder.refuse("resume", "nothing is frozen here"),
    }
}

/// Another member of a release train failed. Returns false if the command must be processed again later.
fn stop_train(builder: &mut Builder, inbox: &Inbox<'_>, command: &Command, train_id: &str, service: &Name) -> bool {
    let of_it = |known: Option<&Train>| known.is_some_and(|known| known.id == train_id);
    let cause = Cause::Train { service: service.clone(), reason: command.reason.clone() };
    let (gone, stay): (Vec<Queued>, Vec<Queued>) =
        std::mem::take(&mut builder.state.queued).into_iter().partition(|queued| of_it(queued.options.train.as_ref()));
    builder.state.queued = stay;
    for queued in gone {
        builder.refuse("deploy", format!("{}: {}", queued.release.tag, cause.summary()));
    }
    let Some(running) = builder.state.running.clone() else {
        if builder.state.stable.as_ref().is_some_and(|stable| of_it(stable.train.as_ref())) {
            leave_with_train(builder, inbox, command, &cause);
        }
        return true;
    };
    let at_its_gates = matches!(running.phase, crate::phase::Phase::Gated(_));
    let train = running.options.train.as_ref();
    if !of_it(train) {
        let stable = builder.state.stable.as_ref().and_then(|stable| stable.train.as_ref());
        if !stable.is_some_and(|train| train.id == train_id && train.rollback_together) {
            return true;
        }
        // A newer release is about to replace the train's release. If that deployment fails too, the train's release has to be
        // rolled back after all.
        if at_its_gates {
            leave_with_train(builder, inbox, command, &cause);
        }
        return at_its_gates;
    }
    let together = train.is_some_and(|train| train.rollback_together);
    let mut alone = running.clone();
    alone.options.train = None;
    if at_its_gates {
        apply(builder, Transition::end_unseen(alone, Verdict::Failed, cause.summary()), None);
    } else if together {
        match rollback::start(&alone, cause, builder.now) {
            RollbackStart::NothingToUndo(transition) | RollbackStart::Started(transition) => {
                apply(builder, transition, None);
            }
            RollbackStart::AlreadyGoing => builder.state.running = Some(alone),
            RollbackStart::NoPath => return false,
        }
    }
    true
}

/// The train's release is stable here: rolls it back if the train rolls back together.
fn leave_with_train(builder: &mut Builder, inbox: &Inbox<'_>, command: &Command, cause: &Cause) {
    let Some(stable) = builder.state.stable.as_mut() else { return };
    if stable.train.take().is_some_and(|train| train.rollback_together) {
        if stable.forward_only {
            builder.refuse("rollback", format!("{}, and this release is forward-only", cause.summary()));
        } else {
            let asked = Command { reason: cause.summary(), ..command.clone() };
            rollback(builder, inbox, &asked);
        }
    }
}

/// Starts the next queued deployment if nothing runs.
pub(super) fn start_queued(builder: &mut Builder, inbox: &Inbox<'_>) {
    if let Some((order, applied)) = queue::next(builder, inbox) {
        let stable = builder.state.stable.as_ref().filter(|stable| stable.runs(&order.release));
        match stable.map(|stable| stable.task_definition.clone()) {
            // The stable side lost traffic: the weights are restored, and nothing is rolled out.
            Some(task_definition) => start(builder, order, Purpose::Repair, Some(task_definition), applied),
            None => start(builder, order, Purpose::Deploy, None, applied),
        }
    }
}
