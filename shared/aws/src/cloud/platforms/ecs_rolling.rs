//! One ECS service whose versions replace one another in place: the service, its target groups, its tasks and its
//! newest service deployment are read in parallel.

use super::{Boxed, PlatformCloud};
use crate::clock::SystemClock;
use crate::cloud::alarms::AlarmsRead;
use crate::cloud::observe::{Observed, alarms_allow_search, unknown};
use crate::cloud::{AwsCloud, instant, service, service_key, tasks};
use crate::error::AwsFailure;
use aws_sdk_ecs::types::{Service, ServiceDeployment, ServiceDeploymentBrief, ServiceRevision, Task};
use engine::Clock;
use futures::{join, try_join};
use rollout::answers::ecs::FailedStarts;
#[cfg(feature = "inspect")]
use rollout::doctor::inspected::{InspectedPlatform, InspectedWorkload};
use rollout::observation::{FailedStartsQuery, ObservationPlan};
use rollout::snapshot::{Reading, TargetHealth, TasksReading, WorkloadReading};
use rollout::{EcsRolling, EcsServiceName, Effect, Outcome, TargetResources};

/// Service deployments per page that `ListServiceDeployments` returns at most (API reference, `maxResults`).
const MAX_DEPLOYMENTS_PER_PAGE: i32 = 100;

/// State of the service according to ECS, without its tasks.
struct InPlaceService {
    live: Service,
    version: String,
    image: Option<String>,
    failed_starts: FailedStarts,
}

/// The newest service deployment, with the revision that it deploys where ECS has it: ECS has none from before
/// October 25, 2024 (API reference, `DescribeServiceDeployments`, `failures`).
struct NewestDeployment {
    deployment: ServiceDeployment,
    revision: Option<ServiceRevision>,
}

impl PlatformCloud for EcsRolling {
    fn ecs_service(&self) -> Option<EcsServiceName<'_>> {
        Some(self.service())
    }

    fn forget(&self, cloud: &AwsCloud) {
        cloud.read_cache.services.forget(&service_key(self.service()));
    }

    fn observe<'a>(&'a self, cloud: &'a AwsCloud, observation: &'a ObservationPlan) -> Boxed<'a, Observed> {
        Box::pin(cloud.observed_rolling(observation, self))
    }

    fn perform<'a>(
        &'a self,
        cloud: &'a AwsCloud,
        resources: &'a TargetResources,
        effect: &'a Effect,
    ) -> Boxed<'a, Outcome> {
        Box::pin(cloud.perform_on_ecs(&resources.platform, effect))
    }

    #[cfg(feature = "inspect")]
    fn inspect<'a>(&'a self, cloud: &'a AwsCloud, _resources: &'a TargetResources) -> Boxed<'a, InspectedPlatform> {
        Box::pin(async move { InspectedPlatform::EcsRolling(Box::new(cloud.rolling_seen(self).await)) })
    }
}

impl AwsCloud {
    /// Reads what `observation` names of the service, and the alarms.
    async fn observed_rolling(&self, observation: &ObservationPlan, rolling: &EcsRolling) -> Observed {
        let service = rolling.service();
        // Boxed: the combined futures would exceed the stack size of some threads.
        let ((ecs, alarms), targets, newest, tasks) = join!(
            Box::pin(self.in_place_service_and_alarms(observation, service)),
            Box::pin(self.health_in_place(rolling)),
            Box::pin(if_asked(observation.tasks, self.newest_deployment(service))),
            Box::pin(if_asked(observation.tasks, self.running_tasks(service))),
        );
        let targets = self.read_cache.note_throttling(targets);
        let newest = self.read_cache.note_throttling(newest).map(Option::flatten);
        let tasks = self.read_cache.note_throttling(tasks);
        let tasks = match (&ecs, tasks) {
            (Ok(ecs), Ok(Some(tasks))) => {
                let read = self.tasks_in_place(service, &ecs.version, &tasks).await;
                self.read_cache.note_throttling(read).map(Some)
            }
            (_, tasks) => tasks.map(|_| None),
        };
        let query = observation.failed_starts_query.as_ref().filter(|query| query.slot.is_none());
        let workload = workload(service, query, Parts { ecs, targets, newest, tasks });
        Observed { workload, ..Observed::of_alarms(alarms) }
    }

