//! The result of one step of a deployment as a value: computed from the deployment and its observation, and applied to
//! the decision by [`apply`](super::apply::apply).

use crate::command::TrainApproval;
use crate::deployment::Deployment;
use crate::effect::Effect;
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::names::{Actor, ImageDigest};
use crate::promotion::ImageState;
use crate::snapshot::Reading;
use crate::target::{StableSide, TargetState};
use crate::template::TemplateReading;
use crate::time::Seconds;
use crate::verdict::Verdict;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Inputs of a step besides the deployment and the snapshot.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// The target's state so far in this decision.
    pub(super) state: &'a TargetState,
    /// The time of the decision.
    pub(super) now: Timestamp,
    /// When the observation started: not after `now`.
    pub(super) seen_at: Timestamp,
    /// Why stop-the-line holds deployments; `Err`: the brakes could not be read, which counts as stopped; `None`: it
    /// does not hold them.
    pub(super) line_stopped: Option<&'a Result<String, String>>,
    /// The registry's answers about images, as far as they were read.
    pub(super) images: &'a BTreeMap<ImageDigest, Reading<ImageState>>,
    /// The newest template, where the policy names a family and it was read.
    pub(super) template: Option<&'a Reading<TemplateReading>>,
    /// A command stays in the inbox until the running deployment has ended.
    pub(super) has_deferred_command: bool,
}

/// The result of one step.
#[must_use = "a transition that is not applied did not happen"]
pub(super) struct Transition {
    /// Whether the deployment goes on, waits or ends, and its new value.
    pub(super) next: StepResult,
    /// Detail of the stage that was entered, for people; `None`: the stage is the same. Journalled if the stage or the
    /// traffic step differs.
    pub(super) entry_detail: Option<String>,
    /// Changes to the target's record to apply before the stage is entered, in this order.
    pub(super) changes: Vec<Change>,
    /// Changes to the target's record to apply after the stage was entered, in this order.
    pub(super) changes_after_entry: Vec<Change>,
    /// Effects to perform, in this order.
    pub(super) effects: Vec<Effect>,
    /// What the deployment waits for, and when to observe it again.
    pub(super) waits: Vec<Wait>,
}

/// The deployment after a step, and how the decision proceeds.
pub(super) enum StepResult {
    /// Runs another step on the same snapshot.
    Continue(Deployment),
    /// Waits, or performs effects and observes their result.
    Wait(Deployment),
    /// The deployment is over.
    End(Ending),
}

/// The end of a deployment.
pub(super) struct Ending {
    /// The deployment as it ends.
    pub(super) deployment: Deployment,
    pub(super) verdict: Verdict,
    /// Why it ended so, for people.
    pub(super) reason: String,
    /// The snapshot has the rules as this deployment leaves them: the traffic that it shows is recorded.
    pub(super) rules_observed: bool,
}

/// A change to the target's record (journal, verified releases, holds, stable side) that a step causes.
pub(super) enum Change {
    /// Journals a fact about the deployment.
    Fact(Fact),
    /// The release counts as verified here: its bake is over, or a person resumed it after its bake.
    Verified,
    /// The release no longer counts as verified here, if it did.
    VerificationRevoked { reason: String },
    /// Puts automatic promotion to this target on hold.
    PromotionHeld { actor: Actor, reason: String },
    /// A person deploys another release, which ends the promotion hold, if any.
    PromotionResumed { actor: Actor },
    /// No deployment starts here until an operator resumes the target: since when, and why.
    OperatorHold { since: Timestamp, reason: String },
    /// The other members of the release train are approved with this one.
    TrainApproved(Box<TrainApproval>),
    /// This side was found to be the stable one.
    Stable(Box<StableSide>),
}

/// Why and until when a deployment waits: the reason is shown to people, the time schedules the next observation.
pub(super) enum Wait {
    /// Observe after `poll` at the latest, or at `until`. While other targets are queued for AWS's API budgets, the
    /// poll interval is longer.
    For { on: WaitingOn, poll: Seconds, until: Timestamp },
    /// Shown as the reason for waiting; another wait schedules the observation.
    Explained(WaitingOn),
    /// Observe at this time.
    Until(Timestamp),
    /// Observe again right after this decision. Steps that still continue run on the present snapshot first.
    Immediately,
}

