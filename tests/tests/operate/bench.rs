//! Where people stand who ask: one target, or an application of two services that climbs from `staging` to `prod`.

use api::operations::Operations;
use futures::task::noop_waker;
use rollout::verdict::Verdict;
use rollout::{Fact, JournalEntry, TargetId};
use serde_json::{Value, json};
use simulation::virtual_time::{Faults, PushAnnouncement, Simulation};
use simulation::world::Settings;
use simulation::world::scene::{BuiltApplication, PairSetup, build_application};
use std::task::{Context, Poll};

/// Who asks where it does not matter who.
pub(crate) const ALICE: &str = "arn:aws:sts::111122223333:assumed-role/deployer/alice";
/// People who may approve.
pub(crate) const ADA: &str = "arn:aws:sts::111122223333:assumed-role/approver/ada";
pub(crate) const BOB: &str = "arn:aws:sts::111122223333:assumed-role/approver/bob";
pub(crate) const CAROL: &str = "arn:aws:iam::111122223333:user/carol";
/// The first target, as a path.
pub(crate) const TARGET: &str = "/v1/targets/shop/api/prod";

/// A simulation, and the policy that was applied to it through the front door.
pub(crate) struct TestBench {
    pub(crate) simulation: Simulation,
    pub(crate) text: String,
}

impl TestBench {
    /// One target, `manual`, so that nothing starts by itself.
    pub(crate) fn new() -> Self {
        let built = PairSetup::new("shop", "api", "prod").build(Settings::default());
        let mut policy = policy::render(&built.application());
        policy["environments"]["prod"]["trigger"] = json!("manual");
        let mut bench = Self { simulation: Simulation::new(built, Faults::default()), text: policy.to_string() };
        bench.applied(&policy);
        bench
    }

    /// The services `api` and `web`, which depends on it, in `staging` and then in `prod`: after a soak of 10 minutes and
    /// two approvals out of ada, bob and carol, neither of which hotfixes wait for.
    pub(crate) fn with_staging() -> Self {
        Self::with_staging_policy(|_| {})
    }

    /// The same with a policy that is changed.
    pub(crate) fn with_staging_policy(change: impl FnOnce(&mut Value)) -> Self {
        let mut bench = Self::with_staging_and_faults(|_| Faults::default(), change);
        let policy = serde_json::from_str(&bench.text).expect("JSON");
        bench.applied(&policy);
        bench
    }

    /// The same, its policy applied by the back door, where calls go wrong.
    pub(crate) fn with_staging_and_faults(
        faults: impl FnOnce(&BuiltApplication) -> Faults,
        change: impl FnOnce(&mut Value),
    ) -> Self {
        let scenes = [("api", "prod"), ("api", "staging"), ("web", "staging"), ("web", "prod")];
        let scenes = scenes.map(|(service, environment)| PairSetup::new("shop", service, environment));
        let built = build_application(&scenes, Settings::default());
        let mut policy = policy::render(&built.policy);
        policy["services"]["web"]["depends_on"] = json!(["api"]);
        policy["people"] = json!({"ada": {"iam": [ADA]}, "bob": {"iam": [BOB]}, "carol": {"iam": [CAROL]}});
        policy["groups"] = json!({"on-call": ["ada", "bob"]});
        policy["environments"]["staging"]["trigger"] = json!("manual");
        let prod = &mut policy["environments"]["prod"];
        prod["trigger"] = json!("manual");
        prod["after"] = json!("staging");
        prod["soak"] = json!("10m");
        prod["approval"] = json!({"required": 2, "from": ["on-call", "carol"], "expires": "4h"});
        prod["hotfix"] = json!({"skips": ["soak", "approval"]});
        change(&mut policy);
        let faults = faults(&built);
        let simulation = Simulation::of_application(built, faults);
        let text = policy.to_string();
        simulation.apply_policy(&policy::parse(&text).expect("it is sound"), &text);
        Self { simulation, text }
    }

