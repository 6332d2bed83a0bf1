//! The end of a first deployment that did not come up, or that somebody ends: what it has started is taken down.

use super::hooks;
use super::transition::Transition;
use crate::deployment::Deployment;
use crate::first::{First, FirstStage};
use crate::journal::Fact;
use crate::verdict::Cause;
use jiff::Timestamp;

/// Begins to take down what a first deployment has started.
pub(super) fn start(deployment: &Deployment, first: First, cause: Cause, now: Timestamp) -> Transition {
    let deadline = deployment.policy.deadlines.rollback.after(now);
    let detail = "its tasks are taken down again";
    let started = Fact::RollbackStarted { cause: cause.clone() };
    let hooks = hooks::turned_back(first.hooks.clone());
    let first = First { at: FirstStage::TakingDown { cause, deadline }, hooks, ..first };
    Transition::enter(deployment.with_first(first), detail).fact(started).observe_again()
}
