//! People, pushes and meddling at random, in a world where calls fail now and then: whatever is done, every promise of
//! [`simulation::invariants`] holds after every step, nothing gets to production that was not verified before and that two
//! people have not said yes to, and nothing widens while the line is stopped.

mod conditions;
mod run;

use crate::day::{AffectedSides, DayAction, DayEvent, HOOK_FUNCTIONS, SideFault, ToolTrigger, VoteSubject, day_events};
use crate::pipeline::{HOUR, Pipeline, PipelineBuilder, carol, environment_of, name, slack, target};
use engine::Cloud as _;
use engine::recorder::RecordingLevel;
use futures::task::noop_waker;
use rollout::brake::Scope;
use rollout::deployment::Purpose;
use rollout::explanation::WaitingOn;
use rollout::journal::{Fact, JournalEntry};
use rollout::policy::{AlarmPolicy, Drift, Hook, HookAction, HookPoint};
use rollout::recording::{read, replay};
use rollout::snapshot::Weights;
use rollout::verdict::Verdict;
use rollout::{DeployOptions, Effect, Gate, Instruction, Lane, PlanId, Seconds, Slot, TargetId, Timestamp};
pub(crate) use run::{DayOutcome, day, recorded};
use simulation::invariants::{Invariant, Violation};
use simulation::shrink::minimize;
use simulation::virtual_time::{Faults, InjectedFault, Simulation, Started};
use simulation::world::alarms::{AlarmKind, MetricAlarm, TreatMissing};
use simulation::world::ecs::UpdateService;
use simulation::world::scaling::RegisterScalableTarget;
use simulation::world::{FunctionBehaviour, ImageBehaviour, SeededRng, Settings, World};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;

const ROLLBACK_REASON: &str = "the cart is empty";
/// What a pass that was under way may still do after something was changed: it has read it before.
const IN_FLIGHT: Seconds = Seconds(75);
/// How often a day that ends badly is lived through again at most, to find out what it takes.
const MAX_SHRINK_RUNS: usize = 300;
/// Of so many days that end badly it is found out; the others only say so.
const MAX_SHRUNK_DAYS: usize = 3;

const PRODUCTION_WAS_APPROVED: Invariant = Invariant {
    name: "allowed",
    sentence: "nothing gets to production that was not verified before and approved by two people",
};
const NO_WIDENING_WHILE_STOPPED: Invariant =
    Invariant { name: "line", sentence: "nothing widens while the line is stopped" };
const ENDS_IDLE: Invariant = Invariant { name: "rests", sentence: "everything comes to an end, and to rest" };

fn targets() -> [TargetId; 3] {
    [target("shop/api/dev"), target("shop/api/staging"), target("shop/api/prod")]
}

/// A day, being lived through.
struct DayRun {
    pipeline: Pipeline,
    /// Which brakes are on, since when.
    active_brakes: BTreeMap<Scope, Timestamp>,
    /// Which brakes were on, from when until when.
    past_brakes: Vec<(Scope, Timestamp, Timestamp)>,
    /// While the line is stopped: the candidate's share of each deployment that runs.
    highest_shares: BTreeMap<(TargetId, u64), i64>,
    /// Whose rules somebody has edited.
    edited_by_hand: BTreeSet<TargetId>,
    /// Tools that write a rule as soon as their moment has come.
    pending_tools: Vec<(TargetId, ToolTrigger, u8)>,
    /// How images behave that are not ill.
    images: BTreeMap<u64, ImageBehaviour>,
    /// Images that are ill, and of which target somebody said so.
    degraded: BTreeSet<(TargetId, u64)>,
    /// Whether a deployment has waited for an alarm that was not evaluated.
    saw_unevaluated_alarm: bool,
    /// Whether CloudTrail tells who edited a rule.
    cloudtrail_enabled: bool,
    /// Whose sides are asleep.
    scaled_to_zero: BTreeSet<TargetId>,
}

