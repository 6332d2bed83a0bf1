//! What somebody else writes into a rule, while a deployment runs and while none does.

use crate::{ALL_BLUE, ALL_GREEN, HALF};
use rollout::doctor::Severity;
use rollout::snapshot::Weights;
use rollout::{Actor, Fact, Slot, Verdict};
use serde_json::json;
use std::time::Duration;
use tests::front::Call;
use tests::harness::scenario::{Scenario, ScenarioOptions, good};
use tests::harness::suite::Test;

/// Names of tests, with their functions.
pub(crate) const TESTS: &[Test] = &[
    (
        "a_rule_that_somebody_else_edits_halts_it_and_is_not_overwritten",
        a_foreign_rule_edit_halts_and_is_not_overwritten,
    ),
    ("drift_is_reported_with_its_author_and_repaired", drift_is_reported_with_its_author_and_repaired),
    ("an_edit_at_rest_is_put_back_where_the_policy_says_so", drift_is_reverted_when_the_policy_says_so),
];

fn a_foreign_rule_edit_halts_and_is_not_overwritten() {
    let strategy = "{steps: [{traffic: 50%, hold: 10s}, {traffic: 100%}], bake: 1s, keep_warm: 0, drain: 1s}";
    let deadlines = "{preflight: 60s, register: 30s, healthy: 60s, shift: 120s, retire: 30s, rollback: 30s}";
    let scenario = Scenario::new("foreign", &ScenarioOptions { strategy, deadlines, ..ScenarioOptions::default() });
    let _digest = scenario.push("v1", good());
    assert_eq!(scenario.wait_for_weights_change(ALL_BLUE), HALF);
    scenario.fact("that 50/50 was seen live", |fact| match fact {
        Fact::WeightsVerified { weights } if *weights == HALF => Some(()),
        _ => None,
    });
    scenario.edit_weights(80, 20);
    let reason = scenario.fact("that it halted", |fact| match fact {
        Fact::Halted { reason } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.contains("80") && reason.contains("50"), "what was seen and what should be: {reason}");
    assert_eq!(scenario.weights(), Weights { blue: 80, green: 20 }, "somebody else's weights stand");
    let counted = |operation: &str| {
        let calls = scenario.calls();
        let about_the_rule = |call: &&Call| call.parameters.to_string().contains(&scenario.names().rule);
        calls.iter().filter(about_the_rule).filter(|call| call.operation == operation).count()
    };
    let (looks, writes) = (counted("DescribeRules"), counted("ModifyRule"));
    assert_eq!(writes, 1, "the first step");
    scenario.expect("it looks at the rule again", Duration::from_secs(60), || match counted("DescribeRules") {
        now if now > looks => Ok(()),
        now => Err(format!("{now} looks, {looks} before")),
    });
    assert_eq!(counted("ModifyRule"), writes, "and writes nothing");
    scenario.edit_weights(50, 50);
    scenario.fact("that it went on", |fact| matches!(fact, Fact::Resumed).then_some(()));
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    assert_eq!(scenario.weights(), ALL_GREEN);
}

/// v1 is live on green, and blue has no tasks: what an edit at rest finds.
pub(super) fn idle_on_green(name: &str, options: &ScenarioOptions) -> Scenario {
    let scenario = Scenario::new(name, options);
    let _digest = scenario.push("v1", good());
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    scenario.expect("blue's tasks stop", Duration::from_secs(30), || match scenario.side(Slot::Blue) {
        (0, _) => Ok(()),
        (running, _) => Err(format!("{running} run")),
    });
    assert_eq!(scenario.weights(), ALL_GREEN);
    scenario
}

/// Who is named by the fact that something was changed at rest.
fn drift_author(fact: &Fact) -> Option<(String, Option<String>)> {
    match fact {
        Fact::DriftDetected { reason, by, .. } => Some((reason.clone(), by.as_ref().map(|call| call.by.clone()))),
        _ => None,
    }
}

fn drift_is_reported_with_its_author_and_repaired() {
    let scenario = idle_on_green("edited", &ScenarioOptions::default());
    // An apply gives all weight to the side without tasks.
    scenario.edit_weights(100, 0);
    scenario.send(&scenario.edit_event());
    let (reason, by) = scenario.fact("that it was changed", drift_author);
    assert!(reason.contains("blue 100 / green 0") && reason.contains("no healthy target"), "{reason}");
    assert!(by.is_some_and(|by| by.contains("assumed-role/terraform/ci")), "CloudTrail has named them");
    assert_eq!(scenario.weights(), ALL_BLUE, "the policy does not say that it is put back");

    // It is shown to everybody who asks.
    let status = scenario.operations().status().unwrap_or_else(|failure| panic!("{failure}"));
    assert!(status.state.drift().is_some() && status.state.idle.is_some_and(|seen| seen.drift.is_some()));
    let answer = scenario.operations().doctor().unwrap_or_else(|failure| panic!("{failure}"));
    let broken = |check: &str| {
        let mut found = answer.findings.iter().filter(|finding| finding.severity == Severity::Broken);
        found.any(|finding| finding.check == check)
    };
    assert!(broken("weight_without_health"), "{:?}", answer.findings);

    // And one command leads out.
    scenario.operations().rollback("an apply moved the weights").unwrap_or_else(|failure| panic!("{failure}"));
    let record = scenario.verdict(2);
    assert_eq!(record.verdict, Some(Verdict::RolledBack), "{}", record.reason);
    assert_eq!(scenario.weights(), ALL_GREEN);
    assert_eq!(scenario.side(Slot::Green).0, 2, "green was never touched");

    // Without an event it is found at its minute of the hour, and so is what is put right by hand.
    for (blue, green, fact) in [(50, 50, "drift_detected"), (0, 100, "drift_resolved")] {
        let count_facts = || scenario.journal().iter().filter(|entry| entry.fact.name() == fact).count();
        let before = count_facts();
        scenario.edit_weights(blue, green);
        let answer = scenario.stack().invoke("sweeper", &scenario.idle_sweep_event());
        let answer = answer.unwrap_or_else(|failure| panic!("{failure}"));
        scenario.expect("the sweep has it looked at", Duration::from_secs(30), || match count_facts() {
            now if now > before => Ok(()),
            _ => Err(format!("no {fact} yet; {answer}")),
        });
    }
}

fn drift_is_reverted_when_the_policy_says_so() {
    let scenario = idle_on_green("reverted", &ScenarioOptions { drift: "revert", ..ScenarioOptions::default() });
    scenario.edit_weights(100, 0);
    scenario.send(&scenario.edit_event());
    let record = scenario.verdict(2);
    assert_eq!((record.verdict, &record.actor), (Some(Verdict::RolledBack), &Actor::Switchback), "{}", record.reason);
    assert_eq!(scenario.weights(), ALL_GREEN);
    assert_eq!(scenario.side(Slot::Green), (2, 2), "green was never touched");
    scenario.fact("that it was changed", drift_author);
    let status = scenario.operations().status().unwrap_or_else(|failure| panic!("{failure}"));
    assert!(status.state.drift().is_none());

    // What the driver itself writes is nobody's edit.
    let entries = scenario.journal().len();
    let mut own = scenario.edit_event();
    let role = scenario.stack().resource("RolloutDriverRole").unwrap_or_else(|failure| panic!("{failure}"));
    let role = json!(format!("arn:aws:iam::{}:role/{role}", tests::harness::ministack::ACCOUNT));
    own["detail"]["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"] = role;
    let answer = scenario.stack().invoke("signal-received", &own).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(answer["ignored"], "the API call is the driver's own", "{answer}");
    assert_eq!(scenario.journal().len(), entries);
}
