//! People in Slack: who is heard, who is not, and what is never taken for Slack.

use super::shop::{APPROVE, REJECT, Shop, gates, ok, person, refusals, refused, status, votes};
use rollout::snapshot::Weights;
use rollout::{Fact, Verdict};
use serde_json::json;
use std::time::Duration;
use tests::harness::scenario::good;
use tests::harness::slack::{Message, Trouble};
use tests::harness::stack;

const ALL_BLUE: Weights = Weights { blue: 100, green: 0 };

pub(crate) fn two_people_say_yes_in_slack_however_often_slack_repeats_them() {
    let shop = Shop::asking("yes");
    let scene = shop.first();
    let _digest = scene.push("v1", good());
    let asked = shop.asked(scene, 1);
    let bob = shop.press(&asked, APPROVE, &person("bob"), "");
    for times in 0..3 {
        let told = if times == 0 { bob.clone() } else { bob.clone().retried(times) };
        assert_eq!(shop.send(&told), 200);
    }
    votes(scene, 1);
    // Another press of his, minutes later, is no second voice.
    shop.pressed(&asked, APPROVE, "bob", "");
    scene.is_quiet_for(Duration::from_secs(1));
    votes(scene, 1);
    assert_eq!(scene.weights(), ALL_BLUE);
    shop.pressed(&asked, APPROVE, "carol", "");
    let record = scene.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    let approved = scene.journal().into_iter().filter(|entry| matches!(entry.fact, Fact::Approved { .. })).count();
    assert_eq!(approved, 2);
    assert!(shop.whispers().iter().any(|text| text.contains("1 of 2")), "{:?}", shop.whispers());
}

pub(crate) fn what_slack_did_not_take_is_posted_later_and_once_and_a_stream_that_repeats_itself_adds_nothing() {
    let shop = Shop::asking("slack-away");
    let scene = shop.first();
    let slack = stack().slack();
    slack.trouble(&shop.channel, &[Trouble::Status(503), Trouble::TooMany(1), Trouble::CallLost, Trouble::Status(500)]);
    let _digest = scene.push("v1", good());
    let plan = gates(scene).plan;
    scene.tell_again();
    let asked = shop.asked(scene, 1);
    assert!(asked.words().contains(&plan.0), "{}", asked.words());
    // An edit whose answer is lost is made again, and is the same edit.
    slack.trouble(&shop.channel, &[Trouble::AnswerLost]);
    shop.pressed(&asked, REJECT, "carol", "not now");
    assert_eq!(scene.verdict(1).verdict, Some(Verdict::Rejected));
    scene.tell_again();
    let told = scene.expect("Slack tells the end", Duration::from_secs(60), || {
        let messages = slack.messages(&shop.channel);
        let deployments: Vec<_> = messages.iter().filter(|message| message.thread_ts.is_some()).collect();
        match deployments.as_slice() {
            [one] if one.buttons().is_empty() && one.words().contains("not now") => Ok(messages),
            others => Err(format!("{others:#?}")),
        }
    });
    assert_eq!(slack.troubles_left(&shop.channel), 0, "all of it has gone wrong");
    assert_eq!(told.len(), 2, "the release's thread, and the deployment in it: {told:#?}");
    scene.is_quiet_for(Duration::from_secs(1));
    let before: Vec<String> = slack.messages(&shop.channel).iter().map(Message::words).collect();
    scene.tell_again();
    let after: Vec<String> = slack.messages(&shop.channel).iter().map(Message::words).collect();
    assert_eq!(after, before);
}

pub(crate) fn a_no_in_slack_ends_it_with_the_reason() {
    let shop = Shop::asking("no");
    let scene = shop.first();
    let _digest = scene.push("v1", good());
    let asked = shop.asked(scene, 1);
    shop.pressed(&asked, REJECT, "carol", "the <migration> is missing");
    let record = scene.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Rejected), "{}", record.reason);
    assert!(record.reason.contains("the <migration> is missing"), "{}", record.reason);
    assert_eq!(scene.weights(), ALL_BLUE);
    let touched = scene.calls().iter().filter(|call| call.operation == "RegisterTaskDefinition").count();
    assert_eq!(touched, 0, "nothing was touched");
}

