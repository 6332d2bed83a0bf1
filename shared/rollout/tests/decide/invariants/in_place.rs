//! A service whose versions replace one another, whatever is read of it: every state of a rollout, other versions,
//! protected tasks, digests, failures, and nothing at all.

use super::{Event, check_answer, ungated};
use crate::fixture::TargetFixture;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rollout::deployment::Deployment;
use rollout::in_place::{InPlace, InPlaceStage};
use rollout::policy::{Hook, HookAction, HookPoint, Step};
use rollout::snapshot::{
    AlarmReading, FailedStart, RolloutReading, ServiceEvent, TargetHealth, TaskReading, TasksReading, WorkloadReading,
};
use rollout::{
    Command, Concurrency, Decision, EcsRolling, Effect, Fact, HookReport, Name, Next, Outcome, Percent, Platform,
    Reading, Seconds, Snapshot, Stage, TargetResources, TargetState, Timestamp, apply_outcomes, decide,
};
use std::collections::BTreeSet;

const OLD: &str = "td:old";
/// How many tasks the service runs where nobody has changed that.
const TASKS: u32 = 3;
/// How long the platform takes to replace what runs.
const TAKES: Seconds = Seconds(50);

/// Something that happens between two decisions.
#[derive(Debug, Clone)]
enum Happening {
    /// What can happen to any target. What concerns two sides changes nothing here.
    Common(Event),
    /// Somebody sets another version, or that of before.
    SetVersion(u8),
    Rollout(RolloutReading),
    /// Running tasks of the version, and the healthy ones among them.
    Tasks(u32, u32),
    /// Tasks of other versions, and the protected ones among them.
    Others(u32, u32),
    Desired(u32),
    /// The digest that runs: that of the release, another one, or unknown.
    Digest(u8),
    FailedTasks(u32),
    GaveUp(bool),
    NotPlaced(bool),
    Targets(u32, u32),
    Unreadable(bool),
    /// How requests to set a version end: 0 well, 1 without an answer, 2 without an effect and an answer.
    Requests(u8),
    /// The version before is deregistered.
    Deregister,
    /// The workload is read as the platform would leave it.
    Settle,
}

fn rollout() -> impl Strategy<Value = RolloutReading> {
    prop_oneof![
        Just(RolloutReading::Complete),
        Just(RolloutReading::InProgress { since: None }),
        Just(RolloutReading::Failed { reason: "tasks failed to start".to_owned() }),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        20 => super::event().prop_map(Happening::Common),
        4 => (1i64..120).prop_map(|seconds| Happening::Common(Event::AdvanceClock(seconds))),
        2 => (0u8..3).prop_map(Happening::SetVersion),
        2 => rollout().prop_map(Happening::Rollout),
        1 => (0u32..5, 0u32..5).prop_map(|(running, healthy)| Happening::Tasks(running, healthy)),
        1 => (0u32..4, 0u32..3).prop_map(|(others, protected)| Happening::Others(others, protected)),
        1 => (0u32..4).prop_map(Happening::Desired),
        1 => (0u8..3).prop_map(Happening::Digest),
        1 => (0u32..5).prop_map(Happening::FailedTasks),
        1 => any::<bool>().prop_map(Happening::GaveUp),
        1 => any::<bool>().prop_map(Happening::NotPlaced),
        1 => (0u32..4, 0u32..3).prop_map(|(healthy, unhealthy)| Happening::Targets(healthy, unhealthy)),
        1 => any::<bool>().prop_map(Happening::Unreadable),
        1 => (0u8..3).prop_map(Happening::Requests),
        1 => Just(Happening::Deregister),
        6 => Just(Happening::Settle),
    ]
}

fn workload(version: &str) -> WorkloadReading {
    WorkloadReading {
        version: version.to_owned(),
        image: Some(format!("r/api@{version}")),
        digest: None,
        desired: TASKS,
        running: TASKS,
        others: 0,
        rollout: RolloutReading::Complete,
        gave_up: None,
        tasks: Some(TasksReading { healthy: TASKS, protected: 0 }),
        failed_starts: vec![],
        failed_tasks: 0,
        placed_by: vec!["FARGATE".to_owned()],
        placement_failure: None,
        targets: None,
    }
}

fn hooks() -> Vec<Hook> {
    let hook = |name: &str, at, run| {
        let (name, deadline) = (Name::new(name).expect("a name"), Seconds(120));
        Hook { name, at, run, deadline, forward_only: false }
    };
    let migrate = HookAction::Task { container: "worker".to_owned(), command: vec![] };
    let announce = HookAction::Lambda { function: "announce".to_owned() };
    vec![hook("migrate", HookPoint::BeforeTraffic, migrate), hook("announce", HookPoint::AfterTraffic, announce)]
}

