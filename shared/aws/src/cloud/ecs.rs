//! What every platform on ECS needs: reading services, tasks and images, and performing effects. What is observed of
//! one platform alone is in a module of its own.

use super::{AwsCloud, hooks, service, service_key, tasks, unfit};
use crate::error::AwsFailure;
use aws_sdk_ecs::types::{DesiredStatus, Failure as NotFound, Service, Task};
use futures::future::try_join_all;
use futures::join;
use rollout::answers::ecs::{FailedStarts, missing_task};
use rollout::observation::{FailedStartsQuery, HookTask};
use rollout::snapshot::{Reading, TaskReading};
use rollout::{EcsServiceName, Effect, Outcome, Platform};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;

/// Maximum number of pages of stopped tasks that are read: ECS keeps stopped tasks for about an hour, and a crash loop
/// fills a page slowly. Losses of a larger service beyond that are not counted; the share is more than sufficient by
/// then.
const MAX_STOPPED_PAGES: usize = 10;
/// Maximum number of pages of running tasks that are read, with a hundred tasks each: a service has at most 5,000 tasks
/// (Amazon ECS service quotas). Tasks beyond that count as not healthy.
const MAX_RUNNING_PAGES: usize = 50;

/// Services, and ECS's failures for those that do not exist.
pub(super) type DescribedServices = (Vec<Service>, Vec<NotFound>);

/// The service that an effect changes, or whose settings it uses; `None`: the effect does not fit the platform, or
/// changes no service.
fn service_of<'a>(platform: &'a Platform, effect: &Effect) -> Option<EcsServiceName<'a>> {
    match effect {
        // All services of a target have the same cluster and container.
        Effect::RegisterVersion { .. } | Effect::StopTask { .. } => platform.ecs_services().next(),
        Effect::SetVersion { slot, .. } | Effect::SetDesired { slot, .. } | Effect::SetAutoscaling { slot, .. } => {
            platform.ecs_service(Some(*slot))
        }
        Effect::ReplaceVersion { .. } => platform.ecs_service(None),
        Effect::StartFirst { slot, .. } | Effect::StopFirst { slot } => platform.ecs_service(*slot),
        Effect::StartTask { template, .. } => platform.ecs_service(*template),
        Effect::SetWeights { .. } | Effect::SetTestRules { .. } | Effect::InvokeHook { .. } => None,
    }
}

