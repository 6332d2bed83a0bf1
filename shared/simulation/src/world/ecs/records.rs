//! Service deployments and service revisions: the record of every requested deployment, and of what it deployed.
//!
//! A rollback by the circuit breaker is part of the failed deployment's record, and deploys an earlier revision ("View
//! service history using Amazon ECS service deployments" in the ECS developer guide).

use super::definitions::last_part;
use super::record_shapes::{
    ContainerImage, ListServiceDeployments, ServiceDeployment, ServiceDeploymentBrief, ServiceDeploymentCircuitBreaker,
    ServiceDeploymentStatus, ServiceRevision, ServiceRevisionSummary, ServiceRollback,
};
use super::scheduler::{TaskPhase, breaker_threshold};
use super::services::ScheduledService;
use super::shapes::{EcsFailure, ServiceLoadBalancer};
use crate::world::error::invalid_parameter;
use crate::world::{ApiError, ApiResult, ServiceKey, World};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Maximum number of ARNs in one `DescribeServiceDeployments` or `DescribeServiceRevisions` call.
const MAX_ARNS_PER_CALL: usize = 20;
/// Why the circuit breaker rolled a deployment back, in ECS's words.
const ROLLED_BACK: &str = "Service deployment rolled back because the circuit breaker threshold was exceeded.";
/// Why the circuit breaker stopped a deployment that it does not roll back.
const STOPPED: &str = "Service deployment stopped because the circuit breaker threshold was exceeded.";
/// Why a deployment ended that another one replaced.
const SUPERSEDED: &str = "Service deployment stopped because a new service deployment started.";

/// A service deployment.
#[derive(Debug, Clone)]
pub(super) struct RecordedDeployment {
    id: String,
    /// Id of the service revision that it deploys.
    target: String,
    /// Ids of the service revisions that ran when it was created.
    sources: Vec<String>,
    status: ServiceDeploymentStatus,
    reason: Option<String>,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    updated_at: Timestamp,
    rollback: Option<ServiceRollback>,
    /// Failed tasks that tripped the circuit breaker; none: it has not tripped.
    tripped_after: Option<u32>,
    /// Its last state; none: it has not ended.
    ended: Option<EndedDeployment>,
}

/// What is kept of a service deployment that has ended.
#[derive(Debug, Clone)]
struct EndedDeployment {
    at: Timestamp,
    failed_tasks: u32,
    target: ServiceRevisionSummary,
    sources: Vec<ServiceRevisionSummary>,
}

/// A service revision.
#[derive(Debug, Clone)]
pub(super) struct RecordedRevision {
    id: String,
    task_definition: String,
    container_images: Vec<ContainerImage>,
    load_balancers: Vec<ServiceLoadBalancer>,
    network_configuration: Option<Value>,
    launch_type: Option<String>,
    capacity_provider_strategy: Option<Value>,
    created_at: Timestamp,
}

impl World {
    /// `ListServiceDeployments`: the newest first.
    ///
    /// # Errors
    /// `ClusterNotFoundException`, `ServiceNotFoundException`
    pub fn list_service_deployments(
        &mut self,
        request: &ListServiceDeployments,
    ) -> ApiResult<Vec<ServiceDeploymentBrief>> {
        let detail = self.detail(|| json!({"cluster": request.cluster, "service": request.service}));
        self.call("ecs:ListServiceDeployments", detail, |world| {
            let key = (world.cluster_name(&request.cluster)?, last_part(&request.service).to_owned());
            let missing = || ApiError::new("ServiceNotFoundException", "Service not found.");
            let service = world.services.get(&key).ok_or_else(missing)?;
            let is_wanted = |record: &&RecordedDeployment| {
                (request.status.is_empty() || request.status.iter().any(|status| status == record.status.as_str()))
                    && request.created_before.is_none_or(|before| record.created_at < before)
                    && request.created_after.is_none_or(|after| record.created_at > after)
            };
            let records = service.records.iter().rev().filter(is_wanted);
            Ok(records.map(|record| world.deployment_shape(&key, service, record).brief()).collect())
        })
    }

