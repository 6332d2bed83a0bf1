//! A crowd of targets in one world, all of which get a push at once, with real functions to do everything about it.

use super::tally::Tally;
use aws::Clients;
use aws::ledger::DynamoLedger;
use aws_credential_types::Credentials;
use engine::{Administration as _, Targets as _};
use rollout::policy::{Policy, Strategy};
use rollout::verdict::Verdict;
use rollout::{Name, Percent, Seconds, TargetId};
use serde_json::{Value, json};
use simulation::world::balancer::GroupSettings;
use simulation::world::scene::{build_application, release_of};
use simulation::world::{Health, ImageBehaviour, PairNames, PairSetup, Settings, Timing, World};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tests::front::{AwsError, Call, CallInterceptor, FaultKind, Front, Options};
use tests::harness::aws::Aws;
use tests::harness::child::target;
use tests::harness::lambda::{InvocationOutcome, Sandbox};
use tests::harness::wakes::{Queue, QueueSettings};
use tests::harness::{HarnessError, REGION, ministack, now, packages};

/// As `template.yaml` has it.
const TIME_OUT: Duration = Duration::from_secs(60);
const QUEUE: QueueSettings = QueueSettings { visibility: Duration::from_secs(360), max_receives: 5 };
/// Targets of one policy.
const TARGETS_PER_APPLICATION: usize = 100;
/// How often an empty queue is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long all of it may take, and so much more for each target.
const BASE_TIMEOUT: Duration = Duration::from_secs(240);
const TIMEOUT_PER_TARGET: Duration = Duration::from_secs(8);

/// Who gets a push.
#[derive(Debug)]
pub(crate) struct LoadTest {
    /// How many.
    pub(crate) targets: usize,
    /// Of so many releases one is bad.
    pub(crate) bad_one_in: usize,
    /// Processes for ordinary wakes; there is one more for urgent ones.
    pub(crate) drivers: usize,
}

impl LoadTest {
    fn is_bad(&self, number: usize) -> bool {
        number % self.bad_one_in == self.bad_one_in / 2
    }

    /// How many releases are bad.
    pub(crate) fn bad(&self) -> usize {
        (0..self.targets).filter(|number| self.is_bad(*number)).count()
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct LoadResult {
    verdicts: BTreeMap<String, usize>,
    unexpected: Vec<String>,
    pub(crate) tally: Tally,
    pub(crate) dead_letters: Vec<String>,
    pub(crate) anomalies: Vec<String>,
    elapsed_total: Duration,
    targets: usize,
    drivers: usize,
    passes: [u64; 2],
    /// Once a second: wakes that could be received, and how long the oldest one has waited, for each queue.
    backlog: Vec<[(usize, Duration); 2]>,
    /// From the push to the verdict, the quickest first.
    durations: Vec<f64>,
}

impl LoadResult {
    pub(crate) fn ended(&self, verdict: Verdict) -> usize {
        self.verdicts.get(&format!("{verdict:?}")).copied().unwrap_or(0)
    }
}

impl fmt::Display for LoadResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed_total.as_secs_f64();
        let Self { targets, drivers, .. } = self;
        writeln!(f, "{targets} deployments at once, {drivers} drivers and one for what is urgent: {seconds:.0} s")?;
        writeln!(f, "verdicts                 {:?}", self.verdicts)?;
        for reason in &self.unexpected {
            writeln!(f, "                         {reason}")?;
        }
        let at =
            |per_cent: usize| self.durations.get((self.durations.len() * per_cent / 100).min(self.durations.len() - 1));
        let [half, most, all] = [50, 99, 100].map(|per_cent| at(per_cent).copied().unwrap_or_default());
        writeln!(f, "push to verdict          {half:.0} s for half, {most:.0} s for 99 %, {all:.0} s at most")?;
        for (lane, name) in ["ordinary", "urgent"].iter().enumerate() {
            let longest = self.backlog.iter().map(|at| at[lane].0).max().unwrap_or_default();
            let oldest = self.backlog.iter().map(|at| at[lane].1).max().unwrap_or_default().as_secs_f64();
            let tenths = (0..10).filter_map(|tenth| self.backlog.get(self.backlog.len() * tenth / 10));
            let over_time: Vec<String> = tenths.map(|at| at[lane].0.to_string()).collect();
            writeln!(
                f,
                "{name:<9} wakes          {} passes; at most {longest} waited, {oldest:.1} s",
                self.passes[lane]
            )?;
            writeln!(f, "                         waiting, tenth by tenth of the time: {}", over_time.join(" "))?;
        }
        write!(f, "{}", self.tally)
    }
}

/// Counts calls, and keeps the queues.
#[derive(Debug)]
struct LoadInterceptor {
    queues: [Arc<Queue>; 2],
    tally: Mutex<Tally>,
}

