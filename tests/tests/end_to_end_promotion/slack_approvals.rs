//! People in Slack: who is heard, who is not, and what is never taken for Slack.

use super::shop::{APPROVE, REJECT, Shop, gates, ok, person, refusals, refused, status, votes};
use rollout::snapshot::Weights;
use rollout::{Fact, Verdict};
use serde_json::json;
use std::time::Duration;
use tests::harness::scenario::good;
use tests::harness::slack::{ChannelMessage, SlackFault};
use tests::harness::stack;

const ALL_BLUE: Weights = Weights { blue: 100, green: 0 };

pub(crate) fn slack_retries_and_repeated_presses_count_one_vote() {
    let shop = Shop::with_approval("yes");
    let scene = shop.first();
    let _digest = scene.push("v1", good());
    let approval_message = shop.approval_message(scene, 1);
    let bob = shop.press(&approval_message, APPROVE, &person("bob"), "");
    for times in 0..3 {
        let interaction = if times == 0 { bob.clone() } else { bob.clone().retried(times) };
        assert_eq!(shop.send(&interaction), 200);
    }
    votes(scene, 1);
    // Another press of his, minutes later, is no second voice.
    shop.press_and_send(&approval_message, APPROVE, "bob", "");
    scene.wait_until_quiet_for(Duration::from_secs(1));
    votes(scene, 1);
    assert_eq!(scene.weights(), ALL_BLUE);
    shop.press_and_send(&approval_message, APPROVE, "carol", "");
    let record = scene.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    let approved = scene.journal().into_iter().filter(|entry| matches!(entry.fact, Fact::Approved { .. })).count();
    assert_eq!(approved, 2);
    assert!(shop.ephemeral_messages().iter().any(|text| text.contains("1 of 2")), "{:?}", shop.ephemeral_messages());
}

pub(crate) fn slack_failures_are_retried_without_duplicate_posts() {
    let shop = Shop::with_approval("slack-away");
    let scene = shop.first();
    let slack = stack().slack();
    slack.fault(
        &shop.channel,
        &[SlackFault::Status(503), SlackFault::RateLimited(1), SlackFault::RequestLost, SlackFault::Status(500)],
    );
    let _digest = scene.push("v1", good());
    let plan = gates(scene).plan;
    scene.redeliver_journal();
    let approval_message = shop.approval_message(scene, 1);
    assert!(approval_message.visible_text().contains(&plan.0), "{}", approval_message.visible_text());
    // An edit whose answer is lost is made again, and is the same edit.
    slack.fault(&shop.channel, &[SlackFault::ResponseLost]);
    shop.press_and_send(&approval_message, REJECT, "carol", "not now");
    assert_eq!(scene.verdict(1).verdict, Some(Verdict::Rejected));
    scene.redeliver_journal();
    let messages = scene.expect("Slack tells the end", Duration::from_secs(60), || {
        let messages = slack.messages(&shop.channel);
        let deployments: Vec<_> = messages.iter().filter(|message| message.thread_ts.is_some()).collect();
        match deployments.as_slice() {
            [one] if one.buttons().is_empty() && one.visible_text().contains("not now") => Ok(messages),
            others => Err(format!("{others:#?}")),
        }
    });
    assert_eq!(slack.faults_left(&shop.channel), 0, "all of it has gone wrong");
    assert_eq!(messages.len(), 2, "the release's thread, and the deployment in it: {messages:#?}");
    scene.wait_until_quiet_for(Duration::from_secs(1));
    let before: Vec<String> = slack.messages(&shop.channel).iter().map(ChannelMessage::visible_text).collect();
    scene.redeliver_journal();
    let after: Vec<String> = slack.messages(&shop.channel).iter().map(ChannelMessage::visible_text).collect();
    assert_eq!(after, before);
}

pub(crate) fn a_slack_rejection_ends_the_deployment_with_its_reason() {
    let shop = Shop::with_approval("no");
    let scene = shop.first();
    let _digest = scene.push("v1", good());
    let approval_message = shop.approval_message(scene, 1);
    shop.press_and_send(&approval_message, REJECT, "carol", "the <migration> is missing");
    let record = scene.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Rejected), "{}", record.reason);
    assert!(record.reason.contains("the <migration> is missing"), "{}", record.reason);
    assert_eq!(scene.weights(), ALL_BLUE);
    let touched = scene.calls().iter().filter(|call| call.operation == "RegisterTaskDefinition").count();
    assert_eq!(touched, 0, "nothing was touched");
}

