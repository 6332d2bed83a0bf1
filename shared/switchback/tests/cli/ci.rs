//! `switchback ci` as a job of GitHub Actions runs it: the real binary, against GitHub's token service and the gateway
//! with its JWT authorizer, both played here on loopback, and behind that the real `Workflows` over the simulated world.

use crate::control_plane::{ControlPlane, Request, SECONDS_PER_POLL, Shop, TestBackend, in_virtual_time};
use crate::session::link_binary;
use api::workflows::{UnverifiedClaims, Workflows};
use rollout::{Actor, DeployOptions, Instruction, Name, Overrides, TargetId};
use serde_json::{Value, json};
use simulation::virtual_time::{PushAnnouncement, Simulation};
use simulation::world::{ImageBehaviour, scene};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What a job asks for its token with. It is no less secret than the token.
const REQUEST_TOKEN: &str = "request-token-that-nobody-may-see";
/// `{"iat":1632493567,"exp":1632493867}`: a token says that it lasts five minutes.
const TOKEN_CLAIMS: &str = "eyJpYXQiOjE2MzI0OTM1NjcsImV4cCI6MTYzMjQ5Mzg2N30";
/// Begins every signature, so that a token is found wherever it shows up.
const SIGNATURE: &str = "signature-that-nobody-may-see";
const TOKEN_LIFETIME_S: i64 = 300;

type Intervention = Box<dyn FnOnce(&mut Simulation) + Send>;

/// GitHub's token service, the gateway's authorizer, and what happens meanwhile.
#[derive(Default)]
pub(crate) struct Gateway {
    /// Tokens that were given out, and when.
    issued: BTreeMap<String, i64>,
    /// How the token service answers; 0: with a token.
    token_status: u16,
    /// What is asked, once tokens are in order, is answered like this so many times.
    broken: (u32, u16),
    /// Something happens with the request after so many.
    intervention: Option<(u32, Intervention)>,
    /// Every look and every asking, for whoever counts.
    posts: u32,
}

/// The answer to a request that is a job's; none: it is somebody else's.
pub(crate) fn answer(backend: &mut TestBackend, request: &Request) -> Option<(u16, Value)> {
    let bearer = request.headers.get("authorization").and_then(|header| header.split_once(' '));
    if request.path == "/token" {
        return Some(token(backend, request, bearer));
    }
    request.path.starts_with("/v1/promotions").then(|| promotions(backend, request, bearer))
}

fn token(backend: &mut TestBackend, request: &Request, bearer: Option<(&str, &str)>) -> (u16, Value) {
    if backend.gateway.token_status != 0 {
        // An answer that repeats what must not be seen.
        return (backend.gateway.token_status, json!({"message": format!("no token for {REQUEST_TOKEN}")}));
    }
    if bearer != Some(("bearer", REQUEST_TOKEN)) || !request.query.contains("api-version=2.0") {
        return (401, json!({"message": "who are you?"}));
    }
    let audience = request.query.split('&').find_map(|pair| pair.strip_prefix("audience=")).unwrap_or_default();
    let value = format!("e30.{TOKEN_CLAIMS}.{SIGNATURE}-{}-{audience}", backend.gateway.issued.len());
    backend.gateway.issued.insert(value.clone(), backend.simulation.now().as_second());
    (200, json!({"count": value.len(), "value": value}))
}

