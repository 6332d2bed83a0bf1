//! Stories of Skillancer in prod: releases that come through dev and staging, one approval each, and what happens when
//! they are bad late.

use crate::play::{BLUE, GREEN, HOUR, Play, has_begun, has_ended, is_verified, rolled_back_by_alarm};
use crate::skillancer::{API, WEB, WORKERS, running};
use rollout::journal::Fact;
use rollout::{DeployOptions, TargetId, Verdict};
use simulation::world::ImageBehaviour;
use simulation::world::scaling::{DescribeScalableTargets, SuspendedState};
use std::cell::Cell;

/// One of the leads, in Slack.
const ADA: &str = "U012AB3CD";
/// The services of a release train, and the numbers of their releases.
const TRAIN: [(&str, u64); 3] = [("api", API), ("workers", WORKERS), ("web", WEB)];
/// Requests per second that need five API tasks when half of them reach one side.
const BUSY: f64 = 90.0;

#[track_caller]
fn target(play: &Play, service: &str, environment: &str) -> TargetId {
    play.target(&format!("skillancer/{service}/{environment}"))
}

/// Deploys releases to dev. Staging follows by itself; once it has verified them, the soak time before prod passes.
#[track_caller]
fn bring_to_prod(play: &mut Play, releases: &[(&str, u64)]) {
    for (service, number) in releases {
        let dev = target(play, service, "dev");
        play.deploy(&dev, *number, DeployOptions::default());
    }
    for environment in ["dev", "staging"] {
        for (service, _) in releases {
            let target = target(play, service, environment);
            play.expect_verdicts(&target, 2 * HOUR, &[Verdict::Succeeded]);
        }
    }
    play.simulation.run_for(HOUR + 60);
}

/// The API's release starts in prod, alone.
#[track_caller]
fn api_starts_in_prod(play: &mut Play) -> TargetId {
    bring_to_prod(play, &[("api", API)]);
    let api = target(play, "api", "prod");
    play.deploy(&api, API, DeployOptions::default());
    play.approve(&api, ADA, 300);
    api
}

/// The train starts in prod: API, workers and web.
#[track_caller]
fn train_starts_in_prod(play: &mut Play) -> [TargetId; 3] {
    bring_to_prod(play, &TRAIN);
    let targets = TRAIN.map(|(service, _)| target(play, service, "prod"));
    play.train("prod", &TRAIN);
    play.approve(&targets[0], ADA, 300);
    targets
}

/// A-S2: dev, staging by itself, an hour of soak time, then the API before workers and web, all approved at once by one
/// of the leads. The API's old side stays warm until the others are verified.
#[test]
fn a_good_train_comes_to_prod_after_dev_and_staging() {
    let mut play = running();
    let [api, workers, web] = train_starts_in_prod(&mut play);
    play.until(2 * HOUR, "the API is verified", |play| play.has(&api, is_verified));
    for target in [&workers, &web] {
        play.until(2 * HOUR, &format!("{target} is verified"), |play| play.has(target, is_verified));
    }
    assert_eq!(play.stage(&api), Some("keeping_warm"), "{}", play.journals());
    let verified = play.time_of(&api, is_verified);
    for target in [&workers, &web] {
        let begun = play.time_of(target, has_begun);
        assert!(begun >= verified, "{target} began at {begun}, the API was verified at {verified}");
    }
    for target in [&workers, &web, &api] {
        play.expect_verdicts(target, 4 * HOUR, &[Verdict::Succeeded]);
    }
    let was_asked = |fact: &Fact| matches!(fact, Fact::ApprovalRequested { .. });
    assert!(![&workers, &web].into_iter().any(|target| play.has(target, was_asked)), "{}", play.journals());
    for target in [&api, &web] {
        assert_eq!(play.weights(target), GREEN, "{}", play.journals());
        assert_eq!(play.tasks(target), [(0, 0), (3, 3)], "{}", play.journals());
    }
    assert_eq!(play.failed_requests(), 0.0, "{}", play.journals());
}

/// The API's release begins to answer half of its requests with 5xx: blue has all traffic again 30 seconds after the
/// rollback started, and green is gone in the end.
#[track_caller]
fn expect_rollback_of_errors(play: &mut Play, api: &TargetId) {
    play.set_image(API, ImageBehaviour::failing(0.5));
    play.until(HOUR, "the alarm starts a rollback", |play| play.has(api, rolled_back_by_alarm));
    play.until(30, "blue has all traffic", |play| play.weights(api) == BLUE);
    play.expect_verdicts(api, HOUR, &[Verdict::RolledBack]);
    assert_eq!(play.weights(api), BLUE, "{}", play.journals());
    assert_eq!(play.tasks(api), [(3, 3), (0, 0)], "{}", play.journals());
}

