//! Takes connections, and one request at a time through the same steps: route, admit, fault, do, answer, log.

use super::clock::DrivenClock;
use super::faults::{self, FaultKind, FaultList};
use super::functions::{self, Closures};
use super::interceptor::CallInterceptor;
use super::log::{Answer, Call, Log};
use super::protocol::AwsError;
use super::route::{self, RequestRoute, header};
use super::{Options, proxy, services};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rollout::Timestamp;
use simulation::world::{Invoked, World, WorldEvent};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How often the world is taken ahead where nobody calls.
const TICK: Duration = Duration::from_millis(50);

/// The world with its clock and the events that it has emitted.
#[derive(Debug)]
pub(super) struct DrivenWorld {
    pub(super) world: World,
    clock: DrivenClock,
    events: Vec<WorldEvent>,
}

/// What tests set.
#[derive(Debug)]
pub(super) struct FrontSettings {
    pub(super) latency: Duration,
    pub(super) upstream: Option<SocketAddr>,
    pub(super) faults: FaultList,
    pub(super) functions: Closures,
    pub(super) interceptor: Option<Arc<dyn CallInterceptor>>,
    pub(super) anomalies: Vec<String>,
}

/// Everything that connections share.
#[derive(Debug)]
pub(super) struct FrontState {
    driven_world: Mutex<DrivenWorld>,
    settings: Mutex<FrontSettings>,
    log: Mutex<Log>,
    started: Instant,
    event_count: watch::Sender<usize>,
    stopped: watch::Receiver<bool>,
}

/// Instead of an answer, the connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut on purpose")]
struct Disconnected;

impl FrontState {
    pub(super) fn new(world: World, options: &Options, stopped: watch::Receiver<bool>) -> Self {
        let clock = DrivenClock::new(world.now(), options.speed);
        Self {
            driven_world: Mutex::new(DrivenWorld { world, clock, events: Vec::new() }),
            settings: Mutex::new(FrontSettings {
                latency: options.latency,
                upstream: options.upstream,
                faults: FaultList::default(),
                functions: Closures::default(),
                interceptor: None,
                anomalies: Vec::new(),
            }),
            log: Mutex::new(Log::default()),
            started: Instant::now(),
            event_count: watch::Sender::new(0),
            stopped,
        }
    }

    pub(super) fn settings(&self) -> MutexGuard<'_, FrontSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The world, taken ahead to its driven time.
    pub(super) fn world_now(&self) -> MutexGuard<'_, DrivenWorld> {
        // A test that panicked while it held the world has failed; the others may go on.
        let mut driven_world = self.driven_world.lock().unwrap_or_else(PoisonError::into_inner);
        let now = driven_world.clock.now();
        driven_world.world.advance_to(now);
        self.gather_events(&mut driven_world);
        driven_world
    }

    /// Takes the events that the world has emitted to where the streams read them.
    fn gather_events(&self, driven_world: &mut DrivenWorld) {
        let new_events = driven_world.world.drain_events();
        if !new_events.is_empty() {
            driven_world.events.extend(new_events);
            self.event_count.send_replace(driven_world.events.len());
        }
    }

    pub(super) fn drive(&self, change: impl FnOnce(&mut DrivenClock)) {
        change(&mut self.world_now().clock);
        drop(self.world_now());
    }

    pub(super) fn now(&self) -> Timestamp {
        self.world_now().world.now()
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn event_count(&self) -> watch::Receiver<usize> {
        self.event_count.subscribe()
    }

    pub(super) fn event(&self, index: usize) -> Option<WorldEvent> {
        self.world_now().events.get(index).cloned()
    }

    /// Done when the front has stopped.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopped = self.stopped.clone();
        async move {
            // An error means that the front is gone: that is stopped, too.
            let _gone = stopped.wait_for(|stopped| *stopped).await;
        }
    }

    fn report_anomaly(&self, sentence: String) {
        // Loud: a test that fails for it shows this line.
        eprintln!("wire front: {sentence}");
        self.settings().anomalies.push(sentence);
    }
}

/// Takes the world ahead until the front stops.
pub(super) async fn tick(shared: Arc<FrontState>) {
    let stopped = shared.stopped();
    let ticking = async {
        loop {
            tokio::time::sleep(TICK).await;
            drop(shared.world_now());
        }
    };
    tokio::select! { () = stopped => {}, () = ticking => {} }
}

/// Takes connections until the front stops.
pub(super) async fn listen(shared: Arc<FrontState>, listener: TcpListener) {
    let stopped = shared.stopped();
    let listening = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(connection(Arc::clone(&shared), stream));
                }
                // Out of file handles, most likely: there will be some.
                Err(error) => {
                    shared.report_anomaly(format!("no connection could be taken: {error}"));
                    tokio::time::sleep(TICK).await;
                }
            }
        }
    };
    tokio::select! { () = stopped => {}, () = listening => {} }
}

