//! What was asked: taken in order, each consumed once, each with an answer in the journal.

use super::pass::Pass;
use super::{Inbox, admission, back, frozen, naming, promotion, queue};
use crate::command::{Command, Instruction, Lane, Terms, Train};
use crate::journal::Fact;
use crate::names::{Actor, Name};
use crate::stage::{Cause, Stage, Verdict};
use crate::target::{Deployment, Purpose, Queued, ReleaseRef};
use std::collections::BTreeMap;

/// What may have to be written before another command is taken in. A decision is one transaction, and those are bounded
/// (DynamoDB's take 100 items): one that does not fit would be decided for ever, and never written.
const MOST_WRITES: usize = 40;

/// What other targets may have to be told before another command is taken in: it stands in the state until they were.
const MOST_ERRANDS: usize = 4;

/// Takes in every command; those that are too many for one decision, with the next one.
pub(super) fn take_in(pass: &mut Pass, inbox: &Inbox<'_>) {
    for command in inbox.commands {
        if pass.writes() >= MOST_WRITES || pass.state.errands.len() >= MOST_ERRANDS {
            return pass.look_again();
        }
        pass.actor = command.actor.clone();
        match &command.instruction {
            Instruction::Deploy { release, image, tag, overrides, terms } => {
                let release = ReleaseRef {
                    id: release.clone(),
                    image: image.clone(),
                    tag: tag.clone(),
                    pushed_at: terms.pushed_at,
                };
                let queued = Queued {
                    release,
                    actor: command.actor.clone(),
                    reason: command.reason.clone(),
                    overrides: overrides.clone(),
                    terms: terms.clone(),
                    command: command.id.clone(),
                    at: command.at,
                };
                queue::enqueue(pass, inbox, queued);
            }
            Instruction::Abort { deployment } => abort(pass, command, *deployment),
            Instruction::Rollback => rollback(pass, inbox, command),
            Instruction::Approve { deployment, plan } => {
                admission::answer(pass, inbox, command, *deployment, plan, true);
            }
            Instruction::Reject { deployment, plan } => {
                admission::answer(pass, inbox, command, *deployment, plan, false);
            }
            Instruction::Override { deployment, gates } => admission::open_by_hand(pass, command, *deployment, gates),
            Instruction::Resume => frozen::resume(pass, command),
            Instruction::StopTrain { train, service } => {
                if !stop_train(pass, inbox, command, train, service) {
                    // Asked again when the deployment is over.
                    pass.left_over = true;
                    pass.actor = Actor::Switchback;
                    continue;
                }
            }
            Instruction::NameRelease { release, tag } => naming::name(pass, release, tag),
            Instruction::NoteRefusal { what } => refuse(pass, what, command.reason.clone()),
        }
        pass.consume(&command.id);
        pass.actor = Actor::Switchback;
    }
}

pub(super) fn refuse(pass: &mut Pass, command: &str, reason: impl Into<String>) {
    pass.note(None, Fact::CommandRefused { command: command.to_owned(), reason: reason.into() });
}

/// Ends the running deployment, if it can still be ended.
fn abort(pass: &mut Pass, command: &Command, number: Option<u64>) {
    let Some(mut running) = pass.state.running.take() else {
        return refuse(pass, "abort", "nothing is running here");
    };
    if number.is_some_and(|number| number != running.number) {
        refuse(pass, "abort", format!("deployment #{} is running, not that one", running.number));
        pass.state.running = Some(running);
        return;
    }
    let cause = Cause::Aborted { actor: command.actor.clone(), reason: command.reason.clone() };
    end_by_hand(pass, &mut running, "abort", cause);
}

