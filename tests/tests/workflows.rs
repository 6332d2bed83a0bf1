//! What workflows of GitHub Actions ask, over the whole loop in virtual time: requests as the HTTP API has them after its
//! JWT authorizer, the grants of a policy file, and what becomes of it in ledger and journal.

use engine::workflows::{MAX_REQUEST_BYTES, UnverifiedClaims, Workflows};
use futures::task::noop_waker;
use rollout::verdict::Verdict;
use rollout::{Actor, Fact, Instruction, JournalEntry, Name, Seconds, TargetId};
use serde_json::{Value, json};
use simulation::virtual_time::{Faults, Simulation, Started};
use simulation::world::Settings;
use simulation::world::scene::{PairSetup, build_application};
use std::collections::BTreeMap;
use std::task::{Context, Poll};

const HOUR: u64 = 3600;

/// The services `api` and `web`, which depends on it, in `dev`, `staging` and `prod`; a push deploys to `dev`.
struct TestBench {
    simulation: Simulation,
    policy: Value,
    versions: u32,
}

/// What a job's token says, but for when it was issued.
type Claims = BTreeMap<&'static str, String>;

fn target(text: &str) -> TargetId {
    TargetId::parse(text).expect("a target")
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// A job of the workflow `promote.yml` on `main`, started by octocat.
fn job() -> Claims {
    let claims = [
        ("repository", "octo/shop"),
        ("repository_id", "123456789"),
        ("repository_owner_id", "987654"),
        ("ref", "refs/heads/main"),
        ("sha", "4f1c2a9be0d3a76f5c8e1b2d3f405162738495a6"),
        ("workflow_ref", "octo/shop/.github/workflows/promote.yml@refs/heads/main"),
        ("event_name", "workflow_dispatch"),
        ("run_id", "9001"),
        ("run_attempt", "1"),
        ("actor", "octocat"),
        ("actor_id", "1815"),
    ];
    claims.into_iter().map(|(claim, value)| (claim, value.to_owned())).collect()
}

/// The same job in GitHub's environment `production`.
fn production() -> Claims {
    with(job(), &[("environment", "production")])
}

fn with(mut claims: Claims, changed: &[(&'static str, &str)]) -> Claims {
    claims.extend(changed.iter().map(|(claim, value)| (*claim, (*value).to_owned())));
    claims
}

fn promotion(kind: &str, environment: &str, services: Value) -> Value {
    json!({"kind": kind, "application": "shop", "environment": environment, "services": services})
}

impl TestBench {
    fn new() -> Self {
        Self::with(Faults::default())
    }

    fn with(faults: Faults) -> Self {
        let mut scenes = Vec::new();
        for environment in ["dev", "staging", "prod"] {
            for service in ["api", "web"] {
                let mut scene = PairSetup::new("shop", service, environment);
                scene.strategy.steps.truncate(1);
                scene.strategy.steps[0].traffic = rollout::Percent::ALL;
                scene.strategy.steps[0].hold = Seconds(5);
                scene.strategy.bake = Seconds(20);
                scene.strategy.keep_warm = Seconds(5);
                scenes.push(scene);
            }
        }
        let built = build_application(&scenes, Settings::default());
        let mut policy = policy::render(&built.policy);
        policy["services"]["web"]["depends_on"] = json!(["api"]);
        policy["people"] = json!({
            "ada": {"slack": "U012AB3CD"}, "bob": {"slack": "U045EF6GH"}, "octocat": {"slack": "U000OCTO0", "github": "1815"},
        });
        for (environment, after) in [("staging", "dev"), ("prod", "staging")] {
            policy["environments"][environment]["trigger"] = json!("manual");
            policy["environments"][environment]["after"] = json!(after);
        }
        let prod = &mut policy["environments"]["prod"];
        prod["approval"] = json!({"required": 2, "from": ["ada", "bob", "octocat"], "expires": "4h"});
        prod["hotfix"] = json!({"skips": ["after", "soak", "approval"]});
        let ours = json!({"repository_id": "123456789", "repository_owner_id": "987654", "refs": ["refs/heads/main"],
            "workflows": [".github/workflows/promote.yml"], "events": ["workflow_dispatch"]});
        let grant = |more: Value| {
            let mut grant = ours.clone();
            grant.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            grant
        };
        policy["github"] = json!([
            grant(json!({"may": ["promote", "deploy"], "environments": ["dev", "staging"]})),
            grant(
                json!({"may": ["promote"], "environments": ["prod"], "services": ["api"], "environment": "production"})
            ),
            grant(json!({"may": ["hotfix"], "environments": ["prod"], "services": ["api"], "environment": "hotfix"})),
        ]);
        let simulation = Simulation::of_application(built, faults);
        let mut bench = Self { simulation, policy, versions: 1 };
        bench.apply(|_| {});
        bench
    }

    fn apply(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.policy);
        self.versions += 1;
        let checked = policy::parse(&self.policy.to_string()).unwrap_or_else(|problems| panic!("{problems:#?}"));
        self.simulation.apply_policy(&checked, &format!("version {}", self.versions));
    }

    /// What a job asks with a token that was issued `age` seconds ago.
    fn raw(&mut self, claims: &Claims, age: i64, method: &str, path: &str, query: &str, body: &str) -> (u16, Value) {
        let issued_at = (self.simulation.now().as_second() - age).to_string();
        let claims = UnverifiedClaims::of(|claim| match claim {
            "iat" => Some(issued_at.as_str()),
            other => claims.get(other).map(String::as_str),
        });
        let (ledger, _, wake_queue, clock) = self.simulation.ports();
        let workflows = Workflows { ledger: &ledger, wake_queue: &wake_queue, clock: &clock };
        let mut answer = Box::pin(workflows.route(method, path, query, body, &claims));
        for _ in 0..1000 {
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut Context::from_waker(&noop_waker())) {
                return answer;
            }
            self.simulation.run_for(1);
        }
        panic!("{method} {path} never answered");
    }

    fn ask(&mut self, claims: &Claims, body: &Value) -> (u16, Value) {
        self.raw(claims, 1, "POST", "/v1/promotions", "", &body.to_string())
    }

    #[track_caller]
    fn accepted(&mut self, claims: &Claims, body: &Value) -> Value {
        let (status, answer) = self.ask(claims, body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    #[track_caller]
    fn refused(&mut self, claims: &Claims, body: &Value) -> (u16, String, String) {
        let (status, answer) = self.ask(claims, body);
        assert!(status >= 400, "{answer}");
        let text = |key: &str| answer["error"][key].as_str().expect("every error has it").to_owned();
        (status, text("code"), text("message"))
    }

    /// Pushes a release, and lets `dev` verify it.
    #[track_caller]
    fn push_and_verify(&mut self, service: &str, number: u64) {
        self.simulation.push_service(&name(service), number, Started::Event);
        self.wait_for_verdict(&target(&format!("shop/{service}/dev")), Verdict::Succeeded);
    }

    /// Until the target's newest deployment has ended like this, and nothing waits there.
    #[track_caller]
    fn wait_for_verdict(&mut self, target: &TargetId, verdict: Verdict) {
        self.simulation.run_for(5);
        let over = self.simulation.run_until_condition(HOUR, |simulation| {
            let state = simulation.at(target).state();
            state.is_some_and(|state| state.running.is_none() && state.queued.is_empty())
        });
        assert!(over, "{}", self.simulation.journal_texts());
        let found = self.simulation.at(target).verdicts().pop().map(|(_, verdict, _)| verdict);
        assert_eq!(found, Some(verdict), "{}", self.simulation.journal_texts());
    }

    fn journal(&self, target: &TargetId) -> Vec<JournalEntry> {
        self.simulation.at(target).journal()
    }

    /// Refusals in a target's journal: who, what, why.
    fn refusals(&self, target: &TargetId) -> Vec<(String, String, String)> {
        let refusals = self.journal(target).into_iter().filter_map(|entry| match entry.fact {
            Fact::CommandRefused { command, reason } => Some((entry.actor.to_string(), command, reason)),
            _ => None,
        });
        refusals.collect()
    }

    /// Deployments that were ever begun, asked for or queued on any target but those in `dev`.
    fn deployments(&self) -> u64 {
        let mut count = 0;
        for environment in ["staging", "prod"] {
            for service in ["api", "web"] {
                let target = target(&format!("shop/{service}/{environment}"));
                count += self.simulation.at(&target).state().map_or(0, |state| state.last_deployment);
                let commands = self.simulation.ledger().store().commands(&target);
                count +=
                    commands.iter().filter(|command| matches!(command.instruction, Instruction::Deploy { .. })).count()
                        as u64;
            }
        }
        count
    }
}

#[test]
fn a_workflow_promotes_what_dev_has_verified() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    let staging = target("shop/api/staging");
    let mut body = promotion("promote", "staging", json!({"api": null}));
    body["reason"] = json!("the fix for the basket");
    let answer = bench.accepted(&job(), &body);
    assert_eq!((answer["train"].clone(), answer["already_there"].clone()), (Value::Null, json!([])));
    let accepted = &answer["asked"][0];
    assert_eq!((accepted["release"]["tag"].clone(), accepted["new"].clone()), (json!("v1"), json!(true)));
    assert_eq!(accepted["actor"], json!({"kind": "workflow", "name": "github:octo/shop@9001", "actor_id": "1815"}));

    bench.wait_for_verdict(&staging, Verdict::Succeeded);
    let record = bench.simulation.ledger().store().history(&staging, 1).pop().expect("one");
    assert_eq!(record.actor.to_string(), "github:octo/shop@9001");
    let started = bench.journal(&staging).into_iter().find_map(|entry| match entry.fact {
        Fact::Started { reason, .. } => Some(reason),
        _ => None,
    });
    let words = "the fix for the basket (main at 4f1c2a9, .github/workflows/promote.yml)";
    assert_eq!(started.as_deref(), Some(words));

    // The same to which a job's questions are answered as an operator's are.
    for (path, key) in [("", "state"), ("/history", "deployments"), ("/journal", "entries")] {
        let path = format!("/v1/promotions/shop/api/staging{path}");
        let (status, answer) = bench.raw(&job(), 250, "GET", &path, "", "");
        assert_eq!(status, 200, "{answer}");
        assert!(!answer[key].is_null(), "{path}: {answer}");
    }
    let (_, after) = bench.raw(&job(), 1, "GET", "/v1/promotions/shop/api/staging/journal", "after=2&limit=1", "");
    assert_eq!(after["entries"][0]["sequence"], 3);
}

#[test]
fn an_ungranted_request_gets_a_generic_403() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    let prod = || promotion("promote", "prod", json!({"api": "v1"}));
    let cases: Vec<(&str, Claims, Value)> = vec![
        // The repository's name was given up, and somebody else has it now.
        ("another repository of the same name", with(production(), &[("repository_id", "555")]), prod()),
        ("another owner of the same name", with(production(), &[("repository_owner_id", "555")]), prod()),
        (
            "a fork's pull request",
            with(production(), &[("event_name", "pull_request"), ("ref", "refs/pull/7/merge")]),
            prod(),
        ),
        ("a pull request's target", with(production(), &[("event_name", "pull_request_target")]), prod()),
        ("the merge of a pull request", with(production(), &[("ref", "refs/pull/7/merge")]), prod()),
        ("another event", with(production(), &[("event_name", "push")]), prod()),
        ("another branch", with(production(), &[("ref", "refs/heads/mine")]), prod()),
        ("a branch that only begins like that", with(production(), &[("ref", "refs/heads/main2")]), prod()),
        (
            "another workflow",
            with(production(), &[("workflow_ref", "octo/shop/.github/workflows/x.yml@refs/heads/main")]),
            prod(),
        ),
        ("no GitHub environment", job(), prod()),
        ("another GitHub environment", with(job(), &[("environment", "staging")]), prod()),
        ("no run", with(production(), &[("run_id", "")]), prod()),
        ("no repository", with(production(), &[("repository_id", "")]), prod()),
        ("another deed", production(), promotion("deploy", "prod", json!({"api": "v1"}))),
        ("the hotfix lane", production(), promotion("hotfix", "prod", json!({"api": "v1"}))),
        ("another service", production(), promotion("promote", "prod", json!({"web": "v1"}))),
        ("one service too many", production(), promotion("promote", "prod", json!({"api": "v1", "web": "v1"}))),
        ("all services", production(), promotion("promote", "prod", json!({}))),
        ("no such environment", production(), promotion("promote", "qa", json!({"api": "v1"}))),
        ("no such service", production(), promotion("promote", "prod", json!({"cart": "v1"}))),
        ("no such application", production(), json!({"kind": "promote", "application": "bank", "environment": "prod"})),
    ];
    let (_, first) = bench.ask(&cases[0].1, &cases[0].2);
    assert_eq!(first["error"]["code"], "not_allowed");
    for (what, claims, body) in &cases {
        let (status, answer) = bench.ask(claims, body);
        assert_eq!((status, &answer), (403, &first), "{what}");
        let path = format!("/v1/promotions/{}/api/prod", body["application"].as_str().expect("a name"));
        if claims["repository_id"] != "123456789" || body["application"] == "bank" {
            let (status, answer) = bench.raw(claims, 1, "GET", &path, "", "");
            assert_eq!((status, &answer), (403, &first), "{what}: it may look");
        }
    }
    bench.simulation.run_for(60);
    assert_eq!(bench.deployments(), 0, "{}", bench.simulation.journal_texts());
    // What the answers keep to themselves, the journal tells.
    let refusals_seen = bench.refusals(&target("shop/api/prod"));
    for part in
        ["refs/heads/mine fits none", "no GitHub environment", "hotfix is nothing that it `may`", "run_id", "x.yml"]
    {
        assert!(refusals_seen.iter().any(|(_, _, reason)| reason.contains(part)), "{part}: {refusals_seen:#?}");
    }
    assert!(
        refusals_seen.iter().all(|(_, _, reason)| !reason.contains("555")),
        "a stranger's own words: {refusals_seen:#?}"
    );
}

#[test]
fn an_old_token_is_refused() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    let body = promotion("promote", "staging", json!({"api": "v1"})).to_string();
    for age in [121, 299, -90] {
        let (status, answer) = bench.raw(&job(), age, "POST", "/v1/promotions", "", &body);
        assert_eq!((status, answer["error"]["code"].as_str()), (403, Some("not_allowed")), "{age} s");
    }
    bench.simulation.run_for(60);
    let refusals_seen = bench.refusals(&target("shop/api/staging"));
    assert_eq!(refusals_seen.len(), 1, "{refusals_seen:#?}");
    assert!(refusals_seen[0].2.contains("not issued just now"), "{refusals_seen:#?}");
    assert_eq!(bench.deployments(), 0);
}

