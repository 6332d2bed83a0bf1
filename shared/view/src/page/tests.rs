//! Page data of a waiting deployment, and of what holds a target.

use super::*;
use rollout::deployment::{GateOverride, GateProgress, Purpose};
use rollout::explanation::Explanation;
use rollout::phase::{Gated, Moving, Phase};
use rollout::policy::{Deadlines, Drift, Step, Strategy, TargetPolicy};
use rollout::release::ReleaseRef;
use rollout::target::{OperatorHold, PromotionHold};
use rollout::verdict::Cause;
use rollout::weighted::{AwaitingOperator, Registering, StableAtStart, Weighted, WeightedStage};
use rollout::{
    Actor, DeployOptions, EcsPair, ImageDigest, Leg, Name, Overrides, Percent, PlanId, Platform, ReleaseId, Seconds,
    Slot, TargetId, TargetResources,
};
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
    let [preflight, register, healthy, shift, retire, rollback] = [300, 120, 600, 300, 600, 600].map(Seconds);
    TargetPolicy {
        template: rollout::template::TemplateSource::Live,
        configuration: rollout::template::ConfigurationTrigger::Manual,
        resources: TargetResources {
            platform: Platform::EcsPair(EcsPair {
                cluster: "shop-prod".to_owned(),
                container: "app".to_owned(),
                blue: "api-blue".to_owned(),
                green: "api-green".to_owned(),
            }),
            traffic: vec![Leg {
                blue: "group/api-blue".to_owned(),
                green: "group/api-green".to_owned(),
                rules: vec!["rule".to_owned()],
                test_rule: None,
            }],
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
        recovery_time: None,
    }
}

fn waiting_deployment() -> Deployment {
    let opened = GateOverride { actor: alice(), reason: "the sale is broken without it".to_owned(), at: at(20) };
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
        options: DeployOptions::default(),
        holds_lock: false,
        gates: Some(GateProgress {
            plan: PlanId("0123456789abcdef".to_owned()),
            requested_at: Some(at(10)),
            approved_with: None,
            votes: Vec::new(),
            skipped: BTreeSet::from([Gate::Soak]),
            overridden: BTreeMap::from([(Gate::Freeze, opened)]),
            journalled: BTreeMap::new(),
            waits_for_lock: false,
        }),
        auto_promotes: false,
        policy_version: 1,
        policy: policy(),
        started_at: at(0),
        phase: Phase::Gated(Gated { deadline: at(604_800), asleep: false, version: None }),
        stage_entered_at: at(0),
        queue_position: None,
        last_effect_at: None,
        last_outcome_at: None,
        superseded_by: None,
        effect_failure: None,
        pending: Vec::new(),
    }
}

fn waiting_state() -> TargetState {
    let waiting_on = vec![
        WaitingOn::Approval {
            plan: PlanId("0123456789abcdef".to_owned()),
            approved: vec![name("bob")],
            required: 2,
            eligible: vec![name("carol")],
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
        explanation: Explanation { waiting_on, next_check_at: None },
        ..TargetState::new(TargetId::parse("shop/api/prod").expect("a target"))
    }
}

#[test]
fn gate_lines_list_each_approver() {
    let state = waiting_state();
    let line = |gate, state, text: &str, people| GateLine { gate, state, text: text.to_owned(), people };
    let approver = |name: &str, yes| Approver { name: name.to_owned(), yes };
    assert_eq!(
        gates(&state, at(60)),
        [
            line(
                "approval",
                GateLineState::Asks,
                "1 of 2 approved · expires in 3h 59m · plan 0123456789abcdef",
                vec![approver("bob", true), approver("carol", false)],
            ),
            line("window", GateLineState::Waits, "outside of the deploy windows · opens in 59m", vec![]),
            line("freeze", GateLineState::Opened, "overridden by alice: the sale is broken without it", vec![]),
            line("soak", GateLineState::Skipped, "passed: hotfix", vec![]),
        ]
    );
    assert_eq!(waits(&state, at(60)), Vec::<String>::new(), "gates are not listed twice");
}

#[test]
fn track_starts_at_the_gates_while_gated() {
    let states = |ended| {
        let stops = track(&waiting_deployment(), ended, 0);
        stops.into_iter().map(|stop| (stop.name, stop.state)).take(3).collect::<Vec<_>>()
    };
    let stop = |name: &str, state| (name.to_owned(), state);
    assert_eq!(
        states(None),
        [stop("Gates", StopState::Now), stop("Prepare", StopState::Ahead), stop("Start tasks", StopState::Ahead)]
    );
    // Nothing was touched, so there is nothing to roll back.
    assert_eq!(
        states(Some(Verdict::Rejected)),
        [stop("Gates", StopState::Turned), stop("Rejected", StopState::Done), stop("Prepare", StopState::Skipped)]
    );
}

#[test]
fn track_has_a_gates_stop_only_if_gates_were_used() {
    let mut deployment = waiting_deployment();
    deployment.phase = Phase::preparing(at(300), at(604_800), None);
    assert_eq!(track(&deployment, None, 0)[0].name, "Gates", "people were asked there");
    assert_eq!(position(&deployment), Some(1));
    deployment.gates = None;
    assert_eq!(track(&deployment, None, 0)[0], TrackStop { name: "Prepare".to_owned(), state: StopState::Now });
    assert_eq!(position(&deployment), Some(0));
}

#[test]
fn holds_are_listed_worst_first() {
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
    state.operator_hold = Some(OperatorHold { since: at(0), deployment: 1, reason: "hook migrate failed".to_owned() });
    let cause = Cause::Alarm { name: "api-5xx".to_owned(), reason: "crossed.".to_owned() };
    if let Some(running) = &mut state.running {
        let sides = StableAtStart { stable: Slot::Blue, stable_version: "td:1".to_owned(), stable_count: 2 };
        let registering = Registering { deadline: at(86_400), template: "td:1".to_owned(), registered: None };
        let waits = AwaitingOperator { cause, since: at(0), deadline: at(86_400), journalled: true };
        let weighted = Weighted {
            awaiting_operator: Some(waits),
            ..Weighted::new(sides, WeightedStage::Registering(registering), at(0))
        };
        running.phase = Phase::Moving(Moving::Weighted(Box::new(weighted)));
    }
    let journalled: Vec<(&str, String)> =
        holds(&state, &brakes, at(60)).into_iter().map(|hold| (hold.title, hold.text)).collect();
    let wanted = [
        ("A person has to decide", "alarm api-5xx fired: crossed · 1m ago; ends as it is in 23h 59m"),
        ("On hold until an operator resumes it", "hook migrate failed · by deployment #1, 1m ago"),
        ("Rollouts are stopped", "the sale · by alice 1m ago, until somebody lifts it"),
        ("Frozen", "environment prod of shop: the sale · by alice 1m ago, 1h 59m left"),
        ("Automatic promotion is on hold", "v2 was pinned by alice · by alice 1m ago"),
    ];
    assert_eq!(journalled, wanted.map(|(title, text)| (title, text.to_owned())));
}
