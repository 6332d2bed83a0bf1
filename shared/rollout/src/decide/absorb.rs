//! What the outcomes of a decision's effects change.

use super::pass::Pass;
use crate::effect::{Effect, HookReport, Outcome};
use crate::journal::{Fact, JournalEntry};
use crate::stage::{RollbackPhase, Stage};
use crate::target::{Deployment, HookResult, TargetState, Trouble};
use crate::time::Seconds;
use jiff::Timestamp;

/// How soon a hook that is still at work, or could not be reached, is asked again.
const ASK_AGAIN: Seconds = Seconds(10);

/// What the outcomes of a decision's effects change: the next state, and what is journalled of it.
///
/// `outcomes` may be shorter than what was decided: after one that did not work the rest is not performed.
#[must_use]
pub fn absorb(state: &TargetState, outcomes: &[(Effect, Outcome)], now: Timestamp) -> (TargetState, Vec<JournalEntry>) {
    let mut pass = Pass::new(state, None, now);
    if let Some(mut deployment) = pass.state.running.take() {
        deployment.pending.clear();
        for (effect, outcome) in outcomes {
            take_in(&mut pass, &mut deployment, effect, outcome);
        }
        pass.state.running = Some(deployment);
    }
    pass.into_state_and_journal()
}

fn take_in(pass: &mut Pass, deployment: &mut Deployment, effect: &Effect, outcome: &Outcome) {
    let number = Some(deployment.number);
    deployment.tried_at = Some(pass.now);
    if !matches!(effect, Effect::AskHook { .. }) && !matches!(outcome, Outcome::Changed { .. }) {
        deployment.acted_at = Some(pass.now);
    }
    if let (Effect::SetWeights { .. }, Stage::RollingBack { phase: RollbackPhase::WeightsBack { tries, .. }, .. }) =
        (effect, &mut deployment.stage)
    {
        *tries = tries.saturating_add(1);
    }
    match outcome {
        Outcome::Changed { reason } => return trouble(pass, deployment, effect, (reason, false, false)),
        Outcome::Unsure { reason } => return trouble(pass, deployment, effect, (reason, false, false)),
        Outcome::Throttled { reason } => return trouble(pass, deployment, effect, (reason, false, true)),
        Outcome::Refused { reason } => return trouble(pass, deployment, effect, (reason, true, false)),
        Outcome::Done => {}
        Outcome::Registered { task_definition, reused } => {
            deployment.task_definition = Some(task_definition.clone());
            let fact = Fact::TaskDefinitionReady { task_definition: task_definition.clone(), reused: *reused };
            pass.note(number, fact);
        }
        Outcome::TaskStarted { task } => {
            if let Effect::StartTask { hook, .. } = effect
                && let Some(progress) = deployment.hooks.get_mut(hook)
            {
                progress.task = Some(task.clone());
            }
        }
        Outcome::HookReported { report } => {
            if let Effect::AskHook { hook, .. } = effect {
                reported(pass, deployment, hook, report);
            }
        }
    }
    if deployment.trouble.as_ref().is_some_and(|trouble| trouble.effect == effect.name()) {
        deployment.trouble = None;
    }
}

fn reported(pass: &mut Pass, deployment: &mut Deployment, hook: &str, report: &HookReport) {
    let number = Some(deployment.number);
    let Some(progress) = deployment.hooks.get_mut(hook) else { return };
    match report {
        HookReport::Succeeded => {
            progress.result = Some(HookResult::Succeeded);
            pass.note(number, Fact::HookSucceeded { hook: hook.to_owned() });
        }
        HookReport::Failed { reason } => progress.result = Some(HookResult::Failed(reason.clone())),
        HookReport::InProgress => progress.ask_at = ASK_AGAIN.after(pass.now),
    }
}

/// `why`: AWS's words, whether it will say no again, and whether there were too many requests.
fn trouble(pass: &mut Pass, deployment: &mut Deployment, effect: &Effect, why: (&str, bool, bool)) {
    let (reason, refused, throttled) = why;
    let name = effect.name();
    if let Effect::AskHook { hook, .. } = effect
        && let Some(progress) = deployment.hooks.get_mut(hook)
    {
        progress.ask_at = ASK_AGAIN.after(pass.now);
    }
    let before = deployment.trouble.take().filter(|trouble| trouble.effect == name);
    let times = before.as_ref().map_or(0, |trouble| trouble.times).saturating_add(1);
    if before.is_none_or(|trouble| trouble.refused != refused) {
        // The first of a row; the rest would only fill the journal.
        let fact = Fact::EffectFailed { effect: name.to_owned(), reason: reason.to_owned(), refused };
        pass.note(Some(deployment.number), fact);
    }
    deployment.trouble =
        Some(Trouble { effect: name.to_owned(), reason: reason.to_owned(), refused, times, throttled });
}

impl Effect {
    /// The effect's name, in snake case, as the journal and `--json` have it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RegisterTaskDefinition { .. } => "register_task_definition",
            Self::UpdateService { .. } => "update_service",
            Self::SetDesired { .. } => "set_desired",
            Self::SetAutoscaling { .. } => "set_autoscaling",
            Self::SetWeights { .. } => "set_weights",
            Self::SetTestRule { .. } => "set_test_rule",
            Self::AskHook { .. } => "ask_hook",
            Self::StartTask { .. } => "start_task",
            Self::StopTask { .. } => "stop_task",
        }
    }
}
