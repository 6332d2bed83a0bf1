//! What has no automatic way back: a forward-only release in trouble stays as it is, and a person is called.

use super::commands::refuse;
use super::pass::{Flow, Pass, live_side};
use super::{admission, back, promotion};
use crate::command::Command;
use crate::journal::Fact;
use crate::snapshot::Snapshot;
use crate::stage::Cause;
use crate::target::{Deployment, Frozen, HookResult, TargetFreeze, WaitingOn};
use crate::time::Seconds;

/// How long a person has to decide. Then it ends untouched, and the target stays frozen.
const PATIENCE: Seconds = Seconds(24 * 3600);
/// How often it is looked at meanwhile: somebody may switch back by hand.
const POLL: Seconds = Seconds(60);

/// Whether trouble freezes this deployment instead of turning it back. Before any traffic has moved, ending the attempt
/// takes nothing away from anybody.
pub(super) fn holds(deployment: &Deployment, cause: &Cause) -> bool {
    cause.is_automatic() && deployment.traffic_moved && is_forward_only(deployment)
}

/// Whoever asked for it said so, or a hook has begun that says so.
pub(super) fn is_forward_only(deployment: &Deployment) -> bool {
    let begun = |hook: &crate::policy::Hook| hook.forward_only && deployment.hooks.contains_key(hook.name.as_str());
    deployment.terms.forward_only || deployment.policy.hooks.iter().any(begun)
}

pub(super) fn freeze(pass: &mut Pass, deployment: &mut Deployment, cause: Cause) {
    if deployment.frozen.is_none() {
        pass.want_nothing_more();
        let deadline = PATIENCE.after(pass.now);
        deployment.frozen = Some(Frozen { cause, since: pass.now, deadline, told: false });
    }
    pass.look_again();
}

/// While it is frozen nothing else is judged.
pub(super) fn wait(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot) -> Flow {
    let Some(mut frozen) = deployment.frozen.take() else { return Flow::Onward };
    let number = deployment.number;
    if !frozen.told {
        frozen.told = true;
        let fact = Fact::Frozen { cause: frozen.cause.clone(), evidence: Box::new(snapshot.clone()) };
        pass.note(Some(number), fact);
        if deployment.stage.is_verified() {
            // Nothing follows what a person has to decide about. If they let it go on, it is verified after all.
            promotion::withdraw(pass, Some(number), &deployment.release.id.digest, &frozen.cause.sentence());
        }
        if deployment.promotes_itself {
            let reason = format!("deployment #{number} is frozen: {}", frozen.cause.sentence());
            admission::hold(pass, Some(number), &crate::Actor::Switchback, reason);
        }
    }
    let stable = deployment.sides.as_ref().map(|sides| sides.stable);
    let settled = deployment.settles_at(pass.seen_at, pass.now).is_none();
    if settled && stable.is_some() && live_side(snapshot) == stable {
        // What was so before its own last write is nobody's decision.
        let cause = if was_live(deployment) {
            // Somebody switched back by hand, everywhere.
            Cause::ByHand
        } else {
            // The first share was decided, and never came to be: nothing has moved that could not go back.
            deployment.traffic_moved = false;
            frozen.cause
        };
        back::begin(pass, deployment, cause);
        return Flow::Onward;
    }
    let reason = frozen.cause.sentence();
    if pass.now >= frozen.deadline {
        pass.state.frozen = Some(TargetFreeze { since: frozen.since, deployment: number, reason: reason.clone() });
        back::let_go(pass, deployment, format!("forward-only, and nobody decided within {PATIENCE}: {reason}"));
        return Flow::Onward;
    }
    let deadline = frozen.deadline;
    deployment.frozen = Some(frozen);
    pass.wait(WaitingOn::Frozen { reason, deadline }, POLL, deadline)
}

/// Whether the candidate was seen to have a share of the traffic.
fn was_live(deployment: &Deployment) -> bool {
    let (Some(record), Some(candidate)) = (deployment.weights, deployment.candidate()) else { return false };
    record.before.of(candidate) > 0 || (record.verified && record.decided.of(candidate) > 0)
}

/// A person lets it go on.
pub(super) fn resume(pass: &mut Pass, command: &Command) {
    if let Some(mut running) = pass.state.running.take() {
        if let Some(frozen) = running.frozen.take() {
            running.stage = running.stage.later(Seconds::between(frozen.since, pass.now));
            running.trouble = None;
            pass.note(Some(running.number), Fact::Unfrozen { reason: command.reason.clone() });
            put_up_with(pass, &mut running, &frozen.cause);
            running.verifies_again = running.stage.is_verified();
            // It was held for this trouble; a pin stays one.
            let for_this = pass.state.promotion_hold.as_ref().is_some_and(|hold| hold.since == frozen.since);
            if for_this && !admission::is_older(pass, &running) {
                pass.state.promotion_hold = None;
                pass.note(Some(running.number), Fact::PromotionResumed);
            }
            pass.state.running = Some(running);
            return;
        }
        if let Some((alarm, _)) = running.stable_alarm.take() {
            // Until it has been OK: after that it is judged again.
            running.overrides.firing_alarms.insert(alarm);
            pass.note(Some(running.number), Fact::Unfrozen { reason: command.reason.clone() });
            pass.state.running = Some(running);
            return;
        }
        pass.state.running = Some(running);
    }
    match pass.state.frozen.take() {
        Some(freeze) => pass.note(Some(freeze.deployment), Fact::Unfrozen { reason: command.reason.clone() }),
        None => refuse(pass, "resume", "nothing is frozen here"),
    }
}

/// Whoever lets it go on has taken upon themselves what it froze for: the same thing does not freeze it again at once.
fn put_up_with(pass: &Pass, running: &mut Deployment, cause: &Cause) {
    match cause {
        Cause::Alarm { name, .. } => {
            // Until it has been OK: after that it is judged again.
            running.overrides.firing_alarms.insert(name.clone());
        }
        Cause::Hook { name, .. } => {
            let allowed = running.policy.hooks.iter().find(|hook| hook.name.as_str() == name).map(|hook| hook.deadline);
            let Some(progress) = running.hooks.get_mut(name) else { return };
            if progress.stopping {
                // Its task was out of time, and is still at work: it has its time once more.
                progress.stopping = false;
                progress.result = None;
                let deadline = allowed.unwrap_or_default().after(pass.now);
                progress.deadline = deadline;
                running.stage.has_until(running.policy.deadlines.shift.after(deadline));
            } else {
                progress.result = Some(HookResult::Succeeded);
            }
        }
        Cause::Deadline { .. } => running.stage.has_until(running.policy.deadlines.shift.after(pass.now)),
        _ => {}
    }
}
