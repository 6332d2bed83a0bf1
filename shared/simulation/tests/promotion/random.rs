//! People, pushes and meddling at random, in a world where calls fail now and then: whatever is done, every promise of
//! [`simulation::invariants`] holds after every step, nothing gets to production that was not verified before and that two
//! people have not said yes to, and nothing widens while the line is stopped.

mod conditions;
mod lived;

use crate::day::{About, FUNCTIONS, Happening, Ill, Moment, What, Whom, happenings};
use crate::street::{HOUR, Plan, Street, carol, environment_of, name, slack, target};
use engine::Cloud as _;
use engine::recorder::Wanted;
use futures::task::noop_waker;
pub(crate) use lived::{Day, day, recorded};
use rollout::brake::Scope;
use rollout::explanation::WaitingOn;
use rollout::journal::{Fact, JournalEntry};
use rollout::policy::{AlarmPolicy, Drift, Hook, HookAction, HookPoint};
use rollout::recording::{read, replay};
use rollout::snapshot::Weights;
use rollout::stage::Verdict;
use rollout::target::Purpose;
use rollout::{Effect, Gate, Instruction, Lane, PlanId, Seconds, Slot, TargetId, Terms, Timestamp};
use simulation::invariants::{Invariant, Violation};
use simulation::minimal::smallest;
use simulation::virtual_time::{Faults, Simulation, Started, Struck};
use simulation::world::alarms::{AlarmKind, MetricAlarm, TreatMissing};
use simulation::world::ecs::UpdateService;
use simulation::world::scaling::RegisterScalableTarget;
use simulation::world::{Dice, FunctionBehaviour, ImageBehaviour, Settings, World};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;

const ROLLBACK: &str = "the cart is empty";
/// What a pass that was under way may still do after something was changed: it has read it before.
const UNDER_WAY: Seconds = Seconds(75);
/// How often a day that ends badly is lived through again at most, to find out what it takes.
const TRIES: usize = 300;
/// Of so many days that end badly it is found out; the others only say so.
const SHRUNK: usize = 3;

const ALLOWED: Invariant = Invariant {
    name: "allowed",
    sentence: "nothing gets to production that was not verified before and approved by two people",
};
const LINE: Invariant = Invariant { name: "line", sentence: "nothing widens while the line is stopped" };
const RESTS: Invariant = Invariant { name: "rests", sentence: "everything comes to an end, and to rest" };

fn targets() -> [TargetId; 3] {
    [target("shop/api/dev"), target("shop/api/staging"), target("shop/api/prod")]
}

/// A day, being lived through.
struct Chaos {
    street: Street,
    /// Which brakes are on, since when.
    on: BTreeMap<Scope, Timestamp>,
    /// Which brakes were on, from when until when.
    was_on: Vec<(Scope, Timestamp, Timestamp)>,
    /// While the line is stopped: the candidate's share of each deployment that runs.
    held: BTreeMap<(TargetId, u64), i64>,
    /// Whose rules somebody has edited.
    meddled: BTreeSet<TargetId>,
    /// Tools that write a rule as soon as their moment has come.
    tools: Vec<(TargetId, Moment, u8)>,
    /// How images behave that are not ill.
    images: BTreeMap<u64, ImageBehaviour>,
    /// Images that are ill, and of which target somebody said so.
    ill: BTreeSet<(TargetId, u64)>,
    /// Whether a deployment has waited for an alarm that was not evaluated.
    unevaluated: bool,
    /// Whether CloudTrail tells who edited a rule.
    has_trail: bool,
    /// Whose sides are asleep.
    asleep: BTreeSet<TargetId>,
}

/// Requests a second that a target gets where nobody changes that.
const USUAL_REQUESTS: f64 = 5.0;
/// Tasks of a side that wakes up.
const USUAL_TASKS: u32 = 4;

