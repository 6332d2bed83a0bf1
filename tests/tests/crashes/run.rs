//! One deployment from its push to its end with the real driver, and what is done to it on the way.

use super::call_site::CallSite;
use super::fault_injector::{FaultInjector, FaultPoint};
use super::final_state::FinalState;
use super::scenario::{HOOK, MANUAL_ALARM, Scenario};
use aws::Clients;
use aws::ledger::DynamoLedger;
use aws_credential_types::Credentials;
use engine::{Administration as _, Commands as _, ReleaseIntake as _, Wake};
use rollout::{Command, Seconds, TargetId};
use serde_json::json;
use simulation::world::Invoked;
use simulation::world::alarms::AlarmState;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tests::front::{Front, Options};
use tests::harness::aws::Aws;
use tests::harness::child::{Server, target};
use tests::harness::lambda::{InvocationOutcome, Sandbox};
use tests::harness::wakes::{Queue, QueueSettings};
use tests::harness::{HarnessError, REGION, ministack, now, packages};

/// What bounds a driver's invocation, and the rollback.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long the driver may run. Its lease follows from it.
    pub(crate) time_out: Duration,
    /// How long a message that was received is nobody else's.
    pub(crate) visibility: Duration,
    /// `deadlines.rollback`
    pub(crate) rollback: Seconds,
}

/// Shorter than the template's, so that hundreds of runs take minutes; a rollback has time for any healing.
pub(crate) const SHORT: Limits =
    Limits { time_out: Duration::from_secs(20), visibility: Duration::from_secs(22), rollback: Seconds(1200) };
/// As `template.yaml` has them, and a rollback that may take one minute.
pub(crate) const DEPLOYED: Limits =
    Limits { time_out: Duration::from_secs(60), visibility: Duration::from_secs(360), rollback: Seconds(60) };
/// As `template.yaml` has it.
const MAX_RECEIVES: u32 = 5;
/// How long a run may take, whatever happens.
const RUN_TIMEOUT: Duration = Duration::from_secs(180);
/// How soon an event of the world wakes the driver.
const EVENT_DELAY: Duration = Duration::from_millis(200);
const TICK: Duration = Duration::from_millis(25);

/// What all runs share: the binary, and the DynamoDB that ledgers are in, each in a table of its own.
#[derive(Debug)]
pub(crate) struct Lab {
    driver: PathBuf,
    ministack: Server,
    clients: Clients,
    log: File,
    runs: AtomicU64,
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Whoever looks for it finds the one that it is a copy of.
        let _ = std::fs::remove_file(&self.driver);
    }
}

/// What came of a run.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// The rows up to the fault, in the order of their first calls, with how often each was called.
    pub(crate) rows: Vec<(CallSite, usize)>,
    /// Where everything stands.
    pub(crate) final_state: FinalState,
    /// The fault has happened.
    pub(crate) triggered: bool,
    /// From the fault until the deployment went on.
    pub(crate) recovered_after: Option<Duration>,
}

impl Lab {
    pub(crate) async fn open() -> Result<Self, HarnessError> {
        let built = packages::build_only(["rollout-driver"])?.join("rollout-driver");
        // A copy: all runs are of one binary, whatever is built meanwhile.
        // Each laboratory has its own copy: whichever is done first removes its own.
        static LABS: AtomicU64 = AtomicU64::new(0);
        let lab = format!("{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let driver = target().join("tmp").join(format!("rollout-driver-{lab}"));
        std::fs::copy(&built, &driver).map_err(|error| HarnessError(format!("{}: {error}", built.display())))?;
        let ministack = ministack::start(&[])?;
        let config = aws::config::loader()
            .endpoint_url(ministack.endpoint())
            .region(aws_config::Region::new(REGION))
            .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
            .load()
            .await;
        let log_path = target().join("tmp").join(format!("crashes-{lab}.log"));
        let log = File::create(&log_path).map_err(|error| HarnessError(format!("{}: {error}", log_path.display())))?;
        Ok(Self { driver, ministack, clients: Clients::of(config), log, runs: AtomicU64::new(1) })
    }

    /// Runs a story, with one thing that goes wrong in it, or none.
    ///
    /// # Errors
    /// [`HarnessError`] where it did not come to an end in time, or the run itself could not be made.
    pub(crate) async fn run(
        &self,
        scenario: Scenario,
        fault_point: Option<FaultPoint>,
        limits: Limits,
    ) -> Result<Report, HarnessError> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let table = format!("run-{number}");
        let (emulator, name) = (Aws::at(self.ministack.address()), table.clone());
        // Beside the other runs, whose times count.
        let made = tokio::task::spawn_blocking(move || emulator.create_ledger_table(&name)).await;
        made.map_err(|error| HarnessError(error.to_string()))??;
        let setup = scenario.setup(limits.rollback);
        let (names, target, release) = (setup.names, setup.target, setup.release);
        let options =
            Options { latency: Duration::from_millis(1), upstream: Some(self.ministack.address()), speed: 1.0 };
        let to_failure = |error: &dyn std::fmt::Display| HarnessError(format!("run {number}: {error}"));
        let front = Front::start(setup.world, options).await.map_err(|error| to_failure(&error))?;
        let hooked: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let asked = Arc::clone(&hooked);
        front.put_function(HOOK, move |payload| {
            let run = payload["run"].as_str().unwrap_or_default().to_owned();
            asked.lock().unwrap_or_else(PoisonError::into_inner).insert(run);
            Invoked::Answered(json!({"status": "succeeded"}))
        });

        let ledger = DynamoLedger::new(self.clients.clone(), &table);
        let at = now();
        ledger.apply(&setup.policy, "", at, "the tests").await.map_err(|error| to_failure(&error))?;
        ledger.put_release(&release).await.map_err(|error| to_failure(&error))?;
        let push = Command::push(target.clone(), &release, names.repository(), at);
        ledger.put_command(&push).await.map_err(|error| to_failure(&error))?;

        let queue = Arc::new(Queue::new(QueueSettings { visibility: limits.visibility, max_receives: MAX_RECEIVES }));
        let fault_injector = Arc::new(FaultInjector::new(Arc::clone(&queue), names.clone(), scenario, fault_point));
        front.set_interceptor(Arc::clone(&fault_injector) as Arc<dyn tests::front::CallInterceptor>);
        let mut function = Function {
            lab: self,
            front: &front,
            table: &table,
            run: number,
            started: 0,
            warm: None,
            fault_injector,
            limits,
        };
        function.send_wake(&queue, &target);
        function
            .run_until_over(&queue, &target, Instant::now() + RUN_TIMEOUT)
            .await
            .map_err(|failure| to_failure(&failure))?;
        let rows = function.fault_injector.rows();
        let recovered_after = function.fault_injector.recovered_after();
        function.fault_injector.close();
        function.drain_wakes(&queue).await.map_err(|failure| to_failure(&failure))?;
        let hooks = hooked.lock().unwrap_or_else(PoisonError::into_inner).len();
        let final_state = FinalState::of(&front, &names, &ledger, &target, &queue, hooks)
            .await
            .map_err(|failure| to_failure(&failure))?;
        // An error: the emulator keeps one table more.
        let _ = self.clients.dynamodb().await.delete_table().table_name(&table).send().await;
        Ok(Report {
            rows,
            final_state,
            triggered: recovered_after.is_some(),
            recovered_after: recovered_after.flatten(),
        })
    }
}

