//! A look: everything that it names, side by side; what could not be read is `Unknown`, and the rest is not.

use super::alarms::AlarmsRead;
use super::{AwsCloud, service, service_key, tasks, traffic};
use crate::error::{Failure, one_line};
use aws_sdk_ecs::types::{DesiredStatus, Failure as NotFound, Service, Task};
use futures::future::try_join_all;
use futures::join;
use rollout::look::{HookTask, Look, StartsOf};
use rollout::snapshot::{AlarmReading, Autoscaling, FailedStart, Reading, SideReading, TargetHealth, TaskReading};
use rollout::{EcsPair, Slot, Snapshot};
use service::ServiceSeen;
use std::collections::BTreeMap;

/// `DescribeTasks` takes at most this many a call, and `ListTasks` gives as many a page.
const A_CALL: usize = 100;
/// Pages of stopped tasks that are read at most: ECS keeps them for about an hour, and a crash loop fills one slowly. What a
/// larger service has lost beyond that is not counted, and its share is more than enough by then.
const PAGES: usize = 10;
/// Services, and what ECS says of those that it does not have.
type Found = (Vec<Service>, Vec<NotFound>);

/// Blue and green, each with what ECS alone says of it, or why that is unknown.
type Sides = [Result<EcsSide, String>; 2];

/// What ECS alone says of a side.
struct EcsSide {
    seen: ServiceSeen,
    image: Option<String>,
    failed_starts: Vec<FailedStart>,
    failed_tasks: u32,
}

impl AwsCloud {
    /// Reads all that `look` names.
    pub(super) async fn look(&self, look: &Look) -> Snapshot {
        let pair = &look.pair;
        let arns: Vec<_> = pair.rules.iter().chain(&pair.test_rule).map(String::as_str).collect();
        self.memory.was_throttled();
        // Boxed: together their futures would be larger than some threads' stacks.
        let ((sides, alarms), blue_health, green_health, autoscaling, schedules, actions, hook_tasks) = join!(
            Box::pin(self.ecs_sides_and_alarms(look)),
            Box::pin(if_wanted(look, self.target_health(&pair.blue.target_group))),
            Box::pin(if_wanted(look, self.target_health(&pair.green.target_group))),
            Box::pin(if_wanted(look, self.autoscaling(pair))),
            Box::pin(self.schedules(pair, &look.schedules_of)),
            Box::pin(self.remembered_actions(&arns)),
            Box::pin(self.hook_tasks(pair, &look.hook_tasks)),
        );
        let (blue_health, green_health) = (self.memory.noting(blue_health), self.memory.noting(green_health));
        let autoscaling = self.memory.noting(autoscaling);
        let [blue, green] = sides;
        let (alarms, alarm_sides) = match alarms {
            Ok(alarms) => (Reading::Known(alarms.readings), alarms.sides),
            Err(failure) => (Reading::Unknown(failure.reason().to_owned()), BTreeMap::new()),
        };
        let rule = |arn: &String| match actions.get(arn) {
            Some(Ok(actions)) => Reading::Known(traffic::reading(actions, pair)),
            Some(Err(failure)) => Reading::Unknown(failure.reason().to_owned()),
            None => Reading::Unknown(format!("{arn} was not read")),
        };
        let scaling = |slot| match &autoscaling {
            Ok(limits) => Ok(limits.get(&service_key(pair, slot)).copied()),
            Err(failure) => Err(failure),
        };
        Snapshot {
            begun_at: None,
            api_call: None,
            blue: side(blue, blue_health, scaling(Slot::Blue)),
            green: side(green, green_health, scaling(Slot::Green)),
            rules: pair.rules.iter().map(rule).collect(),
            test_rule: pair.test_rule.as_ref().map(rule),
            alarms,
            alarm_sides,
            schedules,
            hook_tasks,
            throttled: self.memory.was_throttled(),
        }
    }

    /// Reads rules and listeners, and remembers what they were for a write in the same pass.
    async fn remembered_actions(&self, arns: &[&str]) -> traffic::Read {
        for arn in arns {
            self.memory.rules.forget(arn);
        }
        let read = self.read_actions(arns).await;
        for (arn, actions) in &read {
            match actions {
                Ok(actions) => self.memory.rules.put(arn, actions.clone()),
                Err(failure) => drop(self.memory.noting::<()>(Err(failure.clone()))),
            }
        }
        read
    }

