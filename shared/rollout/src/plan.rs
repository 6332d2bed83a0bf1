//! What a deployment would do: the real decision, rehearsed on live readings and thrown away.
//!
//! [`rehearse`] asks [`decide`](decide()) for the start, whoever asked takes the [`Look`] that it wants, and
//! [`Rehearsal::plan`] asks for the judgement of preflight. Nothing is told twice: what preflight would say is what
//! it says.

use crate::command::Command;
use crate::decide::{Decision, Inbox, decide};
use crate::journal::{Fact, JournalEntry};
use crate::look::{Look, look};
use crate::names::{ImageDigest, Slot, TargetId};
use crate::policy::{HookPoint, TargetPolicy};
use crate::promotion::{ImageState, Surroundings};
use crate::snapshot::{AlarmReading, Reading, Snapshot};
use crate::stage::{Stage, Verdict};
use crate::target::{AppliedTarget, ReleaseRef, TargetState, WaitingOn};
use crate::time::{Percent, Seconds};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a deployment would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Where.
    pub target: TargetId,
    /// What.
    pub release: ReleaseRef,
    /// Version of the policy that it would keep.
    pub policy_version: u64,
    /// Whether it would start.
    pub outlook: Outlook,
    /// Why not, or not yet; empty where it would start.
    pub blockers: Vec<String>,
    /// The side that carries all traffic; none where that could not be told.
    pub stable: Option<PlannedSide>,
    /// The side that the release would go to.
    pub candidate: Option<PlannedSide>,
    /// The policy's alarms as they are now; none where they could not be read, or were not.
    pub alarms: Option<BTreeMap<String, AlarmReading>>,
    /// The side that an alarm sees, for those of [`Self::alarms`] that see one alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alarm_sides: BTreeMap<String, Slot>,
    /// The way to success, in order. Empty where nothing would be done.
    pub steps: Vec<PlannedStep>,
    /// How long all of it takes if nothing has to be waited for but the policy's own times.
    #[serde(rename = "takes_s")]
    pub takes: Seconds,
}

/// Whether a deployment would start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outlook {
    /// At once.
    Starts,
    /// Preflight would wait for something, and fail at its deadline.
    Blocked,
    /// It would wait at gates first.
    Gated,
    /// After the deployment that is running.
    Queued,
    /// Not at all: the command would be refused.
    Refused,
    /// The release is live already; the ledger would learn so.
    LiveAlready,
}

/// A side as it is seen now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedSide {
    /// Which.
    pub slot: Slot,
    /// Name of its ECS service.
    pub service: String,
    /// ARN of its task definition; none where it could not be read.
    pub task_definition: Option<String>,
    /// The image of the policy's container, where it is known.
    pub image: Option<String>,
    /// Tasks running now.
    pub running: u32,
    /// Healthy targets now.
    pub healthy: u32,
}

/// One step of the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// The stage's name, as [`Stage::name`] has it.
    pub stage: String,
    /// The candidate's share of the traffic from here on, where the step changes it.
    pub traffic: Option<Percent>,
    /// Tasks that the candidate has in this step, where that is known.
    pub tasks: Option<u32>,
    /// The hook that runs, where one does.
    pub hook: Option<String>,
    /// How long it takes at least.
    #[serde(rename = "takes_s")]
    pub takes: Seconds,
    /// When it gives up at the latest, counted from its own start.
    #[serde(rename = "at_most_s")]
    pub at_most: Seconds,
}

/// A deployment that was decided and not committed.
#[derive(Debug)]
pub struct Rehearsal<'a> {
    target: TargetId,
    release: ReleaseRef,
    applied: &'a AppliedTarget,
    state: TargetState,
    now: Timestamp,
    outlook: Outlook,
    blockers: Vec<String>,
    images: BTreeMap<ImageDigest, Reading<ImageState>>,
}

