//! A worker, and a platform that replaces its tasks: what the tests of in-place deployments act on.

use crate::fixture::{deploy, policy, start, target};
use rollout::brake::Brake;
use rollout::policy::Step;
use rollout::promotion::{GateContext, ImageState};
use rollout::snapshot::{AlarmReading, FailedStart, RolloutReading, TasksReading, WorkloadReading};
use rollout::{
    AppliedTarget, Command, Concurrency, EcsRolling, Effect, Fact, ImageDigest, JournalEntry, Next, Outcome, Percent,
    Platform, Reading, Seconds, Snapshot, TargetPolicy, TargetResources, TargetState, Timestamp, Verdict,
    apply_outcomes, decide,
};
use std::collections::BTreeMap;

/// How long the platform takes to replace what runs.
pub const TAKES: Seconds = Seconds(50);
pub const OLD: &str = "td:old";

pub fn worker() -> TargetPolicy {
    let platform = Platform::EcsRolling(EcsRolling {
        cluster: "shop".to_owned(),
        container: "worker".to_owned(),
        service: "worker".to_owned(),
        target_groups: vec![],
    });
    let mut policy = policy();
    policy.resources = TargetResources { platform, traffic: vec![] };
    policy.strategy.steps = vec![Step { traffic: Percent::ALL, hold: Seconds(0) }];
    policy
}

fn workload(version: &str, count: u32) -> WorkloadReading {
    WorkloadReading {
        version: version.to_owned(),
        image: Some(format!("r/api@{version}")),
        digest: None,
        desired: count,
        running: count,
        others: 0,
        rollout: RolloutReading::Complete,
        gave_up: None,
        tasks: Some(TasksReading { healthy: count, protected: 0 }),
        failed_starts: vec![],
        failed_tasks: 0,
        placed_by: vec![],
        placement_failure: None,
        targets: None,
    }
}

/// A worker, and the platform that replaces its tasks.
pub struct Worker {
    pub now: Timestamp,
    pub state: TargetState,
    pub applied: AppliedTarget,
    pub snapshot: Snapshot,
    journal: Vec<JournalEntry>,
    pub effects: Vec<Effect>,
    /// The version that the platform replaces what runs by, and since when.
    pub replacing: Option<Timestamp>,
    /// Versions whose tasks never come up.
    pub broken: Vec<String>,
    /// Versions that the platform refuses to set.
    pub deregistered: Vec<String>,
    /// Tasks that are not stopped.
    pub protected: u32,
    /// The active brakes.
    pub brakes: Vec<Brake>,
    /// What the registry has.
    pub images: BTreeMap<ImageDigest, Reading<ImageState>>,
}

impl Worker {
    pub fn new() -> Self {
        Self::with(worker())
    }

    pub fn with(policy: TargetPolicy) -> Self {
        let alarms = policy.alarms.iter().map(|alarm| (alarm.name.clone(), AlarmReading::Ok)).collect();
        let snapshot = Snapshot {
            blue: Reading::not_asked(),
            green: Reading::not_asked(),
            workload: Reading::Known(workload(OLD, 3)),
            rules: vec![],
            test_rules: vec![],
            alarms: Reading::Known(alarms),
            alarm_sides: BTreeMap::new(),
            schedules: BTreeMap::new(),
            hook_tasks: BTreeMap::new(),
            throttled: false,
            read_started_at: None,
            api_call: None,
        };
        let entry = rollout::entry::TargetEntryRules::default();
        Self {
            now: start(),
            state: TargetState::new(target()),
            applied: AppliedTarget { version: 1, concurrency: Concurrency::default(), policy, entry },
            snapshot,
            journal: vec![],
            effects: vec![],
            replacing: None,
            broken: vec![],
            deregistered: vec![],
            protected: 0,
            brakes: vec![],
            images: BTreeMap::new(),
        }
    }

    pub fn workload(&mut self) -> &mut WorkloadReading {
        match &mut self.snapshot.workload {
            Reading::Known(workload) => workload,
            Reading::Unknown(reason) => panic!("the workload cannot be read: {reason}"),
        }
    }

    pub fn version(&self) -> &str {
        &self.snapshot.workload.known().unwrap().version
    }

    /// The platform works on.
    fn progress(&mut self) {
        let Some(since) = self.replacing.filter(|since| self.now >= TAKES.after(*since)) else { return };
        let protected = self.protected;
        let broken = self.broken.iter().any(|broken| broken == self.version());
        let (now, workload) = (self.now, self.workload());
        if broken {
            workload.failed_tasks += 1;
            let reason = "Essential container in task exited (worker: exit code 1)".to_owned();
            workload.failed_starts.insert(0, FailedStart { task: "task/1".to_owned(), reason, at: now });
            self.replacing = Some(since);
            return;
        }
        workload.running = workload.desired;
        workload.others = protected;
        workload.tasks = Some(TasksReading { healthy: workload.desired, protected });
        if protected == 0 {
            workload.rollout = RolloutReading::Complete;
            self.replacing = None;
        }
    }