/// Requests a second that a target gets where nobody changes that.
const DEFAULT_REQUESTS_PER_SECOND: f64 = 5.0;
/// Tasks of a side that wakes up.
const DEFAULT_TASKS: u32 = 4;

fn faults(seed: u64) -> Faults {
    let rate = if seed.is_multiple_of(2) { 0.0 } else { 0.03 * SeededRng::new(seed ^ 0x000c_4a05).unit() };
    // A world in which nothing ever works cannot come to an end: what is left of the day is undisturbed.
    let day = day_events(seed, &targets()).last().map_or(Seconds(0), |last| last.after);
    let until = Some(Seconds(day.0 + 600).after(Settings::default().start));
    Faults { until, ..Faults::everywhere(seed, rate) }
}

/// The side that a tool favours, if its moment has come: the candidate, or at rest the side without tasks.
fn triggered_side(simulation: &Simulation, (target, trigger, _): &(TargetId, ToolTrigger, u8)) -> Option<Slot> {
    let store = simulation.ledger().store();
    let running = store.peek(target)?.running.as_ref();
    if running.is_some_and(|running| running.candidate().is_none()) {
        return None;
    }
    let names = simulation.at(target).names();
    let weights = simulation.world(|world| world.forwards_of(&names.rule));
    let has_traffic = |slot: Slot| {
        let group = if slot == Slot::Blue { &names.blue_group } else { &names.green_group };
        weights.iter().any(|found| &found.arn == group && found.weight.unwrap_or(1) > 0)
    };
    let candidate = running.and_then(|running| running.candidate());
    match trigger {
        ToolTrigger::NothingRunning if running.is_none() => {
            [Slot::Blue, Slot::Green].into_iter().find(|slot| !has_traffic(*slot))
        }
        ToolTrigger::NothingRunning => None,
        ToolTrigger::CandidateHasTraffic => candidate.filter(|slot| has_traffic(*slot)),
        ToolTrigger::CandidateAlarmFires => candidate.filter(|slot| {
            let alarm = if *slot == Slot::Blue { &names.blue_alarm } else { &names.green_alarm };
            has_traffic(*slot) && simulation.world(|world| world.alarm_fires(alarm))
        }),
        ToolTrigger::RollingBack => {
            candidate.filter(|_| running.is_some_and(|running| running.stage() == rollout::Stage::RollingBack))
        }
    }
}

/// A migration, a test of the candidate, and somebody who hears of it.
fn hooks() -> Vec<Hook> {
    let hook = |text: &str, at, run| Hook { name: name(text), at, run, deadline: Seconds(120), forward_only: false };
    let [smoke, announce] = HOOK_FUNCTIONS.map(|function| HookAction::Lambda { function: function.to_owned() });
    let migrate = HookAction::Task { container: "app".to_owned(), command: vec!["migrate".to_owned()] };
    vec![
        hook("migrate", HookPoint::BeforeTraffic, migrate),
        hook("smoke", HookPoint::TestTraffic, smoke),
        hook("announce", HookPoint::AfterTraffic, announce),
    ]
}

/// How the alarms of a day are set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AlarmSetup {
    /// One for each side, which takes silence for health.
    PerSide,
    /// The same with CloudWatch's default: silent while their side has no traffic.
    Silent,
    /// One more over both sides together.
    Combined,
}

/// The alarm over both sides together, on days that have one.
fn combined_alarm_name(target: &TargetId) -> String {
    format!("shop-api-{}-5xx", target.environment)
}

/// Sets the alarms up as they are on that day.
fn set_alarms(pipeline: &Pipeline, alarms: AlarmSetup) {
    for target in targets() {
        let names = pipeline.simulation.at(&target).names().clone();
        pipeline.simulation.world(|world| {
            let known = world.describe_alarms(&[names.blue_alarm, names.green_alarm]).expect("they are there");
            for alarm in known {
                let AlarmKind::Metric(metric) = alarm.kind else { continue };
                let put = match alarms {
                    AlarmSetup::PerSide => continue,
                    AlarmSetup::Silent => MetricAlarm { treat_missing: TreatMissing::Missing, ..metric },
                    AlarmSetup::Combined => {
                        MetricAlarm { name: combined_alarm_name(&target), target_group: None, ..metric }
                    }
                };
                world.put_metric_alarm(put).expect("CloudWatch takes it");
            }
        });
    }
}

