//! The product, deployed: the real binaries of `functions/` from `template.yaml` in ministack, before the wire front.

use super::aws::Aws;
use super::bus::Bus;
use super::child::Server;
use super::emulators::{REGION, ministack};
use super::http::Response;
use super::issuer::Issuer;
use super::permissions::Suite;
use super::slack::FakeSlack;
use super::tools::{command_output, tools, workspace};
use super::{HarnessError, leaks, packages, permissions, replay};
use crate::front::{Front, Options};
use rollout::Timestamp;
use serde_json::{Value, json};
use simulation::world::{Settings, Timing, World};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// Installs the deployment; its own words say how.
const DEPLOY: &str = include_str!("deploy.py");

/// Whom tokens of workflows are for; the template's default.
pub const AUDIENCE: &str = "switchback";

/// How many lines of a log are read at a time: the most that CloudWatch Logs gives.
const LOG_PAGE: usize = 10_000;

/// Which clients of the functions call the front: what it speaks itself, and what it only notes down and passes on.
const FRONT_SERVICES: [&str; 8] =
    ["ECS", "ELASTIC_LOAD_BALANCING_V2", "CLOUDWATCH", "APPLICATION_AUTO_SCALING", "LAMBDA", "DYNAMODB", "SQS", "ECR"];

/// The deployed product and the world that it works on. One for a test process: see [`stack`].
#[derive(Debug)]
pub struct Stack {
    runtime: tokio::runtime::Runtime,
    front: Front,
    issuer: Issuer,
    slack: FakeSlack,
    ministack: Server,
    bus: Bus,
    /// Where the binaries are.
    binaries: PathBuf,
    /// Physical names by logical ones.
    resources: BTreeMap<String, String>,
    /// Logical names of functions by their package's.
    functions: BTreeMap<String, String>,
}

/// The process's one deployment, started by whoever asks first. All tests share it: each takes names of its own.
///
/// # Panics
/// Where it cannot be started: no test can say more.
pub fn stack() -> &'static Stack {
    static STACK: OnceLock<Result<Stack, HarnessError>> = OnceLock::new();
    STACK.get_or_init(Stack::start).as_ref().unwrap_or_else(|failure| panic!("{failure}"))
}

