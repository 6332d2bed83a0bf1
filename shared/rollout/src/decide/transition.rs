//! The result of one step of a deployment as a value, computed from the deployment and the observation and applied by the
//! [`Builder`](super::builder::Builder).

use crate::deployment::Deployment;
use crate::effect::Effect;
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::names::{Actor, ImageDigest};
use crate::promotion::ImageState;
use crate::snapshot::Reading;
use crate::stage::Stage;
use crate::target::{StableSide, TargetState};
use crate::time::Seconds;
use crate::verdict::Verdict;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Inputs of a step besides the deployment and the snapshot.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// The target's state so far in this decision.
    pub(super) state: &'a TargetState,
    pub(super) now: Timestamp,
    /// When the observation started: not after `now`.
    pub(super) seen_at: Timestamp,
    /// Why the line is stopped here; `Err`: the brakes could not be read; `None`: not stopped.
    pub(super) line: Option<&'a Result<String, String>>,
    /// The registry's answers about images, as far as they were read.
    pub(super) images: &'a BTreeMap<ImageDigest, Reading<ImageState>>,
    /// A command waits for the running deployment to end.
    pub(super) left_over: bool,
}

/// The result of one step.
#[must_use = "a transition that is not applied did not happen"]
pub(super) struct Transition {
    pub(super) next: Step,
    /// Detail of the stage that was entered, for people. Journalled if the stage or the traffic step differs.
    pub(super) entered: Option<String>,
    /// Changes to the target's record, in this order, before the stage is entered.
    pub(super) changes: Vec<Change>,
    /// Changes to the target's record after the stage was entered.
    pub(super) then: Vec<Change>,
    /// Effects to perform, in this order.
    pub(super) effects: Vec<Effect>,
    pub(super) waits: Vec<Wait>,
}

/// State of the deployment after a step.
pub(super) enum Step {
    /// Runs another step on the same snapshot.
    Continue(Deployment),
    /// Waits, or observes the result of the effects.
    Wait(Deployment),
    /// The deployment is over.
    End(Ending),
}

/// The end of a deployment.
pub(super) struct Ending {
    pub(super) deployment: Deployment,
    pub(super) verdict: Verdict,
    pub(super) reason: String,
    /// The observed rules are the state that the target is left in.
    pub(super) rules_seen: bool,
}

/// A change to the target's record.
pub(super) enum Change {
    /// Journals a fact about the deployment.
    Fact(Fact),
    /// The bake is over: the release counts as verified here.
    Verified,
    /// The release no longer counts as verified here, if it did.
    VerificationRevoked { reason: String },
    /// Puts automatic promotion to this target on hold.
    PromotionHeld { actor: Actor, reason: String },
    /// A person deploys another release, which ends the promotion hold, if any.
    PromotionResumed { actor: Actor },
    /// No deployment starts here until an operator resumes the target: since when, and why.
    OperatorHold { since: Timestamp, reason: String },
    /// This side was found to be the stable one.
    Stable(Box<StableSide>),
}

/// A wait.
pub(super) enum Wait {
    /// Observe after `poll` at the latest, or at `until`. Where other targets wait for their turn, mere monitoring is polled less
    /// often.
    For { on: WaitingOn, poll: Seconds, until: Timestamp },
    /// Shown as the reason for waiting; another wait schedules the observation.
    Explained(WaitingOn),
    /// Observe at this time.
    Until(Timestamp),
    /// Observe again immediately.
    Immediately,
}

impl Transition {
    fn new(next: Step) -> Self {
        Self { next, entered: None, changes: Vec::new(), then: Vec::new(), effects: Vec::new(), waits: Vec::new() }
    }

    /// Runs another step.
    pub(super) fn onward(deployment: Deployment) -> Self {
        Self::new(Step::Continue(deployment))
    }

    /// Enters the deployment's new stage and runs another step.
    pub(super) fn enter(deployment: Deployment, detail: impl Into<String>) -> Self {
        Self { entered: Some(detail.into()), ..Self::onward(deployment) }
    }

    /// Stays in its stage until the next observation.
    pub(super) fn stay(deployment: Deployment) -> Self {
        Self::new(Step::Wait(deployment))
    }

    /// Enters the deployment's new stage and waits there.
    pub(super) fn enter_and_wait(deployment: Deployment, detail: impl Into<String>) -> Self {
        Self { entered: Some(detail.into()), ..Self::stay(deployment) }
    }

    /// Adds a change that applies after the stage was entered.
    pub(super) fn then(mut self, change: Change) -> Self {
        self.then.push(change);
        self
    }

    /// Whether the deployment waits in its present stage.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.next, Step::Wait(_))
    }

    /// Whether the deployment rolls back or ends.
    pub(super) fn is_leaving(&self) -> bool {
        match &self.next {
            Step::Continue(deployment) | Step::Wait(deployment) => {
                matches!(deployment.stage(), Stage::RollingBack | Stage::Abandoning)
                    || deployment.awaiting_operator().is_some()
            }
            Step::End(_) => true,
        }
    }

    /// Stays in its stage, with the reason for waiting.
    pub(super) fn wait(deployment: Deployment, on: WaitingOn, poll: Seconds, until: Timestamp) -> Self {
        Self::stay(deployment).waiting(on, poll, until)
    }

    /// Ends with a verdict. The observed rules are the state that the target is left in.
    pub(super) fn end(deployment: Deployment, verdict: Verdict, reason: impl Into<String>) -> Self {
        Self::new(Step::End(Ending { deployment, verdict, reason: reason.into(), rules_seen: true }))
    }

    /// Ends with a verdict, before the rules were read.
    pub(super) fn end_unseen(deployment: Deployment, verdict: Verdict, reason: impl Into<String>) -> Self {
        Self::new(Step::End(Ending { deployment, verdict, reason: reason.into(), rules_seen: false }))
    }

    pub(super) fn waiting(mut self, on: WaitingOn, poll: Seconds, until: Timestamp) -> Self {
        self.waits.push(Wait::For { on, poll, until });
        self
    }

    pub(super) fn look_by(mut self, at: Timestamp) -> Self {
        self.waits.push(Wait::Until(at));
        self
    }

    pub(super) fn look_again(mut self) -> Self {
        self.waits.push(Wait::Immediately);
        self
    }

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
    pub(super) fn after(mut self, mut before: Vec<Change>) -> Self {
        before.append(&mut self.changes);
        Self { changes: before, ..self }
    }

    pub(super) fn effect(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }

    pub(super) fn effects(mut self, effects: impl IntoIterator<Item = Effect>) -> Self {
        self.effects.extend(effects);
        self
    }
}