fn day_run(seed: u64, faults: Faults) -> DayRun {
    let (scaled, hooked) = (seed % 4 < 2, seed % 5 < 2);
    let alarms = match seed % 7 {
        4 => AlarmSetup::Silent,
        5 => AlarmSetup::Combined,
        _ => AlarmSetup::PerSide,
    };
    let plan = PipelineBuilder::of(&["api/dev", "api/staging", "api/prod"])
        .scenes(|scene| {
            scene.autoscaling = scaled.then_some((2, 8));
            if seed % 9 == 2 {
                scene.drift = Drift::Revert;
            }
        })
        .promoted("staging", "dev", 60)
        .promoted("prod", "staging", 0)
        .approved("prod")
        .policy(move |policy| {
            let prod = environment_of(policy, "prod");
            prod.entry.approval.as_mut().expect("it has one").expires = Seconds(HOUR);
            prod.entry.hotfix_skips = [Gate::After, Gate::Soak, Gate::Approval].into();
            for target in targets().iter().filter(|_| alarms == AlarmSetup::Combined) {
                let environment = environment_of(policy, target.environment.as_str());
                let watched = &mut environment.targets.get_mut(&name("api")).expect("a target").alarms;
                watched.push(AlarmPolicy { name: combined_alarm_name(target), ..watched[0].clone() });
            }
            if hooked {
                for environment in ["dev", "staging", "prod"] {
                    let api = environment_of(policy, environment).targets.get_mut(&name("api")).expect("a target");
                    api.hooks = hooks();
                }
            }
        });
    let mut pipeline = plan.build_with(Settings { seed, log_calls: false, ..Settings::default() }, faults);
    set_alarms(&pipeline, alarms);
    for function in HOOK_FUNCTIONS {
        pipeline.simulation.world(|world| world.put_function(function, FunctionBehaviour::succeeds()));
    }
    if seed % 8 > 5 {
        // To tell everything takes a third of the time again: on some days is often enough.
        pipeline.simulation.enable_notifications();
    }
    if scaled && !seed.is_multiple_of(3) {
        for target in targets() {
            let names = pipeline.simulation.at(&target).names().clone();
            for service in [&names.blue, &names.green] {
                let put = pipeline.simulation.world(|world| world.put_scaling_policy(&names.cluster, service, 2.0));
                put.expect("it has limits");
            }
        }
    }
    DayRun {
        pipeline,
        active_brakes: BTreeMap::new(),
        past_brakes: Vec::new(),
        highest_shares: BTreeMap::new(),
        edited_by_hand: BTreeSet::new(),
        pending_tools: Vec::new(),
        saw_unevaluated_alarm: false,
        cloudtrail_enabled: seed % 4 > 1,
        images: BTreeMap::new(),
        degraded: BTreeSet::new(),
        scaled_to_zero: BTreeSet::new(),
    }
}

