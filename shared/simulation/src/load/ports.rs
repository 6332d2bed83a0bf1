//! The engine's ports as one invocation sees them. Each AWS call has its operation name, draws on that operation's
//! bucket, and is retried as the SDK does it.

use super::state::LoadHandle;
use crate::virtual_time::{PortCalls, PreviousState, perform, read_snapshot};
use crate::world::World;
use crate::world::ecs::ListTasks;
use engine::{Clock, Cloud, ImageRegistry, LeaseId, PushedImage, Wake, WakeQueue};
use futures::join;
use rollout::observation::ObservationPlan;
use rollout::policy::RegistryPolicy;
use rollout::snapshot::{AlarmReading, Reading, SideReading};
use rollout::{EcsServiceName, Effect, Outcome, Seconds, Slot, Snapshot, TargetResources, Timestamp};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// `MAX_ATTEMPTS` in `aws::config`.
const MAX_ATTEMPTS: u32 = 3;
/// `aws-smithy-types`, `RetryConfig::standard`: the delay before attempt n + 1 is a random share of this times 2^(n -
/// 1). The retry quota of 500 tokens per sandbox is not modelled: it would reduce the number of retries.
const BACKOFF_BASE_MS: f64 = 1_000.0;
/// Latency of a call to AWS, and of one to DynamoDB or SQS, in milliseconds.
const CALL_MS: (u64, u64) = (15, 60);
const TABLE_MS: (u64, u64) = (4, 15);
/// SQS's maximum message delay, in seconds.
const LONGEST_DELAY_S: u64 = 900;

impl LoadHandle {
    async fn sleep(&self, milliseconds: u64) {
        let until_ms = self.lock().now_ms.saturating_add_unsigned(milliseconds);
        Sleep { handle: self, until_ms, asked: false }.await;
    }

    async fn sleep_between(&self, (low, high): (u64, u64)) {
        let milliseconds = self.lock().rng.between(low, high);
        self.sleep(milliseconds).await;
    }

    /// One AWS call with all its attempts. The error is the adapter's mapping of the last failure.
    async fn call_aws(&self, operation: &'static str) -> Result<(), String> {
        for attempt in 1..=MAX_ATTEMPTS {
            self.sleep_between(CALL_MS).await;
            let pause = {
                let mut state = self.lock();
                let now = state.now();
                if state.budgets.try_acquire(operation, now) {
                    return Ok(());
                }
                state.rng.unit() * BACKOFF_BASE_MS * f64::from(1_u32 << (attempt - 1))
            };
            if attempt < MAX_ATTEMPTS {
                self.sleep(pause as u64).await;
            }
        }
        let name = operation.rsplit(':').next().unwrap_or(operation);
        Err(format!("{name}: ThrottlingException: Rate exceeded"))
    }
}

/// Waits for an instant of virtual time.
struct Sleep<'a> {
    handle: &'a LoadHandle,
    until_ms: i64,
    asked: bool,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.handle.lock();
        if state.now_ms >= self.until_ms {
            return Poll::Ready(());
        }
        if !self.asked {
            state.add_timer(self.until_ms, context.waker().clone());
            drop(state);
            self.asked = true;
        }
        Poll::Pending
    }
}

impl PortCalls for LoadHandle {
    async fn call<T: Send>(
        &self,
        _: &'static str,
        apply: impl FnOnce() -> T + Send,
        _: impl FnOnce(&'static str) -> T + Send,
    ) -> T {
        self.sleep_between(TABLE_MS).await;
        apply()
    }
}

/// The cloud port of one pass, on its target's world.
#[derive(Debug)]
pub(super) struct LoadCloud {
    pub(super) handle: LoadHandle,
    pub(super) target_world: usize,
    /// The last observation read the rules, so the next write needs no read before it.
    rules_read: AtomicBool,
}

impl LoadCloud {
    pub(super) fn new(handle: LoadHandle, target_world: usize) -> Self {
        Self { handle, target_world, rules_read: AtomicBool::new(false) }
    }

    fn with_world<T>(&self, body: impl FnOnce(&mut World) -> T) -> T {
        let mut state = self.handle.lock();
        state.set_active(self.target_world, true);
        state.with_world(self.target_world, body)
    }