impl CallInterceptor for LoadInterceptor {
    fn before(&self, _: &Call) -> Option<FaultKind> {
        None
    }

    fn after(&self, call: &Call) {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).record(call);
    }

    fn serve(&self, service: &str, operation: &str, parameters: &Value) -> Option<Result<Value, AwsError>> {
        if service != "sqs" {
            return None;
        }
        if operation != "SendMessage" {
            return Some(Err(AwsError::sender("UnsupportedOperation", format!("{operation} is nobody's here"))));
        }
        let urgent = parameters["QueueUrl"].as_str().is_some_and(|url| url.ends_with("/urgent-wakes"));
        let delay = Duration::from_secs(parameters["DelaySeconds"].as_u64().unwrap_or_default());
        let id = self.queues[usize::from(urgent)].send(parameters["MessageBody"].as_str().unwrap_or_default(), delay);
        Some(Ok(json!({"MessageId": id})))
    }
}

/// A target, what its things are called, and its push.
struct LoadTarget {
    target: TargetId,
    names: PairNames,
    event: Value,
}

/// The functions' processes.
struct Processes {
    /// For ordinary wakes.
    drivers: Vec<Sandbox>,
    /// For urgent ones.
    urgent: Sandbox,
    signals: Sandbox,
    pushes: Sandbox,
}

impl Processes {
    async fn start(binaries: &Path, front: &Front, table: &str, count: usize) -> Result<Self, HarnessError> {
        let log_path = target().join("tmp").join(format!("load-{}.log", std::process::id()));
        let log = File::create(&log_path).map_err(|error| HarnessError(format!("{}: {error}", log_path.display())))?;
        let settings = settings(front, table);
        let process = async |name: &str| Sandbox::start(&binaries.join(name), &settings, &log).await;
        let (mut drivers, urgent) = (Vec::new(), process("rollout-driver").await?);
        for _ in 0..count {
            drivers.push(process("rollout-driver").await?);
        }
        Ok(Self { drivers, urgent, signals: process("signal-received").await?, pushes: process("image-pushed").await? })
    }
}

/// How the deployments ended.
#[derive(Debug, Default)]
struct Outcomes {
    verdicts: BTreeMap<String, usize>,
    unexpected: Vec<String>,
}

/// Pushes to every target, and runs the functions until every deployment has ended.
pub(crate) async fn deploy_all(load_test: &LoadTest) -> Result<LoadResult, HarnessError> {
    let to_failure = |error: &dyn fmt::Display| HarnessError(error.to_string());
    let binaries = packages::build_only(["rollout-driver", "signal-received", "image-pushed"])?;
    let ministack = ministack::start(&[])?;
    let table = "load";
    Aws::at(ministack.address()).create_ledger_table(table)?;
    let config = aws::config::loader()
        .endpoint_url(ministack.endpoint())
        .region(aws_config::Region::new(REGION))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .load()
        .await;
    let ledger = DynamoLedger::new(Clients::of(config), table);
    let (world, members, policies) = build_world(load_test);
    let options = Options { latency: Duration::from_millis(1), upstream: Some(ministack.address()), speed: 1.0 };
    let front = Front::start(world, options).await.map_err(|error| to_failure(&error))?;
    for policy in &policies {
        ledger.apply(policy, "", now(), "the tests").await.map_err(|error| to_failure(&error))?;
    }
    let queues = [(); 2].map(|()| Arc::new(Queue::new(QUEUE)));
    let interceptor = Arc::new(LoadInterceptor { queues: queues.clone(), tally: Mutex::default() });
    front.set_interceptor(Arc::clone(&interceptor) as Arc<dyn CallInterceptor>);

    let processes = Processes::start(&binaries, &front, table, load_test.drivers).await?;
    let began = Instant::now();
    let finished = AtomicBool::new(false);
    let works = processes.drivers.iter().map(|driver| run_driver(driver, &queues[0], &finished));
    let ((), (ordinary, urgent), (), (ended, backlog)) = futures::join!(
        async {
            for member in &members {
                invoke(&processes.pushes, &member.event).await;
            }
        },
        futures::future::join(futures::future::join_all(works), run_driver(&processes.urgent, &queues[1], &finished)),
        forward_events(&front, &processes.signals, &finished),
        wait_for_all(&ledger, &members, &queues, began, &finished),
    );
    let Outcomes { verdicts, unexpected } = outcomes(&ledger, &front, &members).await?;
    let mut durations: Vec<f64> = ended.iter().flatten().map(Duration::as_secs_f64).collect();
    durations.sort_by(f64::total_cmp);
    let tally = interceptor.tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(LoadResult {
        verdicts,
        unexpected,
        tally,
        dead_letters: queues.iter().flat_map(|queue| queue.dead_letters()).collect(),
        anomalies: front.anomalies(),
        elapsed_total: began.elapsed(),
        targets: load_test.targets,
        drivers: load_test.drivers,
        passes: [ordinary.into_iter().sum(), urgent],
        backlog,
        durations,
    })
}

