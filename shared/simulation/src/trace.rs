//! The trace of a run: what passes observed and did, and the faults that were injected. `virtual_time` writes it, and
//! `invariants` judges it.

use crate::world::ecs::{EcsService, RolloutState};
use crate::world::{ServiceKey, World};
use engine::LeaseId;
use rollout::resources::cluster_name;
use rollout::snapshot::Weights;
use rollout::{EcsServiceName, Effect, Timestamp};

/// Names of the calls of a pass by which an invariant tells faults apart: the ports' methods.
pub(crate) mod call_name {
    pub(crate) const ACQUIRE_LEASE: &str = "acquire_lease";
    pub(crate) const BRAKES: &str = "brakes";
    pub(crate) const COMMANDS: &str = "commands";
    pub(crate) const OBSERVE: &str = "observe";
    /// Sending a wake.
    pub(crate) const SEND: &str = "send";
}

/// A fault that occurred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InjectedFault {
    /// Identity: the same in every run of one seed in which the fault occurs.
    pub key: u64,
    /// Virtual time of the fault.
    pub at: Timestamp,
    /// The affected invocation and call, or the event in transit.
    pub subject: String,
    /// Kind of fault, as test output shows it.
    pub what: &'static str,
}

/// What identifies a target in the trace: the cloud port gets its resources, and not its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TraceSubject {
    /// ARN of a pair's first rule.
    Rule(String),
    /// The service that changes its version in place.
    Service(ServiceKey),
}

/// Cluster and name of a service; each may be named by its ARN.
pub(crate) fn service_key(service: EcsServiceName<'_>) -> ServiceKey {
    let name = service.name.rsplit('/').next().unwrap_or(service.name);
    (cluster_name(service.cluster).to_owned(), name.to_owned())
}

/// The primary deployment of an ECS service as it is, whatever a reading would return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PrimaryDeployment {
    /// Unique to the deployment.
    pub(crate) id: String,
    /// ARN of its task definition.
    pub(crate) version: String,
    /// ECS has given it up.
    pub(crate) has_failed: bool,
}

impl PrimaryDeployment {
    /// Reads it; none: there is no such service.
    pub(crate) fn read(world: &mut World, (cluster, name): &ServiceKey) -> Option<Self> {
        let described = world.as_third_party(|world| world.describe_services(cluster, std::slice::from_ref(name)));
        Self::of(described.ok()?.0.first()?)
    }

    /// That of a service that was described.
    pub(crate) fn of(service: &EcsService) -> Option<Self> {
        let primary = service.deployments.first()?;
        Some(Self {
            id: primary.id.clone(),
            version: primary.task_definition.clone(),
            has_failed: primary.rollout_state == RolloutState::Failed,
        })
    }
}

/// The primary deployments of a service around the request of a pass to set its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VersionChange {
    pub(crate) before: PrimaryDeployment,
    pub(crate) after: PrimaryDeployment,
}

/// What an observation read of what runs the target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SeenState {
    /// Of a pair.
    Pair {
        /// Running tasks of blue and green; none where unreadable.
        running: [Option<u32>; 2],
        /// Healthy targets of blue and green; none where unreadable.
        healthy: [Option<u32>; 2],
        /// The weights of each rule; none where unreadable.
        rules: Vec<Option<Weights>>,
    },
    /// Of a service that changes its version in place; none: unreadable.
    InPlace(Option<SeenWorkload>),
}

/// What an observation read of a service that changes its version in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenWorkload {
    /// The version that it is set to run.
    pub(crate) version: String,
    /// Running tasks of that version.
    pub(crate) running: u32,
}

/// An observation or a write of a pass.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PassEvent {
    /// The pass observed a target.
    Observed {
        /// The target.
        subject: TraceSubject,
        /// The lease that the pass holds.
        lease: Option<LeaseId>,
        /// What runs the target.
        seen: SeenState,
        /// Names of the alarms seen firing.
        firing: Vec<String>,
    },
    /// The pass performed an effect.
    Performed {
        /// The target.
        subject: TraceSubject,
        /// The lease that the pass holds.
        lease: Option<LeaseId>,
        /// The effect performed.
        effect: Effect,
        /// What [`Effect::ReplaceVersion`] did; none: another effect.
        version_change: Option<Box<VersionChange>>,
    },
}

impl PassEvent {
    /// The target.
    pub(crate) fn subject(&self) -> &TraceSubject {
        match self {
            Self::Observed { subject, .. } | Self::Performed { subject, .. } => subject,
        }
    }
}
