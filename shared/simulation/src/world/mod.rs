//! One account in one Region: ECS, balancers, autoscaling, alarms and traffic, together, as one deterministic model.
//!
//! It decides what AWS would do, and uses no AWS SDK, clock, async runtime or I/O: the caller advances the time with
//! [`World::advance_to`], and randomness comes from a seed. Calls are methods named after AWS's operations; a call that
//! AWS refuses is refused with AWS's error code. Internal occurrences are kept on an agenda, and executed by time, then
//! by order of scheduling.
//!
//! | module | content |
//! |---|---|
//! | [`ecs`] | clusters, task definitions, services, deployments and their records, tasks |
//! | [`balancer`] | load balancers, listeners, rules, weights, target groups, health |
//! | [`traffic`] | incoming requests and their outcome |
//! | [`alarms`] | metric and composite alarms over the traffic |
//! | [`scaling`] | scalable targets, and a policy that changes desired counts |
//! | [`image`], [`function`] | behaviour of images, and of the functions that hooks call |
//! | [`external`] | tasks that run outside the model |
//! | [`event`] | events that the world emits |
//! | [`changes`] | changes, recorded for a watcher |
//! | [`scene`] | ready-made targets: a blue/green pair, and a service whose versions are replaced in place |

mod agenda;
pub mod alarms;
pub mod balancer;
pub mod changes;
pub mod ecs;
mod error;
pub mod event;
pub mod external;
pub mod function;
pub mod image;
mod rng;
pub mod scaling;
pub mod scene;
pub mod traffic;

pub use changes::{ChangedBy, WorldChange};
pub use error::{ApiError, ApiResult};
pub use event::{WorldEvent, WorldEventKind};
pub use external::{RequestedTask, ResponseKind};
pub use function::{FunctionBehaviour, Invoked};
pub use image::{Health, ImageBehaviour, RunTaskBehaviour, StartBehaviour};
pub use rng::SeededRng;
pub use scene::{BuiltApplication, BuiltPair, BuiltService, PairNames, PairSetup, RollingNames, RollingSetup};
pub use traffic::{GroupTraffic, Route, Traffic};

use crate::budgets::Budgets;
use agenda::AgendaItem;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Configuration of a world.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Seed of all randomness.
    pub seed: u64,
    /// Initial time.
    pub start: Timestamp,
    /// The Region in ARNs.
    pub region: String,
    /// The account in ARNs.
    pub account: String,
    /// Whether calls draw on AWS's token buckets and can be throttled.
    pub api_limits: bool,
    /// Whether calls are logged for [`World::calls`].
    pub log_calls: bool,
    /// Where tasks run.
    pub backend: TaskBackend,
    /// Durations of internal steps.
    pub timing: Timing,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            start: Timestamp::from_second(1_767_225_600).unwrap_or_default(),
            region: "eu-central-1".to_owned(),
            account: "111122223333".to_owned(),
            api_limits: false,
            log_calls: true,
            backend: TaskBackend::Modelled,
            timing: Timing::default(),
        }
    }
}

/// Where tasks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskBackend {
    /// In the model: starts, health and errors follow [`ImageBehaviour`].
    Modelled,
    /// Outside: an external backend receives requests for tasks and reports their state (see [`external`]).
    External,
}

/// Durations of internal steps: ranges in milliseconds, from which a random value is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// From a change of a service until its scheduler runs.
    pub scheduler_ms: (u64, u64),
    /// A task's time in `PROVISIONING`.
    pub provisioning_ms: (u64, u64),
    /// A task's time in `PENDING`: pulling the image.
    pub pending_ms: (u64, u64),
    /// From the end of draining until the task has stopped.
    pub stopping_ms: (u64, u64),
    /// From a change of weights until a load balancer node follows it.
    pub convergence_ms: (u64, u64),
    /// Number of nodes per balancer.
    pub nodes: u8,
    /// From the end of a metric's period until alarms can evaluate it (on AWS 1 to 3 minutes; short here by default).
    pub metric_delay_ms: u64,
    /// Interval between two evaluations of the autoscaler.
    pub autoscaling_ms: u64,
    /// How long stopped tasks can be described.
    pub stopped_kept_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            scheduler_ms: (300, 2_000),
            provisioning_ms: (1_000, 4_000),
            pending_ms: (3_000, 12_000),
            stopping_ms: (500, 2_000),
            convergence_ms: (500, 5_000),
            nodes: 2,
            metric_delay_ms: 2_000,
            autoscaling_ms: 60_000,
            stopped_kept_ms: 3_600_000,
        }
    }
}

