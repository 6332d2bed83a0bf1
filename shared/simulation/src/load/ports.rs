//! The engine's ports as one invocation has them. Each call of AWS has its name, draws on its bucket, and is tried again
//! as the SDK does it.

use super::town::Hall;
use crate::virtual_time::{Calls, Past, perform, see};
use crate::world::World;
use crate::world::ecs::ListTasks;
use engine::{Clock, Cloud, LeaseId, PushedImage, Registry, Wake, WakeQueue};
use futures::join;
use rollout::look::Look;
use rollout::policy::RegistryPolicy;
use rollout::snapshot::{AlarmReading, Reading, SideReading};
use rollout::{EcsPair, Effect, Outcome, Seconds, Slot, Snapshot, Timestamp};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// `ATTEMPTS` in `aws::config`.
const ATTEMPTS: u32 = 3;
/// `aws-smithy-types`, `RetryConfig::standard`: the pause before try number n + 1 is a share, by chance, of this times
/// 2^(n - 1). The quota for retries, 500 tokens in each sandbox, is left out: it would make for fewer retries.
const FIRST_PAUSE_MS: f64 = 1_000.0;
/// How long a call to AWS takes, and one to the table or the queue, in milliseconds.
const CALL_MS: (u64, u64) = (15, 60);
const TABLE_MS: (u64, u64) = (4, 15);
/// The longest delay that SQS knows, in seconds.
const LONGEST_DELAY_S: u64 = 900;

impl Hall {
    async fn sleep(&self, milliseconds: u64) {
        let until_ms = self.lock().now_ms.saturating_add_unsigned(milliseconds);
        Sleep { hall: self, until_ms, asked: false }.await;
    }

    async fn within(&self, (low, high): (u64, u64)) {
        let milliseconds = self.lock().dice.between(low, high);
        self.sleep(milliseconds).await;
    }

    /// One call of AWS with all its tries. The error is what the adapter makes of the last one.
    async fn ask(&self, operation: &'static str) -> Result<(), String> {
        for attempt in 1..=ATTEMPTS {
            self.within(CALL_MS).await;
            let pause = {
                let mut town = self.lock();
                let now = town.now();
                if town.budgets.admits(operation, now) {
                    return Ok(());
                }
                town.dice.unit() * FIRST_PAUSE_MS * f64::from(1_u32 << (attempt - 1))
            };
            if attempt < ATTEMPTS {
                self.sleep(pause as u64).await;
            }
        }
        let name = operation.rsplit(':').next().unwrap_or(operation);
        Err(format!("{name}: ThrottlingException: Rate exceeded"))
    }
}

/// Waits for an instant of virtual time.
struct Sleep<'a> {
    hall: &'a Hall,
    until_ms: i64,
    asked: bool,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut town = self.hall.lock();
        if town.now_ms >= self.until_ms {
            return Poll::Ready(());
        }
        if !self.asked {
            town.call_at(self.until_ms, context.waker().clone());
            drop(town);
            self.asked = true;
        }
        Poll::Pending
    }
}

impl Calls for Hall {
    async fn call<T: Send>(
        &self,
        _: &'static str,
        apply: impl FnOnce() -> T + Send,
        _: impl FnOnce(&'static str) -> T + Send,
    ) -> T {
        self.within(TABLE_MS).await;
        apply()
    }
}

/// What one pass sees and does of one target's world.
#[derive(Debug)]
pub(super) struct LoadCloud {
    pub(super) hall: Hall,
    pub(super) home: usize,
    /// The last look has read the rules: a write needs no reading before it.
    rules_read: AtomicBool,
}

impl LoadCloud {
    pub(super) fn new(hall: Hall, home: usize) -> Self {
        Self { hall, home, rules_read: AtomicBool::new(false) }
    }

    fn visit<T>(&self, body: impl FnOnce(&mut World) -> T) -> T {
        let mut town = self.hall.lock();
        town.set_awake(self.home, true);
        town.visit(self.home, body)
    }

    async fn ask_if(&self, wanted: bool, operation: &'static str) -> Result<(), String> {
        if wanted { self.hall.ask(operation).await } else { Ok(()) }
    }

    /// What the adapter asks before it copies a task definition: the one to copy, the family's newest, and each of those.
    async fn register(&self) -> Result<(), String> {
        self.hall.ask("ecs:DescribeTaskDefinition").await?;
        self.hall.ask("ecs:ListTaskDefinitions").await?;
        self.hall.ask("ecs:DescribeTaskDefinition").await?;
        self.hall.ask("ecs:RegisterTaskDefinition").await
    }

    async fn write_rules(&self) -> Result<(), String> {
        if !self.rules_read.swap(false, Ordering::Relaxed) {
            self.hall.ask("elasticloadbalancing:DescribeRules").await?;
        }
        self.hall.ask("elasticloadbalancing:ModifyRule").await
    }
}

/// What the world says to who asks without limits: the budgets are drawn on by the call that stands for the reading.
struct Freely<'a>(&'a LoadCloud);

impl crate::virtual_time::Reads for Freely<'_> {
    fn lagging<T>(
        &self,
        _: &'static str,
        _: impl FnOnce(&Past) -> Option<(Timestamp, T)>,
        read: impl FnOnce(&mut World) -> Result<T, String>,
    ) -> Result<T, String> {
        self.0.visit(read)
    }
}