    /// `DescribeServiceDeployments`, at most 20 ARNs.
    ///
    /// # Errors
    /// `InvalidParameterException`; a missing deployment is a failure in the response.
    pub fn describe_service_deployments(
        &mut self,
        arns: &[String],
    ) -> ApiResult<(Vec<ServiceDeployment>, Vec<EcsFailure>)> {
        let detail = self.detail(|| json!({"serviceDeploymentArns": arns}));
        self.call("ecs:DescribeServiceDeployments", detail, |world| {
            described(arns, |arn| {
                let (key, id) = key_and_id(arn, "service-deployment")?;
                let service = world.services.get(&key)?;
                let record = service.records.iter().find(|record| record.id == id)?;
                Some(world.deployment_shape(&key, service, record))
            })
        })
    }

    /// `DescribeServiceRevisions`, at most 20 ARNs.
    ///
    /// # Errors
    /// `InvalidParameterException`; a missing revision is a failure in the response.
    pub fn describe_service_revisions(
        &mut self,
        arns: &[String],
    ) -> ApiResult<(Vec<ServiceRevision>, Vec<EcsFailure>)> {
        let detail = self.detail(|| json!({"serviceRevisionArns": arns}));
        self.call("ecs:DescribeServiceRevisions", detail, |world| {
            described(arns, |arn| {
                let (key, id) = key_and_id(arn, "service-revision")?;
                let service = world.services.get(&key)?;
                let revision = service.revisions.iter().find(|revision| revision.id == id)?;
                Some(ServiceRevision {
                    service_revision_arn: arn.to_owned(),
                    service_arn: service.arn.clone(),
                    cluster_arn: world.cluster_arn(&key),
                    task_definition: revision.task_definition.clone(),
                    container_images: revision.container_images.clone(),
                    load_balancers: revision.load_balancers.clone(),
                    network_configuration: revision.network_configuration.clone(),
                    launch_type: revision.launch_type.clone(),
                    capacity_provider_strategy: revision.capacity_provider_strategy.clone(),
                    created_at: revision.created_at,
                })
            })
        })
    }

    /// Records that a deployment was requested, and its revision; both have the number of the deployment's id. One that
    /// has not ended is stopped by it.
    pub(super) fn begin_record(&mut self, key: &ServiceKey, number: &str, task_definition: &str) {
        let now = self.now;
        if let Some(unfinished) = self.newest_record(key).filter(|record| record.ended.is_none()) {
            let status = match unfinished.status {
                ServiceDeploymentStatus::RollbackInProgress => ServiceDeploymentStatus::RollbackFailed,
                _ => ServiceDeploymentStatus::Stopped,
            };
            self.end_record(key, status, Some(SUPERSEDED));
        }
        let container_images = self.container_images(task_definition);
        let Some(service) = self.services.get_mut(key) else { return };
        let mut sources: Vec<String> = Vec::new();
        for deployment in &service.deployments {
            if !sources.contains(&deployment.revision) {
                sources.push(deployment.revision.clone());
            }
        }
        service.records.push(RecordedDeployment {
            id: number.to_owned(),
            target: number.to_owned(),
            sources,
            status: ServiceDeploymentStatus::Pending,
            reason: None,
            created_at: now,
            started_at: None,
            updated_at: now,
            rollback: None,
            tripped_after: None,
            ended: None,
        });
        service.revisions.push(RecordedRevision {
            id: number.to_owned(),
            task_definition: task_definition.to_owned(),
            container_images,
            load_balancers: service.load_balancers.clone(),
            network_configuration: service.network_configuration.clone(),
            launch_type: service.launch_type.clone(),
            capacity_provider_strategy: service.capacity_provider_strategy.clone(),
            created_at: now,
        });
    }

    /// The service's scheduler runs: its newest deployment has started.
    pub(super) fn record_start(&mut self, key: &ServiceKey) {
        let now = self.now;
        let newest = self.services.get_mut(key).and_then(|service| service.records.last_mut());
        if let Some(record) = newest.filter(|record| record.status == ServiceDeploymentStatus::Pending) {
            record.status = ServiceDeploymentStatus::InProgress;
            (record.started_at, record.updated_at) = (Some(now), now);
        }
    }

