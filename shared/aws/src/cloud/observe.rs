//! One observation: reads everything that the plan names in parallel. A part that cannot be read is `Unknown`; the
//! other parts are unaffected.

use super::alarms::AlarmsRead;
use super::{AwsCloud, service, service_key, tasks, traffic};
use crate::error::AwsFailure;
use aws_sdk_ecs::types::{DesiredStatus, Failure as NotFound, Service, Task};
use futures::future::try_join_all;
use futures::join;
use rollout::observation::{FailedStartsQuery, HookTask, ObservationPlan};
use rollout::platform::ecs::{FailedStarts, ServiceReading, missing_task};
use rollout::snapshot::{AlarmReading, Autoscaling, Reading, SideReading, TargetHealth, TaskReading};
use rollout::{EcsPair, Slot, Snapshot};
use std::collections::BTreeMap;

/// Tasks per call that `DescribeTasks` accepts and per page that `ListTasks` returns.
const MAX_TASKS_PER_CALL: usize = 100;
/// Maximum number of pages of stopped tasks that are read: ECS keeps stopped tasks for about an hour, and a crash loop
/// fills a page slowly. Losses of a larger service beyond that are not counted; the share is more than sufficient by
/// then.
const MAX_PAGES: usize = 10;
/// Services, and ECS's failures for those that do not exist.
type DescribedServices = (Vec<Service>, Vec<NotFound>);

/// Blue and green, each with its state according to ECS, or the reason it is unknown.
type EcsSides = [Result<EcsSide, String>; 2];

/// State of a side according to ECS alone.
struct EcsSide {
    seen: ServiceReading,
    image: Option<String>,
    failed_starts: FailedStarts,
}

impl AwsCloud {
    /// Reads everything that `observation` names.
    pub(super) async fn observation(&self, observation: &ObservationPlan) -> Snapshot {
        let resources = &observation.resources;
        let pair = &resources.ecs;
        let arns: Vec<_> = resources.rules().chain(resources.test_rules()).collect();
        self.read_cache.take_throttled();
        // Boxed: the combined futures would exceed the stack size of some threads.
        let ((sides, alarms), blue_health, green_health, autoscaling, schedules, actions, hook_tasks) = join!(
            Box::pin(self.ecs_sides_and_alarms(observation)),
            Box::pin(if_sides_requested(observation, self.side_health(resources, Slot::Blue))),
            Box::pin(if_sides_requested(observation, self.side_health(resources, Slot::Green))),
            Box::pin(if_sides_requested(observation, self.autoscaling(pair))),
            Box::pin(self.schedules(pair, &observation.scheduled_actions_of)),
            Box::pin(self.read_and_cache_actions(&arns)),
            Box::pin(self.hook_tasks(pair, &observation.hook_tasks)),
        );
        let (blue_health, green_health) =
            (self.read_cache.note_throttling(blue_health), self.read_cache.note_throttling(green_health));
        let autoscaling = self.read_cache.note_throttling(autoscaling);
        let [blue, green] = sides;
        let (alarms, alarm_sides) = match alarms {
            Ok(alarms) => (Reading::Known(alarms.readings), alarms.sides),
            Err(failure) => (Reading::Unknown(failure.reason().to_owned()), BTreeMap::new()),
        };
        let rule = |arn: &str| match (actions.get(arn), resources.leg_of(arn)) {
            (Some(Ok(actions)), Some(leg)) => Reading::Known(traffic::reading(actions, leg)),
            (Some(Err(failure)), _) => Reading::Unknown(failure.reason().to_owned()),
            (_, None) | (None, _) => Reading::Unknown(format!("{arn} was not read")),
        };
        let scaling = |slot| match &autoscaling {
            Ok(limits) => Ok(limits.get(&service_key(pair, slot)).copied()),
            Err(failure) => Err(failure),
        };
        Snapshot {
            read_started_at: None,
            api_call: None,
            blue: side(blue, blue_health, scaling(Slot::Blue)),
            green: side(green, green_health, scaling(Slot::Green)),
            rules: resources.rules().map(rule).collect(),
            test_rules: resources.test_rules().map(rule).collect(),
            alarms,
            alarm_sides,
            schedules,
            hook_tasks,
            throttled: self.read_cache.take_throttled(),
        }
    }

