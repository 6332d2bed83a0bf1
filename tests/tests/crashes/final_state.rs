//! Where everything stands when a deployment is over: what must be the same whatever went wrong on the way.

use aws::ledger::DynamoLedger;
use engine::{Commands as _, LeaseId, LeaseOutcome, LeaseRequest, Leases as _, Targets as _};
use rollout::{Fact, Seconds, Slot, TargetId};
use serde_json::{Value, json};
use simulation::world::balancer::{ActionKind, ListenerAction};
use simulation::world::ecs::ListTasks;
use simulation::world::scaling::DescribeScalableTargets;
use simulation::world::{PairNames, World};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tests::front::Front;
use tests::harness::scenario::{LiveWorkload, WorldNames, healthy_targets};
use tests::harness::wakes::Queue;
use tests::harness::{HarnessError, now};

/// How long tasks may take to stop after the last decision.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Everything that a run is judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FinalState {
    /// Verdict and reason of the one deployment.
    pub(crate) record: Value,
    /// Weights of the traffic rule, of the test rule and of the internal listener, if there is one, blue before green.
    /// Empty where there are no sides.
    pub(crate) weights: Vec<(i64, i64)>,
    /// Of each side: tasks wanted, tasks that run, healthy targets behind the balancer with the fewest, image. Empty
    /// where there are no sides.
    pub(crate) sides: Vec<(u32, u32, usize, String)>,
    /// What runs where there are no sides: version, image, tasks wanted and tasks that run.
    pub(crate) workload: Option<LiveWorkload>,
    /// Of each side: lowest and highest desired count, and whether anything is suspended.
    pub(crate) autoscaling: Vec<(u32, u32, bool)>,
    /// Revisions of the task definition.
    pub(crate) definitions: usize,
    /// Tasks that hooks have started.
    pub(crate) hook_tasks: usize,
    /// Runs of hooks that functions were asked for.
    pub(crate) hook_runs: usize,
    /// Requests that found nobody to answer them, in thousandths.
    pub(crate) lost: i64,
    /// The journal's facts, without what depends on time or on repetition.
    pub(crate) facts: Vec<Value>,
    /// What people are notified of.
    pub(crate) attention_facts: Vec<String>,
    /// What must not be: gaps in the journal, commands that wait, a lease that is kept, dead letters.
    pub(crate) violations: Vec<String>,
}