/// A-S3: 5xx at 10 %.
#[test]
fn errors_at_10_percent_are_rolled_back() {
    let mut play = running();
    let api = api_starts_in_prod(&mut play);
    play.until(HOUR, "10 % are on green", |play| play.weights(&api) == (90, 10));
    expect_rollback_of_errors(&mut play, &api);
}

/// A-S3: 5xx in the bake.
#[test]
fn errors_in_the_bake_are_rolled_back() {
    let mut play = running();
    let api = api_starts_in_prod(&mut play);
    play.until(HOUR, "it bakes", |play| play.stage(&api) == Some("baking"));
    expect_rollback_of_errors(&mut play, &api);
}

/// A-S3: errors after 20 minutes warm.
#[test]
fn errors_while_the_old_side_is_warm_are_rolled_back() {
    let mut play = running();
    let api = api_starts_in_prod(&mut play);
    play.until(HOUR, "the old side is kept warm", |play| play.stage(&api) == Some("keeping_warm"));
    play.simulation.run_for(20 * 60);
    expect_rollback_of_errors(&mut play, &api);
}

/// Lowest and highest desired count of a side of the API in prod, and what is suspended.
#[track_caller]
fn limits(play: &Play, side: &str) -> (u32, u32, SuspendedState) {
    let wanted = DescribeScalableTargets {
        service_namespace: "ecs".to_owned(),
        resource_ids: vec![format!("service/skillancer-prod/api-{side}")],
        scalable_dimension: None,
    };
    let described = play.simulation.world(|world| world.describe_scalable_targets(wanted));
    let found = described.expect("limits are described").remove(0);
    (found.min_capacity, found.max_capacity, found.suspended_state)
}

/// A-S6: the load rises at 50 %. Both sides grow, neither shrinks while traffic moves, and in the end the live side has
/// the minimum.
#[test]
fn a_scale_out_in_mid_shift_is_kept_and_the_limits_are_handed_over() {
    let mut play = running();
    let api = api_starts_in_prod(&mut play);
    play.until(HOUR, "half of the traffic is on green", |play| play.weights(&api) == (50, 50));
    play.set_traffic(&api, BUSY);
    let counts = Cell::new(play.tasks(&api));
    play.until(HOUR, "all traffic is on green", |play| {
        let now = play.tasks(&api);
        let before = counts.replace(now.clone());
        let shrunk = now.iter().zip(&before).any(|(now, before)| now.0 < before.0);
        assert!(!shrunk, "{before:?}, then {now:?}{}", play.journals());
        play.weights(&api) == GREEN
    });
    let counts = counts.take();
    assert!(counts.iter().all(|(desired, _)| *desired >= 5), "{counts:?}{}", play.journals());
    play.expect_verdicts(&api, 4 * HOUR, &[Verdict::Succeeded]);
    assert!(!play.has(&api, |fact| matches!(fact, Fact::Halted { .. })), "{}", play.journals());
    assert_eq!(limits(&play, "green"), (3, 12, SuspendedState::default()), "{}", play.journals());
    assert_eq!(limits(&play, "blue"), (0, 12, SuspendedState::default()), "{}", play.journals());
    let [(blue, _), (green, _)] = play.tasks(&api)[..] else { panic!("the API is a pair") };
    assert!(blue == 0 && green >= 9, "blue {blue}, green {green}{}", play.journals());
    assert_eq!(play.failed_requests(), 0.0, "{}", play.journals());
}

/// A-S7: web is bad in its bake. It goes back first, then the API that it may need; the workers of the train, who wait
/// until web is verified, never begin.
#[test]
fn a_bad_web_takes_its_train_back_in_reverse_order() {
    let mut play = running();
    let [api, workers, web] = train_starts_in_prod(&mut play);
    // One at a time: the workers, who are approved with it, wait for web.
    play.until(2 * HOUR, "web bakes", |play| play.stage(&web) == Some("baking"));
    play.set_image(WEB, ImageBehaviour::failing(0.5));
    play.expect_verdicts(&web, HOUR, &[Verdict::RolledBack]);
    play.expect_verdicts(&workers, HOUR, &[Verdict::Failed]);
    play.expect_verdicts(&api, HOUR, &[Verdict::RolledBack]);
    assert!(!play.has(&workers, has_begun), "{}", play.journals());
    let api_turns = play.time_of(&api, |fact| matches!(fact, Fact::RollbackStarted { .. }));
    let back = play.time_of(&web, has_ended);
    assert!(back <= api_turns, "web was back at {back}, the API turned at {api_turns}{}", play.journals());
    for target in [&api, &web] {
        assert_eq!(play.weights(target), BLUE, "{}", play.journals());
    }
}
