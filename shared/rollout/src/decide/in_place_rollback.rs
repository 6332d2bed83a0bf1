//! Rollback in place: sets the version before, until everything that runs is of it and healthy.

use super::cleanup::{MAX_RETRY_PERIOD, settling};
use super::going_back::{RollbackAnswer, await_operator, revoke_and_hold_promotion};
use super::health::UNREAD_POLL;
use super::hooks;
use super::replacement::{self, Progress, Replacement};
use super::transition::{Change, Context, Transition};
use crate::deployment::{Deployment, EffectFailure};
use crate::effect::{Effect, EffectKind};
use crate::explanation::WaitingOn;
use crate::in_place::{InPlace, InPlaceStage, Rollback, RollbackStep};
use crate::journal::Fact;
use crate::snapshot::{Reading, RolloutReading, Snapshot, WorkloadReading};
use crate::time::Seconds;
use crate::verdict::{Cause, Verdict};
use jiff::Timestamp;

/// How soon the workload is read again after its version was set.
const SETTING_POLL: Seconds = Seconds(1);
/// Poll interval while the platform replaces what runs, in case an event that announces progress is lost.
const REPLACING_POLL: Seconds = Seconds(10);

/// Starts a rollback that somebody asked for.
pub(super) fn request(deployment: &Deployment, in_place: &InPlace, cause: Cause, now: Timestamp) -> RollbackAnswer {
    if matches!(in_place.at, InPlaceStage::RollingBack(_)) {
        return RollbackAnswer::AlreadyRollingBack;
    }
    RollbackAnswer::Begun(start(deployment, in_place.clone(), cause, now))
}

/// Rolls back. A forward-only release in trouble awaits an operator instead.
pub(super) fn start(deployment: &Deployment, in_place: InPlace, cause: Cause, now: Timestamp) -> Transition {
    let deployment = deployment.with_in_place(in_place.clone());
    if cause.needs_operator(&deployment) {
        let waits = in_place.awaiting_operator.unwrap_or_else(|| await_operator(cause, now));
        let in_place = InPlace { awaiting_operator: Some(waits), ..in_place };
        return Transition::continue_with(deployment.with_in_place(in_place)).observe_again();
    }
    let changes = revoke_and_hold_promotion(&deployment, &cause);
    let path = in_place.rollback_path();
    let detail = format!("to {}", short_version(path.version()));
    let started = Fact::RollbackStarted { cause: cause.clone() };
    let deadline = deployment.policy.deadlines.rollback.after(now);
    let rollback = Rollback { path, cause, step: RollbackStep::start(), deadline };
    let in_place = InPlace {
        at: InPlaceStage::RollingBack(rollback),
        hooks: hooks::turned_back(in_place.hooks),
        halted: None,
        awaiting_operator: None,
        ..in_place
    };
    let entered = Transition::enter(deployment.with_in_place(in_place), detail).fact(started).observe_again();
    entered.with_changes_first(changes)
}

/// The last part of a version's name, for people.
pub(super) fn short_version(version: &str) -> &str {
    version.rsplit('/').next().unwrap_or(version)
}

/// A deployment that rolls back in place, and its observation.
struct Observed<'a> {
    context: &'a Context<'a>,
    deployment: &'a Deployment,
    snapshot: &'a Snapshot,
    in_place: InPlace,
    rollback: Rollback,
}

/// One step of a rollback.
pub(super) fn step(
    context: &Context<'_>,
    deployment: &Deployment,
    snapshot: &Snapshot,
    in_place: InPlace,
    rollback: Rollback,
) -> Transition {
    let stopping = hooks::stop(&in_place.hooks, snapshot);
    let in_place = InPlace { hooks: stopping.hooks, ..in_place };
    let observed = Observed { context, deployment, snapshot, in_place, rollback };
    let transition = match observed.rollback.step.clone() {
        _ if !observed.in_place.has_replaced() => observed.nothing_replaced(&stopping.running),
        RollbackStep::Setting { accepted, overwritten } => observed.set(accepted, overwritten),
        RollbackStep::Registering => observed.register(),
        RollbackStep::Replacing => observed.replace(&stopping.running),
    };
    transition.effects(stopping.effects)
}

