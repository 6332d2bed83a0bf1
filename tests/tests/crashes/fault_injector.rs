//! Stands at the door of every AWS call of the driver: notes what is called, and strikes at the one that the run is about.

use super::call_site::{CallSite, stage_of, state_in};
use super::scenario::Scenario;
use rollout::TargetState;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tests::front::{Answer, AwsError, Call, CallInterceptor, FaultKind};
use tests::harness::lambda::Sandbox;
use tests::harness::scenario::WorldNames;
use tests::harness::wakes::Queue;

/// What is done to the driver at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CallFault {
    /// `kill -9` when the call has come, and before anything of it is done.
    KilledBefore,
    /// `kill -9` when the call is done, and before its answer is sent.
    KilledAfter,
    /// The call is done, and the connection is closed instead of an answer. The SDK asks again.
    AnswerLost,
    /// The service's own throttling error, once. The SDK asks again.
    Throttled,
}

impl CallFault {
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
pub(crate) struct FaultPoint {
    /// A row.
    pub(crate) at: CallSite,
    pub(crate) fault: CallFault,
}

/// Who stands at the door.
#[derive(Debug)]
pub(crate) struct FaultInjector {
    queue: Arc<Queue>,
    names: WorldNames,
    scenario: Scenario,
    fault_point: Option<FaultPoint>,
    observed: Mutex<Observed>,
}

#[derive(Debug, Default)]
struct Observed {
    /// What was written down last.
    state: Option<TargetState>,
    /// The rows in the order of their first call, and of each how often each call of it was made.
    rows: Vec<(CallSite, BTreeMap<CallSite, usize>)>,
    /// Of a look: what of it has been struck.
    parts: BTreeSet<CallSite>,
    /// No more is noted: it is over.
    closed: bool,
    sandbox: Option<(String, Arc<Sandbox>)>,
    killed: BTreeSet<String>,
    triggered: Option<TriggeredFault>,
    alarm_fired: bool,
}

/// The fault has happened.
#[derive(Debug, Clone)]
struct TriggeredFault {
    at: Instant,
    /// The call's number.
    number: u64,
    recovered_after: Option<Duration>,
}

impl FaultInjector {
    pub(crate) fn new(
        queue: Arc<Queue>,
        names: WorldNames,
        scenario: Scenario,
        fault_point: Option<FaultPoint>,
    ) -> Self {
        Self { queue, names, scenario, fault_point, observed: Mutex::default() }
    }

    fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the driver is this process, known by its access key.
    pub(crate) fn set_sandbox(&self, access_key: &str, sandbox: &Arc<Sandbox>) {
        self.observed().sandbox = Some((access_key.to_owned(), Arc::clone(sandbox)));
    }

    /// The stage that was written down last.
    pub(crate) fn stage(&self) -> String {
        self.observed().stage()
    }

    /// A deployment began, and none runs.
    pub(crate) fn is_over(&self) -> bool {
        let observed = self.observed();
        observed.state.as_ref().is_some_and(|state| state.running.is_none() && state.last_deployment > 0)
    }

    /// The fault has happened, and nobody has gone on yet.
    pub(crate) fn is_recovering(&self) -> bool {
        self.observed().triggered.as_ref().is_some_and(|triggered| triggered.recovered_after.is_none())
    }

    /// Whether the fault has happened, and after which time the deployment went on.
    pub(crate) fn recovered_after(&self) -> Option<Option<Duration>> {
        self.observed().triggered.as_ref().map(|triggered| triggered.recovered_after)
    }

    /// True once: the alarm of a rollback is due.
    pub(crate) fn alarm_is_due(&self) -> bool {
        let Some(stage) = self.scenario.alarm_stage() else { return false };
        let mut observed = self.observed();
        let due = !observed.alarm_fired && observed.stage() == stage;
        observed.alarm_fired |= due;
        due
    }

