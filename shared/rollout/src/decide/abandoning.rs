//! Ends a deployment without changing rules or tasks again: both sides keep running. Only the autoscaling limits and
//! the test rule are restored.

use super::cleanup::{PendingCleanup, keeps_trying, limits_restored, settling, without_original_limits};
use super::health::UNREAD_POLL;
use super::schedules;
use super::transition::{Context, Transition};
use crate::deployment::Deployment;
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::snapshot::Snapshot;
use crate::time::Seconds;
use crate::verdict::Verdict;
use crate::weighted::{Abandoning, Weighted, WeightedStage};
use jiff::Timestamp;

/// How long an abandoned deployment keeps trying to restore what it changed temporarily.
const ABANDONING: Seconds = Seconds(300);

/// Abandons a deployment that could not or must not go on, and for which no automatic rollback is safe: `reason` says
/// which.
pub(super) fn start(deployment: &Deployment, weighted: Weighted, reason: String, now: Timestamp) -> Transition {
    let abandoning = Abandoning { reason: reason.clone(), deadline: ABANDONING.after(now) };
    let weighted = Weighted { at: WeightedStage::Abandoning(abandoning), ..weighted };
    Transition::enter(deployment.with_weighted(weighted), reason)
}

/// One step of the abandoning stage.
pub(super) fn step(
    context: &Context<'_>,
    deployment: &Deployment,
    snapshot: &Snapshot,
    weighted: Weighted,
    Abandoning { reason, deadline }: Abandoning,
) -> Transition {
    let Some(due) = schedules::limits_to_restore(deployment, &weighted, snapshot, context.now) else {
        return Transition::stay(deployment.with_weighted(weighted)).observe_again();
    };
    let pending = PendingCleanup::limits(deployment, snapshot, &due);
    let PendingCleanup { effects, missing } = pending.with_test_rules(&weighted, snapshot);
    if !missing.is_empty() && (context.now < deadline || keeps_trying(context, deployment, deadline)) {
        let deadline = deadline.max(UNREAD_POLL.after(context.now));
        let on = WaitingOn::RestoringSettings { what: missing.join(", "), deadline };
        return Transition::wait(deployment.with_weighted(weighted), on, UNREAD_POLL, deadline).effects(effects);
    }
    if let Some((on, until)) = settling(context, deployment) {
        return Transition::wait(deployment.with_weighted(weighted), on, UNREAD_POLL, until).effects(effects);
    }
    let end = |weighted| Transition::end(deployment.with_weighted(weighted), Verdict::Failed, reason).effects(effects);
    let ended = if missing.is_empty() {
        end(without_original_limits(weighted)).changes(limits_restored(due))
    } else {
        end(weighted).fact(Fact::CleanupIncomplete { what: missing.join(", ") })
    };
    ended.fact(Fact::CleanupIncomplete { what: "both sides are left running, and the rules as they are".to_owned() })
}
