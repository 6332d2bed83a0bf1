//! One application in the shared world: its services behind a balancer, and its policy. `actions` is what tests do to
//! it, `observations` what they read of it and wait for, `in_place` what is different where the target is one service;
//! `failure_report` prints it when its test fails.

mod actions;
mod failure_report;
mod in_place;
mod observations;
mod world_names;

pub use in_place::{InPlaceScene, LiveWorkload, quick_health_check};
pub use observations::healthy_targets;
pub use world_names::WorldNames;

use super::emulators::{REGION, ministack};
use super::operations::OperationsClient;
use super::stack::{Stack, now, stack};
use rollout::{Seconds, Slot};
use serde_json::{Value, json};
use simulation::world::alarms::{AlarmState, Comparison, MetricAlarm, TreatMissing, WatchedMetric};
use simulation::world::balancer::{ActionKind, ForwardActionConfig, GroupSettings, ListenerAction, WeightedGroup};
use simulation::world::scene::digest_of;
use simulation::world::{
    ApiResult, Health, ImageBehaviour, PairNames, PairSetup, RollingNames, RunTaskBehaviour, World,
};
use std::time::Duration;

/// How long a deployment of these tests may take from its first event to its verdict.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Desired count of what serves before the first deployment.
const TASKS: u32 = 2;

/// What runs the target of a scenario.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScenarioPlatform {
    /// Two services behind weighted rules.
    #[default]
    Pair,
    /// One service whose tasks ECS replaces in place.
    InPlace(InPlaceScene),
}

/// How a scenario's policy differs from the usual one: YAML in flow style, as it stands in the file.
#[derive(Debug, Clone)]
pub struct ScenarioOptions {
    /// What runs the target: see [`ScenarioOptions::in_place`] for one service.
    pub platform: ScenarioPlatform,
    /// `strategy`
    pub strategy: &'static str,
    /// `hooks`
    pub hooks: &'static str,
    /// `deadlines`
    pub deadlines: &'static str,
    /// `notifications`
    pub notifications: &'static str,
    /// Lowest and highest desired count of a pair's stable side; none: no autoscaling.
    pub autoscaling: Option<(u32, u32)>,
    /// Requests a second; none arrive where a bad release is to pass unseen.
    pub traffic: f64,
    /// `trigger`
    pub trigger: &'static str,
    /// The default action of a pair's listener is moved beside the rule.
    pub listener: bool,
    /// `drift`
    pub drift: &'static str,
    /// A pair is behind an internal load balancer, too.
    pub internal_balancer: bool,
    /// `template` names the family of the task definition that serves before the first deployment.
    pub template: bool,
}

impl Default for ScenarioOptions {
    fn default() -> Self {
        Self {
            platform: ScenarioPlatform::Pair,
            strategy: "{steps: [{traffic: 50%, hold: 1s}, {traffic: 100%}], bake: 2s, keep_warm: 0, drain: 1s}",
            hooks: "{}",
            deadlines: "{preflight: 30s, register: 30s, healthy: 30s, shift: 30s, retire: 30s, rollback: 30s}",
            notifications: "[]",
            autoscaling: None,
            traffic: 20.0,
            trigger: "push",
            listener: false,
            drift: "tell",
            internal_balancer: false,
            template: false,
        }
    }
}

impl ScenarioOptions {
    /// Sets the scene of this target in the world; nothing reaches it yet.
    fn place(&self, [application, service, environment]: [&str; 3], world: &mut World) -> ApiResult<WorldNames> {
        let pair = PairSetup {
            tasks: TASKS,
            autoscaling: self.autoscaling,
            internal_balancer: self.internal_balancer,
            groups: GroupSettings {
                // Quicker than AWS has it: nothing here waits for show.
                health_check_interval_s: 1,
                deregistration_delay_s: 1,
                ..GroupSettings::default()
            },
            ..PairSetup::new(application, service, environment)
        };
        Ok(match self.platform {
            ScenarioPlatform::Pair => WorldNames::Pair(Box::new(pair.set(world)?)),
            ScenarioPlatform::InPlace(scene) => {
                WorldNames::InPlace(Box::new(in_place::setup(&pair, scene).set(world)?))
            }
        })
    }
}

