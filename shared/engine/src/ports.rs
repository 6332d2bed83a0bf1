//! The engine's interfaces to the outside world, owned here and implemented elsewhere: `aws` on AWS, `simulation` in memory.

mod channels;
mod ledger;
mod wake;

pub use channels::{
    ApprovalLinkRequest, BusEvent, Channels, ChatMessage, Claimed, Deliveries, DeliveryClaim, DeliveryId, EditOutcome,
    Message, PostedMessage, PostedMessageKey, PostedMessages, SendError,
};
pub use ledger::{
    AppliedPolicy, ClaimedResource, Commit, LeaseId, LeaseOutcome, LeaseRequest, LeasedTarget, Ledger, LedgerError,
    OverdueTarget, Retry, RetryCounts, RetryRegistration, TagInventory, WakeKind, WatchedResource,
};
pub use wake::Wake;

use rollout::doctor::Inspection;
use rollout::doctor::seen::InspectionResult;
use rollout::observation::ObservationPlan;
use rollout::policy::RegistryPolicy;
use rollout::promotion::ImageState;
use rollout::{EcsPair, Effect, Outcome, Reading, Seconds, Snapshot, Timestamp};
use std::future::Future;

/// Live AWS state. The only access to ECS, load balancers, autoscaling, alarms and hooks.
pub trait Cloud: Sync {
    /// Reads everything that `observation` names, concurrently. Never fails: what could not be read is `Unknown`.
    fn observe(&self, observation: &ObservationPlan) -> impl Future<Output = Snapshot> + Send;
    /// Performs `effect`. Every result is an outcome; the implementation's own time-outs cut off calls that take longer than the
    /// lease allows.
    fn perform(&self, pair: &EcsPair, effect: &Effect) -> impl Future<Output = Outcome> + Send;
    /// Whether the registry still has an image, by its reference: `registry/repository@sha256:…`. Read before a deployment
    /// starts, never during a rollback.
    fn image(&self, image: &str) -> impl Future<Output = Reading<ImageState>> + Send {
        let _ = image;
        async { Reading::Unknown("no registry is read here".to_owned()) }
    }
    /// Since when an alarm fires, according to the last observation; used only to measure how long the rollback took. `None` if
    /// unknown.
    fn firing_since(&self, alarm: &str) -> Option<Timestamp> {
        let _ = alarm;
        None
    }
}

/// Reads an account for the doctor: far more than an observation reads, and only on request.
pub trait Inspector: Sync {
    /// Reads everything that the inspection names and changes nothing. Never fails: what could not be read is `Unknown`.
    fn inspect(&self, inspection: &Inspection) -> impl Future<Output = InspectionResult> + Send;
}

/// An image that a registry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedImage {
    /// `registry/repository`, without tag or digest.
    pub repository_uri: String,
    /// Content address.
    pub digest: rollout::ImageDigest,
    /// Its tags.
    pub tags: Vec<String>,
    /// When it was pushed.
    pub pushed_at: Timestamp,
    /// The manifest's artifact media type, if it declares one: signatures and charts are not images.
    pub artifact_media_type: Option<String>,
}

/// The image registry, read-only.
pub trait Registry: Sync {
    /// All tagged images of a repository, all pages, in no particular order. The error is for people; the sweep continues with
    /// the next repository.
    fn images(
        &self,
        registry: &RegistryPolicy,
        repository: &str,
    ) -> impl Future<Output = Result<Vec<PushedImage>, String>> + Send;
}

/// Wakes targets: at least once, with a delay.
pub trait WakeQueue: Sync {
    /// Sends a wake for the target after `delay`; a delay above the implementation's maximum (SQS: 900 s) is cut to it. The error
    /// is for people: the sweeper finds the target of a lost wake.
    fn send(&self, wake: &Wake, delay: Seconds) -> impl Future<Output = Result<(), String>> + Send;
}

/// The time, and unique identities.
pub trait Clock: Sync {
    /// Now.
    fn now(&self) -> Timestamp;
    /// A new, unique lease identity.
    fn lease_id(&self) -> LeaseId;
}