/// Goes back: of a running deployment to its stable side; otherwise to the release before.
fn rollback(pass: &mut Pass, inbox: &Inbox<'_>, command: &Command) {
    if let Some(mut running) = pass.state.running.take() {
        if running.stage.has_not_begun() {
            // Nothing of it has begun: what is meant is what serves now.
            let reason = Cause::Asked { actor: command.actor.clone(), reason: command.reason.clone() }.sentence();
            pass.end(&running, Verdict::Cancelled, reason, None);
        } else {
            let cause = Cause::Asked { actor: command.actor.clone(), reason: command.reason.clone() };
            return end_by_hand(pass, &mut running, "rollback", cause);
        }
    }
    let (purpose, goal) = if pass.state.drift().is_some() {
        (Purpose::Repair, pass.state.stable.clone())
    } else {
        (Purpose::Rollback, pass.state.previous.clone())
    };
    let Some(goal) = goal else {
        return refuse(pass, "rollback", "no earlier release of this target is known");
    };
    let release = match (&goal.release, purpose) {
        (Some(release), _) => release.clone(),
        // It is up, and only its traffic has to come back: its name is not needed for that.
        (None, Purpose::Repair) => goal.release_or_what_ran(&pass.state.target),
        (None, _) => {
            let what = "what ran before was not deployed by Switchback: deploy a release by name instead";
            return refuse(pass, "rollback", what);
        }
    };
    let Some(applied) = inbox.policy else {
        return refuse(pass, "rollback", "no applied policy names this target: apply a switchback.yaml that does");
    };
    let order = Queued {
        release,
        actor: command.actor.clone(),
        reason: command.reason.clone(),
        overrides: crate::Overrides::default(),
        terms: Terms::default(),
        command: command.id.clone(),
        at: command.at,
    };
    if purpose == Purpose::Rollback {
        promotion::leave_stable(pass, command);
    }
    start(pass, order, purpose, Some(goal.task_definition), applied);
}

/// Another member of a release train did not make it. False: to be asked again later.
fn stop_train(pass: &mut Pass, inbox: &Inbox<'_>, command: &Command, train_id: &str, service: &Name) -> bool {
    let of_it = |known: Option<&Train>| known.is_some_and(|known| known.id == train_id);
    let cause = Cause::Train { service: service.clone(), reason: command.reason.clone() };
    let (gone, stay) =
        std::mem::take(&mut pass.state.queued).into_iter().partition(|queued| of_it(queued.terms.train.as_ref()));
    pass.state.queued = stay;
    let gone: Vec<Queued> = gone;
    for queued in gone {
        refuse(pass, "deploy", format!("{}: {}", queued.release.tag, cause.sentence()));
    }
    if let Some(mut running) = pass.state.running.take() {
        let (ours, together) =
            (of_it(running.terms.train.as_ref()), running.terms.train.as_ref().is_some_and(|train| train.together));
        if !ours {
            let at_its_gates = matches!(running.stage, Stage::Gated { .. });
            pass.state.running = Some(running);
            let stable = pass.state.stable.as_ref().and_then(|stable| stable.train.as_ref());
            if !stable.is_some_and(|train| train.id == train_id && train.together) {
                return true;
            }
            if !at_its_gates {
                // Something newer is about to take the place of what the train has brought. If that does not make it
                // either, the train's release is to go back after all.
                return false;
            }
            return leave_with_train(pass, inbox, command, &cause);
        } else if matches!(running.stage, Stage::Gated { .. }) {
            running.terms.train = None;
            pass.end(&running, Verdict::Failed, cause.sentence(), None);
        } else if together {
            let before = running.terms.train.take();
            match back::begin(pass, &mut running, cause) {
                back::Begun::Over => {}
                back::Begun::Going => pass.state.running = Some(running),
                back::Begun::Impossible => {
                    running.terms.train = before;
                    pass.state.running = Some(running);
                    return false;
                }
            }
        } else {
            pass.state.running = Some(running);
        }
        return true;
    }
    if pass.state.stable.as_ref().is_some_and(|stable| of_it(stable.train.as_ref())) {
        leave_with_train(pass, inbox, command, &cause);
    }
    true
}

/// What the train has brought is stable here: it goes back if the train does so together.
fn leave_with_train(pass: &mut Pass, inbox: &Inbox<'_>, command: &Command, cause: &Cause) -> bool {
    let Some(stable) = pass.state.stable.as_mut() else { return true };
    if stable.train.take().is_some_and(|train| train.together) {
        if stable.forward_only {
            refuse(pass, "rollback", format!("{}, and this release is forward-only", cause.sentence()));
        } else {
            let asked = Command { reason: cause.sentence(), ..command.clone() };
            rollback(pass, inbox, &asked);
        }
    }
    true
}

