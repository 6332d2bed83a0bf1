//! A target, and a world of two sides that does at once what a decision asks for.

use rollout::entry::TargetEntryRules;
use rollout::policy::{AlarmPolicy, Deadlines, Drift, Hook, Step, Strategy};
use rollout::promotion::GateContext;
use rollout::recording::{self, DecisionInput, RecordPosition};
use rollout::snapshot::{AlarmReading, Autoscaling, RuleReading, SideReading, TargetHealth, Weights};
use rollout::target::OutboxMessage;
use rollout::{
    Actor, AppliedTarget, Command, Concurrency, DeployOptions, EcsPair, Effect, Fact, ImageDigest, Instruction,
    JournalEntry, Leg, Name, Next, Outcome, Overrides, Percent, Platform, Reading, ReleaseId, Seconds, Slot, Snapshot,
    TargetId, TargetPolicy, TargetResources, TargetState, Timestamp, Verdict, apply_outcomes, decide,
};
use std::collections::BTreeMap;

pub fn start() -> Timestamp {
    "2026-11-22T03:00:00Z".parse().expect("a timestamp")
}

pub fn target() -> TargetId {
    TargetId::parse("shop/api/prod").expect("a target")
}

pub fn policy() -> TargetPolicy {
    let step = |traffic, hold| Step { traffic: Percent::new(traffic).expect("a share"), hold: Seconds(hold) };
    TargetPolicy {
        template: rollout::template::TemplateSource::Live,
        configuration: rollout::template::ConfigurationTrigger::Manual,
        resources: TargetResources {
            platform: Platform::EcsPair(EcsPair {
                cluster: "shop".to_owned(),
                container: "api".to_owned(),
                blue: "api-blue".to_owned(),
                green: "api-green".to_owned(),
            }),
            traffic: vec![Leg {
                blue: "tg-blue".to_owned(),
                green: "tg-green".to_owned(),
                rules: vec!["listener-rule/app/shop/1/2/3".to_owned()],
                test_rule: None,
            }],
        },
        strategy: Strategy {
            steps: vec![step(10, 60), step(50, 60), step(100, 0)],
            bake: Seconds(120),
            keep_warm: Seconds(60),
            green_capacity: Percent::ALL,
            drain: Seconds(30),
            task_failures: rollout::policy::TaskFailures::default(),
        },
        alarms: vec![AlarmPolicy::new("api-5xx".to_owned())],
        hooks: Vec::<Hook>::new(),
        deadlines: Deadlines {
            preflight: Seconds(600),
            register: Seconds(300),
            healthy: Seconds(600),
            shift: Seconds(600),
            retire: Seconds(600),
            rollback: Seconds(900),
        },
        drift: Drift::Tell,
        recovery_time: None,
    }
}

pub fn deploy(tag: &str) -> Command {
    deploy_overriding_alarms(tag, &[])
}

pub fn deploy_overriding_alarms(tag: &str, alarms: &[&str]) -> Command {
    let digest =
        ImageDigest::new(format!("sha256:{:064x}", tag.bytes().map(u64::from).sum::<u64>())).expect("a digest");
    let release = ReleaseId {
        application: Name::new("shop").expect("a name"),
        service: Name::new("api").expect("a name"),
        digest: digest.clone(),
    };
    let overrides = Overrides { firing_alarms: alarms.iter().map(|name| (*name).to_owned()).collect() };
    let instruction = Instruction::Deploy {
        release,
        image: format!("r/api@{digest}"),
        tag: tag.to_owned(),
        overrides,
        options: DeployOptions::default(),
    };
    new_command(instruction, &format!("deploy-{tag}"))
}

pub fn new_command(instruction: Instruction, request: &str) -> Command {
    let actor = Actor::Person { name: "ada".to_owned() };
    Command::requested(target(), instruction, actor, "because", request, start())
}

