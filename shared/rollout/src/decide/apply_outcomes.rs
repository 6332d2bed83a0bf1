//! Applies the outcomes of a decision's effects to the target's state.

use super::builder::Builder;
use crate::deployment::{Deployment, EffectFailure};
use crate::effect::{Effect, HookReport, Outcome};
use crate::first::{First, FirstStage};
use crate::in_place::{self, InPlace, InPlaceStage};
use crate::journal::{Fact, JournalEntry};
use crate::phase::{Moving, Phase};
use crate::target::TargetState;
use crate::time::Seconds;
use crate::weighted::{HookProgress, HookResult, Registering, Rollback, RollbackStep, Weighted, WeightedStage};
use jiff::Timestamp;

/// Poll interval for a hook that is still running or could not be reached.
const HOOK_POLL: Seconds = Seconds(10);

/// Applies the outcomes of a decision's effects: returns the next state and the journal entries about them.
///
/// `outcomes` may be shorter than the list of effects: after the first failure the remaining effects are not performed.
#[must_use]
pub fn apply_outcomes(
    state: &TargetState,
    outcomes: &[(Effect, Outcome)],
    now: Timestamp,
) -> (TargetState, Vec<JournalEntry>) {
    let mut builder = Builder::new(state, None, now);
    if let Some(deployment) = &mut builder.state.running {
        deployment.pending.clear();
    }
    for (effect, outcome) in outcomes {
        if let Some(running) = builder.state.running.clone() {
            let (changed, facts) = apply_outcome(running, effect, outcome, now);
            facts.into_iter().for_each(|fact| builder.note(Some(changed.number), fact));
            builder.state.running = Some(changed);
        }
    }
    builder.into_state_and_journal()
}

/// The deployment after the outcome of one effect, and the fact to journal.
fn apply_outcome(
    mut deployment: Deployment,
    effect: &Effect,
    outcome: &Outcome,
    now: Timestamp,
) -> (Deployment, Option<Fact>) {
    deployment.last_outcome_at = Some(now);
    if !matches!(effect, Effect::InvokeHook { .. }) && !matches!(outcome, Outcome::Conflict { .. }) {
        deployment.last_effect_at = Some(now);
    }
    if matches!(effect, Effect::SetWeights { .. }) {
        deployment = with_weighted(deployment, count_attempt);
    }
    let (mut deployment, fact) = match outcome {
        Outcome::Conflict { reason } | Outcome::Unsure { reason } => {
            return failed(deployment, effect, (reason, false, false), now);
        }
        Outcome::Throttled { reason } => return failed(deployment, effect, (reason, false, true), now),
        Outcome::Refused { reason } => return failed(deployment, effect, (reason, true, false), now),
        Outcome::Done if matches!(effect, Effect::ReplaceVersion { .. }) => (accepted(deployment), None),
        Outcome::Done => (deployment, None),
        Outcome::Registered { version, reused } => {
            let fact = Fact::VersionReady { version: version.clone(), reused: *reused };
            (registered(deployment, version), Some(fact))
        }
        Outcome::TaskStarted { task } => {
            let started = |progress: HookProgress| HookProgress { task: Some(task.clone()), ..progress };
            (with_hook(deployment, effect, started), None)
        }
        Outcome::HookReported { report } => reported(deployment, effect, report, now),
    };
    deployment.effect_failure =
        deployment.effect_failure.filter(|effect_failure| effect_failure.effect != effect.key());
    (deployment, fact)
}

fn with_weighted(deployment: Deployment, change: impl FnOnce(Weighted) -> Weighted) -> Deployment {
    match deployment.weighted().cloned() {
        Some(weighted) => deployment.with_weighted(change(weighted)),
        None => deployment,
    }
}

/// The deployment, with `change` applied to the hook that the effect belongs to.
fn with_hook(deployment: Deployment, effect: &Effect, change: impl FnOnce(HookProgress) -> HookProgress) -> Deployment {
    let (Effect::InvokeHook { hook, .. } | Effect::StartTask { hook, .. }) = effect else { return deployment };
    let Some(mut hooks) = deployment.hook_progress().cloned() else { return deployment };
    if let Some(progress) = hooks.remove(hook) {
        hooks.insert(hook.clone(), change(progress));
    }
    match &deployment.phase {
        Phase::Moving(Moving::Weighted(weighted)) => {
            deployment.with_weighted(Weighted { hooks, ..(**weighted).clone() })
        }
        Phase::Moving(Moving::InPlace(in_place)) => deployment.with_in_place(InPlace { hooks, ..(**in_place).clone() }),
        Phase::Moving(Moving::First(first)) => deployment.with_first(First { hooks, ..(**first).clone() }),
        Phase::Gated(_) | Phase::Preparing(_) => deployment,
    }
}