#[test]
fn refusals_are_journalled_once_an_hour_per_caller_group() {
    let mut bench = TestBench::new();
    let staging = target("shop/api/staging");
    let body = promotion("promote", "staging", json!({"api": "v1"}));
    let branch = with(job(), &[("ref", "refs/heads/mine")]);
    for run in 0..20 {
        let run = run.to_string();
        bench.refused(&with(branch.clone(), &[("run_id", &run)]), &body);
        bench.refused(&with(job(), &[("repository_id", &run), ("repository", "evil/twin"), ("run_id", &run)]), &body);
        bench.simulation.run_for(3);
    }
    bench.simulation.run_for(60);
    let refusals_seen = bench.refusals(&staging);
    let by = |actor: &str| refusals_seen.iter().filter(|(known, _, _)| known == actor).count();
    assert_eq!((refusals_seen.len(), by("github:octo/shop"), by("github:others")), (2, 1, 1), "{refusals_seen:#?}");
    assert!(refusals_seen.iter().all(|(_, what, _)| what == "promote"), "{refusals_seen:#?}");
    assert!(refusals_seen.iter().all(|(_, _, reason)| !reason.contains("evil")), "{refusals_seen:#?}");

    bench.simulation.run_for(HOUR);
    bench.refused(&branch, &body);
    bench.simulation.run_for(60);
    assert_eq!(bench.refusals(&staging).len(), 3);
}