/// The world and what is remembered of the target.
pub struct TargetFixture {
    pub now: Timestamp,
    pub state: TargetState,
    pub applied: AppliedTarget,
    /// Brakes, and what neighbours have verified.
    pub gate_context: GateContext,
    pub snapshot: Snapshot,
    pub journal: Vec<JournalEntry>,
    pub effects: Vec<Effect>,
    /// Messages for other targets.
    pub outbox: Vec<OutboxMessage>,
    /// While set, new tasks never become healthy.
    pub candidates_unhealthy: bool,
    /// While set, no weight is ever written.
    pub weight_writes_fail: bool,
    /// While set, the rules cannot be read.
    pub rules_unreadable: bool,
    /// When each side last had a share of the traffic.
    pub last_traffic: BTreeMap<Slot, Timestamp>,
    /// What was decided, as lines of a log; none: nobody records.
    pub recorded: Option<Vec<String>>,
    /// How often the state was written down.
    pub revision: u64,
    /// How long cookies bind clients to a side.
    pub sticky_for: Option<Seconds>,
}

impl TargetFixture {
    pub fn new() -> Self {
        Self::with(policy())
    }

    pub fn with(policy: TargetPolicy) -> Self {
        let side = |running: u32, name: &str| {
            Reading::Known(SideReading {
                version: format!("td:{name}"),
                image: Some(format!("r/api@{name}")),
                desired: running,
                running,
                pending: 0,
                steady: true,
                circuit_breaker_reason: None,
                stalled: false,
                failed_starts: vec![],
                failed_tasks: 0,
                placed_by: vec![],
                placement_failure: None,
                targets: TargetHealth { healthy: running, ..TargetHealth::default() },
                autoscaling: None,
            })
        };
        let rule = RuleReading {
            weights: Weights { blue: 1, green: 0 },
            has_both_groups: true,
            foreign_groups: vec![],
            sticky_for: None,
        };
        let alarms = policy.alarms.iter().map(|alarm| (alarm.name.clone(), AlarmReading::Ok)).collect();
        Self {
            now: start(),
            state: TargetState::new(target()),
            snapshot: Snapshot {
                read_started_at: None,
                api_call: None,
                blue: side(4, "old"),
                green: side(0, "older"),
                workload: Reading::not_asked(),
                rules: policy.resources.rules().map(|_| Reading::Known(rule.clone())).collect(),
                test_rules: policy.resources.test_rules().map(|_| Reading::Known(rule.clone())).collect(),
                alarms: Reading::Known(alarms),
                alarm_sides: BTreeMap::new(),
                schedules: [Slot::Blue, Slot::Green].map(|slot| (slot, Reading::Known(vec![]))).into(),
                hook_tasks: BTreeMap::new(),
                throttled: false,
            },
            applied: AppliedTarget {
                version: 7,
                concurrency: Concurrency::default(),
                policy,
                entry: TargetEntryRules::default(),
            },
            gate_context: GateContext::empty(),
            journal: vec![],
            effects: vec![],
            outbox: vec![],
            candidates_unhealthy: false,
            weight_writes_fail: false,
            rules_unreadable: false,
            last_traffic: BTreeMap::new(),
            recorded: None,
            revision: 0,
            sticky_for: None,
        }
    }

    /// One decision on what is seen now, carried out at once.
    pub fn decide(&mut self, commands: &[Command]) -> Next {
        let seen = self.state.running.is_some().then(|| self.seen());
        self.decide_on(commands, seen)
    }

