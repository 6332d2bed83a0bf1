//! Every promise of [`simulation::invariants`] can be broken, and whoever watches says so in words: a ghost takes the target
//! as a pass does, and does what no pass may do.

#[path = "invariants/in_place.rs"]
mod in_place;

use engine::{Clock as _, Cloud as _, Commit, LeaseId, LeaseRequest};
use futures::task::noop_waker;
use rollout::journal::{Fact, JournalEntry};
use rollout::phase::{Moving, Phase};
use rollout::snapshot::{Autoscaling, Weights};
use rollout::target::TargetState;
use rollout::verdict::Verdict;
use rollout::weighted::{ForwardStep, WeightedStage, WeightsRecord};
use rollout::{
    Actor, Cause, Command, CommandId, Effect, Instruction, Name, Outcome, Seconds, Slot, TargetId, observation,
};
use simulation::invariants::{self, DeliveryLog, Invariant};
use simulation::virtual_time::{Faults, PushAnnouncement, SimCloud, Simulation};
use simulation::world::balancer::{ActionKind, ElbTarget};
use simulation::world::scene::{self, digest_of};
use simulation::world::{BuiltApplication, ImageBehaviour, PairSetup, Settings};
use std::pin::pin;
use std::task::{Context, Poll};

/// A deployment that has got to `stage`, and is watched.
fn at_stage(stage: &str) -> Simulation {
    let mut scene = PairSetup::new("shop", "api", "dev");
    scene.autoscaling = Some((2, 8));
    watched_at(scene.build(Settings::default()), stage)
}

/// A deployment of this scene that has got to `stage`, and is watched.
fn watched_at(built: impl Into<BuiltApplication>, stage: &str) -> Simulation {
    let mut simulation = Simulation::new(built, Faults::default());
    simulation.watch();
    simulation.push(1, PushAnnouncement::Event);
    let reached = simulation.run_until_condition(600, |simulation| simulation.stage_name() == Some(stage));
    assert!(reached && simulation.violation().is_none(), "{:?}\n{}", simulation.violation(), simulation.journal_text());
    wait_until_released(&mut simulation);
    simulation
}

/// Until no pass holds the target.
fn wait_until_released(simulation: &mut Simulation) {
    let is_released = |simulation: &mut Simulation| simulation.ledger().store().holder(simulation.target()).is_none();
    assert!(simulation.run_until_condition(60, is_released));
}

fn run_until_ready<T>(simulation: &mut Simulation, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..60 {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut Context::from_waker(&noop_waker())) {
            return answer;
        }
        simulation.run_for(1);
    }
    panic!("no call takes a minute")
}

/// Holds the target, and does as it likes.
struct RogueDriver {
    cloud: SimCloud,
    lease: LeaseId,
    revision: u64,
    state: TargetState,
}

impl RogueDriver {
    fn acquire(simulation: &Simulation) -> Self {
        let (_, cloud, _, clock) = simulation.ports();
        let (lease, now) = (clock.unique_id(), simulation.now());
        let claim = LeaseRequest { lease, now, steal: None, lasts: engine::MAX_LEASE };
        let lease_result =
            simulation.ledger().store().acquire_lease(simulation.target(), &claim).expect("it can be read");
        let engine::LeaseOutcome::Granted(loaded) = lease_result else { panic!("somebody holds it") };
        Self { cloud, lease: claim.lease, revision: loaded.revision, state: loaded.state }
    }

    fn perform(&self, simulation: &mut Simulation, effect: &Effect) {
        let resources = self.state.running.as_ref().expect("something runs").policy.resources.clone();
        let outcome = run_until_ready(simulation, self.cloud.perform(&resources, effect));
        assert_eq!(outcome, Outcome::Done);
        simulation.run_for(1);
    }

    fn observe(&self, simulation: &mut Simulation) {
        run_until_ready(simulation, self.cloud.observe(&observation(&self.state).expect("something runs")));
        simulation.run_for(1);
    }