#[test]
fn made_up_branches_cannot_flood_the_journal() {
    let mut bench = TestBench::new();
    let prod = target("shop/api/prod");
    let body = promotion("promote", "prod", json!({"api": "v1"}));
    for own in 0..60 {
        let (branch, environment) = (format!("refs/heads/mine-{own}"), format!("mine-{own}"));
        bench.refused(&with(production(), &[("ref", &branch)]), &body);
        bench.refused(&with(production(), &[("environment", &environment)]), &body);
    }
    bench.simulation.run_for(60);
    let refusals_seen = bench.refusals(&prod);
    assert_eq!(refusals_seen.len(), 2, "one for refs and one for environments: {refusals_seen:#?}");
}

#[test]
fn ledger_errors_are_not_shown_to_unknown_callers() {
    let mut bench = TestBench::with(Faults { unavailable: 1.0, ..Faults::default() });
    let unknown_caller = with(job(), &[("repository_id", "1"), ("repository", "evil/twin")]);
    for (method, path, body) in [
        ("POST", "/v1/promotions", promotion("promote", "prod", json!({"api": "v1"})).to_string()),
        ("GET", "/v1/promotions/shop/api/prod", String::new()),
    ] {
        let (status, answer) = bench.raw(&unknown_caller, 1, method, path, "", &body);
        assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("ledger_unavailable")), "{answer}");
        let message = answer["error"]["message"].as_str().expect("every error has one");
        assert!(message.starts_with("the control plane could not answer"), "{message}");
    }
}