    /// Reads the actions of rules and listeners, and caches them for a write in the same pass.
    async fn read_and_cache_actions(&self, arns: &[&str]) -> traffic::ActionsByArn {
        for arn in arns {
            self.read_cache.rules.forget(arn);
        }
        let read = self.read_actions(arns).await;
        for (arn, actions) in &read {
            match actions {
                Ok(actions) => self.read_cache.rules.put(arn, actions.clone()),
                Err(failure) => drop(self.read_cache.note_throttling::<()>(Err(failure.clone()))),
            }
        }
        read
    }

    /// Reads both sides' services in one call, in parallel with the alarms; then only what these results and the plan
    /// require.
    async fn ecs_sides_and_alarms(&self, observation: &ObservationPlan) -> (EcsSides, Result<AlarmsRead, AwsFailure>) {
        let slots = Slot::BOTH;
        for slot in slots {
            self.read_cache.services.forget(&service_key(&observation.resources.ecs, slot));
        }
        let (found, alarms) = join!(
            Box::pin(if_sides_requested(observation, self.services(&observation.resources.ecs, &slots))),
            Box::pin(self.alarms(&observation.resources, &observation.alarms))
        );
        let (found, alarms) = (self.read_cache.note_throttling(found), self.read_cache.note_throttling(alarms));
        // An alarm that is not known to be firing does not skip the search.
        let reading = |name: &String| alarms.as_ref().ok().and_then(|alarms| alarms.readings.get(name));
        let fires = |name: &String| matches!(reading(name), Some(AlarmReading::Firing { .. }));
        let search = !observation.decisive_alarms.iter().any(fires);
        // The stable side's stopped tasks only serve as the comparison: both sides are searched, or none.
        let candidate = observation.failed_starts_query.as_ref().and_then(|starts| {
            let (services, failures) = found.as_ref().ok()?;
            service::find(observation.resources.ecs.service(starts.slot), services, failures).ok()
        });
        let search = search && candidate.is_some_and(service::is_degraded);
        let sides = match found {
            Ok(found) => {
                let (blue, green) = join!(
                    Box::pin(self.ecs_side(observation, Slot::Blue, &found, search)),
                    Box::pin(self.ecs_side(observation, Slot::Green, &found, search))
                );
                [blue, green]
            }
            Err(failure) => [Err(failure.reason().to_owned()), Err(failure.reason().to_owned())],
        };
        (sides, alarms)
    }

    /// The services of these sides, and ECS's failures for those that do not exist.
    pub(super) async fn services(&self, pair: &EcsPair, slots: &[Slot]) -> Result<DescribedServices, AwsFailure> {
        let names = slots.iter().map(|slot| pair.service(*slot).to_owned()).collect();
        let call = self.clients.ecs().await.describe_services().cluster(&pair.cluster).set_services(Some(names));
        let answer = call.send().await.map_err(|error| AwsFailure::of("DescribeServices", &error))?;
        Ok((answer.services.unwrap_or_default(), answer.failures.unwrap_or_default()))
    }

    /// State of one side. Stopped tasks are read only where the plan asks for this side's failed starts or compares
    /// with them, the candidate is short of tasks, and no alarm has already decided a rollback (`search`): the two
    /// extra round trips cost neither a healthy candidate nor a rollback caused by an alarm.
    async fn ecs_side(
        &self,
        observation: &ObservationPlan,
        slot: Slot,
        (services, failures): &DescribedServices,
        search: bool,
    ) -> Result<EcsSide, String> {
        let pair = &observation.resources.ecs;
        let service = service::find(pair.service(slot), services, failures)?;
        self.read_cache.services.put(&service_key(pair, slot), service.clone());
        let failed_starts_query = observation.failed_starts_query.as_ref().filter(|starts| starts.slot == slot);
        let seen = service::service_reading(service, failed_starts_query)?;
        let image = async {
            match observation.images {
                true => self.image(&seen.task_definition, &pair.container).await.map(Some),
                false => Ok(None),
            }
        };
        let of_other_side = |starts: &FailedStartsQuery| {
            let task_definition = starts.compare_with.clone().filter(|_| starts.slot != slot)?;
            Some(FailedStartsQuery { slot, task_definition, since: starts.since, compare_with: None })
        };
        let searched = failed_starts_query
            .cloned()
            .or_else(|| observation.failed_starts_query.as_ref().and_then(of_other_side))
            .filter(|_| search);
        let failed_starts = async {
            match &searched {
                Some(starts) => self.failed_starts(pair, starts).await,
                None => Ok(FailedStarts::default()),
            }
        };
        let (image, failed_starts) = join!(Box::pin(image), Box::pin(failed_starts));
        let (image, failed_starts) =
            (self.read_cache.note_throttling(image), self.read_cache.note_throttling(failed_starts));
        let failed_starts = failed_starts.map_err(|failure| failure.reason().to_owned())?;
        Ok(EcsSide { image: image.map_err(|failure| failure.reason().to_owned())?, failed_starts, seen })
    }