    fn decide_weights(&mut self, weights: Weights) {
        let running = self.state.running.as_mut().expect("something runs");
        let Phase::Moving(Moving::Weighted(weighted)) = &mut running.phase else { panic!("no sides yet") };
        let before = weighted.weights.map_or(weights, |record| record.decided);
        weighted.weights = Some(WeightsRecord { before, decided: weights, verified: false, may_still_be_live: None });
    }

    fn write_entry(&mut self, simulation: &mut Simulation, deployment: Option<u64>, fact: Fact) {
        self.state.last_entry += 1;
        let entry = JournalEntry {
            target: self.state.target.clone(),
            sequence: self.state.last_entry,
            deployment,
            at: simulation.now(),
            actor: Actor::Switchback,
            fact,
        };
        self.commit(simulation, &[entry], &[]);
    }

    fn commit(&mut self, simulation: &mut Simulation, journal: &[JournalEntry], consumed: &[CommandId]) {
        let state = &self.state;
        let commit =
            Commit { state, journal, history: &[], consumed, overdue_at: None, release_lease: false, lock: None };
        let target = simulation.target().clone();
        let written = simulation.ledger().store().commit(&target, &self.lease, self.revision, &commit);
        self.revision = written.expect("it holds the target");
        simulation.run_for(1);
    }
}

#[track_caller]
fn expect_violation(simulation: &Simulation, invariant: &Invariant, words: &str) {
    let violation = simulation.violation().unwrap_or_else(|| panic!("nobody noticed: {}", invariant.name));
    assert_eq!(violation.invariant, invariant.name, "{violation}");
    assert!(violation.words.contains(words), "{violation}");
    assert!(violation.to_string().starts_with(invariant.sentence), "{violation}");
}

fn weights(blue: u16, green: u16) -> Weights {
    Weights { blue, green }
}

#[test]
fn a_normal_deployment_breaks_no_invariant() {
    let mut simulation = at_stage("baking");
    assert!(simulation.run_until_idle(3600));
    simulation.check_when_idle();
    assert_eq!(simulation.violation(), None, "{}", simulation.journal_text());
}

#[test]
fn detects_traffic_to_a_side_without_healthy_targets() {
    let mut simulation = at_stage("scaling");
    let mut driver = RogueDriver::acquire(&simulation);
    driver.decide_weights(weights(90, 10));
    driver.commit(&mut simulation, &[], &[]);
    driver.perform(&mut simulation, &Effect::SetWeights { weights: weights(90, 10), seen: vec![] });
    expect_violation(
        &simulation,
        &invariants::TRAFFIC_ONLY_TO_HEALTHY_TARGETS,
        "the weight of green rises from 0 to 10 without a healthy target",
    );
}

#[test]
fn detects_scale_down_under_traffic() {
    let mut simulation = at_stage("scaling");
    let driver = RogueDriver::acquire(&simulation);
    driver.perform(&mut simulation, &Effect::SetDesired { slot: Slot::Blue, desired: 3 });
    expect_violation(
        &simulation,
        &invariants::NO_SCALE_DOWN_UNDER_TRAFFIC,
        "api-blue was scaled down from 4 to 3 tasks; the rule has 100/0",
    );
}

#[test]
fn detects_autoscaling_in_of_the_stable_side() {
    let mut simulation = at_stage("shifting");
    let names = simulation.names().clone();
    simulation.world(|world| world.put_scaling_policy(&names.cluster, &names.blue, 20.0)).expect("it has limits");
    let driver = RogueDriver::acquire(&simulation);
    let limits = Autoscaling { min: 2, max: 8, scale_in_suspended: false, scheduled_suspended: false };
    driver.perform(&mut simulation, &Effect::SetAutoscaling { slot: Slot::Blue, limits });
    simulation.run_for(70);
    expect_violation(&simulation, &invariants::NO_AUTOSCALING_IN_OF_STABLE, "api-blue was scaled in from 4 to 3 tasks");
}

#[test]
fn detects_lost_requests() {
    let mut simulation = at_stage("scaling");
    let group = simulation.names().blue_group.clone();
    simulation.world(|world| {
        let all = world.describe_target_health(&group).expect("it is there");
        let all: Vec<ElbTarget> = all.into_iter().map(|found| found.target).collect();
        world.deregister_targets(&group, &all).expect("they are there");
    });
    simulation.run_for(5);
    expect_violation(&simulation, &invariants::NO_REQUEST_LOST, "api-blue had no target for its requests");
}