impl FinalState {
    pub(crate) async fn of(
        front: &Front,
        names: &WorldNames,
        ledger: &DynamoLedger,
        target: &TargetId,
        queue: &Queue,
        hook_runs: usize,
    ) -> Result<Self, HarnessError> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while !is_settled(&mut front.world(), names) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let to_failure = |error: engine::LedgerError| HarnessError(error.to_string());
        let mut violations = Vec::new();
        let journal = ledger.journal(target, 0, 1000).await.map_err(to_failure)?;
        for (index, entry) in journal.iter().enumerate() {
            if entry.sequence != index as u64 + 1 {
                violations.push(format!("the journal has a gap before entry {}", entry.sequence));
            }
        }
        let history = ledger.history(target, 10).await.map_err(to_failure)?;
        if history.len() != 1 {
            violations.push(format!("{} deployments", history.len()));
        }
        let waiting = ledger.commands(target).await.map_err(to_failure)?;
        if !waiting.is_empty() {
            violations.push(format!("{} commands wait", waiting.len()));
        }
        let claim = LeaseRequest { lease: LeaseId("the end".to_owned()), now: now(), lasts: Seconds(1), steal: None };
        match ledger.acquire_lease(target, &claim).await.map_err(to_failure)? {
            LeaseOutcome::Granted(loaded) if loaded.state.running.is_none() && loaded.state.queued.is_empty() => {}
            LeaseOutcome::Granted(loaded) => violations.push(format!("not over: {:?}", loaded.state)),
            LeaseOutcome::Held { by, .. } => violations.push(format!("still held by {}", by.0)),
        }
        violations.extend(queue.dead_letters().into_iter().map(|letter| format!("a dead letter: {letter}")));
        if !queue.is_empty() {
            violations.push("wakes without end".to_owned());
        }
        violations.extend(front.anomalies());
        let record = history.first().map(|record| json!({"verdict": record.verdict, "reason": record.reason}));
        let attention_facts = journal.iter().filter(|entry| entry.fact.needs_attention());
        let mut world = front.world();
        let lost = (world.traffic().lost * 1000.0).round() as i64;
        let runs = front.log().of("ecs", "RunTask").filter_map(|call| text(&call.parameters, "startedBy")).collect();
        Ok(Self {
            record: record.unwrap_or_default(),
            weights: all_weights(&mut world, names),
            sides: sides(&mut world, names),
            workload: names.in_place().and_then(|names| LiveWorkload::read(&mut world, names)),
            autoscaling: autoscaling(&mut world),
            definitions: world
                .as_third_party(|world| world.list_task_definitions(None, false))
                .unwrap_or_default()
                .len(),
            hook_tasks: hook_tasks(&mut world, names.cluster(), runs),
            hook_runs,
            lost,
            facts: journal.iter().filter_map(|entry| without_timing(&entry.fact)).collect(),
            attention_facts: attention_facts.map(|entry| entry.fact.name().to_owned()).collect(),
            violations,
        })
    }

    /// What is not as it is in `undisturbed`, in words; none: all is.
    pub(crate) fn differs_from(&self, undisturbed: &Self) -> Vec<String> {
        let mut found = self.violations.clone();
        if self.lost != 0 {
            found.push(format!("{} requests were lost", self.lost as f64 / 1000.0));
        }
        let mut compare = |what: &str, this: String, that: String| {
            if this != that {
                found.push(format!("{what}: {this} instead of {that}"));
            }
        };
        let other = undisturbed;
        compare("record", self.record.to_string(), other.record.to_string());
        compare("weights", format!("{:?}", self.weights), format!("{:?}", other.weights));
        compare("sides", format!("{:?}", self.sides), format!("{:?}", other.sides));
        compare("workload", format!("{:?}", self.workload), format!("{:?}", other.workload));
        compare("autoscaling", format!("{:?}", self.autoscaling), format!("{:?}", other.autoscaling));
        compare("task definitions", self.definitions.to_string(), other.definitions.to_string());
        compare("tasks of hooks", self.hook_tasks.to_string(), other.hook_tasks.to_string());
        compare("runs of hooks", self.hook_runs.to_string(), other.hook_runs.to_string());
        compare("people are notified", self.attention_facts.join(", "), other.attention_facts.join(", "));
        if self.facts != other.facts {
            let only = |these: &[Value], those: &[Value]| {
                let only = these.iter().filter(|fact| !those.contains(fact)).map(Value::to_string);
                only.collect::<Vec<_>>().join(", ")
            };
            let (this, that) = (only(&self.facts, &other.facts), only(&other.facts, &self.facts));
            compare("journal, in its order", format!("has also [{this}]"), format!("[{that}]"));
        }
        found
    }
}

fn text(parameters: &Value, name: &str) -> Option<String> {
    parameters[name].as_str().map(str::to_owned)
}

/// A fact without what a repetition may change: that a task definition was there already. That something did not work, and
/// is tried again, is recorded about the fault itself: no fact of the deployment.
fn without_timing(fact: &Fact) -> Option<Value> {
    if matches!(fact, Fact::EffectFailed { .. }) {
        return None;
    }
    let mut value = serde_json::to_value(fact).ok()?;
    if let Some(reused) = value.get_mut("reused") {
        *reused = Value::Null;
    }
    Some(value)
}

fn is_settled(world: &mut World, names: &WorldNames) -> bool {
    let sides_are_settled = sides(world, names)
        .iter()
        .all(|(desired, running, healthy, _)| desired == running && *healthy == *running as usize);
    let workload = names.in_place().map(|names| LiveWorkload::read(world, names));
    sides_are_settled && workload.is_none_or(|workload| workload.is_some_and(|workload| workload.is_replaced()))
}

