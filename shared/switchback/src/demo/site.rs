//! Makes the modelled world real: what it wants to run, runs; what really happens, it is told.
//!
//! The world decides what ECS, the balancer's rules and CloudWatch would: which tasks shall exist, what the weights
//! are and when each node of the balancer follows them, when an alarm fires. The site starts and stops processes,
//! checks their health over HTTP, hands the weights to the proxy, and reports every health check and every answer.
//! What the world then tells becomes what EventBridge would make of it: a signal, which wakes whoever is concerned.

use super::balancer::Balancer;
use super::fleet::{Image, Task};
use super::rounds::{Timers, WallClock};
use engine::intake::signal;
use engine::{Clock as _, Ledger, Watch};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rollout::snapshot::Weights;
use rollout::{EcsPair, Slot, Timestamp};
use simulation::world::alarms::AlarmState;
use simulation::world::balancer::{ActionKind, TargetId};
use simulation::world::ecs::LastStatus;
use simulation::world::{WantedTask, What, World, WorldEvent};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// How often the world's time is brought up to the clock.
const STEP: Duration = Duration::from_millis(20);

/// Between two health checks of a task; an Application Load Balancer's shortest is 5 s.
const HEALTH_CHECK_EVERY: Duration = Duration::from_millis(400);

/// Checks in a row that make up the balancer's mind.
const CHECKS: u32 = 2;

/// How long a health check waits.
const HEALTH_CHECK_PATIENCE: Duration = Duration::from_secs(1);

/// How long requests in flight keep a target that leaves: the deregistration delay.
const DRAIN_PATIENCE: Duration = Duration::from_secs(8);

/// A task as the page shows it.
#[derive(Debug, Clone)]
pub(crate) struct TaskCard {
    /// Its side.
    pub(crate) slot: Slot,
    /// What it runs.
    pub(crate) release: String,
    /// `starting`, `healthy`, `unhealthy` or `draining`.
    pub(crate) state: &'static str,
}

/// An alarm as it is.
#[derive(Debug, Clone)]
pub(crate) struct AlarmCard {
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub(crate) state: &'static str,
    /// CloudWatch's words.
    pub(crate) reason: String,
}

/// The world, made real.
pub(crate) struct Site {
    world: Arc<Mutex<World>>,
    pair: EcsPair,
    images: BTreeMap<String, Image>,
    balancer: Arc<Balancer>,
    clock: WallClock,
    seen: Mutex<SeenOfSite>,
}

#[derive(Debug)]
struct SeenOfSite {
    tasks: BTreeMap<String, TaskCard>,
    alarms: BTreeMap<String, AlarmCard>,
    weights: Weights,
    /// When an alarm went to ALARM for the first time.
    alarm_at: Option<Timestamp>,
}

impl Site {
    /// A site over `world`; `images` says, by digest, what the tasks of an image run.
    pub(crate) fn new(world: Arc<Mutex<World>>, pair: EcsPair, images: BTreeMap<String, Image>) -> Arc<Self> {
        let weights = {
            let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
            live_weights(&mut world, &pair).unwrap_or(Weights { blue: 0, green: 0 })
        };
        let seen = SeenOfSite { tasks: BTreeMap::new(), alarms: BTreeMap::new(), weights, alarm_at: None };
        Arc::new(Self {
            balancer: Balancer::new(world.clone(), pair.clone()),
            world,
            pair,
            images,
            clock: WallClock::default(),
            seen: Mutex::new(seen),
        })
    }

    /// The proxy.
    pub(crate) fn balancer(&self) -> &Arc<Balancer> {
        &self.balancer
    }

    /// All tasks, in order of their ids.
    pub(crate) fn tasks(&self) -> Vec<TaskCard> {
        self.seen().tasks.values().cloned().collect()
    }

    /// All alarms that have changed their state so far, by name.
    pub(crate) fn alarms(&self) -> BTreeMap<String, AlarmCard> {
        self.seen().alarms.clone()
    }