impl DayRun {
    fn perform_action(&mut self, what: &DayAction) {
        let [_, _, prod] = targets();
        match what {
            DayAction::Push { number, behaviour } => {
                self.images.insert(*number, behaviour.clone());
                self.pipeline.set_image(*number, behaviour.clone());
                self.pipeline.push("api", *number);
            }
            DayAction::Vote { user, subject, reject } => self.vote(&prod, user, *subject, *reject),
            DayAction::Rollback { target } => {
                self.pipeline.ask(target, Instruction::Rollback, carol(), ROLLBACK_REASON)
            }
            DayAction::Abort { target } => {
                self.pipeline.ask(target, Instruction::Abort { deployment: None }, carol(), "let us go home");
            }
            DayAction::Deploy { target, number, hotfix, forward_only } => {
                let lane = if *hotfix { Lane::Hotfix } else { Lane::Asked };
                self.pipeline.deploy(
                    target,
                    *number,
                    DeployOptions { lane, forward_only: *forward_only, ..DeployOptions::default() },
                );
            }
            DayAction::Resume { target } => self.pipeline.ask(target, Instruction::Resume, carol(), "it is well again"),
            DayAction::SetFunction { name, behaviour } => {
                self.pipeline.simulation.world(|world| world.put_function(name, behaviour.clone()));
            }
            DayAction::Brake { scope } => {
                if !self.active_brakes.contains_key(scope) {
                    self.pipeline.brake(scope.clone(), "it is late");
                    self.active_brakes.insert(scope.clone(), self.pipeline.simulation.now());
                }
            }
            DayAction::LiftBrake => self.lift_first_brake(),
            DayAction::ApplyPolicy { bake } => {
                let bake = *bake;
                self.pipeline.apply(|policy| {
                    let api = environment_of(policy, "prod").targets.get_mut(&name("api")).expect("a target");
                    api.strategy.bake = bake;
                });
            }
            DayAction::EditWeights { target, blue } => self.edit_weights(target, *blue),
            DayAction::EditDesired { target, slot, desired } => self.set_desired(target, *slot, *desired),
            DayAction::EditLimits { target, slot, min, max } => {
                let (cluster, service) = self.service(target, *slot);
                let edit = RegisterScalableTarget {
                    service_namespace: "ecs".to_owned(),
                    resource_id: format!("service/{cluster}/{service}"),
                    scalable_dimension: "ecs:service:DesiredCount".to_owned(),
                    min_capacity: Some(i64::from(*min)),
                    max_capacity: Some(i64::from(*max)),
                    suspended_state: None,
                };
                let known = self.pipeline.simulation.world(|world| world.has_scaling_limits(&cluster, &service));
                if known {
                    self.pipeline.simulation.world(|world| world.register_scalable_target(edit)).expect("it is there");
                }
            }
            DayAction::KillTasks { target, slot, tasks } => {
                let (cluster, service) = self.service(target, *slot);
                self.pipeline.simulation.world(|world| {
                    for task in world.running_tasks(&cluster, &service).into_iter().take(*tasks) {
                        world.kill_task(&task, 137).expect("it runs");
                    }
                });
            }
            DayAction::SetTraffic { target, per_second } => {
                let rule = self.pipeline.simulation.at(target).names().rule.clone();
                self.pipeline.simulation.world(|world: &mut World| world.set_traffic(&rule, *per_second));
            }
            DayAction::FavourWrongSide { target, trigger, share } => {
                self.pending_tools.push((target.clone(), *trigger, *share))
            }
            DayAction::DegradeSide { target, affected, mode } => self.degrade_side(target, *affected, *mode),
            DayAction::Recover { target } => self.recover(target),
            DayAction::ScaleToZero { target } => self.scale_to_zero(target),
            DayAction::ScaleUp { target } => self.scale_up(target),
            DayAction::Retag { tag, number, silent } => {
                let mode = if *silent { Started::Silent } else { Started::Event };
                if self.images.contains_key(number) {
                    self.pipeline.simulation.tag(*number, &format!("v{tag}"), mode);
                }
            }
            DayAction::DeleteImage { number } if self.images.contains_key(number) => {
                self.pipeline.simulation.delete_image(*number)
            }
            DayAction::DeleteImage { .. } => {}
            DayAction::SuspendAlarm { target, slot, mode } => self.set_evaluation(target, *slot, Some(*mode)),
            DayAction::ResumeAlarm { target, slot } => self.set_evaluation(target, *slot, None),
            DayAction::ScheduleLimits { target, slot, min, max } => self.schedule(target, *slot, *min, *max),
            DayAction::Nothing => {}
            DayAction::WriteWithoutLease { target } => self.write_without_lease(target),
        }
    }

