//! Makes the modelled world real: runs the tasks that it wants, and reports what really happens to it.
//!
//! The world decides what ECS, the balancer's rules and CloudWatch would: which tasks must run, the weights and when
//! each balancer node follows them, when an alarm fires. The platform starts and stops processes, checks their health
//! over HTTP, passes the weights to the proxy, and reports every health check and every response to the world. Events
//! of the world become signals, as with EventBridge, which wake the targets concerned.

use super::balancer::Balancer;
use super::driver_loop::{TimerWakeQueue, WallClock};
use super::fleet::{Image, TaskProcess};
use engine::intake::signal;
use engine::{Clock as _, TargetIndex, WatchedResource};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rollout::snapshot::Weights;
use rollout::{Slot, TargetResources, Timestamp};
use simulation::world::alarms::AlarmState;
use simulation::world::balancer::{ActionKind, ElbTarget};
use simulation::world::ecs::LastStatus;
use simulation::world::{RequestedTask, World, WorldEvent, WorldEventKind};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Interval at which the world's time is advanced to the clock.
const STEP_INTERVAL: Duration = Duration::from_millis(20);

/// Interval between two health checks of a task; an Application Load Balancer's minimum is 5 s.
const HEALTH_CHECK_INTERVAL: Duration = Duration::from_millis(400);

/// Consecutive checks required to change a target's health.
const HEALTH_THRESHOLD: u32 = 2;

/// Time-out of a health check.
const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Deregistration delay: how long a leaving target may finish requests in flight.
const DEREGISTRATION_DELAY: Duration = Duration::from_secs(8);

/// A task as shown on the page.
#[derive(Debug, Clone)]
pub(crate) struct TaskCard {
    /// Side of the task.
    pub(crate) slot: Slot,
    /// Release that it runs.
    pub(crate) release: String,
    /// `starting`, `healthy`, `unhealthy` or `draining`.
    pub(crate) state: &'static str,
}

/// An alarm as shown on the page.
#[derive(Debug, Clone)]
pub(crate) struct AlarmCard {
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub(crate) state: &'static str,
    /// CloudWatch's reason for the state.
    pub(crate) reason: String,
}

/// Connects the world to real processes and requests.
pub(crate) struct ProcessPlatform {
    world: Arc<Mutex<World>>,
    resources: TargetResources,
    images: BTreeMap<String, Image>,
    balancer: Arc<Balancer>,
    clock: WallClock,
    observed: Mutex<ObservedState>,
}

#[derive(Debug)]
struct ObservedState {
    tasks: BTreeMap<String, TaskCard>,
    alarms: BTreeMap<String, AlarmCard>,
    weights: Weights,
    /// When an alarm first went to ALARM.
    alarm_at: Option<Timestamp>,
}

impl ProcessPlatform {
    /// A platform for `world`; `images` maps digests to the behaviour of their tasks.
    pub(crate) fn new(
        world: Arc<Mutex<World>>,
        resources: TargetResources,
        images: BTreeMap<String, Image>,
    ) -> Arc<Self> {
        let weights = {
            let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
            live_weights(&mut world, &resources).unwrap_or(Weights { blue: 0, green: 0 })
        };
        let observed = ObservedState { tasks: BTreeMap::new(), alarms: BTreeMap::new(), weights, alarm_at: None };
        Arc::new(Self {
            balancer: Balancer::new(world.clone(), resources.clone()),
            world,
            resources,
            images,
            clock: WallClock::default(),
            observed: Mutex::new(observed),
        })
    }

    /// The demo's load balancer.
    pub(crate) fn balancer(&self) -> &Arc<Balancer> {
        &self.balancer
    }

    /// All tasks, ordered by id.
    pub(crate) fn tasks(&self) -> Vec<TaskCard> {
        self.observed().tasks.values().cloned().collect()
    }

    /// All alarms that have changed their state so far, by name.
    pub(crate) fn alarms(&self) -> BTreeMap<String, AlarmCard> {
        self.observed().alarms.clone()
    }

    /// The rule's live weights.
    pub(crate) fn weights(&self) -> Weights {
        self.observed().weights
    }

    /// Time from the first alarm to the last request sent after it to the side in `slot`; none without an alarm.
    pub(crate) fn alarm_to_last_request_of(&self, slot: Slot) -> Option<Duration> {
        let alarm_at = self.observed().alarm_at?;
        let last = self.balancer.last_sent(slot)?;
        let took = (last.as_millisecond() - alarm_at.as_millisecond()).max(0);
        Some(Duration::from_millis(u64::try_from(took).unwrap_or(0)))
    }

