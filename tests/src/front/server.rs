//! Takes connections, and one request at a time through the same steps: route, admit, fault, do, answer, log.

use super::clock::DrivenClock;
use super::faults::{self, Faults, Harm};
use super::functions::{self, Closures};
use super::guard::Guard;
use super::log::{Answer, Call, Log};
use super::protocol::Refusal;
use super::route::{self, Route, header};
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

/// The world with its clock and what it has told.
#[derive(Debug)]
pub(super) struct Worldly {
    pub(super) world: World,
    clock: DrivenClock,
    events: Vec<WorldEvent>,
}

/// What tests set.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) latency: Duration,
    pub(super) upstream: Option<SocketAddr>,
    pub(super) faults: Faults,
    pub(super) functions: Closures,
    pub(super) guard: Option<Arc<dyn Guard>>,
    pub(super) surprises: Vec<String>,
}

/// Everything that connections share.
#[derive(Debug)]
pub(super) struct Shared {
    worldly: Mutex<Worldly>,
    settings: Mutex<Settings>,
    log: Mutex<Log>,
    started: Instant,
    event_count: watch::Sender<usize>,
    stopped: watch::Receiver<bool>,
}

/// Instead of an answer, the connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut on purpose")]
struct Cut;

impl Shared {
    pub(super) fn new(world: World, options: &Options, stopped: watch::Receiver<bool>) -> Self {
        let clock = DrivenClock::new(world.now(), options.speed);
        Self {
            worldly: Mutex::new(Worldly { world, clock, events: Vec::new() }),
            settings: Mutex::new(Settings {
                latency: options.latency,
                upstream: options.upstream,
                faults: Faults::default(),
                functions: Closures::default(),
                guard: None,
                surprises: Vec::new(),
            }),
            log: Mutex::new(Log::default()),
            started: Instant::now(),
            event_count: watch::Sender::new(0),
            stopped,
        }
    }

    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The world, taken ahead to its driven time.
    pub(super) fn world_now(&self) -> MutexGuard<'_, Worldly> {
        // A test that panicked while it held the world has failed; the others may go on.
        let mut worldly = self.worldly.lock().unwrap_or_else(PoisonError::into_inner);
        let now = worldly.clock.now();
        worldly.world.advance_to(now);
        self.gather_events(&mut worldly);
        worldly
    }

    /// Takes what the world has told to where the streams read it.
    fn gather_events(&self, worldly: &mut Worldly) {
        let told = worldly.world.drain_events();
        if !told.is_empty() {
            worldly.events.extend(told);
            self.event_count.send_replace(worldly.events.len());
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

    fn surprise(&self, sentence: String) {
        // Loud: a test that fails for it shows this line.
        eprintln!("wire front: {sentence}");
        self.settings().surprises.push(sentence);
    }
}

/// Takes the world ahead until the front stops.
pub(super) async fn tick(shared: Arc<Shared>) {
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
pub(super) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let stopped = shared.stopped();
    let listening = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(connection(Arc::clone(&shared), stream));
                }
                // Out of file handles, most likely: there will be some.
                Err(error) => {
                    shared.surprise(format!("no connection could be taken: {error}"));
                    tokio::time::sleep(TICK).await;
                }
            }
        }
    };
    tokio::select! { () = stopped => {}, () = listening => {} }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    // Small answers leave at once: a test that counts milliseconds sees the service's, not the kernel's.
    let _unimportant = stream.set_nodelay(true);
    let stopped = shared.stopped();
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move {
            // A task of its own: what a caller gave up waiting for is done all the same, as on AWS.
            tokio::spawn(exchange(shared, request)).await.unwrap_or(Err(Cut))
        }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(stream), service);
    // An error is a connection that was cut, by the caller or on purpose.
    tokio::select! { () = stopped => {}, _ended = serving => {} }
}

async fn exchange(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
    let (head, body) = request.into_parts();
    // Half a request is no call.
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let route = route::route(&head, &body);
    let harm = shared.settings().faults.next(&route.service, &route.operation);
    let guard = shared.settings().guard.clone();
    let (number, harm) = begin(&shared, &route, &head, &body, harm, guard.as_deref());
    let (response, answer) = tokio::select! {
        () = shared.stopped() => (Err(Cut), Answer::Cut),
        served = serve(&shared, &route, head, body, harm, number) => served,
    };
    let ended = shared.log().end(number, shared.elapsed(), answer);
    if let (Some(guard), Some(call)) = (guard, ended) {
        guard.after(&call);
    }
    response
}

