//! Approve and reject by the command line's door: who may, what is said to those who may not, and what the journal keeps.

use crate::stand::{ADA, ALICE, BOB, CAROL, Stand, path};
use rollout::Fact;
use rollout::stage::Verdict;
use serde_json::{Value, json};

const MALLORY: &str = "arn:aws:sts::111122223333:assumed-role/approver/mallory";

/// A release waits for approval in prod, asked for by `who`.
fn waiting(who: &str) -> (Stand, u64, String) {
    let mut stand = Stand::ladder();
    stand.soaked("api", 1);
    stand.done(who, &path("api", "prod", "/promote"), Value::Null);
    let (number, plan) = stand.asks("api", "prod");
    (stand, number, plan)
}

#[test]
fn two_people_say_yes_and_it_begins() {
    let (mut stand, number, plan) = waiting(ALICE);
    let approve = path("api", "prod", "/approve");
    let first = stand.done(ADA, &approve, json!({"deployment": number, "plan": plan, "reason": "looked at it"}));
    assert_eq!((first["deployment"].clone(), first["actor"]["name"].clone()), (json!(number), json!(ADA)));
    stand.simulation.run_for(120);
    assert_eq!(stand.stage("api", "prod"), Some("gated"), "one of two");
    let twice = stand.refused_to(ADA, "POST", &approve, json!({"deployment": number, "plan": plan}));
    assert_eq!((twice.0, twice.1.as_str()), (409, "said_already"));
    assert!(twice.2.contains("ada has approved"), "{}", twice.2);

    stand.done(CAROL, &approve, json!({"deployment": number, "plan": plan}));
    stand.ends("api", "prod", Verdict::Succeeded);
    let said: Vec<_> = stand
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
fn one_no_with_a_reason_ends_it() {
    let (mut stand, number, plan) = waiting(ALICE);
    let reject = path("api", "prod", "/reject");
    let silent = stand.refused_to(BOB, "POST", &reject, json!({"deployment": number, "plan": plan}));
    assert_eq!((silent.0, silent.1.as_str()), (400, "reason_missing"));
    assert!(silent.2.starts_with("saying no needs a reason"), "{}", silent.2);
    stand.done(BOB, &reject, json!({"deployment": number, "plan": plan, "reason": "not before the audit"}));
    stand.ends("api", "prod", Verdict::Rejected);
    let (_, verdict, reason) = stand.verdicts("api", "prod").pop().expect("it ended");
    assert_eq!((verdict, reason.as_str()), (Verdict::Rejected, "by bob: not before the audit"));
    // Afterwards nobody is asked any more.
    let late =
        stand.refused_to(ADA, "POST", &path("api", "prod", "/approve"), json!({"deployment": number, "plan": plan}));
    assert_eq!((late.0, late.1.as_str()), (409, "not_waiting"));
    assert!(late.2.contains("is over"), "{}", late.2);
}

#[test]
fn a_no_with_the_key_of_a_former_yes_is_a_no() {
    let (mut stand, number, plan) = waiting(ALICE);
    let body = json!({"deployment": number, "plan": plan, "reason": "second thoughts", "request": "mine"});
    assert_eq!(stand.done(ADA, &path("api", "prod", "/approve"), body.clone())["new"], true);
    stand.simulation.run_for(60);
    assert_eq!(stand.done(ADA, &path("api", "prod", "/reject"), body)["new"], true);
    stand.simulation.run_for(60);
    let ended = stand.verdicts("api", "prod").pop();
    assert_eq!(ended, Some((number, Verdict::Rejected, "by ada: second thoughts".to_owned())));
}

#[test]
fn who_may_not_say_it_is_told_so_and_the_journal_has_it_once_an_hour() {
    let (mut stand, number, plan) = waiting(ALICE);
    let body = json!({"deployment": number, "plan": plan, "reason": "because"});
    for verb in ["/approve", "/reject"] {
        for _ in 0..3 {
            let (status, code, message) = stand.refused_to(MALLORY, "POST", &path("api", "prod", verb), body.clone());
            assert_eq!((status, code.as_str()), (403, "not_an_approver"));
            assert!(message.contains("is none of those who may approve here"), "{message}");
            stand.simulation.run_for(60);
        }
    }
    assert_eq!(stand.stage("api", "prod"), Some("gated"));
    let refusals = stand.refusals("api", "prod");
    let asked: Vec<_> = refusals.iter().map(|(who, what, _)| (who.as_str(), what.as_str())).collect();
    assert_eq!(asked, [(MALLORY, "approve"), (MALLORY, "reject")], "{refusals:?}");
    stand.simulation.run_for(3600);
    stand.refused_to(MALLORY, "POST", &path("api", "prod", "/approve"), body);
    stand.simulation.run_for(60);
    assert_eq!(stand.refusals("api", "prod").len(), 3, "an hour later it is told again");
}

#[test]
fn a_journal_cannot_be_filled_with_deployments_that_there_are_not() {
    let (mut stand, number, _) = waiting(ALICE);
    for other in 0..60 {
        let plan = format!("{other:016x}");
        let body = json!({"deployment": number + 1 + other, "plan": plan, "reason": format!("because {other}")});
        for who in [MALLORY, ADA] {
            stand.refused_to(who, "POST", &path("api", "prod", "/approve"), body.clone());
        }
        let body = json!({"deployment": number, "plan": plan, "reason": ""});
        stand.refused_to(ADA, "POST", &path("api", "prod", "/approve"), body);
    }
    stand.simulation.run_for(60);
    let refusals = stand.refusals("api", "prod");
    assert_eq!(refusals.len(), 3, "none of them is there, for each; and another plan: {refusals:#?}");
}

#[test]
fn whoever_asks_for_a_deployment_does_not_approve_it() {
    let (mut stand, number, plan) = waiting(ADA);
    let approve = path("api", "prod", "/approve");
    let (status, code, message) = stand.refused_to(ADA, "POST", &approve, json!({"deployment": number, "plan": plan}));
    assert_eq!((status, code.as_str()), (403, "asked_for_it"));
    assert!(message.contains("ada asked for this deployment, and whoever asks does not approve"), "{message}");
    stand.simulation.run_for(60);
    assert_eq!(stand.refusals("api", "prod").len(), 1);
    stand.done(BOB, &approve, json!({"deployment": number, "plan": plan}));
    stand.done(CAROL, &approve, json!({"deployment": number, "plan": plan}));
    stand.ends("api", "prod", Verdict::Succeeded);
}

#[test]
fn another_plan_or_another_deployment_is_not_approved() {
    let mut stand = Stand::ladder();
    let approve = path("api", "prod", "/approve");
    let nothing = stand.refused_to(ADA, "POST", &approve, json!({"deployment": 1, "plan": "0123456789abcdef"}));
    assert_eq!((nothing.0, nothing.1.as_str()), (409, "not_waiting"));
    assert!(nothing.2.contains("there is no deployment #1"), "{}", nothing.2);

    stand.staged("api", 1);
    stand.done(ALICE, &path("api", "prod", "/promote"), Value::Null);
    stand.gets_to("api", "prod", "gated");
    let gates = stand.status()["state"]["running"]["gates"].clone();
    let early = stand.refused_to(ADA, "POST", &approve, json!({"deployment": 1, "plan": gates["plan"]}));
    assert_eq!(early.0, 409, "{}", early.2);
    assert!(early.2.contains("it is not asked for yet"), "the soak is not over: {}", early.2);
    let (number, plan) = stand.asks("api", "prod");
    let other = stand.refused_to(ADA, "POST", &approve, json!({"deployment": number, "plan": "0123456789abcdef"}));
    assert_eq!((other.0, other.1.as_str()), (409, "plan_changed"));
    stand.done(ADA, &approve, json!({"deployment": number, "plan": plan}));
    stand.simulation.run_for(60);

    // A newer release takes its place: the old one cannot be approved any more, by nobody.
    stand.soaked("api", 2);
    stand.done(ALICE, &path("api", "prod", "/promote"), Value::Null);
    stand.simulation.run_for(60);
    let old = stand.refused_to(BOB, "POST", &approve, json!({"deployment": number, "plan": plan}));
    assert_eq!((old.0, old.1.as_str()), (409, "superseded"));
    assert!(old.2.contains("has given way to a newer release"), "{}", old.2);
    let (next, new_plan) = stand.asks("api", "prod");
    assert_ne!((number, &plan), (next, &new_plan), "the next one is another deployment with a plan of its own");
}

#[test]
fn who_comes_too_late_is_told_how_it_ended() {
    let (mut stand, number, plan) = waiting(ALICE);
    stand.done(ADA, &path("api", "prod", "/approve"), json!({"deployment": number, "plan": plan}));
    stand.simulation.run_for(4 * 3600 + 120);
    let (_, verdict, _) = stand.verdicts("api", "prod").pop().expect("it ended");
    assert_eq!(verdict, Verdict::Expired, "{}", stand.story("api", "prod"));
    let body = json!({"deployment": number, "plan": plan});
    let (status, code, message) = stand.refused_to(BOB, "POST", &path("api", "prod", "/approve"), body);
    assert_eq!((status, code.as_str()), (409, "not_waiting"));
    assert!(message.contains("is over (expired: approval: 1 of 2 approvals within 4h"), "{message}");
}

#[test]
fn a_policy_that_changes_what_waits_voids_what_was_said_and_apply_warns_of_it() {
    let (mut stand, number, plan) = waiting(ALICE);
    stand.done(ADA, &path("api", "prod", "/approve"), json!({"deployment": number, "plan": plan}));
    stand.simulation.run_for(60);
    let mut policy: Value = serde_json::from_str(&stand.text).expect("JSON");
    policy["environments"]["prod"]["targets"]["api"]["strategy"]["bake"] = json!("9m");
    let answer = stand.applied(&policy);
    let warning = answer["warnings"][0].as_str().expect("a warning");
    assert_eq!(
        warning,
        "deployment #1 (v1) waits for approval on shop/api/prod, and what it would do has changed: people are asked \
         anew, and the approval that was given is void"
    );
    // What was looked at is not what would be done, whether the target has noticed yet or not.
    let stale =
        stand.refused_to(BOB, "POST", &path("api", "prod", "/approve"), json!({"deployment": number, "plan": plan}));
    assert_eq!((stale.0, stale.1.as_str()), (409, "plan_changed"));
    stand.simulation.run_for(120);
    let (_, plan) = stand.asks("api", "prod");
    for who in [ADA, BOB] {
        stand.done(who, &path("api", "prod", "/approve"), json!({"deployment": number, "plan": plan}));
    }
    stand.ends("api", "prod", Verdict::Succeeded);
}

#[test]
fn a_target_that_leaves_the_file_while_a_release_waits_there_is_warned_of() {
    let (mut stand, ..) = waiting(ALICE);
    let mut policy: Value = serde_json::from_str(&stand.text).expect("JSON");
    policy["environments"]["prod"]["targets"].as_object_mut().expect("a map").remove("api");
    let answer = stand.applied(&policy);
    let warning = answer["warnings"][0].as_str().expect("a warning");
    assert!(
        warning.starts_with("shop/api/prod is no target any more, and deployment #1 (v1) waits at its gates"),
        "{warning}"
    );
    stand.ends("api", "prod", Verdict::Failed);
}