    /// The rule's weights as they are live.
    pub(crate) fn weights(&self) -> Weights {
        self.seen().weights
    }

    /// From the first alarm to the last request that was sent to the side in `slot` after it; none without an alarm.
    pub(crate) fn alarm_to_last_request_of(&self, slot: Slot) -> Option<Duration> {
        let alarm_at = self.seen().alarm_at?;
        let last = self.balancer.last_sent(slot)?;
        let took = (last.as_millisecond() - alarm_at.as_millisecond()).max(0);
        Some(Duration::from_millis(u64::try_from(took).unwrap_or(0)))
    }

    /// Keeps reality as the world wants it until `stop` is true; then ends all tasks and returns.
    pub(crate) async fn keep<L: Ledger>(self: Arc<Self>, ledger: &L, wake_queue: &Timers, stop: watch::Receiver<bool>) {
        let mut over = stop.clone();
        let mut steps = tokio::time::interval(STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut stops: BTreeMap<String, watch::Sender<bool>> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                _ = steps.tick() => {}
                _ = over.wait_for(|stop| *stop) => break,
            }
            for event in self.step() {
                match &event.what {
                    What::TaskWanted(wanted) => {
                        let (stop, stopped) = watch::channel(false);
                        stops.insert(wanted.id.clone(), stop);
                        tasks.spawn(self.clone().run_task(wanted.clone(), stopped));
                    }
                    What::TaskUnwanted { id } => {
                        if let Some(stop) = stops.remove(id) {
                            // A task that has ended by itself does not listen any more.
                            let _ = stop.send(true);
                        }
                    }
                    _ => self.told(&event, ledger, wake_queue).await,
                }
            }
            while tasks.try_join_next().is_some() {}
        }
        for stop in stops.values() {
            let _ = stop.send(true);
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Brings the world's time up to the clock, and the proxy up to the world.
    fn step(&self) -> Vec<WorldEvent> {
        let now = self.clock.now();
        let mut world = self.world();
        world.advance_to(now);
        let live = live_weights(&mut world, &self.pair);
        let events = world.drain_events();
        drop(world);
        if let Some(live) = live {
            self.seen().weights = live;
        }
        events
    }

    /// Something happened that the product would hear of from EventBridge.
    async fn told<L: Ledger>(&self, event: &WorldEvent, ledger: &L, wake_queue: &Timers) {
        let watched = match &event.what {
            What::Alarm { name, now, reason, .. } => {
                let mut seen = self.seen();
                seen.alarms.insert(name.clone(), AlarmCard { state: now.as_str(), reason: reason.clone() });
                if *now == AlarmState::Alarm {
                    seen.alarm_at.get_or_insert(event.at);
                }
                Some(Watch::Alarm(name.clone()))
            }
            What::Task(task) => {
                if task.last_status >= LastStatus::Deactivating {
                    self.card(task.id(), "draining");
                }
                task.group.strip_prefix("service:").map(|service| self.service(service))
            }
            What::Deployment { service, .. } | What::Service { service, .. } => {
                Some(self.service(service.rsplit('/').next().unwrap_or(service)))
            }
            What::TaskWanted(_) | What::TaskUnwanted { .. } => None,
        };
        if let Some(watched) = watched {
            // A signal that is lost delays: the next look comes by itself.
            let _ = signal(ledger, wake_queue, &watched).await;
        }
    }

    fn service(&self, name: &str) -> Watch {
        Watch::EcsService(self.pair.cluster.clone(), name.to_owned())
    }

    /// One task from its start to its end.
    async fn run_task(self: Arc<Self>, wanted: WantedTask, mut stopped: watch::Receiver<bool>) {
        let id = wanted.id.as_str();
        let Some((slot, image)) = self.what_to_run(&wanted) else {
            let reason = format!("CannotPullContainerError: {} is not known here", wanted.image);
            self.world().task_stopped(id, None, &reason);
            return;
        };
        let card = TaskCard { slot, release: image.release.clone(), state: "starting" };
        self.seen().tasks.insert(id.to_owned(), card);
        match Task::start(image).await {
            Err(error) => self.world().task_stopped(id, None, &error.to_string()),
            Ok(mut task) => {
                let address = task.address;
                let target = TargetId { id: address.ip().to_string(), port: address.port() };
                self.world().task_running(id, target);
                let ended = tokio::select! {
                    ended = self.watch_over(id, &mut task) => Some(ended),
                    _ = stopped.wait_for(|stop| *stop) => None,
                };
                match ended {
                    // The world is told first, so that it names the target no more.
                    Some(words) => {
                        self.world().task_stopped(id, Some(1), &words);
                        self.balancer.drained(address, DRAIN_PATIENCE).await;
                    }
                    None => {
                        self.balancer.drained(address, DRAIN_PATIENCE).await;
                        task.stop().await;
                        self.world().task_stopped(id, Some(0), "");
                    }
                }
            }
        }
        self.seen().tasks.remove(id);
    }

    fn what_to_run(&self, wanted: &WantedTask) -> Option<(Slot, &Image)> {
        let service = wanted.service.as_deref()?;
        let slot = [Slot::Blue, Slot::Green].into_iter().find(|slot| self.pair.side(*slot).service == service)?;
        let (_, digest) = wanted.image.split_once('@')?;
        Some((slot, self.images.get(digest)?))
    }

    /// Checks a task's health until its process ends by itself; answers how.
    async fn watch_over(&self, id: &str, task: &mut Task) -> String {
        let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let mut checks = tokio::time::interval(HEALTH_CHECK_EVERY);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut known, mut in_a_row) = (None, 0);
        loop {
            checks.tick().await;
            if let Some(words) = task.ended() {
                return words;
            }
            let healthy = is_healthy(&client, task.address).await;
            in_a_row = if known == Some(healthy) { 0 } else { in_a_row + 1 };
            if in_a_row >= CHECKS {
                (known, in_a_row) = (Some(healthy), 0);
                self.world().target_health(id, healthy);
                self.card(id, if healthy { "healthy" } else { "unhealthy" });
                // ECS and ELB have no event for it; on AWS a look at the next poll finds it.
            }
        }
    }

