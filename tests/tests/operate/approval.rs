//! Approve and reject by the command line's door: who may, what is said to those who may not, and what the journal keeps.

use crate::bench::{ADA, ALICE, BOB, CAROL, TestBench, path};
use rollout::Fact;
use rollout::verdict::Verdict;
use serde_json::{Value, json};

const MALLORY: &str = "arn:aws:sts::111122223333:assumed-role/approver/mallory";

/// A release waits for approval in prod, asked for by `who`.
fn waiting(who: &str) -> (TestBench, u64, String) {
    let mut bench = TestBench::with_staging();
    bench.deploy_to_staging_and_soak("api", 1);
    bench.post_ok(who, &path("api", "prod", "/promote"), Value::Null);
    let (number, plan) = bench.wait_for_approval_request("api", "prod");
    (bench, number, plan)
}

#[test]
fn two_approvals_start_the_deployment() {
    let (mut bench, number, plan) = waiting(ALICE);
    let approve = path("api", "prod", "/approve");
    let first = bench.post_ok(ADA, &approve, json!({"deployment": number, "plan": plan, "reason": "looked at it"}));
    assert_eq!((first["deployment"].clone(), first["actor"]["name"].clone()), (json!(number), json!(ADA)));
    bench.simulation.run_for(120);
    assert_eq!(bench.stage("api", "prod"), Some("gated"), "one of two");
    let twice = bench.refused_to(ADA, "POST", &approve, json!({"deployment": number, "plan": plan}));
    assert_eq!((twice.0, twice.1.as_str()), (409, "already_approved"));
    assert!(twice.2.contains("ada has approved"), "{}", twice.2);

    bench.post_ok(CAROL, &approve, json!({"deployment": number, "plan": plan}));
    bench.wait_for_verdict("api", "prod", Verdict::Succeeded);
    let said: Vec<_> = bench
        .journal("api", "prod")
        .into_iter()
        .filter_map(|entry| match entry.fact {
            Fact::Approved { person, approvals, required, reason, .. } => {
                Some((person.to_string(), entry.actor.to_string(), approvals, required, reason))
            }
            _ => None,
        })
        .collect();
    let wanted = [
        ("ada".to_owned(), ADA.to_owned(), 1, 2, "looked at it".to_owned()),
        ("carol".to_owned(), CAROL.to_owned(), 2, 2, String::new()),
    ];
    assert_eq!(said, wanted);
}

#[test]
fn one_rejection_with_a_reason_ends_it() {
    let (mut bench, number, plan) = waiting(ALICE);
    let reject = path("api", "prod", "/reject");
    let silent = bench.refused_to(BOB, "POST", &reject, json!({"deployment": number, "plan": plan}));
    assert_eq!((silent.0, silent.1.as_str()), (400, "reason_missing"));
    assert!(silent.2.starts_with("saying no needs a reason"), "{}", silent.2);
    bench.post_ok(BOB, &reject, json!({"deployment": number, "plan": plan, "reason": "not before the audit"}));
    bench.wait_for_verdict("api", "prod", Verdict::Rejected);
    let (_, verdict, reason) = bench.verdicts("api", "prod").pop().expect("it ended");
    assert_eq!((verdict, reason.as_str()), (Verdict::Rejected, "by bob: not before the audit"));
    // Afterwards nobody is asked any more.
    let late =
        bench.refused_to(ADA, "POST", &path("api", "prod", "/approve"), json!({"deployment": number, "plan": plan}));
    assert_eq!((late.0, late.1.as_str()), (409, "not_waiting"));
    assert!(late.2.contains("is over"), "{}", late.2);
}

#[test]
fn a_rejection_may_reuse_an_approvals_request_key() {
    let (mut bench, number, plan) = waiting(ALICE);
    let body = json!({"deployment": number, "plan": plan, "reason": "second thoughts", "request": "mine"});
    assert_eq!(bench.post_ok(ADA, &path("api", "prod", "/approve"), body.clone())["new"], true);
    bench.simulation.run_for(60);
    assert_eq!(bench.post_ok(ADA, &path("api", "prod", "/reject"), body)["new"], true);
    bench.simulation.run_for(60);
    let ended = bench.verdicts("api", "prod").pop();
    assert_eq!(ended, Some((number, Verdict::Rejected, "by ada: second thoughts".to_owned())));
}