fn promotions(backend: &mut TestBackend, request: &Request, bearer: Option<(&str, &str)>) -> (u16, Value) {
    let now = backend.simulation.now().as_second();
    let issued = bearer
        .filter(|(scheme, token)| *scheme == "Bearer" && token.ends_with("-switchback"))
        .and_then(|(_, token)| backend.gateway.issued.get(token).copied())
        .filter(|issued| now < issued + TOKEN_LIFETIME_S);
    let Some(issued) = issued else { return (401, json!({"message": "Unauthorized"})) };
    if backend.gateway.broken.0 > 0 {
        backend.gateway.broken.0 -= 1;
        return (backend.gateway.broken.1, json!({"message": "Service Unavailable"}));
    }
    let simulation = &mut backend.simulation;
    let is_post = request.method == "POST";
    backend.gateway.posts += u32::from(is_post);
    if is_post || request.path.split('/').count() == 6 {
        match backend.gateway.intervention.take() {
            Some((0, intervention)) => intervention(simulation),
            Some((later, intervention)) => backend.gateway.intervention = Some((later - 1, intervention)),
            None => {}
        }
        if !is_post {
            simulation.run_for(SECONDS_PER_POLL);
        }
    }
    let issued = issued.to_string();
    let claims = UnverifiedClaims::of(|claim| match claim {
        "repository" => Some("octo/shop"),
        "repository_id" => Some("123456789"),
        "repository_owner_id" => Some("987654"),
        "ref" => Some("refs/heads/main"),
        "sha" => Some("4f1c2a9be0d3a76f5c8e1b2d3f405162738495a6"),
        "workflow_ref" => Some("octo/shop/.github/workflows/promote.yml@refs/heads/main"),
        "event_name" => Some("push"),
        "run_id" => Some("9001"),
        "actor_id" => Some("1815"),
        "iat" => Some(issued.as_str()),
        _ => None,
    });
    let (_, _, wake_queue, clock) = simulation.ports();
    let ledger = simulation.ledger().clone();
    let workflows = Workflows { ledger: &ledger, wake_queue: &wake_queue, clock: &clock };
    let route = workflows.route(&request.method, &request.path, &request.query, &request.body, &claims);
    in_virtual_time(simulation, route)
}

/// A job, and the control plane that it asks.
struct Job {
    control_plane: ControlPlane,
    folder: PathBuf,
    binary: PathBuf,
    environment: BTreeMap<&'static str, String>,
}

/// What a step has left.
struct Step {
    exit: i32,
    log: String,
    summary: String,
    outputs: BTreeMap<String, String>,
}

fn api() -> TargetId {
    TargetId::parse("shop/api/prod").expect("a target")
}

fn ada() -> Actor {
    Actor::Person { name: "slack:UADA".to_owned() }
}

impl Job {
    /// In a shop where this job may promote, deploy and hotfix anything, and nothing begins by itself.
    fn new(name: &str, shop: Shop) -> Self {
        Self::with_policy(name, shop, |_| {})
    }

    /// The same with a policy that is changed.
    fn with_policy(name: &str, shop: Shop, change: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        let control_plane = ControlPlane::start(shop);
        control_plane.change(move |backend| {
            let application = Name::new("shop").expect("a name");
            let applied = backend.simulation.ledger().store().policy(&application).expect("a policy");
            let mut policy = policy::render(&applied.policy);
            let environments = policy["environments"].as_object_mut().expect("environments");
            for (_, rules) in environments.iter_mut() {
                rules["trigger"] = json!("manual");
            }
            let names: Vec<String> = environments.keys().cloned().collect();
            policy["github"] = json!([{
                "repository_id": "123456789", "repository_owner_id": "987654", "may": ["promote", "deploy", "hotfix"],
                "environments": names,
            }]);
            change(&mut policy);
            let policy = policy::parse(&policy.to_string()).unwrap_or_else(|problems| panic!("{problems:#?}"));
            backend.simulation.apply_policy(&policy, "of the test");
        });
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("job-{name}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let url = control_plane.url.clone();
        let environment = BTreeMap::from([
            ("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{url}/token?api-version=2.0")),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", REQUEST_TOKEN.to_owned()),
            ("SWITCHBACK_CI_ENDPOINT", url),
            ("GITHUB_STEP_SUMMARY", folder.join("summary").display().to_string()),
            ("GITHUB_OUTPUT", folder.join("outputs").display().to_string()),
        ]);
        let binary = link_binary(&folder);
        Self { control_plane, folder, binary, environment }
    }

    fn push(&self, service: &'static str, number: u64) {
        self.control_plane.change(move |backend| {
            backend.simulation.push_service(&Name::new(service).expect("a name"), number, PushAnnouncement::Event);
            backend.simulation.run_for(5);
        });
    }

