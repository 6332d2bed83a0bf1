//! The whole way: dev by a push, staging by a workflow, prod after two people, and down again.

use super::deployment_log;
use super::shop::{APPROVE, Environment, QUICK, Shop, gates, ok, refused, status, votes};
use rollout::snapshot::Weights;
use rollout::{Actor, Fact, JournalEntry, Verdict};
use serde_json::json;
use simulation::world::ImageBehaviour;
use std::process::Output;
use std::time::Duration;
use tests::harness::issuer::GithubJob;
use tests::harness::scenario::{PATIENCE, Scenario, ScenarioOptions, good};
use tests::harness::{leaks, stack};

/// Long enough for the alarm to fire under a bad release.
pub(crate) const WATCHED: &str =
    "{steps: [{traffic: 50%, hold: 1s}, {traffic: 100%}], bake: 25s, keep_warm: 0, drain: 1s}";

/// What prod has: a release comes by itself once staging has verified it, and two people must agree.
const PROD: &str = "after: staging, trigger: promotion, approval: {required: 2, from: [on-call, carol], expires: 1h}";

/// The operator's binary inside a job: what a runner gives it, and nothing more.
fn ci(job: &GithubJob, arguments: &[&str]) -> Output {
    let runner = stack().issuer().run(job);
    let mut command = stack().operator();
    command
        .arg("ci")
        .args(arguments)
        .args(["--for", "2m", "--endpoint", &super::shop::api_url("PromotionsApi")])
        .env("GITHUB_ACTIONS", "true")
        .env("ACTIONS_ID_TOKEN_REQUEST_URL", &runner.request_url)
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", &runner.request_token);
    let output = ok(command.output());
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let leaks = leaks::found("switchback ci", &said, &ok(leaks::known_secrets(stack())));
    assert_eq!(leaks, Vec::<String>::new(), "nothing that a job is given is printed");
    output
}

fn describe(output: &Output) -> String {
    format!("{:?}\n{}", output, String::from_utf8_lossy(&output.stdout))
}

/// Pushes a release, waits until dev has verified it, and has a workflow promote it to staging; answers how that ended.
fn promote_to_staging(shop: &Shop, tag: &str, number: u64, behaviour: ImageBehaviour) -> Output {
    let [dev, staging, _] = shop.environments.as_slice() else { panic!("three environments") };
    let _digest = dev.push(tag, behaviour);
    assert_eq!(dev.verdict(number).verdict, Some(Verdict::Succeeded));
    // Every release is promoted by a run of its own.
    let job = GithubJob { run_id: 9_000 + number, ..shop.job() };
    let output = ci(&job, &["promote", &format!("{}={tag}", staging.target())]);
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    assert_eq!(staging.verdict(number).verdict, Some(Verdict::Succeeded));
    output
}

pub(crate) fn a_release_is_promoted_to_prod_and_a_bad_one_rolled_back() {
    let quiet = ScenarioOptions { strategy: QUICK, traffic: 0.0, ..ScenarioOptions::default() };
    let watched = ScenarioOptions { strategy: WATCHED, ..ScenarioOptions::default() };
    let shop = Shop::new(
        "climb",
        vec![
            Environment { name: "dev", rules: "trigger: push", options: quiet.clone() },
            Environment { name: "staging", rules: "after: [dev]", options: quiet },
            Environment { name: "prod", rules: PROD, options: watched },
        ],
    );
    a_good_release_reaches_prod(&shop);
    deployment_log::assert_log_is_complete(&shop, "v1");
    a_bad_release_is_rolled_back_in_prod(&shop);
    the_next_release_waits_for_an_operator(&shop);
}