#[test]
fn detects_weights_that_do_not_sum_to_100() {
    let mut simulation = at_stage("baking");
    let mut driver = RogueDriver::acquire(&simulation);
    driver.decide_weights(weights(60, 60));
    driver.commit(&mut simulation, &[], &[]);
    driver.perform(&mut simulation, &Effect::SetWeights { weights: weights(60, 60), seen: vec![] });
    expect_violation(&simulation, &invariants::WEIGHTS_SUM_TO_WHOLE, "were set to 60/60");
}

#[test]
fn detects_writes_without_the_lease() {
    let mut simulation = at_stage("baking");
    let driver = RogueDriver::acquire(&simulation);
    let target = simulation.target().clone();
    simulation.ledger().store().release(&target, &driver.lease);
    driver.perform(&mut simulation, &Effect::SetWeights { weights: weights(0, 100), seen: vec![] });
    expect_violation(&simulation, &invariants::ONLY_LEASE_HOLDER_WRITES, "performed set_weights while");
}

#[test]
fn detects_weights_that_were_not_decided() {
    let mut simulation = at_stage("baking");
    let driver = RogueDriver::acquire(&simulation);
    driver.perform(&mut simulation, &Effect::SetWeights { weights: weights(100, 0), seen: vec![] });
    expect_violation(
        &simulation,
        &invariants::ONLY_LEASE_HOLDER_WRITES,
        "were written, and Some(Weights { blue: 0, green: 100 }) were decided",
    );
}

#[test]
fn detects_overwriting_a_foreign_edit() {
    let mut simulation = at_stage("baking");
    let driver = RogueDriver::acquire(&simulation);
    edit_weight(&simulation, 30);
    // Until nothing at AWS tells any more what the rule was before.
    simulation.run_for(10);
    driver.observe(&mut simulation);
    driver.perform(&mut simulation, &Effect::SetWeights { weights: weights(0, 100), seen: vec![] });
    expect_violation(
        &simulation,
        &invariants::NO_FORWARD_OVERWRITE_OF_FOREIGN_EDITS,
        "were written over 30/100, which was observed and set by another",
    );
}

/// Somebody gives the first group of the rule another weight.
fn edit_weight(simulation: &Simulation, blue: i64) {
    let rule = simulation.names().rule.clone();
    simulation.world(|world| {
        let mut actions =
            world.describe_rules(None, std::slice::from_ref(&rule)).expect("it is there")[0].actions.clone();
        let ActionKind::Forward(forward) = &mut actions[0].what else { panic!("it forwards") };
        forward.target_groups[0].weight = Some(blue);
        world.modify_rule(&rule, None, Some(actions)).expect("it is there");
    });
}

#[test]
fn detects_an_alarm_without_a_rollback() {
    let mut simulation = at_stage("shifting");
    let alarm = simulation.names().green_alarm.clone();
    simulation.world(|world| world.set_image(digest_of(1).as_str(), ImageBehaviour::failing(1.0)));
    let driver = RogueDriver::acquire(&simulation);
    assert!(simulation.run_until_condition(15, |simulation| simulation.world(|world| world.alarm_fires(&alarm))));
    driver.observe(&mut simulation);
    simulation.run_for(62);
    expect_violation(&simulation, &invariants::ROLLBACK_WITHIN_A_MINUTE_OF_ALARM, "green-5xx fires since");
}

#[test]
fn detects_a_rollback_onto_the_alarmed_side() {
    let mut simulation = at_stage("shifting");
    let mut driver = RogueDriver::acquire(&simulation);
    let cause = Cause::Alarm { name: simulation.names().blue_alarm.clone(), reason: "no data".to_owned() };
    driver.write_entry(&mut simulation, Some(1), Fact::RollbackStarted { cause });
    expect_violation(&simulation, &invariants::NO_ROLLBACK_ONTO_ALARMED_SIDE, "blue-5xx watches the stable side alone");
}