    /// With the request after so many others, this happens.
    fn after_requests(&self, requests: u32, intervention: impl FnOnce(&mut Simulation) + Send + 'static) {
        let intervention: Intervention = Box::new(intervention);
        self.control_plane.change(move |backend| backend.gateway.intervention = Some((requests, intervention)));
    }

    /// Runs `switchback ci …`; no token is in anything that it leaves.
    fn step(&self, arguments: &str) -> Step {
        for file in ["summary", "outputs"] {
            let _ = std::fs::remove_file(self.folder.join(file));
        }
        let mut command = Command::new(&self.binary);
        command.arg("ci").args(arguments.split(' ').map(|word| word.replace('~', " "))).env_clear();
        command.envs(&self.environment).current_dir(&self.folder).stdin(Stdio::null());
        let output = command.output().expect("the binary can be started");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let log = format!("{}{}", text(&output.stdout), text(&output.stderr));
        let file = |name: &str| std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let (summary, outputs) = (file("summary"), file("outputs"));
        for output_text in [&log, &summary, &outputs] {
            assert!(!output_text.contains("nobody-may-see"), "a secret is shown: {output_text}");
        }
        let outputs = outputs.lines().filter_map(|line| line.split_once('='));
        let outputs = outputs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Step { exit: output.status.code().unwrap_or(-1), log, summary, outputs }
    }
}

impl Step {
    #[track_caller]
    fn assert_ended(&self, exit: i32, verdict: &str) {
        let found = (self.exit, self.outputs.get("verdict").map(String::as_str));
        assert_eq!(found, (exit, Some(verdict)), "{}\n{}", self.log, self.summary);
        if verdict != "succeeded" && verdict != "asked" {
            let words = verdict.replace('_', " ");
            assert!(self.summary.contains(&words), "{}", self.summary);
        }
    }

    #[track_caller]
    fn assert_logged(&self, part: &str) {
        assert!(self.log.contains(part), "`{part}` is not in\n{}", self.log);
    }
}

#[test]
fn a_deployment_is_followed_to_its_end() {
    let job = Job::new("good", Shop::One);
    job.push("api", 1);
    let step = job.step("deploy shop/api/prod --release v1 --reason the~fix --every 1ms");
    step.assert_ended(0, "succeeded");
    step.assert_logged("Deployment of v1 (000000000000) requested on shop/api/prod");
    // Stages are what the log shows while its groups are closed, and each is closed.
    let count = |line: &str| step.log.lines().filter(|found| found.starts_with(line)).count();
    assert!(count("::group::shop/api/prod#1") >= 5, "{}", step.log);
    assert_eq!(count("::group::"), count("::endgroup::"), "{}", step.log);
    assert!(step.summary.contains("| shop/api/prod | v1 | #1 | ✅ succeeded |"), "{}", step.summary);
    assert_eq!((step.outputs["deployment"].as_str(), step.outputs["release"].as_str()), ("1", "v1"));

    // A re-run of the job: nothing is asked twice.
    let again = job.step("deploy shop/api/prod --release v1 --reason the~fix --every 1ms");
    again.assert_ended(0, "succeeded");
    again.assert_logged("runs that release already");
    let last_deployment =
        job.control_plane.change(|backend| backend.simulation.state().map(|state| state.last_deployment));
    assert_eq!(last_deployment, Some(1));
}