/// Notes the call down: its number, and what befalls it.
fn begin(
    shared: &Shared,
    route: &Route,
    head: &Parts,
    body: &Bytes,
    harm: Option<Harm>,
    guard: Option<&dyn Guard>,
) -> (u64, Option<Harm>) {
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
        harm,
    };
    // The guard hears of calls in the order of their numbers.
    let mut log = shared.log();
    let call = Call { number: log.next_number(), ..call };
    let harm = guard.and_then(|guard| guard.before(&call)).or_else(|| call.harm.clone());
    (log.begin(Call { harm: harm.clone(), ..call }), harm)
}

type Served = (Result<Response<Full<Bytes>>, Cut>, Answer);

async fn serve(shared: &Shared, route: &Route, head: Parts, body: Bytes, harm: Option<Harm>, number: u64) -> Served {
    let request_id = format!("00000000-0000-4000-8000-{number:012x}");
    let refuse = |refusal: Refusal| {
        let answer = Answer::Refused {
            status: refusal.status,
            code: refusal.code.rsplit('#').next().unwrap_or_default().to_owned(),
            message: refusal.message.clone(),
        };
        (Ok(route.protocol.refused(&refusal, &request_id)), answer)
    };
    let latency = shared.settings().latency;
    tokio::time::sleep(latency).await;
    match &harm {
        None | Some(Harm::ApplyThenCut) => {}
        Some(Harm::Delay(by)) => tokio::time::sleep(*by).await,
        Some(Harm::DropBefore) => return (Err(Cut), Answer::Cut),
        Some(Harm::Throttle) => return refuse(faults::throttled(&route.service)),
        Some(Harm::InternalError) => return refuse(faults::internal_error(&route.service)),
        Some(Harm::Deny) => return refuse(faults::denied(&route.service, &route.operation)),
        Some(Harm::Refuse(refusal)) => return refuse(refusal.clone()),
    }
    let served = match own(shared, route, &head, &body, &request_id).await {
        Own::Answered(response) => {
            let status = response.status().as_u16();
            (Ok(response), Answer::Done { status })
        }
        Own::Refused(refusal) => refuse(refusal),
        Own::Unknown(refusal) => {
            shared.surprise(format!("{} {} is not spoken here", route.service, route.operation));
            refuse(refusal)
        }
        Own::Foreign(upstream) => pass_on(shared, route, upstream, head, body).await,
    };
    match harm {
        Some(Harm::ApplyThenCut) => (Err(Cut), Answer::Cut),
        _ => served,
    }
}

/// What the front itself makes of a request.
enum Own {
    Answered(Response<Full<Bytes>>),
    Refused(Refusal),
    Unknown(Refusal),
    Foreign(SocketAddr),
}

async fn own(shared: &Shared, route: &Route, head: &Parts, body: &Bytes, request_id: &str) -> Own {
    let upstream = shared.settings().upstream;
    let guard = shared.settings().guard.clone();
    if let (false, Some(guard)) = (route.own, guard) {
        let parameters = route.protocol.decode(body).unwrap_or_default();
        match guard.serve(&route.service, &route.operation, &parameters) {
            Some(Ok(result)) => {
                return Own::Answered(route.protocol.success(&route.operation, &result, request_id));
            }
            Some(Err(refusal)) => return Own::Refused(refusal),
            None => {}
        }
    }
    if let (false, Some(upstream)) = (route.own, upstream) {
        return Own::Foreign(upstream);
    }
    if let Err(refusal) = route::admit(route, &head.headers) {
        return Own::Refused(refusal);
    }
    match &route.function {
        Some(name) => match invoke(shared, name, head, body).await {
            // Another service's function, if there is another service.
            Err(refusal) if refusal.code == "ResourceNotFoundException" => match upstream {
                Some(upstream) => Own::Foreign(upstream),
                None => Own::Refused(refusal),
            },
            Err(refusal) => Own::Refused(refusal),
            Ok(response) => Own::Answered(response),
        },
        None => {
            let input = match route.protocol.decode(body) {
                Ok(input) => input,
                Err(refusal) => return Own::Refused(refusal),
            };
            let mut worldly = shared.world_now();
            let done = services::perform(&mut worldly.world, route, &input);
            shared.gather_events(&mut worldly);
            match done {
                None => Own::Unknown(services::unknown_operation(route)),
                Some(Err(refusal)) => Own::Refused(refusal),
                Some(Ok(result)) => Own::Answered(route.protocol.success(&route.operation, &result, request_id)),
            }
        }
    }
}

async fn invoke(shared: &Shared, name: &str, head: &Parts, body: &Bytes) -> Result<Response<Full<Bytes>>, Refusal> {
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

async fn pass_on(shared: &Shared, route: &Route, upstream: SocketAddr, head: Parts, body: Bytes) -> Served {
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
            shared.surprise(format!("{} {} could not be passed on: {reason}", route.service, route.operation));
            (Err(Cut), Answer::Cut)
        }
    }
}
