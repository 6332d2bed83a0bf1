//! One task of the demo's service: a process of its own with an HTTP server, as a container would be.
//!
//! It prints the address it listens on, answers `/health` and everything else with its release, and ends when its
//! standard input does: its parent closes the pipe to stop it, and the pipe closes by itself if the parent dies.
//! Requests in flight are finished first.

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

/// The header that names the release that answered.
pub(crate) const RELEASE_HEADER: &str = "x-release";

/// What a task prints before its address once it listens.
pub(crate) const LISTENING: &str = "listening ";

/// Requests in flight get this long once the task shall stop; ECS's `stopTimeout` is 30 s by default.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What an ordinary answer takes.
const WORK: Duration = Duration::from_millis(3);

/// One request in so many is slow, so that there is something in flight whenever a task is stopped.
const SLOW_EVERY: u64 = 40;

/// What a slow answer takes.
const SLOW_WORK: Duration = Duration::from_millis(350);

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

struct Service {
    release: String,
    fail_percent: u64,
    requests: AtomicU64,
}

/// Serves until standard input ends.
pub(crate) async fn serve(arguments: &TaskArguments) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut out = std::io::stdout();
    writeln!(out, "{LISTENING}{}", listener.local_addr()?)?;
    out.flush()?;

    let service = Arc::new(Service {
        release: arguments.release.clone(),
        fail_percent: u64::from(arguments.fail_percent),
        requests: AtomicU64::new(0),
    });
    let (stop, stopped) = watch::channel(false);
    // A thread of its own: a read of standard input cannot be waited for without blocking, nor be cancelled.
    std::thread::spawn(move || {
        let mut bytes = [0_u8; 64];
        let mut input = std::io::stdin();
        while matches!(input.read(&mut bytes), Ok(read) if read > 0) {}
        // The receiver is alive as long as `serve` waits for it.
        let _ = stop.send(true);
    });

    let mut connections = JoinSet::new();
    let mut told = stopped.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                connections.spawn(connection(stream, service.clone(), stopped.clone()));
            }
            Some(_) = connections.join_next() => {}
            _ = told.changed() => break,
        }
    }
    drop(listener);
    let all_answered = async { while connections.join_next().await.is_some() {} };
    // Past the time-out the process ends with requests in flight, as a container is killed; the balancer counts them.
    let _ = tokio::time::timeout(STOP_TIMEOUT, all_answered).await;
    Ok(())
}

/// One connection, until the other side closes it or the task stops: then until its request is answered.
async fn connection(stream: TcpStream, service: Arc<Service>, mut stopped: watch::Receiver<bool>) {
    let answer = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(&request).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let told = async { stopped.wait_for(|stop| *stop).await.is_ok() };
    tokio::select! {
        // A connection that breaks is the other side's affair: it knows, and counts it.
        _ = connection.as_mut() => {}
        _ = told => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

impl Service {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let status = if request.uri().path() == "/health" {
            StatusCode::OK
        } else {
            let number = self.requests.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(if number % SLOW_EVERY == SLOW_EVERY - 1 { SLOW_WORK } else { WORK }).await;
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

/// Whether request `number` (from 0) is one of the failing ones: spread evenly, exactly `percent` of every hundred.
fn fails(number: u64, percent: u64) -> bool {
    (number + 1) * percent / 100 > number * percent / 100
}

#[cfg(test)]
mod tests {
    use super::fails;

    #[test]
    fn the_share_of_failures_is_exact_and_spread() {
        for percent in [0, 1, 40, 100] {
            assert_eq!((0..100).filter(|number| fails(*number, percent)).count() as u64, percent);
        }
        assert!((0..10).any(|number| fails(number, 40)), "the first ten requests already show it");
    }
}