pub(crate) fn what_slack_has_not_signed_decides_nothing() {
    let shop = Shop::asking("forged");
    let scene = shop.first();
    let _digest = scene.push("v1", good());
    let asked = shop.asked(scene, 1);
    let honest = shop.press(&asked, APPROVE, &person("bob"), "");
    let mut unsigned = honest.clone();
    unsigned.signature.clear();
    let before = scene.journal().len();
    let answers: Vec<u16> = [
        honest.clone().forged(),
        honest.clone().aged(301),
        honest.clone().aged(-600),
        honest.clone().redated(1),
        honest.clone().changed("U0BOB", "U0CAROL"),
        honest.clone().changed(APPROVE, REJECT),
        unsigned,
    ]
    .iter()
    .map(|interaction| shop.send(interaction))
    .collect();
    assert!(
        answers.iter().all(|status| *status == answers[0] && (400..500).contains(status)),
        "one answer: {answers:?}"
    );
    scene.is_quiet_for(Duration::from_secs(1));
    assert_eq!(gates(scene).votes, []);
    assert_eq!(scene.journal().len(), before, "a journal that strangers can fill is none");
    // The one that it was all made of is Slack's.
    assert_eq!(shop.send(&honest), 200);
    votes(scene, 1);
}

pub(crate) fn a_stranger_and_an_asker_may_not_approve() {
    let shop = Shop::asking("stranger");
    let scene = shop.first();
    let digest = scene.image("v1", good());
    let event = scene.push_event("v1", &digest);
    scene.send(&event);
    let asked = shop.asked(scene, 1);
    shop.pressed(&asked, APPROVE, "eve", "");
    let told = refused(scene, 1);
    assert_eq!(told[0].0, "approve", "{told:?}");
    assert!(shop.whispers().iter().any(|text| text.starts_with("Not taken")), "{:?}", shop.whispers());
    assert_eq!(gates(scene).votes, []);

    // Whoever asks by the command line is none of the approvers here, and hears so, too.
    let gates = gates(scene);
    let body = json!({"deployment": 1, "plan": gates.plan, "reason": ""});
    let path = format!("/v1/targets/{}/approve", scene.target());
    let refused = ok(stack().operations("POST", &path, Some(&body)));
    assert_eq!(refused.status, 403, "{}", refused.body);

    // Another plan is not said yes to.
    let other = asked.now().blocks.to_string();
    assert!(other.contains(&gates.plan.0), "{other}");
    let pressed = shop.press(&asked, APPROVE, &person("bob"), "");
    assert!(pressed.body.contains(&gates.plan.0));
    shop.pressed(&asked, REJECT, "eve", "no");
    scene.is_quiet_for(Duration::from_secs(1));
    assert!(status(scene).state.running.is_some(), "her no is none");
}

pub(crate) fn a_deployment_that_has_given_way_is_not_approved_any_more() {
    let shop = Shop::asking("gone");
    let scene = shop.first();
    let _digest = scene.push("v1", good());
    let old = shop.asked(scene, 1);
    shop.pressed(&old, APPROVE, "bob", "");
    votes(scene, 1);
    let _digest = scene.push("v2", good());
    assert_eq!(scene.verdict(1).verdict, Some(Verdict::Superseded));
    let new = shop.asked(scene, 2);
    // From a page that was not loaded again.
    shop.pressed(&old, APPROVE, "carol", "");
    let told = refused(scene, 1);
    assert!(told.iter().any(|(_, reason)| reason.contains("newer release")), "{told:?}");
    assert!(shop.whispers().iter().any(|text| text.contains("newer release")), "{:?}", shop.whispers());
    assert_eq!(gates(scene).votes, [], "nothing that was said to v1 counts for v2");
    for name in ["bob", "carol"] {
        shop.pressed(&new, APPROVE, name, "");
    }
    assert_eq!(scene.verdict(2).verdict, Some(Verdict::Succeeded));
    assert!(refusals(&scene.journal()).len() <= 2);
}