/// Counts the verdicts, and fails where the live weights contradict one.
async fn outcomes(ledger: &DynamoLedger, front: &Front, members: &[LoadTarget]) -> Result<Outcomes, HarnessError> {
    let mut outcomes = Outcomes::default();
    for member in members {
        let history = ledger.history(&member.target, 1).await.map_err(|error| HarnessError(error.to_string()))?;
        let record = history.first();
        let verdict = record.and_then(|record| record.verdict);
        *outcomes.verdicts.entry(verdict.map_or("none".to_owned(), |verdict| format!("{verdict:?}"))).or_default() += 1;
        let expected = [Some(Verdict::Succeeded), Some(Verdict::RolledBack)].contains(&verdict);
        if !expected && outcomes.unexpected.len() < 5 {
            let reason = record.map_or("nothing", |record| record.reason.as_str());
            outcomes.unexpected.push(format!("{}: {reason}", member.target));
        }
        let (blue, green) = weights_of(front, &member.names)?;
        let on_green = verdict == Some(Verdict::Succeeded);
        if (blue == 0) != on_green || (green == 0) == on_green {
            let target = &member.target;
            return Err(HarnessError(format!("{target} ended as {verdict:?} with blue {blue} / green {green}")));
        }
    }
    Ok(outcomes)
}

/// One process takes wakes, one after the other, until it is over; answers how many.
async fn run_driver(driver: &Sandbox, queue: &Queue, finished: &AtomicBool) -> u64 {
    let mut passes = 0;
    while !finished.load(Ordering::Relaxed) {
        let Some(received) = queue.receive() else {
            tokio::time::sleep(TICK).await;
            continue;
        };
        passes += 1;
        match driver.invoke(&received.event(), TIME_OUT).await {
            InvocationOutcome::Answered(answer) if received.is_done(&answer) => queue.delete(&received),
            InvocationOutcome::Answered(_) | InvocationOutcome::Failed(_) | InvocationOutcome::Died => {}
        }
    }
    passes
}

/// The world's events find their function, as the rules in the template let them through.
async fn forward_events(front: &Front, signals: &Sandbox, finished: &AtomicBool) {
    let mut events = front.events();
    while !finished.load(Ordering::Relaxed) {
        let Some(event) = events.try_next() else {
            tokio::time::sleep(TICK).await;
            continue;
        };
        let Some(payload) = event.eventbridge() else { continue };
        let filtered_out = payload["detail-type"] == "ECS Task State Change"
            && !["RUNNING", "STOPPED"].iter().any(|status| payload["detail"]["lastStatus"] == *status);
        if !filtered_out {
            invoke(signals, &payload).await;
        }
    }
}

/// An asynchronous invocation: tried three times.
async fn invoke(function: &Sandbox, event: &Value) {
    for _ in 0..3 {
        if let InvocationOutcome::Answered(_) = function.invoke(event, TIME_OUT).await {
            return;
        }
    }
}

/// Looks once a second who is done and what waits, until everybody is.
async fn wait_for_all(
    ledger: &DynamoLedger,
    members: &[LoadTarget],
    queues: &[Arc<Queue>; 2],
    began: Instant,
    finished: &AtomicBool,
) -> (Vec<Option<Duration>>, Vec<[(usize, Duration); 2]>) {
    let timeout = BASE_TIMEOUT + TIMEOUT_PER_TARGET * u32::try_from(members.len()).unwrap_or(u32::MAX);
    let mut ended: Vec<Option<Duration>> = vec![None; members.len()];
    let mut backlog = Vec::new();
    while ended.iter().any(Option::is_none) && began.elapsed() < timeout {
        tokio::time::sleep(Duration::from_secs(1)).await;
        backlog.push([0, 1].map(|lane| queues[lane].backlog()));
        for (member, end) in members.iter().zip(&mut ended).filter(|(_, end)| end.is_none()) {
            let state = ledger.state(&member.target).await.ok().flatten();
            if state.is_some_and(|state| state.running.is_none() && state.last_deployment > 0) {
                *end = Some(began.elapsed());
            }
        }
    }
    finished.store(true, Ordering::Relaxed);
    (ended, backlog)
}