#[test]
fn a_non_approver_is_refused_and_journalled_once_an_hour() {
    let (mut bench, number, plan) = waiting(ALICE);
    let body = json!({"deployment": number, "plan": plan, "reason": "because"});
    for verb in ["/approve", "/reject"] {
        for _ in 0..3 {
            let (status, code, message) = bench.refused_to(MALLORY, "POST", &path("api", "prod", verb), body.clone());
            assert_eq!((status, code.as_str()), (403, "not_an_approver"));
            assert!(message.contains("is none of those who may approve here"), "{message}");
            bench.simulation.run_for(60);
        }
    }
    assert_eq!(bench.stage("api", "prod"), Some("gated"));
    let refusals = bench.refusals("api", "prod");
    let asked: Vec<_> = refusals.iter().map(|(who, what, _)| (who.as_str(), what.as_str())).collect();
    assert_eq!(asked, [(MALLORY, "approve"), (MALLORY, "reject")], "{refusals:?}");
    bench.simulation.run_for(3600);
    bench.refused_to(MALLORY, "POST", &path("api", "prod", "/approve"), body);
    bench.simulation.run_for(60);
    assert_eq!(bench.refusals("api", "prod").len(), 3, "an hour later it is recorded again");
}

#[test]
fn votes_for_unknown_deployments_cannot_flood_the_journal() {
    let (mut bench, number, _) = waiting(ALICE);
    for other in 0..60 {
        let plan = format!("{other:016x}");
        let body = json!({"deployment": number + 1 + other, "plan": plan, "reason": format!("because {other}")});
        for who in [MALLORY, ADA] {
            bench.refused_to(who, "POST", &path("api", "prod", "/approve"), body.clone());
        }
        let body = json!({"deployment": number, "plan": plan, "reason": ""});
        bench.refused_to(ADA, "POST", &path("api", "prod", "/approve"), body);
    }
    bench.simulation.run_for(60);
    let refusals = bench.refusals("api", "prod");
    assert_eq!(refusals.len(), 3, "none of them is there, for each; and another plan: {refusals:#?}");
}

#[test]
fn the_requester_cannot_approve() {
    let (mut bench, number, plan) = waiting(ADA);
    let approve = path("api", "prod", "/approve");
    let (status, code, message) = bench.refused_to(ADA, "POST", &approve, json!({"deployment": number, "plan": plan}));
    assert_eq!((status, code.as_str()), (403, "requester_approves"));
    assert!(message.contains("ada requested this deployment, and requesters do not approve"), "{message}");
    bench.simulation.run_for(60);
    assert_eq!(bench.refusals("api", "prod").len(), 1);
    bench.post_ok(BOB, &approve, json!({"deployment": number, "plan": plan}));
    bench.post_ok(CAROL, &approve, json!({"deployment": number, "plan": plan}));
    bench.wait_for_verdict("api", "prod", Verdict::Succeeded);
}