pub(crate) fn a_request_without_slacks_signature_is_rejected() {
    let shop = Shop::with_approval("forged");
    let scene = shop.first();
    let _digest = scene.push("v1", good());
    let approval_message = shop.approval_message(scene, 1);
    let honest = shop.press(&approval_message, APPROVE, &person("bob"), "");
    let mut unsigned = honest.clone();
    unsigned.signature.clear();
    let before = scene.journal().len();
    let answers: Vec<u16> = [
        honest.clone().forged(),
        honest.clone().signed_seconds_ago(301),
        honest.clone().signed_seconds_ago(-600),
        honest.clone().with_tampered_timestamp(1),
        honest.clone().tampered("U0BOB", "U0CAROL"),
        honest.clone().tampered(APPROVE, REJECT),
        unsigned,
    ]
    .iter()
    .map(|interaction| shop.send(interaction))
    .collect();
    assert!(
        answers.iter().all(|status| *status == answers[0] && (400..500).contains(status)),
        "one answer: {answers:?}"
    );
    scene.wait_until_quiet_for(Duration::from_secs(1));
    assert_eq!(gates(scene).votes, []);
    assert_eq!(scene.journal().len(), before, "a journal that strangers can fill is none");
    // The one that it was all made of is Slack's.
    assert_eq!(shop.send(&honest), 200);
    votes(scene, 1);
}

pub(crate) fn a_non_approver_cannot_approve() {
    let shop = Shop::with_approval("stranger");
    let scene = shop.first();
    let digest = scene.image("v1", good());
    let event = scene.push_event("v1", &digest);
    scene.send(&event);
    let approval_message = shop.approval_message(scene, 1);
    shop.press_and_send(&approval_message, APPROVE, "eve", "");
    let refused_commands = refused(scene, 1);
    assert_eq!(refused_commands[0].0, "approve", "{refused_commands:?}");
    assert!(
        shop.ephemeral_messages().iter().any(|text| text.starts_with("Not taken")),
        "{:?}",
        shop.ephemeral_messages()
    );
    assert_eq!(gates(scene).votes, []);

    // Whoever asks by the command line is none of the approvers here, and hears so, too.
    let gates = gates(scene);
    let body = json!({"deployment": 1, "plan": gates.plan, "reason": ""});
    let path = format!("/v1/targets/{}/approve", scene.target());
    let refused = ok(stack().operations("POST", &path, Some(&body)));
    assert_eq!(refused.status, 403, "{}", refused.body);

    // Another plan is not said yes to.
    let other = approval_message.now().blocks.to_string();
    assert!(other.contains(&gates.plan.0), "{other}");
    let press_and_send = shop.press(&approval_message, APPROVE, &person("bob"), "");
    assert!(press_and_send.body.contains(&gates.plan.0));
    shop.press_and_send(&approval_message, REJECT, "eve", "no");
    scene.wait_until_quiet_for(Duration::from_secs(1));
    assert!(status(scene).state.running.is_some(), "her no is none");
}

pub(crate) fn a_superseded_deployment_cannot_be_approved() {
    let shop = Shop::with_approval("gone");
    let scene = shop.first();
    let _digest = scene.push("v1", good());
    let old = shop.approval_message(scene, 1);
    shop.press_and_send(&old, APPROVE, "bob", "");
    votes(scene, 1);
    let _digest = scene.push("v2", good());
    assert_eq!(scene.verdict(1).verdict, Some(Verdict::Superseded));
    let new = shop.approval_message(scene, 2);
    // From a page that was not loaded again.
    shop.press_and_send(&old, APPROVE, "carol", "");
    let refused_commands = refused(scene, 1);
    assert!(refused_commands.iter().any(|(_, reason)| reason.contains("newer release")), "{refused_commands:?}");
    assert!(
        shop.ephemeral_messages().iter().any(|text| text.contains("newer release")),
        "{:?}",
        shop.ephemeral_messages()
    );
    assert_eq!(gates(scene).votes, [], "nothing that was said to v1 counts for v2");
    for name in ["bob", "carol"] {
        shop.press_and_send(&new, APPROVE, name, "");
    }
    assert_eq!(scene.verdict(2).verdict, Some(Verdict::Succeeded));
    assert!(refusals(&scene.journal()).len() <= 2);
}
