//! One application in the shared world: its services behind a balancer, its policy, and what a test does to it and
//! asks of it.

use super::emulators::{REGION, ministack};
use super::operations::Operations;
use super::stack::{Stack, eventually, now, stack};
use crate::front::Call;
use engine::intake::{Sweep, is_idle_turn};
use rollout::deployment::DeploymentRecord;
use rollout::snapshot::Weights;
use rollout::{Fact, JournalEntry, Seconds, Slot};
use serde_json::{Value, json};
use simulation::world::alarms::{AlarmState, Comparison, Evaluation, Metric, MetricAlarm, TreatMissing};
use simulation::world::balancer::{ActionKind, Forward, GroupSettings, WeightedGroup};
use simulation::world::ecs::ListTasks;
use simulation::world::scaling::{DescribeScalableTargets, SuspendedState};
use simulation::world::scene::digest_of;
use simulation::world::{Health, ImageBehaviour, PairNames, PairSetup, RunTaskBehaviour};
use std::time::Duration;

/// How long a deployment of these tests may take from its first event to its verdict.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How a scenario's policy differs from the usual one: YAML in flow style, as it stands in the file.
#[derive(Debug, Clone)]
pub struct ScenarioOptions {
    /// `strategy`
    pub strategy: &'static str,
    /// `hooks`
    pub hooks: &'static str,
    /// `deadlines`
    pub deadlines: &'static str,
    /// `notifications`
    pub notifications: &'static str,
    /// Lowest and highest desired count of the stable side; none: no autoscaling.
    pub autoscaling: Option<(u32, u32)>,
    /// Requests a second; none arrive where a bad release is to pass unseen.
    pub traffic: f64,
    /// `trigger`
    pub trigger: &'static str,
    /// The listener's default action is moved beside the rule.
    pub listener: bool,
    /// `drift`
    pub drift: &'static str,
}

impl Default for ScenarioOptions {
    fn default() -> Self {
        Self {
            strategy: "{steps: [{traffic: 50%, hold: 1s}, {traffic: 100%}], bake: 2s, keep_warm: 0, drain: 1s}",
            hooks: "{}",
            deadlines: "{preflight: 30s, register: 30s, healthy: 30s, shift: 30s, retire: 30s, rollback: 30s}",
            notifications: "[]",
            autoscaling: None,
            traffic: 20.0,
            trigger: "push",
            listener: false,
            drift: "tell",
        }
    }
}

/// One service of an application in one environment, with names of its own in the shared world. Where a test fails, its
/// journal, its calls and the world's weights are printed.
#[derive(Debug)]
pub struct Scenario {
    stack: &'static Stack,
    application: String,
    service: String,
    environment: String,
    names: PairNames,
}

impl Scenario {
    /// An application of one service in one environment, `dev`, to which pushes are deployed: sets the scene in the
    /// world, waits until its stable side is up, and applies the policy. `application` is nobody else's.
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
        let (application, repository) = (&self.application, &self.names.repository);
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

    /// Sets the scene in the world and waits until its stable side is up; no policy speaks of it yet.
    ///
    /// # Panics
    /// Where anything of it fails.
    #[must_use]
    pub fn set(application: &str, service: &str, environment: &str, options: &ScenarioOptions) -> Self {
        let stack = stack();
        let scene = PairSetup {
            tasks: 2,
            autoscaling: options.autoscaling,
            groups: GroupSettings {
                // Quicker than AWS has it: nothing here waits for show.
                health_check_interval_s: 1,
                deregistration_delay_s: 1,
                ..GroupSettings::default()
            },
            ..PairSetup::new(application, service, environment)
        };
        let names = {
            let mut world = stack.front().world();
            world.set_image(digest_of(0).as_str(), good());
            world.by_hand(|world| {
                world.put_metric_alarm(manual_alarm_definition(&manual_alarm(application, service, environment)))?;
                world.set_alarm_state(
                    &manual_alarm(application, service, environment),
                    AlarmState::Ok,
                    "all is well",
                )?;
                scene.set(world)
            })
        };
        let names = names.unwrap_or_else(|error| panic!("the scene of {application} is refused: {error}"));
        let [application, service, environment] = [application, service, environment].map(str::to_owned);
        let scenario = Self { stack, application, service, environment, names };
        scenario.expect("blue is up", Duration::from_secs(60), || {
            let (running, healthy) = scenario.side(Slot::Blue);
            if (running, healthy) == (2, 2) { Ok(()) } else { Err(format!("{running} run, {healthy} are healthy")) }
        });
        stack.front().world().set_traffic(&scenario.names.rule, options.traffic);
        scenario
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
        let PairNames { cluster, blue, green, blue_group, green_group, rule, test_rule, .. } = &self.names;
        let PairNames { blue_alarm, green_alarm, .. } = &self.names;
        let ScenarioOptions { strategy, hooks, deadlines, .. } = options;
        let manual_alarm = self.manual_alarm();
        let listener = if options.listener { format!(", \"{}\"", self.names.listener) } else { String::new() };
        format!(
            "{{cluster: {cluster}, container: app, blue: {{service: {blue}, target_group: \"{blue_group}\"}}, green: \
             {{service: {green}, target_group: \"{green_group}\"}}, rules: [\"{rule}\"{listener}], test_rule: \"{test_rule}\", \
             strategy: {strategy}, alarms: [{{name: {blue_alarm}, missing: healthy}}, {{name: {green_alarm}, missing: \
             healthy}}, {manual_alarm}], hooks: {hooks}, deadlines: {deadlines}}}"
        )
    }