/// The service, and a platform that does what it is asked for, if it can.
struct Service {
    fixture: TargetFixture,
    request: u32,
    /// As it would be read now.
    workload: WorkloadReading,
    unreadable: bool,
    /// As in [`Happening::Requests`].
    requests: u8,
    /// Versions that the platform does not take any more.
    deregistered: BTreeSet<String>,
    /// When the version was set that the platform replaces what runs by; none: it is done.
    replacing: Option<Timestamp>,
}

impl Service {
    fn new(rule: Concurrency, hooked: bool) -> Self {
        let mut fixture = ungated(rule);
        let platform = Platform::EcsRolling(EcsRolling {
            cluster: "shop".to_owned(),
            container: "worker".to_owned(),
            service: "worker".to_owned(),
            target_groups: vec![],
        });
        let policy = &mut fixture.applied.policy;
        policy.resources = TargetResources { platform, traffic: vec![] };
        policy.strategy.steps = vec![Step { traffic: Percent::ALL, hold: Seconds(0) }];
        policy.hooks = if hooked { hooks() } else { vec![] };
        (fixture.snapshot.blue, fixture.snapshot.green) = (Reading::not_asked(), Reading::not_asked());
        (fixture.snapshot.rules, fixture.snapshot.test_rules) = (vec![], vec![]);
        fixture.snapshot.schedules.clear();
        Self {
            fixture,
            request: 0,
            workload: workload(OLD),
            unreadable: false,
            requests: 0,
            deregistered: BTreeSet::new(),
            replacing: None,
        }
    }

    /// Lets something happen, and returns the commands that it brings.
    fn apply(&mut self, happening: Happening) -> Vec<Command> {
        let now = self.fixture.now;
        let workload = &mut self.workload;
        match happening {
            // It has no rules.
            Happening::Common(Event::EditRule(..)) => {}
            Happening::Common(event) => return super::apply_event(&mut self.fixture, &event, &mut self.request),
            Happening::SetVersion(0) => self.set(OLD),
            Happening::SetVersion(which) => self.set(&format!("td:theirs-{which}")),
            Happening::Rollout(rollout) => workload.rollout = rollout,
            Happening::Tasks(running, healthy) => {
                workload.running = running;
                workload.tasks = Some(TasksReading { healthy, protected: 0 });
            }
            Happening::Others(others, protected) => {
                workload.others = others;
                let healthy = workload.tasks.as_ref().map_or(0, |tasks| tasks.healthy);
                workload.tasks = Some(TasksReading { healthy, protected: protected.min(others) });
            }
            Happening::Desired(desired) => workload.desired = desired,
            Happening::Digest(0) => workload.digest = None,
            Happening::Digest(1) => workload.digest = Some(format!("sha256:{:064x}", 1)),
            Happening::Digest(_) => {
                let image = workload.image.as_deref().and_then(|image| image.split_once('@'));
                workload.digest = image.map(|(_, digest)| digest.to_owned());
            }
            Happening::FailedTasks(failed) => {
                let reason = "Essential container in task exited (worker: exit code 1)".to_owned();
                let stopped = FailedStart { task: "task/1".to_owned(), reason, at: now };
                (workload.failed_tasks, workload.failed_starts) = (failed, vec![stopped; failed.min(1) as usize]);
            }
            Happening::GaveUp(gave_up) => workload.gave_up = gave_up.then(|| "tasks failed to start".to_owned()),
            Happening::NotPlaced(unplaced) => {
                let message = "was unable to place a task".to_owned();
                workload.placement_failure = unplaced.then_some(ServiceEvent { message, at: now });
            }
            Happening::Targets(healthy, unhealthy) => {
                workload.targets = Some(TargetHealth { healthy, unhealthy, ..TargetHealth::default() });
            }
            Happening::Unreadable(unreadable) => self.unreadable = unreadable,
            Happening::Requests(requests) => self.requests = requests,
            Happening::Deregister => {
                let running = self.fixture.state.running.as_ref().and_then(Deployment::in_place);
                self.deregistered.extend(running.map(|in_place| in_place.before.version.clone()));
            }
            Happening::Settle => self.settle(),
        }
        vec![]
    }

    /// Everything that runs is of the version that is set.
    fn settle(&mut self) {
        let image = self.workload.image.clone();
        self.workload = WorkloadReading { image, ..workload(&self.workload.version) };
        self.replacing = None;
    }

