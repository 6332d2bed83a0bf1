//! Messages from a target to others: that it verified a release, that its member of a train failed, or that the lock of
//! their environment is free.
//!
//! A message stays in the target's state until it was published, and each command that it writes has a content-derived identity:
//! a crash in between, or publishing it twice, changes nothing.

use crate::ports::{Commands, LedgerError, Policies, Targets, Wake, WakeQueue};
use futures::future::{join_all, try_join_all};
use rollout::command::UpstreamVerification;
use rollout::target::OutboxMessage;
use rollout::{Command, Seconds, Stage, TargetId, Timestamp, Train, promotion};

/// Publishes a target's outbox messages concurrently.
///
/// # Errors
/// [`LedgerError`]: something could not be written; all messages are published again.
pub(crate) async fn run<L: Commands + Policies + Targets, D: WakeQueue>(
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
                promotions(ledger, target, &verified, train.as_deref(), now).await?
            }
            OutboxMessage::LockReleased => {
                to_wake.extend(waiting_for_lock(ledger, target).await?);
                Vec::new()
            }
            OutboxMessage::TrainApproved(approval) => other_members(target, &approval.train)
                .map(|member| Command::approve_train(member, target, approval, now))
                .collect(),
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

/// The other services of the environment that wait for its lock, or are about to: those at their gates. One that cannot be
/// read looks again by itself.
async fn waiting_for_lock<L: Policies + Targets>(ledger: &L, target: &TargetId) -> Result<Vec<TargetId>, LedgerError> {
    let Some(applied) = ledger.policy(&target.application).await? else { return Ok(Vec::new()) };
    let Some(here) = applied.policy.applied(target, applied.version) else { return Ok(Vec::new()) };
    let reads = promotion::neighbours(target, &here).map(async |neighbour| {
        let state = ledger.state(&neighbour).await.ok().flatten();
        let waits = state.and_then(|state| state.running).is_some_and(|running| running.stage() == Stage::Gated);
        waits.then_some(neighbour)
    });
    Ok(join_all(reads).await.into_iter().flatten().collect())
}

/// The other members of a train, as targets of the same environment.
fn other_members<'a>(target: &'a TargetId, train: &'a Train) -> impl Iterator<Item = TargetId> + 'a {
    let other_members = train.members.keys().filter(|service| **service != target.service);
    other_members.map(|service| TargetId { service: service.clone(), ..target.clone() })
}

/// The automatic promotions from this target under the current policy: with its train, where one brought it.
async fn promotions<L: Policies>(
    ledger: &L,
    target: &TargetId,
    verified: &UpstreamVerification<'_>,
    train: Option<&Train>,
    now: Timestamp,
) -> Result<Vec<Command>, LedgerError> {
    let Some(applied) = ledger.policy(&target.application).await? else { return Ok(Vec::new()) };
    let next = applied.policy.auto_promotion_targets(&target.environment, &target.service);
    let commands = next.map(|environment| {
        let train = train.and_then(|train| train.promoted_to(&applied.policy, environment));
        let next = TargetId { environment: environment.clone(), ..target.clone() };
        Command::promotion(next, verified, train, now)
    });
    Ok(commands.collect())
}