    /// Writes weights without holding the target, if anything was ever deployed there.
    fn write_without_lease(&mut self, target: &TargetId) {
        if self.pipeline.state(target).last_deployment == 0 {
            return;
        }
        let policy = self.pipeline.policy.target(target).expect("it is in the policy");
        let (pair, effect) =
            (policy.pair.clone(), Effect::SetWeights { weights: Weights { blue: 100, green: 0 }, seen: vec![] });
        let (_, cloud, ..) = self.pipeline.simulation.ports();
        let mut write = pin!(cloud.perform(&pair, &effect));
        for _ in 0..10 {
            if write.as_mut().poll(&mut Context::from_waker(&noop_waker())).is_ready() {
                return;
            }
            self.pipeline.simulation.run_for(1);
        }
    }

    /// Cluster and service of a side.
    fn service(&self, target: &TargetId, slot: Slot) -> (String, String) {
        let names = self.pipeline.simulation.at(target).names();
        let service = if slot == Slot::Blue { &names.blue } else { &names.green };
        (names.cluster.clone(), service.clone())
    }

    fn edit_weights(&mut self, target: &TargetId, blue: i64) {
        self.pipeline.edit_weights(target, blue);
        if self.cloudtrail_enabled {
            let simulation = &self.pipeline.simulation;
            simulation.send_edit_event(&simulation.at(target).names().rule);
        }
        self.edited_by_hand.insert(target.clone());
    }

    /// Lets everything happen for so many seconds; tools write as soon as their moments come.
    fn run_for(&mut self, seconds: u64) {
        let limit = Seconds(seconds).after(self.pipeline.simulation.now());
        while !self.pending_tools.is_empty() && self.pipeline.simulation.violation().is_none() {
            let left = Seconds::between(self.pipeline.simulation.now(), limit);
            let pending_tools = &self.pending_tools;
            let is_triggered = |simulation: &mut Simulation| {
                pending_tools.iter().any(|pending_tool| triggered_side(simulation, pending_tool).is_some())
            };
            if left.0 == 0 || !self.pipeline.simulation.run_until_condition(left.0, is_triggered) {
                break;
            }
            for pending_tool in std::mem::take(&mut self.pending_tools) {
                match triggered_side(&self.pipeline.simulation, &pending_tool) {
                    Some(slot) => {
                        let share = i64::from(pending_tool.2);
                        self.edit_weights(&pending_tool.0, if slot == Slot::Blue { share } else { 100 - share });
                    }
                    None => self.pending_tools.push(pending_tool),
                }
            }
        }
        self.pipeline.simulation.run_until(limit);
    }

    /// Somebody, who may or may not, says yes or no to what waits, or to what waited.
    fn vote(&mut self, target: &TargetId, user: &str, subject: VoteSubject, reject: bool) {
        let waits = self.pipeline.state(target).running.and_then(|running| Some((running.number, running.gates?.plan)));
        let Some((deployment, plan)) = waits else { return };
        let (deployment, plan) = match subject {
            VoteSubject::PreviousDeployment => (deployment.saturating_sub(1), plan),
            VoteSubject::OtherPlan => (deployment, PlanId("0123456789abcdef".to_owned())),
            VoteSubject::Current => (deployment, plan),
        };
        let instruction =
            if reject { Instruction::Reject { deployment, plan } } else { Instruction::Approve { deployment, plan } };
        self.pipeline.ask(target, instruction, slack(user), "as you like");
    }

    fn lift_first_brake(&mut self) {
        if let Some((scope, since)) = self.active_brakes.pop_first() {
            self.pipeline.lift_brake(&scope);
            self.past_brakes.push((scope, since, self.pipeline.simulation.now()));
            self.highest_shares.clear();
        }
    }

    fn violation_of(&self, what: &'static Invariant, target: &TargetId, words: impl Into<String>) -> Violation {
        Violation::of(what, self.pipeline.simulation.now(), Some(target), words)
    }