#[test]
fn token_claims_are_kept_beside_a_long_reason() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    let mut body = promotion("promote", "staging", json!({"api": "v1"}));
    body["reason"] = json!("x".repeat(500));
    body["provenance"] = json!({"commit": "feedbeef", "ref": "refs/heads/safe"});
    bench.accepted(&with(job(), &[("run_attempt", "2")]), &body);
    bench.simulation.run_for(5);
    let staging = target("shop/api/staging");
    let reason = bench.journal(&staging).into_iter().find_map(|entry| match entry.fact {
        Fact::Started { reason, .. } => Some(reason),
        _ => None,
    });
    let reason = reason.expect("it began");
    assert!(reason.starts_with("xxx") && reason.chars().count() <= 500, "{reason}");
    assert!(reason.contains(".github/workflows/promote.yml, attempt 2)"), "{reason}");
}

#[test]
fn only_canonical_paths_are_routed() {
    let mut bench = TestBench::new();
    for path in [
        "/v1/promotions/",
        "//v1/promotions",
        "/v1//promotions",
        "/v1/promotions/shop/api/prod/",
        "/v1/promotions/shop%2Fapi%2Fprod",
        "/v1/promotions/shop/api/prod/../dev",
        "/V1/promotions",
        "v1/promotions",
    ] {
        for method in ["GET", "POST"] {
            let (status, answer) = bench.raw(&job(), 1, method, path, "", "");
            assert_eq!((status, answer["error"]["code"].as_str()), (404, Some("unknown_route")), "{method} {path}");
        }
    }
}

