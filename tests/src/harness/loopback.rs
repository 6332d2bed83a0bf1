//! A server of the tests' own on a loopback port: for those whom the product calls, or who vouch for its callers.

use super::HarnessError;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A request, with its body whole.
#[derive(Debug)]
pub(super) struct ReceivedRequest {
    pub(super) method: String,
    pub(super) path: String,
    /// Decoded pairs, in the order sent.
    pub(super) query: Vec<(String, String)>,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

impl ReceivedRequest {
    /// A header's first value, where it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What follows `Bearer` in the header `Authorization`, in whatever case (RFC 9110, 11.1).
    pub(super) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    }

    /// The first value of a query parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What is answered.
#[derive(Debug)]
pub(super) enum Reply {
    /// An answer, after a while.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String, after: Duration },
    /// None: the connection is closed.
    Disconnected,
}

impl Reply {
    /// JSON, at once.
    pub(super) fn json(status: u16, body: &serde_json::Value) -> Self {
        let headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
        Self::Answer { status, headers, body: body.to_string(), after: Duration::ZERO }
    }
}

/// The server. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct LoopbackServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl LoopbackServer {
    /// Answers every request as `answer` says, from a thread of its own.
    ///
    /// # Errors
    /// [`HarnessError`] where no port is to be had.
    pub(super) fn start(
        name: &'static str,
        answer: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static,
    ) -> Result<Self, HarnessError> {
        let to_failure = |error: std::io::Error| HarnessError(format!("{name} did not start: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(to_failure)?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).map_err(to_failure)?;
        let address = listener.local_addr().map_err(to_failure)?;
        let (stop, stopped) = watch::channel(false);
        let answer = Arc::new(answer);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(listen(listener, &answer, stopped));
        });
        Ok(Self { address, stop, thread: Some(thread.map_err(to_failure)?) })
    }

    /// `http://127.0.0.1:port`
    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for LoopbackServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic in it was printed where it happened.
            let _ended = thread.join();
        }
    }
}

async fn listen<A>(listener: TcpListener, answer: &Arc<A>, mut stopped: watch::Receiver<bool>)
where
    A: Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static,
{
    loop {
        let accepted = tokio::select! {
            _stopped = stopped.wait_for(|stopped| *stopped) => return,
            accepted = listener.accept() => accepted,
        };
        if let Ok((stream, _)) = accepted {
            tokio::spawn(connection(stream, Arc::clone(answer)));
        }
    }
}

async fn connection<A>(stream: TcpStream, answer: Arc<A>)
where
    A: Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let answer = Arc::clone(&answer);
        async move { exchange(request, answer.as_ref()).await }
    });
    // An error is a connection that was cut, by the caller or on purpose.
    let _ended = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Instead of an answer, the connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut on purpose")]
struct Disconnected;

async fn exchange(
    request: Request<Incoming>,
    answer: impl Fn(&ReceivedRequest) -> Reply,
) -> Result<Response<Full<Bytes>>, Disconnected> {
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default();
    let received = ReceivedRequest {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        headers: head.headers,
        body: body.collect().await.map_err(|_| Disconnected)?.to_bytes(),
    };
    match answer(&received) {
        Reply::Disconnected => Err(Disconnected),
        Reply::Answer { status, headers, body, after } => {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Full::new(Bytes::from(body))).map_err(|_| Disconnected)
        }
    }
}
