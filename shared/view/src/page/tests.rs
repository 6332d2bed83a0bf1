//! What the page says of a deployment that waits, and of what holds a target.

use super::*;
use rollout::policy::{Deadlines, Drift, EcsPair, Side, Step, Strategy, TargetPolicy};
use rollout::stage::Cause;
use rollout::target::{Explanation, Frozen, Gates, Overridden, PromotionHold, Purpose, ReleaseRef, TargetFreeze};
use rollout::{Actor, ImageDigest, Name, Overrides, Percent, PlanId, ReleaseId, Seconds, TargetId, Terms};
use std::collections::{BTreeMap, BTreeSet};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).expect("a time")
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn alice() -> Actor {
    Actor::Person { name: "arn:aws:sts::111122223333:assumed-role/deployer/alice".to_owned() }
}

fn policy() -> TargetPolicy {
    let side = |service: &str| Side { service: service.to_owned(), target_group: format!("group/{service}") };
    let [preflight, register, healthy, shift, retire, rollback] = [300, 120, 600, 300, 600, 600].map(Seconds);
    TargetPolicy {
        pair: EcsPair {
            cluster: "shop-prod".to_owned(),
            container: "app".to_owned(),
            blue: side("api-blue"),
            green: side("api-green"),
            rules: vec!["rule".to_owned()],
            test_rule: None,
        },
        strategy: Strategy {
            steps: vec![Step { traffic: Percent::ALL, hold: Seconds(0) }],
            bake: Seconds(60),
            keep_warm: Seconds(60),
            green_capacity: Percent::ALL,
            drain: Seconds(15),
            task_failures: rollout::policy::TaskFailures::default(),
        },
        alarms: Vec::new(),
        hooks: Vec::new(),
        deadlines: Deadlines { preflight, register, healthy, shift, retire, rollback },
        drift: Drift::Tell,
    }
}

fn waiting_deployment() -> Deployment {
    let opened = Overridden { actor: alice(), reason: "the sale is broken without it".to_owned(), at: at(20) };
    Deployment {
        number: 2,
        release: ReleaseRef {
            id: ReleaseId {
                application: name("shop"),
                service: name("api"),
                digest: ImageDigest::new(format!("sha256:{:064x}", 2)).expect("a digest"),
            },
            image: "image".to_owned(),
            tag: "v2".to_owned(),
            pushed_at: None,
        },
        purpose: Purpose::Deploy,
        actor: alice(),
        reason: String::new(),
        overrides: Overrides::default(),
        terms: Terms::default(),
        gates: Some(Gates {
            plan: PlanId("0123456789abcdef".to_owned()),
            asked_at: Some(at(10)),
            votes: Vec::new(),
            skipped: BTreeSet::from([Gate::Soak]),
            overridden: BTreeMap::from([(Gate::Freeze, opened)]),
            told: BTreeMap::new(),
        }),
        promotes_itself: false,
        frozen: None,
        policy_version: 1,
        policy: policy(),
        started_at: at(0),
        stage: Stage::Gated { deadline: at(604_800) },
        stage_entered_at: at(0),
        place: None,
        sides: None,
        task_definition: None,
        made_like: None,
        up_since: None,
        asleep: false,
        gates_until: None,
        borrowed_at: None,
        candidate_updated: false,
        traffic_moved: false,
        verifies_again: false,
        written_blind: false,
        weights: None,
        test_rule_before: None,
        borrowed: BTreeMap::new(),
        hooks: BTreeMap::new(),
        halted: None,
        resumed_at: None,
        acted_at: None,
        tried_at: None,
        traffic_since: None,
        stable_alarm: None,
        superseded_by: None,
        blocked: None,
        trouble: None,
        pending: Vec::new(),
    }
}

fn waiting_state() -> TargetState {
    let waiting_on = vec![
        WaitingOn::Approval {
            plan: PlanId("0123456789abcdef".to_owned()),
            approved: vec![name("bob")],
            required: 2,
            may: vec![name("carol")],
            expires_at: at(14_410),
        },
        WaitingOn::Gate {
            gate: Gate::Window,
            reason: "outside of the deploy windows".to_owned(),
            until: Some(at(3600)),
            deadline: at(604_800),
        },
    ];
    TargetState {
        running: Some(waiting_deployment()),
        explanation: Explanation { waiting_on, look_again_at: None },
        ..TargetState::new(TargetId::parse("shop/api/prod").expect("a target"))
    }
}