    /// Reads the service in parallel with the alarms; then only what these results and the plan require.
    async fn in_place_service_and_alarms(
        &self,
        observation: &ObservationPlan,
        service: EcsServiceName<'_>,
    ) -> (Result<InPlaceService, String>, Result<AlarmsRead, AwsFailure>) {
        let asked = [service];
        let (found, alarms) =
            join!(Box::pin(self.services(&asked)), Box::pin(self.alarms(&observation.resources, &observation.alarms)));
        let (found, alarms) = (self.read_cache.note_throttling(found), self.read_cache.note_throttling(alarms));
        let live = found
            .map_err(|failure| failure.reason().to_owned())
            .and_then(|(services, failures)| service::find(service.name, &services, &failures).cloned());
        let search = alarms_allow_search(observation, &alarms);
        let ecs = match live {
            Ok(live) => Box::pin(self.in_place_service(observation, service, live, search)).await,
            Err(reason) => Err(reason),
        };
        (ecs, alarms)
    }

    /// State of the service. Stopped tasks are read only where the plan asks for failed starts, the service is short of
    /// tasks, and no alarm has already decided a rollback (`search`).
    async fn in_place_service(
        &self,
        observation: &ObservationPlan,
        service: EcsServiceName<'_>,
        live: Service,
        search: bool,
    ) -> Result<InPlaceService, String> {
        self.read_cache.services.put(&service_key(service), live.clone());
        let version = service::service_reading(&live, None)?.version;
        let query = observation.failed_starts_query.as_ref().filter(|query| query.slot.is_none());
        let query = query.filter(|_| search && service::is_degraded(&live));
        let (image, failed_starts) = self.image_and_failed_starts(service, &version, observation.images, query).await?;
        Ok(InPlaceService { live, version, image, failed_starts })
    }

    /// Health of the targets of the worst target group; `None`: the service is behind no load balancer.
    async fn health_in_place(&self, rolling: &EcsRolling) -> Result<Option<TargetHealth>, AwsFailure> {
        if rolling.target_groups.is_empty() {
            return Ok(None);
        }
        self.worst_health(rolling.target_groups.iter().map(String::as_str).collect()).await.map(Some)
    }

    /// The newest service deployment; `None`: ECS has none. Two consecutive calls: the list names the revision, too.
    async fn newest_deployment(&self, service: EcsServiceName<'_>) -> Result<Option<NewestDeployment>, AwsFailure> {
        let ecs = self.clients.ecs().await;
        let call = ecs.list_service_deployments().cluster(service.cluster).service(service.name);
        let listed = call.max_results(MAX_DEPLOYMENTS_PER_PAGE).send().await;
        let listed = listed.map_err(|error| AwsFailure::of("ListServiceDeployments", &error))?;
        let newest = newest(listed.service_deployments());
        let Some(arn) = newest.and_then(ServiceDeploymentBrief::service_deployment_arn) else { return Ok(None) };
        let revision = newest.and_then(ServiceDeploymentBrief::target_service_revision_arn);
        let (deployment, revision) =
            try_join!(Box::pin(self.service_deployment(arn)), Box::pin(self.service_revision(revision)))?;
        Ok(deployment.map(|deployment| NewestDeployment { deployment, revision }))
    }

