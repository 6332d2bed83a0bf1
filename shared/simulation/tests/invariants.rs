//! Every promise of [`simulation::invariants`] can be broken, and whoever watches says so in words: a ghost takes the target
//! as a pass does, and does what no pass may do.

use engine::{Claim, Clock as _, Cloud as _, Commit, LeaseId};
use futures::task::noop_waker;
use rollout::journal::{Fact, JournalEntry};
use rollout::snapshot::{Autoscaling, Weights};
use rollout::stage::Verdict;
use rollout::target::{TargetState, WeightsRecord};
use rollout::{Actor, Cause, Command, CommandId, Effect, Instruction, Outcome, Seconds, Slot, Stage, look};
use simulation::invariants::{self, Invariant, Telling};
use simulation::virtual_time::{Faults, SimCloud, Simulation, Started};
use simulation::world::balancer::{ActionKind, TargetId as Address};
use simulation::world::scene::digest_of;
use simulation::world::{ImageBehaviour, Scene, Settings};
use std::pin::pin;
use std::task::{Context, Poll};

/// A deployment that has got to `stage`, and is watched.
fn at_stage(stage: &str) -> Simulation {
    let mut scene = Scene::new("shop", "api", "dev");
    scene.autoscaling = Some((2, 8));
    let mut simulation = Simulation::new(scene.build(Settings::default()), Faults::default());
    simulation.watch();
    simulation.push(1, Started::Event);
    let reached = simulation.run_until_that(600, |simulation| simulation.stage_name() == Some(stage));
    assert!(reached && simulation.violation().is_none(), "{:?}\n{}", simulation.violation(), simulation.story());
    // The pass that got there is over.
    assert!(
        simulation.run_until_that(60, |simulation| simulation.ledger().store().holder(simulation.target()).is_none())
    );
    simulation
}

