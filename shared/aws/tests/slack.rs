//! Slack's Web API and Secrets Manager, spoken to over real HTTP on loopback.
//!
//! One server plays both: it knows one secret and one token, and notes every call.

use aws::http::{Address, LARGEST_ANSWER};
use aws::secrets::{SecretError, Secrets};
use aws::slack::{Post, Posted, Slack};
use aws::{Clients, config};
use aws_credential_types::Credentials;
use engine::{Edited, SendError};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;

const TOKEN: &str = "xoxb-1111-geheim";
const SECRET: &str = "switchback/slack";

/// The other side.
#[derive(Debug, Default)]
struct Far {
    /// What Secrets Manager holds, or with which status and code it refuses.
    secret: Option<Result<String, (u16, &'static str)>>,
    /// The token that Slack knows.
    token: String,
    /// What Slack answers instead of yes, the first one first.
    answers: Vec<(u16, Option<&'static str>, String)>,
    /// Slack takes the request, and never answers.
    silent: bool,
    /// Method and body of what Slack was asked.
    asked: Vec<(String, Value)>,
    /// How often the secret was read.
    reads: usize,
}

#[derive(Debug, Clone, Default)]
struct World(Arc<Mutex<Far>>);

impl World {
    fn far(&self) -> MutexGuard<'_, Far> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn start() -> (Self, SocketAddr) {
        let world = Self::default();
        {
            let mut far = world.far();
            far.secret = Some(Ok(json!({"bot_token": TOKEN}).to_string()));
            far.token = TOKEN.to_owned();
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = world.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let world = serving.clone();
                let service = service_fn(move |request| answer(world.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        (world, address)
    }
}

async fn answer(world: World, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |name: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (path, target) = (request.uri().path().to_owned(), header("x-amz-target"));
    let (authorization, content_type) = (header("authorization"), header("content-type"));
    let bytes = request.into_body().collect().await.expect("a body").to_bytes();
    let body: Value = serde_json::from_slice(&bytes).expect("JSON");
    let response = |status: u16, retry_after: Option<&str>, body: String| {
        let builder = Response::builder().status(status);
        let builder = match retry_after {
            Some(seconds) => builder.header("retry-after", seconds),
            None => builder,
        };
        Ok(builder.body(Full::from(body)).expect("a response"))
    };
    if target == "secretsmanager.GetSecretValue" {
        let mut far = world.far();
        far.reads += 1;
        assert_eq!(body["SecretId"], SECRET);
        return match far.secret.clone().expect("a secret") {
            Ok(text) => response(200, None, json!({"Name": SECRET, "SecretString": text}).to_string()),
            Err((status, code)) => response(status, None, json!({"__type": code, "message": "no"}).to_string()),
        };
    }
    let silent = {
        let mut far = world.far();
        far.asked.push((path, body));
        far.silent
    };
    if silent {
        std::future::pending::<()>().await;
    }
    let mut far = world.far();
    assert_eq!(content_type, "application/json; charset=utf-8");
    if authorization != format!("Bearer {}", far.token) {
        return response(200, None, json!({"ok": false, "error": "invalid_auth"}).to_string());
    }
    if !far.answers.is_empty() {
        let (status, retry_after, body) = far.answers.remove(0);
        return response(status, retry_after, body);
    }
    response(200, None, json!({"ok": true, "channel": "C0DEPLOY", "ts": "1795316400.000100"}).to_string())
}

async fn clients(address: SocketAddr) -> Clients {
    let config = config::loader()
        .region(aws_config::Region::new("eu-central-1"))
        .endpoint_url(format!("http://{address}"))
        .credentials_provider(Credentials::new("AKIDEXAMPLE", "key", None, None, "test"));
    Clients::of(config.load().await)
}

async fn slack(address: SocketAddr) -> Slack {
    let clients = clients(address).await;
    let api = Address::parse(&format!("http://{address}/api")).expect("loopback");
    Slack::new(clients.clone(), Secrets::new(clients), api, SECRET)
}

fn message(blocks: &Value) -> Post<'_> {
    Post { channel: "deployments", text: "Deployment began", blocks, thread: None }
}

fn refused(error: &str) -> String {
    json!({"ok": false, "error": error}).to_string()
}

#[tokio::test]
async fn a_message_is_posted_into_a_thread_and_edited_in_place() {
    let (world, address) = World::start().await;
    let slack = slack(address).await;
    let blocks = json!([{"type": "section", "text": {"type": "mrkdwn", "text": "*shop/api/prod* é"}}]);
    let thread = Post { thread: Some("1795316000.000001"), ..message(&blocks) };
    let posted = slack.post(thread).await.expect("posted");
    assert_eq!(posted, Posted { channel: "C0DEPLOY".to_owned(), ts: "1795316400.000100".to_owned() });
    let edited = slack.update(&posted.channel, &posted.ts, "Succeeded", &json!([])).await;
    assert_eq!(edited, Ok(Edited::Done));

    let far = world.far();
    let [(first, post), (second, update)] = far.asked.as_slice() else { panic!("{:?}", far.asked) };
    assert_eq!((first.as_str(), second.as_str()), ("/api/chat.postMessage", "/api/chat.update"));
    assert_eq!(post["channel"], "deployments");
    assert_eq!(post["thread_ts"], "1795316000.000001");
    assert_eq!(post["blocks"], blocks);
    assert_eq!(*update, json!({"channel": "C0DEPLOY", "ts": "1795316400.000100", "text": "Succeeded", "blocks": []}));
    assert_eq!(far.reads, 1, "the token is remembered");
}

#[tokio::test]
async fn slack_says_no_in_a_two_hundred_and_not_now_in_many_ways() {
    let (world, address) = World::start().await;
    let slack = slack(address).await;
    let told = async |status, retry_after, body: String| {
        world.far().answers = vec![(status, retry_after, body)];
        slack.post(message(&json!([]))).await.expect_err("not taken")
    };
    for code in ["channel_not_found", "not_in_channel", "message_not_found", "is_archived"] {
        let reason = format!("chat.postMessage: {code}");
        assert_eq!(told(200, None, refused(code)).await, SendError::Refused { reason });
    }
    world.far().answers = vec![(200, None, refused("message_not_found"))];
    assert_eq!(slack.update("C0DEPLOY", "1795316400.000100", "…", &json!([])).await, Ok(Edited::Gone));
    let reason = "chat.postMessage: ratelimited, in 30 s again".to_owned();
    assert_eq!(told(429, Some("30"), refused("ratelimited")).await, SendError::Unsure { reason });
    let reason = "chat.postMessage: status 503".to_owned();
    assert_eq!(told(503, None, "<html>".to_owned()).await, SendError::Unsure { reason });
    let long = told(200, None, "x".repeat(LARGEST_ANSWER + 1)).await;
    assert!(matches!(&long, SendError::Unsure { reason } if reason.contains("broke off")), "{long}");
}

#[tokio::test]
async fn whatever_slack_answers_is_a_message_or_a_reason_that_has_an_end_and_no_token() {
    let (world, address) = World::start().await;
    let slack = slack(address).await;
    let sound = vec![
        json!({"ok": true, "channel": "C0DEPLOY", "ts": "1795316400.000100"}),
        json!({"ok": false, "error": "ratelimited", "response_metadata": {"messages": ["[ERROR] x"]}}),
    ];
    let statuses = garbage::proptest::sample::select([200u16, 200, 200, 400, 429, 500].as_slice());
    for (seed, (status, body)) in garbage::samples(60, &(statuses, garbage::body(sound))) {
        world.far().answers = vec![(status, None, body.clone())];
        if let Err(error) = slack.post(message(&json!([]))).await {
            let (words, about) = (error.to_string(), format!("SWITCHBACK_SEED={seed}: {status} {body:.300}"));
            assert!((1..=2_000).contains(&words.chars().count()), "{} characters, {about}", words.chars().count());
            assert!(!words.contains(TOKEN) && !words.contains('\n'), "{words}, {about}");
        }
    }
}

#[tokio::test]
async fn whoever_does_not_answer_is_not_waited_for() {
    let (world, address) = World::start().await;
    let slack = slack(address).await;
    world.far().silent = true;
    let error = slack.post(message(&json!([]))).await.expect_err("silence");
    assert_eq!(error, SendError::Unsure { reason: "chat.postMessage: no answer came within 3 s".to_owned() });

    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port").local_addr().expect("an address");
    let api = Address::parse(&format!("http://{closed}/api")).expect("loopback");
    let clients = clients(address).await;
    let nobody = Slack::new(clients.clone(), Secrets::new(clients), api, SECRET);
    let error = nobody.post(message(&json!([]))).await.expect_err("nobody there");
    assert!(matches!(error, SendError::Unsure { .. }), "{error}");
}

#[tokio::test]
async fn a_token_that_does_not_fit_is_a_no_and_is_in_no_error() {
    let (world, address) = World::start().await;
    let slack = slack(address).await;
    world.far().token = "xoxb-2222-another".to_owned();
    let error = slack.post(message(&json!([]))).await.expect_err("no longer known");
    assert_eq!(error, SendError::Refused { reason: "chat.postMessage: invalid_auth".to_owned() });
    // It was read a moment ago: neither secret nor Slack is asked over and over.
    let far = world.far();
    assert_eq!((far.reads, far.asked.len()), (1, 1));
    assert!(!format!("{slack:?} {error:?}").contains("geheim"));
}

#[tokio::test]
async fn without_a_token_slack_is_not_asked() {
    let (world, address) = World::start().await;
    let answer = async |secret| {
        world.far().secret = Some(secret);
        // A new one each time: nothing is remembered.
        slack(address).await.post(message(&json!([]))).await.expect_err("no token")
    };
    let denied = answer(Err((400, "AccessDeniedException"))).await;
    assert!(matches!(&denied, SendError::Refused { reason } if reason.contains("AccessDeniedException")), "{denied}");
    let broken = answer(Err((500, "InternalServiceError"))).await;
    assert!(matches!(&broken, SendError::Unsure { reason } if reason.contains(SECRET)), "{broken}");
    let empty = answer(Ok(r#"{"token": "xoxb-geheim"}"#.to_owned())).await;
    assert_eq!(
        empty,
        SendError::Refused {
            reason: "Slack's token: the secret switchback/slack is of no use: store the text itself, or a JSON object \
                     with the field `bot_token`"
                .to_owned()
        }
    );
    assert_eq!(world.far().asked, []);
}

#[tokio::test]
async fn a_secret_is_read_once_by_many_at_once() {
    let (world, address) = World::start().await;
    let secrets = Secrets::new(clients(address).await);
    let (one, two) = futures::join!(secrets.get(SECRET), secrets.get(SECRET));
    let (one, two) = (one.expect("read"), two.expect("read"));
    assert!(one.same_reading(&two));
    assert_eq!(world.far().reads, 1);
    let field = secrets.field(SECRET, "signing_secret").await.expect_err("no such field");
    assert!(matches!(field, SecretError::Refused { .. }), "{field}");
    assert!(!format!("{secrets:?} {field:?}").contains("geheim"));
}
