//! Slack's Web API and Secrets Manager, called over real HTTP on loopback.
//!
//! One server plays both: it knows one secret and one token, and records every call.

use aws::http::{Address, MAX_RESPONSE_BYTES};
use aws::secrets::{SecretError, Secrets};
use aws::slack::{PostedSlackMessage, Slack, SlackMessage};
use aws::{Clients, config};
use aws_credential_types::Credentials;
use engine::{EditOutcome, SendError};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rollout::Seconds;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;

const TOKEN: &str = "xoxb-1111-geheim";
const SECRET: &str = "switchback/slack";

/// State of the fake server.
#[derive(Debug, Default)]
struct FakeState {
    /// The secret's text, or the status and error code with which Secrets Manager refuses.
    secret: Option<Result<String, (u16, &'static str)>>,
    /// The token that Slack accepts.
    token: String,
    /// Responses that Slack gives instead of success, in order.
    answers: Vec<(u16, Option<&'static str>, String)>,
    /// Slack accepts the request and never responds.
    silent: bool,
    /// Method and body of each call to Slack.
    asked: Vec<(String, Value)>,
    /// Number of reads of the secret.
    reads: usize,
}

#[derive(Debug, Clone, Default)]
struct FakeServer(Arc<Mutex<FakeState>>);

impl FakeServer {
    fn state(&self) -> MutexGuard<'_, FakeState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn start() -> (Self, SocketAddr) {
        let server = Self::default();
        {
            let mut state = server.state();
            state.secret = Some(Ok(json!({"bot_token": TOKEN}).to_string()));
            state.token = TOKEN.to_owned();
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = serving.clone();
                let service = service_fn(move |request| answer(server.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        (server, address)
    }
}

async fn answer(server: FakeServer, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
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
        let mut state = server.state();
        state.reads += 1;
        assert_eq!(body["SecretId"], SECRET);
        return match state.secret.clone().expect("a secret") {
            Ok(text) => response(200, None, json!({"Name": SECRET, "SecretString": text}).to_string()),
            Err((status, code)) => response(status, None, json!({"__type": code, "message": "no"}).to_string()),
        };
    }
    let silent = {
        let mut state = server.state();
        state.asked.push((path, body));
        state.silent
    };
    if silent {
        std::future::pending::<()>().await;
    }
    let mut state = server.state();
    assert_eq!(content_type, "application/json; charset=utf-8");
    if authorization != format!("Bearer {}", state.token) {
        return response(200, None, json!({"ok": false, "error": "invalid_auth"}).to_string());
    }
    if !state.answers.is_empty() {
        let (status, retry_after, body) = state.answers.remove(0);
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

fn message(blocks: &Value) -> SlackMessage<'_> {
    SlackMessage { channel: "deployments", text: "Deployment began", blocks, thread: None }
}

fn refused(error: &str) -> String {
    json!({"ok": false, "error": error}).to_string()
}

#[tokio::test]
async fn a_message_is_posted_into_a_thread_and_edited_in_place() {
    let (server, address) = FakeServer::start().await;
    let slack = slack(address).await;
    let blocks = json!([{"type": "section", "text": {"type": "mrkdwn", "text": "*shop/api/prod* é"}}]);
    let thread = SlackMessage { thread: Some("1795316000.000001"), ..message(&blocks) };
    let posted = slack.post(thread).await.expect("posted");
    assert_eq!(posted, PostedSlackMessage { channel: "C0DEPLOY".to_owned(), ts: "1795316400.000100".to_owned() });
    let edited = slack.update(&posted.channel, &posted.ts, "Succeeded", &json!([])).await;
    assert_eq!(edited, Ok(EditOutcome::Done));

    let state = server.state();
    let [(first, post), (second, update)] = state.asked.as_slice() else { panic!("{:?}", state.asked) };
    assert_eq!((first.as_str(), second.as_str()), ("/api/chat.postMessage", "/api/chat.update"));
    assert_eq!(post["channel"], "deployments");
    assert_eq!(post["thread_ts"], "1795316000.000001");
    assert_eq!(post["blocks"], blocks);
    assert_eq!(*update, json!({"channel": "C0DEPLOY", "ts": "1795316400.000100", "text": "Succeeded", "blocks": []}));
    assert_eq!(state.reads, 1, "the token is remembered");
}

#[tokio::test]
async fn slack_errors_are_refused_or_retryable() {
    let (server, address) = FakeServer::start().await;
    let slack = slack(address).await;
    let post_error = async |status, retry_after, body: String| {
        server.state().answers = vec![(status, retry_after, body)];
        slack.post(message(&json!([]))).await.expect_err("not taken")
    };
    for code in ["channel_not_found", "not_in_channel", "message_not_found", "is_archived"] {
        let reason = format!("chat.postMessage: {code}");
        assert_eq!(post_error(200, None, refused(code)).await, SendError::Refused { reason });
    }
    server.state().answers = vec![(200, None, refused("message_not_found"))];
    assert_eq!(slack.update("C0DEPLOY", "1795316400.000100", "…", &json!([])).await, Ok(EditOutcome::Gone));
    let reason = "chat.postMessage: ratelimited".to_owned();
    assert_eq!(post_error(429, None, refused("ratelimited")).await, SendError::Unsure { reason });
    let reason = "chat.postMessage: status 503".to_owned();
    assert_eq!(post_error(503, None, "<html>".to_owned()).await, SendError::Unsure { reason });
    let long = post_error(200, None, "x".repeat(MAX_RESPONSE_BYTES + 1)).await;
    assert!(matches!(&long, SendError::Unsure { reason } if reason.contains("broke off")), "{long}");
}

#[tokio::test]
async fn a_rate_limit_is_obeyed_by_every_call() {
    let (server, address) = FakeServer::start().await;
    let limited = slack(address).await;
    let blocks = json!([]);
    server.state().answers = vec![(429, Some("30"), refused("ratelimited"))];
    let reason = "chat.postMessage: ratelimited, in 30 s again".to_owned();
    let answered = limited.post(message(&blocks)).await;
    assert_eq!(answered, Err(SendError::RateLimited { after: Seconds(30), reason }));
    let early = limited.clone().update("C0DEPLOY", "1795316400.000100", "…", &blocks).await;
    let Err(SendError::RateLimited { after, reason }) = early else { panic!("{early:?}") };
    assert!((20..=30).contains(&after.0), "{after}");
    assert_eq!(reason, format!("chat.update: not called, Slack limits the rate for another {} s", after.0));
    assert_eq!(server.state().asked.len(), 1, "Slack is not called before the limit ends");

    // A limit that has ended.
    let available = slack(address).await;
    server.state().answers = vec![(200, Some("0"), refused("ratelimited"))];
    let answered = available.post(message(&blocks)).await;
    assert!(matches!(&answered, Err(SendError::RateLimited { after: Seconds(0), .. })), "{answered:?}");
    assert!(available.post(message(&blocks)).await.is_ok());
    assert_eq!(server.state().asked.len(), 3);
}

#[tokio::test]
async fn arbitrary_slack_responses_give_bounded_errors_without_the_token() {
    let (server, address) = FakeServer::start().await;
    let slack = slack(address).await;
    let sound = vec![
        json!({"ok": true, "channel": "C0DEPLOY", "ts": "1795316400.000100"}),
        json!({"ok": false, "error": "ratelimited", "response_metadata": {"messages": ["[ERROR] x"]}}),
    ];
    let statuses = garbage::proptest::sample::select([200u16, 200, 200, 400, 429, 500].as_slice());
    for (seed, (status, body)) in garbage::samples(60, &(statuses, garbage::body(sound))) {
        server.state().answers = vec![(status, None, body.clone())];
        if let Err(error) = slack.post(message(&json!([]))).await {
            let (words, about) = (error.to_string(), format!("SWITCHBACK_SEED={seed}: {status} {body:.300}"));
            assert!((1..=2_000).contains(&words.chars().count()), "{} characters, {about}", words.chars().count());
            assert!(!words.contains(TOKEN) && !words.contains('\n'), "{words}, {about}");
        }
    }
}

#[tokio::test]
async fn a_silent_or_unreachable_slack_times_out() {
    let (server, address) = FakeServer::start().await;
    let slack = slack(address).await;
    server.state().silent = true;
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
async fn a_rejected_token_is_refused_and_never_printed() {
    let (server, address) = FakeServer::start().await;
    let slack = slack(address).await;
    server.state().token = "xoxb-2222-another".to_owned();
    let error = slack.post(message(&json!([]))).await.expect_err("no longer known");
    assert_eq!(error, SendError::Refused { reason: "chat.postMessage: invalid_auth".to_owned() });
    // Read a moment ago: neither the secret nor Slack is requested over and over.
    let state = server.state();
    assert_eq!((state.reads, state.asked.len()), (1, 1));
    assert!(!format!("{slack:?} {error:?}").contains("geheim"));
}

#[tokio::test]
async fn without_a_token_slack_is_not_called() {
    let (server, address) = FakeServer::start().await;
    let answer = async |secret| {
        server.state().secret = Some(secret);
        // A new client each time: nothing is cached.
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
    assert_eq!(server.state().asked, []);
}

#[tokio::test]
async fn concurrent_reads_fetch_a_secret_once() {
    let (server, address) = FakeServer::start().await;
    let secrets = Secrets::new(clients(address).await);
    let (one, two) = futures::join!(secrets.get(SECRET), secrets.get(SECRET));
    let (one, two) = (one.expect("read"), two.expect("read"));
    assert!(one.is_same_read(&two));
    assert_eq!(server.state().reads, 1);
    let field = secrets.field(SECRET, "signing_secret").await.expect_err("no such field");
    assert!(matches!(field, SecretError::Refused { .. }), "{field}");
    assert!(!format!("{secrets:?} {field:?}").contains("geheim"));
}