fn faults(seed: u64) -> Faults {
    let rate = if seed.is_multiple_of(2) { 0.0 } else { 0.03 * Dice::new(seed ^ 0x000c_4a05).unit() };
    // A world in which nothing ever works cannot come to an end: what is left of the day is undisturbed.
    let day = happenings(seed, &targets()).last().map_or(Seconds(0), |last| last.after);
    let until = Some(Seconds(day.0 + 600).after(Settings::default().start));
    Faults { until, ..Faults::everywhere(seed, rate) }
}

/// The side that a tool favours, if its moment has come: the candidate, or at rest the side without tasks.
fn has_come(simulation: &Simulation, (target, moment, _): &(TargetId, Moment, u8)) -> Option<Slot> {
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
    match moment {
        Moment::AtRest if running.is_none() => [Slot::Blue, Slot::Green].into_iter().find(|slot| !has_traffic(*slot)),
        Moment::AtRest => None,
        Moment::Carrying => candidate.filter(|slot| has_traffic(*slot)),
        Moment::Firing => candidate.filter(|slot| {
            let alarm = if *slot == Slot::Blue { &names.blue_alarm } else { &names.green_alarm };
            has_traffic(*slot) && simulation.world(|world| world.alarm_fires(alarm))
        }),
        Moment::GoingBack => candidate
            .filter(|_| running.is_some_and(|running| matches!(running.stage, rollout::Stage::RollingBack { .. }))),
    }
}

/// A migration, a test of the candidate, and somebody who hears of it.
fn hooks() -> Vec<Hook> {
    let hook = |text: &str, at, run| Hook { name: name(text), at, run, deadline: Seconds(120), forward_only: false };
    let [smoke, announce] = FUNCTIONS.map(|function| HookAction::Lambda { function: function.to_owned() });
    let migrate = HookAction::Task { container: "app".to_owned(), command: vec!["migrate".to_owned()] };
    vec![
        hook("migrate", HookPoint::BeforeTraffic, migrate),
        hook("smoke", HookPoint::TestTraffic, smoke),
        hook("announce", HookPoint::AfterTraffic, announce),
    ]
}

/// How the alarms of a day are set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alarms {
    /// One for each side, which takes silence for health.
    OfEachSide,
    /// The same with CloudWatch's default: silent while their side has no traffic.
    Silent,
    /// One more over both sides together.
    OfBothSides,
}

/// The alarm over both sides together, on days that have one.
fn alarm_of_both(target: &TargetId) -> String {
    format!("shop-api-{}-5xx", target.environment)
}

/// Sets the alarms up as they are on that day.
fn set_alarms(street: &Street, alarms: Alarms) {
    for target in targets() {
        let names = street.simulation.at(&target).names().clone();
        street.simulation.world(|world| {
            let known = world.describe_alarms(&[names.blue_alarm, names.green_alarm]).expect("they are there");
            for alarm in known {
                let AlarmKind::Metric(metric) = alarm.kind else { continue };
                let put = match alarms {
                    Alarms::OfEachSide => continue,
                    Alarms::Silent => MetricAlarm { treat_missing: TreatMissing::Missing, ..metric },
                    Alarms::OfBothSides => MetricAlarm { name: alarm_of_both(&target), target_group: None, ..metric },
                };
                world.put_metric_alarm(put).expect("CloudWatch takes it");
            }
        });
    }
}