async fn connection(shared: Arc<FrontState>, stream: TcpStream) {
    // Small answers leave at once: a test that counts milliseconds sees the service's, not the kernel's.
    let _unimportant = stream.set_nodelay(true);
    let stopped = shared.stopped();
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move {
            // A task of its own: what a caller gave up waiting for is done all the same, as on AWS.
            tokio::spawn(exchange(shared, request)).await.unwrap_or(Err(Disconnected))
        }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(stream), service);
    // An error is a connection that was cut, by the caller or on purpose.
    tokio::select! { () = stopped => {}, _ended = serving => {} }
}

async fn exchange(shared: Arc<FrontState>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Disconnected> {
    let (head, body) = request.into_parts();
    // Half a request is no call.
    let body = body.collect().await.map_err(|_| Disconnected)?.to_bytes();
    let route = route::route(&head, &body);
    let fault_kind = shared.settings().faults.next(&route.service, &route.operation);
    let interceptor = shared.settings().interceptor.clone();
    let (number, fault_kind) = begin(&shared, &route, &head, &body, fault_kind, interceptor.as_deref());
    let (response, answer) = tokio::select! {
        () = shared.stopped() => (Err(Disconnected), Answer::Disconnected),
        served = serve(&shared, &route, head, body, fault_kind, number) => served,
    };
    let ended = shared.log().end(number, shared.elapsed(), answer);
    if let (Some(interceptor), Some(call)) = (interceptor, ended) {
        interceptor.after(&call);
    }
    response
}

/// Notes the call down: its number, and what befalls it.
fn begin(
    shared: &FrontState,
    route: &RequestRoute,
    head: &Parts,
    body: &Bytes,
    fault_kind: Option<FaultKind>,
    interceptor: Option<&dyn CallInterceptor>,
) -> (u64, Option<FaultKind>) {
    let parameters = match &route.function {
        Some(name) => functions::parameters(name, &functions::payload(body).unwrap_or_default()),
        None => route.protocol.decode(body).unwrap_or_default(),
    };
    let attempt = header(&head.headers, "amz-sdk-request")
        .and_then(|value| value.split(';').find_map(|part| part.trim().strip_prefix("attempt=")))
        .and_then(|attempt| attempt.parse().ok())
        .unwrap_or(1);
    let at = shared.now();
    let started = shared.elapsed();
    let call = Call {
        number: 0,
        service: route.service.clone(),
        operation: route.operation.clone(),
        access_key: route::access_key(&head.headers).unwrap_or_default(),
        parameters,
        attempt,
        started,
        ended: None,
        at,
        answer: Answer::Pending,
        fault_kind,
    };
    // The guard hears of calls in the order of their numbers.
    let mut log = shared.log();
    let call = Call { number: log.next_number(), ..call };
    let fault_kind = interceptor.and_then(|interceptor| interceptor.before(&call)).or_else(|| call.fault_kind.clone());
    (log.begin(Call { fault_kind: fault_kind.clone(), ..call }), fault_kind)
}

type Served = (Result<Response<Full<Bytes>>, Disconnected>, Answer);

async fn serve(
    shared: &FrontState,
    route: &RequestRoute,
    head: Parts,
    body: Bytes,
    fault_kind: Option<FaultKind>,
    number: u64,
) -> Served {
    let request_id = format!("00000000-0000-4000-8000-{number:012x}");
    let refuse = |refusal: AwsError| {
        let answer = Answer::Refused {
            status: refusal.status,
            code: refusal.code.rsplit('#').next().unwrap_or_default().to_owned(),
            message: refusal.message.clone(),
        };
        (Ok(route.protocol.refused(&refusal, &request_id)), answer)
    };
    let latency = shared.settings().latency;
    tokio::time::sleep(latency).await;
    match &fault_kind {
        None | Some(FaultKind::ApplyThenDisconnect) => {}
        Some(FaultKind::Delay(by)) => tokio::time::sleep(*by).await,
        Some(FaultKind::DisconnectBefore) => return (Err(Disconnected), Answer::Disconnected),
        Some(FaultKind::Throttle) => return refuse(faults::throttled(&route.service)),
        Some(FaultKind::InternalError) => return refuse(faults::internal_error(&route.service)),
        Some(FaultKind::Deny) => return refuse(faults::denied(&route.service, &route.operation)),
        Some(FaultKind::Refuse(refusal)) => return refuse(refusal.clone()),
    }
    let served = match emulated(shared, route, &head, &body, &request_id).await {
        EmulatedResult::Answered(response) => {
            let status = response.status().as_u16();
            (Ok(response), Answer::Done { status })
        }
        EmulatedResult::Refused(refusal) => refuse(refusal),
        EmulatedResult::Unknown(refusal) => {
            shared.report_anomaly(format!("{} {} is not spoken here", route.service, route.operation));
            refuse(refusal)
        }
        EmulatedResult::Forwarded(upstream) => forward_upstream(shared, route, upstream, head, body).await,
    };
    match fault_kind {
        Some(FaultKind::ApplyThenDisconnect) => (Err(Disconnected), Answer::Disconnected),
        _ => served,
    }
}

/// What the front itself makes of a request.
enum EmulatedResult {
    Answered(Response<Full<Bytes>>),
    Refused(AwsError),
    Unknown(AwsError),
    Forwarded(SocketAddr),
}

async fn emulated(
    shared: &FrontState,
    route: &RequestRoute,
    head: &Parts,
    body: &Bytes,
    request_id: &str,
) -> EmulatedResult {
    let upstream = shared.settings().upstream;
    let interceptor = shared.settings().interceptor.clone();
    if let (false, Some(interceptor)) = (route.emulated, interceptor) {
        let parameters = route.protocol.decode(body).unwrap_or_default();
        match interceptor.serve(&route.service, &route.operation, &parameters) {
            Some(Ok(result)) => {
                return EmulatedResult::Answered(route.protocol.success(&route.operation, &result, request_id));
            }
            Some(Err(refusal)) => return EmulatedResult::Refused(refusal),
            None => {}
        }
    }
    if let (false, Some(upstream)) = (route.emulated, upstream) {
        return EmulatedResult::Forwarded(upstream);
    }
    if let Err(refusal) = route::check_signature(route, &head.headers) {
        return EmulatedResult::Refused(refusal);
    }
    match &route.function {
        Some(name) => match invoke(shared, name, head, body).await {
            // Another service's function, if there is another service.
            Err(refusal) if refusal.code == "ResourceNotFoundException" => match upstream {
                Some(upstream) => EmulatedResult::Forwarded(upstream),
                None => EmulatedResult::Refused(refusal),
            },
            Err(refusal) => EmulatedResult::Refused(refusal),
            Ok(response) => EmulatedResult::Answered(response),
        },
        None => {
            let input = match route.protocol.decode(body) {
                Ok(input) => input,
                Err(refusal) => return EmulatedResult::Refused(refusal),
            };
            let mut driven_world = shared.world_now();
            let done = services::perform(&mut driven_world.world, route, &input);
            shared.gather_events(&mut driven_world);
            match done {
                None => EmulatedResult::Unknown(services::unknown_operation(route)),
                Some(Err(refusal)) => EmulatedResult::Refused(refusal),
                Some(Ok(result)) => {
                    EmulatedResult::Answered(route.protocol.success(&route.operation, &result, request_id))
                }
            }
        }
    }
}

async fn invoke(
    shared: &FrontState,
    name: &str,
    head: &Parts,
    body: &Bytes,
) -> Result<Response<Full<Bytes>>, AwsError> {
    let payload = functions::payload(body)?;
    let closure = shared.settings().functions.get(name);
    let invoked = match closure {
        Some(function) => function(&payload),
        None => functions::invoke(&mut shared.world_now().world, name, &payload)?,
    };
    let answer = |status: u16, error: bool, body: Vec<u8>| {
        let mut builder = Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .header("x-amz-executed-version", "$LATEST");
        if error {
            builder = builder.header("x-amz-function-error", "Unhandled");
        }
        builder.body(Full::new(Bytes::from(body))).expect("names and values of headers are made here")
    };
    match header(&head.headers, "x-amz-invocation-type") {
        Some("Event") => return Ok(answer(202, false, Vec::new())),
        Some("DryRun") => return Ok(answer(204, false, Vec::new())),
        _ => {}
    }
    Ok(match invoked {
        Invoked::Answered(result) => answer(200, false, result.to_string().into_bytes()),
        Invoked::FunctionError(error) => answer(200, true, error.to_string().into_bytes()),
        Invoked::NoAnswer => std::future::pending().await,
    })
}

async fn forward_upstream(
    shared: &FrontState,
    route: &RequestRoute,
    upstream: SocketAddr,
    head: Parts,
    body: Bytes,
) -> Served {
    match proxy::forward(upstream, head, body).await {
        Ok(response) => {
            let status = response.status().as_u16();
            let answer = if status < 400 {
                Answer::Done { status }
            } else {
                let (code, message) = proxy::error_of(&response, route.protocol).await;
                Answer::Refused { status, code, message }
            };
            (Ok(response), answer)
        }
        Err(reason) => {
            shared.report_anomaly(format!("{} {} could not be passed on: {reason}", route.service, route.operation));
            (Err(Disconnected), Answer::Disconnected)
        }
    }
}