    async fn call_aws_if(&self, wanted: bool, operation: &'static str) -> Result<(), String> {
        if wanted { self.handle.call_aws(operation).await } else { Ok(()) }
    }

    /// The adapter's calls for a task definition: describe the one to copy, list the family, describe its newest
    /// revision, register.
    async fn register(&self) -> Result<(), String> {
        self.handle.call_aws("ecs:DescribeTaskDefinition").await?;
        self.handle.call_aws("ecs:ListTaskDefinitions").await?;
        self.handle.call_aws("ecs:DescribeTaskDefinition").await?;
        self.handle.call_aws("ecs:RegisterTaskDefinition").await
    }

    async fn write_rules(&self) -> Result<(), String> {
        if !self.rules_read.swap(false, Ordering::Relaxed) {
            self.handle.call_aws("elasticloadbalancing:DescribeRules").await?;
        }
        self.handle.call_aws("elasticloadbalancing:ModifyRule").await
    }
}

/// Reads the world without throttling: the AWS call that the reading stands for has drawn on the budget already.
struct Unthrottled<'a>(&'a LoadCloud);

impl crate::virtual_time::WorldReader for Unthrottled<'_> {
    fn reading_or_stale<T>(
        &self,
        _: &'static str,
        _: impl FnOnce(&PreviousState) -> Option<(Timestamp, T)>,
        read: impl FnOnce(&mut World) -> Result<T, String>,
    ) -> Result<T, String> {
        self.0.with_world(read)
    }
}

impl Cloud for LoadCloud {
    async fn observe(&self, observation: &ObservationPlan) -> Snapshot {
        let sides = observation.workloads;
        let (services, alarms, blue, green, scaling, rules) = join!(
            self.call_aws_if(sides, "ecs:DescribeServices"),
            self.call_aws_if(!observation.alarms.is_empty(), "cloudwatch:DescribeAlarms"),
            self.call_aws_if(sides, "elasticloadbalancing:DescribeTargetHealth"),
            self.call_aws_if(sides, "elasticloadbalancing:DescribeTargetHealth"),
            self.call_aws_if(sides, "application-autoscaling:DescribeScalableTargets"),
            self.handle.call_aws("elasticloadbalancing:DescribeRules"),
        );
        let (blue_image, green_image) = join!(
            self.call_aws_if(observation.images && services.is_ok(), "ecs:DescribeTaskDefinition"),
            self.call_aws_if(observation.images && services.is_ok(), "ecs:DescribeTaskDefinition"),
        );
        self.rules_read.store(rules.is_ok(), Ordering::Relaxed);
        let mut seen = read_snapshot(&Unthrottled(self), observation);
        let asked = [&services, &alarms, &blue, &green, &scaling, &rules, &blue_image, &green_image];
        seen.throttled = asked.into_iter().any(Result::is_err);
        let fires = |name: &String| {
            let readings = seen.alarms.known().filter(|_| alarms.is_ok());
            matches!(readings.and_then(|readings| readings.get(name)), Some(AlarmReading::Firing { .. }))
        };
        let search = services.is_ok() && !observation.decisive_alarms.iter().any(fires);
        let queried = observation.failed_starts_query.as_ref().filter(|_| search).and_then(|starts| starts.slot);
        let service = queried.and_then(|slot| observation.resources.platform.ecs_service(Some(slot)));
        let starts = match queried.zip(service) {
            Some((slot, service)) if degraded(seen.side(slot)) => self.starts(service).await,
            _ => Ok(()),
        };
        seen.throttled |= starts.is_err();
        let failed_starts_query =
            |slot| observation.failed_starts_query.as_ref().is_some_and(|starts| starts.slot == Some(slot));
        let sides = [(Slot::Blue, blue, blue_image), (Slot::Green, green, green_image)];
        for (slot, health, image) in sides {
            let starts = if failed_starts_query(slot) { starts.clone() } else { Ok(()) };
            let parts = [
                ("service", services.clone().and(image).and(starts)),
                ("target health", health),
                ("autoscaling", scaling.clone()),
            ];
            let missing = parts.into_iter().filter_map(|(part, asked)| Some(format!("{part}: {}", asked.err()?)));
            let missing: Vec<String> = missing.collect();
            if !missing.is_empty() {
                let side = if slot == Slot::Blue { &mut seen.blue } else { &mut seen.green };
                *side = Reading::Unknown(missing.join("; "));
            }
        }
        if let Err(reason) = rules {
            seen.rules.fill(Reading::Unknown(reason.clone()));
            seen.test_rules.fill(Reading::Unknown(reason));
        }
        if let Err(reason) = alarms {
            seen.alarms = Reading::Unknown(reason);
        }
        seen
    }