fn chaos(seed: u64, faults: Faults) -> Chaos {
    let (scaled, hooked) = (seed % 4 < 2, seed % 5 < 2);
    let alarms = match seed % 7 {
        4 => Alarms::Silent,
        5 => Alarms::OfBothSides,
        _ => Alarms::OfEachSide,
    };
    let plan = Plan::of(&["api/dev", "api/staging", "api/prod"])
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
            for target in targets().iter().filter(|_| alarms == Alarms::OfBothSides) {
                let environment = environment_of(policy, target.environment.as_str());
                let watched = &mut environment.targets.get_mut(&name("api")).expect("a target").alarms;
                watched.push(AlarmPolicy { name: alarm_of_both(target), ..watched[0].clone() });
            }
            if hooked {
                for environment in ["dev", "staging", "prod"] {
                    let api = environment_of(policy, environment).targets.get_mut(&name("api")).expect("a target");
                    api.hooks = hooks();
                }
            }
        });
    let mut street = plan.build_with(Settings { seed, log_calls: false, ..Settings::default() }, faults);
    set_alarms(&street, alarms);
    for function in FUNCTIONS {
        street.simulation.world(|world| world.put_function(function, FunctionBehaviour::succeeds()));
    }
    if seed % 8 > 5 {
        // To tell everything takes a third of the time again: on some days is often enough.
        street.simulation.tell_journals();
    }
    if scaled && !seed.is_multiple_of(3) {
        for target in targets() {
            let names = street.simulation.at(&target).names().clone();
            for service in [&names.blue, &names.green] {
                let put = street.simulation.world(|world| world.put_scaling_policy(&names.cluster, service, 2.0));
                put.expect("it has limits");
            }
        }
    }
    Chaos {
        street,
        on: BTreeMap::new(),
        was_on: Vec::new(),
        held: BTreeMap::new(),
        meddled: BTreeSet::new(),
        tools: Vec::new(),
        unevaluated: false,
        has_trail: seed % 4 > 1,
        images: BTreeMap::new(),
        ill: BTreeSet::new(),
        asleep: BTreeSet::new(),
    }
}

impl Chaos {
    fn happens(&mut self, what: &What) {
        let [_, _, prod] = targets();
        match what {
            What::Push { number, behaviour } => {
                self.images.insert(*number, behaviour.clone());
                self.street.set_image(*number, behaviour.clone());
                self.street.push("api", *number);
            }
            What::Answer { user, about, no } => self.answers(&prod, user, *about, *no),
            What::Rollback { target } => self.street.ask(target, Instruction::Rollback, carol(), ROLLBACK),
            What::Abort { target } => {
                self.street.ask(target, Instruction::Abort { deployment: None }, carol(), "let us go home");
            }
            What::Deploy { target, number, hotfix, forward_only } => {
                let lane = if *hotfix { Lane::Hotfix } else { Lane::Asked };
                self.street.deploy(target, *number, Terms { lane, forward_only: *forward_only, ..Terms::default() });
            }
            What::Resume { target } => self.street.ask(target, Instruction::Resume, carol(), "it is well again"),
            What::Function { name, behaviour } => {
                self.street.simulation.world(|world| world.put_function(name, behaviour.clone()));
            }
            What::Brake { scope } => {
                if !self.on.contains_key(scope) {
                    self.street.brake(scope.clone(), "it is late");
                    self.on.insert(scope.clone(), self.street.simulation.now());
                }
            }
            What::Lift => self.lift_one(),
            What::Policy { bake } => {
                let bake = *bake;
                self.street.apply(|policy| {
                    let api = environment_of(policy, "prod").targets.get_mut(&name("api")).expect("a target");
                    api.strategy.bake = bake;
                });
            }
            What::EditWeights { target, blue } => self.edit_weights(target, *blue),
            What::EditDesired { target, slot, desired } => self.set_desired(target, *slot, *desired),
            What::EditLimits { target, slot, min, max } => {
                let (cluster, service) = self.service(target, *slot);
                let edit = RegisterScalableTarget {
                    service_namespace: "ecs".to_owned(),
                    resource_id: format!("service/{cluster}/{service}"),
                    scalable_dimension: "ecs:service:DesiredCount".to_owned(),
                    min_capacity: Some(i64::from(*min)),
                    max_capacity: Some(i64::from(*max)),
                    suspended_state: None,
                };
                let known = self.street.simulation.world(|world| world.limits_are_set(&cluster, &service));
                if known {
                    self.street.simulation.world(|world| world.register_scalable_target(edit)).expect("it is there");
                }
            }
            What::Kill { target, slot, tasks } => {
                let (cluster, service) = self.service(target, *slot);
                self.street.simulation.world(|world| {
                    for task in world.running_tasks(&cluster, &service).into_iter().take(*tasks) {
                        world.kill_task(&task, 137).expect("it runs");
                    }
                });
            }
            What::Requests { target, per_second } => {
                let rule = self.street.simulation.at(target).names().rule.clone();
                self.street.simulation.world(|world: &mut World| world.set_traffic(&rule, *per_second));
            }
            What::Favour { target, moment, share } => self.tools.push((target.clone(), *moment, *share)),
            What::Sicken { target, whom, how } => self.sicken(target, *whom, *how),
            What::Recover { target } => self.recover(target),
            What::Sleep { target } => self.sleep(target),
            What::WakeUp { target } => self.wake_up(target),
            What::Retag { tag, number, silent } => {
                let how = if *silent { Started::Silent } else { Started::Event };
                if self.images.contains_key(number) {
                    self.street.simulation.tag(*number, &format!("v{tag}"), how);
                }
            }
            What::Delete { number } if self.images.contains_key(number) => self.street.simulation.delete_image(*number),
            What::Delete { .. } => {}
            What::Unevaluated { target, slot, how } => self.set_evaluation(target, *slot, Some(*how)),
            What::Evaluated { target, slot } => self.set_evaluation(target, *slot, None),
            What::Schedule { target, slot, min, max } => self.schedule(target, *slot, *min, *max),
            What::Nothing => {}
            What::Ghost { target } => self.haunt(target),
        }
    }

