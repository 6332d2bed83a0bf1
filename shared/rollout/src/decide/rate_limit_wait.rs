//! Waiting in the rate limiter's queue for AWS API calls, and extending deadlines under throttling: no deployment ends
//! because of throttling.

use super::superseding::roll_back_if_superseded;
use super::transition::{Change, Context, Transition};
use crate::deployment::Deployment;
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::phase::{Phase, Preparing};
use crate::rate_limiter;
use crate::snapshot::Snapshot;
use jiff::Timestamp;

/// Reason recorded for a deployment in the rate limiter's queue.
const WAITS: &str = "its turn has not come: AWS lets an account ask only so much, and others have asked before";

/// No observation before its turn, `at`; commands are still processed, and a newer release supersedes it.
pub(super) fn wait(context: &Context<'_>, deployment: &Deployment, preparing: &Preparing, at: Timestamp) -> Transition {
    if let Some(superseded) = roll_back_if_superseded(deployment, context.now) {
        return superseded;
    }
    let new = preparing.blocked.as_deref() != Some(WAITS);
    let fact = new.then(|| Change::Fact(Fact::Blocked { reason: WAITS.to_owned() }));
    // The preflight deadline counts from its turn.
    let deadline = preparing.deadline.max(deployment.policy.deadlines.preflight.after(at));
    let preparing = Preparing { deadline, blocked: Some(WAITS.to_owned()), ..preparing.clone() };
    let waiting = Transition::stay(deployment.with_phase(Phase::Preparing(preparing)));
    waiting.changes(fact).explained(WaitingOn::RateLimitQueue { at }).observe_by(at)
}

/// The deployment with its deadline extended if this observation or the last effect was throttled.
pub(super) fn with_extended_deadline(
    context: &Context<'_>,
    deployment: &Deployment,
    snapshot: &Snapshot,
) -> Option<Deployment> {
    let throttled =
        snapshot.throttled || deployment.effect_failure.as_ref().is_some_and(|effect_failure| effect_failure.throttled);
    let until =
        rate_limiter::extended_deadline(deployment, context.now, rate_limiter::retry_at(context.state, context.now));
    let until = until.filter(|_| throttled)?;
    Some(deployment.with_phase(deployment.phase.clone().with_deadline_at_least(until)))
}