    /// The deployed product.
    #[must_use]
    pub fn stack(&self) -> &'static Stack {
        self.stack
    }

    /// What things are called in the world.
    #[must_use]
    pub fn names(&self) -> &PairNames {
        &self.names
    }

    /// `application/service/environment`
    #[must_use]
    pub fn target(&self) -> String {
        format!("{}/{}/{}", self.application, self.service, self.environment)
    }

    /// The operators' door.
    #[must_use]
    pub fn operations(&self) -> Operations<'_> {
        Operations::new(self.stack, self.target())
    }

    // --- what is done ---

    /// An image of this tag lies in the registry and behaves so once it is deployed; answers its digest. No event yet.
    ///
    /// # Panics
    /// Where the registry refuses.
    #[must_use]
    pub fn image(&self, tag: &str, behaviour: ImageBehaviour) -> String {
        let digest = self.stack.push_image(&self.names.repository, tag).unwrap_or_else(|failure| panic!("{failure}"));
        self.stack.front().world().set_image(&digest, behaviour);
        digest
    }

    /// The event of a push of this image, as ECR sends it.
    #[must_use]
    pub fn push_event(&self, tag: &str, digest: &str) -> Value {
        let mut event = fixture(include_str!("../../../events/image-pushed.push.json"));
        event["detail"]["repository-name"] = json!(self.names.repository);
        event["detail"]["image-digest"] = json!(digest);
        event["detail"]["image-tag"] = json!(tag);
        event
    }

    /// Pushes an image of this tag and behaviour: it lies in the registry, and ECR's event is sent. Answers its digest.
    ///
    /// # Panics
    /// Where no rule of the template takes the event.
    #[must_use]
    pub fn push(&self, tag: &str, behaviour: ImageBehaviour) -> String {
        let digest = self.image(tag, behaviour);
        self.send(&self.push_event(tag, &digest));
        digest
    }

    /// Sends an event that one function is to take.
    ///
    /// # Panics
    /// Where none does, or several do.
    pub fn send(&self, event: &Value) {
        let taken = self.stack.send(event).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(taken.len(), 1, "rules for {taken:?} match {event}");
    }

    /// The journal's stream hands its entries over once more, with another identity, and once more, until the notifier has
    /// taken all of them. AWS does so by itself with what the notifier's answer names as not taken; ministack 1.5.33 hands
    /// every entry over once, whatever the answer is.
    ///
    /// # Panics
    /// Where the notifier fails, or does not take one of them in time.
    pub fn redeliver_journal(&self) {
        let entries = self.journal();
        let record = |entry: &JournalEntry| {
            let text = json!(entry).to_string();
            let (pk, sk) = (format!("TARGET#{}", entry.target), format!("JOURNAL#{:020}", entry.sequence));
            let keys = json!({"pk": {"S": pk}, "sk": {"S": sk}});
            let mut event = fixture(include_str!("../../../events/notifier.entry.json"));
            let mut record = event["Records"][0].take();
            record["dynamodb"]["Keys"] = keys.clone();
            record["dynamodb"]["NewImage"] = keys;
            record["dynamodb"]["NewImage"]["entry"] = json!({"S": text});
            record
        };
        let again = json!({"Records": entries.iter().map(record).collect::<Vec<_>>()});
        self.expect("the notifier takes every entry", Duration::from_secs(60), || {
            let answer = self.stack.invoke("notifier", &again).map_err(|failure| failure.0)?;
            if answer == json!({"batchItemFailures": []}) { Ok(()) } else { Err(answer.to_string()) }
        });
    }

    /// Somebody at the console gives the rule these weights.
    ///
    /// # Panics
    /// Where the balancer refuses.
    pub fn edit_weights(&self, blue: u16, green: u16) {
        let mut world = self.stack.front().world();
        let edited = world.by_hand(|world| {
            let rules = world.describe_rules(None, std::slice::from_ref(&self.names.rule))?;
            let mut actions = rules.into_iter().next().map(|rule| rule.actions).unwrap_or_default();
            for group in actions.iter_mut().filter_map(forward_groups).flatten() {
                group.weight = Some(if group.arn == self.names.blue_group { blue.into() } else { green.into() });
            }
            world.modify_rule(&self.names.rule, None, Some(actions))
        });
        drop(world);
        edited.unwrap_or_else(|error| panic!("the edit is refused: {error}"));
    }

    /// The event by which CloudTrail tells of an edit of the rule, as somebody else's API call.
    #[must_use]
    pub fn edit_event(&self) -> Value {
        let mut event = fixture(include_str!("../../../events/signal-received.api-modify-rule.json"));
        event["detail"]["requestParameters"] = json!({"ruleArn": self.names.rule});
        event["detail"]["eventTime"] = event["time"].clone();
        event
    }

    /// The minute at which this target is looked at although nothing is deployed to it, as the sweeper's schedule tells it.
    ///
    /// # Panics
    /// Where there is none within the hour.
    #[must_use]
    pub fn idle_sweep_event(&self) -> Value {
        let target = rollout::TargetId::parse(&self.target()).expect("a target");
        let minute = u64::try_from(now().as_second() / 60).unwrap_or_default();
        let is_turn = |minute: &u64| {
            let sweep = Sweep { minute: *minute, every: 1, until: now() };
            is_idle_turn(&target, &sweep)
        };
        let minute = (minute..minute + 60).find(is_turn).expect("one of sixty");
        let at = rollout::Timestamp::from_second(i64::try_from(minute * 60).unwrap_or_default()).expect("a time");
        let mut event = fixture(include_str!("../../../events/sweeper.schedule.json"));
        event["time"] = json!(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        event
    }

    /// The alarm that a person sets: it keeps the state that it is given.
    ///
    /// # Panics
    /// Where CloudWatch refuses.
    pub fn set_manual_alarm(&self, state: AlarmState, reason: &str) {
        let mut world = self.stack.front().world();
        let set = world.by_hand(|world| world.set_alarm_state(&self.manual_alarm(), state, reason));
        drop(world);
        set.unwrap_or_else(|error| panic!("{error}"));
    }

    /// From now on CloudWatch does not evaluate the alarm that a person sets, for this reason; none: it does again. The alarm
    /// keeps its state.
    ///
    /// # Panics
    /// Where there is no such alarm.
    pub fn set_manual_alarm_evaluation(&self, evaluation: Option<Evaluation>, reason: &str) {
        let set = self.stack.front().world().set_evaluation(&self.manual_alarm(), evaluation, reason);
        set.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits until both sides' alarms have been evaluated and are OK: nothing but the candidate changes them from then on.
    ///
    /// # Panics
    /// When they are not in time.
    pub fn wait_until_alarms_are_ok(&self) {
        let names = [self.names.blue_alarm.clone(), self.names.green_alarm.clone()];
        self.expect("the alarms are OK", Duration::from_secs(30), || {
            let mut world = self.stack.front().world();
            let alarms = world.by_hand(|world| world.describe_alarms(&names)).map_err(|error| error.to_string())?;
            drop(world);
            match alarms.iter().find(|alarm| alarm.state != AlarmState::Ok) {
                Some(alarm) => Err(format!("{} is {}", alarm.name, alarm.state.as_str())),
                None => Ok(()),
            }
        });
    }

    /// Waits until the product has not called for this application for so long.
    ///
    /// # Panics
    /// When it goes on and on.
    pub fn wait_until_quiet_for(&self, silence: Duration) {
        self.expect("the product is quiet", Duration::from_secs(30), || {
            let now = self.stack.front().elapsed();
            let last = self.calls().iter().map(|call| call.ended.unwrap_or(now)).max().unwrap_or_default();
            if now.saturating_sub(last) >= silence { Ok(()) } else { Err("it is busy".to_owned()) }
        });
    }

    /// The name of the alarm that a person sets.
    #[must_use]
    pub fn manual_alarm(&self) -> String {
        manual_alarm(&self.application, &self.service, &self.environment)
    }

    // --- what is asked ---

    /// The weights of the rule as they are in the world.
    ///
    /// # Panics
    /// Where the rule is gone.
    #[must_use]
    pub fn weights(&self) -> Weights {
        let mut world = self.stack.front().world();
        let rules = world.by_hand(|world| world.describe_rules(None, std::slice::from_ref(&self.names.rule)));
        drop(world);
        let mut rules = rules.unwrap_or_else(|error| panic!("{error}"));
        let mut weights = Weights { blue: 0, green: 0 };
        for group in rules.iter_mut().flat_map(|rule| &mut rule.actions).filter_map(forward_groups).flatten() {
            let weight = u16::try_from(group.weight.unwrap_or(1)).unwrap_or_default();
            if group.arn == self.names.blue_group { weights.blue = weight } else { weights.green = weight }
        }
        weights
    }

    /// Running tasks and healthy targets of a side, as they are in the world.
    #[must_use]
    pub fn side(&self, slot: Slot) -> (u32, usize) {
        let (service, group) = match slot {
            Slot::Blue => (&self.names.blue, &self.names.blue_group),
            Slot::Green => (&self.names.green, &self.names.green_group),
        };
        let mut world = self.stack.front().world();
        world.by_hand(|world| {
            let running = world
                .describe_services(&self.names.cluster, std::slice::from_ref(service))
                .map_or(0, |(services, _)| services.iter().map(|service| service.running_count).sum());
            let healthy = world.describe_target_health(group).map_or(0, |targets| {
                let healthy = simulation::world::balancer::HealthState::Healthy;
                targets.iter().filter(|target| target.state == healthy).count()
            });
            (running, healthy)
        })
    }

    /// Somebody at the console stops so many of a side's running tasks; ECS starts others in their place.
    ///
    /// # Panics
    /// Where ECS refuses.
    pub fn stop_tasks(&self, slot: Slot, most: usize) {
        let service = if slot == Slot::Blue { &self.names.blue } else { &self.names.green };
        let mut world = self.stack.front().world();
        let stopped = world.by_hand(|world| {
            let running = ListTasks {
                cluster: self.names.cluster.clone(),
                service_name: Some(service.clone()),
                ..ListTasks::default()
            };
            for task in world.list_tasks(running)?.iter().take(most) {
                world.stop_task(&self.names.cluster, task, None)?;
            }
            Ok::<(), simulation::world::ApiError>(())
        });
        drop(world);
        stopped.unwrap_or_else(|error| panic!("the tasks of {service} are not stopped: {error}"));
    }

    /// The image that a side's service is to run.
    #[must_use]
    pub fn image_of(&self, slot: Slot) -> String {
        let service = if slot == Slot::Blue { &self.names.blue } else { &self.names.green };
        let mut world = self.stack.front().world();
        world.by_hand(|world| {
            let described = world.describe_services(&self.names.cluster, std::slice::from_ref(service));
            let definition = described.ok().and_then(|(services, _)| Some(services.first()?.task_definition.clone()));
            definition
                .and_then(|arn| world.describe_task_definition(&arn).ok())
                .and_then(|definition| definition.image("app").map(str::to_owned))
                .unwrap_or_default()
        })
    }

    /// Every call of the product so far that is about this application.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        // Names of the world's and keys of the ledger's both begin with the application's.
        let log = self.stack.front().log();
        let about = |call: &&Call| {
            let text = call.parameters.to_string();
            text.contains(&format!("{}/", self.application)) || text.contains(&format!("{}-", self.application))
        };
        log.calls().iter().filter(about).cloned().collect()
    }

    /// Waits until `question` has an answer.
    ///
    /// # Panics
    /// When the limit has passed, with what the last refusal was and everything that is known.
    pub fn expect<T>(&self, what: &str, limit: Duration, question: impl FnMut() -> Result<T, String>) -> T {
        eventually(limit, question).unwrap_or_else(|failure| panic!("{what}: {failure}"))
    }

    /// Waits for the verdict of a deployment, and answers its record in the history.
    ///
    /// # Panics
    /// When there is none in time.
    #[must_use]
    pub fn verdict(&self, number: u64) -> DeploymentRecord {
        self.expect(&format!("deployment {number} ends"), PATIENCE, || {
            let history = self.operations().history().map_err(|failure| failure.0)?;
            match history.into_iter().find(|record| record.number == number) {
                Some(record) if record.verdict.is_some() => Ok(record),
                Some(_) => Err("it runs".to_owned()),
                None => Err("it has not begun".to_owned()),
            }
        })
    }

    /// Waits for a fact in the journal that `choose` takes, and answers what it makes of it.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn fact<T>(&self, what: &str, choose: impl Fn(&Fact) -> Option<T>) -> T {
        self.expect(&format!("the journal tells {what}"), PATIENCE, || {
            let found = self.journal().iter().find_map(|entry| choose(&entry.fact));
            found.ok_or_else(|| "not yet".to_owned())
        })
    }

    /// The journal so far, oldest first.
    ///
    /// # Panics
    /// Where it is not to be had.
    #[must_use]
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.operations().journal().unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Waits until weights other than `from` are live, and answers them.
    ///
    /// # Panics
    /// When there are none in time.
    pub fn wait_for_weights_change(&self, from: Weights) -> Weights {
        self.expect(&format!("the weights leave {from:?}"), PATIENCE, || {
            let weights = self.weights();
            if weights == from { Err("they have not".to_owned()) } else { Ok(weights) }
        })
    }

    /// Lowest and highest desired count that Application Auto Scaling keeps of a side, and whether anything is suspended.
    #[must_use]
    pub fn autoscaling(&self, slot: Slot) -> Option<(u32, u32, bool)> {
        let service = if slot == Slot::Blue { &self.names.blue } else { &self.names.green };
        let request = DescribeScalableTargets {
            service_namespace: "ecs".to_owned(),
            resource_ids: vec![format!("service/{}/{service}", self.names.cluster)],
            ..DescribeScalableTargets::default()
        };
        let mut world = self.stack.front().world();
        let targets = world.by_hand(|world| world.describe_scalable_targets(request)).ok()?;
        let target = targets.first()?;
        Some((target.min_capacity, target.max_capacity, target.suspended_state != SuspendedState::default()))
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("--- the journal of {} ---", self.target());
        match self.operations().journal() {
            Ok(entries) => entries.iter().for_each(|entry| eprintln!("{} {:?}", entry.at, entry.fact)),
            Err(failure) => eprintln!("{failure}"),
        }
        match self.operations().status() {
            Ok(status) => eprintln!("--- its status ---\n{status:?}"),
            Err(failure) => eprintln!("{failure}"),
        }
        eprintln!(
            "--- its world ---\n{:?}, blue {:?}, green {:?}",
            self.weights(),
            self.side(Slot::Blue),
            self.side(Slot::Green)
        );
        let names = [self.names.blue_alarm.clone(), self.names.green_alarm.clone(), self.manual_alarm()];
        let mut world = self.stack.front().world();
        for alarm in world.by_hand(|world| world.describe_alarms(&names)).unwrap_or_default() {
            eprintln!("{} is {} since {}: {}", alarm.name, alarm.state.as_str(), alarm.state_updated_at, alarm.reason);
        }
        for group in [&self.names.blue_group, &self.names.green_group] {
            eprintln!("{group}: {:?}", world.traffic().groups.get(group));
        }
        drop(world);
        eprintln!("--- its last calls ---");
        let calls = self.calls();
        calls[calls.len().saturating_sub(60)..].iter().for_each(|call| eprintln!("{call}"));
        for anomaly in self.stack.front().anomalies() {
            eprintln!("surprise: {anomaly}");
        }
        for function in super::packages::functions().unwrap_or_default() {
            let log = self.stack.function_log(&function).unwrap_or_else(|failure| failure.0);
            let lines: Vec<&str> =
                log.lines().filter(|line| line.contains(&self.application) || line.contains("ERROR")).collect();
            eprintln!("--- {function} ---\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
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

fn manual_alarm(application: &str, service: &str, environment: &str) -> String {
    format!("{application}-{service}-{environment}-pager")
}

/// An alarm whose state changes only by hand.
fn manual_alarm_definition(name: &str) -> MetricAlarm {
    MetricAlarm {
        name: name.to_owned(),
        metric: Metric::Nothing,
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

fn forward_groups(action: &mut simulation::world::balancer::Action) -> Option<&mut Vec<WeightedGroup>> {
    match &mut action.what {
        ActionKind::Forward(Forward { target_groups, .. }) => Some(target_groups),
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