    fn card(&self, id: &str, state: &'static str) {
        if let Some(card) = self.seen().tasks.get_mut(id)
            && card.state != "draining"
        {
            card.state = state;
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // A panic inside the world would be a bug there; what it holds is still what it holds.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, SeenOfSite> {
        // Every change is one assignment: a panic elsewhere leaves nothing half done.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The weights of the pair's first rule, as the balancer's API describes them.
fn live_weights(world: &mut World, pair: &EcsPair) -> Option<Weights> {
    let rules = world.by_hand(|world| world.describe_rules(None, &pair.rules[..1])).ok()?;
    let forward = rules.first()?.actions.iter().find_map(|action| match &action.what {
        ActionKind::Forward(forward) => Some(forward),
        ActionKind::Other { .. } => None,
    })?;
    let of = |slot: Slot| {
        let group = forward.target_groups.iter().find(|group| group.arn == pair.side(slot).target_group);
        group.map_or(0, |group| u16::try_from(group.weight.unwrap_or(1)).unwrap_or(0))
    };
    Some(Weights { blue: of(Slot::Blue), green: of(Slot::Green) })
}

async fn is_healthy(client: &Client<HttpConnector, Empty<Bytes>>, address: SocketAddr) -> bool {
    let Ok(uri) = format!("http://{address}/health").parse() else { return false };
    let ask = async {
        let response = client.get(uri).await.ok()?;
        let well = response.status().is_success();
        response.into_body().collect().await.ok()?;
        Some(well)
    };
    matches!(tokio::time::timeout(HEALTH_CHECK_PATIENCE, ask).await, Ok(Some(true)))
}