impl AwsCloud {
    /// Performs an effect on the target's services and tasks; refuses all others.
    pub(super) async fn perform_on_ecs(&self, platform: &Platform, effect: &Effect) -> Outcome {
        let Some(service) = service_of(platform, effect) else { return unfit(platform, effect) };
        // Boxed for the same reason as the calls of `perform`.
        let performed: Pin<Box<dyn Future<Output = Outcome> + Send + '_>> = match effect {
            Effect::RegisterVersion { template, image, family } => {
                Box::pin(self.register_task_definition(template, service.container, image, family.as_deref()))
            }
            Effect::SetVersion { version, desired, .. } => {
                Box::pin(self.update_service(service, Some(version), Some(*desired)))
            }
            Effect::ReplaceVersion { version } => Box::pin(self.update_service(service, Some(version), None)),
            Effect::StartFirst { version, count, .. } => {
                Box::pin(self.update_service(service, Some(version), Some(*count)))
            }
            Effect::StopFirst { .. } => Box::pin(self.update_service(service, None, Some(0))),
            Effect::SetDesired { desired, .. } => Box::pin(self.update_service(service, None, Some(*desired))),
            Effect::SetAutoscaling { limits, .. } => Box::pin(self.set_autoscaling(service, *limits)),
            Effect::StartTask { run, version, container, command, .. } => {
                let start = hooks::TaskStart { run, task_definition: version, container, command };
                Box::pin(async move { self.start_task(service, &start).await })
            }
            Effect::StopTask { task } => Box::pin(self.stop_task(service.cluster, task)),
            Effect::SetWeights { .. } | Effect::SetTestRules { .. } | Effect::InvokeHook { .. } => {
                return unfit(platform, effect);
            }
        };
        performed.await
    }

    /// Sets a service's task definition, its desired count, or both. No other attribute is sent, so ECS changes nothing
    /// else; a call that names the present values starts no deployment. The exception is a primary deployment of this
    /// task definition whose circuit breaker tripped: ECS starts no more tasks for it, however often it is named, so a
    /// retry needs a new deployment.
    async fn update_service(
        &self,
        service: EcsServiceName<'_>,
        task_definition: Option<&str>,
        desired: Option<u32>,
    ) -> Outcome {
        let needs_new_deployment = match task_definition.filter(|_| desired != Some(0)) {
            Some(wanted) => match self.live_service(service).await {
                Ok(live) => service::needs_new_deployment(&live, wanted),
                Err(failure) => return failure.outcome(),
            },
            None => {
                self.read_cache.services.forget(&service_key(service));
                false
            }
        };
        let answer = self
            .clients
            .ecs()
            .await
            .update_service()
            .cluster(service.cluster)
            .service(service.name)
            .set_task_definition(task_definition.map(str::to_owned))
            .set_desired_count(desired.map(|desired| i32::try_from(desired).unwrap_or(i32::MAX)))
            .set_force_new_deployment(needs_new_deployment.then_some(true))
            .send()
            .await;
        match answer {
            Ok(_) => Outcome::Done,
            Err(error) => AwsFailure::of("UpdateService", &error).outcome(),
        }
    }

    /// The service as the observation of this pass read it, once; or as it is now.
    ///
    /// # Errors
    /// AWS's, or [`AwsFailure::Refused`] where ECS does not have the service, or it is being deleted.
    pub(super) async fn live_service(&self, service: EcsServiceName<'_>) -> Result<Service, AwsFailure> {
        if let Some(cached) = self.read_cache.services.take(&service_key(service)) {
            return Ok(cached);
        }
        let (services, failures) = self.services(&[service]).await?;
        let found = service::find(service.name, &services, &failures).cloned();
        found.map_err(|reason| AwsFailure::Refused { reason })
    }

    /// These services, at most ten of the same cluster, in one call; and ECS's failures for those that do not exist.
    pub(super) async fn services(&self, asked: &[EcsServiceName<'_>]) -> Result<DescribedServices, AwsFailure> {
        let Some(first) = asked.first() else { return Ok((Vec::new(), Vec::new())) };
        let names = asked.iter().map(|service| service.name.to_owned()).collect();
        let call = self.clients.ecs().await.describe_services().cluster(first.cluster).set_services(Some(names));
        let answer = call.send().await.map_err(|error| AwsFailure::of("DescribeServices", &error))?;
        Ok((answer.services.unwrap_or_default(), answer.failures.unwrap_or_default()))
    }

    /// The image of the service's container in `version`, where `images` are asked for, and the failed starts that are
    /// queried, in parallel.
    ///
    /// # Errors
    /// A reason, where one of them cannot be read.
    pub(super) async fn image_and_failed_starts(
        &self,
        service: EcsServiceName<'_>,
        version: &str,
        images: bool,
        query: Option<&FailedStartsQuery>,
    ) -> Result<(Option<String>, FailedStarts), String> {
        let image = async {
            match images {
                true => self.image(version, service.container).await.map(Some),
                false => Ok(None),
            }
        };
        let failed_starts = async {
            match query {
                Some(query) => self.failed_starts(service, query).await,
                None => Ok(FailedStarts::default()),
            }
        };
        let (image, failed_starts) = join!(Box::pin(image), Box::pin(failed_starts));
        let (image, failed_starts) =
            (self.read_cache.note_throttling(image), self.read_cache.note_throttling(failed_starts));
        let failed_starts = failed_starts.map_err(|failure| failure.reason().to_owned())?;
        Ok((image.map_err(|failure| failure.reason().to_owned())?, failed_starts))
    }

    async fn failed_starts(
        &self,
        service: EcsServiceName<'_>,
        query: &FailedStartsQuery,
    ) -> Result<FailedStarts, AwsFailure> {
        let arns = self.task_arns(service, DesiredStatus::Stopped, MAX_STOPPED_PAGES).await?;
        let (stopped, _) = self.tasks(service.cluster, &arns).await?;
        Ok(tasks::failed_starts(&stopped, query))
    }

    /// The service's tasks that ECS keeps running, those that are still starting included.
    pub(super) async fn running_tasks(&self, service: EcsServiceName<'_>) -> Result<Vec<Task>, AwsFailure> {
        let arns = self.task_arns(service, DesiredStatus::Running, MAX_RUNNING_PAGES).await?;
        let (running, _) = self.tasks(service.cluster, &arns).await?;
        Ok(running)
    }

    /// ARNs of the service's tasks of this desired status, of at most `max_pages` pages.
    async fn task_arns(
        &self,
        service: EcsServiceName<'_>,
        status: DesiredStatus,
        max_pages: usize,
    ) -> Result<Vec<String>, AwsFailure> {
        let mut arns = vec![];
        let mut next = None;
        for _ in 0..max_pages {
            let page = self
                .clients
                .ecs()
                .await
                .list_tasks()
                .cluster(service.cluster)
                .service_name(service.name)
                .desired_status(status.clone())
                .set_next_token(next.take())
                .send()
                .await
                .map_err(|error| AwsFailure::of("ListTasks", &error))?;
            arns.extend(page.task_arns.unwrap_or_default());
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                break;
            }
        }
        Ok(arns)
    }

    /// Tasks by ARN, one call per hundred, in parallel; and ECS's failures for those it has forgotten.
    async fn tasks(&self, cluster: &str, arns: &[String]) -> Result<(Vec<Task>, Vec<NotFound>), AwsFailure> {
        let calls = tasks::per_call(arns).into_iter().map(async |arns| {
            let ecs = self.clients.ecs().await;
            let answer = ecs.describe_tasks().cluster(cluster).set_tasks(Some(arns)).send().await;
            answer.map_err(|error| AwsFailure::of("DescribeTasks", &error))
        });
        let (mut tasks, mut failures) = (vec![], vec![]);
        for answer in try_join_all(calls).await? {
            tasks.extend(answer.tasks.unwrap_or_default());
            failures.extend(answer.failures.unwrap_or_default());
        }
        Ok((tasks, failures))
    }

    /// ARNs of those of these tasks that are protected, one call per hundred, in parallel; a task that has stopped by
    /// now is not among them.
    pub(super) async fn protected_tasks(&self, cluster: &str, arns: &[String]) -> Result<BTreeSet<String>, AwsFailure> {
        let calls = tasks::per_call(arns).into_iter().map(async |arns| {
            let ecs = self.clients.ecs().await;
            let answer = ecs.get_task_protection().cluster(cluster).set_tasks(Some(arns)).send().await;
            answer.map_err(|error| AwsFailure::of("GetTaskProtection", &error))
        });
        let answers = try_join_all(calls).await?;
        Ok(answers.iter().flat_map(|answer| tasks::protected(answer.protected_tasks())).collect())
    }

    /// The tasks of hooks, in one call.
    pub(super) async fn hook_tasks(
        &self,
        cluster: &str,
        asked: &BTreeMap<String, HookTask>,
    ) -> BTreeMap<String, Reading<TaskReading>> {
        let arns: Vec<_> = asked.values().map(|hook| hook.task.clone()).collect();
        let found = self.read_cache.note_throttling(self.tasks(cluster, &arns).await);
        let reading = |hook: &HookTask| {
            let (tasks, failures) = match &found {
                Ok(found) => found,
                Err(failure) => return Reading::Unknown(failure.reason().to_owned()),
            };
            if let Some(task) = tasks.iter().find(|task| task.task_arn() == Some(hook.task.as_str())) {
                return Reading::Known(tasks::hook_task(task, hook));
            }
            let failure = failures.iter().find(|failure| failure.arn() == Some(hook.task.as_str()));
            Reading::Unknown(missing_task(&hook.task, failure.and_then(NotFound::reason)))
        };
        asked.iter().map(|(name, hook)| (name.clone(), reading(hook))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout::snapshot::Autoscaling;
    use rollout::{EcsPair, EcsRolling, Slot};

    fn pair() -> Platform {
        Platform::EcsPair(EcsPair {
            cluster: "shop".to_owned(),
            container: "api".to_owned(),
            blue: "api-blue".to_owned(),
            green: "api-green".to_owned(),
        })
    }

    fn rolling() -> Platform {
        Platform::EcsRolling(EcsRolling {
            cluster: "shop".to_owned(),
            container: "worker".to_owned(),
            service: "mailer".to_owned(),
            target_groups: vec![],
        })
    }

    fn start_first(slot: Option<Slot>) -> Effect {
        Effect::StartFirst { slot, version: "api:8".to_owned(), count: 2 }
    }

    fn start_task(template: Option<Slot>) -> Effect {
        let text = str::to_owned;
        let (hook, run, version) = (text("migrate"), text("7-migrate"), text("api:8"));
        Effect::StartTask { hook, run, version, container: text("api"), command: vec![], template }
    }

    #[test]
    fn an_effect_changes_the_service_that_it_names() {
        let slot = Slot::Green;
        let limits = Autoscaling { min: 1, max: 2, scale_in_suspended: false, scheduled_suspended: false };
        let set_version = Effect::SetVersion { slot, version: "api:8".to_owned(), desired: 2 };
        let replace_version = Effect::ReplaceVersion { version: "api:8".to_owned() };
        let register =
            Effect::RegisterVersion { template: "api:7".to_owned(), image: "image".to_owned(), family: None };
        // The effect, and the services that it changes of a pair and in place; none: it is refused.
        let cases = [
            (register, Some("api-blue"), Some("mailer")),
            (set_version, Some("api-green"), None),
            (Effect::SetDesired { slot, desired: 2 }, Some("api-green"), None),
            (Effect::SetAutoscaling { slot, limits }, Some("api-green"), None),
            (replace_version, None, Some("mailer")),
            (start_first(Some(slot)), Some("api-green"), None),
            (start_first(None), None, Some("mailer")),
            (Effect::StopFirst { slot: Some(slot) }, Some("api-green"), None),
            (Effect::StopFirst { slot: None }, None, Some("mailer")),
            (start_task(Some(slot)), Some("api-green"), None),
            (start_task(None), None, Some("mailer")),
            (Effect::StopTask { task: "arn:task/1".to_owned() }, Some("api-blue"), Some("mailer")),
        ];
        for (effect, of_pair, in_place) in cases {
            assert_eq!(service_of(&pair(), &effect).map(|service| service.name), of_pair, "{effect:?}");
            assert_eq!(service_of(&rolling(), &effect).map(|service| service.name), in_place, "{effect:?}");
        }
    }

    #[tokio::test]
    async fn an_effect_of_another_platform_is_refused_with_a_reason_and_without_a_call() {
        let cloud = AwsCloud::default();
        let set_desired = Effect::SetDesired { slot: Slot::Blue, desired: 0 };
        let refused = |reason: &str| Outcome::Refused { reason: reason.to_owned() };
        let expected = refused("set_desired does not fit this target: its versions replace one another in place");
        assert_eq!(cloud.perform_on_ecs(&rolling(), &set_desired).await, expected);

        let replace_version = Effect::ReplaceVersion { version: "api:8".to_owned() };
        let expected = refused("replace_version does not fit this target: its versions run on two sides");
        assert_eq!(cloud.perform_on_ecs(&pair(), &replace_version).await, expected);
    }
}