impl Timing {
    /// The shortest durations that still include every transition, for use in real time.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            scheduler_ms: (20, 60),
            provisioning_ms: (50, 150),
            pending_ms: (100, 300),
            stopping_ms: (50, 150),
            convergence_ms: (50, 500),
            nodes: 2,
            metric_delay_ms: 200,
            autoscaling_ms: 10_000,
            stopped_kept_ms: 3_600_000,
        }
    }
}

/// Origin of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Switchback.
    Switchback,
    /// Anyone else: a person at the console, another tool, a test's own preparation.
    ThirdParty,
}

/// A logged call.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedCall {
    /// Time of the call.
    pub at: Timestamp,
    /// Service and operation: `ecs:UpdateService`.
    pub operation: &'static str,
    /// The most important parameters, under AWS's names.
    pub detail: Value,
    /// Error code, if the call was refused.
    pub refused: Option<&'static str>,
    /// Origin of the call.
    pub by: Caller,
}

/// Cluster name, service name.
pub type ServiceKey = (String, String);

/// The model of one account in one Region; see the module documentation.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    now: Timestamp,
    rng: SeededRng,
    agenda: BTreeMap<(Timestamp, u64), AgendaItem>,
    entries: u64,
    events: VecDeque<WorldEvent>,
    events_so_far: u64,
    /// Recorded only while a watcher is attached.
    changes: Option<Vec<WorldChange>>,
    calls: Vec<LoggedCall>,
    caller: Caller,
    budgets: Budgets,
    denied: BTreeSet<String>,
    /// Capacity providers and launch types without capacity.
    without_capacity: BTreeSet<String>,

    clusters: BTreeMap<String, ecs::Cluster>,
    families: BTreeMap<String, Vec<ecs::TaskDefinition>>,
    services: BTreeMap<ServiceKey, ecs::ScheduledService>,
    tasks: BTreeMap<String, ecs::TaskState>,
    run_tokens: BTreeMap<String, (ecs::RunTask, Vec<String>)>,
    next_address: u32,

    balancers: BTreeMap<String, balancer::LoadBalancer>,
    listeners: BTreeMap<String, balancer::Listener>,
    rules: BTreeMap<String, balancer::ListenerRule>,
    groups: BTreeMap<String, balancer::GroupState>,
    /// Target groups that each balancer node forwards to: by ARN of the rule or listener, then by node.
    node_forwards: BTreeMap<String, Vec<Vec<balancer::WeightedGroup>>>,

    scalable: BTreeMap<ServiceKey, scaling::Scalable>,

    alarms: BTreeMap<String, alarms::EvaluatedAlarm>,

    functions: BTreeMap<String, FunctionBehaviour>,
    asked: BTreeMap<(String, String), u32>,

    images: BTreeMap<String, ImageBehaviour>,

    sources: BTreeMap<String, f64>,
    counted_until: Timestamp,
    /// Outcome rates of requests since the last settling, valid as long as nothing changes.
    stream: Option<traffic::TrafficRates>,
    histories: BTreeMap<String, traffic::TrafficHistory>,
    totals: Traffic,
}