    /// Both sides' services in one call and the alarms beside it, and then only what they and the look give reason for.
    async fn ecs_sides_and_alarms(&self, look: &Look) -> (Sides, Result<AlarmsRead, Failure>) {
        let slots = [Slot::Blue, Slot::Green];
        for slot in slots {
            self.memory.services.forget(&service_key(&look.pair, slot));
        }
        let (found, alarms) = join!(
            Box::pin(if_wanted(look, self.services(&look.pair, &slots))),
            Box::pin(self.alarms(&look.pair, &look.alarms))
        );
        let (found, alarms) = (self.memory.noting(found), self.memory.noting(alarms));
        // What is not known to fire does not spare the search.
        let reading = |name: &String| alarms.as_ref().ok().and_then(|alarms| alarms.readings.get(name));
        let fires = |name: &String| matches!(reading(name), Some(AlarmReading::Firing { .. }));
        let search = !look.decisive_alarms.iter().any(fires);
        // The stable side's stopped tasks are only there to compare with: both sides are searched, or none.
        let candidate = look.starts_of.as_ref().and_then(|starts| {
            let (services, failures) = found.as_ref().ok()?;
            service::find(&look.pair.side(starts.slot).service, services, failures).ok()
        });
        let search = search && candidate.is_some_and(service::is_troubled);
        let sides = match found {
            Ok(found) => {
                let (blue, green) = join!(
                    Box::pin(self.ecs_side(look, Slot::Blue, &found, search)),
                    Box::pin(self.ecs_side(look, Slot::Green, &found, search))
                );
                [blue, green]
            }
            Err(failure) => [Err(failure.reason().to_owned()), Err(failure.reason().to_owned())],
        };
        (sides, alarms)
    }

    /// The services of these sides, and what ECS says of those that it does not have.
    pub(super) async fn services(&self, pair: &EcsPair, slots: &[Slot]) -> Result<Found, Failure> {
        let names = slots.iter().map(|slot| pair.side(*slot).service.clone()).collect();
        let call = self.clients.ecs().await.describe_services().cluster(&pair.cluster).set_services(Some(names));
        let answer = call.send().await.map_err(|error| Failure::of("DescribeServices", &error))?;
        Ok((answer.services.unwrap_or_default(), answer.failures.unwrap_or_default()))
    }

    /// One side. Stopped tasks are looked for only where the look asks for this side's starts or compares with them, the
    /// candidate is short of tasks, and no alarm has turned the deployment back already (`search`): two more round trips,
    /// which neither a healthy candidate nor the way back from an alarm ever costs.
    async fn ecs_side(
        &self,
        look: &Look,
        slot: Slot,
        (services, failures): &Found,
        search: bool,
    ) -> Result<EcsSide, String> {
        let pair = &look.pair;
        let service = service::find(&pair.side(slot).service, services, failures)?;
        self.memory.services.put(&service_key(pair, slot), service.clone());
        let starts_of = look.starts_of.as_ref().filter(|starts| starts.slot == slot);
        let seen = service::see(service, starts_of)?;
        let image = async {
            match look.images {
                true => self.image(&seen.task_definition, &pair.container).await.map(Some),
                false => Ok(None),
            }
        };
        let beside = |starts: &StartsOf| {
            let task_definition = starts.beside.clone().filter(|_| starts.slot != slot)?;
            Some(StartsOf { slot, task_definition, since: starts.since, beside: None })
        };
        let searched = starts_of.cloned().or_else(|| look.starts_of.as_ref().and_then(beside)).filter(|_| search);
        let failed_starts = async {
            match &searched {
                Some(starts) => self.failed_starts(pair, starts).await,
                None => Ok((0, vec![])),
            }
        };
        let (image, failed_starts) = join!(Box::pin(image), Box::pin(failed_starts));
        let (image, failed_starts) = (self.memory.noting(image), self.memory.noting(failed_starts));
        let (failed_tasks, failed_starts) = failed_starts.map_err(|failure| failure.reason().to_owned())?;
        Ok(EcsSide { image: image.map_err(|failure| failure.reason().to_owned())?, failed_starts, failed_tasks, seen })
    }

