//! Messages from a target to others: that it verified a release, or that its member of a train failed.
//!
//! A message stays in the target's state until it was published, and each command that it writes has a content-derived identity:
//! a crash in between, or publishing it twice, changes nothing.

use crate::ports::{Commands, LedgerError, Policies, Wake, WakeQueue};
use futures::future::{join_all, try_join_all};
use rollout::command::UpstreamVerification;
use rollout::target::OutboxMessage;
use rollout::{Command, Seconds, TargetId, Timestamp, Train};

/// Publishes a target's outbox messages concurrently.
///
/// # Errors
/// [`LedgerError`]: something could not be written; all messages are published again.
pub(crate) async fn run<L: Commands + Policies, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    target: &TargetId,
    outbox: &[OutboxMessage],
    now: Timestamp,
) -> Result<(), LedgerError> {
    let mut to_wake = Vec::new();
    for message in outbox {
        let commands = match message {
            OutboxMessage::Verified { release, deployment, actor, train } => {
                let verified =
                    UpstreamVerification { release, from: &target.environment, deployment: *deployment, actor };
                to_wake.extend(train.iter().flat_map(|train| other_members(target, train)));
                promotions(ledger, target, &verified, now).await?
            }
            OutboxMessage::TrainStopped { train, reason } => other_members(target, train)
                .map(|member| Command::stop_train(member, &train.id, &target.service, reason, now))
                .collect(),
        };
        try_join_all(commands.iter().map(|command| ledger.put_command(command))).await?;
        to_wake.extend(commands.into_iter().map(|command| command.target));
    }
    to_wake.sort();
    to_wake.dedup();
    join_all(to_wake.into_iter().map(|target| async move {
        let wake = Wake::of(target);
        if let Err(reason) = wake_queue.send(&wake, Seconds(0)).await {
            tracing::warn!(target_id = %wake.target, reason, "could not be woken: left to the sweep");
        }
    }))
    .await;
    Ok(())
}

/// The other members of a train, as targets of the same environment.
fn other_members<'a>(target: &'a TargetId, train: &'a Train) -> impl Iterator<Item = TargetId> + 'a {
    let other_members = train.members.keys().filter(|service| **service != target.service);
    other_members.map(|service| TargetId { service: service.clone(), ..target.clone() })
}

/// The automatic promotions from this target under the current policy.
async fn promotions<L: Policies>(
    ledger: &L,
    target: &TargetId,
    verified: &UpstreamVerification<'_>,
    now: Timestamp,
) -> Result<Vec<Command>, LedgerError> {
    let Some(applied) = ledger.policy(&target.application).await? else { return Ok(Vec::new()) };
    let next = applied.policy.auto_promotion_targets(&target.environment, &target.service);
    let targets = next.map(|environment| TargetId { environment: environment.clone(), ..target.clone() });
    Ok(targets.map(|next| Command::promotion(next, verified, now)).collect())
}
