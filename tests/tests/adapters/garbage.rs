//! Whatever AWS answers: the front's sound answers, damaged on their way. Nothing panics, nothing hangs, and what could not
//! be read is unknown or unsure, in words that have an end.

use super::with_front::fixture;
use aws::Clients;
use aws::cloud::AwsCloud;
use aws::error::MAX_REASON_CHARS;
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use engine::Cloud as _;
use garbage::proptest;
use garbage::proptest::prelude::*;
use garbage::proptest::sample::{Index, select};
use rollout::effect::HookPayload;
use rollout::snapshot::Weights;
use rollout::{Effect, ObservationPlan, Outcome, Reading, Slot, TargetResources};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tests::harness::REGION;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What happens to an answer.
#[derive(Debug, Clone)]
enum Damage {
    /// It has this status, and the body that it had.
    Status(u16),
    /// It ends early, and says so.
    Truncated(Index),
    /// The connection breaks in it.
    ConnectionBroken(Index),
    /// Bytes are others.
    BytesChanged(Vec<(Index, u8)>),
    /// All its numbers are this one.
    NumbersReplaced(String),
    /// It is full of this, somewhere.
    TextInserted(Index, String),
    /// It is something else.
    Replaced(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    const NUMBERS: [&str; 10] =
        ["0", "-1", "101", "999", "4294967296", "18446744073709551616", "1e999", "0.5", "x", ""];
    prop_oneof![
        2 => select([200u16, 301, 400, 403, 404, 429, 500, 503].as_slice()).prop_map(Damage::Status),
        2 => any::<Index>().prop_map(Damage::Truncated),
        1 => any::<Index>().prop_map(Damage::ConnectionBroken),
        4 => proptest::collection::vec((any::<Index>(), any::<u8>()), 1..20).prop_map(Damage::BytesChanged),
        3 => select(NUMBERS.as_slice()).prop_map(|number| Damage::NumbersReplaced(number.to_owned())),
        2 => (any::<Index>(), garbage::text()).prop_map(|(at, text)| Damage::TextInserted(at, text)),
        1 => proptest::collection::vec(any::<u8>(), 0..2_000).prop_map(Damage::Replaced),
    ]
}

impl Damage {
    /// Status, the length that is declared, and the body.
    fn apply(&self, status: u16, mut body: Vec<u8>) -> (u16, usize, Vec<u8>) {
        let within = |at: &Index, body: &Vec<u8>| at.index(body.len() + 1);
        match self {
            Self::Status(status) => return (*status, body.len(), body),
            Self::ConnectionBroken(at) => {
                let (declared, kept) = (body.len() + 1, within(at, &body));
                body.truncate(kept);
                return (status, declared, body);
            }
            Self::Truncated(at) => body.truncate(within(at, &body)),
            Self::BytesChanged(bytes) => {
                if !body.is_empty() {
                    for (at, byte) in bytes {
                        let at = at.index(body.len());
                        body[at] = *byte;
                    }
                }
            }
            Self::NumbersReplaced(number) => {
                let text = String::from_utf8_lossy(&body).into_owned();
                let mut other = String::new();
                let mut digits = false;
                for one in text.chars() {
                    if !one.is_ascii_digit() {
                        other.push(one);
                    } else if !digits {
                        other.push_str(number);
                    }
                    digits = one.is_ascii_digit();
                }
                body = other.into_bytes();
            }
            Self::TextInserted(at, text) => {
                let at = within(at, &body);
                body.splice(at..at, text.bytes());
            }
            Self::Replaced(other) => body.clone_from(other),
        }
        (status, body.len(), body)
    }
}

/// Passes requests on to the front, and its answers back, of which every `each`-th is harmed. It ends with the runtime.
async fn start_damaging_proxy(front: SocketAddr, damage: Damage, each: usize) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (damage, count) = (Arc::new(damage), Arc::new(AtomicUsize::new(0)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (damage, count) = (Arc::clone(&damage), Arc::clone(&count));
            tokio::spawn(async move {
                // An error is a connection that ended: that is what this is for.
                let _ended =
                    exchange(stream, front, &damage, || count.fetch_add(1, Ordering::Relaxed) % each == 0).await;
            });
        }
    });
    address
}

/// The head up to its empty line, and the body.
async fn message(stream: TcpStream) -> std::io::Result<(Vec<String>, Vec<u8>, TcpStream)> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let length = |line: &String| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok();
    let mut body = vec![0; head.iter().find_map(length).unwrap_or(0)];
    reader.read_exact(&mut body).await?;
    Ok((head, body, reader.into_inner()))
}

