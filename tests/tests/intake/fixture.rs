//! A ledger with a policy in force, a wake queue that can fail, and a registry.

use aws::Clients;
use aws::ledger::DynamoLedger;
use aws_credential_types::Credentials;
use engine::intake::{ImagePushed, Intake, IntakeError, PushOutcome, Sweep, SweepReport, image_pushed, sweep};
use engine::{
    Administration as _, Clock, Commands as _, ImageRegistry, LeaseId, PushedImage, Releases as _, Wake, WakeQueue,
};
use rollout::policy::RegistryPolicy;
use rollout::{Command, ImageDigest, Name, Seconds, TargetId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use tests::harness::aws::Aws;
use tests::harness::child::Server;
use tests::harness::{REGION, ministack};

/// `api` is deployed by pushes to two environments and by hand to a third; `web` by nobody's push, `worker` is paused.
/// `@name` stands for a pair of that name, all of them with one alarm.
pub(crate) const POLICY: &str = r#"
application: shop
services:
  api: {repository: shop/api, tags: {glob: "v*"}}
  web: {repository: shop/web, tags: {glob: "v*"}}
  worker: {repository: shop/worker, tags: {glob: "v*"}, paused: true}
environments:
  dev:
    trigger: push
    targets:
      api: @api-dev
      worker: @worker-dev
  live:
    trigger: push
    targets:
      api: @api-live
  late:
    trigger: manual
    targets:
      api: @api-late
      web: @web-late
"#;

/// The policy with each `@name` replaced by its pair.
fn written_out(text: &str) -> String {
    let line = |(number, line): (usize, &str)| {
        let Some((before, name)) = line.split_once('@') else { return line.to_owned() };
        let elb = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";
        let group =
            |colour: &str, digit: char| format!("{colour}: \"{elb}:targetgroup/{name}-{colour}/{number:015}{digit}\"");
        format!(
            "{before}{{ecs: {{cluster: main, container: app, blue: {name}-blue, green: {name}-green}}, \
             traffic: [{{{}, {}, rules: [\"{elb}:listener/app/main/0123456789abcdef/{number:016}\"]}}], \
             alarms: [fleet-5xx]}}",
            group("blue", 'b'),
            group("green", 'a'),
        )
    };
    text.lines().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// When the policy was applied; time in these tests is counted from here.
const APPLIED_AT_S: i64 = 1_790_000_000;

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(APPLIED_AT_S + second).expect("a time")
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

pub(crate) fn target(text: &str) -> TargetId {
    TargetId::parse(text).expect("a target")
}

pub(crate) fn digest(digit: char) -> ImageDigest {
    ImageDigest::new(format!("sha256:{}", digit.to_string().repeat(64))).expect("a digest")
}

/// The control plane's own registry.
pub(crate) fn own_registry() -> rollout::Registry {
    rollout::Registry { account: "111122223333".to_owned(), region: "eu-central-1".to_owned() }
}

pub(crate) fn pushed(repository: &str, digit: char, tag: &str, second: i64) -> ImagePushed {
    ImagePushed {
        registry: own_registry(),
        repository: repository.to_owned(),
        digest: digest(digit),
        tag: tag.to_owned(),
        pushed_at: at(second),
    }
}

pub(crate) struct IntakeFixture {
    pub(crate) ledger: DynamoLedger,
    pub(crate) wakes: WakeLog,
    pub(crate) fake_registry: FakeRegistry,
}

/// A ledger of its own with the policy in force.
pub(crate) async fn fixture() -> IntakeFixture {
    let fixture = IntakeFixture {
        ledger: empty_ledger().await,
        wakes: WakeLog::default(),
        fake_registry: FakeRegistry::default(),
    };
    apply(&fixture.ledger, POLICY, 0).await;
    fixture
}

pub(crate) async fn apply(ledger: &DynamoLedger, text: &str, second: i64) {
    let text = written_out(text);
    let policy = policy::parse(&text).unwrap_or_else(|problems| panic!("{problems:?}"));
    ledger
        .apply(&policy, &text, at(second), "arn:aws:iam::111122223333:user/ada")
        .await
        .expect("the policy is applied");
}

async fn empty_ledger() -> DynamoLedger {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static TABLES: AtomicU32 = AtomicU32::new(0);
    let server = SERVER.get_or_init(|| ministack::start(&[]).expect("ministack starts"));
    let table = format!("ledger-{}", TABLES.fetch_add(1, Ordering::Relaxed));
    Aws::at(server.address()).create_ledger_table(&table).expect("the table is made");
    let config = aws::config::loader()
        .endpoint_url(server.endpoint())
        .region(aws_config::Region::new(REGION))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .load()
        .await;
    DynamoLedger::new(Clients::of(config), table)
}

/// A wake queue that records which targets were woken, and refuses wakes of some.
#[derive(Default)]
pub(crate) struct WakeLog {
    woken: Mutex<Vec<String>>,
    failing: Mutex<BTreeSet<String>>,
}

impl WakeLog {
    pub(crate) fn fail_for(&self, target: &str) {
        self.failing.lock().expect("not poisoned").insert(target.to_owned());
    }

    pub(crate) fn recover(&self) {
        self.failing.lock().expect("not poisoned").clear();
    }

    /// The targets that were woken since the last call, sorted by name.
    pub(crate) fn woken(&self) -> Vec<String> {
        let mut woken = std::mem::take(&mut *self.woken.lock().expect("not poisoned"));
        woken.sort();
        woken
    }
}

impl WakeQueue for WakeLog {
    async fn send(&self, wake: &Wake, delay: Seconds) -> Result<(), String> {
        assert_eq!((delay, &wake.steal), (Seconds(0), &None), "what comes in wakes at once and takes nobody's lease");
        let target = wake.target.to_string();
        if self.failing.lock().expect("not poisoned").contains(&target) {
            return Err("the queue does not exist".to_owned());
        }
        self.woken.lock().expect("not poisoned").push(target);
        Ok(())
    }
}

/// A registry with these images, by repository; `account/repository` where it is another account's. Others are refused.
#[derive(Default)]
pub(crate) struct FakeRegistry(BTreeMap<String, Vec<PushedImage>>);

impl FakeRegistry {
    pub(crate) fn repository(&mut self, repository: &str) -> &mut Vec<PushedImage> {
        self.0.entry(repository.to_owned()).or_default()
    }

    pub(crate) fn put(&mut self, repository: &str, digit: char, tags: &[&str], second: i64) -> &mut PushedImage {
        let image = PushedImage {
            repository_uri: format!("111122223333.dkr.ecr.eu-central-1.amazonaws.com/{repository}"),
            digest: digest(digit),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            pushed_at: at(second),
            artifact_media_type: None,
        };
        let images = self.repository(repository);
        images.push(image);
        images.last_mut().expect("just put")
    }
}

impl ImageRegistry for FakeRegistry {
    async fn images(&self, registry: &RegistryPolicy, repository: &str) -> Result<Vec<PushedImage>, String> {
        let account = registry.account.iter().map(|account| format!("{account}/")).collect::<String>();
        let named = self.0.get(&format!("{account}{repository}"));
        named.cloned().ok_or_else(|| format!("there is no repository {account}{repository}"))
    }
}

pub(crate) struct FixedClock(pub(crate) Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
    fn unique_id(&self) -> LeaseId {
        unreachable!("what comes in holds no target")
    }
}

impl IntakeFixture {
    pub(crate) async fn push(&self, pushed: &ImagePushed) -> Result<Intake, IntakeError> {
        image_pushed(&self.ledger, &self.wakes, pushed, &own_registry(), at(100_000)).await
    }

    /// What became of a push that one service is concerned with.
    pub(crate) async fn take(&self, pushed: &ImagePushed) -> PushOutcome {
        let mut intake = self.push(pushed).await.expect("it is taken in");
        assert_eq!(intake.services.len(), 1, "{intake:?}");
        intake.services.remove(0).outcome
    }

    pub(crate) async fn sweep_at(&self, second: i64) -> SweepReport {
        let turn = Sweep { minute: 0, every: 1, until: Timestamp::MAX };
        sweep(&self.ledger, &self.wakes, &self.fake_registry, &FixedClock(at(second)), &turn).await
    }

    pub(crate) async fn commands(&self, to: &str) -> Vec<Command> {
        self.ledger.commands(&target(to)).await.expect("the inbox is read")
    }

    /// The tags that the target is asked to deploy, oldest first.
    pub(crate) async fn requested(&self, to: &str) -> Vec<String> {
        let tag = |command: Command| match command.instruction {
            rollout::Instruction::Deploy { tag, .. } => Some(tag),
            rollout::Instruction::NameRelease { .. } => None,
            other => panic!("a push asks for deployments and names only: {other:?}"),
        };
        self.commands(to).await.into_iter().filter_map(tag).collect()
    }

    /// The tags of a service's releases, newest first.
    pub(crate) async fn releases(&self, service: &str) -> Vec<String> {
        let releases = self.ledger.releases(&name("shop"), &name(service), 100).await.expect("releases are read");
        releases.into_iter().map(|release| release.tag).collect()
    }
}

/// What became of missed images: service, first digit of the digest, outcome.
pub(crate) fn missed(report: &SweepReport) -> Vec<(String, String)> {
    let describe = |(_, service, digest, outcome): &(Name, Name, ImageDigest, PushOutcome)| {
        (format!("{service} {}", &digest.short()[..1]), outcome.to_string())
    };
    report.missed.iter().map(describe).collect()
}