    /// The primary deployment of a service is complete.
    pub(super) fn record_completion(&mut self, key: &ServiceKey) {
        let primary = self.services.get(key).and_then(|service| service.deployments.first());
        let status = match primary.is_some_and(|primary| primary.rolls_back) {
            true => ServiceDeploymentStatus::RollbackSuccessful,
            false => ServiceDeploymentStatus::Successful,
        };
        self.end_record(key, status, None);
    }

    /// The circuit breaker has tripped for the primary deployment of a service. `revision`: id of the revision that it
    /// rolls back to; none: it rolls back to none.
    pub(super) fn record_failure(&mut self, key: &ServiceKey, revision: Option<&str>) {
        let now = self.now;
        let primary = self.services.get(key).and_then(|service| service.deployments.first());
        let Some((failed_tasks, rolls_back)) = primary.map(|primary| (primary.failed_tasks, primary.rolls_back)) else {
            return;
        };
        let arn = revision.map(|revision| self.record_arn(key, "service-revision", revision));
        let newest = self.services.get_mut(key).and_then(|service| service.records.last_mut());
        let Some(record) = newest.filter(|record| record.ended.is_none()) else { return };
        record.tripped_after.get_or_insert(failed_tasks);
        record.updated_at = now;
        match arn {
            Some(service_revision_arn) => {
                let reason = ROLLED_BACK.to_owned();
                record.status = ServiceDeploymentStatus::RollbackInProgress;
                record.reason = Some(reason.clone());
                record.rollback = Some(ServiceRollback { reason, started_at: now, service_revision_arn });
            }
            None if rolls_back => self.end_record(key, ServiceDeploymentStatus::RollbackFailed, None),
            None => self.end_record(key, ServiceDeploymentStatus::Stopped, Some(STOPPED)),
        }
    }

    /// Ends the newest service deployment; without a reason, the one that it has stays.
    fn end_record(&mut self, key: &ServiceKey, status: ServiceDeploymentStatus, reason: Option<&str>) {
        let now = self.now;
        let Some(service) = self.services.get(key) else { return };
        let Some(record) = service.records.last().filter(|record| record.ended.is_none()) else { return };
        let shape = self.deployment_shape(key, service, record);
        let ended = EndedDeployment {
            at: now,
            failed_tasks: shape.deployment_circuit_breaker.failure_count,
            target: shape.target_service_revision,
            sources: shape.source_service_revisions,
        };
        let newest = self.services.get_mut(key).and_then(|service| service.records.last_mut());
        if let Some(record) = newest {
            record.status = status;
            record.updated_at = now;
            record.ended = Some(ended);
            if let Some(reason) = reason {
                record.reason = Some(reason.to_owned());
            }
        }
    }

    fn newest_record(&self, key: &ServiceKey) -> Option<&RecordedDeployment> {
        self.services.get(key)?.records.last()
    }

    /// ARN of the newest service deployment of a service.
    pub(super) fn current_record(&self, key: &ServiceKey, service: &ScheduledService) -> Option<String> {
        Some(self.record_arn(key, "service-deployment", &service.records.last()?.id))
    }

    fn deployment_shape(
        &self,
        key: &ServiceKey,
        service: &ScheduledService,
        record: &RecordedDeployment,
    ) -> ServiceDeployment {
        let (target, sources) = match &record.ended {
            Some(ended) => (ended.target.clone(), ended.sources.clone()),
            None => {
                let desired = service.desired;
                let (new, old) = if record.rollback.is_some() { (0, desired) } else { (desired, 0) };
                let sources = record.sources.iter();
                (
                    self.revision_summary(key, service, &record.target, new),
                    sources.map(|revision| self.revision_summary(key, service, revision, old)).collect(),
                )
            }
        };
        ServiceDeployment {
            service_deployment_arn: self.record_arn(key, "service-deployment", &record.id),
            service_arn: service.arn.clone(),
            cluster_arn: self.cluster_arn(key),
            created_at: record.created_at,
            started_at: record.started_at,
            finished_at: record.ended.as_ref().map(|ended| ended.at),
            updated_at: record.updated_at,
            source_service_revisions: sources,
            target_service_revision: target,
            status: record.status,
            status_reason: record.reason.clone(),
            deployment_configuration: service.configuration.clone(),
            rollback: record.rollback.clone(),
            deployment_circuit_breaker: breaker(service, record),
        }
    }