    async fn perform(&self, resources: &TargetResources, effect: &Effect) -> Outcome {
        let asked = match effect {
            Effect::RegisterVersion { .. } => self.register().await,
            Effect::SetVersion { .. }
            | Effect::ReplaceVersion { .. }
            | Effect::SetDesired { .. }
            | Effect::StartFirst { .. }
            | Effect::StopFirst { .. } => self.handle.call_aws("ecs:UpdateService").await,
            Effect::SetAutoscaling { .. } => {
                self.handle.call_aws("application-autoscaling:RegisterScalableTarget").await
            }
            Effect::SetWeights { seen, .. } if !seen.is_empty() => {
                // While traffic moves forward the rules are read again before the write, whether or not the observation
                // read them.
                self.rules_read.store(false, Ordering::Relaxed);
                self.write_rules().await
            }
            Effect::SetWeights { .. } | Effect::SetTestRules { .. } => self.write_rules().await,
            Effect::InvokeHook { .. } | Effect::StartTask { .. } | Effect::StopTask { .. } => Ok(()),
        };
        if let Err(reason) = asked {
            return Outcome::Throttled { reason };
        }
        let outcome = self.with_world(|world| perform(world, resources, effect));
        if let Effect::SetWeights { weights, .. } = effect
            && outcome == Outcome::Done
            && weights.green == 0
        {
            let mut state = self.handle.lock();
            let now_ms = state.now_ms;
            let target_world = &mut state.target_worlds[self.target_world];
            if target_world.alarm_at.is_some() {
                target_world.rolled_back_at.get_or_insert(now_ms);
            }
        }
        outcome
    }
}

impl LoadCloud {
    /// Lists stopped tasks and describes them.
    async fn starts(&self, service: EcsServiceName<'_>) -> Result<(), String> {
        self.handle.call_aws("ecs:ListTasks").await?;
        let stopped = ListTasks {
            cluster: service.cluster.to_owned(),
            service_name: Some(service.name.to_owned()),
            desired_status: Some("STOPPED".to_owned()),
            ..ListTasks::default()
        };
        let any = self.with_world(|world| world.list_tasks(stopped).is_ok_and(|arns| !arns.is_empty()));
        self.call_aws_if(any, "ecs:DescribeTasks").await
    }
}

fn degraded(side: &Reading<SideReading>) -> bool {
    side.known().is_some_and(|side| side.running < side.desired)
}

/// The wake queue: wakes are held until they can be received.
#[derive(Debug)]
pub(super) struct LoadWakeQueue(pub(super) LoadHandle);

impl WakeQueue for LoadWakeQueue {
    async fn send(&self, wake: &Wake, delay: Seconds) -> Result<(), String> {
        self.0.sleep_between(TABLE_MS).await;
        let mut state = self.0.lock();
        let at = state.now_ms.saturating_add_unsigned(delay.0.min(LONGEST_DELAY_S) * 1_000);
        state.wake_at(at, usize::from(wake.urgent), wake.clone(), 1);
        Ok(())
    }
}

/// The registry, always empty: no event is lost here, so the sweep finds nothing.
#[derive(Debug)]
pub(super) struct LoadRegistry;

impl ImageRegistry for LoadRegistry {
    async fn images(&self, _: &RegistryPolicy, _: &str) -> Result<Vec<PushedImage>, String> {
        Ok(Vec::new())
    }
}

/// Virtual time, and lease ids that count up.
#[derive(Debug)]
pub(super) struct LoadClock(pub(super) LoadHandle);

impl Clock for LoadClock {
    fn now(&self) -> Timestamp {
        self.0.lock().now()
    }

    fn unique_id(&self) -> LeaseId {
        let mut state = self.0.lock();
        state.leases += 1;
        LeaseId(format!("lease-{}", state.leases))
    }
}
