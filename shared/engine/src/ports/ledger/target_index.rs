//! Which targets and services an event or the sweep is about.

use super::LedgerError;
use rollout::policy::TargetPolicy;
use rollout::resources::cluster_name;
use rollout::{Name, TargetId, Timestamp};
use std::future::Future;

/// A target whose wake is overdue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OverdueTarget {
    /// When its earliest wake or command became due.
    pub since: Timestamp,
    /// The target's identity.
    pub target: TargetId,
}

/// An external resource that targets or services watch: named by an event and used as lookup key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WatchedResource {
    /// A CloudWatch alarm, by name.
    Alarm(String),
    /// An ECS service: name of the cluster, name of the service.
    EcsService(String, String),
    /// An ECR repository, by name.
    Repository(String),
    /// A listener rule, or a listener whose default action is meant, by ARN.
    Rule(String),
}

impl WatchedResource {
    /// Everything that a target watches: a change of one of them wakes it.
    pub fn of(target: &TargetPolicy) -> impl Iterator<Item = Self> {
        let resources = &target.resources;
        let alarms = target.alarms.iter().map(|alarm| Self::Alarm(alarm.name.clone()));
        let rules = resources.rules().map(|arn| Self::Rule(arn.to_owned()));
        let services = resources
            .platform
            .ecs_services()
            .map(|service| Self::EcsService(cluster_name(service.cluster).to_owned(), service.name.to_owned()));
        alarms.chain(rules).chain(services)
    }
}

/// Finds targets and services by what they watch, and targets by when they are due.
pub trait TargetIndex: Sync {
    /// The targets that watch `watch`; none for a repository (see [`TargetIndex::services`]).
    fn targets_watching(
        &self,
        watch: &WatchedResource,
    ) -> impl Future<Output = Result<Vec<TargetId>, LedgerError>> + Send;
    /// The services (application, service) whose images come from `repository`.
    fn services(&self, repository: &str) -> impl Future<Output = Result<Vec<(Name, Name)>, LedgerError>> + Send;
    /// Targets with a wake or command due at `now` or before: the most overdue first, at most `limit`.
    fn overdue(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<OverdueTarget>, LedgerError>> + Send;
}
