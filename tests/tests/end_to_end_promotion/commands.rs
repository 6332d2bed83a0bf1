//! Operators and the real command line: brakes, the short way, no automatic rollback, and a yes.

use super::shop::{Environment, QUICK, Shop, gates, operator, operator_ok, status, wait_for_release};
use rollout::snapshot::Weights;
use rollout::{Fact, Gate, Slot, Verdict};
use simulation::world::ImageBehaviour;
use std::time::Duration;
use tests::harness::scenario::{PATIENCE, ScenarioOptions, good};

const ALL_BLUE: Weights = Weights { blue: 100, green: 0 };
const HALF: Weights = Weights { blue: 50, green: 50 };

/// An application of one environment, `dev`, with these rules.
fn shop(application: &str, rules: &'static str, strategy: &'static str) -> Shop {
    let options = ScenarioOptions { strategy, ..ScenarioOptions::default() };
    Shop::new(application, vec![Environment { name: "dev", rules, options }])
}

pub(crate) fn a_freeze_holds_pushes_but_not_hotfixes() {
    let shop = shop("freeze", "trigger: push, hotfix: {skips: [freeze]}", QUICK);
    let scene = shop.first();
    operator_ok(&["freeze", "--app", "freeze", "--env", "dev", "--reason", "the year ends"]);
    let output = operator_ok(&["brakes"]);
    assert!(output.contains("the year ends"), "{output}");
    let _digest = scene.push("v1", good());
    let reason = scene.fact("that v1 waits", |fact| match fact {
        Fact::BlockedByGate { gate: Gate::Freeze, reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.contains("the year ends"), "{reason}");
    assert!(operator_ok(&["explain", &scene.target()]).contains("the year ends"));

    let digest = scene.image("v2", good());
    scene.send(&scene.push_event("v2", &digest));
    let refused = operator(&["hotfix", &scene.target(), "--release", "v2"]);
    assert_eq!(refused.status.code(), Some(2), "a hotfix needs a reason: {refused:?}");
    wait_for_release(scene, "freeze/api", "v2");
    let target = scene.target();
    let hotfix = ["hotfix", &target, "--release", "v2", "--reason", "people cannot pay", "--wait", "--timeout", "2m"];
    operator_ok(&hotfix);
    assert!(scene.image_of(Slot::Green).ends_with(&digest));
    let history = scene.operations().history().unwrap_or_else(|failure| panic!("{failure}"));
    assert!(history[0].hotfix && history[0].release.tag == "v2", "marked for ever: {history:?}");
    let marked = scene.journal().into_iter().find_map(|entry| match entry.fact {
        Fact::HotfixStarted { skips, reason } => Some((skips, reason)),
        _ => None,
    });
    assert_eq!(marked, Some((vec![Gate::Freeze], "people cannot pay".to_owned())));

    let _digest = scene.push("v3", good());
    let number = scene.expect("v3 waits", PATIENCE, || {
        let running = status(scene).state.running.filter(|running| running.release.tag == "v3");
        running.map(|running| running.number).ok_or_else(|| "not yet".to_owned())
    });
    operator_ok(&["unfreeze", "--app", "freeze", "--env", "dev", "--reason", "it is January"]);
    assert_eq!(scene.verdict(number).verdict, Some(Verdict::Succeeded));
    let log = operator_ok(&["brakes", "--log"]);
    assert!(log.contains("the year ends") && log.contains("it is January"), "{log}");
}

pub(crate) fn a_forward_only_release_waits_for_an_operator() {
    let strategy = "{steps: [{traffic: 50%, hold: 60s}, {traffic: 100%}], bake: 2s, keep_warm: 0, drain: 1s}";
    let shop = shop("forward", "trigger: manual", strategy);
    let scene = shop.first();
    let _digest = scene.push("v1", ImageBehaviour { error_rate: 1.0, ..good() });
    wait_for_release(scene, "forward/api", "v1");
    operator_ok(&["deploy", &scene.target(), "--release", "v1", "--forward-only", "--reason", "with a migration"]);
    assert_eq!(scene.wait_for_weights_change(ALL_BLUE), HALF);
    let evidence = scene.fact("that it awaits an operator", |fact| match fact {
        Fact::AwaitingOperator { cause, evidence } => Some(format!("{cause:?} {evidence:?}")),
        _ => None,
    });
    assert!(evidence.contains(&scene.names().green_alarm), "the alarm is in evidence: {evidence}");
    scene.wait_until_quiet_for(Duration::from_secs(2));
    assert_eq!(scene.weights(), HALF, "nothing is switched back by itself");
    let output = operator_ok(&["explain", &scene.target()]);
    assert!(output.contains("rollback") && output.contains("resume"), "it says what a person can do: {output}");
    operator_ok(&["rollback", &scene.target(), "--reason", "the migration can be undone"]);
    let record = scene.verdict(1);
    assert_ne!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    assert_eq!(scene.weights(), ALL_BLUE);
}

pub(crate) fn an_operator_can_approve_by_cli_but_not_their_own_request() {
    let rules = "trigger: push, approval: {required: 1, from: [erin, bob], expires: 1h}";
    let shop = shop("terminal", rules, QUICK);
    let scene = shop.first();
    let _digest = scene.push("v1", good());
    let plan = gates(scene).plan.0;
    let target = scene.target();
    let other = operator(&["approve", &target, "--plan", "0123456789abcdef"]);
    assert_eq!(other.status.code(), Some(4), "another plan: {other:?}");
    operator_ok(&["approve", &target, "--deployment", "1", "--plan", &plan, "--reason", "seen"]);
    assert_eq!(scene.verdict(1).verdict, Some(Verdict::Succeeded));

    let _digest = scene.push("v2", good());
    let asked = gates(scene);
    operator_ok(&["reject", &target, "--deployment", "2", "--plan", &asked.plan.0, "--reason", "not today"]);
    assert_eq!(scene.verdict(2).verdict, Some(Verdict::Rejected));
    operator_ok(&["deploy", &target, "--release", "v2"]);
    let plan = gates(scene).plan.0;
    let own = operator(&["approve", &target, "--plan", &plan]);
    assert_eq!(own.status.code(), Some(4), "requesters do not approve: {own:?}");
    assert!(status(scene).state.running.is_some_and(|running| running.number == 3), "it waits for somebody else");
}