    /// Writes weights without holding the target, if anything was ever deployed there.
    fn haunt(&mut self, target: &TargetId) {
        if self.street.state(target).last_deployment == 0 {
            return;
        }
        let policy = self.street.policy.target(target).expect("it is in the policy");
        let (pair, effect) =
            (policy.pair.clone(), Effect::SetWeights { weights: Weights { blue: 100, green: 0 }, seen: vec![] });
        let (_, cloud, ..) = self.street.simulation.ports();
        let mut written = pin!(cloud.perform(&pair, &effect));
        for _ in 0..10 {
            if written.as_mut().poll(&mut Context::from_waker(&noop_waker())).is_ready() {
                return;
            }
            self.street.simulation.run_for(1);
        }
    }

    /// Cluster and service of a side.
    fn service(&self, target: &TargetId, slot: Slot) -> (String, String) {
        let names = self.street.simulation.at(target).names();
        let service = if slot == Slot::Blue { &names.blue } else { &names.green };
        (names.cluster.clone(), service.clone())
    }

    fn edit_weights(&mut self, target: &TargetId, blue: i64) {
        self.street.edit_weights(target, blue);
        if self.has_trail {
            let simulation = &self.street.simulation;
            simulation.tell_of_edit(&simulation.at(target).names().rule);
        }
        self.meddled.insert(target.clone());
    }

    /// Lets everything happen for so many seconds; tools write as soon as their moments come.
    fn runs(&mut self, seconds: u64) {
        let limit = Seconds(seconds).after(self.street.simulation.now());
        while !self.tools.is_empty() && self.street.simulation.violation().is_none() {
            let left = Seconds::between(self.street.simulation.now(), limit);
            let tools = &self.tools;
            let come = |simulation: &mut Simulation| tools.iter().any(|tool| has_come(simulation, tool).is_some());
            if left.0 == 0 || !self.street.simulation.run_until_that(left.0, come) {
                break;
            }
            for tool in std::mem::take(&mut self.tools) {
                match has_come(&self.street.simulation, &tool) {
                    Some(slot) => {
                        let share = i64::from(tool.2);
                        self.edit_weights(&tool.0, if slot == Slot::Blue { share } else { 100 - share });
                    }
                    None => self.tools.push(tool),
                }
            }
        }
        self.street.simulation.run_until(limit);
    }