#[test]
fn detects_shown_traffic_that_was_not_observed() {
    let mut simulation = at_stage("shifting");
    let mut driver = RogueDriver::acquire(&simulation);
    edit_weight(&simulation, 30);
    simulation.run_for(6);
    driver.observe(&mut simulation);
    driver.commit(&mut simulation, &[], &[]);
    expect_violation(
        &simulation,
        &invariants::SHOWN_TRAFFIC_WAS_OBSERVED,
        "are shown as verified live, and the rules had 30/10",
    );
}

#[test]
fn detects_two_deployments_of_one_target() {
    let mut simulation = at_stage("baking");
    let mut driver = RogueDriver::acquire(&simulation);
    let started = Fact::Started {
        digest: "sha256:2".to_owned(),
        tag: "v2".to_owned(),
        policy_version: 1,
        reason: String::new(),
        despite_alarms: Vec::new(),
    };
    driver.write_entry(&mut simulation, Some(2), started);
    expect_violation(&simulation, &invariants::ONE_DEPLOYMENT_PER_TARGET, "starts while Some(1) runs");
}

#[test]
fn detects_a_stage_past_its_deadline() {
    let mut simulation = at_stage("baking");
    let mut driver = RogueDriver::acquire(&simulation);
    let start = Settings::default().start;
    let running = driver.state.running.as_mut().expect("something runs");
    let Phase::Moving(Moving::Weighted(weighted)) = &mut running.phase else { panic!("no sides yet") };
    let WeightedStage::Forward(forward) = &mut weighted.at else { panic!("{:?}", weighted.at) };
    forward.step = ForwardStep::AfterTraffic { deadline: start };
    let later = Seconds(1_300);
    driver.commit(&mut simulation, &[], &[]);
    simulation.world(|world| world.advance_to(later.after(start)));
    simulation.run_for(1);
    expect_violation(&simulation, &invariants::STAGES_END_WITHIN_DEADLINE, "#1 is still in stage after_traffic");
}

fn ended(verdict: Verdict, live: Slot) -> Fact {
    Fact::Ended { verdict, reason: String::new(), live: Some(live) }
}

#[test]
fn detects_a_rollback_that_ends_on_the_wrong_side() {
    let mut simulation = at_stage("baking");
    let mut driver = RogueDriver::acquire(&simulation);
    driver.state.running = None;
    driver.write_entry(&mut simulation, Some(1), ended(Verdict::RolledBack, Slot::Green));
    expect_violation(
        &simulation,
        &invariants::ALL_TRAFFIC_ON_ONE_SIDE_AT_END,
        "ended as RolledBack, and Some(Green) is live instead of blue",
    );
}

#[test]
fn detects_autoscaling_limits_not_restored() {
    let mut simulation = at_stage("scaling");
    let mut driver = RogueDriver::acquire(&simulation);
    driver.state.running = None;
    driver.write_entry(&mut simulation, Some(1), ended(Verdict::Failed, Slot::Blue));
    expect_violation(
        &simulation,
        &invariants::CHANGED_SETTINGS_RESTORED,
        "#1 ended, and the limits of api-blue are Some((2, 8,",
    );
}

#[test]
fn detects_a_false_journal_entry() {
    let mut simulation = at_stage("shifting");
    let mut driver = RogueDriver::acquire(&simulation);
    driver.observe(&mut simulation);
    driver.write_entry(&mut simulation, Some(1), Fact::WeightsVerified { weights: weights(0, 100) });
    expect_violation(&simulation, &invariants::JOURNAL_MATCHES_WORLD, "are live, and the rules had 90/10");
}

#[test]
fn detects_a_gap_in_the_journal() {
    let mut simulation = at_stage("baking");
    let mut driver = RogueDriver::acquire(&simulation);
    let last = driver.state.last_entry;
    driver.state.last_entry += 1;
    driver.write_entry(&mut simulation, None, Fact::PromotionResumed);
    expect_violation(
        &simulation,
        &invariants::JOURNAL_HAS_NO_GAPS,
        &format!("entry {} follows entry {last}", last + 2),
    );
}