fn a_good_release_reaches_prod(shop: &Shop) {
    let [_, staging, prod] = shop.environments.as_slice() else { panic!("three environments") };
    promote_to_staging(shop, "v1", 1, good());
    let by = ok(staging.operations().history())[0].actor.clone();
    assert!(matches!(&by, Actor::Workflow { name, .. } if name == "github:acme/climb@9001"), "{by:?}");
    // The run is run again: it finds what it asked for, and asks for nothing more.
    let again = GithubJob { run_id: 9_001, run_attempt: 2, ..shop.job() };
    let output = ci(&again, &["promote", &format!("{}=v1", staging.target())]);
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    assert_eq!(ok(staging.operations().history()).len(), 1, "a re-run is no second promotion");

    let approval_message = shop.approval_message(prod, 1);
    assert!(approval_message.thread_ts.is_some(), "in the release's thread");
    assert!(approval_message.visible_text().contains("v1"), "{}", approval_message.visible_text());
    assert_eq!(prod.weights(), Weights { blue: 100, green: 0 }, "nothing moves before people agree");
    // Who has started the workflow is who has asked.
    shop.press_and_send(&approval_message, APPROVE, "ada", "");
    shop.press_and_send(&approval_message, APPROVE, "bob", "");
    votes(prod, 1);
    shop.press_and_send(&approval_message, APPROVE, "carol", "looked at staging");
    let record = prod.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    let refusals = refused(prod, 1);
    assert!(refusals[0].1.contains("ada requested this deployment"), "{refusals:?}");
    let approved = |entry: &JournalEntry| match &entry.fact {
        Fact::Approved { person, .. } => Some(person.to_string()),
        _ => None,
    };
    let people: Vec<String> = prod.journal().iter().filter_map(approved).collect();
    assert_eq!(people, ["bob", "carol"]);
    wait_for_final_slack_message(shop, prod, 1);
}

/// Only prod's traffic shows that it is bad.
fn a_bad_release_is_rolled_back_in_prod(shop: &Shop) {
    let [_, staging, prod] = shop.environments.as_slice() else { panic!("three environments") };
    promote_to_staging(shop, "v2", 2, ImageBehaviour { error_rate: 1.0, ..good() });
    let approval_message = shop.approval_message(prod, 2);
    for name in ["bob", "carol"] {
        shop.press_and_send(&approval_message, APPROVE, name, "");
    }
    let output = ci(&GithubJob { run_id: 9_100, ..shop.job() }, &["wait", &format!("{}=v2", staging.target())]);
    assert_eq!(output.status.code(), Some(0), "staging was well: {}", describe(&output));
    let record = prod.verdict(2);
    assert_eq!(record.verdict, Some(Verdict::RolledBack), "{}", record.reason);
    assert!(record.reason.contains(&prod.names().green_alarm) || record.reason.contains(&prod.names().blue_alarm));
    prod.fact("that promotion is held", |fact| matches!(fact, Fact::PromotionHeld { .. }).then_some(()));
}

fn the_next_release_waits_for_an_operator(shop: &Shop) {
    let [_, _, prod] = shop.environments.as_slice() else { panic!("three environments") };
    promote_to_staging(shop, "v3", 3, good());
    let reason = prod.fact("that v3 was not promoted by itself", |fact| match fact {
        Fact::PromotionSkipped { tag, reason, .. } if tag == "v3" => Some(reason.clone()),
        _ => None,
    });
    assert!(!reason.is_empty());
    let now = status(prod).state;
    assert!(now.running.is_none() && now.last_deployment == 2 && now.promotion_hold.is_some(), "{now:?}");
    let path = format!("/v1/targets/{}/promote", prod.target());
    let promoted = ok(stack().operations("POST", &path, Some(&json!({"release": "v3", "reason": "v2 is understood"}))));
    assert_eq!(promoted.status, 200, "{}", promoted.body);
    assert_eq!(gates(prod).votes.len(), 0);
    let approval_message = shop.approval_message(prod, 3);
    for name in ["ada", "bob"] {
        shop.press_and_send(&approval_message, APPROVE, name, "");
    }
    prod.fact("that promotion goes on", |fact| matches!(fact, Fact::PromotionResumed).then_some(()));
    let record = prod.verdict(3);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
}

/// One thread for the release, one message in it for the deployment, edited in place to the end, without buttons.
fn wait_for_final_slack_message(shop: &Shop, scene: &Scenario, number: u64) {
    scene.expect("Slack tells the end", PATIENCE.min(Duration::from_secs(60)), || {
        let messages = stack().slack().messages(&shop.channel);
        let roots: Vec<_> = messages.iter().filter(|message| message.thread_ts.is_none()).collect();
        let [root] = roots.as_slice() else { return Err(format!("no single thread: {roots:#?}")) };
        let begins = format!("{} #{number}, ", scene.target());
        let thread = stack().slack().thread(&shop.channel, &root.ts);
        let posted: Vec<_> = thread.iter().filter(|message| message.now().text.starts_with(&begins)).collect();
        let [message] = posted.as_slice() else {
            return Err(format!("no single message of the deployment: {posted:#?}"));
        };
        if !message.buttons().is_empty() {
            return Err("there are buttons still".to_owned());
        }
        let visible_text = message.visible_text().to_lowercase();
        if visible_text.contains("succeeded") && message.edits() > 1 { Ok(()) } else { Err(visible_text) }
    });
}
