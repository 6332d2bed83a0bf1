//! Something outside changed: whoever watches it is woken, and told nothing. The next pass looks for itself.

use super::IntakeError;
use crate::ports::{Ledger, Wake, WakeQueue, Watch};
use futures::future::join_all;
use rollout::snapshot::ApiCall;
use rollout::{Seconds, TargetId};

/// Wakes the targets that are concerned with `watch`; answers which. One question to the ledger, then all wakes at once:
/// this is the first half of the way from an alarm to weights that are back.
///
/// # Errors
/// [`IntakeError`] where the ledger did not answer, or where a target could not be woken, after all others were: no
/// command is due that would make the sweep do it within a minute, so the event must come again.
pub async fn signal<L: Ledger, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    watch: &Watch,
) -> Result<Vec<TargetId>, IntakeError> {
    wake(ledger, wake_queue, watch, |target| {
        // What an alarm says may turn a deployment back; tasks that come and go are waited for anyway.
        Wake { urgent: matches!(watch, Watch::Alarm(_)), ..Wake::of(target) }
    })
    .await
}

/// Somebody edited what is watched: whoever it belongs to looks, whether something is deployed there or not. `call` names who,
/// for the journal.
///
/// # Errors
/// As [`signal`]'s.
pub async fn edited<L: Ledger, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    watch: &Watch,
    call: &ApiCall,
) -> Result<Vec<TargetId>, IntakeError> {
    wake(ledger, wake_queue, watch, |target| Wake::of(target).at_rest(Some(call.clone()))).await
}

async fn wake<L: Ledger, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    watch: &Watch,
    wake: impl Fn(TargetId) -> Wake,
) -> Result<Vec<TargetId>, IntakeError> {
    let targets = ledger
        .targets_watching(watch)
        .await
        .map_err(IntakeError::ledger(format!("looking for the targets that watch {watch}")))?;
    let wakes = join_all(targets.iter().map(|target| (target, wake(target.clone()))).map(async |(target, wake)| {
        wake_queue.send(&wake, Seconds(0)).await.inspect_err(|reason| {
            tracing::warn!(target_id = %target, reason, "could not be woken");
        })
    }))
    .await;
    let mut failed = wakes.into_iter().filter_map(Result::err);
    if let Some(reason) = failed.next() {
        return Err(IntakeError::WakeQueue { watching: targets.len(), unrung: 1 + failed.count(), reason });
    }
    for target in &targets {
        tracing::info!(target_id = %target, "woken by {watch}");
    }
    Ok(targets)
}

impl std::fmt::Display for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alarm(name) => write!(f, "alarm {name}"),
            Self::EcsService(cluster, service) => write!(f, "ECS service {cluster}/{service}"),
            Self::Rule(arn) => write!(f, "rule or listener {arn}"),
            Self::Repository(name) => write!(f, "repository {name}"),
        }
    }
}
