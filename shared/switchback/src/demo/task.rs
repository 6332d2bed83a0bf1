//! One task of the demo's service: a process with an HTTP server, in place of a container.
//!
//! It prints the address that it listens on, answers `/health` and all other paths with its release, and exits when its
//! standard input is closed: the parent closes the pipe to stop it, and the operating system closes it if the parent
//! dies. Requests in flight are finished first.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Header with the release that responded.
pub(crate) const RELEASE_HEADER: &str = "x-release";

/// Prefix of the line in which a task prints its address once it listens.
pub(crate) const LISTENING: &str = "listening ";

/// Time for requests in flight when the task is stopped; ECS's `stopTimeout` defaults to 30 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Response time of an ordinary request.
const RESPONSE_TIME: Duration = Duration::from_millis(3);

/// One request in this many is slow, so that some are in flight whenever a task is stopped.
const SLOW_EVERY: u64 = 40;

/// Response time of a slow request.
const SLOW_RESPONSE_TIME: Duration = Duration::from_millis(350);

/// One task of the demo.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TaskArguments {
    /// The release that it runs, as it says in every answer.
    #[arg(long)]
    release: String,
    /// How many of a hundred requests it answers with 500; `/health` is always well.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    fail_percent: u8,
}

struct TaskServer {
    release: String,
    fail_percent: u64,
    requests: AtomicU64,
}

/// Serves until standard input is closed.
pub(crate) async fn serve(arguments: &TaskArguments) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut out = std::io::stdout();
    writeln!(out, "{LISTENING}{}", listener.local_addr()?)?;
    out.flush()?;

    let service = Arc::new(TaskServer {
        release: arguments.release.clone(),
        fail_percent: u64::from(arguments.fail_percent),
        requests: AtomicU64::new(0),
    });
    let (stop, stopped) = watch::channel(false);
    // A separate thread, since reading standard input blocks and cannot be cancelled.
    std::thread::spawn(move || {
        let mut bytes = [0_u8; 64];
        let mut input = std::io::stdin();
        while matches!(input.read(&mut bytes), Ok(read) if read > 0) {}
        // Cannot fail: `serve` holds the receiver.
        let _ = stop.send(true);
    });

    let mut connections = JoinSet::new();
    let mut stop_signal = stopped.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                connections.spawn(connection(stream, service.clone(), stopped.clone()));
            }
            Some(_) = connections.join_next() => {}
            _ = stop_signal.changed() => break,
        }
    }
    drop(listener);
    let all_answered = async { while connections.join_next().await.is_some() {} };
    // After the time-out the process exits with requests in flight, like a killed container; the balancer counts them.
    let _ = tokio::time::timeout(STOP_TIMEOUT, all_answered).await;
    Ok(())
}

/// Serves one connection until the peer closes it, or until the task stops and the current request is answered.
async fn connection(stream: TcpStream, service: Arc<TaskServer>, mut stopped: watch::Receiver<bool>) {
    let answer = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(&request).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let stop_signal = async { stopped.wait_for(|stop| *stop).await.is_ok() };
    tokio::select! {
        // A broken connection is noticed and counted by the peer.
        _ = connection.as_mut() => {}
        _ = stop_signal => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

impl TaskServer {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let status = if request.uri().path() == "/health" {
            StatusCode::OK
        } else {
            let number = self.requests.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(if number % SLOW_EVERY == SLOW_EVERY - 1 { SLOW_RESPONSE_TIME } else { RESPONSE_TIME })
                .await;
            if fails(number, self.fail_percent) { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
        };
        let mut response = Response::new(Full::new(Bytes::from(format!("{}\n", self.release))));
        *response.status_mut() = status;
        if let Ok(release) = self.release.parse() {
            response.headers_mut().insert(RELEASE_HEADER, release);
        }
        response
    }
}

/// Whether request `number` (from 0) must fail: evenly spread, exactly `percent` of every hundred.
fn fails(number: u64, percent: u64) -> bool {
    (number + 1) * percent / 100 > number * percent / 100
}

#[cfg(test)]
mod tests {
    use super::fails;

    #[test]
    fn failures_are_exact_and_evenly_spread() {
        for percent in [0, 1, 40, 100] {
            assert_eq!((0..100).filter(|number| fails(*number, percent)).count() as u64, percent);
        }
        assert!((0..10).any(|number| fails(number, 40)), "the first ten requests already show it");
    }
}
