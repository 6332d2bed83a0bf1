//! Lambda itself, as far as a function sees it: the Runtime API on a loopback port, and the real binary in a sandbox that
//! takes one event after the other, is ended at its deadline, and can be killed in the middle of whatever it does.
//!
//! The wire is that of the Lambda developer guide, "Using the Lambda runtime API"; the binary cannot tell it from Lambda's.

use super::HarnessError;
use super::emulators::ministack;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};

/// What became of an event that a sandbox was given.
#[derive(Debug, Clone, PartialEq)]
pub enum InvocationOutcome {
    /// The function's answer.
    Answered(Value),
    /// The function's error, as it reported it.
    Failed(Value),
    /// The process is gone: it was killed, has ended, or was ended at its deadline.
    Died,
}

/// One process of a function, with a Runtime API of its own. It ends when this is dropped; and when whoever runs it is
/// gone, since the Runtime API is gone then.
#[derive(Debug)]
pub struct Sandbox {
    child: Mutex<Child>,
    events: mpsc::Sender<PendingInvocation>,
    /// Nobody listens for it any more once it is true.
    stop: watch::Sender<bool>,
}

/// An event on its way to the process.
#[derive(Debug)]
struct PendingInvocation {
    body: String,
    deadline_ms: u128,
    answer: oneshot::Sender<InvocationOutcome>,
}

/// What the Runtime API's connections share.
#[derive(Debug)]
struct Api {
    events: tokio::sync::Mutex<mpsc::Receiver<PendingInvocation>>,
    pending: Mutex<Option<(String, oneshot::Sender<InvocationOutcome>)>>,
}

impl Sandbox {
    /// Starts `binary` with these settings and nothing else of whoever runs the tests; what it prints goes to `log`.
    ///
    /// # Errors
    /// [`HarnessError`] where it does not start.
    pub async fn start(binary: &Path, settings: &[(String, String)], log: &File) -> Result<Self, HarnessError> {
        let to_failure = |error: std::io::Error| HarnessError(format!("{}: {error}", binary.display()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(to_failure)?;
        let address = listener.local_addr().map_err(to_failure)?;
        let mut command = Command::new(binary);
        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", binary.file_name().unwrap_or_default())
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/sandbox")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "sandbox")
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .env("AWS_REGION", super::REGION)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ACCOUNT_ID", ministack::ACCOUNT)
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(to_failure)?)
            .stderr(log.try_clone().map_err(to_failure)?)
            .kill_on_drop(true);
        let child = command.spawn().map_err(to_failure)?;
        let (events, received) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let api = Arc::new(Api { events: tokio::sync::Mutex::new(received), pending: Mutex::new(None) });
        tokio::spawn(listen(listener, api, stopped));
        Ok(Self { child: Mutex::new(child), events, stop })
    }

    /// Hands an event over, and waits for what comes of it. Whoever is not done after `time_out` is killed.
    pub async fn invoke(&self, event: &Value, time_out: Duration) -> InvocationOutcome {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (answer, answered) = oneshot::channel();
        let event = PendingInvocation { body: event.to_string(), deadline_ms: (now + time_out).as_millis(), answer };
        if self.events.send(event).await.is_err() {
            return InvocationOutcome::Died;
        }
        let died = async {
            while self.is_alive() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let invoked = tokio::select! {
            biased;
            invoked = answered => invoked.unwrap_or(InvocationOutcome::Died),
            () = died => InvocationOutcome::Died,
            () = tokio::time::sleep(time_out) => InvocationOutcome::Died,
        };
        if invoked == InvocationOutcome::Died {
            self.kill();
        }
        invoked
    }

    /// `kill -9`, at once. The process does nothing more; what it has asked of others is on its way.
    pub fn kill(&self) {
        // An error: it is dead already.
        let _ = self.child().start_kill();
        self.stop.send_replace(true);
    }

    /// The process has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn listen(listener: TcpListener, api: Arc<Api>, mut stopped: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            _stopped = stopped.wait_for(|stopped| *stopped) => return,
            accepted = listener.accept() => accepted,
        };
        if let Ok((stream, _)) = accepted {
            tokio::spawn(connection(stream, Arc::clone(&api), stopped.clone()));
        }
    }
}

async fn connection(stream: TcpStream, api: Arc<Api>, mut stopped: watch::Receiver<bool>) {
    let _unimportant = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let api = Arc::clone(&api);
        async move { api.answer(request).await }
    });
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // An error is a process that was killed.
    tokio::select! {
        _stopped = stopped.wait_for(|stopped| *stopped) => {}
        _ended = serving => {}
    }
}

impl Api {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (request.method(), parts.as_slice()) {
            (&Method::GET, ["2018-06-01", "runtime", "invocation", "next"]) => self.next().await,
            (&Method::POST, ["2018-06-01", "runtime", "invocation", id, kind @ ("response" | "error")]) => {
                let (id, failed) = ((*id).to_owned(), *kind == "error");
                let Ok(body) = request.into_body().collect().await else { return plain(400) };
                let body_json: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
                let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
                match pending {
                    Some((known, answer)) if known == id => {
                        // An error: nobody waits for it any more, its time is over.
                        let outcome = if failed {
                            InvocationOutcome::Failed(body_json)
                        } else {
                            InvocationOutcome::Answered(body_json)
                        };
                        let _late = answer.send(outcome);
                        plain(202)
                    }
                    _ => plain(400),
                }
            }
            (&Method::POST, ["2018-06-01", "runtime", "init", "error"]) => plain(202),
            _ => plain(404),
        }
    }

    /// The next event: waits for one. A process that asks without having answered has given the last one up.
    async fn next(&self) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
        let Some(event) = self.events.lock().await.recv().await else { return plain(410) };
        let id = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let id = request_id();
            *pending = Some((id.clone(), event.answer));
            id
        };
        Response::builder()
            .status(200)
            .header("content-type", "application/json")
            .header("lambda-runtime-aws-request-id", id)
            .header("lambda-runtime-deadline-ms", event.deadline_ms.to_string())
            .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:000000000000:function:sandbox")
            .header("lambda-runtime-trace-id", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0")
            .body(Full::new(Bytes::from(event.body)))
    }
}

fn plain(status: u16) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
    Response::builder().status(status).body(Full::new(Bytes::new()))
}

/// Like Lambda's: another one for each event.
fn request_id() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:08x}-0000-4000-8000-000000000000", NEXT.fetch_add(1, Ordering::Relaxed))
}
