//! An external change wakes the targets that watch the resource, without details. The next pass observes for itself.

use super::IntakeError;
use crate::ports::{TargetIndex, Wake, WakeQueue, WatchedResource};
use futures::future::join_all;
use rollout::snapshot::ApiCall;
use rollout::{Seconds, TargetId};

/// Wakes the targets that watch `watch`; returns them. One ledger query, then all wakes concurrently: this is the first half of
/// the time from an alarm to restored weights.
///
/// # Errors
/// [`IntakeError`] if the ledger did not answer or, after all others were woken, if a target could not be woken: no command is
/// due that would make the sweep wake it within a minute, so the event must be delivered again.
pub async fn signal<L: TargetIndex, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    watch: &WatchedResource,
) -> Result<Vec<TargetId>, IntakeError> {
    wake(ledger, wake_queue, watch, |target| {
        // An alarm may cause a rollback; task changes are polled anyway.
        Wake { urgent: matches!(watch, WatchedResource::Alarm(_)), ..Wake::of(target) }
    })
    .await
}

/// A watched resource was edited by an API call: its targets observe, whether or not a deployment runs there. `call` names the
/// author, for the journal.
///
/// # Errors
/// As [`signal`]'s.
pub async fn resource_edited<L: TargetIndex, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    watch: &WatchedResource,
    call: &ApiCall,
) -> Result<Vec<TargetId>, IntakeError> {
    wake(ledger, wake_queue, watch, |target| Wake::of(target).idle(Some(call.clone()))).await
}

async fn wake<L: TargetIndex, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    watch: &WatchedResource,
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
        return Err(IntakeError::WakeQueue { watching: targets.len(), not_woken: 1 + failed.count(), reason });
    }
    for target in &targets {
        tracing::info!(target_id = %target, "woken by {watch}");
    }
    Ok(targets)
}

impl std::fmt::Display for WatchedResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alarm(name) => write!(f, "alarm {name}"),
            Self::EcsService(cluster, service) => write!(f, "ECS service {cluster}/{service}"),
            Self::Rule(arn) => write!(f, "rule or listener {arn}"),
            Self::Repository(name) => write!(f, "repository {name}"),
        }
    }
}