    async fn service_deployment(&self, arn: &str) -> Result<Option<ServiceDeployment>, AwsFailure> {
        let ecs = self.clients.ecs().await;
        let answer = ecs.describe_service_deployments().service_deployment_arns(arn).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("DescribeServiceDeployments", &error))?;
        Ok(answer.service_deployments.unwrap_or_default().pop())
    }

    async fn service_revision(&self, arn: Option<&str>) -> Result<Option<ServiceRevision>, AwsFailure> {
        let Some(arn) = arn else { return Ok(None) };
        let ecs = self.clients.ecs().await;
        let answer = ecs.describe_service_revisions().service_revision_arns(arn).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("DescribeServiceRevisions", &error))?;
        Ok(answer.service_revisions.unwrap_or_default().pop())
    }

    /// What the service's tasks tell. Protection is read only of tasks of other versions: it is what keeps ECS from
    /// stopping them.
    async fn tasks_in_place(
        &self,
        service: EcsServiceName<'_>,
        version: &str,
        running: &[Task],
    ) -> Result<TasksReading, AwsFailure> {
        let others = tasks::of_other_versions(running, version);
        let protected = self.protected_tasks(service.cluster, &others).await?;
        Ok(tasks::tasks_reading(running, version, &protected, SystemClock.now()))
    }

    #[cfg(feature = "inspect")]
    async fn rolling_seen(&self, rolling: &EcsRolling) -> InspectedWorkload {
        let named = [rolling.service()];
        let (services, groups) = join!(
            Box::pin(self.services_seen(&named)),
            Box::pin(self.groups_seen(rolling.target_groups.iter().map(String::as_str).collect())),
        );
        services.workload(rolling.service(), groups)
    }
}

/// Runs a read only where the plan asks for it.
async fn if_asked<T>(asked: bool, read: impl Future<Output = Result<T, AwsFailure>>) -> Result<Option<T>, AwsFailure> {
    if asked { read.await.map(Some) } else { Ok(None) }
}

/// The service deployment that was created last; of several at the same time the one that ECS lists first.
fn newest(listed: &[ServiceDeploymentBrief]) -> Option<&ServiceDeploymentBrief> {
    listed.iter().rev().max_by_key(|deployment| instant(deployment.created_at()))
}

/// What was read of a service, each part on its own.
struct Parts {
    ecs: Result<InPlaceService, String>,
    targets: Result<Option<TargetHealth>, AwsFailure>,
    newest: Result<Option<NewestDeployment>, AwsFailure>,
    tasks: Result<Option<TasksReading>, AwsFailure>,
}

