//! One account in one Region: ECS, balancers, autoscaling, alarms and traffic, together, as one deterministic model.
//!
//! It decides what AWS would do, and knows no AWS SDK, clock, async or input and output: time is handed in with
//! [`World::advance_to`], chance comes from a seed. Calls are methods named after AWS's operations; what AWS refuses is
//! refused with AWS's error code. What happens inside is an agenda of events, taken in order of time, then of entry.
//!
//! | module | what |
//! |---|---|
//! | [`ecs`] | clusters, task definitions, services, deployments, tasks |
//! | [`balancer`] | load balancers, listeners, rules, weights, target groups, health |
//! | [`traffic`] | requests that arrive, and what becomes of them |
//! | [`alarms`] | metric and composite alarms over the traffic |
//! | [`scaling`] | scalable targets, and a policy that moves desired counts |
//! | [`image`], [`function`] | how what is deployed and what hooks call behaves |
//! | [`external`] | tasks that really run somewhere else |
//! | [`event`] | what the outside is told |
//! | [`changes`] | what has changed, for whoever watches |
//! | [`scene`] | a ready-made pair behind a balancer |

mod agenda;
pub mod alarms;
pub mod balancer;
pub mod changes;
mod dice;
pub mod ecs;
mod error;
pub mod event;
pub mod external;
pub mod function;
pub mod image;
pub mod scaling;
pub mod scene;
pub mod traffic;

pub use changes::{Change, Hand};
pub use dice::Dice;
pub use error::{Answer, ApiError};
pub use event::{What, WorldEvent};
pub use external::{ResponseKind, WantedTask};
pub use function::{FunctionBehaviour, Invoked};
pub use image::{Health, ImageBehaviour, Run, Starts};
pub use scene::{Built, BuiltApplication, PairNames, Scene};
pub use traffic::{GroupTraffic, Route, Traffic};

use crate::budgets::Budgets;
use agenda::Due;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How a world is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Everything that is left to chance comes from this.
    pub seed: u64,
    /// When it begins.
    pub start: Timestamp,
    /// The Region in ARNs.
    pub region: String,
    /// The account in ARNs.
    pub account: String,
    /// Whether calls draw on AWS's token buckets and may be throttled.
    pub api_limits: bool,
    /// Whether calls are kept for [`World::calls`].
    pub log_calls: bool,
    /// Who runs tasks.
    pub backend: TaskBackend,
    /// How long things take.
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

/// Who runs tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskBackend {
    /// The world itself: starts, health and errors come from [`ImageBehaviour`].
    Modelled,
    /// Somebody outside, who is told what is wanted and tells what became of it (see [`external`]).
    External,
}

/// How long things take: from, to, in milliseconds; which of it is left to the dice.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// From a change of a service until its scheduler acts.
    pub scheduler_ms: (u64, u64),
    /// A task's time in `PROVISIONING`.
    pub provisioning_ms: (u64, u64),
    /// A task's time in `PENDING`: pulling the image.
    pub pending_ms: (u64, u64),
    /// From the end of a drain until the task has stopped.
    pub stopping_ms: (u64, u64),
    /// From a change of weights until a node of the balancer follows it.
    pub convergence_ms: (u64, u64),
    /// Nodes of each balancer.
    pub nodes: u8,
    /// From the end of a metric's period until alarms see it (on AWS 1 to 3 minutes; small here by default).
    pub metric_delay_ms: u64,
    /// Between two looks of the autoscaler.
    pub autoscaling_ms: u64,
    /// For how long stopped tasks can be described.
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
    /// The quickest that still has every transition: for fronts in real time, where nothing should wait for show.
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

/// Who makes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The product.
    Product,
    /// Somebody else: a person at the console, another tool, a test's own preparation.
    Somebody,
}

/// One call, as it was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// When.
    pub at: Timestamp,
    /// Service and operation: `ecs:UpdateService`.
    pub operation: &'static str,
    /// The telling parameters, named as AWS names them.
    pub detail: Value,
    /// The error's code, if it was refused.
    pub refused: Option<&'static str>,
    /// Who made it.
    pub by: Caller,
}

/// Name of the cluster, name of the service.
pub type ServiceKey = (String, String);