#[test]
fn detects_two_services_of_an_environment_deployed_at_once() {
    let scenes = ["api", "web"].map(|service| PairSetup::new("shop", service, "dev"));
    let mut built = scene::build_with_services(&scenes, &[], Settings::default());
    built.policy.environments.values_mut().for_each(|environment| environment.entry.one_at_a_time = true);
    let mut simulation = watched_at(built, "baking");
    let web = TargetId { service: Name::new("web").expect("a name"), ..simulation.target().clone() };
    let claim = LeaseRequest {
        lease: LeaseId("ghost".to_owned()),
        now: simulation.now(),
        steal: None,
        lasts: engine::MAX_LEASE,
    };
    let mut store = simulation.ledger().store();
    let Ok(engine::LeaseOutcome::Granted(loaded)) = store.acquire_lease(&web, &claim) else { panic!("it is free") };
    let running = store.peek(simulation.target()).and_then(|state| state.running.clone());
    let started = store.entries(simulation.target(), 0).find(|entry| matches!(entry.fact, Fact::Started { .. }));
    let started = JournalEntry { target: web.clone(), sequence: 1, ..started.expect("it began").clone() };
    // It does not ask for the lock, so the ledger takes it.
    let state = TargetState { running, last_entry: 1, ..loaded.state };
    let commit = Commit {
        state: &state,
        journal: &[started],
        history: &[],
        consumed: &[],
        overdue_at: None,
        release_lease: false,
        lock: None,
    };
    store.commit(&web, &claim.lease, loaded.revision, &commit).expect("it has the lease");
    drop(store);
    simulation.run_for(1);
    expect_violation(
        &simulation,
        &invariants::ONE_SERVICE_AT_A_TIME,
        "goes on while shop/api/dev has its deployment #1",
    );
}

#[test]
fn detects_a_command_consumed_twice() {
    let mut simulation = at_stage("baking");
    let mut driver = RogueDriver::acquire(&simulation);
    let pushed = CommandId(format!("push:{}", simulation::world::scene::digest_of(1)));
    driver.commit(&mut simulation, &[], std::slice::from_ref(&pushed));
    expect_violation(&simulation, &invariants::COMMANDS_CONSUMED_ONCE, "push:sha256:");
}

#[test]
fn detects_a_command_without_a_wake() {
    let mut simulation = at_stage("baking");
    let _driver = RogueDriver::acquire(&simulation);
    let target = simulation.target().clone();
    let actor = Actor::Person { name: "operator".to_owned() };
    let at = simulation.now();
    let command = Command::requested(target, Instruction::Rollback, actor, "", "one", at);
    simulation.ledger().store().put_command(&command);
    simulation.check_when_idle();
    expect_violation(&simulation, &invariants::NO_COMMAND_LOST, "asked:one is not consumed, and no wake is pending");
}

#[test]
fn detects_changed_repeats_and_out_of_order_deliveries() {
    let simulation = at_stage("baking");
    let (target, now) = (simulation.target(), simulation.now());
    let mut delivery_log = DeliveryLog::default();
    assert_eq!(delivery_log.deliver("bus", target, 1, "it began", now), None);
    assert_eq!(delivery_log.deliver("bus", target, 1, "it began", now), None, "once more is the same by content");
    let again = delivery_log.deliver("bus", target, 1, "it ended", now).expect("other words");
    assert_eq!(again.invariant, invariants::ENTRIES_DELIVERED_ONCE.name, "{again}");
    assert_eq!(delivery_log.deliver("bus", target, 3, "it ended", now), None);
    assert_eq!(delivery_log.missing("bus", target, 3), Some(2));
    let late = delivery_log.deliver("bus", target, 2, "it moved", now).expect("out of order");
    assert!(late.words.contains("received entry 2 after entry 3"), "{late}");
}

#[test]
fn every_invariant_has_a_unique_name_and_a_sentence() {
    let names: std::collections::BTreeSet<&str> = invariants::ALL.iter().map(|invariant| invariant.name).collect();
    assert_eq!(names.len(), invariants::ALL.len());
    assert!(invariants::ALL.iter().all(|invariant| invariant.sentence.len() > 15));
}
