//! The record of releases that are verified here, and the messages about it to other targets.

use super::builder::Builder;
use crate::command::Command;
use crate::deployment::{Deployment, Purpose};
use crate::journal::Fact;
use crate::names::{Actor, ImageDigest};
use crate::target::{MAX_VERIFIED, OutboxMessage, PromotionHold, Verified};
use crate::verdict::{Cause, Verdict};

/// The bake is over: the release counts as verified here, and other targets are notified.
pub(super) fn verified(builder: &mut Builder, deployment: &Deployment) {
    if deployment.purpose != Purpose::Deploy {
        return;
    }
    let release = deployment.release.clone();
    builder.state.verified.retain(|known| known.release.id != release.id);
    if builder.state.verified.len() >= MAX_VERIFIED {
        builder.state.verified.remove(0);
    }
    let fact = Fact::Verified { digest: release.id.digest.to_string(), tag: release.tag.clone() };
    builder.note(Some(deployment.number), fact);
    builder.state.verified.push(Verified {
        release: release.clone(),
        deployment: deployment.number,
        at: builder.now,
        forward_only: deployment.options.forward_only,
    });
    builder.send(OutboxMessage::Verified {
        release,
        deployment: deployment.number,
        actor: deployment.actor.clone(),
        train: deployment.options.train.clone(),
    });
}

/// Withdraws a release's verification here, if it has one.
pub(super) fn withdraw(builder: &mut Builder, number: Option<u64>, digest: &ImageDigest, reason: &str) {
    let Some(index) = builder.state.verified.iter().position(|known| &known.release.id.digest == digest) else {
        return;
    };
    let known = builder.state.verified.remove(index);
    let fact = Fact::VerificationRevoked {
        digest: known.release.id.digest.to_string(),
        tag: known.release.tag,
        reason: reason.to_owned(),
    };
    builder.note(number, fact);
    builder.state.outbox.retain(|message| match message {
        OutboxMessage::Verified { release, .. } => &release.id.digest != digest,
        OutboxMessage::TrainStopped { .. } | OutboxMessage::TrainApproved(_) | OutboxMessage::LockReleased => true,
    });
}

/// Puts automatic promotion to this target on hold.
pub(super) fn hold_promotion(builder: &mut Builder, number: Option<u64>, actor: &Actor, reason: String) {
    builder.note(number, Fact::PromotionHeld { reason: reason.clone() });
    builder.state.promotion_hold = Some(PromotionHold { since: builder.now, actor: actor.clone(), reason });
}

/// A rollback replaces the stable release: it is no longer verified, and its train may roll back with it.
pub(super) fn leave_stable(builder: &mut Builder, command: &Command) {
    let Some(stable) = builder.state.stable.clone() else { return };
    let goal = builder.state.previous.as_ref().and_then(|previous| previous.template.as_ref());
    if stable.template.is_some() && stable.template.as_ref() != goal {
        // What a person has rolled back is not deployed again by itself.
        builder.state.failed_template = stable.template;
    }
    let Some(release) = stable.release else { return };
    let cause = Cause::Asked { actor: command.actor.clone(), reason: command.reason.clone() };
    withdraw(builder, None, &release.id.digest, &cause.summary());
    if let Some(train) = stable.train.filter(|train| train.rollback_together) {
        builder.send(OutboxMessage::TrainStopped { train, reason: cause.summary() });
        if let Some(stable) = &mut builder.state.stable {
            stable.train = None;
        }
    }
}

/// A deployment ended: unless it succeeded, its train is notified and its verification is withdrawn.
pub(super) fn ended(builder: &mut Builder, deployment: &Deployment, verdict: Verdict, reason: &str) {
    let digest = &deployment.release.id.digest;
    let by_it = |known: &Verified| &known.release.id.digest == digest && known.deployment == deployment.number;
    if verdict != Verdict::Succeeded && builder.state.verified.iter().any(by_it) {
        withdraw(builder, Some(deployment.number), digest, reason);
    }
    if let Some(train) = deployment.options.train.clone().filter(|_| verdict != Verdict::Succeeded) {
        builder.send(OutboxMessage::TrainStopped { train, reason: reason.to_owned() });
    }
}