    /// While the line is stopped, no deployment of a release gets more traffic than it had.
    fn check_no_widening(&mut self) -> Result<(), Violation> {
        let Some(since) = self.active_brakes.get(&Scope::Everything) else { return Ok(()) };
        if self.pipeline.simulation.now() < IN_FLIGHT.after(*since) {
            return Ok(());
        }
        for target in targets() {
            let Some(running) = self.pipeline.state(&target).running else { continue };
            let (Purpose::Deploy, Some(candidate)) = (running.purpose, running.candidate()) else { continue };
            let (blue, green) = self.pipeline.weights(&target);
            let live = if candidate == Slot::Blue { blue } else { green };
            let live = if self.edited_by_hand.contains(&target) { 0 } else { live };
            // What was decided before may still be on its way: its call failed, and is repeated.
            let decided = running.weights().map_or(0, |record| i64::from(record.decided.of(candidate)));
            let share = live.max(decided);
            let before = *self.highest_shares.entry((target.clone(), running.number)).or_insert(share);
            if share > before {
                let words = format!("#{} went from {before} to {share}", running.number);
                return Err(self.violation_of(&NO_WIDENING_WHILE_STOPPED, &target, words));
            }
            self.highest_shares.insert((target.clone(), running.number), share);
        }
        Ok(())
    }

