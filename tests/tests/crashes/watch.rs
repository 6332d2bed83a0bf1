//! Stands at the door of every AWS call of the driver: notes what is called, and strikes at the one that the run is about.

use super::place::{Place, stage_of, state_in};
use super::scene::Story;
use serde_json::{Value, json};
use simulation::world::PairNames;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tests::front::{Answer, Call, Guard, Harm, Refusal};
use tests::harness::lambda::Sandbox;
use tests::harness::wakes::Queue;

/// What is done to the driver at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// `kill -9` when the call has come, and before anything of it is done.
    KilledBefore,
    /// `kill -9` when the call is done, and before its answer is sent.
    KilledAfter,
    /// The call is done, and the connection is closed instead of an answer. The SDK asks again.
    AnswerLost,
    /// The service's own throttling error, once. The SDK asks again.
    Throttled,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [Self::KilledBefore, Self::KilledAfter, Self::AnswerLost, Self::Throttled];

    /// In the table's head.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KilledBefore => "killed before",
            Self::KilledAfter => "killed after",
            Self::AnswerLost => "answer lost",
            Self::Throttled => "throttled",
        }
    }

    fn kills(self) -> bool {
        matches!(self, Self::KilledBefore | Self::KilledAfter)
    }
}

/// One thing that goes wrong in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Strike {
    /// A row.
    pub(crate) at: Place,
    pub(crate) fault: Fault,
}

/// Who stands at the door.
#[derive(Debug)]
pub(crate) struct Watch {
    queue: Arc<Queue>,
    names: PairNames,
    story: Story,
    strike: Option<Strike>,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    /// What was written down last.
    state: Option<Value>,
    /// The rows in the order of their first call, and of each how often each call of it was made.
    rows: Vec<(Place, BTreeMap<Place, usize>)>,
    /// Of a look: what of it has been struck.
    parts: BTreeSet<Place>,
    /// No more is noted: it is over.
    closed: bool,
    sandbox: Option<(String, Arc<Sandbox>)>,
    killed: BTreeSet<String>,
    struck: Option<Struck>,
    rang: bool,
}

/// The fault has happened.
#[derive(Debug, Clone)]
struct Struck {
    at: Instant,
    /// The call's number.
    number: u64,
    healed: Option<Duration>,
}

impl Watch {
    pub(crate) fn new(queue: Arc<Queue>, names: PairNames, story: Story, strike: Option<Strike>) -> Self {
        Self { queue, names, story, strike, noted: Mutex::default() }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the driver is this process, known by its access key.
    pub(crate) fn set_sandbox(&self, access_key: &str, sandbox: &Arc<Sandbox>) {
        self.noted().sandbox = Some((access_key.to_owned(), Arc::clone(sandbox)));
    }

    /// The stage that was written down last.
    pub(crate) fn stage(&self) -> String {
        self.noted().stage()
    }

    /// A deployment began, and none runs.
    pub(crate) fn is_over(&self) -> bool {
        let noted = self.noted();
        noted.state.as_ref().is_some_and(|state| state["running"].is_null() && state["last_deployment"] != json!(0))
    }

    /// The fault has happened, and nobody has gone on yet.
    pub(crate) fn is_wounded(&self) -> bool {
        self.noted().struck.as_ref().is_some_and(|struck| struck.healed.is_none())
    }

    /// Whether the fault has happened, and after which time the deployment went on.
    pub(crate) fn healed(&self) -> Option<Option<Duration>> {
        self.noted().struck.as_ref().map(|struck| struck.healed)
    }

    /// True once: the alarm of the rollback is due.
    pub(crate) fn alarm_is_due(&self) -> bool {
        let mut noted = self.noted();
        let due = self.story == Story::Rollback && !noted.rang && noted.stage() == "shifting 1, holding";
        noted.rang |= due;
        due
    }

    /// Nothing that comes now is of the story.
    pub(crate) fn close(&self) {
        self.noted().closed = true;
    }

    /// What was called, in the order of the first times; of what was called several times, how often.
    pub(crate) fn rows(&self) -> Vec<(Place, usize)> {
        let most = |parts: &BTreeMap<Place, usize>| parts.values().copied().max().unwrap_or_default();
        self.noted().rows.iter().map(|(row, parts)| (row.clone(), most(parts))).collect()
    }
}

impl Noted {
    fn stage(&self) -> String {
        self.state.as_ref().map_or_else(|| "new".to_owned(), stage_of)
    }