fn wait<T>(simulation: &mut Simulation, future: impl Future<Output = T>) -> T {
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
struct Ghost {
    cloud: SimCloud,
    lease: LeaseId,
    revision: u64,
    state: TargetState,
}

impl Ghost {
    fn takes(simulation: &Simulation) -> Self {
        let (_, cloud, _, clock) = simulation.ports();
        let claim = Claim { lease: clock.lease_id(), now: simulation.now(), steal: None, lasts: engine::LEASE };
        let begun = simulation.ledger().store().begin(simulation.target(), &claim).expect("it can be read");
        let engine::Begin::Granted(loaded) = begun else { panic!("somebody holds it") };
        Self { cloud, lease: claim.lease, revision: loaded.revision, state: loaded.state }
    }

    fn performs(&self, simulation: &mut Simulation, effect: &Effect) {
        let pair = self.state.running.as_ref().expect("something runs").policy.pair.clone();
        let outcome = wait(simulation, self.cloud.perform(&pair, effect));
        assert_eq!(outcome, Outcome::Done);
        simulation.run_for(1);
    }

    fn looks(&self, simulation: &mut Simulation) {
        wait(simulation, self.cloud.observe(&look(&self.state).expect("something runs")));
        simulation.run_for(1);
    }

    fn decides(&mut self, weights: Weights) {
        let running = self.state.running.as_mut().expect("something runs");
        let before = running.weights.map_or(weights, |record| record.decided);
        running.weights = Some(WeightsRecord { before, decided: weights, verified: false });
    }

    fn tells(&mut self, simulation: &mut Simulation, deployment: Option<u64>, fact: Fact) {
        self.state.last_entry += 1;
        let entry = JournalEntry {
            target: self.state.target.clone(),
            sequence: self.state.last_entry,
            deployment,
            at: simulation.now(),
            actor: Actor::Switchback,
            fact,
        };
        self.commits(simulation, &[entry], &[]);
    }

    fn commits(&mut self, simulation: &mut Simulation, journal: &[JournalEntry], consumed: &[CommandId]) {
        let commit = Commit { state: &self.state, journal, history: &[], consumed, due_at: None, release_lease: false };
        let target = simulation.target().clone();
        let written = simulation.ledger().store().commit(&target, &self.lease, self.revision, &commit);
        self.revision = written.expect("it holds the target");
        simulation.run_for(1);
    }
}

#[track_caller]
fn says(simulation: &Simulation, promise: &Invariant, words: &str) {
    let violation = simulation.violation().unwrap_or_else(|| panic!("nobody noticed: {}", promise.name));
    assert_eq!(violation.invariant, promise.name, "{violation}");
    assert!(violation.words.contains(words), "{violation}");
    assert!(violation.to_string().starts_with(promise.sentence), "{violation}");
}

fn weights(blue: u16, green: u16) -> Weights {
    Weights { blue, green }
}

#[test]
fn an_undisturbed_deployment_breaks_nothing() {
    let mut simulation = at_stage("baking");
    assert!(simulation.run_until_rest(3600));
    simulation.check_rest();
    assert_eq!(simulation.violation(), None, "{}", simulation.story());
}

#[test]
fn traffic_to_a_side_without_healthy_targets_is_noticed() {
    let mut simulation = at_stage("scaling");
    let mut ghost = Ghost::takes(&simulation);
    ghost.decides(weights(90, 10));
    ghost.commits(&mut simulation, &[], &[]);
    ghost.performs(&mut simulation, &Effect::SetWeights { weights: weights(90, 10), seen: vec![] });
    says(&simulation, &invariants::HEALTHY_FIRST, "green goes from 0 to 10 with no healthy target");
}

#[test]
fn a_side_that_is_scaled_down_under_traffic_is_noticed() {
    let mut simulation = at_stage("scaling");
    let ghost = Ghost::takes(&simulation);
    ghost.performs(&mut simulation, &Effect::SetDesired { slot: Slot::Blue, desired: 3 });
    says(&simulation, &invariants::NEVER_UNDER_TRAFFIC, "api-blue goes from 4 to 3 tasks; its rule has 100/0");
}

#[test]
fn a_stable_side_that_the_autoscaler_may_shrink_is_noticed() {
    let mut simulation = at_stage("shifting");
    let names = simulation.names().clone();
    simulation.world(|world| world.put_scaling_policy(&names.cluster, &names.blue, 20.0)).expect("it has limits");
    let ghost = Ghost::takes(&simulation);
    let limits = Autoscaling { min: 2, max: 8, scale_in_suspended: false, scheduled_suspended: false };
    ghost.performs(&mut simulation, &Effect::SetAutoscaling { slot: Slot::Blue, limits });
    simulation.run_for(70);
    says(&simulation, &invariants::STABLE_STAYS, "api-blue goes from 4 to 3");
}

#[test]
fn lost_requests_are_noticed() {
    let mut simulation = at_stage("scaling");
    let group = simulation.names().blue_group.clone();
    simulation.world(|world| {
        let all = world.describe_target_health(&group).expect("it is there");
        let all: Vec<Address> = all.into_iter().map(|found| found.target).collect();
        world.deregister_targets(&group, &all).expect("they are there");
    });
    simulation.run_for(5);
    says(&simulation, &invariants::NOTHING_LOST, "api-blue has no target for its requests");
}

#[test]
fn weights_that_are_not_whole_are_noticed() {
    let mut simulation = at_stage("baking");
    let mut ghost = Ghost::takes(&simulation);
    ghost.decides(weights(60, 60));
    ghost.commits(&mut simulation, &[], &[]);
    ghost.performs(&mut simulation, &Effect::SetWeights { weights: weights(60, 60), seen: vec![] });
    says(&simulation, &invariants::WEIGHTS_WHOLE, "was given 60/60");
}

#[test]
fn a_writer_who_does_not_hold_the_target_is_noticed() {
    let mut simulation = at_stage("baking");
    let ghost = Ghost::takes(&simulation);
    let target = simulation.target().clone();
    simulation.ledger().store().release(&target, &ghost.lease);
    ghost.performs(&mut simulation, &Effect::SetWeights { weights: weights(0, 100), seen: vec![] });
    says(&simulation, &invariants::ONE_WRITER, "did set_weights while");
}

#[test]
fn weights_that_nobody_decided_are_noticed() {
    let mut simulation = at_stage("baking");
    let ghost = Ghost::takes(&simulation);
    ghost.performs(&mut simulation, &Effect::SetWeights { weights: weights(100, 0), seen: vec![] });
    says(&simulation, &invariants::ONE_WRITER, "are written, and Some(Weights { blue: 0, green: 100 }) were decided");
}

#[test]
fn another_hand_that_is_written_over_is_noticed() {
    let mut simulation = at_stage("baking");
    let ghost = Ghost::takes(&simulation);
    edits(&simulation, 30);
    // Until nothing at AWS tells any more what the rule was before.
    simulation.run_for(10);
    ghost.looks(&mut simulation);
    ghost.performs(&mut simulation, &Effect::SetWeights { weights: weights(0, 100), seen: vec![] });
    says(&simulation, &invariants::HANDS_OFF, "written over 30/100, which was seen to be another's");
}

/// Somebody gives the first group of the rule another weight.
fn edits(simulation: &Simulation, blue: i64) {
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
fn a_firing_alarm_that_nobody_answers_is_noticed() {
    let mut simulation = at_stage("shifting");
    let alarm = simulation.names().green_alarm.clone();
    simulation.world(|world| world.set_image(digest_of(1).as_str(), ImageBehaviour::failing(1.0)));
    let ghost = Ghost::takes(&simulation);
    assert!(simulation.run_until_that(15, |simulation| simulation.world(|world| world.alarm_fires(&alarm))));
    ghost.looks(&mut simulation);
    simulation.run_for(62);
    says(&simulation, &invariants::ALARM_ANSWERED, "green-5xx fires since");
}

#[test]
fn traffic_that_goes_onto_the_side_that_an_alarm_accuses_is_noticed() {
    let mut simulation = at_stage("shifting");
    let mut ghost = Ghost::takes(&simulation);
    let cause = Cause::Alarm { name: simulation.names().blue_alarm.clone(), reason: "no data".to_owned() };
    ghost.tells(&mut simulation, Some(1), Fact::RollbackStarted { cause });
    says(&simulation, &invariants::NOT_ONTO_THE_ACCUSED, "blue-5xx sees the stable side alone");
}

#[test]
fn traffic_that_is_shown_as_seen_and_was_not_so_is_noticed() {
    let mut simulation = at_stage("shifting");
    let mut ghost = Ghost::takes(&simulation);
    edits(&simulation, 30);
    simulation.run_for(6);
    ghost.looks(&mut simulation);
    ghost.commits(&mut simulation, &[], &[]);
    says(&simulation, &invariants::SHOWN_SEEN, "are shown as seen live, and the rules had 30/10");
}

#[test]
fn a_second_deployment_beside_the_first_is_noticed() {
    let mut simulation = at_stage("baking");
    let mut ghost = Ghost::takes(&simulation);
    let started = Fact::Started {
        digest: "sha256:2".to_owned(),
        tag: "v2".to_owned(),
        policy_version: 1,
        reason: String::new(),
        despite_alarms: Vec::new(),
    };
    ghost.tells(&mut simulation, Some(2), started);
    says(&simulation, &invariants::ONE_RUNS, "begins while Some(1) runs");
}

#[test]
fn a_stage_that_is_not_left_in_time_is_noticed() {
    let mut simulation = at_stage("baking");
    let mut ghost = Ghost::takes(&simulation);
    let start = Settings::default().start;
    ghost.state.running.as_mut().expect("something runs").stage = Stage::AfterTraffic { deadline: start };
    let later = Seconds(1_300);
    ghost.commits(&mut simulation, &[], &[]);
    simulation.world(|world| world.advance_to(later.after(start)));
    simulation.run_for(1);
    says(&simulation, &invariants::VERDICT_IN_TIME, "#1 is still after_traffic");
}

fn ended(verdict: Verdict, live: Slot) -> Fact {
    Fact::Ended { verdict, reason: String::new(), live: Some(live) }
}

#[test]
fn a_way_back_that_ends_on_the_wrong_side_is_noticed() {
    let mut simulation = at_stage("baking");
    let mut ghost = Ghost::takes(&simulation);
    ghost.state.running = None;
    ghost.tells(&mut simulation, Some(1), ended(Verdict::RolledBack, Slot::Green));
    says(&simulation, &invariants::WAY_BACK_WHOLE, "ended as RolledBack, and Some(Green) is live; blue should be");
}

#[test]
fn limits_that_stay_borrowed_are_noticed() {
    let mut simulation = at_stage("scaling");
    let mut ghost = Ghost::takes(&simulation);
    ghost.state.running = None;
    ghost.tells(&mut simulation, Some(1), ended(Verdict::Failed, Slot::Blue));
    says(&simulation, &invariants::NOTHING_BORROWED, "#1 has ended, and api-blue has Some((2, 8,");
}

#[test]
fn an_untrue_entry_is_noticed() {
    let mut simulation = at_stage("shifting");
    let mut ghost = Ghost::takes(&simulation);
    ghost.looks(&mut simulation);
    ghost.tells(&mut simulation, Some(1), Fact::WeightsVerified { weights: weights(0, 100) });
    says(&simulation, &invariants::NOTHING_UNTRUE, "are said to have been seen, and the rules had 90/10");
}

#[test]
fn a_gap_in_the_journal_is_noticed() {
    let mut simulation = at_stage("baking");
    let mut ghost = Ghost::takes(&simulation);
    let last = ghost.state.last_entry;
    ghost.state.last_entry += 1;
    ghost.tells(&mut simulation, None, Fact::PromotionResumed);
    says(&simulation, &invariants::JOURNAL_WHOLE, &format!("entry {} comes after entry {last}", last + 2));
}

#[test]
fn a_command_that_is_consumed_twice_is_noticed() {
    let mut simulation = at_stage("baking");
    let mut ghost = Ghost::takes(&simulation);
    let pushed = CommandId(format!("push:{}", simulation::world::scene::digest_of(1)));
    ghost.commits(&mut simulation, &[], std::slice::from_ref(&pushed));
    says(&simulation, &invariants::COMMANDS_ONCE, "push:sha256:");
}

#[test]
fn a_command_that_nobody_takes_up_is_noticed() {
    let mut simulation = at_stage("baking");
    let _holds_it = Ghost::takes(&simulation);
    let target = simulation.target().clone();
    let actor = Actor::Person { name: "operator".to_owned() };
    let at = simulation.now();
    let command = Command::asked(target, Instruction::Rollback, actor, "", "one", at);
    simulation.ledger().store().put_command(&command);
    simulation.check_rest();
    says(&simulation, &invariants::COMMANDS_KEPT, "asked:one waits, and nobody is awake");
}

#[test]
fn what_is_told_twice_in_other_words_or_out_of_order_is_noticed() {
    let simulation = at_stage("baking");
    let (target, now) = (simulation.target(), simulation.now());
    let mut telling = Telling::default();
    assert_eq!(telling.tell("bus", target, 1, "it began", now), None);
    assert_eq!(telling.tell("bus", target, 1, "it began", now), None, "once more is the same by content");
    let again = telling.tell("bus", target, 1, "it ended", now).expect("other words");
    assert_eq!(again.invariant, invariants::TOLD_ONCE.name, "{again}");
    assert_eq!(telling.tell("bus", target, 3, "it ended", now), None);
    assert_eq!(telling.missing("bus", target, 3), Some(2));
    let late = telling.tell("bus", target, 2, "it moved", now).expect("out of order");
    assert!(late.words.contains("was told entry 2 after entry 3"), "{late}");
}

#[test]
fn every_promise_has_a_name_of_its_own_and_a_sentence() {
    let names: std::collections::BTreeSet<&str> = invariants::ALL.iter().map(|promise| promise.name).collect();
    assert_eq!(names.len(), invariants::ALL.len());
    assert!(invariants::ALL.iter().all(|promise| promise.sentence.len() > 15));
}
