//! Stories of the two-tier service, from adoption to a secret that is added.

use crate::play::{BLUE, GREEN, HOUR, Play, has_begun, has_ended, is_verified, moves_traffic, rolled_back_by_alarm};
use crate::system;
use rollout::journal::Fact;
use rollout::{Cause, DeployOptions, Instruction, Slot, TargetId, Verdict};
use serde_json::{Value, json};
use simulation::world::ecs::UpdateService;
use simulation::world::scene::digest_of;
use simulation::world::{FunctionBehaviour, ImageBehaviour};

/// ELB's operation that sets the weights of a listener's default action.
const MODIFY_LISTENER: &str = "elasticloadbalancing:ModifyListener";

/// The services run, and Switchback takes them over.
#[track_caller]
fn running() -> (Play, [TargetId; 2]) {
    let play = Play::of(&system::two_tier(2));
    let targets = targets(&play);
    (play, targets)
}

/// Backend and frontend.
#[track_caller]
fn targets(play: &Play) -> [TargetId; 2] {
    ["two-tier/backend/main", "two-tier/frontend/main"].map(|target| play.target(target))
}

/// v101 of the backend and v201 of the frontend, as one train.
fn train(play: &mut Play) {
    play.train("main", &[("backend", 101), ("frontend", 201)]);
}

/// D-S1: existing services run a tag; green was added by Terraform. The first deployment moves to a digest, and
/// `frontend-service` is idle after it.
#[test]
fn adoption_moves_running_services_to_a_digest() {
    let (mut play, [_, frontend]) = running();
    let image = |play: &Play, slot| play.definition(&frontend, Some(slot))["containerDefinitions"][0]["image"].clone();
    assert!(image(&play, Slot::Blue).as_str().is_some_and(|image| image.ends_with("/frontend:v1")));
    play.deploy(&frontend, 2, DeployOptions::default());
    play.expect_verdicts(&frontend, 2 * HOUR, &[Verdict::Succeeded]);
    play.wait_until_idle(HOUR);
    assert_eq!(play.weights(&frontend), GREEN, "{}", play.journals());
    assert_eq!(play.tasks(&frontend), [(0, 0), (2, 2)], "{}", play.journals());
    let expected = format!("111122223333.dkr.ecr.us-east-1.amazonaws.com/frontend@{}", digest_of(2));
    assert_eq!(image(&play, Slot::Green), expected, "{}", play.journals());
    // Everything but the image is Terraform's, references to secrets included.
    let without_image = |slot| {
        let mut document = play.definition(&frontend, Some(slot));
        document["family"] = Value::Null;
        document["containerDefinitions"][0]["image"] = Value::Null;
        document
    };
    assert_eq!(without_image(Slot::Green), without_image(Slot::Blue), "{}", play.journals());
    assert_eq!(play.failed_requests(), 0.0, "{}", play.journals());
}

/// D-S2: both blues are at 0. They come up where the weight is, backend before frontend, and nothing claims a way back.
#[test]
fn the_first_deployment_brings_blue_up_where_the_weight_is() {
    let mut play = Play::unwatched(&system::two_tier(0));
    for target in targets(&play) {
        play.set_traffic(&target, 0.0);
        assert_eq!(play.tasks(&target), [(0, 0), (0, 0)]);
        play.deploy_first(&target, 1, 2);
        play.expect_verdicts(&target, HOUR, &[Verdict::Succeeded]);
        assert_eq!(play.tasks(&target), [(2, 2), (0, 0)], "{}", play.journals());
        assert_eq!(play.weights(&target), BLUE, "{}", play.journals());
        assert!(!play.has(&target, |fact| matches!(fact, Fact::RollbackStarted { .. })), "{}", play.journals());
    }
}

/// D-S2, with a bad release: nothing runs after it, as before.
#[test]
fn a_first_deployment_that_does_not_come_up_leaves_nothing_running() {
    let mut play = Play::unwatched(&system::two_tier(0));
    let [backend, _] = targets(&play);
    play.set_image(1, ImageBehaviour::never_healthy());
    play.deploy_first(&backend, 1, 2);
    play.expect_verdicts(&backend, HOUR, &[Verdict::Failed]);
    assert_eq!(play.tasks(&backend), [(0, 0), (0, 0)], "{}", play.journals());
    assert_eq!(play.weights(&backend), BLUE, "{}", play.journals());
}

/// D-S3: the frontend begins once the backend is verified; users see no 5xx, and both balancers end on green.
#[test]
fn a_good_train_brings_the_backend_first() {
    let (mut play, [backend, frontend]) = running();
    train(&mut play);
    play.until(2 * HOUR, "the frontend is verified", |play| play.has(&frontend, is_verified));
    let verified = play.time_of(&backend, is_verified);
    let begun = play.time_of(&frontend, has_begun);
    assert!(begun >= verified, "the frontend began at {begun}, the backend was verified at {verified}");
    play.wait_until_idle(3 * HOUR);
    for target in [&backend, &frontend] {
        assert_eq!(play.verdicts(target), [Verdict::Succeeded], "{}", play.journals());
        assert_eq!(play.weights(target), GREEN, "{}", play.journals());
        assert_eq!(play.tasks(target), [(0, 0), (2, 2)], "{}", play.journals());
    }
    assert_eq!(play.failed_requests(), 0.0, "{}", play.journals());
}