    fn kill(&mut self, access_key: &str) {
        self.killed.insert(access_key.to_owned());
        if let Some((key, sandbox)) = &self.sandbox
            && key == access_key
        {
            sandbox.kill();
        }
    }
}

impl Guard for Watch {
    fn before(&self, call: &Call) -> Option<Harm> {
        let mut noted = self.noted();
        if noted.killed.contains(&call.access_key) {
            // Sent by the process at the moment of its death: who is dead asks for nothing.
            return Some(Harm::DropBefore);
        }
        if noted.closed {
            return None;
        }
        let place = Place::of(call, &noted.stage(), &self.names);
        let row = place.row();
        if call.attempt == 1 && noted.struck.is_none() {
            if !noted.rows.iter().any(|(known, _)| *known == row) {
                noted.rows.push((row.clone(), BTreeMap::new()));
            }
            let known = noted.rows.iter_mut().find(|(known, _)| *known == row);
            *known.map(|(_, parts)| parts.entry(place.clone()).or_default())? += 1;
        }
        let strike = self.strike.as_ref().filter(|strike| strike.at == row)?;
        // A look is struck in the midst of it once, or in each of its calls once.
        let again = strike.fault.kills() || call.attempt > 1 || noted.parts.contains(&place);
        if noted.struck.is_some() && again {
            return None;
        }
        noted.parts.insert(place);
        if noted.struck.is_none() {
            noted.struck = Some(Struck { at: Instant::now(), number: call.number, healed: None });
        }
        match strike.fault {
            Fault::KilledBefore => {
                noted.kill(&call.access_key);
                Some(Harm::DropBefore)
            }
            Fault::KilledAfter => None,
            Fault::AnswerLost => Some(Harm::ApplyThenCut),
            Fault::Throttled => Some(Harm::Throttle),
        }
    }

    fn after(&self, call: &Call) {
        let mut noted = self.noted();
        let was_done = call.succeeded() || call.harm == Some(Harm::ApplyThenCut);
        if was_done && let Some(state) = state_in(call) {
            noted.state = Some(state);
        }
        let Some(strike) = &self.strike else { return };
        let Some(struck) = noted.struck.clone() else { return };
        if call.number == struck.number {
            if strike.fault == Fault::KilledAfter {
                noted.kill(&call.access_key);
            }
            return;
        }
        // Another process, or the same one, has written a decision down; or what went wrong was asked once more.
        let decided = call.operation == "TransactWriteItems" && !noted.killed.contains(&call.access_key);
        let goes_on = decided || (call.attempt > 1 && !strike.fault.kills());
        if struck.healed.is_none() && goes_on && matches!(call.answer, Answer::Done { status } if status < 400) {
            noted.struck = Some(Struck { healed: Some(struck.at.elapsed()), ..struck });
        }
    }

    fn serve(&self, service: &str, operation: &str, parameters: &Value) -> Option<Result<Value, Refusal>> {
        if service != "sqs" {
            return None;
        }
        if operation != "SendMessage" {
            return Some(Err(Refusal::sender("UnsupportedOperation", format!("{operation} is not the driver's"))));
        }
        let delay = Duration::from_secs(parameters["DelaySeconds"].as_u64().unwrap_or_default());
        let id = self.queue.send(parameters["MessageBody"].as_str().unwrap_or_default(), delay);
        Some(Ok(json!({"MessageId": id})))
    }
}