    /// Runs what the world wants until `stop` is true; then stops all tasks and returns.
    pub(crate) async fn keep<L: TargetIndex>(
        self: Arc<Self>,
        ledger: &L,
        wake_queue: &TimerWakeQueue,
        stop: watch::Receiver<bool>,
    ) {
        let mut over = stop.clone();
        let mut steps = tokio::time::interval(STEP_INTERVAL);
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
                    WorldEventKind::TaskRequested(wanted) => {
                        let (stop, stopped) = watch::channel(false);
                        stops.insert(wanted.id.clone(), stop);
                        tasks.spawn(self.clone().run_task(wanted.clone(), stopped));
                    }
                    WorldEventKind::TaskStopRequested { id } => {
                        if let Some(stop) = stops.remove(id) {
                            // A task that has exited by itself no longer receives this.
                            let _ = stop.send(true);
                        }
                    }
                    _ => self.handle_event(&event, ledger, wake_queue).await,
                }
            }
            while tasks.try_join_next().is_some() {}
        }
        for stop in stops.values() {
            let _ = stop.send(true);
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Advances the world to the clock's time, and the proxy to the world's weights.
    fn step(&self) -> Vec<WorldEvent> {
        let now = self.clock.now();
        let mut world = self.world();
        world.advance_to(now);
        let live = live_weights(&mut world, &self.resources);
        let events = world.drain_events();
        drop(world);
        if let Some(live) = live {
            self.observed().weights = live;
        }
        events
    }

    /// Sends a signal for an event that EventBridge would deliver.
    async fn handle_event<L: TargetIndex>(&self, event: &WorldEvent, ledger: &L, wake_queue: &TimerWakeQueue) {
        let watched = match &event.what {
            WorldEventKind::Alarm { name, now, reason, .. } => {
                let mut observed = self.observed();
                observed.alarms.insert(name.clone(), AlarmCard { state: now.as_str(), reason: reason.clone() });
                if *now == AlarmState::Alarm {
                    observed.alarm_at.get_or_insert(event.at);
                }
                Some(WatchedResource::Alarm(name.clone()))
            }
            WorldEventKind::Task(task) => {
                if task.last_status >= LastStatus::Deactivating {
                    self.card(task.id(), "draining");
                }
                task.group.strip_prefix("service:").map(|service| self.service(service))
            }
            WorldEventKind::Deployment { service, .. } | WorldEventKind::Service { service, .. } => {
                Some(self.service(service.rsplit('/').next().unwrap_or(service)))
            }
            WorldEventKind::TaskRequested(_) | WorldEventKind::TaskStopRequested { .. } => None,
        };
        if let Some(watched) = watched {
            // A lost signal only delays: the next observation is scheduled anyway.
            let _ = signal(ledger, wake_queue, &watched).await;
        }
    }

    fn service(&self, name: &str) -> WatchedResource {
        let cluster = self.resources.platform.ecs_services().next().map_or("", |service| service.cluster);
        WatchedResource::EcsService(cluster.to_owned(), name.to_owned())
    }

    /// Runs one task from start to end.
    async fn run_task(self: Arc<Self>, wanted: RequestedTask, mut stopped: watch::Receiver<bool>) {
        let id = wanted.id.as_str();
        let Some((slot, image)) = self.image_for(&wanted) else {
            let reason = format!("CannotPullContainerError: {} is not known here", wanted.image);
            self.world().task_stopped(id, None, &reason);
            return;
        };
        let card = TaskCard { slot, release: image.release.clone(), state: "starting" };
        self.observed().tasks.insert(id.to_owned(), card);
        match TaskProcess::start(image).await {
            Err(error) => self.world().task_stopped(id, None, &error.to_string()),
            Ok(mut task) => {
                let address = task.address;
                let target = ElbTarget { id: address.ip().to_string(), port: address.port() };
                self.world().task_running(id, target);
                let ended = tokio::select! {
                    ended = self.monitor(id, &mut task) => Some(ended),
                    _ = stopped.wait_for(|stop| *stop) => None,
                };
                match ended {
                    // Report to the world first, so that it no longer routes to the target.
                    Some(words) => {
                        self.world().task_stopped(id, Some(1), &words);
                        self.balancer.wait_until_drained(address, DEREGISTRATION_DELAY).await;
                    }
                    None => {
                        self.balancer.wait_until_drained(address, DEREGISTRATION_DELAY).await;
                        task.stop().await;
                        self.world().task_stopped(id, Some(0), "");
                    }
                }
            }
        }
        self.observed().tasks.remove(id);
    }

    fn image_for(&self, wanted: &RequestedTask) -> Option<(Slot, &Image)> {
        let service = wanted.service.as_deref()?;
        let platform = &self.resources.platform;
        let slot = Slot::BOTH.into_iter().find(|slot| platform.workload_name(Some(*slot)) == service)?;
        let (_, digest) = wanted.image.split_once('@')?;
        Some((slot, self.images.get(digest)?))
    }

    /// Checks a task's health until its process exits by itself; returns how it ended.
    async fn monitor(&self, id: &str, task: &mut TaskProcess) -> String {
        let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let mut checks = tokio::time::interval(HEALTH_CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut known, mut consecutive) = (None, 0);
        loop {
            checks.tick().await;
            if let Some(words) = task.ended() {
                return words;
            }
            let healthy = is_healthy(&client, task.address).await;
            consecutive = if known == Some(healthy) { 0 } else { consecutive + 1 };
            if consecutive >= HEALTH_THRESHOLD {
                (known, consecutive) = (Some(healthy), 0);
                self.world().target_health(id, healthy);
                self.card(id, if healthy { "healthy" } else { "unhealthy" });
                // ECS and ELB send no event for this; on AWS the next poll finds it.
            }
        }
    }

    fn card(&self, id: &str, state: &'static str) {
        if let Some(card) = self.observed().tasks.get_mut(id)
            && card.state != "draining"
        {
            card.state = state;
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // A panic inside the world would be a bug there; its data is still consistent.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observed(&self) -> MutexGuard<'_, ObservedState> {
        // Every change is a single assignment, so a panic leaves consistent data.
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Weights of the target's first rule, as the ELB API describes them.
fn live_weights(world: &mut World, resources: &TargetResources) -> Option<Weights> {
    let leg = resources.traffic.first()?;
    let rules = world.as_third_party(|world| world.describe_rules(None, &leg.rules[..1])).ok()?;
    let forward = rules.first()?.actions.iter().find_map(|action| match &action.what {
        ActionKind::Forward(forward) => Some(forward),
        ActionKind::Other { .. } => None,
    })?;
    let of = |slot: Slot| {
        let group = forward.target_groups.iter().find(|group| group.arn == leg.target_group(slot));
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
    matches!(tokio::time::timeout(HEALTH_CHECK_TIMEOUT, ask).await, Ok(Some(true)))
}