/// Begins a rehearsal of what `command` asks for; `release` is what it names.
#[must_use]
pub fn rehearse<'a>(
    state: &TargetState,
    applied: &'a AppliedTarget,
    command: &Command,
    release: ReleaseRef,
    around: &Surroundings,
    now: Timestamp,
) -> Rehearsal<'a> {
    let inbox = Inbox { commands: std::slice::from_ref(command), policy: Some(applied), around: Some(around) };
    // Whatever others are still to be told is told before the command would be taken in.
    let mut decision = decide(&TargetState { errands: Vec::new(), ..state.clone() }, &inbox, None, now);
    let number = decision.state.running.as_ref().map(|running| running.number);
    // One that waits at its gates may give way at once; what runs stays, and this one waits for it.
    let given_way = state.running.as_ref().filter(|running| number.is_some_and(|number| number != running.number));
    let (outlook, blockers) = if let Some(reason) = refusal(&decision.journal) {
        (Outlook::Refused, vec![reason])
    } else if let Some(running) = state.running.as_ref().filter(|_| given_way.is_none()) {
        let turns_back = decision.state.running.as_ref().is_some_and(|running| running.superseded_by.is_some());
        let then = if turns_back {
            "it would turn back, and this one start after it"
        } else {
            "this one would wait for its end"
        };
        let (number, tag, stage) = (running.number, &running.release.tag, running.stage.name());
        let mut reasons = vec![format!("deployment #{number} ({tag}, {stage}) is running: {then}")];
        reasons.extend(queue(&decision, &release));
        (Outlook::Queued, reasons)
    } else {
        let displaced = given_way.map(|running| {
            let (number, tag) = (running.number, &running.release.tag);
            format!("deployment #{number} ({tag}) waits at its gates, and would give way to this one")
        });
        let mut told: Vec<String> = displaced.into_iter().collect();
        match decision.state.running.as_mut().filter(|running| matches!(running.stage, Stage::Gated { .. })) {
            Some(running) => {
                // What comes after the gates is judged as if they were open.
                running.stage = Stage::preflight(applied.policy.deadlines.preflight.after(now));
                told.extend(decision.state.explanation.waiting_on.iter().map(at_a_gate));
                (Outlook::Gated, told)
            }
            None => (Outlook::Starts, told),
        }
    };
    let target = state.target.clone();
    let images = around.images.clone();
    Rehearsal { target, release, applied, state: decision.state, now, outlook, blockers, images }
}

fn refusal(journal: &[JournalEntry]) -> Option<String> {
    journal.iter().find_map(|entry| match &entry.fact {
        Fact::CommandRefused { reason, .. } => Some(reason.clone()),
        _ => None,
    })
}

/// What it would wait for, in words.
fn at_a_gate(on: &WaitingOn) -> String {
    match on {
        WaitingOn::Gate { gate, reason, until: None, .. } => format!("{gate}: {reason}"),
        WaitingOn::Gate { gate, reason, until: Some(until), .. } => {
            format!("{gate}: {reason} (until {})", until.strftime("%Y-%m-%d %H:%M:%S UTC"))
        }
        WaitingOn::Approval { required, may, .. } => {
            let names: Vec<&str> = may.iter().map(crate::Name::as_str).collect();
            format!("approval: {required} of {} must approve", names.join(", "))
        }
        other => format!("{other:?}"),
    }
}

/// What becomes of the others that wait.
fn queue(decision: &Decision, release: &ReleaseRef) -> Vec<String> {
    let mut told: Vec<String> = decision
        .journal
        .iter()
        .filter_map(|entry| match &entry.fact {
            Fact::Superseded { tag, .. } => Some(format!("{tag} waits already, and would give way to this one")),
            _ => None,
        })
        .collect();
    let before = decision.state.queued.iter().filter(|queued| queued.release.id != release.id);
    told.extend(before.map(|queued| format!("{} waits already, and would start before this one", queued.release.tag)));
    told
}

impl Rehearsal<'_> {
    /// What has to be read for the judgement; none where there is nothing to judge.
    #[must_use]
    pub fn look(&self) -> Option<Look> {
        self.is_judged().then(|| look(&self.state)).flatten()
    }

    fn is_judged(&self) -> bool {
        matches!(self.outlook, Outlook::Starts | Outlook::Gated)
    }

    /// The plan, judged by what was seen.
    #[must_use]
    pub fn plan(self, snapshot: Option<&Snapshot>) -> Plan {
        let policy = &self.applied.policy;
        let is_judged = self.is_judged();
        let mut plan = Plan {
            target: self.target,
            release: self.release,
            policy_version: self.applied.version,
            outlook: self.outlook,
            blockers: self.blockers,
            stable: None,
            candidate: None,
            alarms: snapshot.and_then(|snapshot| snapshot.alarms.known().cloned()),
            alarm_sides: snapshot.map(|snapshot| snapshot.alarm_sides.clone()).unwrap_or_default(),
            steps: Vec::new(),
            takes: Seconds(0),
        };
        let mut stable_count = None;
        if let Some(snapshot) = snapshot.filter(|_| is_judged) {
            // What keeps it at its gates has been said: the stopped line is not to be taken for something in the world.
            let around = Surroundings { images: self.images, ..Surroundings::quiet() };
            let inbox = Inbox { commands: &[], policy: Some(self.applied), around: Some(&around) };
            let decision = decide(&self.state, &inbox, Some(snapshot), self.now);
            let mut stable = live(snapshot);
            match &decision.state.running {
                Some(running) if matches!(running.stage, Stage::Preflight { .. }) => {
                    plan.outlook = Outlook::Blocked;
                    plan.blockers.extend(running.blocked.clone());
                }
                Some(running) if running.asleep => {
                    plan.outlook = Outlook::Gated;
                    plan.blockers.push(format!("{}: {}", crate::entry::Gate::Asleep, crate::promotion::rules::ASLEEP));
                }
                Some(running) => {
                    stable_count = running.sides.as_ref().map(|sides| sides.stable_count);
                    stable = running.sides.as_ref().map(|sides| sides.stable);
                }
                None => {
                    let (verdict, reason) = ending(&decision.journal);
                    plan.outlook =
                        if verdict == Some(Verdict::Succeeded) { Outlook::LiveAlready } else { Outlook::Blocked };
                    plan.blockers.extend(reason);
                }
            }
            plan.stable = stable.map(|slot| side(slot, policy, snapshot));
            plan.candidate = stable.map(|slot| side(slot.other(), policy, snapshot));
        }
        if !matches!(plan.outlook, Outlook::LiveAlready | Outlook::Refused) {
            plan.steps = steps(policy, stable_count);
            plan.takes = Seconds(plan.steps.iter().map(|step| step.takes.0).sum());
        }
        plan
    }
}

