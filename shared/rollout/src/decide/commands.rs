//! What was asked: taken in order, each consumed once, each with an answer in the journal.

use super::Inbox;
use super::back;
use super::pass::Pass;
use super::queue;
use crate::command::{Command, Instruction};
use crate::journal::Fact;
use crate::names::Actor;
use crate::stage::{Cause, Stage};
use crate::target::{Deployment, Purpose, Queued, ReleaseRef};
use std::collections::BTreeMap;

/// Takes in every command.
pub(super) fn take_in(pass: &mut Pass, inbox: &Inbox<'_>) {
    for command in inbox.commands {
        pass.actor = command.actor.clone();
        match &command.instruction {
            Instruction::Deploy { release, image, tag, overrides } => {
                let release = ReleaseRef { id: release.clone(), image: image.clone(), tag: tag.clone() };
                let queued = Queued {
                    release,
                    actor: command.actor.clone(),
                    reason: command.reason.clone(),
                    overrides: overrides.clone(),
                    command: command.id.clone(),
                    at: command.at,
                };
                queue::enqueue(pass, inbox, queued);
            }
            Instruction::Abort { deployment } => abort(pass, command, *deployment),
            Instruction::Rollback => rollback(pass, inbox, command),
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
        let cause = Cause::Asked { actor: command.actor.clone(), reason: command.reason.clone() };
        return end_by_hand(pass, &mut running, "rollback", cause);
    }
    let (purpose, goal) = if pass.state.unsettled {
        (Purpose::Repair, pass.state.stable.clone())
    } else {
        (Purpose::Rollback, pass.state.previous.clone())
    };
    let Some(goal) = goal else {
        return refuse(pass, "rollback", "no earlier release of this target is known");
    };
    let Some(release) = goal.release else {
        let what = "what ran before was not deployed by Switchback: deploy a release by name instead";
        return refuse(pass, "rollback", what);
    };
    let Some(applied) = inbox.policy else {
        return refuse(pass, "rollback", "no applied policy names this target: apply a switchback.yaml that does");
    };
    let order = Queued {
        release,
        actor: command.actor.clone(),
        reason: command.reason.clone(),
        overrides: crate::Overrides::default(),
        command: command.id.clone(),
        at: command.at,
    };
    start(pass, order, purpose, Some(goal.task_definition), applied);
}

fn end_by_hand(pass: &mut Pass, running: &mut Deployment, command: &str, cause: Cause) {
    if matches!(running.stage, Stage::RollingBack { .. }) {
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
        start(pass, order, Purpose::Deploy, None, applied);
    }
}

fn start(
    pass: &mut Pass,
    order: Queued,
    purpose: Purpose,
    task_definition: Option<String>,
    applied: &crate::AppliedTarget,
) {
    pass.state.last_deployment += 1;
    let deployment = Deployment {
        number: pass.state.last_deployment,
        release: order.release,
        purpose,
        actor: order.actor.clone(),
        reason: order.reason,
        overrides: order.overrides,
        policy_version: applied.version,
        policy: applied.policy.clone(),
        started_at: pass.now,
        stage: Stage::Preflight { deadline: applied.policy.deadlines.preflight.after(pass.now) },
        stage_entered_at: pass.now,
        sides: None,
        task_definition,
        candidate_updated: false,
        traffic_moved: false,
        weights: None,
        test_rule_before: None,
        borrowed: BTreeMap::new(),
        hooks: BTreeMap::new(),
        halted: None,
        resumed_at: None,
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
    pass.actor = Actor::Switchback;
    pass.record(deployment.record(None, &pass.state.target));
    pass.state.running = Some(deployment);
}