#[test]
fn a_rerun_requests_a_deployment_once() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    let staging = target("shop/api/staging");
    let body = promotion("promote", "staging", json!({"api": null}));
    let first = bench.accepted(&job(), &body);
    bench.wait_for_verdict(&staging, Verdict::Succeeded);
    // Meanwhile there is something newer; what the run asks for is what it asked for.
    bench.push_and_verify("api", 2);
    let again = with(job(), &[("run_attempt", "2"), ("actor_id", "4711")]);
    let answer = bench.accepted(&again, &body);
    assert_eq!((answer["asked"].clone(), answer["already_there"].clone()), (json!([]), json!(["shop/api/staging"])));
    assert_eq!(first["asked"][0]["release"]["tag"], "v1");
    bench.simulation.run_for(60);
    assert_eq!(bench.deployments(), 1);

    // Another run asks for what is newest then; asking twice while that goes on adds nothing.
    let other = with(job(), &[("run_id", "9002")]);
    let second = bench.accepted(&other, &body);
    assert_eq!(
        (second["asked"][0]["release"]["tag"].clone(), second["asked"][0]["new"].clone()),
        (json!("v2"), json!(true))
    );
    bench.simulation.run_for(5);
    let twice = bench.accepted(&with(other, &[("run_attempt", "2")]), &body);
    assert_eq!(twice["asked"][0]["command"], second["asked"][0]["command"]);
    assert_eq!((twice["asked"][0]["new"].clone(), twice["asked"][0]["deployment"].clone()), (json!(false), json!(2)));
    bench.wait_for_verdict(&staging, Verdict::Succeeded);
    assert_eq!(bench.deployments(), 2);
}

