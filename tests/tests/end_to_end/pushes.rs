//! Pushes: repeated, lost, of several tags, of another account, one after another.

use crate::{ALL_BLUE, ALL_GREEN, HALF};
use rollout::{Fact, Slot, Verdict};
use serde_json::json;
use tests::harness::scenario::{Scenario, ScenarioOptions, fixture, good};
use tests::harness::suite::Test;

/// Names of tests, with their functions.
pub(crate) const TESTS: &[Test] = &[
    ("a_push_delivered_three_times_is_deployed_once", a_push_delivered_three_times_is_deployed_once),
    ("a_push_whose_event_was_lost_is_found_by_the_sweep", a_push_whose_event_was_lost_is_found_by_the_sweep),
    (
        "a_tag_that_is_moved_back_onto_the_release_before_is_the_rollback",
        moving_a_tag_back_to_the_previous_release_rolls_back,
    ),
    ("several_tags_of_one_build_are_one_deployment", several_tags_of_one_build_are_one_deployment),
    ("a_replica_is_deployed_by_its_own_event", a_replicated_image_is_deployed_by_its_own_event),
    ("a_push_to_a_registry_of_another_account_is_not_believed", a_push_to_another_accounts_registry_is_ignored),
    ("a_second_push_waits_for_the_first_and_follows_it", a_second_push_is_queued_and_deployed_after_the_first),
];

fn a_push_delivered_three_times_is_deployed_once() {
    let scenario = Scenario::new("twice", &ScenarioOptions::default());
    let digest = scenario.image("v1", good());
    let event = scenario.push_event("v1", &digest);
    for _ in 0..3 {
        scenario.send(&event);
    }
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    // Once more, and waited for: nothing is asked of the target that a wake would find.
    let answer = scenario.stack().invoke("image-pushed", &event).unwrap_or_else(|failure| panic!("{failure}"));
    let status = scenario.operations().status().unwrap_or_else(|failure| panic!("{failure}"));
    assert!(status.commands.is_empty(), "{:?}, {answer}", status.commands);
    assert_eq!(status.state.last_deployment, 1, "{answer}");
    assert_eq!(scenario.calls().iter().filter(|call| call.operation == "RegisterTaskDefinition").count(), 1);
}

fn a_push_whose_event_was_lost_is_found_by_the_sweep() {
    let scenario = Scenario::new("lost", &ScenarioOptions::default());
    let digest = scenario.image("v1", good());
    let minute = fixture(include_str!("../../../events/sweeper.schedule.json"));
    let answer = scenario.stack().invoke("sweeper", &minute).unwrap_or_else(|failure| panic!("{failure}"));
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}; {answer}", record.reason);
    assert!(scenario.image_of(Slot::Green).ends_with(&digest));
    assert_eq!(scenario.weights(), ALL_GREEN);
}

/// Issue 10, case 9.
fn moving_a_tag_back_to_the_previous_release_rolls_back() {
    let scenario = Scenario::new("movedtag", &ScenarioOptions::default());
    let first = scenario.push("v1.0.1", good());
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    scenario.send(&scenario.push_event("v1.0.2", &first));
    scenario.fact("the second tag", |fact| match fact {
        Fact::ReleaseNamed { tag, before, .. } if (tag.as_str(), before.as_str()) == ("v1.0.2", "v1.0.1") => Some(()),
        _ => None,
    });
    let plan = scenario.operations().plan("v1.0.2").unwrap_or_else(|failure| panic!("{failure}"));
    assert!(format!("{plan:?}").contains(&first), "`--release v1.0.2` is known: {plan:?}");

    let second = scenario.push("v1.0.3", good());
    assert_eq!(scenario.verdict(2).verdict, Some(Verdict::Succeeded));
    assert!(scenario.image_of(Slot::Blue).ends_with(&second));
    scenario.send(&scenario.push_event("v1.0.3", &first));
    let record = scenario.verdict(3);
    assert_eq!(
        (record.verdict, record.release.tag.as_str()),
        (Some(Verdict::Succeeded), "v1.0.3"),
        "{}",
        record.reason
    );
    assert!(scenario.image_of(Slot::Green).ends_with(&first));
    assert_eq!(scenario.weights(), ALL_GREEN);
    let status = scenario.operations().status().unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(status.state.last_deployment, 3, "the second tag of what was live asked for nothing");
}