    /// The service is set to run another version.
    fn set(&mut self, version: &str) {
        if self.workload.version == version {
            return;
        }
        let others = self.workload.others + self.workload.running;
        let image = version.strip_prefix("td:").filter(|image| image.contains('@'));
        self.workload = WorkloadReading {
            image: Some(image.map_or_else(|| format!("r/api@{version}"), str::to_owned)),
            running: 0,
            others,
            rollout: RolloutReading::InProgress { since: Some(self.fixture.now) },
            tasks: Some(TasksReading { healthy: 0, protected: 0 }),
            desired: self.workload.desired,
            ..workload(version)
        };
        self.replacing = Some(self.fixture.now);
    }

    fn seen(&self) -> Snapshot {
        let known = Reading::Known(self.workload.clone());
        let workload = if self.unreadable { Reading::Unknown("throttled".to_owned()) } else { known };
        Snapshot { workload, ..self.fixture.snapshot.clone() }
    }

    fn perform(&mut self, effect: &Effect) -> Outcome {
        match effect {
            Effect::RegisterVersion { image, .. } => {
                Outcome::Registered { version: format!("td:{image}"), reused: false }
            }
            Effect::ReplaceVersion { version } if self.deregistered.contains(version) => {
                Outcome::Refused { reason: "TaskDefinition is inactive".to_owned() }
            }
            Effect::ReplaceVersion { version } => {
                if self.requests < 2 {
                    self.set(version);
                }
                let unsure = || Outcome::Unsure { reason: "no answer came in time".to_owned() };
                if self.requests == 0 { Outcome::Done } else { unsure() }
            }
            Effect::StartTask { hook, .. } => {
                let stopped = TaskReading::Stopped { exit_code: Some(0), reason: String::new() };
                self.fixture.snapshot.hook_tasks.insert(hook.clone(), Reading::Known(stopped));
                Outcome::TaskStarted { task: format!("task-{hook}") }
            }
            Effect::InvokeHook { .. } => Outcome::HookReported { report: HookReport::Succeeded },
            _ => Outcome::Done,
        }
    }

    /// One decision, checked and carried out.
    fn decide(&mut self, commands: &[Command]) -> Result<Next, TestCaseError> {
        if self.replacing.is_some_and(|since| self.fixture.now >= TAKES.after(since)) {
            self.settle();
        }
        let (seen, before) = (self.seen(), self.fixture.state.clone());
        let fixture = &self.fixture;
        let (policy, gate_context) = (Some(&fixture.applied), Some(&fixture.gate_context));
        let inbox = rollout::Inbox { commands, policy, gate_context };
        let shown = before.running.is_some().then_some(&seen);
        let decision = decide(&before, &inbox, shown, fixture.now);
        let repeated = decide(&before, &inbox, shown, fixture.now);
        prop_assert_eq!(&repeated, &decision, "the same input has the same answer");
        check_answer(fixture, &before, &decision, commands)?;
        check_effects(&decision, &seen)?;
        check_facts(&decision, &seen)?;
        check_forward_only(&before, &decision)?;
        self.fixture.state = decision.state;
        let mut outcomes = vec![];
        for effect in decision.effects {
            self.fixture.effects.push(effect.clone());
            let outcome = self.perform(&effect);
            outcomes.push((effect, outcome));
        }
        let (state, _) = apply_outcomes(&self.fixture.state, &outcomes, self.fixture.now);
        self.fixture.state = TargetState { outbox: vec![], ..state };
        Ok(decision.next)
    }
}

/// Only the version is changed: to the candidate's, or back to the one before or to the equal one registered for it,
/// and never over somebody else's to go forward.
fn check_effects(decision: &Decision, seen: &Snapshot) -> Result<(), TestCaseError> {
    let in_place = decision.state.running.as_ref().and_then(Deployment::in_place);
    for effect in &decision.effects {
        match effect {
            Effect::RegisterVersion { .. } | Effect::InvokeHook { .. } | Effect::StopTask { .. } => {}
            Effect::StartTask { template, .. } => prop_assert!(template.is_none(), "a task of a side: {effect:?}"),
            Effect::ReplaceVersion { version } => {
                let Some(in_place) = in_place else {
                    return Err(TestCaseError::fail(format!("{version} is set, and nothing is deployed in place")));
                };
                check_version(version, in_place, seen)?;
            }
            _ => return Err(TestCaseError::fail(format!("it is not for a version set in place: {effect:?}"))),
        }
    }
    Ok(())
}