#[test]
fn only_verified_releases_are_promoted() {
    let mut bench = TestBench::new();
    let body = promotion("promote", "staging", json!({"api": null}));
    let (status, code, message) = bench.refused(&job(), &body);
    assert_eq!((status, code.as_str()), (409, "nothing_verified"), "{message}");
    // Pushed, and not deployed yet.
    bench.apply(|policy| policy["environments"]["dev"]["trigger"] = json!("manual"));
    bench.simulation.push_service(&name("api"), 1, Started::Event);
    bench.simulation.run_for(20);
    for kind in ["promote", "deploy"] {
        let (status, code, message) = bench.refused(&job(), &promotion(kind, "staging", json!({"api": "v1"})));
        assert_eq!((status, code.as_str()), (409, "not_verified"), "{message}");
    }
    // A right to promote is none to bring just anything to the first environment.
    let (status, code, _) = bench.refused(&job(), &promotion("promote", "dev", json!({"api": "v1"})));
    assert_eq!((status, code.as_str()), (409, "nothing_before"));
    assert_eq!(bench.deployments(), 0);
    let answer = bench.accepted(&job(), &promotion("deploy", "dev", json!({"api": "v1"})));
    assert_eq!(answer["asked"][0]["target"], "shop/api/dev");
    bench.wait_for_verdict(&target("shop/api/dev"), Verdict::Succeeded);
}

#[test]
fn a_release_not_pushed_yet_is_unknown() {
    let mut bench = TestBench::new();
    let body = promotion("deploy", "dev", json!({"api": "v7"}));
    let (status, code, _) = bench.refused(&job(), &body);
    assert_eq!((status, code.as_str()), (404, "unknown_release"));
    bench.apply(|policy| policy["environments"]["dev"]["trigger"] = json!("manual"));
    bench.simulation.push_service(&name("api"), 7, Started::Event);
    bench.simulation.run_for(10);
    assert_eq!(bench.accepted(&job(), &body)["asked"][0]["release"]["tag"], "v7");
    // Whoever has no grant is not told which releases there are.
    let (_, code, _) =
        bench.refused(&with(job(), &[("ref", "refs/heads/x")]), &promotion("deploy", "dev", json!({"api": "v8"})));
    assert_eq!(code, "not_allowed");
}

#[test]
fn several_services_deploy_as_a_train() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    bench.push_and_verify("web", 101);
    let body = promotion("promote", "staging", json!({"web": null, "api": null}));
    let answer = bench.accepted(&job(), &body);
    let services: Vec<&str> =
        answer["asked"].as_array().expect("a list").iter().filter_map(|accepted| accepted["target"].as_str()).collect();
    assert_eq!(services, ["shop/api/staging", "shop/web/staging"]);
    let train = answer["train"].as_str().expect("a train").to_owned();
    assert!(train.starts_with("github:123456789:9001:promote:"), "{train}");
    let [api, web] = ["shop/api/staging", "shop/web/staging"].map(target);
    bench.wait_for_verdict(&api, Verdict::Succeeded);
    bench.wait_for_verdict(&web, Verdict::Succeeded);
    let verified = |target: &TargetId, stage: &str| {
        let found = bench.journal(target).into_iter().find(|entry| match &entry.fact {
            Fact::Verified { .. } => stage == "verified",
            Fact::StageEntered { stage: found, .. } => found.name() == stage,
            _ => false,
        });
        found.unwrap_or_else(|| panic!("{target} was never {stage}")).at
    };
    assert!(verified(&web, "preflight") >= verified(&api, "verified"), "{}", bench.simulation.journal_texts());
    // Again: all of it is there.
    let answer = bench.accepted(&with(job(), &[("run_attempt", "2")]), &body);
    assert_eq!(answer["asked"], json!([]));
    assert_eq!(answer["already_there"], json!(["shop/api/staging", "shop/web/staging"]));
    // Without a list it is every service that there is.
    bench.push_and_verify("web", 102);
    let all = bench.accepted(&with(job(), &[("run_id", "9002")]), &promotion("promote", "staging", json!({})));
    assert_eq!(all["already_there"], json!(["shop/api/staging"]), "{all}");
    assert_eq!(all["asked"][0]["target"], "shop/web/staging");
}