impl Cloud for LoadCloud {
    async fn observe(&self, look: &Look) -> Snapshot {
        let sides = look.sides;
        let (services, alarms, blue, green, scaling, rules) = join!(
            self.ask_if(sides, "ecs:DescribeServices"),
            self.ask_if(!look.alarms.is_empty(), "cloudwatch:DescribeAlarms"),
            self.ask_if(sides, "elasticloadbalancing:DescribeTargetHealth"),
            self.ask_if(sides, "elasticloadbalancing:DescribeTargetHealth"),
            self.ask_if(sides, "application-autoscaling:DescribeScalableTargets"),
            self.hall.ask("elasticloadbalancing:DescribeRules"),
        );
        let (blue_image, green_image) = join!(
            self.ask_if(look.images && services.is_ok(), "ecs:DescribeTaskDefinition"),
            self.ask_if(look.images && services.is_ok(), "ecs:DescribeTaskDefinition"),
        );
        self.rules_read.store(rules.is_ok(), Ordering::Relaxed);
        let mut seen = see(&Freely(self), look);
        let asked = [&services, &alarms, &blue, &green, &scaling, &rules, &blue_image, &green_image];
        seen.throttled = asked.into_iter().any(Result::is_err);
        let fires = |name: &String| {
            let readings = seen.alarms.known().filter(|_| alarms.is_ok());
            matches!(readings.and_then(|readings| readings.get(name)), Some(AlarmReading::Firing { .. }))
        };
        let search = services.is_ok() && !look.decisive_alarms.iter().any(fires);
        let starts = match look.starts_of.as_ref().filter(|_| search) {
            Some(starts) if troubled(seen.side(starts.slot)) => self.starts(look, starts.slot).await,
            _ => Ok(()),
        };
        seen.throttled |= starts.is_err();
        let starts_of = |slot| look.starts_of.as_ref().is_some_and(|starts| starts.slot == slot);
        let sides = [(Slot::Blue, blue, blue_image), (Slot::Green, green, green_image)];
        for (slot, health, image) in sides {
            let starts = if starts_of(slot) { starts.clone() } else { Ok(()) };
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
            seen.test_rule = seen.test_rule.map(|_| Reading::Unknown(reason));
        }
        if let Err(reason) = alarms {
            seen.alarms = Reading::Unknown(reason);
        }
        seen
    }

    async fn perform(&self, pair: &EcsPair, effect: &Effect) -> Outcome {
        let asked = match effect {
            Effect::RegisterTaskDefinition { .. } => self.register().await,
            Effect::UpdateService { .. } | Effect::SetDesired { .. } => self.hall.ask("ecs:UpdateService").await,
            Effect::SetAutoscaling { .. } => self.hall.ask("application-autoscaling:RegisterScalableTarget").await,
            Effect::SetWeights { seen, .. } if !seen.is_empty() => {
                // On the way forward the rules are read once more, whatever the look has read.
                self.rules_read.store(false, Ordering::Relaxed);
                self.write_rules().await
            }
            Effect::SetWeights { .. } | Effect::SetTestRule { .. } => self.write_rules().await,
            Effect::AskHook { .. } | Effect::StartTask { .. } | Effect::StopTask { .. } => Ok(()),
        };
        if let Err(reason) = asked {
            return Outcome::Throttled { reason };
        }
        let outcome = self.visit(|world| perform(world, pair, effect));
        if let Effect::SetWeights { weights, .. } = effect
            && outcome == Outcome::Done
            && weights.green == 0
        {
            let mut town = self.hall.lock();
            let now_ms = town.now_ms;
            let home = &mut town.homes[self.home];
            if home.alarm_at.is_some() {
                home.back_at.get_or_insert(now_ms);
            }
        }
        outcome
    }
}

impl LoadCloud {
    /// Stopped tasks are looked for, and looked at.
    async fn starts(&self, look: &Look, slot: Slot) -> Result<(), String> {
        self.hall.ask("ecs:ListTasks").await?;
        let stopped = ListTasks {
            cluster: look.pair.cluster.clone(),
            service_name: Some(look.pair.side(slot).service.clone()),
            desired_status: Some("STOPPED".to_owned()),
            ..ListTasks::default()
        };
        let any = self.visit(|world| world.list_tasks(stopped).is_ok_and(|arns| !arns.is_empty()));
        self.ask_if(any, "ecs:DescribeTasks").await
    }
}

fn troubled(side: &Reading<SideReading>) -> bool {
    side.known().is_some_and(|side| side.running < side.desired)
}

/// Wakes wait in their queue.
#[derive(Debug)]
pub(super) struct LoadWakeQueue(pub(super) Hall);

impl WakeQueue for LoadWakeQueue {
    async fn send(&self, wake: &Wake, delay: Seconds) -> Result<(), String> {
        self.0.within(TABLE_MS).await;
        let mut town = self.0.lock();
        let at = town.now_ms.saturating_add_unsigned(delay.0.min(LONGEST_DELAY_S) * 1_000);
        town.wake_at(at, usize::from(wake.urgent), wake.clone(), 1);
        Ok(())
    }
}

/// No event is lost here, so the registry has nothing to tell.
#[derive(Debug)]
pub(super) struct LoadRegistry;

impl Registry for LoadRegistry {
    async fn images(&self, _: &RegistryPolicy, _: &str) -> Result<Vec<PushedImage>, String> {
        Ok(Vec::new())
    }
}

/// The town's time, and lease identities that count up.
#[derive(Debug)]
pub(super) struct LoadClock(pub(super) Hall);

impl Clock for LoadClock {
    fn now(&self) -> Timestamp {
        self.0.lock().now()
    }

    fn lease_id(&self) -> LeaseId {
        let mut town = self.0.lock();
        town.leases += 1;
        LeaseId(format!("lease-{}", town.leases))
    }
}