fn check_version(version: &str, in_place: &InPlace, seen: &Snapshot) -> Result<(), TestCaseError> {
    let before = in_place.before.version.as_str();
    if let InPlaceStage::RollingBack(rollback) = &in_place.at {
        prop_assert_eq!(version, rollback.path.version(), "a rollback sets another version");
        let again = in_place.before.image.as_ref().map(|image| format!("td:{image}"));
        let is_equal = version == before || again.as_deref() == Some(version);
        prop_assert!(is_equal, "{version} is not equal to {before}");
        return Ok(());
    }
    let candidate = in_place.candidate().map(|candidate| candidate.version.as_str());
    prop_assert_eq!(candidate, Some(version), "it sets another version than the candidate's");
    let live = seen.workload.known().map(|workload| workload.version.as_str());
    let is_foreign = live.is_some_and(|live| live != before && live != version);
    prop_assert!(!is_foreign, "{live:?} was set by another, and is overwritten to go forward");
    Ok(())
}

/// What the journal says of the service is what was seen of it.
fn check_facts(decision: &Decision, seen: &Snapshot) -> Result<(), TestCaseError> {
    let workload = seen.workload.known();
    let runs_only = |version: Option<&String>| {
        workload.is_some_and(|workload| {
            let nothing_runs = workload.desired == 0 && workload.others == 0;
            version.is_none_or(|version| *version == workload.version) && (workload.is_replaced() || nothing_runs)
        })
    };
    for entry in &decision.journal {
        let (holds, name) = match &entry.fact {
            Fact::Replaced { version, .. } => (runs_only(Some(version)), "replaced"),
            Fact::Verified { .. } => (runs_only(None), "verified"),
            Fact::Halted { .. } => (workload.is_some(), "halted"),
            Fact::WeightsDecided { .. } | Fact::WeightsVerified { .. } | Fact::SidesDetermined { .. } => {
                (false, "sides")
            }
            _ => continue,
        };
        prop_assert!(holds, "{name} is journalled: {:?}, and {workload:?} was read", entry.fact);
    }
    Ok(())
}

/// Once its version was set, what has no automatic rollback goes back only for a person.
fn check_forward_only(before: &TargetState, decision: &Decision) -> Result<(), TestCaseError> {
    let (Some(old), Some(new)) = (&before.running, &decision.state.running) else { return Ok(()) };
    let was_set = old.in_place().is_some_and(InPlace::has_replaced) && old.stage() != Stage::RollingBack;
    if old.number == new.number
        && was_set
        && old.is_forward_only()
        && let Some((_, cause)) = new.rolling_back()
    {
        prop_assert!(!cause.is_automatic(), "a forward-only release went back by itself: {cause:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { // One seed, as for pairs.
        cases: 1500,
        rng_seed: RngSeed::Fixed(20_261_201), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_decision_in_place_violates_an_invariant(
        rule in super::rule(), hooked in any::<bool>(), happenings in proptest::collection::vec(happening(), 1..80)
    ) {
        let mut service = Service::new(rule, hooked);
        for happening in happenings {
            let settles = matches!(happening, Happening::Common(Event::AdvanceClock(seconds)) if seconds % 2 == 0);
            let commands = service.apply(happening);
            let mut next = service.decide(&commands)?;
            let (mut rounds, mut idle) = (0, 0);
            while settles && next == Next::Immediately && rounds < 30 {
                let done = service.fixture.effects.len();
                next = service.decide(&[])?;
                (rounds, idle) = (rounds + 1, if service.fixture.effects.len() > done { 0 } else { idle + 1 });
                let explanation = &service.fixture.state.explanation;
                prop_assert!(idle < 25, "it never waits in {}: {explanation:#?}", service.fixture.stage());
            }
        }
        // Whatever happened: once the world is in order, every deployment comes to its verdict.
        service.fixture.alarm(AlarmReading::Ok);
        service.fixture.gate_context.brakes = Reading::Known(vec![]);
        (service.unreadable, service.requests) = (false, 0);
        service.deregistered.clear();
        service.workload.desired = TASKS;
        service.settle();
        let mut observations = 0;
        while let Some(running) = &service.fixture.state.running {
            observations += 1;
            let waiting_on = &service.fixture.state.explanation.waiting_on;
            prop_assert!(observations < 3000, "no verdict; it waits on {waiting_on:#?} in {:?}", running.stage());
            service.decide(&[])?;
            if let Some(at) = service.fixture.state.explanation.next_check_at {
                service.fixture.now = service.fixture.now.max(at);
            }
        }
    }
}