#[test]
fn one_refused_member_refuses_the_train() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    let (status, code, message) =
        bench.refused(&job(), &promotion("promote", "staging", json!({"web": null, "api": null})));
    assert_eq!((status, code.as_str()), (409, "nothing_verified"), "{message}");
    bench.simulation.run_for(60);
    assert_eq!(bench.deployments(), 0);
}

#[test]
fn whoever_started_the_run_cannot_approve() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    bench.accepted(&job(), &promotion("promote", "staging", json!({"api": "v1"})));
    bench.wait_for_verdict(&target("shop/api/staging"), Verdict::Succeeded);
    let prod = target("shop/api/prod");
    bench.accepted(&production(), &promotion("promote", "prod", json!({"api": null})));
    let waits = |simulation: &mut Simulation| {
        let gates = simulation.at(&prod).state().and_then(|state| state.running).and_then(|running| running.gates);
        gates.is_some_and(|gates| gates.requested_at.is_some())
    };
    assert!(bench.simulation.run_until_condition(HOUR, waits), "{}", bench.simulation.journal_texts());
    let running = bench.simulation.at(&prod).state().and_then(|state| state.running).expect("it waits");
    let plan = running.gates.expect("at its gates").plan;
    let approve = Instruction::Approve { deployment: running.number, plan };
    for user in ["U000OCTO0", "U012AB3CD"] {
        bench.simulation.ask_of(&prod, approve.clone(), Actor::Person { name: format!("slack:{user}") }, "");
    }
    bench.simulation.run_for(30);
    let state = bench.simulation.at(&prod).state().expect("a state");
    let votes = state.running.and_then(|running| running.gates).expect("it still waits").votes;
    assert_eq!(votes.iter().map(|vote| vote.person.as_str()).collect::<Vec<_>>(), ["ada"]);
    bench.simulation.ask_of(&prod, approve, Actor::Person { name: "slack:U045EF6GH".to_owned() }, "");
    bench.wait_for_verdict(&prod, Verdict::Succeeded);
}

#[test]
fn a_hotfix_needs_its_own_grant_a_lane_and_a_reason() {
    let mut bench = TestBench::new();
    bench.simulation.push_service(&name("api"), 1, Started::Silent);
    let hotfixer = with(job(), &[("environment", "hotfix")]);
    bench.push_and_verify("api", 2);
    let mut body = promotion("hotfix", "prod", json!({"api": "v2"}));
    let (status, code, _) = bench.refused(&hotfixer, &body);
    assert_eq!((status, code.as_str()), (400, "reason_missing"));
    body["reason"] = json!("the basket is empty for everybody");
    let (_, code, _) = bench.refused(&production(), &body);
    assert_eq!(code, "not_allowed");
    bench.accepted(&hotfixer, &body);
    bench.wait_for_verdict(&target("shop/api/prod"), Verdict::Succeeded);
    let record = bench.simulation.ledger().store().history(&target("shop/api/prod"), 1).pop().expect("one");
    assert!(record.hotfix, "{record:?}");
    bench.apply(|policy| drop(policy["environments"]["prod"].as_object_mut().map(|prod| prod.remove("hotfix"))));
    bench.push_and_verify("api", 3);
    body["services"] = json!({"api": "v3"});
    let (_, code, _) = bench.refused(&with(hotfixer, &[("run_id", "9002")]), &body);
    assert_eq!(code, "no_hotfix_lane");
}

