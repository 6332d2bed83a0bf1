//! The persistent state of one target, which fits one item of the ledger.

use crate::command::{CommandId, DeployOptions, Overrides, Train, TrainApproval};
use crate::deployment::Deployment;
use crate::explanation::Explanation;
use crate::names::{Actor, ImageDigest, ReleaseId, Slot, TargetId};
use crate::release::ReleaseRef;
use crate::snapshot::{ApiCall, Weights};
use crate::template::TemplateReading;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The format of a stored [`TargetState`]. A reader refuses a higher one instead of guessing.
pub const FORMAT: u16 = 1;

/// Maximum number of queued releases per target. Beyond it, the oldest one that was never stable here is superseded.
pub const MAX_QUEUED: usize = 20;

/// Maximum size of the queue in the ledger, where the whole target is one item of at most 400 KiB. Usual queues take a
/// twentieth of this limit.
pub const MAX_QUEUED_BYTES: usize = 112 * 1024;

/// Maximum number of verified releases that a target remembers; the oldest is forgotten first, and has to be deployed
/// there again before it can be promoted.
pub const MAX_VERIFIED: usize = 50;

/// The persistent state of one target: its stable side, its running deployment, the releases that wait for it or are
/// verified here, and what holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetState {
    /// [`FORMAT`] of the writer.
    pub format: u16,
    /// The target's identity.
    pub target: TargetId,
    /// Number of the newest deployment, 0 before the first.
    pub last_deployment: u64,
    /// Sequence number of the newest journal entry, 0 before the first.
    pub last_entry: u64,
    /// The side that carries all traffic, as the last finished deployment left it.
    pub stable: Option<StableSide>,
    /// The stable side before that: the destination of a rollback when nothing runs.
    pub previous: Option<StableSide>,
    /// Where the rules sent traffic when last read; none: never read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<LiveTraffic>,
    /// The running deployment, at most one.
    pub running: Option<Deployment>,
    /// The releases queued behind it, in the order in which they start; at most [`MAX_QUEUED`].
    #[serde(default)]
    pub queued: Vec<Queued>,
    /// The releases that were deployed and baked here and not rolled back since; the newest last, at most
    /// [`MAX_VERIFIED`].
    #[serde(default)]
    pub verified: Vec<Verified>,
    /// While set, nothing is promoted to this target automatically.
    #[serde(default)]
    pub promotion_hold: Option<PromotionHold>,
    /// While set, nothing starts here: a forward-only release left the target awaiting an operator.
    #[serde(default)]
    pub operator_hold: Option<OperatorHold>,
    /// Messages to other targets, kept until they are delivered.
    #[serde(default)]
    pub outbox: Vec<OutboxMessage>,
    /// Observations since the last deployment ended; none: there were none, or a deployment runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleState>,
    /// When weights were last reverted because of [`Drift::Revert`](crate::policy::Drift::Revert).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverted_at: Option<Timestamp>,
    /// The template of the last configuration release that failed here: it is not deployed again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_template: Option<String>,
    /// Why it waits, as of the last decision.
    pub explanation: Explanation,
    /// When the next scheduled wake is due.
    pub wake_at: Option<Timestamp>,
    /// How often AWS throttled recent observations of this target: increased by each throttled one, decreased by each
    /// other one.
    #[serde(default, skip_serializing_if = "is_none")]
    pub throttle_level: u8,
}

impl TargetState {
    /// A target that nothing has been deployed to.
    #[must_use]
    pub fn new(target: TargetId) -> Self {
        Self {
            format: FORMAT,
            target,
            last_deployment: 0,
            last_entry: 0,
            stable: None,
            previous: None,
            traffic: None,
            running: None,
            queued: Vec::new(),
            verified: Vec::new(),
            promotion_hold: None,
            operator_hold: None,
            outbox: Vec::new(),
            idle: None,
            reverted_at: None,
            failed_template: None,
            explanation: Explanation::default(),
            wake_at: None,
            throttle_level: 0,
        }
    }

    /// Number of the running deployment that holds the lock of the environment; none: none does.
    #[must_use]
    pub fn lock_holder(&self) -> Option<u64> {
        self.running.as_ref().filter(|running| running.holds_lock).map(|running| running.number)
    }

    /// Since when this release is verified here; none: it is not.
    #[must_use]
    pub fn verified_since(&self, digest: &ImageDigest) -> Option<Timestamp> {
        self.verified.iter().find(|verified| &verified.release.id.digest == digest).map(|verified| verified.at)
    }

    /// Where the rules were last seen to send traffic, if that is not entirely the stable side. A repair restores it.
    #[must_use]
    pub fn drift(&self) -> Option<&LiveTraffic> {
        let slot = self.stable.as_ref()?.slot?;
        self.traffic.as_ref().filter(|traffic| traffic.live_side() != Some(slot))
    }

    /// Whether somebody else has changed what the stable release needs, so that deploying it again is not in vain: the
    /// weights, or in place the version.
    #[must_use]
    pub fn needs_repair(&self) -> bool {
        let in_place = self.stable.as_ref().is_some_and(|stable| stable.slot.is_none());
        let drift = self.idle.as_ref().and_then(|idle| idle.drift.as_ref());
        self.drift().is_some() || (in_place && drift.is_some())
    }