#[test]
fn a_rolled_back_release_fails_the_job() {
    let job = Job::new("bad", Shop::One);
    job.push("api", 1);
    job.step("deploy shop/api/prod --release v1 --every 1ms").assert_ended(0, "succeeded");
    job.push("api", 2);
    let digest = scene::digest_of(2);
    job.control_plane.change(move |backend| {
        backend.simulation.world(|world| world.set_image(digest.as_str(), ImageBehaviour::failing(0.5)));
    });
    let step = job.step("deploy shop/api/prod=v2 --every 1ms");
    step.assert_ended(10, "rolled_back");
    step.assert_logged("::error title=shop/api/prod::Deployment #2 of v2 to shop/api/prod rolled back");
    // Why stands where it is read without opening anything.
    let mut open = false;
    let outside = step.log.lines().filter(|line| {
        open = line.starts_with("::group::") || open && !line.starts_with("::endgroup::");
        !open
    });
    assert!(outside.into_iter().any(|line| line.contains("Rolling back: alarm")), "{}", step.log);
    // The same job again gets the same result, and begins nothing.
    let again = job.step("deploy shop/api/prod=v2 --every 1ms");
    again.assert_ended(10, "rolled_back");
    assert_eq!(again.outputs["deployment"], "2");
}

#[test]
fn a_release_that_never_becomes_healthy_fails() {
    let job = Job::new("failed", Shop::One);
    job.push("api", 1);
    let digest = scene::digest_of(1);
    job.control_plane.change(move |backend| {
        backend.simulation.world(|world| world.set_image(digest.as_str(), ImageBehaviour::never_healthy()));
    });
    job.step("deploy shop/api/prod=v1 --every 1ms").assert_ended(11, "failed");
}

#[test]
fn a_queued_release_is_superseded_by_a_newer_one() {
    let job = Job::new("superseded", Shop::One);
    for number in [1, 2, 3] {
        job.push("api", number);
    }
    job.control_plane.change(|backend| {
        backend.simulation.request_deployment(1, Overrides::default());
        backend.simulation.run_for(20);
    });
    // It waits behind the first; then there is a newer one.
    job.after_requests(3, |simulation| simulation.request_deployment(3, Overrides::default()));
    let step = job.step("deploy shop/api/prod=v2 --every 1ms");
    step.assert_ended(12, "superseded");
    step.assert_logged("v2 was superseded by v3");
}

#[test]
fn abort_is_cancelled_and_its_reason_is_no_command() {
    let job = Job::new("cancelled", Shop::One);
    job.push("api", 1);
    job.after_requests(4, |simulation| {
        let reason = "enough\n::set-output name=verdict::succeeded\n##[set-output name=verdict]succeeded | <b>";
        simulation.send_command_to(&api(), Instruction::Abort { deployment: None }, ada(), reason);
    });
    let step = job.step("deploy shop/api/prod=v1 --every 1ms");
    step.assert_ended(13, "cancelled");
    step.assert_logged("enough");
    for line in step.log.lines() {
        let command = line.trim_start().strip_prefix("::").and_then(|rest| rest.split([' ', ':']).next());
        let known = ["group", "endgroup", "error", "notice", "warning"];
        assert!(command.is_none_or(|command| known.contains(&command)), "the runner takes this for a command: {line}");
        assert!(!line.contains("##["), "the runner takes this for a command: {line}");
    }
    assert_eq!(step.outputs.len(), 4, "{:?}", step.outputs);
    assert!(!step.summary.contains("<b>"), "{}", step.summary);
}

/// An environment that two people have to say yes to.
fn require_two_approvals(policy: &mut Value) {
    policy["people"] = json!({"ada": {"slack": "UADA"}, "bob": {"slack": "UBOB"}});
    policy["environments"]["prod"]["approval"] = json!({"required": 2, "from": ["ada", "bob"], "expires": "10m"});
}

#[test]
fn approval_can_be_rejected_or_expire() {
    let job = Job::with_policy("rejected", Shop::One, require_two_approvals);
    job.push("api", 1);
    job.after_requests(6, |simulation| {
        let running = simulation.state().and_then(|state| state.running).expect("it waits");
        let plan = running.gates.expect("at its gates").plan;
        let reject = Instruction::Reject { deployment: running.number, plan };
        simulation.send_command_to(&api(), reject, ada(), "not on a Friday");
    });
    let step = job.step("deploy shop/api/prod=v1 --every 1ms");
    step.assert_ended(14, "rejected");
    step.assert_logged("::notice title=shop/api/prod::waiting for");
    step.assert_logged("not on a Friday");

    job.push("api", 2);
    job.step("deploy shop/api/prod=v2 --every 1ms").assert_ended(15, "expired");
}