fn end_by_hand(pass: &mut Pass, running: &mut Deployment, command: &str, cause: Cause) {
    if running.frozen.is_some() && matches!(cause, Cause::Aborted { .. }) {
        // It stays as it is: whoever ends it fixes it with what comes next.
        running.frozen = None;
        back::let_go(pass, running, cause.sentence());
        pass.look_again();
    } else if matches!(running.stage, Stage::RollingBack { .. }) {
        refuse(pass, command, format!("deployment #{} is going back already", running.number));
    } else if back::begin(pass, running, cause) == back::Begun::Over {
        // Nothing had been touched: it ended at once.
        return;
    } else if !matches!(running.stage, Stage::RollingBack { .. }) {
        let text = format!(
            "deployment #{} is past its way back ({}): wait for its end, then ask for a rollback",
            running.number,
            running.stage.name()
        );
        refuse(pass, command, text);
    }
    pass.state.running = Some(running.clone());
}

/// Starts what waits, if nothing runs.
pub(super) fn start_queued(pass: &mut Pass, inbox: &Inbox<'_>) {
    if let Some((order, applied)) = queue::next(pass, inbox) {
        let stable = pass.state.stable.as_ref().filter(|stable| stable.runs(&order.release));
        match stable.map(|stable| stable.task_definition.clone()) {
            // Its traffic went astray: it is put back, and nothing is rolled out.
            Some(task_definition) => start(pass, order, Purpose::Repair, Some(task_definition), applied),
            None => start(pass, order, Purpose::Deploy, None, applied),
        }
    }
}

/// Begins a deployment.
pub(super) fn start(
    pass: &mut Pass,
    order: Queued,
    purpose: Purpose,
    task_definition: Option<String>,
    applied: &crate::AppliedTarget,
) {
    pass.state.last_deployment += 1;
    let number = pass.state.last_deployment;
    let deadline = applied.entry.rules.give_up_after.after(pass.now);
    let (gates, stage) = match purpose {
        Purpose::Deploy => (Some(admission::gates_of(&pass.state, &order, applied)), Stage::Gated { deadline }),
        Purpose::Rollback | Purpose::Repair => {
            (None, Stage::preflight(applied.policy.deadlines.preflight.after(pass.now)))
        }
    };
    let deployment = Deployment {
        number,
        release: order.release,
        purpose,
        actor: order.actor.clone(),
        reason: order.reason,
        overrides: order.overrides,
        terms: order.terms,
        gates,
        promotes_itself: applied.entry.promotes_itself,
        frozen: None,
        policy_version: applied.version,
        policy: applied.policy.clone(),
        started_at: pass.now,
        stage,
        stage_entered_at: pass.now,
        place: None,
        sides: None,
        task_definition,
        made_like: None,
        up_since: None,
        asleep: false,
        gates_until: Some(deadline),
        candidate_updated: false,
        traffic_moved: false,
        verifies_again: false,
        written_blind: false,
        traffic_since: None,
        stable_alarm: None,
        weights: None,
        test_rule_before: None,
        borrowed: BTreeMap::new(),
        borrowed_at: None,
        hooks: BTreeMap::new(),
        halted: None,
        resumed_at: None,
        acted_at: None,
        tried_at: None,
        superseded_by: None,
        blocked: None,
        trouble: None,
        pending: Vec::new(),
    };
    pass.actor = order.actor;
    pass.note(
        Some(deployment.number),
        Fact::Started {
            digest: deployment.release.id.digest.to_string(),
            tag: deployment.release.tag.clone(),
            policy_version: deployment.policy_version,
            reason: deployment.reason.clone(),
            despite_alarms: deployment.overrides.firing_alarms.iter().cloned().collect(),
        },
    );
    if deployment.terms.lane == Lane::Hotfix {
        let skips = applied.entry.rules.hotfix_skips.iter().copied().collect();
        pass.note(Some(number), Fact::Hotfixed { skips, reason: deployment.reason.clone() });
    }
    match purpose {
        Purpose::Deploy => admission::pin(pass, &deployment),
        // Weights that are put back where they were change nothing of what is promoted.
        Purpose::Rollback | Purpose::Repair
            if applied.entry.promotes_itself && deployment.actor != Actor::Switchback =>
        {
            let reason = format!("{} went back to {}", deployment.actor, deployment.release.tag);
            admission::hold(pass, Some(number), &deployment.actor, reason);
        }
        Purpose::Rollback | Purpose::Repair => {}
    }
    pass.actor = Actor::Switchback;
    pass.record(deployment.record(None, &pass.state.target));
    pass.state.running = Some(deployment);
}