impl Stack {
    /// Builds the functions, starts front and emulator, and deploys.
    ///
    /// # Errors
    /// [`HarnessError`] with whatever went wrong.
    pub fn start() -> Result<Self, HarnessError> {
        let began = Instant::now();
        let binaries = packages::build()?;
        let built = began.elapsed();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| front_failure(&error))?;
        let front = start_front(&runtime)?;
        let ministack = start_ministack(&front)?;
        let started = began.elapsed();
        let (issuer, slack) = (Issuer::start()?, FakeSlack::start()?);
        let parameters = template_parameters(&ministack, &issuer, &slack)?;
        let deployed = deploy(&ministack, &binaries, parameters)?;
        eprintln!(
            "deployed template.yaml: build {} s, start {} s, deploy {} s",
            built.as_secs(),
            (started - built).as_secs(),
            (began.elapsed() - started).as_secs()
        );
        let bus = Bus::new(Aws::at(ministack.address()))?;
        relay_events(&runtime, &front, bus.clone());
        let map = |name: &str| -> BTreeMap<String, String> {
            serde_json::from_value(deployed[name].clone()).unwrap_or_default()
        };
        let (resources, functions) = (map("resources"), map("functions"));
        Ok(Self { runtime, front, issuer, slack, ministack, bus, binaries, resources, functions })
    }

    /// The wire front: the world, the log of calls, faults.
    #[must_use]
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// GitHub's identity provider, as the deployed product knows it.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The Slack that the deployed product speaks to.
    #[must_use]
    pub fn slack(&self) -> &FakeSlack {
        &self.slack
    }

    /// The emulator that runs the functions.
    #[must_use]
    pub fn ministack(&self) -> &Server {
        &self.ministack
    }

    /// Signed calls to the emulator.
    #[must_use]
    pub fn aws(&self) -> Aws {
        Aws::at(self.ministack.address())
    }

    /// The front's runtime.
    #[must_use]
    pub fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    /// The physical name of a resource of `template.yaml`.
    ///
    /// # Errors
    /// [`HarnessError`] where there is none of that logical name.
    pub fn resource(&self, logical: &str) -> Result<&str, HarnessError> {
        self.resources.get(logical).map(String::as_str).ok_or_else(|| {
            let names: Vec<&str> = self.resources.keys().map(String::as_str).collect();
            HarnessError(format!("template.yaml has no resource {logical}; it has {}", names.join(", ")))
        })
    }

    fn function(&self, package: &str) -> Result<&str, HarnessError> {
        let logical = self
            .functions
            .get(package)
            .ok_or_else(|| HarnessError(format!("template.yaml has no function of functions/{package}")))?;
        self.resource(logical)
    }

    /// Hands an event to a function as EventBridge does, and waits for its answer.
    ///
    /// # Errors
    /// [`HarnessError`] where the function failed, with its words.
    pub fn invoke(&self, package: &str, event: &Value) -> Result<Value, HarnessError> {
        let path = format!("/2015-03-31/functions/{}/invocations", self.function(package)?);
        let response = self.aws().send("lambda", "POST", &path, &[], &event.to_string())?;
        if response.status == 200 && response.header("x-amz-function-error").is_none() {
            Ok(response.json())
        } else {
            Err(HarnessError(format!("{package} {event}: {} {}", response.status, response.body)))
        }
    }

    /// Sends an event as AWS does: the template's rules decide which functions get it. Answers their logical names.
    ///
    /// # Errors
    /// [`HarnessError`] where the emulator refuses.
    pub fn send(&self, event: &Value) -> Result<Vec<String>, HarnessError> {
        let arns = self.bus.send(event)?;
        let logical = |arn: &String| {
            let physical = arn.rsplit(':').next()?;
            self.resources.iter().find(|(_, name)| name.as_str() == physical).map(|(logical, _)| logical.clone())
        };
        Ok(arns.iter().filter_map(logical).collect())
    }

    /// Asks `operations`, as an IAM principal, through the HTTP API.
    ///
    /// # Errors
    /// [`HarnessError`] where no answer came; an answer of any status is one.
    pub fn operations(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Response, HarnessError> {
        let api = self.resource("OperationsApi")?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let headers = [("content-type", "application/json")];
        self.aws().send("execute-api", method, &format!("/_aws/execute-api/{api}{path}"), &headers, &body)
    }

    /// The operator's binary, as a shell would start it, with nothing of the environment of whoever runs the tests.
    #[must_use]
    pub fn operator(&self) -> Command {
        let mut command = Command::new(self.binaries.join(packages::OPERATOR));
        command.env_clear().env("NO_PROXY", "127.0.0.1");
        command
    }

    /// Where an HTTP API of the template is: what follows is a path of one of its routes, with its slash.
    ///
    /// # Errors
    /// [`HarnessError`] where the template has none of that logical name.
    pub fn api_url(&self, api: &str) -> Result<String, HarnessError> {
        Ok(format!("{}/_aws/execute-api/{}", self.ministack.endpoint(), self.resource(api)?))
    }

    /// The present text of a secret of the template.
    ///
    /// # Errors
    /// [`HarnessError`] where it is not to be had.
    pub fn secret(&self, logical: &str) -> Result<String, HarnessError> {
        let parameters = json!({"SecretId": self.resource(logical)?});
        let answer = self.aws().json("secretsmanager", "secretsmanager.GetSecretValue", &parameters)?;
        Ok(answer["SecretString"].as_str().unwrap_or_default().to_owned())
    }

    /// Pushes an image of its own content to the emulator's ECR; answers its digest. No event comes of it.
    ///
    /// # Errors
    /// [`HarnessError`] where ECR refuses.
    pub fn push_image(&self, repository: &str, tag: &str) -> Result<String, HarnessError> {
        let ecr = |operation: &str, parameters: &Value| {
            self.aws().json("ecr", &format!("AmazonEC2ContainerRegistry_V20150921.{operation}"), parameters)
        };
        if let Err(failure) = ecr("CreateRepository", &json!({"repositoryName": repository}))
            && !failure.0.contains("RepositoryAlreadyExists")
        {
            return Err(failure);
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": 1,
                "digest": digest_of(&format!("{repository}:{tag}")),
            },
            "layers": [],
        });
        let parameters = json!({"repositoryName": repository, "imageManifest": manifest.to_string(), "imageTag": tag});
        let put = ecr("PutImage", &parameters)?;
        let digest = put.pointer("/image/imageId/imageDigest").and_then(Value::as_str);
        digest.map(str::to_owned).ok_or_else(|| HarnessError(format!("PutImage answered {put}")))
    }

    /// Calls that the front did not understand, calls that a function's role does not allow, messages that ended in the
    /// dead-letter queue, secrets in a log, and decisions that are made otherwise from their record: each a sentence.
    #[must_use]
    pub fn find_problems(&self) -> Vec<String> {
        let mut found = self.front.anomalies();
        match permissions::disallowed_calls(self.front.log().calls(), &self.resources) {
            Ok(disallowed_calls) => found.extend(disallowed_calls),
            Err(failure) => found.push(failure.0),
        }
        match self.dead_letters() {
            Ok(letters) => found.extend(letters),
            Err(failure) => found.push(format!("the dead-letter queue cannot be read: {failure}")),
        }
        found.extend(leaks::in_logs(self));
        found.extend(replay::replay_differences(self));
        found
    }

    /// What roles allow and no call of the suite, which has run as a whole, has made use of: each a sentence.
    #[must_use]
    pub fn unused_permissions(&self, suite: Suite) -> Vec<String> {
        match permissions::unused(suite, self.front.log().calls(), &self.resources) {
            Ok(unused) => unused.into_iter().collect(),
            Err(failure) => vec![failure.0],
        }
    }

    fn dead_letters(&self) -> Result<Vec<String>, HarnessError> {
        let parameters = json!({"QueueUrl": self.resource("DeadLetterQueue")?, "MaxNumberOfMessages": 10});
        let received = self.aws().json("sqs", "AmazonSQS.ReceiveMessage", &parameters)?;
        let messages = received["Messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(messages.iter().map(|message| format!("a dead letter: {}", message["Body"])).collect())
    }

    /// What a function has written to its log so far.
    ///
    /// # Errors
    /// [`HarnessError`] where there is no such function.
    pub fn function_log(&self, package: &str) -> Result<String, HarnessError> {
        let group = format!("/aws/lambda/{}", self.function(package)?);
        let mut messages: Vec<String> = Vec::new();
        let mut from = 0;
        loop {
            let parameters = json!({"logGroupName": group, "limit": LOG_PAGE, "startTime": from});
            let events = self.aws().json("logs", "Logs_20140328.FilterLogEvents", &parameters)?;
            let lines = events["events"].as_array().map(Vec::as_slice).unwrap_or_default();
            messages.extend(lines.iter().filter_map(|line| line["message"].as_str()).map(str::to_owned));
            // Lines of the last page's last millisecond come twice: they are looked at twice, and none is missed.
            match lines.last().and_then(|line| line["timestamp"].as_i64()) {
                Some(last) if lines.len() == LOG_PAGE && last > from => from = last,
                _ => return Ok(messages.join("\n")),
            }
        }
    }
}