/// Each is asked for alone: they are deployed one after the other, so that the frontend's alarm is not blamed on its own
/// release while the backend's is new.
#[test]
fn separate_deployments_of_the_two_do_not_overlap() {
    let (mut play, [backend, frontend]) = running();
    play.deploy(&frontend, 201, DeployOptions::default());
    play.deploy(&backend, 101, DeployOptions::default());
    for target in [&backend, &frontend] {
        play.expect_verdicts(target, 2 * HOUR, &[Verdict::Succeeded]);
    }
    let mut spans =
        [&backend, &frontend].map(|target| (play.time_of(target, has_begun), play.time_of(target, is_verified)));
    spans.sort();
    assert!(spans[1].0 >= spans[0].1, "{spans:?}{}", play.journals());
}

/// D-S4: the backend is bad at 10 %. Its weights go back; the frontend never begins, and nothing of it moves.
#[test]
fn a_bad_backend_goes_back_and_the_frontend_never_begins() {
    let (mut play, [backend, frontend]) = running();
    train(&mut play);
    play.until(HOUR, "10 % are on green", |play| play.weights(&backend) == (90, 10));
    play.set_image(101, ImageBehaviour::failing(0.5));
    play.expect_verdicts(&backend, HOUR, &[Verdict::RolledBack]);
    assert!(play.has(&backend, rolled_back_by_alarm), "{}", play.journals());
    play.expect_verdicts(&frontend, 300, &[Verdict::Failed]);
    assert!(play.reason(&frontend).contains("backend"), "{}", play.reason(&frontend));
    assert!(!play.has(&frontend, has_begun), "{}", play.journals());
    for target in [&backend, &frontend] {
        assert_eq!(play.weights(target), BLUE, "{}", play.journals());
    }
}

/// D-S5: the frontend is bad after the backend was verified. Both go back, the frontend first, so that the new frontend
/// never meets the old backend.
#[test]
fn a_bad_frontend_takes_the_backend_of_its_train_back() {
    let (mut play, [backend, frontend]) = running();
    play.set_image(201, ImageBehaviour::failing(0.5));
    train(&mut play);
    play.expect_verdicts(&frontend, 2 * HOUR, &[Verdict::RolledBack]);
    play.expect_verdicts(&backend, HOUR, &[Verdict::RolledBack]);
    let by_train = |fact: &Fact| {
        let Fact::RollbackStarted { cause: Cause::Train { service, .. } } = fact else { return false };
        *service == frontend.service
    };
    let (frontend_back, backend_turns) = (play.time_of(&frontend, has_ended), play.time_of(&backend, by_train));
    assert!(frontend_back <= backend_turns, "{frontend_back}, {backend_turns}{}", play.journals());
    for target in [&backend, &frontend] {
        assert_eq!(play.weights(target), BLUE, "{}", play.journals());
    }
}

/// D-S6: green breaks the contract of the frontend that runs. The hook says no on test traffic, and 0 % move.
#[test]
fn a_broken_contract_is_found_before_any_traffic_moves() {
    let (mut play, [backend, _]) = running();
    let refuses = FunctionBehaviour::fails("/orders answered 400");
    play.simulation.world(|world| world.put_function("switchback-hook-two-tier-contract", refuses));
    play.deploy(&backend, 101, DeployOptions::default());
    play.expect_verdicts(&backend, HOUR, &[Verdict::Failed]);
    assert!(play.reason(&backend).contains("/orders answered 400"), "{}", play.reason(&backend));
    assert!(!play.has(&backend, moves_traffic), "{}", play.journals());
    assert_eq!(play.weights(&backend), BLUE, "{}", play.journals());
}

/// D-S7: somebody scales blue by hand in mid-shift. That is no edit of the rule, and the deployment goes on.
#[test]
fn scaling_by_hand_in_mid_shift_halts_nothing() {
    let (mut play, [backend, _]) = running();
    play.deploy(&backend, 101, DeployOptions::default());
    play.until(HOUR, "10 % are on green", |play| play.weights(&backend) == (90, 10));
    let update = UpdateService {
        cluster: "two-tier".to_owned(),
        service: "backend-service".to_owned(),
        desired_count: Some(4),
        ..UpdateService::default()
    };
    play.simulation.world(|world| world.update_service(update)).expect("the service is there");
    play.expect_verdicts(&backend, 3 * HOUR, &[Verdict::Succeeded]);
    assert!(!play.has(&backend, |fact| matches!(fact, Fact::Halted { .. })), "{}", play.journals());
    assert_eq!(play.weights(&backend), GREEN, "{}", play.journals());
}

