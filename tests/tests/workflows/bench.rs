//! An application in virtual time, and requests of workflow jobs to it, as the HTTP API passes them on after its JWT
//! authorizer.

use api::workflows::{UnverifiedClaims, Workflows};
use futures::task::noop_waker;
use rollout::verdict::Verdict;
use rollout::{Fact, Instruction, JournalEntry, Name, Seconds, TargetId};
use serde_json::{Value, json};
use simulation::virtual_time::{Faults, PushAnnouncement, Simulation};
use simulation::world::Settings;
use simulation::world::scene::{PairSetup, build_application};
use std::collections::BTreeMap;
use std::task::{Context, Poll};

pub(crate) const HOUR: u64 = 3600;

/// The services `api` and `web`, which depends on it, in `dev`, `staging` and `prod`; a push deploys to `dev`.
pub(crate) struct TestBench {
    pub(crate) simulation: Simulation,
    policy: Value,
    versions: u32,
}

/// The claims of a job's token, without `iat`.
pub(crate) type Claims = BTreeMap<&'static str, String>;

pub(crate) fn target(text: &str) -> TargetId {
    TargetId::parse(text).expect("a target")
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// A job of the workflow `promote.yml` on `main`, started by octocat.
pub(crate) fn job() -> Claims {
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
pub(crate) fn production() -> Claims {
    with(job(), &[("environment", "production")])
}

pub(crate) fn with(mut claims: Claims, changed: &[(&'static str, &str)]) -> Claims {
    claims.extend(changed.iter().map(|(claim, value)| (*claim, (*value).to_owned())));
    claims
}

pub(crate) fn promotion(kind: &str, environment: &str, services: Value) -> Value {
    json!({"kind": kind, "application": "shop", "environment": environment, "services": services})
}

impl TestBench {
    pub(crate) fn new() -> Self {
        Self::with(Faults::default())
    }

    pub(crate) fn with(faults: Faults) -> Self {
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

    pub(crate) fn apply(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.policy);
        self.versions += 1;
        let checked = policy::parse(&self.policy.to_string()).unwrap_or_else(|problems| panic!("{problems:#?}"));
        self.simulation.apply_policy(&checked, &format!("version {}", self.versions));
    }

    /// A job's request with a token that was issued `age` seconds ago: the answer's status and body.
    pub(crate) fn raw(
        &mut self,
        claims: &Claims,
        age: i64,
        method: &str,
        path: &str,
        query: &str,
        body: &str,
    ) -> (u16, Value) {
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

    pub(crate) fn ask(&mut self, claims: &Claims, body: &Value) -> (u16, Value) {
        self.raw(claims, 1, "POST", "/v1/promotions", "", &body.to_string())
    }

    #[track_caller]
    pub(crate) fn accepted(&mut self, claims: &Claims, body: &Value) -> Value {
        let (status, answer) = self.ask(claims, body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    #[track_caller]
    pub(crate) fn refused(&mut self, claims: &Claims, body: &Value) -> (u16, String, String) {
        let (status, answer) = self.ask(claims, body);
        assert!(status >= 400, "{answer}");
        let text = |key: &str| answer["error"][key].as_str().expect("every error has it").to_owned();
        (status, text("code"), text("message"))
    }

    /// Pushes a release, and lets `dev` verify it.
    #[track_caller]
    pub(crate) fn push_and_verify(&mut self, service: &str, number: u64) {
        self.simulation.push_service(&name(service), number, PushAnnouncement::Event);
        self.wait_for_verdict(&target(&format!("shop/{service}/dev")), Verdict::Succeeded);
    }

    /// Waits until nothing runs or is queued on the target, and its newest deployment has ended with this verdict.
    #[track_caller]
    pub(crate) fn wait_for_verdict(&mut self, target: &TargetId, verdict: Verdict) {
        self.simulation.run_for(5);
        let over = self.simulation.run_until_condition(HOUR, |simulation| {
            let state = simulation.at(target).state();
            state.is_some_and(|state| state.running.is_none() && state.queued.is_empty())
        });
        assert!(over, "{}", self.simulation.journal_texts());
        let found = self.simulation.at(target).verdicts().pop().map(|(_, verdict, _)| verdict);
        assert_eq!(found, Some(verdict), "{}", self.simulation.journal_texts());
    }

    pub(crate) fn journal(&self, target: &TargetId) -> Vec<JournalEntry> {
        self.simulation.at(target).journal()
    }

    /// Refusals in a target's journal: who, what, why.
    pub(crate) fn refusals(&self, target: &TargetId) -> Vec<(String, String, String)> {
        let refusals = self.journal(target).into_iter().filter_map(|entry| match entry.fact {
            Fact::CommandRefused { command, reason } => Some((entry.actor.to_string(), command, reason.to_string())),
            _ => None,
        });
        refusals.collect()
    }

    /// Deployments that were ever started, requested or queued in `staging` and `prod`.
    pub(crate) fn deployments(&self) -> u64 {
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
