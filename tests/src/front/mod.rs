//! The wire front: an HTTP server over [`simulation::world::World`] that speaks ECS, ELBv2, CloudWatch, Application Auto Scaling
//! and Lambda's `Invoke` as the Rust SDKs do, keeps a log of every call, and makes calls go wrong on demand.
//!
//! What is another service's (DynamoDB, SQS, ECR) is passed on byte for byte to an upstream, and logged as well, so that
//! one log shows everything that a process asked of AWS. What nobody here speaks is refused with the protocol's own
//! "unknown operation", and kept in [`Front::anomalies`].
//!
//! Point a process at it with `AWS_ENDPOINT_URL` (everything) or `AWS_ENDPOINT_URL_<SERVICE>`.
//!
//! | module | what it has |
//! |---|---|
//! | [`route`] | which service and operation a request is for |
//! | [`protocol`] | awsJson, awsQuery, RPC v2 CBOR: bodies read and written, errors in each one's shape |
//! | `services` | the operations, each a function from a tree to a tree over the world |
//! | [`faults`] | what shall go wrong, and when |
//! | [`interceptor`] | whoever has to be in the middle of a call |
//! | [`log`] | what was called, and the longest chain of sequential calls |
//! | `proxy` | what is passed on |

mod clock;
pub mod faults;
mod functions;
pub mod interceptor;
pub mod log;
pub mod protocol;
mod proxy;
pub mod route;
mod server;
mod services;

pub use faults::{Fault, FaultKind};
pub use functions::Function;
pub use interceptor::CallInterceptor;
pub use log::{Answer, Call, Log};
pub use protocol::AwsError;

use rollout::Timestamp;
use serde_json::Value;
use server::FrontState;
use simulation::world::{Invoked, World, WorldEvent};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

/// How a front is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Seconds of the world for each second of the wall's; 0: the world stands still until it is skipped ahead.
    pub speed: f64,
    /// Wall time that every call takes at least.
    pub latency: Duration,
    /// Where requests go that are not the front's own; none: they are refused.
    pub upstream: Option<SocketAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self { speed: 1.0, latency: Duration::ZERO, upstream: None }
    }
}

/// A running front. Dropping it stops it.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    shared: Arc<FrontState>,
    stop: watch::Sender<bool>,
}

impl Front {
    /// Listens on a port of 127.0.0.1 that the operating system picks, and serves `world` from then on.
    /// Needs a Tokio runtime with I/O and time; serves for as long as that runs.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start(world: World, options: Options) -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(FrontState::new(world, &options, stopped));
        tokio::spawn(server::listen(Arc::clone(&shared), listener));
        tokio::spawn(server::tick(Arc::clone(&shared)));
        Ok(Self { address, shared, stop })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The world, brought up to now. Calls wait while this is held: do not hold it across an await.
    pub fn world(&self) -> WorldGuard<'_> {
        WorldGuard(self.shared.world_now())
    }

    /// The world's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// Wall time since the start: what the log's times are.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.elapsed()
    }

    /// Lets the world run at another speed from here on; 0: it stands still.
    pub fn set_speed(&self, speed: f64) {
        self.shared.drive(|clock| clock.set_speed(speed));
    }

    /// Takes the world ahead by this much of its own time, at once.
    pub fn skip(&self, world_time: Duration) {
        self.shared.drive(|clock| clock.skip(world_time));
    }

    /// Every call takes at least this much wall time from here on.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.settings().latency = latency;
    }

    /// Requests that are not the front's own go there from here on.
    pub fn set_upstream(&self, upstream: Option<SocketAddr>) {
        self.shared.settings().upstream = upstream;
    }

    /// Puts a function there as a closure; it goes before a function of the world of the same name.
    pub fn put_function(&self, name: &str, function: impl Fn(&Value) -> Invoked + Send + Sync + 'static) {
        self.shared.settings().functions.insert(name, Arc::new(function));
    }

    /// From here on `interceptor` stands at the door.
    pub fn set_interceptor(&self, interceptor: Arc<dyn CallInterceptor>) {
        self.shared.settings().interceptor = Some(interceptor);
    }

    /// Adds a fault.
    pub fn fault(&self, fault: Fault) {
        self.shared.settings().faults.add(fault);
    }

    /// Takes all faults away.
    pub fn clear_faults(&self) {
        self.shared.settings().faults.clear();
    }

    /// The log so far.
    #[must_use]
    pub fn log(&self) -> Log {
        self.shared.log().clone()
    }

    /// Requests that nobody here speaks: each a sentence. A scenario's test asserts that there are none.
    #[must_use]
    pub fn anomalies(&self) -> Vec<String> {
        self.shared.settings().anomalies.clone()
    }

    /// What happens in the world, from its beginning: every stream has every event, in order.
    #[must_use]
    pub fn events(&self) -> Events {
        Events { shared: Arc::clone(&self.shared), news: self.shared.event_count(), next: 0 }
    }

    /// Stops serving: open connections are closed, calls that wait are given up.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The world, held.
#[derive(Debug)]
pub struct WorldGuard<'a>(MutexGuard<'a, server::DrivenWorld>);

impl Deref for WorldGuard<'_> {
    type Target = World;
    fn deref(&self) -> &World {
        &self.0.world
    }
}

impl DerefMut for WorldGuard<'_> {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.0.world
    }
}

/// A stream of everything that happens in the world.
#[derive(Debug)]
pub struct Events {
    shared: Arc<FrontState>,
    news: watch::Receiver<usize>,
    next: usize,
}

impl Events {
    /// The next event; waits for it. None when the front has stopped.
    pub async fn next(&mut self) -> Option<WorldEvent> {
        loop {
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            let stopped = self.shared.stopped();
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                () = stopped => return None,
            }
        }
    }

    /// The next event if it has happened.
    pub fn try_next(&mut self) -> Option<WorldEvent> {
        let event = self.shared.event(self.next)?;
        self.next += 1;
        Some(event)
    }
}