/// The weights of everything that splits traffic between the sides, testers' traffic included.
fn all_weights(world: &mut World, names: &WorldNames) -> Vec<(i64, i64)> {
    let Some(pair) = names.pair() else { return Vec::new() };
    let internal = pair.internal.iter().flat_map(|leg| &leg.rules);
    [&pair.rule, &pair.test_rule].into_iter().chain(internal).map(|arn| weights(world, names, arn)).collect()
}

/// The weights of a rule, or of a listener's default action.
fn weights(world: &mut World, names: &WorldNames, arn: &String) -> (i64, i64) {
    let mut weights = (-1, -1);
    for action in actions(world, arn) {
        let ActionKind::Forward(forward) = &action.what else { continue };
        for group in &forward.target_groups {
            let weight = group.weight.unwrap_or(1);
            match names.side_of_group(&group.arn) {
                Some(Slot::Blue) => weights.0 = weight,
                Some(Slot::Green) => weights.1 = weight,
                None => {}
            }
        }
    }
    weights
}

fn actions(world: &mut World, arn: &String) -> Vec<ListenerAction> {
    let asked = std::slice::from_ref(arn);
    world.as_third_party(|world| match arn.contains(":listener-rule/") {
        true => {
            let rules = world.describe_rules(None, asked).unwrap_or_default();
            rules.into_iter().flat_map(|rule| rule.actions).collect()
        }
        false => {
            let listeners = world.describe_listeners(None, asked).unwrap_or_default();
            listeners.into_iter().flat_map(|listener| listener.default_actions).collect()
        }
    })
}

fn sides(world: &mut World, names: &WorldNames) -> Vec<(u32, u32, usize, String)> {
    let Some(pair) = names.pair() else { return Vec::new() };
    Slot::BOTH.into_iter().map(|slot| side(world, pair, slot)).collect()
}

fn side(world: &mut World, names: &PairNames, slot: Slot) -> (u32, u32, usize, String) {
    let (service, group) = match slot {
        Slot::Blue => (&names.blue, &names.blue_group),
        Slot::Green => (&names.green, &names.green_group),
    };
    let internal = names.internal.as_ref().map(|leg| leg.target_group(slot));
    let groups = [group.as_str()].into_iter().chain(internal);
    let healthy = groups.map(|group| healthy_targets(world, group)).min().unwrap_or_default();
    world.as_third_party(|world| {
        let described = world.describe_services(&names.cluster, std::slice::from_ref(service));
        let service = described.ok().and_then(|(services, _)| services.into_iter().next());
        let Some(service) = service else { return (0, 0, 0, "gone".to_owned()) };
        let definition = world.describe_task_definition(&service.task_definition).ok();
        let image = definition.and_then(|definition| definition.image("app").map(str::to_owned)).unwrap_or_default();
        (service.desired_count, service.running_count, healthy, image)
    })
}

fn autoscaling(world: &mut World) -> Vec<(u32, u32, bool)> {
    let all = DescribeScalableTargets { service_namespace: "ecs".to_owned(), ..DescribeScalableTargets::default() };
    let mut targets = world.as_third_party(|world| world.describe_scalable_targets(all)).unwrap_or_default();
    targets.sort_by(|one, other| one.resource_id.cmp(&other.resource_id));
    let limits = targets.iter().map(|target| {
        let suspended = target.suspended_state != simulation::world::scaling::SuspendedState::default();
        (target.min_capacity, target.max_capacity, suspended)
    });
    limits.collect()
}

/// Tasks that were started for these runs, ended ones included.
fn hook_tasks(world: &mut World, cluster: &str, runs: BTreeSet<String>) -> usize {
    let mut tasks = BTreeSet::new();
    for run in runs {
        for status in ["RUNNING", "STOPPED"] {
            let request = ListTasks {
                cluster: cluster.to_owned(),
                family: None,
                service_name: None,
                started_by: Some(run.clone()),
                desired_status: Some(status.to_owned()),
            };
            tasks.extend(world.as_third_party(|world| world.list_tasks(request)).unwrap_or_default());
        }
    }
    tasks.len()
}
