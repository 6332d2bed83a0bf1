//! What every rollback does, whichever way the deployment moves: the answer to a request for one, what is withdrawn,
//! and the wait of a forward-only release for an operator.

use super::transition::{Change, Transition};
use crate::deployment::{Deployment, Purpose};
use crate::journal::Fact;
use crate::names::Actor;
use crate::snapshot::Snapshot;
use crate::time::Seconds;
use crate::verdict::Cause;
use crate::weighted::AwaitingOperator;
use jiff::Timestamp;

/// How long an operator has to decide about a forward-only deployment in trouble. After that it ends unchanged, and no
/// deployment starts at the target before an operator decides.
pub(super) const OPERATOR_TIMEOUT: Seconds = Seconds(24 * 3600);

/// Answer to a request to roll back.
pub(super) enum RollbackAnswer {
    /// The rollback has begun; a forward-only release awaits an operator instead.
    Begun(Transition),
    /// Nothing had been changed: the deployment is over.
    NothingToUndo(Transition),
    /// A rollback is already in progress.
    AlreadyRollingBack,
    /// Switchback has begun to scale the stable side down, or the deployment was abandoned.
    NoPath,
}

/// The wait for an operator that begins now, with its reason.
pub(super) fn await_operator(cause: Cause, now: Timestamp) -> AwaitingOperator {
    AwaitingOperator { cause, since: now, deadline: OPERATOR_TIMEOUT.after(now), journalled: false }
}

/// Changes that journal a wait for an operator, once: nothing is promoted meanwhile.
pub(super) fn journal_wait(deployment: &Deployment, snapshot: &Snapshot, waits: &AwaitingOperator) -> Vec<Change> {
    if waits.journalled {
        return Vec::new();
    }
    let reason = waits.cause.summary();
    let fact = Fact::AwaitingOperator { cause: waits.cause.clone(), evidence: Box::new(snapshot.clone()) };
    let mut changes = vec![Change::Fact(fact)];
    if deployment.stage().has_baked() {
        // Nothing is promoted from a release that awaits an operator. If the operator resumes it, it counts as verified
        // after all.
        changes.push(Change::VerificationRevoked { reason: reason.clone() });
    }
    if deployment.auto_promotes {
        let reason = format!("deployment #{} awaits an operator: {reason}", deployment.number);
        changes.push(Change::PromotionHeld { actor: Actor::Switchback, reason });
    }
    changes
}

/// Changes that revoke the verification of a rolled-back release, and put automatic promotion to the target on hold.
pub(super) fn revoke_and_hold_promotion(deployment: &Deployment, cause: &Cause) -> Vec<Change> {
    let superseded = matches!(cause, Cause::Superseded { .. });
    if deployment.purpose != Purpose::Deploy || superseded {
        return Vec::new();
    }
    let mut changes = vec![Change::VerificationRevoked { reason: cause.summary() }];
    if deployment.traffic_moved() && deployment.auto_promotes {
        let actor = match cause {
            Cause::Aborted { actor, .. } | Cause::Asked { actor, .. } => actor.clone(),
            _ => Actor::Switchback,
        };
        let reason = format!("{} went back: {}", deployment.release.tag, cause.summary());
        changes.push(Change::PromotionHeld { actor, reason });
    }
    changes
}