    /// The tasks of a revision, whichever deployments started them.
    fn revision_summary(
        &self,
        key: &ServiceKey,
        service: &ScheduledService,
        revision: &str,
        requested: u32,
    ) -> ServiceRevisionSummary {
        let (mut running, mut pending) = (0, 0);
        let is_of_it = |deployment: &str| {
            let mut deployments = service.deployments.iter();
            deployments.any(|found| found.id == deployment && found.revision == revision)
        };
        for task in service.live.iter().filter_map(|id| self.tasks.get(id)) {
            if !task.deployment.as_deref().is_some_and(is_of_it) {
                continue;
            }
            match self.phase(task) {
                TaskPhase::Stopping => {}
                TaskPhase::Starting => pending += 1,
                TaskPhase::Running | TaskPhase::Healthy => running += 1,
            }
        }
        ServiceRevisionSummary {
            arn: self.record_arn(key, "service-revision", revision),
            requested_task_count: requested,
            running_task_count: running,
            pending_task_count: pending,
        }
    }

    fn container_images(&self, task_definition: &str) -> Vec<ContainerImage> {
        let containers = self.definition(task_definition).and_then(|found| found.document.get("containerDefinitions"));
        let image = |container: &Value| {
            let image = container["image"].as_str()?;
            Some(ContainerImage {
                container_name: container["name"].as_str()?.to_owned(),
                image: image.to_owned(),
                image_digest: image.split_once('@').map(|(_, digest)| digest.to_owned()),
            })
        };
        containers.and_then(Value::as_array).into_iter().flatten().filter_map(image).collect()
    }

    /// ARN of a `service-deployment` or a `service-revision`.
    fn record_arn(&self, (cluster, service): &ServiceKey, kind: &str, id: &str) -> String {
        self.arn("ecs", &format!("{kind}/{cluster}/{service}/{id}"))
    }

    fn cluster_arn(&self, key: &ServiceKey) -> String {
        self.clusters.get(&key.0).map(|cluster| cluster.cluster_arn.clone()).unwrap_or_default()
    }
}

/// State of the circuit breaker in a service deployment. Once a task has succeeded, it does not count any more.
fn breaker(service: &ScheduledService, record: &RecordedDeployment) -> ServiceDeploymentCircuitBreaker {
    let of_it = service.deployments.iter().find(|found| found.record == record.id && !found.rolls_back);
    let has_succeeded = of_it.is_some_and(|deployment| deployment.proven);
    let live = of_it.map_or(0, |deployment| deployment.failed_tasks);
    let failed = record.tripped_after.or(record.ended.as_ref().map(|ended| ended.failed_tasks));
    let status = if record.tripped_after.is_some() {
        "TRIGGERED"
    } else if !service.configuration.deployment_circuit_breaker.enable {
        "DISABLED"
    } else if record.ended.is_some() || has_succeeded {
        "MONITORING_COMPLETE"
    } else {
        "MONITORING"
    };
    ServiceDeploymentCircuitBreaker {
        status,
        failure_count: failed.unwrap_or(live),
        threshold: breaker_threshold(service.desired),
    }
}

/// Cluster and service, and the id, in `arn:aws:ecs:…:KIND/CLUSTER/SERVICE/ID`.
fn key_and_id<'a>(arn: &'a str, kind: &str) -> Option<(ServiceKey, &'a str)> {
    let (_, resource) = arn.rsplit_once(':')?;
    let mut parts = resource.split('/');
    let (found, cluster, service, id) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    (found == kind).then(|| ((cluster.to_owned(), service.to_owned()), id))
}

/// What each ARN names, and a failure for each that names nothing.
fn described<T>(arns: &[String], find: impl Fn(&str) -> Option<T>) -> ApiResult<(Vec<T>, Vec<EcsFailure>)> {
    if arns.is_empty() || arns.len() > MAX_ARNS_PER_CALL {
        return Err(invalid_parameter("Between 1 and 20 ARNs must be specified."));
    }
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for arn in arns {
        match find(arn) {
            Some(shape) => found.push(shape),
            None => failures.push(EcsFailure { arn: arn.clone(), reason: "MISSING".to_owned() }),
        }
    }
    Ok((found, failures))
}