    /// One decision on what was seen, carried out at once.
    pub fn decide_on(&mut self, commands: &[Command], seen: Option<Snapshot>) -> Next {
        self.record_traffic();
        let inbox = rollout::Inbox { commands, policy: Some(&self.applied), gate_context: Some(&self.gate_context) };
        let input = DecisionInput { state: &self.state, inbox, snapshot: seen.as_ref(), now: self.now };
        let decision = decide(input.state, &input.inbox, input.snapshot, input.now);
        let position = |revision| RecordPosition { pass: "pass-1", revision };
        if let Some(recorded) = &mut self.recorded {
            recorded.extend(recording::decision_log_lines(position(self.revision), &input, &decision));
        }
        self.revision += 1;
        self.state = decision.state.clone();
        self.journal.extend(decision.journal.clone());
        let mut outcomes = vec![];
        for effect in &decision.effects {
            self.effects.push(effect.clone());
            outcomes.push((effect.clone(), self.perform(effect)));
        }
        let (state, journal) = apply_outcomes(&self.state, &outcomes, self.now);
        if let Some(recorded) = self.recorded.as_mut().filter(|_| !outcomes.is_empty()) {
            let position = position(self.revision);
            recorded.extend(recording::outcome_log_lines(position, &self.state, &outcomes, self.now, &state, &journal));
        }
        self.state = state;
        self.outbox.append(&mut self.state.outbox);
        self.journal.extend(journal);
        decision.next
    }

    /// Remembers who is seen with traffic now. What was before the deployment, or could not be seen, it cannot know.
    pub fn record_traffic(&mut self) {
        if self.state.running.as_ref().is_none_or(|running| running.stable_at_start().is_none()) {
            self.last_traffic.clear();
        }
        if self.rules_unreadable {
            return;
        }
        for slot in Slot::BOTH {
            if !self.snapshot.rules.is_empty() && self.weights().of(slot) > 0 {
                self.last_traffic.insert(slot, self.now);
            }
        }
    }

    /// What a look sees now.
    pub fn seen(&self) -> Snapshot {
        let mut seen = self.snapshot.clone();
        if self.rules_unreadable {
            seen.rules.fill(Reading::Unknown("throttled".to_owned()));
        }
        seen
    }

    /// Decides until it waits for time or a change; then lets time pass to the next look.
    pub fn advance(&mut self) -> Next {
        for _ in 0..50 {
            match self.decide(&[]) {
                Next::Immediately => {}
                Next::At(at) => {
                    assert!(at >= self.now, "a look in the past: {at} at {}", self.now);
                    self.now = at;
                    return Next::At(at);
                }
                Next::Idle => return Next::Idle,
            }
        }
        panic!("it never waits; the last effects: {:?}", &self.effects[self.effects.len().saturating_sub(4)..]);
    }

