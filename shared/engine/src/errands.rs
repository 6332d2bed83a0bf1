//! What a target tells others: that it verified a release, or that its train did not make it.
//!
//! An errand stays in the target's state until it was run, and what it writes is a command with an identity of its
//! content: a crash in between, and running it twice, change nothing.

use crate::ports::{Ledger, LedgerError, Wake, WakeQueue};
use futures::future::{join_all, try_join_all};
use rollout::command::VerifiedElsewhere;
use rollout::target::Errand;
use rollout::{Command, Seconds, TargetId, Timestamp, Train};

/// Runs a target's errands, all at once.
///
/// # Errors
/// [`LedgerError`]: something could not be written; all of them are run again.
pub(crate) async fn run<L: Ledger, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    target: &TargetId,
    errands: &[Errand],
    now: Timestamp,
) -> Result<(), LedgerError> {
    let mut woken = Vec::new();
    for errand in errands {
        let commands = match errand {
            Errand::Verified { release, deployment, actor, train } => {
                let verified = VerifiedElsewhere { release, from: &target.environment, deployment: *deployment, actor };
                woken.extend(train.iter().flat_map(|train| others(target, train)));
                promotions(ledger, target, &verified, now).await?
            }
            Errand::TrainStopped { train, reason } => others(target, train)
                .map(|member| Command::stop_train(member, &train.id, &target.service, reason, now))
                .collect(),
        };
        try_join_all(commands.iter().map(|command| ledger.put_command(command))).await?;
        woken.extend(commands.into_iter().map(|command| command.target));
    }
    woken.sort();
    woken.dedup();
    join_all(woken.into_iter().map(|target| async move {
        let wake = Wake::of(target);
        if let Err(reason) = wake_queue.send(&wake, Seconds(0)).await {
            tracing::warn!(target_id = %wake.target, reason, "could not be woken: left to the sweep");
        }
    }))
    .await;
    Ok(())
}

/// The other members of a train, as targets of the same environment.
fn others<'a>(target: &'a TargetId, train: &'a Train) -> impl Iterator<Item = TargetId> + 'a {
    let others = train.members.keys().filter(|service| **service != target.service);
    others.map(|service| TargetId { service: service.clone(), ..target.clone() })
}

/// What the policy in force promotes by itself from here.
async fn promotions<L: Ledger>(
    ledger: &L,
    target: &TargetId,
    verified: &VerifiedElsewhere<'_>,
    now: Timestamp,
) -> Result<Vec<Command>, LedgerError> {
    let Some(applied) = ledger.policy(&target.application).await? else { return Ok(Vec::new()) };
    let next = applied.policy.automatic_after(&target.environment, &target.service);
    let targets = next.map(|environment| TargetId { environment: environment.clone(), ..target.clone() });
    Ok(targets.map(|next| Command::promotion(next, verified, now)).collect())
}
