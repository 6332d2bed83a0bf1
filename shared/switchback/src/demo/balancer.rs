//! The demo's load balancer: a weighted HTTP reverse proxy over real sockets.
//!
//! Where a request goes is the world's to say: by the weights that one of the balancer's nodes follows (nodes take
//! turns, and do not all learn of new weights at the same moment), then to that group's healthy targets in turn. It is
//! sent **once**: nothing is ever tried a second time, so every request that a shift could lose is seen by its client.
//! As an Application Load Balancer does, it answers 503 where there is no target, 502 where a target breaks off and
//! 504 where it is silent.
//!
//! A target leaves in order: the world names it no more, then [`Balancer::drained`] waits for what is in flight.

use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rollout::{EcsPair, Slot, Timestamp};
use simulation::world::{ResponseKind, Route, World};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// The header by which the balancer owns up to an answer of its own.
pub(crate) const MADE_BY_BALANCER: &str = "x-made-by-balancer";

/// A target that has not begun its answer by then is silent: 504.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// Headers that belong to one connection and are not passed on (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

type Answer = Response<UnsyncBoxBody<Bytes, hyper::Error>>;

#[derive(Debug, Default)]
struct InFlight {
    count: AtomicUsize,
    none_left: Notify,
}

/// Counts one request for as long as it lives.
struct Flight(Arc<InFlight>);

impl Flight {
    fn begin(of: &Arc<InFlight>) -> Self {
        of.count.fetch_add(1, Ordering::AcqRel);
        Self(of.clone())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}

/// The balancer.
pub(crate) struct Balancer {
    world: Arc<Mutex<World>>,
    pair: EcsPair,
    rule: String,
    requests: AtomicU64,
    targets: Mutex<BTreeMap<SocketAddr, Arc<InFlight>>>,
    /// Milliseconds since 1970 of the last request that was sent to blue, and to green; 0: none.
    last_sent: [AtomicI64; 2],
    client: Client<HttpConnector, Incoming>,
    own_answers: AtomicU64,
}

impl Balancer {
    /// The balancer of the pair's first rule, with the targets and weights that `world` has.
    pub(crate) fn new(world: Arc<Mutex<World>>, pair: EcsPair) -> Arc<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(2)));
        let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build(connector);
        let rule = pair.rules.first().cloned().unwrap_or_default();
        Arc::new(Self {
            world,
            pair,
            rule,
            requests: AtomicU64::new(0),
            targets: Mutex::default(),
            last_sent: [AtomicI64::new(0), AtomicI64::new(0)],
            client,
            own_answers: AtomicU64::new(0),
        })
    }

    /// Serves connections for ever.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            // An error is the one connection's (reset before it was accepted) or want of descriptors, which passes.
            match listener.accept().await {
                Ok((stream, peer)) => drop(tokio::spawn(self.clone().connection(stream, peer))),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        // Without it small answers wait for the other side's delayed acknowledgement; it is only a matter of speed.
        let _ = stream.set_nodelay(true);
        let answer = service_fn(move |request| {
            let balancer = self.clone();
            async move { Ok::<_, Infallible>(balancer.forward(request, peer).await) }
        });
        // A connection that breaks is the client's affair: it knows, and counts it.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
    }

    /// Waits until nothing is in flight to a target that the world names no more, at the latest for `patience`.
    pub(crate) async fn drained(&self, target: SocketAddr, patience: Duration) {
        let Some(in_flight) = lock(&self.targets).get(&target).cloned() else { return };
        let empty = async {
            loop {
                let none_left = in_flight.none_left.notified();
                let mut none_left = std::pin::pin!(none_left);
                // Listening begins before the look, so that the last one's end is not missed in between.
                none_left.as_mut().enable();
                if in_flight.count.load(Ordering::Acquire) == 0 {
                    break;
                }
                none_left.await;
            }
        };
        // Past the deregistration delay a balancer cuts off what is left; its clients see that, and count it.
        let _ = tokio::time::timeout(patience, empty).await;
        lock(&self.targets).remove(&target);
    }

    /// When the last request was sent to the side in `slot`.
    pub(crate) fn last_sent(&self, slot: Slot) -> Option<Timestamp> {
        let milliseconds = self.last_sent[index(slot)].load(Ordering::Relaxed);
        Timestamp::from_millisecond(milliseconds).ok().filter(|_| milliseconds > 0)
    }

    /// Answers that the balancer had to make itself: 502, 503, 504.
    pub(crate) fn own_answers(&self) -> u64 {
        self.own_answers.load(Ordering::Relaxed)
    }

    async fn forward(&self, mut request: Request<Incoming>, peer: SocketAddr) -> Answer {
        let Some((slot, address, flight)) = self.pick() else {
            return self.own(StatusCode::SERVICE_UNAVAILABLE, "there is no target");
        };
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let Ok(uri) = Uri::builder().scheme("http").authority(address.to_string()).path_and_query(path).build() else {
            return self.own(StatusCode::BAD_REQUEST, "the request names no path");
        };
        *request.uri_mut() = uri;
        without_hop_by_hop(request.headers_mut());
        if let Ok(from) = HeaderValue::from_str(&peer.ip().to_string()) {
            request.headers_mut().append("x-forwarded-for", from);
        }
        let sent = Instant::now();
        match tokio::time::timeout(ANSWER_TIMEOUT, self.client.request(request)).await {
            Ok(Ok(mut response)) => {
                let kind = ResponseKind::Status(response.status().as_u16());
                let group = &self.pair.side(slot).target_group;
                lock(&self.world).record_response(group, kind, sent.elapsed().as_secs_f64());
                without_hop_by_hop(response.headers_mut());
                response.map(|body| Counted { body, _flight: flight }.boxed_unsync())
            }
            Ok(Err(error)) => {
                let error = anyhow::Error::new(error);
                self.own(StatusCode::BAD_GATEWAY, &format!("{slot} target {address}: {error:#}"))
            }
            Err(_) => self.own(StatusCode::GATEWAY_TIMEOUT, &format!("{slot} target {address} is silent")),
        }
    }

    /// Where the next request goes, counted as in flight before the world can change again.
    fn pick(&self) -> Option<(Slot, SocketAddr, Flight)> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let world = lock(&self.world);
        let Route::To { target_group, target } = world.route(&self.rule, number) else { return None };
        let slot = if target_group == self.pair.blue.target_group { Slot::Blue } else { Slot::Green };
        let address = SocketAddr::new(target.id.parse().ok()?, target.port);
        let flight = Flight::begin(lock(&self.targets).entry(address).or_default());
        self.last_sent[index(slot)].store(world.now().as_millisecond(), Ordering::Relaxed);
        Some((slot, address, flight))
    }

    fn own(&self, status: StatusCode, why: &str) -> Answer {
        self.own_answers.fetch_add(1, Ordering::Relaxed);
        let text = format!("{why}\n");
        let mut response = Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = status;
        response.headers_mut().insert(MADE_BY_BALANCER, HeaderValue::from_static("1"));
        response
    }
}