    /// What must be true of prod's deployments, as the journals have them.
    fn check_production_approvals(&self) -> Result<(), Violation> {
        let [_, staging, prod] = targets();
        let mut deployments: BTreeMap<u64, Vec<JournalEntry>> = BTreeMap::new();
        for entry in self.pipeline.journal(&prod) {
            if let Some(number) = entry.deployment {
                deployments.entry(number).or_default().push(entry);
            }
        }
        for (number, entries) in &deployments {
            let Some(Fact::Started { digest, reason, .. }) = entries.first().map(|entry| &entry.fact) else { continue };
            let hotfix = entries.iter().any(|entry| matches!(entry.fact, Fact::HotfixStarted { .. }));
            let enters = |entry: &JournalEntry, wanted: &str| matches!(&entry.fact, Fact::StageEntered { stage, .. } if stage.name() == wanted);
            // Both sides may be asleep then, and it goes back to its gates.
            let began = entries.iter().rfind(|entry| enters(entry, "preflight"));
            let changed_aws = entries
                .iter()
                .any(|entry| matches!(entry.fact, Fact::TaskDefinitionReady { .. } | Fact::WeightsDecided { .. }));
            let violation_of =
                |words: String| Err(self.violation_of(&PRODUCTION_WAS_APPROVED, &prod, format!("#{number}: {words}")));
            // What is in production already, and whose traffic somebody else moved, gets it back without a gate.
            let is_repair = !entries.iter().any(|entry| enters(entry, "registering") || enters(entry, "scaling"));
            let was_live = || self.pipeline.has(&prod, was_verified(digest)) || self.has_succeeded(&prod, digest);
            if reason == ROLLBACK_REASON || hotfix || (is_repair && was_live()) {
                continue;
            }
            let Some(JournalEntry { at: began, sequence, .. }) = began else {
                if changed_aws {
                    return violation_of("it did not wait at its gates".to_owned());
                }
                continue;
            };
            if !self.was_verified_before(&staging, digest, *began) {
                return violation_of("it was not verified in staging".to_owned());
            }
            let is_voiding =
                |entry: &JournalEntry| matches!(entry.fact, Fact::PlanChanged { .. }) && entry.sequence < *sequence;
            let voided = entries.iter().rposition(is_voiding).unwrap_or(0);
            let approvers: BTreeSet<&str> = entries[voided..]
                .iter()
                .filter_map(|entry| match &entry.fact {
                    Fact::Approved { person, .. } if entry.sequence < *sequence => Some(person.as_str()),
                    _ => None,
                })
                .collect();
            if approvers.len() < 2 {
                return violation_of(format!("only {approvers:?} said yes"));
            }
            for (scope, since, until) in &self.past_brakes {
                if scope.covers(&prod) && IN_FLIGHT.after(*since) <= *began && Seconds(2).after(*began) < *until {
                    return violation_of(format!(
                        "it began at {began} though {scope} was braked from {since} to {until}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether a deployment of this image has succeeded: one that was live already is verified by nobody.
    fn has_succeeded(&self, target: &TargetId, digest: &str) -> bool {
        let journal = self.pipeline.journal(target);
        let of_image = |entry: &JournalEntry| matches!(&entry.fact, Fact::Started { digest: of, .. } if of == digest);
        let numbers: BTreeSet<_> = journal.iter().filter(|it| of_image(it)).map(|it| it.deployment).collect();
        let succeeded = |fact: &Fact| matches!(fact, Fact::Ended { verdict: Verdict::Succeeded, .. });
        journal.iter().any(|entry| succeeded(&entry.fact) && numbers.contains(&entry.deployment))
    }

    /// A release counted as verified when it went on, or a moment before.
    fn was_verified_before(&self, staging: &TargetId, digest: &str, began: Timestamp) -> bool {
        let mut verified_since = None;
        // Clocks of two passes may be off by a little, and one may have read before the other wrote.
        let told = |entry: &JournalEntry| entry.at <= Seconds(4).after(began);
        for entry in self.pipeline.journal(staging).into_iter().filter(told) {
            match entry.fact {
                Fact::Verified { digest: known, .. } if known == digest => verified_since = Some(entry.at),
                Fact::VerificationRevoked { digest: known, .. }
                    if known == digest && IN_FLIGHT.after(entry.at) < began =>
                {
                    verified_since = None;
                }
                _ => {}
            }
        }
        verified_since.is_some()
    }

    /// The promise that was broken, if time stands still for one.
    fn check_invariants(&self) -> Result<(), Violation> {
        self.pipeline.simulation.violation().map_or(Ok(()), |violation| Err(violation.clone()))
    }

    fn settle(&mut self) -> Result<(), Violation> {
        while !self.active_brakes.is_empty() {
            self.lift_first_brake();
        }
        for target in targets() {
            self.scale_up(&target);
            self.recover(&target);
            for slot in [Slot::Blue, Slot::Green] {
                self.set_evaluation(&target, slot, None);
            }
        }
        // What waits behind something frozen may freeze in its turn.
        for _ in 0..3 {
            self.resolve_operator_waits();
        }
        self.reaches_idle()?;
        for target in targets() {
            self.restore_whole_weights(&target)?;
        }
        self.pipeline.simulation.run_for(300);
        self.pipeline.simulation.check_when_idle();
        self.check_invariants()?;
        for target in targets() {
            let state = self.pipeline.state(&target);
            if state.running.is_some() || !state.queued.is_empty() || !state.outbox.is_empty() {
                return Err(self.violation_of(&ENDS_IDLE, &target, format!("{state:?}")));
            }
            let (blue, green) = self.pipeline.weights(&target);
            if blue != 0 && green != 0 {
                return Err(self.violation_of(&ENDS_IDLE, &target, format!("it is left at {blue}/{green}")));
            }
        }
        Ok(())
    }

    /// Nothing that has no way back ends by itself, nothing goes on while the stable side's own alarm fires, and nothing
    /// begins where one was let go of: somebody decides.
    fn resolve_operator_waits(&mut self) {
        self.pipeline.simulation.run_for(HOUR);
        for target in targets() {
            let state = self.pipeline.state(&target);
            let running = state.running.as_ref();
            if running.is_some_and(|running| running.awaiting_operator().is_some()) {
                self.pipeline.ask(&target, Instruction::Rollback, carol(), ROLLBACK_REASON);
            }
            if running.is_some_and(|running| running.stable_alarm().is_some()) {
                self.pipeline.ask(&target, Instruction::Resume, carol(), "the new release is the better one");
            }
            if state.operator_hold.is_some() {
                self.pipeline.ask(&target, Instruction::Resume, carol(), "it is put right");
            }
        }
    }

    fn reaches_idle(&mut self) -> Result<(), Violation> {
        let reaches_idle = self.pipeline.simulation.run_until_idle(30 * HOUR);
        self.check_invariants()?;
        // Weights that the policy would put back, and cannot yet, are looked at for as long as they are so.
        let is_waiting_to_revert = |target: &TargetId| {
            let state = self.pipeline.state(target);
            let idle = state.running.is_none() && state.queued.is_empty() && state.outbox.is_empty();
            idle && state.idle.is_some_and(|seen| seen.drift.is_some())
        };
        if reaches_idle || targets().iter().any(is_waiting_to_revert) {
            return Ok(());
        }
        let [_, _, prod] = targets();
        let told = |target: &TargetId| {
            let state = self.pipeline.state(target);
            let running = state.running.as_ref().map(|running| (running.number, running.stage().name()));
            format!("{target}: {running:?}, waits on {:?}, wakes at {:?}", state.explanation.waiting_on, state.wake_at)
        };
        let all = targets().each_ref().map(told).join("; ");
        Err(self.violation_of(&ENDS_IDLE, &prod, format!("a day later something still goes on: {all}")))
    }

    /// Whoever meddled with the weights leaves it to a rollback to put all traffic on one side again, or does so by hand
    /// where there is nothing to go back to.
    fn restore_whole_weights(&mut self, target: &TargetId) -> Result<(), Violation> {
        for by_hand in [false, true] {
            let (blue, green) = self.pipeline.weights(target);
            // Whoever aborts what waits for a person, or decides nothing for hours, leaves everything as it is.
            let abandon = |fact: &Fact| matches!(fact, Fact::CleanupIncomplete { .. });
            let was_frozen = |fact: &Fact| matches!(fact, Fact::AwaitingOperator { .. } | Fact::StableAlarm { .. });
            let left = self.pipeline.has(target, was_frozen) && self.pipeline.has(target, abandon);
            let may_be_split = left || self.edited_by_hand.contains(target);
            let drifted = self.pipeline.state(target).idle.is_some_and(|seen| seen.drift.is_some());
            if ((blue == 0) != (green == 0) && !drifted) || !may_be_split {
                return Ok(());
            }
            if by_hand {
                let stable = self.pipeline.state(target).stable.map_or(Slot::Blue, |stable| stable.slot);
                self.edit_weights(target, if stable == Slot::Blue { 100 } else { 0 });
            } else {
                self.pipeline.ask(target, Instruction::Rollback, carol(), ROLLBACK_REASON);
            }
            self.reaches_idle()?;
        }
        Ok(())
    }
}

/// Whether a fact says that this image was verified.
fn was_verified(wanted: &str) -> impl Fn(&Fact) -> bool {
    move |fact| matches!(fact, Fact::Verified { digest, .. } if digest == wanted)
}

/// How many days are lived through; `SIMULATION_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}

/// Days that meet what the first ones do not.
const RARE_CONDITION_SEEDS: [u64; 3] = [139, 269, 811];

/// Days that once ended badly, each for a defect that was mended then. Where days are drawn in another way, they are other
/// days, and prove no more than others do.
const REGRESSION_SEEDS: [u64; 13] = [
    1_441,
    500_663,
    502_017,
    502_723,
    505_100,
    600_267,
    601_291,
    603_619,
    606_359,
    703_423,
    705_631,
    706_963,
    247_330_912_149_543,
];

#[test]
fn regression_seeds_end_in_order() {
    for seed in REGRESSION_SEEDS {
        day(seed);
    }
}

#[test]
fn only_verified_and_approved_releases_reach_production() {
    let (mut verified_in_prod, mut coverage) = (0, BTreeSet::new());
    for seed in (0..seeds()).chain(RARE_CONDITION_SEEDS) {
        let day = day(seed);
        verified_in_prod += day.verified_in_prod;
        coverage.extend(day.coverage);
    }
    assert!(verified_in_prod > 10, "{verified_in_prod} deployments in prod prove little");
    for what in run::REQUIRED_COVERAGE {
        assert!(coverage.contains(what), "no day met {what}, of {coverage:?}");
    }
}