/// The model. See the module's words.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    now: Timestamp,
    dice: Dice,
    agenda: BTreeMap<(Timestamp, u64), Due>,
    entries: u64,
    events: VecDeque<WorldEvent>,
    events_so_far: u64,
    /// Kept while somebody watches.
    changes: Option<Vec<Change>>,
    calls: Vec<Call>,
    caller: Caller,
    budgets: Budgets,
    denied: BTreeSet<String>,
    /// Capacity providers and launch types that have no capacity.
    exhausted: BTreeSet<String>,

    clusters: BTreeMap<String, ecs::Cluster>,
    families: BTreeMap<String, Vec<ecs::TaskDefinition>>,
    services: BTreeMap<ServiceKey, ecs::ServiceState>,
    tasks: BTreeMap<String, ecs::TaskState>,
    run_tokens: BTreeMap<String, (ecs::RunTask, Vec<String>)>,
    next_address: u32,

    balancers: BTreeMap<String, balancer::LoadBalancer>,
    listeners: BTreeMap<String, balancer::Listener>,
    rules: BTreeMap<String, balancer::Rule>,
    groups: BTreeMap<String, balancer::GroupState>,
    /// What each node of a balancer follows: by ARN of the rule or listener, then by node.
    followed: BTreeMap<String, Vec<Vec<balancer::WeightedGroup>>>,

    scalable: BTreeMap<ServiceKey, scaling::Scalable>,

    alarms: BTreeMap<String, alarms::AlarmEntry>,

    functions: BTreeMap<String, FunctionBehaviour>,
    asked: BTreeMap<(String, String), u32>,

    images: BTreeMap<String, ImageBehaviour>,

    sources: BTreeMap<String, f64>,
    settled_at: Timestamp,
    /// What becomes of requests since then, as long as nothing has changed.
    stream: Option<traffic::Stream>,
    flows: BTreeMap<String, traffic::Flow>,
    totals: Traffic,
}

impl World {
    /// An empty account.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            now: settings.start,
            settled_at: settings.start,
            stream: None,
            dice: Dice::new(settings.seed),
            settings,
            agenda: BTreeMap::new(),
            entries: 0,
            events: VecDeque::new(),
            events_so_far: 0,
            changes: None,
            calls: Vec::new(),
            caller: Caller::Product,
            budgets: Budgets::default(),
            denied: BTreeSet::new(),
            exhausted: BTreeSet::new(),
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
            followed: BTreeMap::new(),
            scalable: BTreeMap::new(),
            alarms: BTreeMap::new(),
            functions: BTreeMap::new(),
            asked: BTreeMap::new(),
            images: BTreeMap::new(),
            sources: BTreeMap::new(),
            flows: BTreeMap::new(),
            totals: Traffic::default(),
        }
    }

    /// The world's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// How it was made.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What happened since the last asking, oldest first.
    pub fn drain_events(&mut self) -> Vec<WorldEvent> {
        self.events.drain(..).collect()
    }

    /// All calls so far, oldest first.
    #[must_use]
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&mut self) {
        self.calls.clear();
    }

    /// Makes calls as somebody else: a person at the console, or a test that sets the scene.
    pub fn by_hand<T>(&mut self, body: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.caller, Caller::Somebody);
        let answer = body(self);
        self.caller = before;
        answer
    }

    /// From now on `operation` (`ecs:UpdateService`) is refused to the product with `AccessDenied`, or no more.
    pub fn deny(&mut self, operation: &str, denied: bool) {
        if denied {
            self.denied.insert(operation.to_owned());
        } else {
            self.denied.remove(operation);
        }
    }

    /// From now on a capacity provider (`FARGATE_SPOT`, a name), or a launch type, has room for new tasks, or has none.
    pub fn set_capacity(&mut self, provider: &str, available: bool) {
        if available {
            self.exhausted.remove(provider);
        } else {
            self.exhausted.insert(provider.to_owned());
        }
    }

    /// Sets how tasks of an image behave, those that run already included. `image` is what a task definition names, or
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

    /// How tasks of an image behave: by the image as it is named, else by its digest, else well.
    #[must_use]
    pub fn image_behaviour(&self, image: &str) -> ImageBehaviour {
        self.images.get(image).or_else(|| self.images.get(image.split_once('@')?.1)).cloned().unwrap_or_default()
    }

    /// The telling parameters of a call, made only where calls are kept.
    fn detail(&self, detail: impl FnOnce() -> Value) -> Value {
        if self.settings.log_calls { detail() } else { Value::Null }
    }

    /// One call: throttled, denied or answered, and logged.
    fn call<T>(
        &mut self,
        operation: &'static str,
        detail: Value,
        body: impl FnOnce(&mut Self) -> Answer<T>,
    ) -> Answer<T> {
        let product = self.caller == Caller::Product;
        let answer = if product && self.denied.contains(operation) {
            let code = if operation.starts_with("elasticloadbalancing:") || operation.starts_with("cloudwatch:") {
                "AccessDenied"
            } else {
                "AccessDeniedException"
            };
            Err(ApiError::new(code, format!("User is not authorized to perform: {operation}")))
        } else if product && self.settings.api_limits && !self.budgets.admits(operation, self.now) {
            let code =
                if operation.starts_with("elasticloadbalancing:") { "Throttling" } else { "ThrottlingException" };
            Err(ApiError::new(code, "Rate exceeded"))
        } else {
            if is_reading(operation) {
                self.count_traffic();
            } else {
                self.settle_traffic();
            }
            body(self)
        };
        if self.settings.log_calls {
            let refused = answer.as_ref().err().map(|error| error.code);
            self.calls.push(Call { at: self.now, operation, detail, refused, by: self.caller });
        }
        answer
    }

    fn emit(&mut self, what: What) {
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

/// Whether an operation changes nothing: `ecs:DescribeServices`, `ecs:ListTasks`.
fn is_reading(operation: &str) -> bool {
    operation.split_once(':').is_some_and(|(_, name)| name.starts_with("Describe") || name.starts_with("List"))
}