fn index(slot: Slot) -> usize {
    match slot {
        Slot::Blue => 0,
        Slot::Green => 1,
    }
}

fn without_hop_by_hop(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// A target's answer on its way to the client; its request is in flight until the last byte has passed.
struct Counted {
    body: Incoming,
    _flight: Flight,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic inside would be a bug there; what is held is still what it was.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn draining_waits_for_what_is_in_flight_and_no_longer_than_its_patience() {
        let balancer = Balancer::new(Arc::new(Mutex::new(World::new(Default::default()))), pair());
        let target = SocketAddr::from(([127, 0, 0, 1], 1));
        let begin = || Flight::begin(lock(&balancer.targets).entry(target).or_default());
        let (first, second) = (begin(), begin());
        let other = balancer.clone();
        let drain = tokio::spawn(async move { other.drained(target, Duration::from_secs(3600)).await });
        drop(first);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert!(!drain.is_finished(), "a request is in flight");
        drop(second);
        drain.await.expect("nothing is in flight any more");

        let _for_ever = begin();
        balancer.drained(target, Duration::from_millis(1)).await;
        assert!(lock(&balancer.targets).is_empty(), "a request that never ends is cut off");
    }

    fn pair() -> EcsPair {
        let side = |name: &str| rollout::policy::Side { service: name.to_owned(), target_group: name.to_owned() };
        EcsPair {
            cluster: "shop".to_owned(),
            container: "api".to_owned(),
            blue: side("blue"),
            green: side("green"),
            rules: vec!["rule".to_owned()],
            test_rule: None,
        }
    }
}
