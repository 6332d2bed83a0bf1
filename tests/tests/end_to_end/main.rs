//! From a push to a verdict with the real binaries: deployed from `template.yaml` into ministack, which runs them as
//! processes and owns DynamoDB, SQS, EventBridge's rules, ECR and the HTTP API; ECS, the balancer, autoscaling, alarms
//! and hooks are the wire front's world, whose events go back in by the template's own rules.
//!
//! One deployment of the template serves all tests, each with an application of its own. Tests read results from the
//! `operations` API and from the world, never from the functions.

mod edits;
mod hooks;
mod in_place;
mod people;
mod pushes;
mod releases;
mod rollbacks;
mod templates;

use rollout::Slot;
use rollout::snapshot::Weights;
use std::time::Duration;
use tests::harness::permissions::Suite;
use tests::harness::scenario::Scenario;
use tests::harness::suite::run;

const ALL_BLUE: Weights = Weights { blue: 100, green: 0 };
const HALF: Weights = Weights { blue: 50, green: 50 };
const ALL_GREEN: Weights = Weights { blue: 0, green: 100 };

/// A long hold at 50 %, for what happens in mid-shift.
const LONG_HOLD: &str = "{steps: [{traffic: 50%, hold: 60s}, {traffic: 100%}], bake: 2s, keep_warm: 0, drain: 1s}";

fn main() {
    let tests = [
        releases::TESTS,
        pushes::TESTS,
        edits::TESTS,
        rollbacks::TESTS,
        hooks::TESTS,
        people::TESTS,
        in_place::TESTS,
        templates::TESTS,
    ];
    run(Suite::Rollouts, &tests.concat())
}

/// Green has no traffic and no tasks; blue has both tasks and all traffic.
fn assert_back_on_blue(scenario: &Scenario) {
    assert_eq!(scenario.weights(), ALL_BLUE);
    scenario.expect("green's tasks stop", Duration::from_secs(30), || match scenario.side(Slot::Green) {
        (0, _) => Ok(()),
        (running, _) => Err(format!("{running} run")),
    });
    assert_eq!(scenario.side(Slot::Blue), (2, 2), "blue was never touched");
}
