//! A control plane on loopback: HTTP as API Gateway's HTTP API with its IAM authorizer, in front of the real operations
//! over a simulated world. Time is virtual, and passes only with requests: every look at a target takes some seconds.

use crate::ci::{self, Gateway};
use crate::signature;
use api::operations::Operations;
use engine::recorder::RecordingLevel;
use futures::task::noop_waker_ref;
use rollout::policy::Deadlines;
use rollout::{Actor, Instruction, Seconds, TargetId};
use serde_json::{Value, json};
use simulation::virtual_time::{Faults, Simulation};
use simulation::world::Settings;
use simulation::world::scene::{PairSetup, build_application};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll};
use std::time::Duration;

/// The seconds that pass with each look at one target.
pub(crate) const SECONDS_PER_POLL: u64 = 10;
/// What there is to be deployed to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shop {
    /// One service in one environment.
    One,
    /// Two services, in three environments.
    Three,
}

impl Shop {
    /// Services and their environments.
    pub(crate) fn targets(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let (environments, services): (&[&str], &[&str]) = match self {
            Self::One => (&["prod"], &["api"]),
            Self::Three => (&["dev", "staging", "prod"], &["api", "web"]),
        };
        environments.iter().flat_map(|environment| services.iter().map(|service| (*service, *environment)))
    }
}

type BackendChange = Box<dyn FnOnce(&mut TestBackend) + Send>;

enum Message {
    Request(TcpStream),
    Change(BackendChange),
}

/// The world, and how the gateway behaves.
pub(crate) struct TestBackend {
    pub(crate) simulation: Simulation,
    /// So many of the next requests find nobody at home: answered with that status.
    pub(crate) broken: (u32, u16),
    /// Somebody else asks for that release, after so many looks.
    pub(crate) rival: Option<(u64, u32)>,
    /// Somebody answers whatever waits for approval on shop/api/prod: who, whether they say yes, and after how
    /// many looks.
    pub(crate) reply: Option<(&'static str, bool, u32)>,
    /// What stands between GitHub's jobs and the world.
    pub(crate) gateway: Gateway,
}

/// A control plane that is up.
pub(crate) struct ControlPlane {
    /// `http://127.0.0.1:…`
    pub(crate) url: String,
    messages: Sender<Message>,
}

impl ControlPlane {
    /// Sets the scene: blue carries everything, nothing was ever deployed, the policy is version 1.
    pub(crate) fn start(shop: Shop) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (messages, inbox) = channel();
        let requests = messages.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if requests.send(Message::Request(stream)).is_err() {
                    return;
                }
            }
        });
        std::thread::spawn(move || serve(&inbox, shop));
        Self { url, messages }
    }

    /// Changes the world, and waits until that is done.
    pub(crate) fn change<T: Send + 'static>(&self, body: impl FnOnce(&mut TestBackend) -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let change: BackendChange = Box::new(move |backend| {
            let _ = done.send(body(backend));
        });
        self.messages.send(Message::Change(change)).expect("the control plane is up");
        result.recv_timeout(Duration::from_secs(60)).expect("the change is made")
    }
}

fn serve(inbox: &Receiver<Message>, shop: Shop) {
    let scenes = shop.targets().map(|(service, environment)| {
        let mut scene = PairSetup::new("shop", service, environment);
        // As the policy file of the sessions has them.
        let deadlines = [300, 120, 600, 300, 600, 600].map(Seconds);
        let [preflight, register, healthy, shift, retire, rollback] = deadlines;
        scene.deadlines = Deadlines { preflight, register, healthy, shift, retire, rollback };
        scene
    });
    let built = build_application(&scenes.collect::<Vec<_>>(), Settings::default());
    let mut simulation = Simulation::of_application(built, Faults::default());
    simulation.record(RecordingLevel::Actions);
    let mut backend =
        TestBackend { simulation, broken: (0, 503), rival: None, reply: None, gateway: Gateway::default() };
    while let Ok(message) = inbox.recv() {
        match message {
            Message::Request(stream) => {
                // Whoever went away in the middle has no answer.
                let _ = exchange(stream, &mut backend);
            }
            Message::Change(change) => change(&mut backend),
        }
    }
}

/// One request of HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

fn exchange(mut stream: TcpStream, backend: &mut TestBackend) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let request = read(&mut stream)?;
    let (status, body) = answer(backend, &request);
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn read(stream: &mut TcpStream) -> std::io::Result<Request> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    let head_ends = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_ends]).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default().to_owned(), first.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(head_ends + 4);
    while body.len() < length {
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => body.extend_from_slice(&buffer[..read]),
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Request { method, path: path.to_owned(), query: query.to_owned(), headers, body })
}

fn answer(backend: &mut TestBackend, request: &Request) -> (u16, Value) {
    if let Some(answer) = ci::answer(backend, request) {
        return answer;
    }
    let caller = match signature::verify(request) {
        // As IAM has proven it.
        Ok(caller) => format!("arn:aws:sts::111122223333:assumed-role/deployer/{}", caller.name),
        Err(why) => return (403, json!({"message": why})),
    };
    if backend.broken.0 > 0 {
        backend.broken.0 -= 1;
        return (backend.broken.1, json!({"message": "Service Unavailable"}));
    }
    let simulation = &mut backend.simulation;
    let is_poll = request.method == "GET" && request.path.split('/').count() == 6;
    if is_poll {
        match &mut backend.rival {
            Some((release, 0)) => {
                simulation.request_deployment(*release, rollout::Overrides::default());
                backend.rival = None;
            }
            Some((_, polls)) => *polls -= 1,
            None => {}
        }
        match &mut backend.reply {
            Some((person, yes, 0)) => {
                reply(simulation, person, *yes);
                backend.reply = None;
            }
            Some((.., polls)) => *polls -= 1,
            None => {}
        }
        simulation.run_for(SECONDS_PER_POLL);
    }
    let (_, cloud, wake_queue, clock) = simulation.ports();
    // Without its faults and waits: no more time passes than must.
    let ledger = simulation.ledger().clone();
    let operations = Operations { ledger: &ledger, cloud: &cloud, wake_queue: &wake_queue, clock: &clock };
    let route = operations.route(&request.method, &request.path, &request.query, &request.body, &caller);
    in_virtual_time(simulation, route)
}

/// An answer by another door, to the plan that stands.
fn reply(simulation: &mut Simulation, person: &str, yes: bool) {
    let target = TargetId::parse("shop/api/prod").expect("a target");
    let state = simulation.at(&target).state().expect("something was asked for");
    let running = state.running.expect("a deployment waits");
    let (deployment, plan) = (running.number, running.gates.expect("at its gates").plan);
    let actor = Actor::Person { name: format!("arn:aws:sts::111122223333:assumed-role/deployer/{person}") };
    let (instruction, reason) = match yes {
        true => (Instruction::Approve { deployment, plan }, "looked at it"),
        false => (Instruction::Reject { deployment, plan }, "not today"),
    };
    simulation.send_command_to(&target, instruction, actor, reason);
}

/// What is awaited, while time passes.
pub(crate) fn in_virtual_time<T>(simulation: &mut Simulation, awaited: impl Future<Output = T>) -> T {
    let mut awaited = pin!(awaited);
    let mut context = Context::from_waker(noop_waker_ref());
    loop {
        match awaited.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => simulation.run_for(1),
        }
    }
}