/// Issue 10, case 10.
fn several_tags_of_one_build_are_one_deployment() {
    let scenario = Scenario::new("tags", &ScenarioOptions::default());
    let digest = scenario.image("v1", good());
    for tag in ["v1", "v1.4"] {
        scenario.send(&scenario.push_event(tag, &digest));
    }
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    scenario.send(&scenario.push_event("v1.4.0", &digest));
    scenario.fact("the most specific tag", |fact| match fact {
        Fact::ReleaseNamed { tag, .. } if tag == "v1.4.0" => Some(()),
        _ => None,
    });
    let status = scenario.operations().status().unwrap_or_else(|failure| panic!("{failure}"));
    assert!(status.commands.is_empty(), "{:?}", status.commands);
    assert_eq!(status.state.last_deployment, 1);
    let stable = status.state.stable.and_then(|stable| stable.release).expect("it is deployed");
    assert_eq!(stable.tag, "v1.4.0");
    let refused = scenario.journal().into_iter().filter(|entry| matches!(entry.fact, Fact::CommandRefused { .. }));
    assert_eq!(refused.count(), 0);
}

/// Issue 10, case 13.
fn a_replicated_image_is_deployed_by_its_own_event() {
    let scenario = Scenario::new("replica", &ScenarioOptions::default());
    let digest = scenario.image("v1", good());
    let pushed = scenario.push_event("v1", &digest);
    let mut event = fixture(include_str!("../../../events/image-pushed.replicate.json"));
    for part in ["repository-name", "image-digest", "image-tag"] {
        event["detail"][part] = pushed["detail"][part].clone();
    }
    scenario.send(&event);
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    assert!(scenario.image_of(Slot::Green).ends_with(&digest));
}

/// Issue 10, case 15.
fn a_push_to_another_accounts_registry_is_ignored() {
    let scenario = Scenario::new("elsewhere", &ScenarioOptions::default());
    let digest = scenario.image("v1", good());
    let own = scenario.push_event("v1", &digest);
    let mut foreign = own.clone();
    foreign["account"] = json!("999999999999");
    foreign["region"] = json!("us-west-2");
    scenario.send(&foreign);
    // Once more, and waited for.
    let answer = scenario.stack().invoke("image-pushed", &foreign).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(answer.to_string().contains("999999999999"), "the log says why: {answer}");
    let status = scenario.operations().status().unwrap_or_else(|failure| panic!("{failure}"));
    assert!(status.commands.is_empty(), "{:?}, {answer}", status.commands);
    assert_eq!(status.state.last_deployment, 0, "{answer}");

    scenario.send(&own);
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    let account = own["account"].as_str().expect("an account");
    assert!(
        scenario.image_of(Slot::Green).starts_with(&format!("{account}.dkr")),
        "{}",
        scenario.image_of(Slot::Green)
    );
}

fn a_second_push_is_queued_and_deployed_after_the_first() {
    let strategy = "{steps: [{traffic: 50%, hold: 5s}, {traffic: 100%}], bake: 1s, keep_warm: 0, drain: 1s}";
    let scenario = Scenario::new("second", &ScenarioOptions { strategy, ..ScenarioOptions::default() });
    let first = scenario.push("v1", good());
    assert_eq!(scenario.wait_for_weights_change(ALL_BLUE), HALF);
    let second = scenario.push("v2", good());
    scenario.fact("that v2 waits", |fact| match fact {
        Fact::Queued { tag, .. } if tag == "v2" => Some(()),
        _ => None,
    });
    assert!(scenario.image_of(Slot::Green).ends_with(&first), "the candidate never changes under a rollout");
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    let record = scenario.verdict(2);
    assert_eq!((record.verdict, record.release.tag.as_str()), (Some(Verdict::Succeeded), "v2"), "{}", record.reason);
    assert_eq!(scenario.weights(), ALL_BLUE, "back on the first side, with the newest release");
    assert!(scenario.image_of(Slot::Blue).ends_with(&second));
}