impl Transition {
    fn new(next: StepResult) -> Self {
        Self {
            next,
            entry_detail: None,
            changes: Vec::new(),
            changes_after_entry: Vec::new(),
            effects: Vec::new(),
            waits: Vec::new(),
        }
    }

    /// Runs another step.
    pub(super) fn continue_with(deployment: Deployment) -> Self {
        Self::new(StepResult::Continue(deployment))
    }

    /// Enters the deployment's new stage, journalled with `detail`, and runs another step on the same snapshot.
    pub(super) fn enter(deployment: Deployment, detail: impl Into<String>) -> Self {
        Self { entry_detail: Some(detail.into()), ..Self::continue_with(deployment) }
    }

    /// Stays in its stage until the next observation.
    pub(super) fn stay(deployment: Deployment) -> Self {
        Self::new(StepResult::Wait(deployment))
    }

    /// Enters the deployment's new stage, journalled with `detail`, and waits there.
    pub(super) fn enter_and_wait(deployment: Deployment, detail: impl Into<String>) -> Self {
        Self { entry_detail: Some(detail.into()), ..Self::stay(deployment) }
    }

    /// Stays in its stage, with the reason for waiting.
    pub(super) fn wait(deployment: Deployment, on: WaitingOn, poll: Seconds, until: Timestamp) -> Self {
        Self::stay(deployment).waiting(on, poll, until)
    }

    /// Ends with a verdict, and records the traffic that the snapshot shows: the rules are left as they were read.
    pub(super) fn end(deployment: Deployment, verdict: Verdict, reason: impl Into<String>) -> Self {
        Self::new(StepResult::End(Ending { deployment, verdict, reason: reason.into(), rules_observed: true }))
    }

    /// Ends, with a verdict, a deployment that has changed nothing. The traffic is not recorded: the rules may not have
    /// been read.
    pub(super) fn end_without_rules(deployment: Deployment, verdict: Verdict, reason: impl Into<String>) -> Self {
        Self::new(StepResult::End(Ending { deployment, verdict, reason: reason.into(), rules_observed: false }))
    }

    /// Adds a reason for waiting.
    pub(super) fn waiting(mut self, on: WaitingOn, poll: Seconds, until: Timestamp) -> Self {
        self.waits.push(Wait::For { on, poll, until });
        self
    }

    /// Observes at this time at the latest.
    pub(super) fn observe_by(mut self, at: Timestamp) -> Self {
        self.waits.push(Wait::Until(at));
        self
    }

    /// Observes again immediately.
    pub(super) fn observe_again(mut self) -> Self {
        self.waits.push(Wait::Immediately);
        self
    }

    /// Adds a reason for waiting that schedules no observation.
    pub(super) fn explained(mut self, on: WaitingOn) -> Self {
        self.waits.push(Wait::Explained(on));
        self
    }

    pub(super) fn fact(self, fact: Fact) -> Self {
        self.change(Change::Fact(fact))
    }

    pub(super) fn change(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    pub(super) fn changes(mut self, changes: impl IntoIterator<Item = Change>) -> Self {
        self.changes.extend(changes);
        self
    }

    /// Prepends changes.
    pub(super) fn with_changes_first(mut self, mut before: Vec<Change>) -> Self {
        before.append(&mut self.changes);
        Self { changes: before, ..self }
    }

    /// Adds a change that applies after the stage was entered.
    pub(super) fn change_after_entry(mut self, change: Change) -> Self {
        self.changes_after_entry.push(change);
        self
    }

    pub(super) fn effect(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }

    pub(super) fn effects(mut self, effects: impl IntoIterator<Item = Effect>) -> Self {
        self.effects.extend(effects);
        self
    }

    /// Whether the deployment waits in its present stage.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.next, StepResult::Wait(_))
    }

    /// Whether the deployment backs out, awaits an operator, or ends.
    pub(super) fn stops_going_forward(&self) -> bool {
        match &self.next {
            StepResult::Continue(deployment) | StepResult::Wait(deployment) => {
                deployment.is_backing_out() || deployment.awaiting_operator().is_some()
            }
            StepResult::End(_) => true,
        }
    }
}