async fn exchange(
    stream: TcpStream,
    front: SocketAddr,
    damage: &Damage,
    is_damaged: impl Fn() -> bool,
) -> std::io::Result<()> {
    let (head, body, mut stream) = message(stream).await?;
    let mut upstream = TcpStream::connect(front).await?;
    upstream.write_all(format!("{}\r\n\r\n", head.join("\r\n")).as_bytes()).await?;
    upstream.write_all(&body).await?;
    let (head, body, _) = message(upstream).await?;
    let status = head.first().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(500);
    let (status, length, body) = if is_damaged() { damage.apply(status, body) } else { (status, body.len(), body) };
    let mut answer = format!("HTTP/1.1 {status} so\r\nconnection: close\r\ncontent-length: {length}\r\n");
    for line in head.iter().skip(1) {
        let lower = line.to_ascii_lowercase();
        if !["content-length:", "connection:", "transfer-encoding:"].iter().any(|name| lower.starts_with(name)) {
            answer.push_str(&format!("{line}\r\n"));
        }
    }
    stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

/// The product's cloud, which asks once: that it asks again is shown elsewhere.
async fn cloud_at(address: SocketAddr) -> AwsCloud {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(format!("http://{address}"))
        .region(Region::from_static(REGION))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .load()
        .await;
    AwsCloud::new(Clients::of(config))
}

fn effects(task_definition: &str) -> Vec<Effect> {
    let payload = HookPayload {
        target: "shop/api/prod".to_owned(),
        deployment: 1,
        hook: "smoke".to_owned(),
        run: "r-1".to_owned(),
        digest: "sha256:0".to_owned(),
        tag: "v1".to_owned(),
        candidate_target_groups: vec!["arn".to_owned()],
    };
    let (hook, run) = ("smoke".to_owned(), "r-1".to_owned());
    vec![
        Effect::SetWeights { weights: Weights { blue: 90, green: 10 }, seen: vec![] },
        Effect::SetTestRules { weights: vec![Weights { blue: 0, green: 100 }] },
        Effect::SetDesired { slot: Slot::Green, desired: 2 },
        Effect::SetVersion { slot: Slot::Green, version: task_definition.to_owned(), desired: 2 },
        Effect::RegisterVersion {
            template: task_definition.to_owned(),
            image: "registry.example.com/shop/api@sha256:new".to_owned(),
            family: Some("api-switchback".to_owned()),
        },
        Effect::InvokeHook { hook: hook.clone(), function: "smoke".to_owned(), run: run.clone(), payload },
        Effect::StartTask {
            hook,
            run,
            version: task_definition.to_owned(),
            container: "api".to_owned(),
            command: vec![],
            template: Some(Slot::Blue),
        },
        Effect::StopTask { task: "arn:aws:ecs:eu-central-1:123456789012:task/shop/0".to_owned() },
    ]
}

/// The longest text anywhere in what was not read.
fn longest_unknown(value: &Value) -> usize {
    match value {
        Value::Object(fields) => {
            let unknown = fields.get("unknown").and_then(Value::as_str).map_or(0, |reason| reason.chars().count());
            fields.values().map(longest_unknown).max().unwrap_or(0).max(unknown)
        }
        Value::Array(items) => items.iter().map(longest_unknown).max().unwrap_or(0),
        _ => 0,
    }
}

async fn run_case(
    front: SocketAddr,
    resources: TargetResources,
    observation: ObservationPlan,
    task_definition: String,
    damage: Damage,
    each: usize,
) {
    let cloud = cloud_at(start_damaging_proxy(front, damage, each).await).await;
    // What is not read is reported for each side's service, targets and autoscaling, a reason each.
    let max_length = 3 * (MAX_REASON_CHARS + 100);
    for effect in effects(&task_definition) {
        let seen = serde_json::to_value(cloud.observe(&observation).await).expect("plain data");
        let longest = longest_unknown(&seen);
        assert!(longest <= max_length, "{longest} characters say what could not be read");
        let outcome = cloud.perform(&resources, &effect).await;
        if let Outcome::Unsure { reason } | Outcome::Throttled { reason } | Outcome::Refused { reason } = &outcome {
            let words = reason.chars().count();
            assert!((1..=max_length).contains(&words), "{words} characters say why not: {effect:?}");
        }
    }
    if let Reading::Unknown(reason) = cloud.template(&resources, "api", Some(&task_definition)).await {
        let words = reason.chars().count();
        assert!((1..=max_length).contains(&words), "{words} characters say why there is no template");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_aws_responses_never_panic_or_hang() {
    let fixture = fixture().await;
    let mut observation = fixture.fixture.observation();
    observation.alarms = ["one", "other"].map(str::to_owned).into();
    observation.images = true;
    let samples = garbage::samples(16, &(damage(), 1usize..4));
    let cases = samples.into_iter().map(|(seed, (damage, each))| {
        let (resources, observation, definition) =
            (fixture.fixture.resources.clone(), observation.clone(), fixture.fixture.task_definition.clone());
        let description = format!("SWITCHBACK_SEED={seed} shows it again: every {each}. answer {damage:?}");
        let run_case =
            tokio::spawn(run_case(fixture.front.address(), resources, observation, definition, damage, each));
        async move {
            match tokio::time::timeout(Duration::from_secs(60), run_case).await {
                Ok(Ok(())) => None,
                Ok(Err(panic)) => Some(format!("{description}\n{panic}")),
                Err(_) => Some(format!("{description}\nnot done within a minute")),
            }
        }
    });
    let failed: Vec<String> = futures::future::join_all(cases).await.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