    async fn failed_starts(&self, pair: &EcsPair, starts: &FailedStartsQuery) -> Result<FailedStarts, AwsFailure> {
        let mut arns = vec![];
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let page = self
                .clients
                .ecs()
                .await
                .list_tasks()
                .cluster(&pair.cluster)
                .service_name(pair.service(starts.slot))
                .desired_status(DesiredStatus::Stopped)
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
        let (stopped, _) = self.tasks(pair, &arns).await?;
        Ok(tasks::failed_starts(&stopped, starts))
    }

    /// Tasks by ARN, one call per hundred, in parallel; and ECS's failures for those it has forgotten.
    async fn tasks(&self, pair: &EcsPair, arns: &[String]) -> Result<(Vec<Task>, Vec<NotFound>), AwsFailure> {
        let calls = arns.chunks(MAX_TASKS_PER_CALL).map(async |chunk| {
            let ecs = self.clients.ecs().await;
            let answer = ecs.describe_tasks().cluster(&pair.cluster).set_tasks(Some(chunk.to_vec())).send().await;
            answer.map_err(|error| AwsFailure::of("DescribeTasks", &error))
        });
        let (mut tasks, mut failures) = (vec![], vec![]);
        for answer in try_join_all(calls).await? {
            tasks.extend(answer.tasks.unwrap_or_default());
            failures.extend(answer.failures.unwrap_or_default());
        }
        Ok((tasks, failures))
    }

    /// The tasks of hooks, in one call.
    async fn hook_tasks(
        &self,
        pair: &EcsPair,
        asked: &BTreeMap<String, HookTask>,
    ) -> BTreeMap<String, Reading<TaskReading>> {
        let arns: Vec<_> = asked.values().map(|hook| hook.task.clone()).collect();
        let found = self.read_cache.note_throttling(self.tasks(pair, &arns).await);
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

/// Runs a read only where the plan asks for the sides.
async fn if_sides_requested<T>(
    observation: &ObservationPlan,
    reading: impl Future<Output = Result<T, AwsFailure>>,
) -> Result<T, AwsFailure> {
    if observation.sides {
        reading.await
    } else {
        Err(AwsFailure::Unsure { reason: "it was not asked for".to_owned() })
    }
}

/// Combines a side's three parts. A side is known or unknown as a whole, since every part can require waiting; the
/// reason names the missing part.
fn side(
    ecs: Result<EcsSide, String>,
    targets: Result<TargetHealth, AwsFailure>,
    autoscaling: Result<Option<Autoscaling>, &AwsFailure>,
) -> Reading<SideReading> {
    match (ecs, targets, autoscaling) {
        (Ok(ecs), Ok(targets), Ok(autoscaling)) => {
            let EcsSide { seen, image, failed_starts } = ecs;
            Reading::Known(seen.into_side_reading(image, failed_starts, targets, autoscaling))
        }
        (ecs, targets, autoscaling) => {
            let parts = [
                ecs.err().map(|reason| format!("service: {reason}")),
                targets.err().map(|failure| format!("target health: {failure}")),
                autoscaling.err().map(|failure| format!("autoscaling: {failure}")),
            ];
            Reading::Unknown(parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_side_names_its_missing_parts() {
        let throttled = AwsFailure::Unsure { reason: "DescribeScalableTargets: ThrottlingException".to_owned() };
        let missing = Err("ECS has no service api-green in the cluster: MISSING".to_owned());
        let reading = side(missing, Ok(TargetHealth::default()), Err(&throttled));
        let expected = "service: ECS has no service api-green in the cluster: MISSING; \
                        autoscaling: DescribeScalableTargets: ThrottlingException";
        assert_eq!(reading, Reading::Unknown(expected.to_owned()));
    }
}