#[test]
fn a_wait_that_times_out_reports_still_running() {
    let job = Job::with_policy("still", Shop::One, require_two_approvals);
    job.push("api", 1);
    let step = job.step("deploy shop/api/prod=v1 --every 1ms --for 0s");
    step.assert_ended(20, "still_running");
    step.assert_logged("::warning title=shop/api/prod::");
    assert!(step.summary.contains("⏳ still running"), "{}", step.summary);
    // The next job finds it, and begins nothing.
    job.after_requests(4, |simulation| {
        let running = simulation.state().and_then(|state| state.running).expect("it waits");
        let plan = running.gates.expect("at its gates").plan;
        for user in ["slack:UADA", "slack:UBOB"] {
            let yes = Instruction::Approve { deployment: running.number, plan: plan.clone() };
            simulation.send_command_to(&api(), yes, Actor::Person { name: user.to_owned() }, "");
        }
    });
    let step = job.step("wait shop/api/prod=v1 --every 1ms");
    step.assert_ended(0, "succeeded");
    assert_eq!((step.outputs["deployment"].as_str(), step.outputs["release"].as_str()), ("1", "v1"));
}

#[test]
fn no_wait_returns_once_the_request_is_accepted() {
    let job = Job::new("asked", Shop::One);
    job.push("api", 1);
    let step = job.step("deploy shop/api/prod=v1 --no-wait");
    step.assert_ended(0, "asked");
    step.assert_logged("requested on shop/api/prod");
    let step = job.step(
        "wait shop/api/prod --release 0000000000000000000000000000000000000000000000000000000000000001 --every 1ms",
    );
    step.assert_ended(0, "succeeded");
}

#[test]
fn a_deployment_that_a_push_started_is_followed() {
    let job = Job::with_policy("push", Shop::One, |policy| policy["environments"]["prod"]["trigger"] = json!("push"));
    job.push("api", 1);
    let step = job.step("deploy shop/api/prod=v1 --every 1ms");
    step.assert_ended(0, "succeeded");
    assert_eq!(step.outputs["deployment"], "1");
    job.push("api", 2);
    job.step("wait shop/api/prod=v2 --every 1ms").assert_ended(0, "succeeded");
}

#[test]
fn a_release_that_is_not_pushed_yet_is_awaited() {
    let job = Job::new("unknown", Shop::One);
    job.after_requests(3, |simulation| {
        simulation.push(1, PushAnnouncement::Event);
        simulation.run_for(5);
    });
    let step = job.step("deploy shop/api/prod=v1 --every 1ms");
    step.assert_ended(0, "succeeded");
    step.assert_logged("Not known yet");
    assert!(job.control_plane.change(|backend| backend.gateway.posts) >= 4);
    let step = job.step("deploy shop/api/prod=v9 --every 1ms --release-within 0s");
    step.assert_ended(4, "refused");
    step.assert_logged("no release `v9`");
}

#[test]
fn several_services_deploy_as_one_train() {
    let job = Job::with_policy("train", Shop::Three, |policy| {
        policy["services"]["web"]["depends_on"] = json!(["api"]);
        policy["environments"]["staging"]["after"] = json!("dev");
    });
    for (service, number) in [("api", 1), ("web", 101)] {
        job.push(service, number);
    }
    job.step("deploy shop/web/dev=v101 shop/api/dev=v1 --every 1ms").assert_ended(0, "succeeded");
    let step = job.step("promote shop/web/staging shop/api/staging --every 1ms");
    step.assert_ended(0, "succeeded");
    let targets: Value = serde_json::from_str(&step.outputs["targets"]).expect("JSON");
    assert_eq!(
        targets["shop/api/staging"],
        json!({"deployment": 1, "release": "v1", "stage": "retiring", "verdict": "succeeded"})
    );
    assert_eq!(targets["shop/web/staging"]["release"], "v101");
    assert_eq!(step.outputs["deployment"], "", "there are two");
}