    /// Somebody, who may or may not, says yes or no to what waits, or to what waited.
    fn answers(&mut self, target: &TargetId, user: &str, about: About, no: bool) {
        let waits = self.street.state(target).running.and_then(|running| Some((running.number, running.gates?.plan)));
        let Some((deployment, plan)) = waits else { return };
        let (deployment, plan) = match about {
            About::TheOneBefore => (deployment.saturating_sub(1), plan),
            About::AnotherPlan => (deployment, PlanId("0123456789abcdef".to_owned())),
            About::What => (deployment, plan),
        };
        let instruction =
            if no { Instruction::Reject { deployment, plan } } else { Instruction::Approve { deployment, plan } };
        self.street.ask(target, instruction, slack(user), "as you like");
    }

    fn lift_one(&mut self) {
        if let Some((scope, since)) = self.on.pop_first() {
            self.street.lift(&scope);
            self.was_on.push((scope, since, self.street.simulation.now()));
            self.held.clear();
        }
    }

    fn broken(&self, what: &'static Invariant, target: &TargetId, words: impl Into<String>) -> Violation {
        Violation::of(what, self.street.simulation.now(), Some(target), words)
    }

    /// While the line is stopped, no deployment of a release gets more traffic than it had.
    fn nothing_widens(&mut self) -> Result<(), Violation> {
        let Some(since) = self.on.get(&Scope::Everything) else { return Ok(()) };
        if self.street.simulation.now() < UNDER_WAY.after(*since) {
            return Ok(());
        }
        for target in targets() {
            let Some(running) = self.street.state(&target).running else { continue };
            let (Purpose::Deploy, Some(candidate)) = (running.purpose, running.candidate()) else { continue };
            let (blue, green) = self.street.weights(&target);
            let live = if candidate == Slot::Blue { blue } else { green };
            let live = if self.meddled.contains(&target) { 0 } else { live };
            // What was decided before may still be on its way: its call failed, and is repeated.
            let decided = running.weights.map_or(0, |record| i64::from(record.decided.of(candidate)));
            let share = live.max(decided);
            let before = *self.held.entry((target.clone(), running.number)).or_insert(share);
            if share > before {
                let words = format!("#{} went from {before} to {share}", running.number);
                return Err(self.broken(&LINE, &target, words));
            }
            self.held.insert((target.clone(), running.number), share);
        }
        Ok(())
    }

    /// What must be true of prod's deployments, as the journals have them.
    fn all_of_production_was_allowed(&self) -> Result<(), Violation> {
        let [_, staging, prod] = targets();
        let mut deployments: BTreeMap<u64, Vec<JournalEntry>> = BTreeMap::new();
        for entry in self.street.journal(&prod) {
            if let Some(number) = entry.deployment {
                deployments.entry(number).or_default().push(entry);
            }
        }
        for (number, entries) in &deployments {
            let Some(Fact::Started { digest, reason, .. }) = entries.first().map(|entry| &entry.fact) else { continue };
            let hotfix = entries.iter().any(|entry| matches!(entry.fact, Fact::Hotfixed { .. }));
            let enters = |entry: &JournalEntry, wanted: &str| matches!(&entry.fact, Fact::StageEntered { stage, .. } if stage == wanted);
            // Both sides may be asleep then, and it goes back to its gates.
            let began = entries.iter().rfind(|entry| enters(entry, "preflight"));
            let touched = entries
                .iter()
                .any(|entry| matches!(entry.fact, Fact::TaskDefinitionReady { .. } | Fact::WeightsDecided { .. }));
            let broken = |words: String| Err(self.broken(&ALLOWED, &prod, format!("#{number}: {words}")));
            // What is in production already, and whose traffic somebody else moved, gets it back without a gate.
            let repair = !entries.iter().any(|entry| enters(entry, "registering") || enters(entry, "scaling"));
            let was_live = || self.street.has(&prod, was_verified(digest)) || self.went_through(&prod, digest);
            if reason == ROLLBACK || hotfix || (repair && was_live()) {
                continue;
            }
            let Some(JournalEntry { at: began, sequence, .. }) = began else {
                if touched {
                    return broken("it did not wait at its gates".to_owned());
                }
                continue;
            };
            if !self.was_verified_before(&staging, digest, *began) {
                return broken("it was not verified in staging".to_owned());
            }
            let void =
                |entry: &JournalEntry| matches!(entry.fact, Fact::PlanChanged { .. }) && entry.sequence < *sequence;
            let voided = entries.iter().rposition(void).unwrap_or(0);
            let yes: BTreeSet<&str> = entries[voided..]
                .iter()
                .filter_map(|entry| match &entry.fact {
                    Fact::Approved { person, .. } if entry.sequence < *sequence => Some(person.as_str()),
                    _ => None,
                })
                .collect();
            if yes.len() < 2 {
                return broken(format!("only {yes:?} said yes"));
            }
            for (scope, since, until) in &self.was_on {
                if scope.covers(&prod) && UNDER_WAY.after(*since) <= *began && Seconds(2).after(*began) < *until {
                    return broken(format!("it began at {began} though {scope} was braked from {since} to {until}"));
                }
            }
        }
        Ok(())
    }