fn settings(front: &Front, table: &str) -> Vec<(String, String)> {
    let endpoint = front.endpoint();
    let settings = [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_LAMBDA_LOG_LEVEL", "WARN"),
        ("SWITCHBACK_TABLE", table),
        ("SWITCHBACK_ACCOUNT", ministack::ACCOUNT),
        ("SWITCHBACK_WAKES_URL", "http://127.0.0.1/000000000000/wakes"),
        ("SWITCHBACK_URGENT_WAKES_URL", "http://127.0.0.1/000000000000/urgent-wakes"),
        // All at once is what is tried here; the turns before AWS's budgets are tried in virtual time.
        ("SWITCHBACK_BALANCER_READS", "1000000"),
    ];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// All scenes in one world, the pushes, and the policies.
fn build_world(load_test: &LoadTest) -> (World, Vec<LoadTarget>, Vec<Policy>) {
    let name = |text: String| Name::new(&text).expect("the load's own names are names");
    let step = |share: u8, hold: u64| rollout::policy::Step {
        traffic: Percent::new(share).unwrap_or(Percent::ALL),
        hold: Seconds(hold),
    };
    let scenes: Vec<PairSetup> = (0..load_test.targets)
        .map(|number| {
            let usual = PairSetup::new("load", "any", "live");
            let application = name(format!("load-{}", number / TARGETS_PER_APPLICATION));
            PairSetup {
                target: TargetId::new(application, name(format!("svc-{number}")), usual.target.environment.clone()),
                tasks: 2,
                requests_per_second: if load_test.is_bad(number) { 20.0 } else { 0.0 },
                groups: GroupSettings {
                    health_check_interval_s: 1,
                    deregistration_delay_s: 1,
                    ..GroupSettings::default()
                },
                alarm_period_s: 10,
                strategy: Strategy {
                    // Long enough for an alarm whose period is 10 s.
                    steps: vec![step(50, 12), step(100, 0)],
                    bake: Seconds(3),
                    keep_warm: Seconds(1),
                    green_capacity: Percent::ALL,
                    drain: Seconds(1),
                    task_failures: rollout::policy::TaskFailures::default(),
                },
                ..usual
            }
        })
        .collect();
    let settings = Settings {
        start: now(),
        region: REGION.to_owned(),
        account: ministack::ACCOUNT.to_owned(),
        timing: Timing::quick(),
        log_calls: false,
        ..Settings::default()
    };
    let mut built = build_application(&scenes, settings);
    let mut members = Vec::new();
    let mut policies: BTreeMap<Name, Policy> = BTreeMap::new();
    for (number, (target, names)) in built.pairs.drain(..).enumerate() {
        let release = release_of(&target, &names.repository_uri, 1, now());
        let behaviour = if load_test.is_bad(number) { ImageBehaviour::failing(0.5) } else { ImageBehaviour::default() };
        built.world.set_image(&release.image, ImageBehaviour { health: Health::After(Seconds(0)), ..behaviour });
        let application = &target.application;
        let policy = policies.entry(application.clone()).or_insert_with(|| {
            let mut policy = built.policy.clone();
            policy.application.clone_from(application);
            policy.services.clear();
            policy.environments.values_mut().for_each(|environment| environment.targets.clear());
            policy
        });
        let service = &target.service;
        policy.services.extend(built.policy.services.get(service).map(|rules| (service.clone(), rules.clone())));
        for (name, environment) in &mut policy.environments {
            let rules = built.policy.environments.get(name).and_then(|all| all.targets.get(service));
            environment.targets.extend(rules.map(|rules| (service.clone(), rules.clone())));
        }
        let event = json!({
            "version": "0", "id": format!("push-{number}"), "detail-type": "ECR Image Action", "source": "aws.ecr",
            "account": ministack::ACCOUNT, "region": REGION, "time": now().to_string(), "resources": [],
            "detail": {
                "result": "SUCCESS", "action-type": "PUSH", "repository-name": names.repository,
                "image-digest": release.id.digest.to_string(), "image-tag": release.tag,
            },
        });
        members.push(LoadTarget { target, names, event });
    }
    (built.world, members, policies.into_values().collect())
}

fn weights_of(front: &Front, names: &PairNames) -> Result<(i64, i64), HarnessError> {
    let mut world = front.world();
    let rules = world.as_third_party(|world| world.describe_rules(None, std::slice::from_ref(&names.rule)));
    let rules = rules.map_err(|error| HarnessError(error.to_string()))?;
    let groups = rules.iter().flat_map(|rule| &rule.actions).find_map(|action| match &action.what {
        simulation::world::balancer::ActionKind::Forward(forward) => Some(&forward.target_groups),
        simulation::world::balancer::ActionKind::Other { .. } => None,
    });
    let weight = |arn: &str| groups.into_iter().flatten().find(|group| group.arn == arn).and_then(|group| group.weight);
    Ok((weight(&names.blue_group).unwrap_or(0), weight(&names.green_group).unwrap_or(0)))
}