#[test]
fn an_invalid_request_gets_an_explanation() {
    let mut bench = TestBench::new();
    let post = |bench: &mut TestBench, body: &str| bench.raw(&job(), 1, "POST", "/v1/promotions", "", body);
    for (body, code) in [
        ("{", "invalid_json"),
        ("[]", "invalid_request"),
        (r#"{"kind": "rollback", "application": "shop", "environment": "dev"}"#, "invalid_request"),
        (r#"{"kind": "promote", "application": "Shop!", "environment": "dev"}"#, "invalid_request"),
        (r#"{"kind": "promote", "application": "shop", "environment": "dev", "as": "root"}"#, "invalid_request"),
        (
            r#"{"kind": "deploy", "application": "shop", "environment": "dev", "services": {"api": null}}"#,
            "release_missing",
        ),
        (
            r#"{"kind": "deploy", "application": "shop", "environment": "dev", "services": {"api": "v1"}, "reason": "\u0007"}"#,
            "invalid_reason",
        ),
    ] {
        let (status, answer) = post(&mut bench, body);
        assert_eq!((status, answer["error"]["code"].as_str()), (400, Some(code)), "{body}: {answer}");
    }
    let (status, _) = post(&mut bench, &" ".repeat(MAX_REQUEST_BYTES + 1));
    assert_eq!(status, 413);
    for (method, path) in
        [("GET", "/v1/promotions"), ("DELETE", "/v1/promotions"), ("GET", "/v1/targets/shop/api/dev"), ("POST", "/")]
    {
        let (status, answer) = bench.raw(&job(), 1, method, path, "", "{}");
        assert_eq!((status, answer["error"]["code"].as_str()), (404, Some("unknown_route")), "{method} {path}");
    }
}

#[test]
fn arbitrary_requests_and_claims_get_a_bounded_answer() {
    use garbage::proptest::prelude::*;
    let sound: Vec<Value> = vec![
        promotion("promote", "staging", json!({"api": null, "web": "v1"})),
        json!({"kind": "deploy", "application": "shop", "environment": "dev", "services": {"api": "v1"}, "reason": "r",
            "provenance": {"commit": "4f1c", "ref": "refs/heads/main", "run": "9", "actor": "octocat"}}),
    ];
    let name = || prop_oneof![5 => Just("shop".to_owned()), 1 => garbage::text()];
    let path = prop_oneof![
        4 => Just("/v1/promotions".to_owned()),
        2 => (name(), name()).prop_map(|(one, other)| format!("/v1/promotions/{one}/api/{other}/journal")),
        1 => garbage::text(),
    ];
    let claims = garbage::damaged(vec![json!(job()), json!(production())]);
    let request =
        (prop_oneof![Just("POST"), Just("GET"), Just("PUT")], path, garbage::text(), garbage::body(sound), claims);
    let bench = std::cell::RefCell::new(TestBench::new());
    let ours = |claims: &Claims| claims.get("repository_id").is_some_and(|id| id == "123456789");
    garbage::hold(300, &request, |(method, path, query, body, claims)| {
        let known = job().into_keys().chain(["environment"]);
        let claims: Claims = known.filter_map(|name| Some((name, claims.get(name)?.as_str()?.to_owned()))).collect();
        let (status, answer) = bench.borrow_mut().raw(&claims, 1, method, &path, &query, &body);
        prop_assert!(status < 500 && answer.to_string().len() < 1024 * 1024, "{status}");
        prop_assert!(status >= 400 || ours(&claims), "a stranger has an answer: {answer}");
        if status >= 400 {
            let words = answer["error"]["message"].as_str().unwrap_or_default().chars().count();
            prop_assert!((1..=engine::command_service::MAX_MESSAGE_CHARS + 1).contains(&words), "{answer}");
        }
        Ok(())
    });
}