fn front_failure(error: &std::io::Error) -> HarnessError {
    HarnessError(format!("the wire front did not start: {error}"))
}

fn start_front(runtime: &tokio::runtime::Runtime) -> Result<Front, HarnessError> {
    let settings = Settings {
        // The functions have the machine's clock, so the world has it, too, and runs as fast.
        start: now(),
        region: REGION.to_owned(),
        account: ministack::ACCOUNT.to_owned(),
        timing: Timing::quick(),
        ..Settings::default()
    };
    // A few milliseconds for every call tell what is done in parallel from what is done in sequence.
    let options = Options { latency: Duration::from_millis(5), ..Options::default() };
    runtime.block_on(Front::start(World::new(settings), options)).map_err(|error| front_failure(&error))
}

/// Starts the emulator before the front, with the functions' calls of [`FRONT_SERVICES`] sent to it.
fn start_ministack(front: &Front) -> Result<Server, HarnessError> {
    let endpoint = front.endpoint();
    let names: Vec<String> = FRONT_SERVICES.iter().map(|service| format!("AWS_ENDPOINT_URL_{service}")).collect();
    // AUTH: every call that reaches ministack is held against the policies that the template gives its function.
    let mut environment = vec![("AUTH", "true")];
    environment.extend(names.iter().map(|name| (name.as_str(), endpoint.as_str())));
    let ministack = ministack::start(&environment)?;
    front.set_upstream(Some(ministack.address()));
    Ok(ministack)
}