    /// Applies a policy through the front door; answers what that says.
    pub(crate) fn applied(&mut self, policy: &Value) -> Value {
        self.text = policy.to_string();
        let (status, answer) = self.ask("POST", "/v1/apply", json!({"text": self.text}));
        assert_eq!(status, 200, "{answer:#}");
        answer
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, query: &str, body: &str, caller: &str) -> (u16, Value) {
        let (ledger, cloud, wake_queue, clock) = self.simulation.ports();
        let operations = Operations { ledger: &ledger, cloud: &cloud, wake_queue: &wake_queue, clock: &clock };
        let mut answer = Box::pin(operations.route(method, path, query, body, caller));
        for _ in 0..1000 {
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut Context::from_waker(&noop_waker())) {
                return answer;
            }
            self.simulation.run_for(1);
        }
        panic!("{method} {path} never answered");
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.ask_as(ALICE, method, path, body)
    }

    pub(crate) fn ask_as(&mut self, caller: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, "", &body, caller)
    }

    /// What is done.
    pub(crate) fn post_ok(&mut self, caller: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask_as(caller, "POST", path, body);
        assert_eq!(status, 200, "{path}: {answer:#}");
        answer
    }

    /// What is refused, and how.
    pub(crate) fn refused(&mut self, method: &str, path: &str, body: Value) -> (u16, String, String) {
        self.refused_to(ALICE, method, path, body)
    }

    pub(crate) fn refused_to(&mut self, who: &str, method: &str, path: &str, body: Value) -> (u16, String, String) {
        let (status, answer) = self.ask_as(who, method, path, body);
        assert!(status >= 400, "{answer:#}");
        let text = |key: &str| answer["error"][key].as_str().expect("every error has it").to_owned();
        (status, text("code"), text("message"))
    }

    pub(crate) fn status(&mut self) -> Value {
        self.status_of("api", "prod")
    }

    pub(crate) fn status_of(&mut self, service: &str, environment: &str) -> Value {
        let (status, answer) = self.ask("GET", &path(service, environment, ""), Value::Null);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    pub(crate) fn release(&mut self, number: u64) {
        self.release_of("api", number);
    }

    pub(crate) fn release_of(&mut self, service: &str, number: u64) {
        self.simulation.push_service(&service.parse().expect("a name"), number, PushAnnouncement::Event);
        self.simulation.run_for(10);
    }

    /// Brings release `number` to the target, to its end.
    pub(crate) fn deploy_release(&mut self, number: u64) {
        self.release(number);
        self.post_ok(ALICE, &format!("{TARGET}/deploy"), json!({"release": format!("v{number}")}));
        assert!(self.simulation.run_until_idle(7200), "{}", self.simulation.journal_text());
        let verdict = self.simulation.verdicts().pop().expect("one ended");
        assert_eq!(verdict.1, Verdict::Succeeded, "{}", self.simulation.journal_text());
    }

    /// Pushes release `number` of a service and brings it to `staging`, to its end: it is verified there.
    pub(crate) fn deploy_to_staging(&mut self, service: &str, number: u64) {
        self.release_of(service, number);
        self.post_ok(ALICE, &path(service, "staging", "/deploy"), json!({"release": format!("v{number}")}));
        self.wait_for_verdict(service, "staging", Verdict::Succeeded);
    }

    /// The same, and the soak for `prod` is over.
    pub(crate) fn deploy_to_staging_and_soak(&mut self, service: &str, number: u64) {
        self.deploy_to_staging(service, number);
        self.simulation.run_for(600);
    }

    /// Lets a deployment end that runs or was asked for.
    pub(crate) fn wait_for_verdict(&mut self, service: &str, environment: &str, wanted: Verdict) {
        let target = target(service, environment);
        let before = self.verdicts(service, environment).len();
        let ended = self.simulation.run_until_condition(4 * 3600, |simulation| {
            let seen = simulation.at(&target);
            seen.verdicts().len() > before && seen.state().is_some_and(|state| state.running.is_none())
        });
        assert!(ended, "{}", self.journal_text(service, environment));
        let verdict = self.verdicts(service, environment).pop().map(|(_, verdict, _)| verdict);
        assert_eq!(verdict, Some(wanted), "{}", self.journal_text(service, environment));
    }

    /// Lets a deployment get to a stage.
    pub(crate) fn wait_for_stage(&mut self, service: &str, environment: &str, stage: &str) {
        let target = target(service, environment);
        let there =
            self.simulation.run_until_condition(7200, |simulation| simulation.at(&target).stage_name() == Some(stage));
        assert!(there, "never {stage}: {}", self.journal_text(service, environment));
    }

    /// Lets people be asked about a deployment; answers its number and its plan.
    pub(crate) fn wait_for_approval_request(&mut self, service: &str, environment: &str) -> (u64, String) {
        let target = target(service, environment);
        let wait_for_approval_request = |simulation: &mut Simulation| {
            let gates = simulation.at(&target).state()?.running?.gates?;
            gates.requested_at.map(|_| ())
        };
        assert!(
            self.simulation.run_until_condition(7200, |simulation| wait_for_approval_request(simulation).is_some()),
            "nobody is asked"
        );
        let running = self.simulation.at(&target).state().and_then(|state| state.running).expect("it waits");
        (running.number, running.gates.expect("it waits at them").plan.0)
    }

    pub(crate) fn stage(&self, service: &str, environment: &str) -> Option<&'static str> {
        self.simulation.at(&target(service, environment)).stage_name()
    }

    pub(crate) fn verdicts(&self, service: &str, environment: &str) -> Vec<(u64, Verdict, String)> {
        self.simulation.at(&target(service, environment)).verdicts()
    }

    pub(crate) fn journal(&self, service: &str, environment: &str) -> Vec<JournalEntry> {
        self.simulation.at(&target(service, environment)).journal()
    }

    pub(crate) fn journal_text(&self, service: &str, environment: &str) -> String {
        self.simulation.at(&target(service, environment)).journal_text()
    }

    /// What the journal says was refused: the asker, what was asked, and why not.
    pub(crate) fn refusals(&self, service: &str, environment: &str) -> Vec<(String, String, String)> {
        let refused = |entry: JournalEntry| match entry.fact {
            Fact::CommandRefused { command, reason } => Some((entry.actor.to_string(), command, reason.to_string())),
            _ => None,
        };
        self.journal(service, environment).into_iter().filter_map(refused).collect()
    }
}

pub(crate) fn target(service: &str, environment: &str) -> TargetId {
    format!("shop/{service}/{environment}").parse().expect("a target")
}

/// A target's path, and what comes after it.
pub(crate) fn path(service: &str, environment: &str, rest: &str) -> String {
    format!("/v1/targets/shop/{service}/{environment}{rest}")
}