/// The driver as Lambda runs it: one process that stays warm, and another one when that has died.
#[derive(Debug)]
struct Function<'a> {
    lab: &'a Lab,
    front: &'a Front,
    table: &'a str,
    run: u64,
    started: u64,
    warm: Option<Arc<Sandbox>>,
    fault_injector: Arc<FaultInjector>,
    limits: Limits,
}

impl Function<'_> {
    /// A wake without any delay, as `image-pushed` and `signal-received` send it.
    fn send_wake(&self, queue: &Queue, target: &TargetId) {
        let wake = serde_json::to_string(&Wake::of(target.clone())).unwrap_or_default();
        queue.send(&wake, Duration::ZERO);
    }

    /// Delivers wakes until the deployment is over. Events of the world wake the driver while nothing is wrong; from the
    /// fault until the deployment goes on, every event is lost.
    async fn run_until_over(
        &mut self,
        queue: &Queue,
        target: &TargetId,
        deadline: Instant,
    ) -> Result<(), HarnessError> {
        let mut events = self.front.events();
        let mut happened: Option<Instant> = None;
        while !self.fault_injector.is_over() {
            if Instant::now() > deadline {
                let stage = self.fault_injector.stage();
                return Err(HarnessError(format!("after {} s it is still in `{stage}`", RUN_TIMEOUT.as_secs())));
            }
            while events.try_next().is_some_and(|event| event.eventbridge().is_some() || happened.is_some()) {
                happened = Some(Instant::now());
            }
            if self.fault_injector.alarm_is_due() {
                let mut world = self.front.world();
                world
                    .as_third_party(|world| world.set_alarm_state(MANUAL_ALARM, AlarmState::Alarm, "the till is empty"))
                    .map_err(|error| HarnessError(error.to_string()))?;
            }
            if happened.is_some_and(|at| at.elapsed() > EVENT_DELAY) {
                happened = None;
                if !self.fault_injector.is_recovering() {
                    self.send_wake(queue, target);
                }
            }
            if !self.deliver(queue).await? {
                tokio::time::sleep(TICK).await;
            }
        }
        Ok(())
    }

    /// Delivers what is left, takeover wakes of old passes for the most part, without waiting for its time; then the world comes
    /// to rest.
    async fn drain_wakes(&mut self, queue: &Queue) -> Result<(), HarnessError> {
        for _ in 0..40 {
            queue.make_all_visible();
            if !self.deliver(queue).await? {
                break;
            }
        }
        self.warm = None;
        Ok(())
    }

    /// Delivers one message, if one is visible.
    async fn deliver(&mut self, queue: &Queue) -> Result<bool, HarnessError> {
        let Some(received) = queue.receive() else { return Ok(false) };
        let sandbox = match self.warm.take().filter(|sandbox| sandbox.is_alive()) {
            Some(sandbox) => sandbox,
            None => self.start().await?,
        };
        match sandbox.invoke(&received.event(), self.limits.time_out).await {
            InvocationOutcome::Answered(answer) if received.is_done(&answer) => queue.delete(&received),
            InvocationOutcome::Answered(_) | InvocationOutcome::Failed(_) => {}
            // Its message comes again, to another one.
            InvocationOutcome::Died => return Ok(true),
        }
        self.warm = Some(sandbox);
        Ok(true)
    }

    async fn start(&mut self) -> Result<Arc<Sandbox>, HarnessError> {
        self.started += 1;
        let access_key = format!("RUN{}SANDBOX{}", self.run, self.started);
        let settings = [
            ("AWS_ACCESS_KEY_ID", access_key.as_str()),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_ENDPOINT_URL", &self.front.endpoint()),
            ("AWS_LAMBDA_LOG_LEVEL", "WARN"),
            ("SWITCHBACK_TABLE", self.table),
            ("SWITCHBACK_WAKES_URL", "http://127.0.0.1/000000000000/wakes"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let sandbox = Arc::new(Sandbox::start(&self.lab.driver, &settings, &self.lab.log).await?);
        self.fault_injector.set_sandbox(&access_key, &sandbox);
        Ok(sandbox)
    }
}