    /// Nothing that comes now is of the story.
    pub(crate) fn close(&self) {
        self.observed().closed = true;
    }

    /// What was called, in the order of the first times; of what was called several times, how often.
    pub(crate) fn rows(&self) -> Vec<(CallSite, usize)> {
        let most = |parts: &BTreeMap<CallSite, usize>| parts.values().copied().max().unwrap_or_default();
        self.observed().rows.iter().map(|(row, parts)| (row.clone(), most(parts))).collect()
    }
}

impl Observed {
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

impl CallInterceptor for FaultInjector {
    fn before(&self, call: &Call) -> Option<FaultKind> {
        let mut observed = self.observed();
        if observed.killed.contains(&call.access_key) {
            // Sent by the process at the moment of its death: who is dead asks for nothing.
            return Some(FaultKind::DisconnectBefore);
        }
        if observed.closed {
            return None;
        }
        let call_site = CallSite::of(call, &observed.stage(), &self.names);
        let row = call_site.row();
        if call.attempt == 1 && observed.triggered.is_none() {
            if !observed.rows.iter().any(|(known, _)| *known == row) {
                observed.rows.push((row.clone(), BTreeMap::new()));
            }
            let known = observed.rows.iter_mut().find(|(known, _)| *known == row);
            *known.map(|(_, parts)| parts.entry(call_site.clone()).or_default())? += 1;
        }
        let fault_point = self.fault_point.as_ref().filter(|fault_point| fault_point.at == row)?;
        // A look is struck in the midst of it once, or in each of its calls once.
        let again = fault_point.fault.kills() || call.attempt > 1 || observed.parts.contains(&call_site);
        if observed.triggered.is_some() && again {
            return None;
        }
        observed.parts.insert(call_site);
        if observed.triggered.is_none() {
            observed.triggered =
                Some(TriggeredFault { at: Instant::now(), number: call.number, recovered_after: None });
        }
        match fault_point.fault {
            CallFault::KilledBefore => {
                observed.kill(&call.access_key);
                Some(FaultKind::DisconnectBefore)
            }
            CallFault::KilledAfter => None,
            CallFault::AnswerLost => Some(FaultKind::ApplyThenDisconnect),
            CallFault::Throttled => Some(FaultKind::Throttle),
        }
    }

    fn after(&self, call: &Call) {
        let mut observed = self.observed();
        let was_done = call.succeeded() || call.fault_kind == Some(FaultKind::ApplyThenDisconnect);
        if was_done && let Some(state) = state_in(call) {
            observed.state = Some(state);
        }
        let Some(fault_point) = &self.fault_point else { return };
        let Some(triggered) = observed.triggered.clone() else { return };
        if call.number == triggered.number {
            if fault_point.fault == CallFault::KilledAfter {
                observed.kill(&call.access_key);
            }
            return;
        }
        // Another process, or the same one, has written a decision down; or what went wrong was asked once more.
        let decided = call.operation == "TransactWriteItems" && !observed.killed.contains(&call.access_key);
        let goes_on = decided || (call.attempt > 1 && !fault_point.fault.kills());
        if triggered.recovered_after.is_none()
            && goes_on
            && matches!(call.answer, Answer::Done { status } if status < 400)
        {
            observed.triggered = Some(TriggeredFault { recovered_after: Some(triggered.at.elapsed()), ..triggered });
        }
    }

    fn serve(&self, service: &str, operation: &str, parameters: &Value) -> Option<Result<Value, AwsError>> {
        if service != "sqs" {
            return None;
        }
        if operation != "SendMessage" {
            return Some(Err(AwsError::sender("UnsupportedOperation", format!("{operation} is not the driver's"))));
        }
        let delay = Duration::from_secs(parameters["DelaySeconds"].as_u64().unwrap_or_default());
        let id = self.queue.send(parameters["MessageBody"].as_str().unwrap_or_default(), delay);
        Some(Ok(json!({"MessageId": id})))
    }
}