#[test]
fn gates_are_told_of_with_the_people_who_were_asked() {
    let state = waiting_state();
    let line = |gate, state, text: &str, people| GateLine { gate, state, text: text.to_owned(), people };
    let asked = |name: &str, yes| Asked { name: name.to_owned(), yes };
    assert_eq!(
        gates(&state, at(60)),
        [
            line(
                "approval",
                GateLineState::Asks,
                "1 of 2 approved · expires in 3h 59m · plan 0123456789abcdef",
                vec![asked("bob", true), asked("carol", false)],
            ),
            line("window", GateLineState::Waits, "outside of the deploy windows · opens in 59m", vec![]),
            line("freeze", GateLineState::Opened, "overridden by alice: the sale is broken without it", vec![]),
            line("soak", GateLineState::Skipped, "passed: hotfix", vec![]),
        ]
    );
    assert_eq!(waits(&state, at(60)), Vec::<String>::new(), "gates are not told twice");
}

#[test]
fn the_track_of_a_deployment_that_waits_begins_at_its_gates() {
    let states = |ended| {
        let stops = track(&waiting_deployment(), ended, 0);
        stops.into_iter().map(|stop| (stop.name, stop.state)).take(3).collect::<Vec<_>>()
    };
    let stop = |name: &str, state| (name.to_owned(), state);
    assert_eq!(
        states(None),
        [stop("Gates", StopState::Now), stop("Prepare", StopState::Ahead), stop("Start tasks", StopState::Ahead)]
    );
    // Nothing was touched: there is nothing to be switched back.
    assert_eq!(
        states(Some(Verdict::Rejected)),
        [stop("Gates", StopState::Turned), stop("Rejected", StopState::Done), stop("Prepare", StopState::Skipped)]
    );
}

#[test]
fn a_track_without_gates_is_as_it_was() {
    let mut deployment = waiting_deployment();
    deployment.stage = Stage::preflight(at(300));
    assert_eq!(track(&deployment, None, 0)[0].name, "Gates", "people were asked there");
    assert_eq!(position(&deployment), Some(1));
    deployment.gates = None;
    assert_eq!(track(&deployment, None, 0)[0], Stop { name: "Prepare".to_owned(), state: StopState::Now });
    assert_eq!(position(&deployment), Some(0));
}

#[test]
fn whatever_holds_a_target_is_told_the_worst_first() {
    let mut state = waiting_state();
    let TargetId { application, environment, .. } = state.target.clone();
    let brake = |scope, until| Brake { scope, by: alice(), reason: "the sale".to_owned(), since: at(0), until };
    let brakes = [
        brake(Scope::Everything, None),
        brake(Scope::Environment { application: application.clone(), environment }, Some(at(7200))),
        brake(Scope::Environment { application, environment: name("dev") }, None),
    ];
    state.promotion_hold =
        Some(PromotionHold { since: at(0), actor: alice(), reason: format!("v2 was pinned by {}", alice()) });
    state.frozen = Some(TargetFreeze { since: at(0), deployment: 1, reason: "hook migrate failed".to_owned() });
    let cause = Cause::Alarm { name: "api-5xx".to_owned(), reason: "crossed.".to_owned() };
    if let Some(running) = &mut state.running {
        running.frozen = Some(Frozen { cause, since: at(0), deadline: at(86_400), told: true });
    }
    let told: Vec<(&str, String)> =
        holds(&state, &brakes, at(60)).into_iter().map(|hold| (hold.title, hold.text)).collect();
    let wanted = [
        ("A person has to decide", "alarm api-5xx fired: crossed · 1m ago; ends as it is in 23h 59m"),
        ("Frozen until somebody resumes it", "hook migrate failed · by deployment #1, 1m ago"),
        ("Rollouts are stopped", "the sale · by alice 1m ago, until somebody lifts it"),
        ("Frozen", "environment prod of shop: the sale · by alice 1m ago, 1h 59m left"),
        ("Automatic promotion is on hold", "v2 was pinned by alice · by alice 1m ago"),
    ];
    assert_eq!(told, wanted.map(|(title, text)| (title, text.to_owned())));
}