    async fn failed_starts(&self, pair: &EcsPair, starts: &StartsOf) -> Result<(u32, Vec<FailedStart>), Failure> {
        let mut arns = vec![];
        let mut next = None;
        for _ in 0..PAGES {
            let page = self
                .clients
                .ecs()
                .await
                .list_tasks()
                .cluster(&pair.cluster)
                .service_name(&pair.side(starts.slot).service)
                .desired_status(DesiredStatus::Stopped)
                .set_next_token(next.take())
                .send()
                .await
                .map_err(|error| Failure::of("ListTasks", &error))?;
            arns.extend(page.task_arns.unwrap_or_default());
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                break;
            }
        }
        let (stopped, _) = self.tasks(pair, &arns).await?;
        Ok(tasks::failed_starts(&stopped, starts))
    }

    /// Tasks by ARN, one call for each hundred of them, side by side; and what ECS says of those that it forgot.
    async fn tasks(&self, pair: &EcsPair, arns: &[String]) -> Result<(Vec<Task>, Vec<NotFound>), Failure> {
        let calls = arns.chunks(A_CALL).map(async |chunk| {
            let ecs = self.clients.ecs().await;
            let answer = ecs.describe_tasks().cluster(&pair.cluster).set_tasks(Some(chunk.to_vec())).send().await;
            answer.map_err(|error| Failure::of("DescribeTasks", &error))
        });
        let (mut tasks, mut failures) = (vec![], vec![]);
        for answer in try_join_all(calls).await? {
            tasks.extend(answer.tasks.unwrap_or_default());
            failures.extend(answer.failures.unwrap_or_default());
        }
        Ok((tasks, failures))
    }

    /// The tasks of hooks, all in one call.
    async fn hook_tasks(
        &self,
        pair: &EcsPair,
        asked: &BTreeMap<String, HookTask>,
    ) -> BTreeMap<String, Reading<TaskReading>> {
        let arns: Vec<_> = asked.values().map(|hook| hook.task.clone()).collect();
        let found = self.memory.noting(self.tasks(pair, &arns).await);
        let reading = |hook: &HookTask| {
            let (tasks, failures) = match &found {
                Ok(found) => found,
                Err(failure) => return Reading::Unknown(failure.reason().to_owned()),
            };
            if let Some(task) = tasks.iter().find(|task| task.task_arn() == Some(hook.task.as_str())) {
                return Reading::Known(tasks::hook_task(task, hook));
            }
            let failure = failures.iter().find(|failure| failure.arn() == Some(hook.task.as_str()));
            let reason = failure.and_then(NotFound::reason).unwrap_or("not in the answer");
            Reading::Unknown(one_line(&format!("ECS has no task {}: {reason}", hook.task)))
        };
        asked.iter().map(|(name, hook)| (name.clone(), reading(hook))).collect()
    }
}

/// What is said of a side, where the look asks for sides.
async fn if_wanted<T>(look: &Look, reading: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    if look.sides { reading.await } else { Err(Failure::Unsure { reason: "it was not asked for".to_owned() }) }
}

/// One side out of its three parts. A side is known or not as a whole, since every part of it can say "wait"; the
/// reason says which part is missing.
fn side(
    ecs: Result<EcsSide, String>,
    targets: Result<TargetHealth, Failure>,
    autoscaling: Result<Option<Autoscaling>, &Failure>,
) -> Reading<SideReading> {
    match (ecs, targets, autoscaling) {
        (Ok(ecs), Ok(targets), Ok(autoscaling)) => {
            let EcsSide { seen, image, failed_starts, failed_tasks } = ecs;
            Reading::Known(SideReading {
                task_definition: seen.task_definition,
                image,
                desired: seen.desired,
                running: seen.running,
                pending: seen.pending,
                steady: seen.steady,
                gave_up: seen.gave_up,
                stalled: seen.stalled,
                failed_starts,
                failed_tasks,
                placed_by: seen.placed_by,
                placement_failure: seen.placement_failure,
                targets,
                autoscaling,
            })
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
    fn a_side_that_lacks_a_part_says_which() {
        let throttled = Failure::Unsure { reason: "DescribeScalableTargets: ThrottlingException".to_owned() };
        let missing = Err("ECS has no service api-green in the cluster: MISSING".to_owned());
        let reading = side(missing, Ok(TargetHealth::default()), Err(&throttled));
        let expected = "service: ECS has no service api-green in the cluster: MISSING; \
                        autoscaling: DescribeScalableTargets: ThrottlingException";
        assert_eq!(reading, Reading::Unknown(expected.to_owned()));
    }
}
