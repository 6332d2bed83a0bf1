//! What comes in, on a ledger that is real: DynamoDB as ministack speaks it, a table of its own for every test.

mod tags;

use aws::Clients;
use aws::ledger::DynamoLedger;
use aws_credential_types::Credentials;
use engine::intake::{
    Ignored, ImagePushed, Intake, IntakeError, NotDeployedReason, PushOutcome, Sweep, SweepReport, image_pushed,
    signal, sweep,
};
use engine::{Clock, LeaseId, Ledger as _, PushedImage, Registry, Wake, WakeQueue, WatchedResource};
use rollout::policy::RegistryPolicy;
use rollout::{Command, ImageDigest, Name, Release, ReleaseId, Seconds, TargetId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::task::Poll;
use tests::harness::aws::Aws;
use tests::harness::child::Server;
use tests::harness::{REGION, ministack};

/// `api` is deployed by pushes to two environments and by hand to a third; `web` by nobody's push, `worker` is paused.
/// `@name` stands for a pair of that name, all of them with one alarm.
const POLICY: &str = r#"
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

/// The policy with its pairs written out.
fn written_out(text: &str) -> String {
    let line = |(number, line): (usize, &str)| {
        let Some((before, name)) = line.split_once('@') else { return line.to_owned() };
        let elb = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";
        let side = |colour: &str, digit: char| {
            format!(
                "{{service: {name}-{colour}, target_group: \"{elb}:targetgroup/{name}-{colour}/{number:015}{digit}\"}}"
            )
        };
        format!(
            "{before}{{cluster: main, container: app, blue: {}, green: {}, alarms: [fleet-5xx], \
             rules: [\"{elb}:listener/app/main/0123456789abcdef/{number:016}\"]}}",
            side("blue", 'b'),
            side("green", 'a'),
        )
    };
    text.lines().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// When the policy was applied; time in these tests is counted from here.
const APPLIED_AT_S: i64 = 1_790_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(APPLIED_AT_S + second).expect("a time")
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn target(text: &str) -> TargetId {
    TargetId::parse(text).expect("a target")
}

fn digest(digit: char) -> ImageDigest {
    ImageDigest::new(format!("sha256:{}", digit.to_string().repeat(64))).expect("a digest")
}

/// The control plane's own registry.
fn own_registry() -> rollout::Registry {
    rollout::Registry { account: "111122223333".to_owned(), region: "eu-central-1".to_owned() }
}

fn pushed(repository: &str, digit: char, tag: &str, second: i64) -> ImagePushed {
    ImagePushed {
        registry: own_registry(),
        repository: repository.to_owned(),
        digest: digest(digit),
        tag: tag.to_owned(),
        pushed_at: at(second),
    }
}

struct IntakeFixture {
    ledger: DynamoLedger,
    wakes: WakeLog,
    fake_registry: FakeRegistry,
}

/// A ledger of its own with the policy in force.
async fn fixture() -> IntakeFixture {
    let fixture = IntakeFixture {
        ledger: empty_ledger().await,
        wakes: WakeLog::default(),
        fake_registry: FakeRegistry::default(),
    };
    apply(&fixture.ledger, POLICY, 0).await;
    fixture
}

async fn apply(ledger: &DynamoLedger, text: &str, second: i64) {
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
    let text = |name: &str| serde_json::json!({"AttributeName": name, "AttributeType": "S"});
    let keys = |hash: &str, range: &str| {
        serde_json::json!([
            {"AttributeName": hash, "KeyType": "HASH"}, {"AttributeName": range, "KeyType": "RANGE"}
        ])
    };
    let parameters = serde_json::json!({
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [text("pk"), text("sk"), text("due_pk"), text("due_sk")],
        "KeySchema": keys("pk", "sk"),
        "GlobalSecondaryIndexes": [
            {"IndexName": "due", "KeySchema": keys("due_pk", "due_sk"), "Projection": {"ProjectionType": "KEYS_ONLY"}}
        ],
    });
    Aws::at(server.address())
        .json("dynamodb", "DynamoDB_20120810.CreateTable", &parameters)
        .expect("the table is made");
    let config = aws::config::loader()
        .endpoint_url(server.endpoint())
        .region(aws_config::Region::new(REGION))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .load()
        .await;
    DynamoLedger::new(Clients::of(config), table)
}

/// A wake queue that notes who was woken; whom it is told to be deaf for cannot be.
#[derive(Default)]
struct WakeLog {
    woken: Mutex<Vec<String>>,
    failing: Mutex<BTreeSet<String>>,
}

impl WakeLog {
    fn fail_for(&self, target: &str) {
        self.failing.lock().expect("not poisoned").insert(target.to_owned());
    }

    /// Who was woken since the last time that this was asked, in order of their names.
    fn woken(&self) -> Vec<String> {
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

/// A registry with these images; a repository that is none of its own is refused. One that is another account's has its
/// account before its name.
#[derive(Default)]
struct FakeRegistry(BTreeMap<String, Vec<PushedImage>>);

impl FakeRegistry {
    fn repository(&mut self, repository: &str) -> &mut Vec<PushedImage> {
        self.0.entry(repository.to_owned()).or_default()
    }

    fn put(&mut self, repository: &str, digit: char, tags: &[&str], second: i64) -> &mut PushedImage {
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

impl Registry for FakeRegistry {
    async fn images(&self, registry: &RegistryPolicy, repository: &str) -> Result<Vec<PushedImage>, String> {
        let account = registry.account.iter().map(|account| format!("{account}/")).collect::<String>();
        let named = self.0.get(&format!("{account}{repository}"));
        named.cloned().ok_or_else(|| format!("there is no repository {account}{repository}"))
    }
}

struct FixedClock(Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
    fn lease_id(&self) -> LeaseId {
        unreachable!("what comes in holds no target")
    }
}

impl IntakeFixture {
    async fn push(&self, pushed: &ImagePushed) -> Result<Intake, IntakeError> {
        image_pushed(&self.ledger, &self.wakes, pushed, &own_registry(), at(100_000)).await
    }

    /// What became of a push that one service is concerned with.
    async fn take(&self, pushed: &ImagePushed) -> PushOutcome {
        let mut intake = self.push(pushed).await.expect("it is taken in");
        assert_eq!(intake.services.len(), 1, "{intake:?}");
        intake.services.remove(0).outcome
    }

    async fn sweep_at(&self, second: i64) -> SweepReport {
        let turn = Sweep { minute: 0, every: 1, until: Timestamp::MAX };
        sweep(&self.ledger, &self.wakes, &self.fake_registry, &FixedClock(at(second)), &turn).await
    }

    async fn commands(&self, to: &str) -> Vec<Command> {
        self.ledger.commands(&target(to)).await.expect("the inbox is read")
    }

    /// The tags that the target is asked to deploy, oldest first.
    async fn requested(&self, to: &str) -> Vec<String> {
        let tag = |command: Command| match command.instruction {
            rollout::Instruction::Deploy { tag, .. } => Some(tag),
            rollout::Instruction::NameRelease { .. } => None,
            other => panic!("a push asks for deployments and names only: {other:?}"),
        };
        self.commands(to).await.into_iter().filter_map(tag).collect()
    }

    /// The tags of a service's releases, newest first.
    async fn releases(&self, service: &str) -> Vec<String> {
        let releases = self.ledger.releases(&name("shop"), &name(service), 100).await.expect("releases are read");
        releases.into_iter().map(|release| release.tag).collect()
    }
}

/// What became of missed images: service, first digit of the digest, outcome.
fn missed(report: &SweepReport) -> Vec<(String, String)> {
    let describe = |(_, service, digest, outcome): &(Name, Name, ImageDigest, PushOutcome)| {
        (format!("{service} {}", &digest.short()[..1]), outcome.to_string())
    };
    report.missed.iter().map(describe).collect()
}

#[tokio::test]
async fn a_push_is_requested_in_every_push_triggered_environment() {
    let fixture = fixture().await;
    let outcome = fixture.take(&pushed("shop/api", 'a', "v1", 10)).await;
    let targets = vec![target("shop/api/dev"), target("shop/api/live")];
    assert_eq!(outcome, PushOutcome::Requested { targets, not_woken: 0 });
    assert_eq!(fixture.wakes.woken(), ["shop/api/dev", "shop/api/live"]);

    let id = ReleaseId { application: name("shop"), service: name("api"), digest: digest('a') };
    let release: Release = fixture.ledger.release_by_id(&id).await.expect("it is read").expect("it is there");
    assert_eq!(release.image, format!("111122223333.dkr.ecr.eu-central-1.amazonaws.com/shop/api@{}", digest('a')));
    assert_eq!((release.tag.as_str(), release.pushed_at), ("v1", at(10)));
    for to in ["shop/api/dev", "shop/api/live"] {
        assert_eq!(fixture.commands(to).await, [Command::push(target(to), &release, "shop/api", at(10))]);
    }
    assert!(fixture.commands("shop/api/late").await.is_empty(), "nobody asked by hand");
}

#[tokio::test]
async fn the_same_push_twice_is_one_release_and_one_command() {
    let fixture = fixture().await;
    let push = pushed("shop/api", 'a', "v1", 10);
    assert!(matches!(fixture.take(&push).await, PushOutcome::Requested { .. }));
    assert_eq!(fixture.take(&push).await, PushOutcome::Known);
    assert_eq!(fixture.requested("shop/api/live").await, ["v1"]);
    assert_eq!(fixture.releases("api").await, ["v1"]);
    assert_eq!(fixture.wakes.woken(), ["shop/api/dev", "shop/api/live"], "nobody is woken for nothing");
}

#[tokio::test]
async fn a_retry_completes_a_partially_recorded_push() {
    let fixture = fixture().await;
    let push = pushed("shop/api", 'a', "v1", 10);
    // As far as a function came that was killed after its first write: one command of two, and no release.
    let id = ReleaseId { application: name("shop"), service: name("api"), digest: digest('a') };
    let image = format!("111122223333.dkr.ecr.eu-central-1.amazonaws.com/shop/api@{}", digest('a'));
    let release = Release::new(id, image, "v1", at(10));
    let command = Command::push(target("shop/api/dev"), &release, "shop/api", at(10));
    assert!(fixture.ledger.put_command(&command).await.expect("it is written"));

    assert!(matches!(fixture.take(&push).await, PushOutcome::Requested { not_woken: 0, .. }));
    assert_eq!(fixture.requested("shop/api/dev").await, ["v1"]);
    assert_eq!(fixture.requested("shop/api/live").await, ["v1"]);
    assert_eq!(fixture.releases("api").await, ["v1"]);
}

/// Polls at most `polls` times more after the first, and then drops it: a function that is killed, perhaps with a call
/// on its way.
async fn killed_after<F: Future>(polls: u32, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    let mut left = polls;
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn a_retry_after_any_crash_requests_once() {
    let fixture = fixture().await;
    let mut tags = vec![];
    let mut completed = false;
    for polls in 0..200_u32 {
        let push = ImagePushed {
            digest: ImageDigest::new(format!("sha256:{polls:064x}")).expect("a digest"),
            ..pushed("shop/api", 'a', &format!("v{polls}"), i64::from(polls))
        };
        completed = killed_after(polls, fixture.push(&push)).await.is_some();
        let outcome = fixture.take(&push).await;
        assert!(
            matches!(outcome, PushOutcome::Requested { .. } | PushOutcome::Known),
            "killed after {polls} polls: {outcome:?}"
        );
        tags.push(push.tag);
        if completed {
            break;
        }
    }
    assert!(completed, "a push takes more than 200 polls");
    // An inbox is read 50 commands at a time.
    let oldest = &tags[..tags.len().min(50)];
    for to in ["shop/api/dev", "shop/api/live"] {
        assert_eq!(fixture.requested(to).await, oldest, "{to}");
    }
    tags.reverse();
    let releases = fixture.ledger.releases(&name("shop"), &name("api"), 200).await.expect("releases are read");
    assert_eq!(releases.into_iter().map(|release| release.tag).collect::<Vec<_>>(), tags);
}

#[tokio::test]
async fn a_late_older_push_is_recorded_but_not_deployed() {
    let fixture = fixture().await;
    assert!(matches!(fixture.take(&pushed("shop/api", 'b', "v2", 20)).await, PushOutcome::Requested { .. }));
    let late = fixture.take(&pushed("shop/api", 'a', "v1", 10)).await;
    assert_eq!(
        late,
        PushOutcome::RecordedOnly(NotDeployedReason::Superseded { by: "v2".to_owned(), pushed_at: at(20) })
    );
    assert_eq!(fixture.requested("shop/api/live").await, ["v2"]);
    assert_eq!(fixture.releases("api").await, ["v2", "v1"]);
}

#[tokio::test]
async fn two_pushes_are_queued_in_push_order() {
    let fixture = fixture().await;
    for (digit, tag, second) in [('a', "v1", 10), ('b', "v2", 20)] {
        assert!(matches!(fixture.take(&pushed("shop/api", digit, tag, second)).await, PushOutcome::Requested { .. }));
    }
    assert_eq!(fixture.requested("shop/api/live").await, ["v1", "v2"]);
}

#[tokio::test]
async fn a_push_with_a_future_timestamp_does_not_block_later_ones() {
    let fixture = fixture().await;
    assert!(matches!(fixture.take(&pushed("shop/api", 'a', "v1", 900_000)).await, PushOutcome::Requested { .. }));
    let next = image_pushed(
        &fixture.ledger,
        &fixture.wakes,
        &pushed("shop/api", 'b', "v2", 100_060),
        &own_registry(),
        at(100_060),
    )
    .await;
    let outcome = next.expect("it is taken in").services.remove(0).outcome;
    assert!(matches!(outcome, PushOutcome::Requested { .. }), "{outcome:?}");
}

#[tokio::test]
async fn an_undeployed_push_is_reported_with_its_reason() {
    let fixture = fixture().await;
    assert_eq!(
        fixture.take(&pushed("shop/worker", 'a', "v1", 10)).await,
        PushOutcome::RecordedOnly(NotDeployedReason::Paused)
    );
    assert_eq!(
        fixture.take(&pushed("shop/web", 'a', "v1", 10)).await,
        PushOutcome::RecordedOnly(NotDeployedReason::NoTrigger)
    );
    let branch = fixture.take(&pushed("shop/api", 'a', "main-7", 10)).await;
    assert_eq!(branch, PushOutcome::Ignored(Ignored::Tag { tag: "main-7".to_owned() }));
    let unknown = fixture.push(&pushed("elsewhere/api", 'a', "v1", 10)).await.expect("it is no error");
    assert_eq!(unknown, Intake { services: vec![] });

    assert_eq!(
        (fixture.releases("worker").await, fixture.releases("web").await),
        (vec!["v1".into()], vec!["v1".into()])
    );
    assert!(fixture.releases("api").await.is_empty());
    assert!(fixture.commands("shop/worker/dev").await.is_empty());
    assert!(fixture.wakes.woken().is_empty());
}

#[tokio::test]
async fn a_push_while_paused_is_not_deployed_after_the_pause() {
    let mut fixture = fixture().await;
    let push = pushed("shop/worker", 'a', "v1", 10);
    assert_eq!(fixture.take(&push).await, PushOutcome::RecordedOnly(NotDeployedReason::Paused));
    apply(&fixture.ledger, &POLICY.replace(", paused: true", ""), 50).await;
    assert_eq!(fixture.take(&push).await, PushOutcome::Known);
    for repository in ["shop/api", "shop/web"] {
        fixture.fake_registry.repository(repository);
    }
    fixture.fake_registry.put("shop/worker", 'a', &["v1"], 10);
    assert_eq!(missed(&fixture.sweep_at(60).await), []);
    assert!(fixture.commands("shop/worker/dev").await.is_empty());
}

#[tokio::test]
async fn a_failed_wake_is_repaired_by_the_sweep() {
    let fixture = fixture().await;
    fixture.wakes.fail_for("shop/api/live");
    let outcome = fixture.take(&pushed("shop/api", 'a', "v1", 10)).await;
    assert!(matches!(outcome, PushOutcome::Requested { not_woken: 1, .. }), "{outcome:?}");
    assert_eq!(fixture.wakes.woken(), ["shop/api/dev"]);

    fixture.wakes.failing.lock().expect("not poisoned").clear();
    let report = fixture.sweep_at(70).await;
    assert_eq!(fixture.wakes.woken(), ["shop/api/dev", "shop/api/live"], "both commands are due, nobody consumed them");
    assert!(!report.truncated && !report.ledger_unavailable);
}

#[tokio::test]
async fn a_signal_wakes_only_the_watching_targets() {
    let fixture = fixture().await;
    let woken = |watch: WatchedResource| {
        let fixture = &fixture;
        async move {
            signal(&fixture.ledger, &fixture.wakes, &watch).await.expect("they are woken");
            fixture.wakes.woken()
        }
    };
    let all = ["shop/api/dev", "shop/api/late", "shop/api/live", "shop/web/late", "shop/worker/dev"];
    assert_eq!(woken(WatchedResource::Alarm("fleet-5xx".to_owned())).await, all);
    let service = |cluster: &str| WatchedResource::EcsService(cluster.to_owned(), "api-live-green".to_owned());
    assert_eq!(woken(service("main")).await, ["shop/api/live"]);
    assert_eq!(woken(WatchedResource::Alarm("somebody-elses".to_owned())).await, [""; 0]);
    assert_eq!(woken(service("other")).await, [""; 0]);
}

#[tokio::test]
async fn a_partially_delivered_signal_is_an_error() {
    let fixture = fixture().await;
    fixture.wakes.fail_for("shop/api/dev");
    let failed = signal(&fixture.ledger, &fixture.wakes, &WatchedResource::Alarm("fleet-5xx".to_owned())).await;
    let error = failed.expect_err("one was not woken");
    assert_eq!(error.to_string(), "1 of 5 targets could not be woken: the queue does not exist");
    assert_eq!(fixture.wakes.woken(), ["shop/api/late", "shop/api/live", "shop/web/late", "shop/worker/dev"]);
}

#[tokio::test]
async fn the_sweep_deploys_only_the_newest_missed_push() {
    let mut fixture = fixture().await;
    for repository in ["shop/web", "shop/worker"] {
        fixture.fake_registry.repository(repository);
    }
    fixture.fake_registry.put("shop/api", 'a', &["main-7", "v1"], 10);
    fixture.fake_registry.put("shop/api", 'c', &["v3"], 30);
    fixture.fake_registry.put("shop/api", 'b', &["v2"], 30);
    fixture.fake_registry.put("shop/api", 'd', &["main-8"], 40);
    fixture.fake_registry.put("shop/api", 'e', &["v9"], 50).artifact_media_type =
        Some("application/vnd.cncf.helm.config.v1+json".to_owned());

    let report = fixture.sweep_at(100).await;
    let superseded = format!("a new release; deployed nowhere: v3, pushed later ({}), is known already", at(30));
    assert_eq!(
        missed(&report),
        [
            ("api c".to_owned(), "a new release; asked for its deployment to shop/api/dev, shop/api/live".to_owned()),
            ("api b".to_owned(), superseded.clone()),
            ("api a".to_owned(), superseded),
        ]
    );
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(fixture.requested("shop/api/live").await, ["v3"]);
    assert_eq!(fixture.releases("api").await.len(), 3);

    // The event was only late.
    assert_eq!(fixture.take(&pushed("shop/api", 'c', "v3", 31)).await, PushOutcome::Known);
    assert_eq!(missed(&fixture.sweep_at(160).await), [], "what is known is not missed");
}

#[tokio::test]
async fn a_missed_push_never_replaces_a_newer_release() {
    let mut fixture = fixture().await;
    assert!(matches!(fixture.take(&pushed("shop/api", 'b', "v2", 20)).await, PushOutcome::Requested { .. }));
    for repository in ["shop/web", "shop/worker"] {
        fixture.fake_registry.repository(repository);
    }
    fixture.fake_registry.put("shop/api", 'a', &["v1"], 10);
    fixture.fake_registry.put("shop/api", 'b', &["v2"], 19);
    let report = fixture.sweep_at(100).await;
    let why = PushOutcome::RecordedOnly(NotDeployedReason::Superseded { by: "v2".to_owned(), pushed_at: at(20) });
    assert_eq!(missed(&report), [("api a".to_owned(), why.to_string())]);
    assert_eq!(fixture.requested("shop/api/live").await, ["v2"]);
}

#[tokio::test]
async fn images_older_than_the_policy_are_not_deployed() {
    let mut fixture = fixture().await;
    for repository in ["shop/web", "shop/worker"] {
        fixture.fake_registry.repository(repository);
    }
    fixture.fake_registry.put("shop/api", 'a', &["v1"], -3 * 24 * 3600);
    fixture.fake_registry.put("shop/api", 'b', &["v2"], -10);
    let report = fixture.sweep_at(100).await;
    let why = format!("a new release; deployed nowhere: pushed before the policy was applied ({})", at(0));
    assert_eq!(missed(&report), [("api b".to_owned(), why)]);
    assert!(fixture.commands("shop/api/live").await.is_empty());
    assert_eq!(fixture.releases("api").await, ["v2"]);
}

#[tokio::test]
async fn one_unreadable_repository_does_not_affect_others() {
    let mut fixture = fixture().await;
    // shop/api and shop/web cannot be listed.
    fixture.fake_registry.put("shop/worker", 'a', &["v1"], 10);
    let report = fixture.sweep_at(100).await;
    assert_eq!(
        report.problems,
        [
            "repository shop/api of shop could not be listed: there is no repository shop/api",
            "repository shop/web of shop could not be listed: there is no repository shop/web",
        ]
    );
    assert_eq!(missed(&report).len(), 1, "{report:?}");
    assert!(!report.ledger_unavailable);
}

#[tokio::test]
async fn every_application_is_swept_once_per_round() {
    for application in ["shop", "a", "billing-and-more"] {
        let turn = |minute| Sweep { minute, every: 5, until: Timestamp::MAX }.is_turn_of(&name(application));
        assert_eq!((100..105).filter(|&minute| turn(minute)).count(), 1, "{application}");
    }
    let mut fixture = fixture().await;
    fixture.fake_registry.put("shop/api", 'a', &["v1"], 10);
    let mut found = 0;
    for minute in 0..5 {
        let turn = Sweep { minute, every: 5, until: Timestamp::MAX };
        found += sweep(&fixture.ledger, &fixture.wakes, &fixture.fake_registry, &FixedClock(at(100)), &turn)
            .await
            .missed
            .len();
    }
    assert_eq!(found, 1);
}

#[tokio::test]
async fn a_sweep_out_of_time_reports_what_is_left() {
    let mut fixture = fixture().await;
    fixture.fake_registry.put("shop/api", 'a', &["v1"], 10);
    let turn = Sweep { minute: 0, every: 1, until: at(99) };
    let report = sweep(&fixture.ledger, &fixture.wakes, &fixture.fake_registry, &FixedClock(at(100)), &turn).await;
    assert_eq!((report.left, report.missed.len()), (vec![name("shop")], 0));
}