fn ending(journal: &[JournalEntry]) -> (Option<Verdict>, Option<String>) {
    journal
        .iter()
        .find_map(|entry| match &entry.fact {
            Fact::Ended { verdict, reason, .. } => Some((Some(*verdict), Some(reason.clone()))),
            _ => None,
        })
        .unwrap_or_default()
}

/// The side that all rules agree on.
fn live(snapshot: &Snapshot) -> Option<Slot> {
    let mut slots = snapshot.rules.iter().map(|rule| rule.known().and_then(|rule| rule.weights.only()));
    let first = slots.next()??;
    slots.all(|slot| slot == Some(first)).then_some(first)
}

fn side(slot: Slot, policy: &TargetPolicy, snapshot: &Snapshot) -> PlannedSide {
    let seen = snapshot.side(slot).known();
    PlannedSide {
        slot,
        service: policy.pair.side(slot).service.clone(),
        task_definition: seen.map(|side| side.task_definition.clone()),
        image: seen.and_then(|side| side.image.clone()),
        running: seen.map_or(0, |side| side.running),
        healthy: seen.map_or(0, |side| side.targets.healthy),
    }
}

fn steps(policy: &TargetPolicy, stable_count: Option<u32>) -> Vec<PlannedStep> {
    let (strategy, deadlines) = (&policy.strategy, &policy.deadlines);
    let sum = |parts: &[Seconds]| Seconds(parts.iter().map(|part| part.0).sum());
    let tasks = |share: Percent| stable_count.map(|count| share.max(strategy.green_capacity).of(count).max(1));
    let step = |stage: &str, takes: Seconds, at_most: Seconds| PlannedStep {
        stage: stage.to_owned(),
        traffic: None,
        tasks: None,
        hook: None,
        takes,
        at_most,
    };
    let nothing = Seconds(0);
    let hooks = |stage: &'static str, at: HookPoint| {
        policy
            .hooks
            .iter()
            .filter(move |hook| hook.at == at)
            .map(move |hook| PlannedStep { hook: Some(hook.name.to_string()), ..step(stage, nothing, hook.deadline) })
    };
    let mut steps =
        vec![step("preflight", nothing, deadlines.preflight), step("registering", nothing, deadlines.register)];
    steps.extend(hooks("before_traffic", HookPoint::BeforeTraffic));
    steps.push(PlannedStep { tasks: tasks(strategy.green_capacity), ..step("scaling", nothing, deadlines.healthy) });
    let before = steps.len();
    steps.extend(hooks("testing", HookPoint::TestTraffic));
    if steps.len() == before && policy.pair.test_rule.is_some() {
        steps.push(step("testing", nothing, deadlines.shift));
    }
    for shift in &strategy.steps {
        let at_most = sum(&[deadlines.healthy, deadlines.shift, shift.hold, deadlines.shift]);
        steps.push(PlannedStep {
            traffic: Some(shift.traffic),
            tasks: tasks(shift.traffic),
            ..step("shifting", shift.hold, at_most)
        });
    }
    steps.extend(hooks("after_traffic", HookPoint::AfterTraffic));
    steps.push(step("baking", strategy.bake, sum(&[strategy.bake, deadlines.shift])));
    steps.push(step("keeping_warm", strategy.keep_warm, strategy.keep_warm));
    steps.push(step("retiring", strategy.drain, sum(&[strategy.drain, deadlines.retire])));
    steps
}
