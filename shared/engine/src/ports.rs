//! The engine's interfaces to the outside world, owned here and implemented elsewhere: `aws` on AWS, `simulation` in memory.
//!
//! | port | what it is |
//! |---|---|
//! | [`Ledger`] | all deployment state; divided into traits, so that each entry point is bound to what it may do |
//! | [`Deliveries`], [`PostedMessages`] | the notifier's own records |
//! | [`Cloud`], [`Inspector`], [`ImageRegistry`] | what runs on AWS, and the images |
//! | [`WakeQueue`] | wakes, delivered at least once |
//! | [`Channels`] | where the journal is delivered |
//! | [`Clock`] | the time, and unique identities |

mod channels;
mod ledger;
mod wake;

pub use channels::{
    ApprovalLinkRequest, BusEvent, Channels, ChatMessage, ClaimOutcome, Deliveries, DeliveryClaim, DeliveryId,
    EditOutcome, PostedMessage, PostedMessageKey, PostedMessages, SendError, TopicMessage,
};
pub use ledger::{
    Administration, AppliedPolicy, Brakes, ClaimedResource, Commands, Commit, LeaseId, LeaseOutcome, LeaseRequest,
    LeasedTarget, Leases, Ledger, LedgerError, LockChange, OverdueTarget, Policies, ReleaseIntake, Releases, Retry,
    RetryCounts, RetryRegistration, TagInventory, TargetIndex, Targets, WatchedResource,
};
pub use wake::{Wake, WakeKind};

use rollout::doctor::Inspection;
use rollout::doctor::inspected::InspectionResult;
use rollout::observation::ObservationPlan;
use rollout::policy::RegistryPolicy;
use rollout::promotion::ImageState;
use rollout::template::TemplateReading;
use rollout::{Effect, Outcome, Reading, Seconds, Snapshot, TargetResources, Timestamp};
use std::future::Future;

/// Observes and changes what runs on AWS; the driver's only access to it. Also tells whether an image can still be pulled.
pub trait Cloud: Sync {
    /// Reads everything that `observation` names, concurrently. Never fails: what could not be read is `Unknown`.
    fn observe(&self, observation: &ObservationPlan) -> impl Future<Output = Snapshot> + Send;
    /// Performs `effect`. Every result is an outcome; the implementation's own time-outs cut off calls that take longer than the
    /// lease allows.
    fn perform(&self, resources: &TargetResources, effect: &Effect) -> impl Future<Output = Outcome> + Send;
    /// Whether the registry still has an image, by its reference: `registry/repository@sha256:…`. Read before a deployment
    /// starts, never during a rollback.
    fn image_state(&self, image: &str) -> impl Future<Output = Reading<ImageState>> + Send {
        let _ = image;
        async { Reading::Unknown("no registry is read here".to_owned()) }
    }
    /// The newest template of a family, and how it differs from the version `live`; without one, no difference is named.
    /// Read before a deployment starts and while nothing runs, never during a rollback.
    fn template(
        &self,
        resources: &TargetResources,
        family: &str,
        live: Option<&str>,
    ) -> impl Future<Output = Reading<TemplateReading>> + Send {
        let _ = (resources, family, live);
        async { Reading::Unknown("no templates are read here".to_owned()) }
    }
    /// Since when an alarm fires, according to the last observation, which tells it once: used only to measure how long the
    /// rollback took. `None` if unknown.
    fn take_firing_since(&self, alarm: &str) -> Option<Timestamp> {
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
pub trait ImageRegistry: Sync {
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
    /// A new unique identity: of a lease, of a claim on a delivery, and the key of a request that has none of its own.
    fn unique_id(&self) -> LeaseId;
}