    /// Whether a deployment of this image has succeeded: one that was live already is verified by nobody.
    fn went_through(&self, target: &TargetId, digest: &str) -> bool {
        let journal = self.street.journal(target);
        let of_image = |entry: &JournalEntry| matches!(&entry.fact, Fact::Started { digest: of, .. } if of == digest);
        let numbers: BTreeSet<_> = journal.iter().filter(|it| of_image(it)).map(|it| it.deployment).collect();
        let succeeded = |fact: &Fact| matches!(fact, Fact::Ended { verdict: Verdict::Succeeded, .. });
        journal.iter().any(|entry| succeeded(&entry.fact) && numbers.contains(&entry.deployment))
    }

    /// A release counted as verified when it went on, or a moment before.
    fn was_verified_before(&self, staging: &TargetId, digest: &str, began: Timestamp) -> bool {
        let mut since_when = None;
        // Clocks of two passes may be off by a little, and one may have read before the other wrote.
        let told = |entry: &JournalEntry| entry.at <= Seconds(4).after(began);
        for entry in self.street.journal(staging).into_iter().filter(told) {
            match entry.fact {
                Fact::Verified { digest: known, .. } if known == digest => since_when = Some(entry.at),
                Fact::Withdrawn { digest: known, .. } if known == digest && UNDER_WAY.after(entry.at) < began => {
                    since_when = None;
                }
                _ => {}
            }
        }
        since_when.is_some()
    }

    /// The promise that was broken, if time stands still for one.
    fn so_far(&self) -> Result<(), Violation> {
        self.street.simulation.violation().map_or(Ok(()), |violation| Err(violation.clone()))
    }

    fn comes_to_rest(&mut self) -> Result<(), Violation> {
        while !self.on.is_empty() {
            self.lift_one();
        }
        for target in targets() {
            self.wake_up(&target);
            self.recover(&target);
            for slot in [Slot::Blue, Slot::Green] {
                self.set_evaluation(&target, slot, None);
            }
        }
        // What waits behind something frozen may freeze in its turn.
        for _ in 0..3 {
            self.decides_what_is_frozen();
        }
        self.rests()?;
        for target in targets() {
            self.tidies_up(&target)?;
        }
        self.street.simulation.run_for(300);
        self.street.simulation.check_rest();
        self.so_far()?;
        for target in targets() {
            let state = self.street.state(&target);
            if state.running.is_some() || !state.queued.is_empty() || !state.errands.is_empty() {
                return Err(self.broken(&RESTS, &target, format!("{state:?}")));
            }
            let (blue, green) = self.street.weights(&target);
            if blue != 0 && green != 0 {
                return Err(self.broken(&RESTS, &target, format!("it is left at {blue}/{green}")));
            }
        }
        Ok(())
    }

