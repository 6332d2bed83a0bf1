//! What comes in, on a ledger that is real: DynamoDB as ministack speaks it, a table of its own for every test.

mod tags;

use aws::Clients;
use aws::ledger::DynamoLedger;
use aws_credential_types::Credentials;
use engine::intake::{
    Ignored, ImagePushed, Intake, IntakeError, Sweep, Swept, Taken, Unasked, image_pushed, signal, sweep,
};
use engine::{Clock, LeaseId, Ledger as _, PushedImage, Registry, Wake, WakeQueue, Watch};
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
fn own() -> rollout::Registry {
    rollout::Registry { account: "111122223333".to_owned(), region: "eu-central-1".to_owned() }
}

fn pushed(repository: &str, digit: char, tag: &str, second: i64) -> ImagePushed {
    ImagePushed {
        registry: own(),
        repository: repository.to_owned(),
        digest: digest(digit),
        tag: tag.to_owned(),
        pushed_at: at(second),
    }
}

struct Stage {
    ledger: DynamoLedger,
    wakes: WakeLog,
    shelf: Shelf,
}

/// A ledger of its own with the policy in force.
async fn stage() -> Stage {
    let stage = Stage { ledger: empty_ledger().await, wakes: WakeLog::default(), shelf: Shelf::default() };
    apply(&stage.ledger, POLICY, 0).await;
    stage
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
    deaf: Mutex<BTreeSet<String>>,
}

impl WakeLog {
    fn deaf_for(&self, target: &str) {
        self.deaf.lock().expect("not poisoned").insert(target.to_owned());
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
        if self.deaf.lock().expect("not poisoned").contains(&target) {
            return Err("the queue does not exist".to_owned());
        }
        self.woken.lock().expect("not poisoned").push(target);
        Ok(())
    }
}

/// A registry with these images; a repository that is none of its own is refused. One that is another account's has its
/// account before its name.
#[derive(Default)]
struct Shelf(BTreeMap<String, Vec<PushedImage>>);

impl Shelf {
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

impl Registry for Shelf {
    async fn images(&self, registry: &RegistryPolicy, repository: &str) -> Result<Vec<PushedImage>, String> {
        let account = registry.account.iter().map(|account| format!("{account}/")).collect::<String>();
        let named = self.0.get(&format!("{account}{repository}"));
        named.cloned().ok_or_else(|| format!("there is no repository {account}{repository}"))
    }
}

struct At(Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
    fn lease_id(&self) -> LeaseId {
        unreachable!("what comes in holds no target")
    }
}

impl Stage {
    async fn push(&self, pushed: &ImagePushed) -> Result<Intake, IntakeError> {
        image_pushed(&self.ledger, &self.wakes, pushed, &own(), at(100_000)).await
    }

    /// What became of a push that one service is concerned with.
    async fn take(&self, pushed: &ImagePushed) -> Taken {
        let mut intake = self.push(pushed).await.expect("it is taken in");
        assert_eq!(intake.services.len(), 1, "{intake:?}");
        intake.services.remove(0).taken
    }

    async fn sweep_at(&self, second: i64) -> Swept {
        let turn = Sweep { minute: 0, every: 1, until: Timestamp::MAX };
        sweep(&self.ledger, &self.wakes, &self.shelf, &At(at(second)), &turn).await
    }

    async fn commands(&self, to: &str) -> Vec<Command> {
        self.ledger.commands(&target(to)).await.expect("the inbox is read")
    }