/// D-S8: somebody sets 50/50 on the internal listener. The backend halts, by name; the frontend is free.
#[test]
fn a_foreign_edit_halts_the_backend_alone() {
    let (mut play, [backend, frontend]) = running();
    play.deploy(&backend, 101, DeployOptions::default());
    play.until(HOUR, "10 % are on green", |play| play.weights(&backend) == (90, 10));
    play.edit_weights(&backend, 50, 50);
    let halted = |fact: &Fact| matches!(fact, Fact::Halted { .. });
    play.until(HOUR, "the backend halts", |play| play.has(&backend, halted));
    play.deploy(&frontend, 201, DeployOptions::default());
    play.until(HOUR, "the frontend moves", |play| play.weights(&frontend) == GREEN);
    assert!(!play.has(&frontend, halted), "{}", play.journals());
}

/// D-S10: the internal listener cannot be written while the backend has to go back. It is tried again and journalled;
/// somebody sets the weights by hand, and Switchback follows.
#[test]
fn weights_set_by_hand_end_a_rollback_that_could_not_write() {
    let mut play = Play::unwatched(&system::two_tier(2));
    let [backend, _] = targets(&play);
    play.deploy(&backend, 101, DeployOptions::default());
    play.until(HOUR, "10 % are on green", |play| play.weights(&backend) == (90, 10));
    play.simulation.world(|world| world.deny(MODIFY_LISTENER, true));
    play.set_image(101, ImageBehaviour::failing(0.5));
    play.until(HOUR, "the backend goes back", |play| play.has(&backend, rolled_back_by_alarm));
    let failed = |fact: &Fact| matches!(fact, Fact::EffectFailed { .. });
    play.until(300, "the failure is journalled", |play| play.has(&backend, failed));
    assert_eq!(play.weights(&backend), (90, 10), "{}", play.journals());
    play.edit_weights(&backend, 100, 0);
    play.expect_verdicts(&backend, HOUR, &[Verdict::RolledBack]);
    assert_eq!(play.weights(&backend), BLUE, "{}", play.journals());
}

/// D-S12: Terraform registers a revision with one secret more, and the same digest is requested: it is deployed as a
/// configuration release, and a rollback returns to the revision before.
#[test]
fn a_secret_that_is_added_goes_out_with_the_same_image_and_comes_back() {
    let (mut play, [backend, _]) = running();
    play.deploy(&backend, 101, DeployOptions::default());
    play.expect_verdicts(&backend, 3 * HOUR, &[Verdict::Succeeded]);
    play.wait_until_idle(HOUR);
    add_secret(&play);
    play.deploy(&backend, 101, DeployOptions { configuration: true, ..DeployOptions::default() });
    play.expect_verdicts(&backend, 3 * HOUR, &[Verdict::Succeeded; 2]);
    play.wait_until_idle(HOUR);
    let live = play.definition(&backend, Some(Slot::Blue));
    assert_eq!(secrets(&live), ["API_KEY", "API_TOKEN", "WEBHOOK_KEY"], "{}", play.journals());
    let image = live["containerDefinitions"][0]["image"].as_str().unwrap_or_default();
    assert!(image.ends_with(digest_of(101).as_str()), "{image}");
    assert_eq!(play.weights(&backend), BLUE, "{}", play.journals());

    let operator = rollout::Actor::Person { name: "operator".to_owned() };
    play.simulation.send_command_to(&backend, Instruction::Rollback, operator, "the webhook's key is wrong");
    play.expect_verdicts(&backend, 3 * HOUR, &[Verdict::Succeeded; 3]);
    assert_eq!(play.weights(&backend), GREEN, "{}", play.journals());
    let live = play.definition(&backend, Some(Slot::Green));
    assert_eq!(secrets(&live), ["API_KEY", "API_TOKEN"], "{}", play.journals());
}

/// Registers the next revision of the backend's family as `terraform apply` does after a change of `services.tf`.
fn add_secret(play: &Play) {
    let added = play.simulation.world(|world| {
        let mut document = world.describe_task_definition("backend")?.document;
        let secrets = document["containerDefinitions"][0]["secrets"].as_array_mut();
        let secret = "arn:aws:secretsmanager:us-east-1:111122223333:secret:two-tier/backend-AbCdEf:WEBHOOK_KEY::";
        secrets.expect("the backend has secrets").push(json!({"name": "WEBHOOK_KEY", "valueFrom": secret}));
        world.register_task_definition(document)
    });
    assert_eq!(added.expect("it is sound").revision, 2);
}

/// The names of the container's secrets.
fn secrets(document: &Value) -> Vec<&str> {
    let secrets = document["containerDefinitions"][0]["secrets"].as_array().into_iter().flatten();
    secrets.filter_map(|secret| secret["name"].as_str()).collect()
}

/// A NAT gateway without free ports is reported to people. It holds no deployment and rolls none back: it is of no side.
#[test]
fn the_nat_gateways_alarm_holds_nothing() {
    let (mut play, [backend, _]) = running();
    play.deploy(&backend, 101, DeployOptions::default());
    play.until(HOUR, "10 % are on green", |play| play.weights(&backend) == (90, 10));
    play.fire("two-tier-nat-ports", "no port was left");
    play.expect_verdicts(&backend, 3 * HOUR, &[Verdict::Succeeded]);
    let reported = |fact: &Fact| matches!(fact, Fact::AlarmFiring { holds: false, .. });
    assert!(play.has(&backend, reported), "{}", play.journals());
}