impl World {
    /// An empty account.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            now: settings.start,
            counted_until: settings.start,
            stream: None,
            rng: SeededRng::new(settings.seed),
            settings,
            agenda: BTreeMap::new(),
            entries: 0,
            events: VecDeque::new(),
            events_so_far: 0,
            changes: None,
            calls: Vec::new(),
            caller: Caller::Switchback,
            budgets: Budgets::default(),
            denied: BTreeSet::new(),
            without_capacity: BTreeSet::new(),
            clusters: BTreeMap::new(),
            families: BTreeMap::new(),
            services: BTreeMap::new(),
            tasks: BTreeMap::new(),
            run_tokens: BTreeMap::new(),
            next_address: 0,
            balancers: BTreeMap::new(),
            listeners: BTreeMap::new(),
            rules: BTreeMap::new(),
            groups: BTreeMap::new(),
            node_forwards: BTreeMap::new(),
            scalable: BTreeMap::new(),
            alarms: BTreeMap::new(),
            functions: BTreeMap::new(),
            asked: BTreeMap::new(),
            images: BTreeMap::new(),
            sources: BTreeMap::new(),
            histories: BTreeMap::new(),
            totals: Traffic::default(),
        }
    }

    /// The current virtual time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The configuration that the world was created with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Removes and returns the events since the last call, oldest first.
    pub fn drain_events(&mut self) -> Vec<WorldEvent> {
        self.events.drain(..).collect()
    }

    /// All logged calls, oldest first.
    #[must_use]
    pub fn calls(&self) -> &[LoggedCall] {
        &self.calls
    }

    /// Clears the log of calls.
    pub fn forget_calls(&mut self) {
        self.calls.clear();
    }

    /// Makes calls as a third party: a person at the console, or a test that prepares the scene.
    pub fn as_third_party<T>(&mut self, body: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.caller, Caller::ThirdParty);
        let answer = body(self);
        self.caller = before;
        answer
    }

    /// From now on `operation` (`ecs:UpdateService`) is refused with `AccessDenied` for Switchback's calls, or allowed
    /// again.
    pub fn deny(&mut self, operation: &str, denied: bool) {
        if denied {
            self.denied.insert(operation.to_owned());
        } else {
            self.denied.remove(operation);
        }
    }

    /// From now on a capacity provider (`FARGATE_SPOT`, a name) or a launch type has capacity for new tasks, or has
    /// none.
    pub fn set_capacity(&mut self, provider: &str, available: bool) {
        if available {
            self.without_capacity.remove(provider);
        } else {
            self.without_capacity.insert(provider.to_owned());
        }
    }

    /// Sets the behaviour of an image's tasks, running ones included. `image` is the reference in a task definition, or
    /// only its digest.
    pub fn set_image(&mut self, image: &str, behaviour: ImageBehaviour) {
        self.settle_traffic();
        self.images.insert(image.to_owned(), behaviour);
        let ids: Vec<String> = self.tasks.keys().cloned().collect();
        for id in ids {
            let Some(task) = self.tasks.get(&id) else { continue };
            let behaviour = self.image_behaviour(&task.image);
            if let Some(task) = self.tasks.get_mut(&id) {
                task.behaviour = behaviour;
            }
        }
    }

    /// Behaviour of an image's tasks: looked up by the full reference, then by digest; the default if neither is set.
    #[must_use]
    pub fn image_behaviour(&self, image: &str) -> ImageBehaviour {
        self.images.get(image).or_else(|| self.images.get(image.split_once('@')?.1)).cloned().unwrap_or_default()
    }

    /// The logged parameters of a call; evaluated only if calls are logged.
    fn detail(&self, detail: impl FnOnce() -> Value) -> Value {
        if self.settings.log_calls { detail() } else { Value::Null }
    }

    /// Executes one call: throttles, denies or answers it, and logs it.
    fn call<T>(
        &mut self,
        operation: &'static str,
        detail: Value,
        body: impl FnOnce(&mut Self) -> ApiResult<T>,
    ) -> ApiResult<T> {
        let by_switchback = self.caller == Caller::Switchback;
        let answer = if by_switchback && self.denied.contains(operation) {
            let code = if operation.starts_with("elasticloadbalancing:") || operation.starts_with("cloudwatch:") {
                "AccessDenied"
            } else {
                "AccessDeniedException"
            };
            Err(ApiError::new(code, format!("User is not authorized to perform: {operation}")))
        } else if by_switchback && self.settings.api_limits && !self.budgets.try_acquire(operation, self.now) {
            let code =
                if operation.starts_with("elasticloadbalancing:") { "Throttling" } else { "ThrottlingException" };
            Err(ApiError::new(code, "Rate exceeded"))
        } else {
            if is_read_only(operation) {
                self.count_traffic();
            } else {
                self.settle_traffic();
            }
            body(self)
        };
        if self.settings.log_calls {
            let refused = answer.as_ref().err().map(|error| error.code);
            self.calls.push(LoggedCall { at: self.now, operation, detail, refused, by: self.caller });
        }
        answer
    }

    fn emit(&mut self, what: WorldEventKind) {
        self.events_so_far += 1;
        self.events.push_back(WorldEvent {
            at: self.now,
            sequence: self.events_so_far,
            region: self.settings.region.clone(),
            account: self.settings.account.clone(),
            what,
        });
    }

    fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{resource}", self.settings.region, self.settings.account)
    }
}

/// Whether an operation only reads: `ecs:DescribeServices`, `ecs:ListTasks`.
fn is_read_only(operation: &str) -> bool {
    operation.split_once(':').is_some_and(|(_, name)| name.starts_with("Describe") || name.starts_with("List"))
}