    pub fn set(&mut self, version: &str) {
        let now = self.now;
        let workload = self.workload();
        if workload.version == version {
            return;
        }
        workload.version = version.to_owned();
        workload.image = Some(format!("r/api@{version}"));
        workload.others += workload.running;
        workload.running = 0;
        workload.rollout = RolloutReading::InProgress { since: Some(now) };
        workload.tasks = Some(TasksReading { healthy: 0, protected: 0 });
        workload.failed_starts.clear();
        workload.failed_tasks = 0;
        self.replacing = Some(now);
    }

    fn perform(&mut self, effect: &Effect) -> Outcome {
        match effect {
            Effect::RegisterVersion { template, image, .. } => {
                let again = image == &format!("r/api@{template}");
                let version = if again { format!("{template}-again") } else { format!("td:{image}") };
                Outcome::Registered { version, reused: false }
            }
            Effect::ReplaceVersion { version } if self.deregistered.contains(version) => {
                Outcome::Refused { reason: "TaskDefinition is inactive".to_owned() }
            }
            Effect::ReplaceVersion { version } => {
                self.set(version);
                Outcome::Done
            }
            Effect::StartTask { hook, template: None, .. } => Outcome::TaskStarted { task: format!("task-{hook}") },
            Effect::StopTask { .. } => Outcome::Done,
            other => panic!("nothing else is done to a workload that changes its version in place: {other:?}"),
        }
    }

    pub fn decide(&mut self, commands: &[Command]) -> Next {
        self.progress();
        let seen = self.state.running.is_some().then(|| self.snapshot.clone());
        let brakes = Reading::Known(self.brakes.clone());
        let context = GateContext { brakes, images: self.images.clone(), ..GateContext::empty() };
        let inbox = rollout::Inbox { commands, policy: Some(&self.applied), gate_context: Some(&context) };
        let decision = decide(&self.state, &inbox, seen.as_ref(), self.now);
        self.state = decision.state.clone();
        self.journal.extend(decision.journal.clone());
        let outcomes: Vec<_> = decision
            .effects
            .iter()
            .map(|effect| {
                self.effects.push(effect.clone());
                (effect.clone(), self.perform(effect))
            })
            .collect();
        let (state, journal) = apply_outcomes(&self.state, &outcomes, self.now);
        self.state = state;
        self.state.outbox.clear();
        self.journal.extend(journal);
        decision.next
    }

    pub fn run_until(&mut self, mut stop: impl FnMut(&mut Self) -> bool) {
        for _ in 0..20_000 {
            if stop(self) {
                return;
            }
            match self.decide(&[]) {
                Next::Immediately => {}
                Next::At(at) => self.now = at.max(self.now),
                Next::Idle => return,
            }
        }
        panic!("it never ends: {:#?}", self.state.explanation);
    }

    pub fn run(&mut self, tag: &str) {
        self.decide(&[deploy(tag)]);
        self.run_until(|_| false);
    }

    pub fn stage(&self) -> &'static str {
        self.state.running.as_ref().map_or("none", |running| running.stage().name())
    }

    pub fn end(&self) -> (Verdict, String) {
        let ended = self.journal.iter().rev().find_map(|entry| match &entry.fact {
            Fact::Ended { verdict, reason, .. } => Some((*verdict, reason.clone())),
            _ => None,
        });
        ended.expect("it has ended")
    }

    pub fn stages(&self) -> Vec<&'static str> {
        let stage = |entry: &JournalEntry| match &entry.fact {
            Fact::StageEntered { stage, .. } => Some(stage.name()),
            _ => None,
        };
        self.journal.iter().filter_map(stage).collect()
    }

    pub fn versions_set(&self) -> Vec<&str> {
        let mut versions: Vec<_> = self.effects.iter().filter_map(version_set).collect();
        versions.dedup();
        versions
    }

    pub fn journal_has(&self, fact: impl Fn(&Fact) -> bool) -> bool {
        self.journal.iter().any(|entry| fact(&entry.fact))
    }

    pub fn fire_alarm(&mut self) {
        let firing = AlarmReading::Firing { reason: "the queue grows".to_owned() };
        self.snapshot.alarms = Reading::Known([("api-5xx".to_owned(), firing)].into());
    }
}

/// The version that an effect sets.
fn version_set(effect: &Effect) -> Option<&str> {
    match effect {
        Effect::ReplaceVersion { version } => Some(version.as_str()),
        _ => None,
    }
}
