//! The demo's clients: real requests over real sockets, at a steady rate whatever the answers are.
//!
//! The rate does not wait for answers (an "open" load): a balancer that stalls meets more requests, not fewer.

use super::balancer::MADE_BY_BALANCER;
use super::tally::{Seen, Tally};
use super::task::RELEASE_HEADER;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// A client that has no whole answer by then gives up, and counts it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Requests are sent in small bursts this often.
const BURST_EVERY: Duration = Duration::from_millis(10);

/// Sends `rate` requests a second to `balancer` until `stop` is true, then waits for the answers still due.
pub(crate) async fn send(balancer: SocketAddr, rate: u32, tally: Arc<Tally>, mut stop: watch::Receiver<bool>) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build(connector);
    let Ok(uri) = Uri::builder().scheme("http").authority(balancer.to_string()).path_and_query("/").build() else {
        return;
    };
    let mut bursts = tokio::time::interval(BURST_EVERY);
    // On a machine that is too busy for a moment the requests of that moment are sent late, not left out.
    bursts.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut due = 0_u64;
    let mut in_flight = JoinSet::new();
    let per_burst = u64::from(rate) * u64::try_from(BURST_EVERY.as_micros()).unwrap_or(0);
    loop {
        tokio::select! {
            _ = bursts.tick() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        // Millionths of a request, so that any rate comes out exactly.
        due += per_burst;
        while due >= 1_000_000 {
            due -= 1_000_000;
            let (client, uri, tally) = (client.clone(), uri.clone(), tally.clone());
            in_flight.spawn(async move { tally.record(&ask(&client, uri).await) });
        }
        while in_flight.try_join_next().is_some() {}
    }
    while in_flight.join_next().await.is_some() {}
}

async fn ask(client: &Client<HttpConnector, Empty<Bytes>>, uri: Uri) -> Seen {
    match tokio::time::timeout(PATIENCE, async {
        let response = client.get(uri).await.map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
        whole(response).await
    })
    .await
    {
        Ok(Ok(seen)) => seen,
        Ok(Err(why)) => Seen::Nothing(why),
        Err(_) => Seen::Nothing(format!("no answer within {PATIENCE:?}")),
    }
}

/// Reads an answer to its end: one that breaks off in the middle is none.
async fn whole(response: Response<Incoming>) -> Result<Seen, String> {
    let status = response.status().as_u16();
    let by_balancer = response.headers().contains_key(MADE_BY_BALANCER);
    let release = response.headers().get(RELEASE_HEADER).and_then(|release| release.to_str().ok()).map(str::to_owned);
    let body = response.into_body().collect().await.map_err(|error| format!("the answer broke off: {error}"))?;
    match release {
        Some(release) if !by_balancer => Ok(Seen::Answer { release, status }),
        _ => {
            let body = body.to_bytes();
            Ok(Seen::Nothing(format!("the balancer answered {status}: {}", String::from_utf8_lossy(&body).trim_end())))
        }
    }
}