#[test]
fn requests_without_a_grant_are_refused() {
    let job = Job::with_policy("denied", Shop::One, |policy| policy["github"][0]["may"] = json!(["promote"]));
    job.push("api", 1);
    let step = job.step("deploy shop/api/prod=v1");
    step.assert_ended(4, "refused");
    step.assert_logged(
        "::error title=switchback ci deploy::this workflow may not do that; the operators' log says why",
    );
    job.step("wait shop/cart/prod=v1 --every 1ms").assert_ended(4, "refused");
    // A thing that the desk refuses, not the grants.
    let step = job.step("promote shop/api/prod");
    step.assert_ended(4, "refused");
    step.assert_logged("no environment comes before prod");
}

#[test]
fn a_token_with_another_audience_is_rejected() {
    let mut job = Job::new("audience", Shop::One);
    job.environment.insert("SWITCHBACK_CI_AUDIENCE", "sigstore".to_owned());
    let step = job.step("deploy shop/api/prod=v1");
    step.assert_ended(4, "refused");
    step.assert_logged("did not take GitHub's token (401: Unauthorized)");
    step.assert_logged("`GitHubAudience`");
    job.environment.insert("SWITCHBACK_CI_AUDIENCE", "a&b=c".to_owned());
    job.step("deploy shop/api/prod=v1").assert_ended(2, "usage");
}

#[test]
fn a_job_without_token_permission_gets_instructions() {
    let mut job = Job::new("permission", Shop::One);
    job.control_plane.change(|backend| backend.gateway.token_status = 403);
    let step = job.step("deploy shop/api/prod=v1");
    step.assert_ended(4, "refused");
    step.assert_logged("`permissions: id-token: write`");
    job.environment.remove("ACTIONS_ID_TOKEN_REQUEST_TOKEN");
    let step = job.step("deploy shop/api/prod=v1");
    step.assert_ended(2, "usage");
    step.assert_logged("`permissions: id-token: write`");
    job.environment.remove("SWITCHBACK_CI_ENDPOINT");
    let step = job.step("deploy shop/api/prod=v1");
    step.assert_ended(2, "usage");
    step.assert_logged("SWITCHBACK_CI_ENDPOINT");
}

#[test]
fn failed_requests_are_retried_before_giving_up() {
    let mut job = Job::new("unreachable", Shop::One);
    job.push("api", 1);
    job.control_plane.change(|backend| backend.gateway.broken = (3, 503));
    job.step("deploy shop/api/prod=v1 --every 1ms").assert_ended(0, "succeeded");
    job.control_plane.change(|backend| backend.gateway.token_status = 503);
    let step = job.step("wait shop/api/prod=v1");
    step.assert_ended(5, "unreachable");
    step.assert_logged("GitHub's token service answered 503");
    job.control_plane.change(|backend| backend.gateway.token_status = 0);
    // Nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    job.environment.insert("SWITCHBACK_CI_ENDPOINT", format!("http://{free}"));
    job.step("deploy shop/api/prod=v1").assert_ended(5, "unreachable");
}

#[test]
fn a_hotfix_skips_the_approval_gate() {
    let job = Job::with_policy("hotfix", Shop::One, |policy| {
        require_two_approvals(policy);
        policy["environments"]["prod"]["hotfix"] = json!({"skips": ["approval"]});
    });
    job.push("api", 1);
    job.step("deploy shop/api/prod=v1 --hotfix").assert_ended(2, "usage");
    job.step("deploy shop/api/prod=v1 --hotfix --reason it~burns --forward-only --every 1ms")
        .assert_ended(0, "succeeded");
    let (hotfix, options) = job.control_plane.change(|backend| {
        let record = backend.simulation.ledger().store().history(&api(), 1).pop().expect("one");
        let stable = backend.simulation.state().and_then(|state| state.stable).expect("stable");
        (record.hotfix, DeployOptions { forward_only: stable.forward_only, ..DeployOptions::default() })
    });
    assert!(hotfix && options.forward_only);
}