    /// Lets time pass until `stop` holds, or nothing runs.
    pub fn run_until(&mut self, mut stop: impl FnMut(&Self) -> bool) {
        for _ in 0..2000 {
            if stop(self) {
                return;
            }
            if self.advance() == Next::Idle {
                return;
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

    pub fn side(&mut self, slot: Slot) -> &mut SideReading {
        let side = match slot {
            Slot::Blue => &mut self.snapshot.blue,
            Slot::Green => &mut self.snapshot.green,
        };
        match side {
            Reading::Known(side) => side,
            Reading::Unknown(reason) => panic!("{slot} is not readable in this scene: {reason}"),
        }
    }

    pub fn side_running(&self, slot: Slot) -> u32 {
        self.snapshot.side(slot).known().map_or(0, |side| side.running)
    }

    pub fn weights(&self) -> Weights {
        self.snapshot.rules[0].known().expect("a readable rule").weights
    }

    pub fn edit_rule(&mut self, blue: u16, green: u16) {
        for rule in &mut self.snapshot.rules {
            *rule = Reading::Known(RuleReading {
                weights: Weights { blue, green },
                has_both_groups: true,
                foreign_groups: vec![],
                sticky_for: self.sticky_for,
            });
        }
    }

    pub fn alarm(&mut self, reading: AlarmReading) {
        self.snapshot.alarms = Reading::Known([("api-5xx".to_owned(), reading)].into_iter().collect());
    }

    pub fn fire_alarm(&mut self) {
        self.alarm(AlarmReading::Firing { reason: "5 % of the answers are 5xx".to_owned() });
    }

    pub fn verdict(&self) -> Option<Verdict> {
        self.journal.iter().rev().find_map(|entry| match &entry.fact {
            Fact::Ended { verdict, .. } => Some(*verdict),
            _ => None,
        })
    }

    pub fn end_reason(&self) -> String {
        let reason = self.journal.iter().rev().find_map(|entry| match &entry.fact {
            Fact::Ended { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        reason.unwrap_or_default()
    }

    pub fn journal_has(&self, fact: impl Fn(&Fact) -> bool) -> bool {
        self.journal.iter().any(|entry| fact(&entry.fact))
    }

    pub fn autoscale(&mut self, slot: Slot, min: u32, max: u32) {
        let limits = Autoscaling { min, max, scale_in_suspended: false, scheduled_suspended: false };
        self.side(slot).autoscaling = Some(limits);
    }

    fn perform(&mut self, effect: &Effect) -> Outcome {
        let sick = self.candidates_unhealthy;
        let tasks = |side: &mut SideReading, count: u32| {
            side.desired = count;
            side.running = count;
            // Those that are there stay as they are.
            let healthy = if sick { side.targets.healthy.min(count) } else { count };
            side.targets = TargetHealth { healthy, unhealthy: count - healthy, ..TargetHealth::default() };
        };
        match effect {
            Effect::RegisterVersion { image, template, family } => {
                let of = family.as_ref().map(|_| format!("#{template}")).unwrap_or_default();
                return Outcome::Registered { version: format!("td:{image}{of}"), reused: false };
            }
            Effect::SetVersion { slot, version, desired } => {
                let side = self.side(*slot);
                side.version.clone_from(version);
                side.image = version.strip_prefix("td:").and_then(|it| it.split('#').next()).map(str::to_owned);
                tasks(side, *desired);
            }
            Effect::StartFirst { slot: Some(slot), version, count } => {
                let side = self.side(*slot);
                side.version.clone_from(version);
                tasks(side, *count);
            }
            Effect::StopFirst { slot: Some(slot) } => tasks(self.side(*slot), 0),
            Effect::StartFirst { .. } | Effect::StopFirst { .. } | Effect::ReplaceVersion { .. } => {
                panic!("this is for a workload in place, and there are two sides: {effect:?}")
            }
            Effect::SetDesired { slot, desired } => {
                let live = self.weights().of(*slot) > 0;
                let side = self.side(*slot);
                assert!(!live || *desired >= side.desired, "{slot} carries traffic and is scaled down to {desired}");
                tasks(side, *desired);
            }
            Effect::SetAutoscaling { slot, limits } => self.side(*slot).autoscaling = Some(*limits),
            Effect::SetWeights { seen, .. } if seen.iter().any(|seen| !self.weights().same_split(*seen)) => {
                return Outcome::Conflict { reason: "somebody else was faster".to_owned() };
            }
            Effect::SetWeights { weights, .. } if !self.weight_writes_fail => {
                self.edit_rule(weights.blue, weights.green)
            }
            Effect::SetWeights { .. } => return Outcome::Unsure { reason: "Throttling: rate exceeded".to_owned() },
            Effect::SetTestRules { weights } => {
                let rule = |weights: &Weights| {
                    let rule = RuleReading {
                        weights: *weights,
                        has_both_groups: true,
                        foreign_groups: vec![],
                        sticky_for: None,
                    };
                    Reading::Known(rule)
                };
                self.snapshot.test_rules = weights.iter().map(rule).collect();
            }
            Effect::StartTask { hook, .. } => return Outcome::TaskStarted { task: format!("task-{hook}") },
            Effect::InvokeHook { .. } => return Outcome::Unsure { reason: "it did not answer within 20 s".to_owned() },
            Effect::StopTask { .. } => {}
        }
        Outcome::Done
    }
}