/// One service of an application in one environment, with names of its own in the shared world. Where a test fails, its
/// journal, its calls and what the world runs are printed.
#[derive(Debug)]
pub struct Scenario {
    stack: &'static Stack,
    application: String,
    service: String,
    environment: String,
    names: WorldNames,
}

impl Scenario {
    /// An application of one service in one environment, `dev`, to which pushes are deployed: sets the scene in the
    /// world, waits until what serves is up, and applies the policy. `application` is nobody else's.
    ///
    /// # Panics
    /// Where anything of it fails.
    #[must_use]
    pub fn new(application: &str, options: &ScenarioOptions) -> Self {
        let scenario = Self::set(application, "api", "dev", options);
        scenario.apply(&scenario.policy(options));
        scenario
    }

    /// The policy of an application of one service in one environment.
    #[must_use]
    pub fn policy(&self, options: &ScenarioOptions) -> String {
        let target = self.target_policy(options);
        let ScenarioOptions { notifications, trigger, drift, .. } = options;
        let (application, repository) = (&self.application, self.names.repository());
        format!(
            "application: {application}
services:
  api: {{repository: {repository}, tags: {{glob: \"v*\"}}}}
environments:
  dev: {{trigger: {trigger}, drift: {drift}, targets: {{api: {target}}}}}
notifications: {notifications}
"
        )
    }

    /// Sets the scene in the world and waits until what serves is up; no policy speaks of it yet.
    ///
    /// # Panics
    /// Where anything of it fails.
    #[must_use]
    pub fn set(application: &str, service: &str, environment: &str, options: &ScenarioOptions) -> Self {
        let stack = stack();
        let pager = manual_alarm(application, service, environment);
        let names = {
            let mut world = stack.front().world();
            world.set_image(digest_of(0).as_str(), good());
            world.as_third_party(|world| {
                world.put_metric_alarm(manual_alarm_definition(&pager))?;
                world.set_alarm_state(&pager, AlarmState::Ok, "all is well")?;
                options.place([application, service, environment], world)
            })
        };
        let names = names.unwrap_or_else(|error| panic!("the scene of {application} is refused: {error}"));
        let [application, service, environment] = [application, service, environment].map(str::to_owned);
        let scenario = Self { stack, application, service, environment, names };
        scenario.wait_until_up();
        for rule in scenario.names.traffic_rules() {
            stack.front().world().set_traffic(rule, options.traffic);
        }
        scenario
    }

    /// Waits until what serves before the first deployment is up and healthy.
    fn wait_until_up(&self) {
        self.expect("what serves is up", Duration::from_secs(60), || match &self.names {
            WorldNames::Pair(_) => match self.side(Slot::Blue) {
                (TASKS, healthy) if healthy == TASKS as usize => Ok(()),
                (running, healthy) => Err(format!("{running} run, {healthy} are healthy")),
            },
            WorldNames::InPlace(_) => match self.workload() {
                live if live.is_replaced() => Ok(()),
                live => Err(format!("{live:?}")),
            },
        });
    }

    /// Makes this text the policy of the application, and waits until nothing that is pushed can look older than it.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn apply(&self, policy: &str) {
        let applied = self.operations().apply(policy);
        applied.unwrap_or_else(|failure| panic!("{failure}\n{policy}"));
        // Registries tell times in whole seconds: an image of the same second would look older than its policy.
        let second = now().as_second();
        self.expect("the next second", Duration::from_secs(2), || {
            if now().as_second() > second { Ok(()) } else { Err("not yet".to_owned()) }
        });
    }

    /// What a policy says of the target: YAML in flow style.
    #[must_use]
    pub fn target_policy(&self, options: &ScenarioOptions) -> String {
        let ScenarioOptions { strategy, hooks, deadlines, .. } = options;
        let resources = match &self.names {
            WorldNames::Pair(names) => pair_resources(names, options.listener),
            WorldNames::InPlace(names) => in_place::resources(names),
        };
        let on_errors = self.names.alarms().into_iter().map(|alarm| format!("{{name: {alarm}, missing: healthy}}"));
        let alarms = on_errors.chain([self.manual_alarm()]).collect::<Vec<_>>().join(", ");
        let template = match options.template {
            true => format!(", template: {{family: {}}}", self.names.family()),
            false => String::new(),
        };
        format!(
            "{{{resources}{template}, strategy: {strategy}, alarms: [{alarms}], hooks: {hooks}, deadlines: {deadlines}}}"
        )
    }

    /// The deployed product.
    #[must_use]
    pub fn stack(&self) -> &'static Stack {
        self.stack
    }

    /// What the resources of a pair are called in the world.
    ///
    /// # Panics
    /// Where the target is one service: its are [`Self::rolling_names`].
    #[must_use]
    pub fn names(&self) -> &PairNames {
        self.names.pair().expect("the target is a pair")
    }

    /// What the resources of one service are called in the world.
    ///
    /// # Panics
    /// Where the target is a pair: its are [`Self::names`].
    #[must_use]
    pub fn rolling_names(&self) -> &RollingNames {
        self.names.in_place().expect("the target is one service")
    }

    /// `application/service/environment`
    #[must_use]
    pub fn target(&self) -> String {
        format!("{}/{}/{}", self.application, self.service, self.environment)
    }

    /// The `operations` API for this target, as an operator calls it.
    #[must_use]
    pub fn operations(&self) -> OperationsClient<'_> {
        OperationsClient::new(self.stack, self.target())
    }

    /// The name of the alarm that a person sets.
    #[must_use]
    pub fn manual_alarm(&self) -> String {
        manual_alarm(&self.application, &self.service, &self.environment)
    }

    /// The name of the ECS service of a pair's side.
    fn ecs_service(&self, slot: Slot) -> &String {
        match slot {
            Slot::Blue => &self.names().blue,
            Slot::Green => &self.names().green,
        }
    }
}

/// An image whose tasks are well as soon as they run.
#[must_use]
pub fn good() -> ImageBehaviour {
    ImageBehaviour {
        health: Health::After(Seconds(0)),
        run: RunTaskBehaviour::Exits { after: Seconds(1), exit_code: 0 },
        ..ImageBehaviour::default()
    }
}

/// What a policy says of a pair's resources: YAML in flow style, without the outer brackets. `listener`: the listener's
/// default action is moved, too.
fn pair_resources(names: &PairNames, listener: bool) -> String {
    let PairNames { cluster, blue, green, blue_group, green_group, rule, test_rule, internal, .. } = names;
    let listener = if listener { format!(", \"{}\"", names.listener) } else { String::new() };
    let internal = internal.as_ref().map(|leg| format!(", {}", json!(leg))).unwrap_or_default();
    format!(
        "ecs: {{cluster: {cluster}, container: app, blue: {blue}, green: {green}}}, traffic: [{{blue: \
         \"{blue_group}\", green: \"{green_group}\", rules: [\"{rule}\"{listener}], test_rule: \
         \"{test_rule}\"}}{internal}]"
    )
}

fn manual_alarm(application: &str, service: &str, environment: &str) -> String {
    format!("{application}-{service}-{environment}-pager")
}

/// An alarm whose state changes only by hand.
#[must_use]
pub fn manual_alarm_definition(name: &str) -> MetricAlarm {
    MetricAlarm {
        name: name.to_owned(),
        metric: WatchedMetric::Nothing,
        load_balancer: String::new(),
        target_group: None,
        period_s: 60,
        evaluation_periods: 1,
        datapoints_to_alarm: 1,
        threshold: 1.0,
        comparison: Comparison::Above,
        treat_missing: TreatMissing::Ignore,
    }
}

fn forward_groups(action: &mut ListenerAction) -> Option<&mut Vec<WeightedGroup>> {
    match &mut action.what {
        ActionKind::Forward(ForwardActionConfig { target_groups, .. }) => Some(target_groups),
        ActionKind::Other { .. } => None,
    }
}

/// A payload as AWS sends it, of this account and Region, now.
#[must_use]
pub fn fixture(text: &str) -> Value {
    let mut event: Value = serde_json::from_str(text).expect("the payloads of events/ are JSON");
    event["account"] = json!(ministack::ACCOUNT);
    event["region"] = json!(REGION);
    event["time"] = json!(now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    event
}
