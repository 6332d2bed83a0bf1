//! The demo's clients: real requests over real sockets, at a constant rate whatever the responses are.
//!
//! The rate does not depend on responses (an "open" load): a balancer that stalls receives more requests, not fewer.

use super::balancer::MADE_BY_BALANCER;
use super::tally::{RequestOutcome, Tally};
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

/// Client time-out for a complete response; a request that exceeds it is counted as lost.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval between bursts of requests.
const BURST_INTERVAL: Duration = Duration::from_millis(10);

/// Sends `rate` requests a second to `balancer` until `stop` is true, then waits for the outstanding responses.
pub(crate) async fn send(balancer: SocketAddr, rate: u32, tally: Arc<Tally>, mut stop: watch::Receiver<bool>) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build(connector);
    let Ok(uri) = Uri::builder().scheme("http").authority(balancer.to_string()).path_and_query("/").build() else {
        return;
    };
    let mut bursts = tokio::time::interval(BURST_INTERVAL);
    // Bursts delayed by a busy machine are sent late, not skipped.
    bursts.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut due = 0_u64;
    let mut in_flight = JoinSet::new();
    let per_burst = u64::from(rate) * u64::try_from(BURST_INTERVAL.as_micros()).unwrap_or(0);
    loop {
        tokio::select! {
            _ = bursts.tick() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        // In millionths of a request, so that any rate is exact.
        due += per_burst;
        while due >= 1_000_000 {
            due -= 1_000_000;
            let (client, uri, tally) = (client.clone(), uri.clone(), tally.clone());
            in_flight.spawn(async move { tally.record(&send_request(&client, uri).await) });
        }
        while in_flight.try_join_next().is_some() {}
    }
    while in_flight.join_next().await.is_some() {}
}

async fn send_request(client: &Client<HttpConnector, Empty<Bytes>>, uri: Uri) -> RequestOutcome {
    match tokio::time::timeout(CLIENT_TIMEOUT, async {
        let response = client.get(uri).await.map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
        read_response(response).await
    })
    .await
    {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(why)) => RequestOutcome::NoAnswer(why),
        Err(_) => RequestOutcome::NoAnswer(format!("no answer within {CLIENT_TIMEOUT:?}")),
    }
}

/// Reads a response completely; one that breaks off counts as none.
async fn read_response(response: Response<Incoming>) -> Result<RequestOutcome, String> {
    let status = response.status().as_u16();
    let by_balancer = response.headers().contains_key(MADE_BY_BALANCER);
    let release = response.headers().get(RELEASE_HEADER).and_then(|release| release.to_str().ok()).map(str::to_owned);
    let body = response.into_body().collect().await.map_err(|error| format!("the answer broke off: {error}"))?;
    match release {
        Some(release) if !by_balancer => Ok(RequestOutcome::Answer { release, status }),
        _ => {
            let body = body.to_bytes();
            Ok(RequestOutcome::NoAnswer(format!(
                "the balancer answered {status}: {}",
                String::from_utf8_lossy(&body).trim_end()
            )))
        }
    }
}