impl Observed<'_> {
    /// The deployment with this state of the rollback.
    fn at(&self, rollback: Rollback) -> Deployment {
        let in_place = InPlace { at: InPlaceStage::RollingBack(rollback), ..self.in_place.clone() };
        self.deployment.with_in_place(in_place)
    }

    fn at_step(&self, step: RollbackStep) -> Deployment {
        self.at(Rollback { step, ..self.rollback.clone() })
    }

    fn verdict(&self) -> Verdict {
        self.rollback.cause.verdict(self.in_place.has_replaced())
    }

    /// The new version was never set: there is nothing to undo but hooks that still run.
    fn nothing_replaced(&self, running_hooks: &[String]) -> Transition {
        if !running_hooks.is_empty() && self.context.now < self.rollback.deadline {
            return self.wait_for_hooks(running_hooks);
        }
        Transition::end(self.at(self.rollback.clone()), self.verdict(), self.rollback.cause.summary())
    }

    fn wait_for_hooks(&self, running: &[String]) -> Transition {
        let deadline = self.rollback.deadline;
        let on = WaitingOn::RestoringSettings { what: running.join(", "), deadline };
        Transition::wait(self.at(self.rollback.clone()), on, UNREAD_POLL, deadline)
    }

    /// Sets the version before, until it is seen set by a request that is known to have worked. It is set whoever has set
    /// another one meanwhile: that is journalled. `accepted`: the platform took this rollback's request.
    fn set(&self, accepted: bool, mut overwritten: Option<String>) -> Transition {
        let now = self.context.now;
        let path = &self.rollback.path;
        let stale_until = self.deployment.stale_until(self.context.seen_at, now);
        let settled = stale_until.is_none();
        let workload = self.snapshot.workload.known();
        let is_set = workload.is_some_and(|workload| workload.version == path.version());
        let is_known = !self.is_outcome_unknown();
        if is_set && settled && is_known {
            return Transition::continue_with(self.at_step(RollbackStep::Replacing));
        }
        let deadline = self.rollback.deadline.max(UNREAD_POLL.after(now));
        if let Some(until) = stale_until.filter(|_| accepted && is_known) {
            let waiting = self.at_step(RollbackStep::Setting { accepted, overwritten });
            return Transition::wait(waiting, self.waiting_on(deadline), SETTING_POLL, until);
        }
        let failure = self.failure_of(EffectKind::ReplaceVersion);
        if failure.is_some_and(|failure| failure.refused) && path.image().is_some() {
            // Most likely its registration is gone; whatever the reason is, an equal one is tried.
            return Transition::continue_with(self.at_step(RollbackStep::Registering)).observe_again();
        }
        if let Some(reason) = self.reason_to_give_up(failure) {
            return self.failed(&format!("{} could not be set again: {reason}", short_version(path.version())));
        }
        let foreign = workload.filter(|workload| self.is_foreign(workload));
        let mut changes = Vec::new();
        if let Some(found) = foreign.map(|workload| workload.version.clone())
            && overwritten.as_ref() != Some(&found)
        {
            overwritten = Some(found.clone());
            let cause = self.rollback.cause.summary();
            changes.push(Change::Fact(Fact::ForeignVersionReplaced { found, cause }));
        }
        let version = path.version().to_owned();
        let setting = self.at_step(RollbackStep::Setting { accepted: false, overwritten });
        let waiting = Transition::wait(setting, self.waiting_on(deadline), SETTING_POLL, deadline);
        waiting.changes(changes).effect(Effect::ReplaceVersion { version })
    }

    /// Whether the workload runs what neither this deployment nor the one before has set.
    fn is_foreign(&self, workload: &WorkloadReading) -> bool {
        workload.version != self.rollback.path.version()
            && workload.version != self.in_place.before.version
            && self.in_place.set_version.as_ref() != Some(&workload.version)
    }

    /// Whether the outcome of the last request to set a version is unknown: its response was lost, or the driver that
    /// sent it died.
    fn is_outcome_unknown(&self) -> bool {
        let pending = self.deployment.pending.iter().any(|effect| matches!(effect, Effect::ReplaceVersion { .. }));
        let failure = self.deployment.effect_failure.as_ref();
        pending || failure.is_some_and(|failure| failure.effect.kind == EffectKind::ReplaceVersion)
    }

    /// The failure of the last request, if it was one of this kind.
    fn failure_of(&self, kind: EffectKind) -> Option<&EffectFailure> {
        self.deployment.effect_failure.as_ref().filter(|failure| failure.effect.kind == kind)
    }

    /// Registers a version equal to the one before.
    fn register(&self) -> Transition {
        if let Some(reason) = self.reason_to_give_up(self.failure_of(EffectKind::RegisterVersion)) {
            let version = short_version(self.rollback.path.version());
            return self.failed(&format!("{version} could not be registered again: {reason}"));
        }
        let template = self.rollback.path.version().to_owned();
        let image = self.rollback.path.image().unwrap_or_default().to_owned();
        let deadline = self.rollback.deadline.max(UNREAD_POLL.after(self.context.now));
        let on = WaitingOn::Version { deadline };
        let waiting = Transition::wait(self.at(self.rollback.clone()), on, SETTING_POLL, deadline);
        // Not in the owners' family of templates: it would become the newest of them.
        let family = self.deployment.policy.template.family_of_versions();
        waiting.effect(Effect::RegisterVersion { template, image, family })
    }

    /// Why it is no longer tried: AWS refuses it, or a rollback past its deadline has been retried for long enough.
    fn reason_to_give_up(&self, failure: Option<&EffectFailure>) -> Option<String> {
        let refused = failure.filter(|failure| failure.refused).map(|failure| failure.reason.clone());
        let over = self.context.now >= MAX_RETRY_PERIOD.after(self.rollback.deadline);
        refused.or_else(|| {
            let last = failure.map(|failure| failure.reason.clone());
            over.then(|| last.unwrap_or_else(|| "it was not seen set".to_owned()))
        })
    }

    /// The version before is set: waits until everything that runs is of it.
    fn replace(&self, running_hooks: &[String]) -> Transition {
        let now = self.context.now;
        let workload = match &self.snapshot.workload {
            Reading::Known(workload) => workload,
            Reading::Unknown(reason) if now >= self.rollback.deadline => {
                return self.failed(&replacement::unread(reason));
            }
            Reading::Unknown(reason) => {
                let deadline = self.rollback.deadline;
                let on = WaitingOn::Reading { reason: replacement::unread(reason), deadline };
                return Transition::wait(self.at(self.rollback.clone()), on, UNREAD_POLL, deadline);
            }
        };
        if workload.version != self.rollback.path.version() {
            let given_up_at = MAX_RETRY_PERIOD.after(self.deployment.stage_entered_at);
            if now >= given_up_at {
                return self
                    .failed(&format!("somebody else sets {} again and again", short_version(&workload.version)));
            }
            // Somebody has set another version since. A rollback is completed.
            let longer = self.deployment.policy.deadlines.rollback.after(now).min(given_up_at);
            let deadline = self.rollback.deadline.max(longer);
            let again = Rollback { step: RollbackStep::start(), deadline, ..self.rollback.clone() };
            return Transition::continue_with(self.at(again)).observe_again();
        }
        match replacement::of_version(workload) {
            Replacement::Done { running } => self.finish(running_hooks, running),
            // Nothing runs and nothing shall run: there is nothing to wait for.
            Replacement::NotYet(_) if workload.desired == 0 && workload.running == 0 && workload.others == 0 => {
                self.finish(running_hooks, 0)
            }
            Replacement::NotYet(progress) => self.wait_for_replacement(workload, &progress),
            // `of_version` says only whether it is done.
            Replacement::Never { .. } | Replacement::Foreign { .. } | Replacement::Unknown(_) => {
                Transition::stay(self.at(self.rollback.clone())).observe_again()
            }
        }
    }

    fn finish(&self, running_hooks: &[String], running: u32) -> Transition {
        if !running_hooks.is_empty() && self.context.now < self.rollback.deadline {
            return self.wait_for_hooks(running_hooks);
        }
        if let Some((on, until)) = settling(self.context, self.deployment) {
            return Transition::wait(self.at(self.rollback.clone()), on, UNREAD_POLL, until);
        }
        let version = self.rollback.path.version().to_owned();
        let ended = Transition::end(self.at(self.rollback.clone()), self.verdict(), self.rollback.cause.summary());
        ended.fact(Fact::Replaced { version, running })
    }

    fn wait_for_replacement(&self, workload: &WorkloadReading, progress: &Progress) -> Transition {
        let now = self.context.now;
        let longer = self.deployment.policy.deadlines.rollback.after(now);
        let deadline = replacement::extended(self.deployment, progress, self.rollback.deadline, longer);
        if now >= deadline {
            if progress.healthy >= progress.want {
                let left = Fact::CleanupIncomplete { what: progress.summary() };
                let at = self.at(self.rollback.clone());
                return Transition::end(at, self.verdict(), self.rollback.cause.summary()).fact(left);
            }
            return self.failed(&progress.summary());
        }
        // The platform gave up on the version before, too: it starts tasks of it again only in a new deployment.
        let settled = self.deployment.stale_until(self.context.seen_at, now).is_none();
        let gave_up = matches!(workload.rollout, RolloutReading::Failed { .. });
        let version = self.rollback.path.version().to_owned();
        let effect = (gave_up && settled).then_some(Effect::ReplaceVersion { version });
        let on = self.waiting_on(deadline);
        let waiting = self.at(Rollback { deadline, ..self.rollback.clone() });
        Transition::wait(waiting, on, REPLACING_POLL, deadline).effects(effect)
    }

    fn waiting_on(&self, deadline: Timestamp) -> WaitingOn {
        match self.snapshot.workload.known().map(replacement::of_version) {
            Some(Replacement::NotYet(Progress { healthy, want, others, protected, detail })) => {
                WaitingOn::Replacing { healthy, want, others, protected, detail, deadline }
            }
            _ => WaitingOn::Version { deadline },
        }
    }

    /// Ends a rollback that could not be completed.
    fn failed(&self, why: &str) -> Transition {
        let reason = format!("the rollback ({}) was not completed in time: {why}", self.rollback.cause.summary());
        let left = Fact::CleanupIncomplete { what: "the workload is left as it is".to_owned() };
        Transition::end(self.at(self.rollback.clone()), Verdict::Failed, reason).fact(left)
    }
}