/// The template's parameters. The Slack app's two secrets are created on the way: they exist before the product does.
fn template_parameters(ministack: &Server, issuer: &Issuer, slack: &FakeSlack) -> Result<[String; 7], HarnessError> {
    let aws = Aws::at(ministack.address());
    let secret = |name: &str, text: &str| {
        let parameters = json!({"Name": name, "SecretString": text});
        let made = aws.json("secretsmanager", "secretsmanager.CreateSecret", &parameters)?;
        Ok::<_, HarnessError>(made["ARN"].as_str().unwrap_or_default().to_owned())
    };
    Ok([
        "Architecture=x86_64".to_owned(),
        "RegistryEveryMinutes=1".to_owned(),
        // The front has no budget to take turns before; `cargo load` is about that.
        "BalancerReads=100000".to_owned(),
        format!("GitHubIssuer={}", issuer.issuer()),
        format!("SlackApiUrl={}", slack.api()),
        format!("SlackTokenSecretArn={}", secret("slack-bot-token", slack.bot_token())?),
        format!("SlackSigningSecretArn={}", secret("slack-signing-secret", slack.signing_secret())?),
    ])
}

/// Deploys `template.yaml`; answers the physical names of its resources, and the functions, as `deploy.py` prints them.
fn deploy(ministack: &Server, binaries: &Path, parameters: [String; 7]) -> Result<Value, HarnessError> {
    let printed = command_output(
        Command::new(tools()?.python())
            .args(["-c", DEPLOY, &ministack.endpoint()])
            .arg(workspace().join("template.yaml"))
            .arg("switchback")
            .arg(binaries)
            .args(parameters)
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_SESSION_TOKEN")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_DEFAULT_REGION", REGION)
            .env("NO_PROXY", "127.0.0.1"),
        "template.yaml could not be deployed",
    )
    .map_err(|failure| HarnessError(format!("{failure}\n{}", ministack.tail())))?;
    serde_json::from_str(&printed)
        .map_err(|error| HarnessError(format!("the deployment said no JSON: {error}\n{printed}")))
}

/// Sends the world's events to the template's rules, as AWS does: one at a time, in order.
fn relay_events(runtime: &tokio::runtime::Runtime, front: &Front, bus: Bus) {
    let mut events = front.events();
    runtime.spawn(async move {
        while let Some(event) = events.next().await {
            let Some(event) = event.eventbridge() else { continue };
            let relay = bus.clone();
            let sent = tokio::task::spawn_blocking(move || relay.send(&event)).await;
            match sent {
                Ok(Ok(_)) => {}
                Ok(Err(failure)) => eprintln!("an event of the world was not handed on: {failure}"),
                // The runtime ends, and the emulator with it.
                Err(_) => break,
            }
        }
    });
}

/// The machine's time, in whole milliseconds.
///
/// # Panics
/// Where the clock stands before 1970.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let milliseconds = i64::try_from(since.as_millis()).unwrap_or_default();
    Timestamp::from_millisecond(milliseconds).expect("a clock of this century")
}

/// `sha256:…` of a text.
#[must_use]
pub fn digest_of(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    format!("sha256:{}", hex::encode(Sha256::digest(text)))
}

/// Asks `question` every 250 ms until it answers something, at most for `limit`.
///
/// # Errors
/// [`HarnessError`] with the last refusal when the limit has passed.
pub fn eventually<T>(limit: Duration, mut question: impl FnMut() -> Result<T, String>) -> Result<T, HarnessError> {
    let deadline = Instant::now() + limit;
    loop {
        match question() {
            Ok(answer) => return Ok(answer),
            Err(reason) if Instant::now() > deadline => {
                return Err(HarnessError(format!("not within {} s: {reason}", limit.as_secs())));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(250)),
        }
    }
}
