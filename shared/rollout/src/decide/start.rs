//! The start of a deployment: its initial phase, its first journal entries, and its entry in the history.

use super::admission;
use super::builder::Builder;
use super::verification::hold_promotion;
use crate::command::Lane;
use crate::deployment::{Deployment, Purpose};
use crate::journal::Fact;
use crate::names::Actor;
use crate::phase::{Gated, Phase};
use crate::policy::AppliedTarget;
use crate::target::{Queued, StableSide};
use crate::template::TemplateReading;

/// Starts a deployment. `returns_to`: what a rollback or repair returns to.
pub(super) fn start(
    builder: &mut Builder,
    mut order: Queued,
    purpose: Purpose,
    returns_to: Option<&StableSide>,
    applied: &AppliedTarget,
) {
    builder.state.last_deployment += 1;
    let number = builder.state.last_deployment;
    let version = returns_to.map(|side| side.version.clone());
    if let Some(template) = returns_to.and_then(|side| side.template.clone()) {
        order.options.template = Some(Box::new(TemplateReading::new(template, Vec::new())));
    }
    let gates_deadline = applied.entry.rules.give_up_after.after(builder.now);
    let (gates, phase) = match purpose {
        Purpose::Deploy => {
            let gated = Gated { deadline: gates_deadline, asleep: false, version };
            (Some(admission::gates_of(&builder.state, &order, applied)), Phase::Gated(gated))
        }
        Purpose::Rollback | Purpose::Repair => {
            let deadline = applied.policy.deadlines.preflight.after(builder.now);
            (None, Phase::preparing(deadline, gates_deadline, version))
        }
    };
    let deployment = Deployment {
        number,
        release: order.release,
        purpose,
        actor: order.actor.clone(),
        reason: order.reason,
        overrides: order.overrides,
        options: order.options,
        gates,
        holds_lock: false,
        auto_promotes: applied.entry.auto_promotes,
        policy_version: applied.version,
        policy: applied.policy.clone(),
        started_at: builder.now,
        phase,
        stage_entered_at: builder.now,
        queue_position: None,
        superseded_by: None,
        last_effect_at: None,
        last_outcome_at: None,
        effect_failure: None,
        pending: Vec::new(),
    };
    builder.actor = order.actor;
    journal_start(builder, &deployment, applied);
    builder.actor = Actor::Switchback;
    builder.record(deployment.record(&builder.state.target));
    builder.state.running = Some(deployment);
}

/// Journals the start, and puts automatic promotion on hold where the start implies that.
fn journal_start(builder: &mut Builder, deployment: &Deployment, applied: &AppliedTarget) {
    let number = Some(deployment.number);
    let started = Fact::Started {
        digest: deployment.release.id.digest.to_string(),
        tag: deployment.release.tag.clone(),
        policy_version: deployment.policy_version,
        reason: deployment.reason.clone(),
        despite_alarms: deployment.overrides.firing_alarms.iter().cloned().collect(),
    };
    builder.note(number, started);
    if deployment.options.lane == Lane::Hotfix {
        let skips = applied.entry.rules.hotfix_skips.iter().copied().collect();
        builder.note(number, Fact::HotfixStarted { skips, reason: deployment.reason.clone() });
    }
    match deployment.purpose {
        Purpose::Deploy => admission::pin(builder, deployment),
        // Restoring weights does not change what is promoted.
        Purpose::Rollback | Purpose::Repair if applied.entry.auto_promotes && deployment.actor != Actor::Switchback => {
            let reason = format!("{} went back to {}", deployment.actor, deployment.release.tag);
            hold_promotion(builder, number, &deployment.actor, reason);
        }
        Purpose::Rollback | Purpose::Repair => {}
    }
}