#[test]
fn votes_for_another_plan_or_deployment_are_refused() {
    let mut bench = TestBench::with_staging();
    let approve = path("api", "prod", "/approve");
    let nothing = bench.refused_to(ADA, "POST", &approve, json!({"deployment": 1, "plan": "0123456789abcdef"}));
    assert_eq!((nothing.0, nothing.1.as_str()), (409, "not_waiting"));
    assert!(nothing.2.contains("there is no deployment #1"), "{}", nothing.2);

    bench.deploy_to_staging("api", 1);
    bench.post_ok(ALICE, &path("api", "prod", "/promote"), Value::Null);
    bench.wait_for_stage("api", "prod", "gated");
    let gates = bench.status()["state"]["running"]["gates"].clone();
    let early = bench.refused_to(ADA, "POST", &approve, json!({"deployment": 1, "plan": gates["plan"]}));
    assert_eq!(early.0, 409, "{}", early.2);
    assert!(early.2.contains("not requested yet"), "the soak is not over: {}", early.2);
    let (number, plan) = bench.wait_for_approval_request("api", "prod");
    let other = bench.refused_to(ADA, "POST", &approve, json!({"deployment": number, "plan": "0123456789abcdef"}));
    assert_eq!((other.0, other.1.as_str()), (409, "plan_changed"));
    bench.post_ok(ADA, &approve, json!({"deployment": number, "plan": plan}));
    bench.simulation.run_for(60);

    // A newer release takes its place: the old one cannot be approved any more, by nobody.
    bench.deploy_to_staging_and_soak("api", 2);
    bench.post_ok(ALICE, &path("api", "prod", "/promote"), Value::Null);
    bench.simulation.run_for(60);
    let old = bench.refused_to(BOB, "POST", &approve, json!({"deployment": number, "plan": plan}));
    assert_eq!((old.0, old.1.as_str()), (409, "superseded"));
    assert!(old.2.contains("was superseded by a newer release"), "{}", old.2);
    let (next, new_plan) = bench.wait_for_approval_request("api", "prod");
    assert_ne!((number, &plan), (next, &new_plan), "the next one is another deployment with a plan of its own");
}

#[test]
fn a_late_vote_is_refused_with_the_verdict() {
    let (mut bench, number, plan) = waiting(ALICE);
    bench.post_ok(ADA, &path("api", "prod", "/approve"), json!({"deployment": number, "plan": plan}));
    bench.simulation.run_for(4 * 3600 + 120);
    let (_, verdict, _) = bench.verdicts("api", "prod").pop().expect("it ended");
    assert_eq!(verdict, Verdict::Expired, "{}", bench.journal_text("api", "prod"));
    let body = json!({"deployment": number, "plan": plan});
    let (status, code, message) = bench.refused_to(BOB, "POST", &path("api", "prod", "/approve"), body);
    assert_eq!((status, code.as_str()), (409, "not_waiting"));
    assert!(message.contains("is over (expired: approval: 1 of 2 approvals within 4h"), "{message}");
}

#[test]
fn changing_the_plan_voids_approvals_with_a_warning() {
    let (mut bench, number, plan) = waiting(ALICE);
    bench.post_ok(ADA, &path("api", "prod", "/approve"), json!({"deployment": number, "plan": plan}));
    bench.simulation.run_for(60);
    let mut policy: Value = serde_json::from_str(&bench.text).expect("JSON");
    policy["environments"]["prod"]["targets"]["api"]["strategy"]["bake"] = json!("9m");
    let answer = bench.applied(&policy);
    let warning = answer["warnings"][0].as_str().expect("a warning");
    assert_eq!(
        warning,
        "deployment #1 (v1) waits for approval on shop/api/prod, and what it would do has changed: people are asked \
         anew, and the approval that was given is void"
    );
    // What was looked at is not what would be done, whether the target has noticed yet or not.
    let stale =
        bench.refused_to(BOB, "POST", &path("api", "prod", "/approve"), json!({"deployment": number, "plan": plan}));
    assert_eq!((stale.0, stale.1.as_str()), (409, "plan_changed"));
    bench.simulation.run_for(120);
    let (_, plan) = bench.wait_for_approval_request("api", "prod");
    for who in [ADA, BOB] {
        bench.post_ok(who, &path("api", "prod", "/approve"), json!({"deployment": number, "plan": plan}));
    }
    bench.wait_for_verdict("api", "prod", Verdict::Succeeded);
}

#[test]
fn removing_a_target_with_a_waiting_release_warns() {
    let (mut bench, ..) = waiting(ALICE);
    let mut policy: Value = serde_json::from_str(&bench.text).expect("JSON");
    policy["environments"]["prod"]["targets"].as_object_mut().expect("a map").remove("api");
    let answer = bench.applied(&policy);
    let warning = answer["warnings"][0].as_str().expect("a warning");
    assert!(
        warning.starts_with("shop/api/prod is no target any more, and deployment #1 (v1) waits at its gates"),
        "{warning}"
    );
    bench.wait_for_verdict("api", "prod", Verdict::Failed);
}
