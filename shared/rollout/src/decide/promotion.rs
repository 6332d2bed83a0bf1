//! What is verified here, what is not any more, and what other targets are told of it.

use super::admission;
use super::pass::{Pass, live_side};
use crate::command::Command;
use crate::journal::Fact;
use crate::names::{Actor, ImageDigest};
use crate::snapshot::Snapshot;
use crate::stage::{Cause, Verdict};
use crate::target::{Deployment, Errand, MOST_VERIFIED, Purpose, Verified};

/// The bake is over: the release counts as verified here, and others are told.
pub(super) fn verified(pass: &mut Pass, deployment: &Deployment) {
    if deployment.purpose != Purpose::Deploy {
        return;
    }
    let release = deployment.release.clone();
    pass.state.verified.retain(|known| known.release.id != release.id);
    if pass.state.verified.len() >= MOST_VERIFIED {
        pass.state.verified.remove(0);
    }
    let fact = Fact::Verified { digest: release.id.digest.to_string(), tag: release.tag.clone() };
    pass.note(Some(deployment.number), fact);
    pass.state.verified.push(Verified {
        release: release.clone(),
        deployment: deployment.number,
        at: pass.now,
        forward_only: deployment.terms.forward_only,
    });
    pass.tell_others(Errand::Verified {
        release,
        deployment: deployment.number,
        actor: deployment.actor.clone(),
        train: deployment.terms.train.clone(),
    });
}

/// What a person let go on after its bake counts as verified again, as soon as everything is seen to go to it: somebody
/// may have edited the rules meanwhile.
pub(super) fn verified_again(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot) {
    if deployment.verifies_again && deployment.stage.is_verified() && live_side(snapshot) == deployment.candidate() {
        deployment.verifies_again = false;
        verified(pass, deployment);
    }
}

/// A release does not count as verified here any more, if it did.
pub(super) fn withdraw(pass: &mut Pass, number: Option<u64>, digest: &ImageDigest, reason: &str) {
    let Some(index) = pass.state.verified.iter().position(|known| &known.release.id.digest == digest) else { return };
    let known = pass.state.verified.remove(index);
    let fact = Fact::Withdrawn {
        digest: known.release.id.digest.to_string(),
        tag: known.release.tag,
        reason: reason.to_owned(),
    };
    pass.note(number, fact);
    let of_it = |errand: &Errand| matches!(errand, Errand::Verified { release, .. } if &release.id.digest == digest);
    pass.state.errands.retain(|errand| !of_it(errand));
}

/// A deployment goes back: what it brought is not verified, and nothing follows it by itself.
pub(super) fn gone_back(pass: &mut Pass, deployment: &Deployment, cause: &Cause) {
    let superseded = matches!(cause, Cause::Superseded { .. });
    if deployment.purpose != Purpose::Deploy || superseded {
        return;
    }
    withdraw(pass, Some(deployment.number), &deployment.release.id.digest, &cause.sentence());
    if deployment.traffic_moved && deployment.promotes_itself {
        let actor = match cause {
            Cause::Aborted { actor, .. } | Cause::Asked { actor, .. } => actor.clone(),
            _ => Actor::Switchback,
        };
        let reason = format!("{} went back: {}", deployment.release.tag, cause.sentence());
        admission::hold(pass, Some(deployment.number), &actor, reason);
    }
}

/// A rollback leaves the stable release: it is not verified any more, and its train may go back with it.
pub(super) fn leave_stable(pass: &mut Pass, command: &Command) {
    let Some(stable) = pass.state.stable.clone() else { return };
    let Some(release) = stable.release else { return };
    let cause = Cause::Asked { actor: command.actor.clone(), reason: command.reason.clone() };
    withdraw(pass, None, &release.id.digest, &cause.sentence());
    if let Some(train) = stable.train.filter(|train| train.together) {
        pass.tell_others(Errand::TrainStopped { train, reason: cause.sentence() });
        if let Some(stable) = &mut pass.state.stable {
            stable.train = None;
        }
    }
}

/// A deployment ended: if it did not make it, its train is told, and what it had verified is not.
pub(super) fn ended(pass: &mut Pass, deployment: &Deployment, verdict: Verdict, reason: &str) {
    let digest = &deployment.release.id.digest;
    let by_it = |known: &Verified| &known.release.id.digest == digest && known.deployment == deployment.number;
    if verdict != Verdict::Succeeded && pass.state.verified.iter().any(by_it) {
        withdraw(pass, Some(deployment.number), digest, reason);
    }
    if let Some(train) = deployment.terms.train.clone().filter(|_| verdict != Verdict::Succeeded) {
        pass.tell_others(Errand::TrainStopped { train, reason: reason.to_owned() });
    }
}