/// Combines the parts. The workload is known or unknown as a whole, since every part can require waiting; the reason
/// names the missing part.
fn workload(service: EcsServiceName<'_>, query: Option<&FailedStartsQuery>, parts: Parts) -> Reading<WorkloadReading> {
    let Parts { ecs, targets, newest, tasks } = parts;
    match (ecs, targets, newest, tasks) {
        (Ok(ecs), Ok(targets), Ok(newest), Ok(tasks)) => {
            let newest = newest.as_ref().map(|newest| {
                service::service_deployment(&newest.deployment, newest.revision.as_ref(), service.container)
            });
            match service::workload_reading(&ecs.live, query, newest.as_ref()) {
                Ok(seen) => Reading::Known(WorkloadReading {
                    image: ecs.image,
                    failed_starts: ecs.failed_starts.newest,
                    failed_tasks: ecs.failed_starts.count,
                    targets,
                    tasks,
                    ..seen
                }),
                Err(reason) => unknown([("service", Some(reason))]),
            }
        }
        (ecs, targets, newest, tasks) => {
            let reason = |failure: AwsFailure| failure.reason().to_owned();
            unknown([
                ("service", ecs.err()),
                ("target health", targets.err().map(reason)),
                ("service deployment", newest.err().map(reason)),
                ("tasks", tasks.err().map(reason)),
            ])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ecs::types::{ContainerImage, Deployment, DeploymentRolloutState, ServiceDeploymentStatus};
    use aws_smithy_types::DateTime;
    use rollout::Timestamp;
    use rollout::snapshot::{FailedStart, RolloutReading};

    const NEW: &str = "arn:aws:ecs:eu-west-1:123456789012:task-definition/mailer:8";
    const SERVICE: EcsServiceName<'_> = EcsServiceName { cluster: "shop", container: "worker", name: "mailer" };

    fn live() -> Service {
        let primary = Deployment::builder().status("PRIMARY").task_definition(NEW).running_count(2);
        let primary = primary.rollout_state(DeploymentRolloutState::Completed).build();
        Service::builder().service_name("mailer").desired_count(2).running_count(2).deployments(primary).build()
    }

    fn crashed() -> FailedStart {
        FailedStart {
            task: "arn:task/1".to_owned(),
            reason: "exit code 1".to_owned(),
            at: Timestamp::from_second(1100).expect("an instant"),
        }
    }

    fn newest_deployment() -> NewestDeployment {
        let image = ContainerImage::builder().container_name("worker").image_digest("sha256:new").build();
        NewestDeployment {
            deployment: ServiceDeployment::builder().status(ServiceDeploymentStatus::Successful).build(),
            revision: Some(ServiceRevision::builder().task_definition(NEW).container_images(image).build()),
        }
    }

    fn parts() -> Parts {
        let image = Some("registry/mailer@sha256:new".to_owned());
        let failed_starts = [crashed()].into_iter().collect();
        Parts {
            ecs: Ok(InPlaceService { live: live(), version: NEW.to_owned(), image, failed_starts }),
            targets: Ok(Some(TargetHealth { healthy: 2, ..TargetHealth::default() })),
            newest: Ok(Some(newest_deployment())),
            tasks: Ok(Some(TasksReading { healthy: 2, protected: 0 })),
        }
    }

    #[test]
    fn a_workload_carries_everything_that_was_read() {
        let Reading::Known(reading) = workload(SERVICE, None, parts()) else { panic!("everything was read") };
        assert_eq!((reading.version.as_str(), reading.desired, reading.running, reading.others), (NEW, 2, 2, 0));
        assert_eq!(reading.image.as_deref(), Some("registry/mailer@sha256:new"));
        assert_eq!(reading.digest.as_deref(), Some("sha256:new"));
        assert_eq!(reading.rollout, RolloutReading::Complete);
        assert_eq!(reading.tasks, Some(TasksReading { healthy: 2, protected: 0 }));
        assert_eq!(reading.targets.map(|targets| targets.healthy), Some(2));
        assert_eq!((reading.failed_starts, reading.failed_tasks), (vec![crashed()], 1));
    }

    #[test]
    fn a_workload_without_record_or_load_balancer_is_known() {
        let bare = Parts { targets: Ok(None), newest: Ok(None), tasks: Ok(None), ..parts() };
        let Reading::Known(reading) = workload(SERVICE, None, bare) else { panic!("everything was read") };
        assert_eq!((reading.targets, reading.tasks, reading.digest), (None, None, None));
        assert_eq!(reading.rollout, RolloutReading::Complete);
    }

    #[test]
    fn an_unknown_workload_names_its_missing_parts() {
        let denied = |operation: &str| AwsFailure::Refused { reason: format!("{operation}: AccessDeniedException") };
        let unread = Parts {
            ecs: Err("DescribeServices: AccessDeniedException".to_owned()),
            targets: Err(denied("DescribeTargetHealth")),
            newest: Err(denied("ListServiceDeployments")),
            tasks: Err(denied("GetTaskProtection")),
        };
        let expected = "service: DescribeServices: AccessDeniedException; \
                        target health: DescribeTargetHealth: AccessDeniedException; \
                        service deployment: ListServiceDeployments: AccessDeniedException; \
                        tasks: GetTaskProtection: AccessDeniedException";
        assert_eq!(workload(SERVICE, None, unread), Reading::Unknown(expected.to_owned()));

        let without_tasks = Parts { tasks: Err(denied("ListTasks")), ..parts() };
        let expected = Reading::Unknown("tasks: ListTasks: AccessDeniedException".to_owned());
        assert_eq!(workload(SERVICE, None, without_tasks), expected);
    }

    #[test]
    fn the_newest_service_deployment_is_the_one_created_last() {
        let listed = |arn: &str, created_at: Option<i64>| {
            let brief = ServiceDeploymentBrief::builder().service_deployment_arn(arn);
            brief.set_created_at(created_at.map(DateTime::from_secs)).build()
        };
        let arn = |listed: &[ServiceDeploymentBrief]| newest(listed)?.service_deployment_arn().map(str::to_owned);
        let (first, second) = (listed("first", Some(1000)), listed("second", Some(2000)));
        let (unknown, other) = (listed("unknown", None), listed("other", None));
        assert_eq!(arn(&[]), None);
        assert_eq!(arn(&[first.clone(), second.clone()]).as_deref(), Some("second"));
        assert_eq!(arn(&[second.clone(), first, unknown.clone()]).as_deref(), Some("second"));
        // ECS lists the newest first.
        assert_eq!(arn(&[unknown, other]).as_deref(), Some("unknown"));
    }
}