    /// Whether this release is the stable one here, or the one that was stable before it.
    #[must_use]
    pub fn was_stable(&self, release: &ReleaseId) -> bool {
        let sides = [&self.stable, &self.previous].into_iter().flatten();
        sides.filter_map(|side| side.release.as_ref()).any(|known| &known.id == release)
    }
}

/// Where the rules send traffic, as read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveTraffic {
    /// The weights of each rule of the policy, in the policy's order; none: that rule could not be read.
    pub rules: Vec<Option<Weights>>,
    /// When these values were first read.
    pub seen_at: Timestamp,
}

impl LiveTraffic {
    /// The side to which every rule sends all traffic; none: the rules disagree, or one could not be read.
    #[must_use]
    pub fn live_side(&self) -> Option<Slot> {
        Weights::live_side(self.rules.iter().copied())
    }
}

/// A release that was deployed and baked at a target: it may be promoted from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The release that was verified.
    pub release: ReleaseRef,
    /// Number of the deployment that verified it.
    pub deployment: u64,
    /// When its bake ended.
    pub at: Timestamp,
    /// It was requested as forward-only, and remains so in every environment that it is promoted to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward_only: bool,
}

/// A hold on automatic promotion to a target, until a person promotes there again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionHold {
    /// When the hold began.
    pub since: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// Free text, shown to people.
    pub reason: String,
}

/// A hold on all deployments to a target that a forward-only deployment left without a decision, until an operator
/// resumes the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorHold {
    /// When the hold began.
    pub since: Timestamp,
    /// Number of the forward-only deployment.
    pub deployment: u64,
    /// Free text, shown to people.
    pub reason: String,
}

/// What the observations of a target have found since its last deployment ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleState {
    /// When the target was last observed.
    pub seen_at: Timestamp,
    /// The weights that every rule had then; none: the rules differ, or not all of them could be read.
    pub weights: Option<Weights>,
    /// When the services were last observed, which happens less often.
    pub services_seen_at: Option<Timestamp>,
    /// How the target differs from what the last deployment left; none: it does not.
    pub drift: Option<DetectedDrift>,
    /// Number of observations in a row that failed to read something.
    #[serde(default)]
    pub failed_reads: u8,
    /// When it must be observed again; none: at the usual interval.
    pub recheck_at: Option<Timestamp>,
    /// A newer template than the one that the stable version was made of; none: there is none, or it was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer_template: Option<TemplateReading>,
}

/// A difference between the target as observed and as its last deployment left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetectedDrift {
    /// The state found, and the state expected.
    pub reason: String,
    /// When it was first seen.
    pub since: Timestamp,
    /// The API call that made the change, if CloudTrail delivered it.
    pub by: Option<ApiCall>,
    /// A rule sends traffic to the side that is not stable.
    pub moves_traffic: bool,
}

/// A message to other targets, sent after the decision is committed. Delivery is idempotent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum OutboxMessage {
    /// A release was verified: environments that promote automatically deploy it, and its release train continues.
    Verified {
        /// The release that was verified.
        release: ReleaseRef,
        /// Number of the deployment that verified it.
        deployment: u64,
        /// Who requested that deployment.
        actor: Actor,
        /// The release train that it was deployed with.
        train: Option<Box<Train>>,
    },
    /// The lock of the environment is free: those that wait for it look again.
    LockReleased,
    /// The other members of a release train are approved with this one.
    TrainApproved(TrainApproval),
    /// Notifies the other members of a release train that one failed or rolled back.
    TrainStopped {
        /// The release train to stop.
        train: Box<Train>,
        /// What happened to the member.
        reason: String,
    },
}

fn is_none(throttle_level: &u8) -> bool {
    *throttle_level == 0
}

/// What a finished deployment left as the stable version, and the side that has it: it serves while nothing runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StableSide {
    /// Blue or green; none: versions replace one another in place, and there are no sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// Its version.
    pub version: String,
    /// Its release; none: it was there before Switchback.
    pub release: Option<ReleaseRef>,
    /// When it became stable.
    pub since: Timestamp,
    /// No automatic rollback from it is possible.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward_only: bool,
    /// The release train that it was deployed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<Box<Train>>,
    /// The template that its version was made of; none: the version before it, or not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

impl StableSide {
    /// Whether it runs this release.
    #[must_use]
    pub fn runs(&self, release: &ReleaseRef) -> bool {
        self.release.as_ref().is_some_and(|known| known.id.digest == release.id.digest)
    }

    /// Its release or, if that was there before Switchback, a placeholder that shows the name of its version.
    #[must_use]
    pub fn release_or_placeholder(&self, target: &TargetId) -> ReleaseRef {
        let named = self.version.rsplit('/').next().unwrap_or_default();
        self.release.clone().unwrap_or_else(|| ReleaseRef {
            id: ReleaseId {
                application: target.application.clone(),
                service: target.service.clone(),
                digest: ImageDigest::unknown(),
            },
            image: String::new(),
            tag: named.to_owned(),
            pushed_at: None,
        })
    }
}

/// A requested release that is queued behind the running deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// The release to deploy.
    pub release: ReleaseRef,
    /// Who requested it.
    pub actor: Actor,
    /// Free text by the requester.
    pub reason: String,
    /// Checks that the requester overrode.
    pub overrides: Overrides,
    /// How the deployment was requested, and the release train it belongs to.
    #[serde(default)]
    pub options: DeployOptions,
    /// Identity of the command that requested it.
    pub command: CommandId,
    /// When it was requested.
    pub at: Timestamp,
}