/// Counts an attempt of a rollback to write the weights.
fn count_attempt(weighted: Weighted) -> Weighted {
    let at = match weighted.at {
        WeightedStage::RollingBack(Rollback {
            step: RollbackStep::RestoringWeights { tries, replaced },
            path,
            cause,
            deadline,
            stable_unfit,
        }) => {
            let step = RollbackStep::RestoringWeights { tries: tries.saturating_add(1), replaced };
            WeightedStage::RollingBack(Rollback { step, path, cause, deadline, stable_unfit })
        }
        at => at,
    };
    Weighted { at, ..weighted }
}

/// The deployment after the platform took a request to set a version.
fn accepted(deployment: Deployment) -> Deployment {
    let Some(in_place) = deployment.in_place() else { return deployment };
    let InPlaceStage::RollingBack(rollback) = in_place.at.clone() else { return deployment };
    let in_place::RollbackStep::Setting { overwritten, .. } = rollback.step else { return deployment };
    let step = in_place::RollbackStep::Setting { accepted: true, overwritten };
    let at = InPlaceStage::RollingBack(in_place::Rollback { step, ..rollback });
    deployment.with_in_place(InPlace { at, ..in_place.clone() })
}

/// The deployment after a version was registered: the new one or, in a rollback in place, one equal to that before.
fn registered(deployment: Deployment, version: &str) -> Deployment {
    let of = |registering: Registering| Registering { registered: Some(version.to_owned()), ..registering };
    match &deployment.phase {
        Phase::Moving(Moving::Weighted(weighted)) => {
            let WeightedStage::Registering(registering) = weighted.at.clone() else { return deployment };
            let at = WeightedStage::Registering(of(registering));
            deployment.with_weighted(Weighted { at, ..(**weighted).clone() })
        }
        Phase::Moving(Moving::InPlace(in_place)) => {
            let at = match in_place.at.clone() {
                InPlaceStage::Registering(registering) => InPlaceStage::Registering(of(registering)),
                InPlaceStage::RollingBack(rollback) if rollback.step == in_place::RollbackStep::Registering => {
                    let step = in_place::RollbackStep::start();
                    let path = rollback.path.with_version(version.to_owned());
                    InPlaceStage::RollingBack(in_place::Rollback { path, step, ..rollback })
                }
                _ => return deployment,
            };
            deployment.with_in_place(InPlace { at, ..(**in_place).clone() })
        }
        Phase::Moving(Moving::First(first)) => {
            let FirstStage::Registering(registering) = first.at.clone() else { return deployment };
            let at = FirstStage::Registering(of(registering));
            deployment.with_first(First { at, ..(**first).clone() })
        }
        Phase::Gated(_) | Phase::Preparing(_) => deployment,
    }
}

fn reported(
    deployment: Deployment,
    effect: &Effect,
    report: &HookReport,
    now: Timestamp,
) -> (Deployment, Option<Fact>) {
    let Effect::InvokeHook { hook, .. } = effect else { return (deployment, None) };
    let known = deployment.hook_progress().is_some_and(|hooks| hooks.contains_key(hook));
    let succeeded = known && *report == HookReport::Succeeded;
    let deployment = with_hook(deployment, effect, |progress| match report {
        HookReport::Succeeded => HookProgress { result: Some(HookResult::Succeeded), ..progress },
        HookReport::Failed { reason } => HookProgress { result: Some(HookResult::Failed(reason.clone())), ..progress },
        HookReport::InProgress => HookProgress { next_poll_at: HOOK_POLL.after(now), ..progress },
    });
    (deployment, succeeded.then(|| Fact::HookSucceeded { hook: hook.clone() }))
}

/// The deployment after an effect failed. `why`: AWS's error, whether AWS will refuse the call again, and whether the
/// call was throttled.
fn failed(
    deployment: Deployment,
    effect: &Effect,
    why: (&str, bool, bool),
    now: Timestamp,
) -> (Deployment, Option<Fact>) {
    let (reason, refused, throttled) = why;
    let key = effect.key();
    let poll_later = |progress: HookProgress| HookProgress { next_poll_at: HOOK_POLL.after(now), ..progress };
    let mut deployment = match effect {
        Effect::InvokeHook { .. } => with_hook(deployment, effect, poll_later),
        _ => deployment,
    };
    let before = deployment.effect_failure.take().filter(|effect_failure| effect_failure.effect == key);
    let consecutive_failures =
        before.as_ref().map_or(0, |effect_failure| effect_failure.consecutive_failures).saturating_add(1);
    // Only the first of consecutive failures is journalled; the rest would only fill the journal.
    let first = before.is_none_or(|effect_failure| effect_failure.refused != refused);
    let fact = Fact::EffectFailed { effect: key.kind, reason: reason.to_owned(), refused };
    deployment.effect_failure =
        Some(EffectFailure { effect: key, reason: reason.to_owned(), refused, consecutive_failures, throttled });
    (deployment, first.then_some(fact))
}