    /// Nothing that has no way back ends by itself, nothing goes on while the stable side's own alarm fires, and nothing
    /// begins where one was let go of: somebody decides.
    fn decides_what_is_frozen(&mut self) {
        self.street.simulation.run_for(HOUR);
        for target in targets() {
            let state = self.street.state(&target);
            let running = state.running.as_ref();
            if running.is_some_and(|running| running.frozen.is_some()) {
                self.street.ask(&target, Instruction::Rollback, carol(), ROLLBACK);
            }
            if running.is_some_and(|running| running.stable_alarm.is_some()) {
                self.street.ask(&target, Instruction::Resume, carol(), "the new release is the better one");
            }
            if state.frozen.is_some() {
                self.street.ask(&target, Instruction::Resume, carol(), "it is put right");
            }
        }
    }

    fn rests(&mut self) -> Result<(), Violation> {
        let rests = self.street.simulation.run_until_rest(30 * HOUR);
        self.so_far()?;
        // Weights that the policy would put back, and cannot yet, are looked at for as long as they are so.
        let waits_to_revert = |target: &TargetId| {
            let state = self.street.state(target);
            let idle = state.running.is_none() && state.queued.is_empty() && state.errands.is_empty();
            idle && state.at_rest.is_some_and(|seen| seen.drift.is_some())
        };
        if rests || targets().iter().any(waits_to_revert) {
            return Ok(());
        }
        let [_, _, prod] = targets();
        let told = |target: &TargetId| {
            let state = self.street.state(target);
            let running = state.running.as_ref().map(|running| (running.number, running.stage.name()));
            format!("{target}: {running:?}, waits on {:?}, wakes at {:?}", state.explanation.waiting_on, state.wake_at)
        };
        let all = targets().each_ref().map(told).join("; ");
        Err(self.broken(&RESTS, &prod, format!("a day later something still goes on: {all}")))
    }

    /// Whoever meddled with the weights leaves it to a rollback to put all traffic on one side again, or does so by hand
    /// where there is nothing to go back to.
    fn tidies_up(&mut self, target: &TargetId) -> Result<(), Violation> {
        for by_hand in [false, true] {
            let (blue, green) = self.street.weights(target);
            // Whoever aborts what waits for a person, or decides nothing for hours, leaves everything as it is.
            let let_go = |fact: &Fact| matches!(fact, Fact::LeftBehind { .. });
            let was_frozen = |fact: &Fact| matches!(fact, Fact::Frozen { .. } | Fact::StableAlarm { .. });
            let left = self.street.has(target, was_frozen) && self.street.has(target, let_go);
            let may_be_split = left || self.meddled.contains(target);
            let drifted = self.street.state(target).at_rest.is_some_and(|seen| seen.drift.is_some());
            if ((blue == 0) != (green == 0) && !drifted) || !may_be_split {
                return Ok(());
            }
            if by_hand {
                let stable = self.street.state(target).stable.map_or(Slot::Blue, |stable| stable.slot);
                self.edit_weights(target, if stable == Slot::Blue { 100 } else { 0 });
            } else {
                self.street.ask(target, Instruction::Rollback, carol(), ROLLBACK);
            }
            self.rests()?;
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
    std::env::var("SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// Days that meet what the first ones do not.
const RARE: [u64; 3] = [139, 269, 811];

/// Days that once ended badly, each for a defect that was mended then. Where days are drawn in another way, they are other
/// days, and prove no more than others do.
const ONCE_BAD: [u64; 13] = [
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
fn days_that_once_ended_badly_end_in_order() {
    for seed in ONCE_BAD {
        day(seed);
    }
}

#[test]
fn whatever_people_do_only_what_was_verified_and_approved_gets_to_production() {
    let (mut reached, mut met) = (0, BTreeSet::new());
    for seed in (0..seeds()).chain(RARE) {
        let day = day(seed);
        reached += day.reached;
        met.extend(day.met);
    }
    assert!(reached > 10, "{reached} deployments in prod prove little");
    for what in lived::ALL_MEET {
        assert!(met.contains(what), "no day met {what}, of {met:?}");
    }
}