    /// The tags that the target is asked to deploy, oldest first.
    async fn asked(&self, to: &str) -> Vec<String> {
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
fn missed(swept: &Swept) -> Vec<(String, String)> {
    let told = |(_, service, digest, taken): &(Name, Name, ImageDigest, Taken)| {
        (format!("{service} {}", &digest.short()[..1]), taken.to_string())
    };
    swept.missed.iter().map(told).collect()
}

#[tokio::test]
async fn a_push_is_a_release_and_is_asked_of_every_environment_that_pushes_trigger() {
    let stage = stage().await;
    let taken = stage.take(&pushed("shop/api", 'a', "v1", 10)).await;
    let targets = vec![target("shop/api/dev"), target("shop/api/live")];
    assert_eq!(taken, Taken::Asked { targets, unrung: 0 });
    assert_eq!(stage.wakes.woken(), ["shop/api/dev", "shop/api/live"]);

    let id = ReleaseId { application: name("shop"), service: name("api"), digest: digest('a') };
    let release: Release = stage.ledger.release_by_id(&id).await.expect("it is read").expect("it is there");
    assert_eq!(release.image, format!("111122223333.dkr.ecr.eu-central-1.amazonaws.com/shop/api@{}", digest('a')));
    assert_eq!((release.tag.as_str(), release.pushed_at), ("v1", at(10)));
    for to in ["shop/api/dev", "shop/api/live"] {
        assert_eq!(stage.commands(to).await, [Command::push(target(to), &release, "shop/api", at(10))]);
    }
    assert!(stage.commands("shop/api/late").await.is_empty(), "nobody asked by hand");
}

#[tokio::test]
async fn the_same_push_twice_is_one_release_and_one_command() {
    let stage = stage().await;
    let push = pushed("shop/api", 'a', "v1", 10);
    assert!(matches!(stage.take(&push).await, Taken::Asked { .. }));
    assert_eq!(stage.take(&push).await, Taken::Known);
    assert_eq!(stage.asked("shop/api/live").await, ["v1"]);
    assert_eq!(stage.releases("api").await, ["v1"]);
    assert_eq!(stage.wakes.woken(), ["shop/api/dev", "shop/api/live"], "nobody is woken for nothing");
}

#[tokio::test]
async fn a_push_that_died_half_way_is_completed_by_its_repetition() {
    let stage = stage().await;
    let push = pushed("shop/api", 'a', "v1", 10);
    // As far as a function came that was killed after its first write: one command of two, and no release.
    let id = ReleaseId { application: name("shop"), service: name("api"), digest: digest('a') };
    let image = format!("111122223333.dkr.ecr.eu-central-1.amazonaws.com/shop/api@{}", digest('a'));
    let release = Release::new(id, image, "v1", at(10));
    let command = Command::push(target("shop/api/dev"), &release, "shop/api", at(10));
    assert!(stage.ledger.put_command(&command).await.expect("it is written"));

    assert!(matches!(stage.take(&push).await, Taken::Asked { unrung: 0, .. }));
    assert_eq!(stage.asked("shop/api/dev").await, ["v1"]);
    assert_eq!(stage.asked("shop/api/live").await, ["v1"]);
    assert_eq!(stage.releases("api").await, ["v1"]);
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
async fn wherever_a_push_is_killed_its_repetition_asks_once() {
    let stage = stage().await;
    let mut tags = vec![];
    let mut completed = false;
    for polls in 0..200_u32 {
        let push = ImagePushed {
            digest: ImageDigest::new(format!("sha256:{polls:064x}")).expect("a digest"),
            ..pushed("shop/api", 'a', &format!("v{polls}"), i64::from(polls))
        };
        completed = killed_after(polls, stage.push(&push)).await.is_some();
        let taken = stage.take(&push).await;
        assert!(matches!(taken, Taken::Asked { .. } | Taken::Known), "killed after {polls} polls: {taken:?}");
        tags.push(push.tag);
        if completed {
            break;
        }
    }
    assert!(completed, "a push takes more than 200 polls");
    // An inbox is read 50 commands at a time.
    let oldest = &tags[..tags.len().min(50)];
    for to in ["shop/api/dev", "shop/api/live"] {
        assert_eq!(stage.asked(to).await, oldest, "{to}");
    }
    tags.reverse();
    let releases = stage.ledger.releases(&name("shop"), &name("api"), 200).await.expect("releases are read");
    assert_eq!(releases.into_iter().map(|release| release.tag).collect::<Vec<_>>(), tags);
}

#[tokio::test]
async fn an_older_push_that_comes_late_is_recorded_and_deployed_nowhere() {
    let stage = stage().await;
    assert!(matches!(stage.take(&pushed("shop/api", 'b', "v2", 20)).await, Taken::Asked { .. }));
    let late = stage.take(&pushed("shop/api", 'a', "v1", 10)).await;
    assert_eq!(late, Taken::Recorded(Unasked::Superseded { by: "v2".to_owned(), pushed_at: at(20) }));
    assert_eq!(stage.asked("shop/api/live").await, ["v2"]);
    assert_eq!(stage.releases("api").await, ["v2", "v1"]);
}

#[tokio::test]
async fn two_pushes_wait_in_the_order_of_their_times() {
    let stage = stage().await;
    for (digit, tag, second) in [('a', "v1", 10), ('b', "v2", 20)] {
        assert!(matches!(stage.take(&pushed("shop/api", digit, tag, second)).await, Taken::Asked { .. }));
    }
    assert_eq!(stage.asked("shop/api/live").await, ["v1", "v2"]);
}

#[tokio::test]
async fn a_push_from_the_future_does_not_hide_the_ones_to_come() {
    let stage = stage().await;
    assert!(matches!(stage.take(&pushed("shop/api", 'a', "v1", 900_000)).await, Taken::Asked { .. }));
    let next =
        image_pushed(&stage.ledger, &stage.wakes, &pushed("shop/api", 'b', "v2", 100_060), &own(), at(100_060)).await;
    let taken = next.expect("it is taken in").services.remove(0).taken;
    assert!(matches!(taken, Taken::Asked { .. }), "{taken:?}");
}

#[tokio::test]
async fn what_is_not_to_be_deployed_is_said_with_its_reason() {
    let stage = stage().await;
    assert_eq!(stage.take(&pushed("shop/worker", 'a', "v1", 10)).await, Taken::Recorded(Unasked::Paused));
    assert_eq!(stage.take(&pushed("shop/web", 'a', "v1", 10)).await, Taken::Recorded(Unasked::NoTrigger));
    let branch = stage.take(&pushed("shop/api", 'a', "main-7", 10)).await;
    assert_eq!(branch, Taken::Ignored(Ignored::Tag { tag: "main-7".to_owned() }));
    let unknown = stage.push(&pushed("elsewhere/api", 'a', "v1", 10)).await.expect("it is no error");
    assert_eq!(unknown, Intake { services: vec![] });

    assert_eq!((stage.releases("worker").await, stage.releases("web").await), (vec!["v1".into()], vec!["v1".into()]));
    assert!(stage.releases("api").await.is_empty());
    assert!(stage.commands("shop/worker/dev").await.is_empty());
    assert!(stage.wakes.woken().is_empty());
}

#[tokio::test]
async fn what_was_pushed_while_paused_does_not_start_when_the_pause_ends() {
    let mut stage = stage().await;
    let push = pushed("shop/worker", 'a', "v1", 10);
    assert_eq!(stage.take(&push).await, Taken::Recorded(Unasked::Paused));
    apply(&stage.ledger, &POLICY.replace(", paused: true", ""), 50).await;
    assert_eq!(stage.take(&push).await, Taken::Known);
    for repository in ["shop/api", "shop/web"] {
        stage.shelf.repository(repository);
    }
    stage.shelf.put("shop/worker", 'a', &["v1"], 10);
    assert_eq!(missed(&stage.sweep_at(60).await), []);
    assert!(stage.commands("shop/worker/dev").await.is_empty());
}

#[tokio::test]
async fn a_wake_queue_that_fails_costs_a_minute_and_no_deployment() {
    let stage = stage().await;
    stage.wakes.deaf_for("shop/api/live");
    let taken = stage.take(&pushed("shop/api", 'a', "v1", 10)).await;
    assert!(matches!(taken, Taken::Asked { unrung: 1, .. }), "{taken:?}");
    assert_eq!(stage.wakes.woken(), ["shop/api/dev"]);

    stage.wakes.deaf.lock().expect("not poisoned").clear();
    let swept = stage.sweep_at(70).await;
    assert_eq!(stage.wakes.woken(), ["shop/api/dev", "shop/api/live"], "both commands are due, nobody consumed them");
    assert!(!swept.cut && !swept.blind);
}

#[tokio::test]
async fn a_signal_wakes_whoever_watches_and_nobody_else() {
    let stage = stage().await;
    let woken = |watch: Watch| {
        let stage = &stage;
        async move {
            signal(&stage.ledger, &stage.wakes, &watch).await.expect("they are woken");
            stage.wakes.woken()
        }
    };
    let all = ["shop/api/dev", "shop/api/late", "shop/api/live", "shop/web/late", "shop/worker/dev"];
    assert_eq!(woken(Watch::Alarm("fleet-5xx".to_owned())).await, all);
    let service = |cluster: &str| Watch::EcsService(cluster.to_owned(), "api-live-green".to_owned());
    assert_eq!(woken(service("main")).await, ["shop/api/live"]);
    assert_eq!(woken(Watch::Alarm("somebody-elses".to_owned())).await, [""; 0]);
    assert_eq!(woken(service("other")).await, [""; 0]);
}

#[tokio::test]
async fn a_signal_that_does_not_reach_everybody_must_come_again() {
    let stage = stage().await;
    stage.wakes.deaf_for("shop/api/dev");
    let failed = signal(&stage.ledger, &stage.wakes, &Watch::Alarm("fleet-5xx".to_owned())).await;
    let error = failed.expect_err("one was not woken");
    assert_eq!(error.to_string(), "1 of 5 targets could not be woken: the queue does not exist");
    assert_eq!(stage.wakes.woken(), ["shop/api/late", "shop/api/live", "shop/web/late", "shop/worker/dev"]);
}

#[tokio::test]
async fn a_push_whose_event_was_lost_is_found_and_only_the_newest_is_deployed() {
    let mut stage = stage().await;
    for repository in ["shop/web", "shop/worker"] {
        stage.shelf.repository(repository);
    }
    stage.shelf.put("shop/api", 'a', &["main-7", "v1"], 10);
    stage.shelf.put("shop/api", 'c', &["v3"], 30);
    stage.shelf.put("shop/api", 'b', &["v2"], 30);
    stage.shelf.put("shop/api", 'd', &["main-8"], 40);
    stage.shelf.put("shop/api", 'e', &["v9"], 50).artifact_media_type =
        Some("application/vnd.cncf.helm.config.v1+json".to_owned());

    let swept = stage.sweep_at(100).await;
    let superseded = format!("a new release; deployed nowhere: v3, pushed later ({}), is known already", at(30));
    assert_eq!(
        missed(&swept),
        [
            ("api c".to_owned(), "a new release; asked for its deployment to shop/api/dev, shop/api/live".to_owned()),
            ("api b".to_owned(), superseded.clone()),
            ("api a".to_owned(), superseded),
        ]
    );
    assert_eq!(swept.problems, [""; 0]);
    assert_eq!(stage.asked("shop/api/live").await, ["v3"]);
    assert_eq!(stage.releases("api").await.len(), 3);

    // The event was only late.
    assert_eq!(stage.take(&pushed("shop/api", 'c', "v3", 31)).await, Taken::Known);
    assert_eq!(missed(&stage.sweep_at(160).await), [], "what is known is not missed");
}

#[tokio::test]
async fn a_missed_push_never_goes_over_a_newer_release() {
    let mut stage = stage().await;
    assert!(matches!(stage.take(&pushed("shop/api", 'b', "v2", 20)).await, Taken::Asked { .. }));
    for repository in ["shop/web", "shop/worker"] {
        stage.shelf.repository(repository);
    }
    stage.shelf.put("shop/api", 'a', &["v1"], 10);
    stage.shelf.put("shop/api", 'b', &["v2"], 19);
    let swept = stage.sweep_at(100).await;
    let why = Taken::Recorded(Unasked::Superseded { by: "v2".to_owned(), pushed_at: at(20) });
    assert_eq!(missed(&swept), [("api a".to_owned(), why.to_string())]);
    assert_eq!(stage.asked("shop/api/live").await, ["v2"]);
}

#[tokio::test]
async fn what_was_there_before_the_policy_is_recorded_and_what_is_too_old_is_left() {
    let mut stage = stage().await;
    for repository in ["shop/web", "shop/worker"] {
        stage.shelf.repository(repository);
    }
    stage.shelf.put("shop/api", 'a', &["v1"], -3 * 24 * 3600);
    stage.shelf.put("shop/api", 'b', &["v2"], -10);
    let swept = stage.sweep_at(100).await;
    let why = format!("a new release; deployed nowhere: pushed before the policy was applied ({})", at(0));
    assert_eq!(missed(&swept), [("api b".to_owned(), why)]);
    assert!(stage.commands("shop/api/live").await.is_empty());
    assert_eq!(stage.releases("api").await, ["v2"]);
}

#[tokio::test]
async fn one_repositorys_trouble_is_not_anothers() {
    let mut stage = stage().await;
    // shop/api and shop/web cannot be listed.
    stage.shelf.put("shop/worker", 'a', &["v1"], 10);
    let swept = stage.sweep_at(100).await;
    assert_eq!(
        swept.problems,
        [
            "repository shop/api of shop could not be listed: there is no repository shop/api",
            "repository shop/web of shop could not be listed: there is no repository shop/web",
        ]
    );
    assert_eq!(missed(&swept).len(), 1, "{swept:?}");
    assert!(!swept.blind);
}

#[tokio::test]
async fn every_application_has_its_turn_once_in_every_round() {
    for application in ["shop", "a", "billing-and-more"] {
        let turn = |minute| Sweep { minute, every: 5, until: Timestamp::MAX }.is_turn_of(&name(application));
        assert_eq!((100..105).filter(|&minute| turn(minute)).count(), 1, "{application}");
    }
    let mut stage = stage().await;
    stage.shelf.put("shop/api", 'a', &["v1"], 10);
    let mut found = 0;
    for minute in 0..5 {
        let turn = Sweep { minute, every: 5, until: Timestamp::MAX };
        found += sweep(&stage.ledger, &stage.wakes, &stage.shelf, &At(at(100)), &turn).await.missed.len();
    }
    assert_eq!(found, 1);
}

#[tokio::test]
async fn a_sweep_without_time_says_what_it_left() {
    let mut stage = stage().await;
    stage.shelf.put("shop/api", 'a', &["v1"], 10);
    let turn = Sweep { minute: 0, every: 1, until: at(99) };
    let swept = sweep(&stage.ledger, &stage.wakes, &stage.shelf, &At(at(100)), &turn).await;
    assert_eq!((swept.left, swept.missed.len()), (vec![name("shop")], 0));
}
