//! Dry runs: the plan of a deployment, from the real decision, made on live readings and discarded.
//!
//! [`dry_run`] calls [`decide`](decide()) for the start, the caller reads the [`ObservationPlan`] that it needs, and
//! [`DryRun::plan`] calls it again for preflight. The plan shows preflight's own results: no check is implemented
//! twice.

use crate::command::Command;
use crate::decide::{Decision, Inbox, decide};
use crate::explanation::WaitingOn;
use crate::journal::{Fact, JournalEntry};
use crate::names::{ImageDigest, Slot, TargetId};
use crate::observation::{ObservationPlan, observation};
use crate::phase::Phase;
use crate::platform::Way;
use crate::policy::AppliedTarget;
use crate::policy::{HookPoint, TargetPolicy};
use crate::promotion::{GateContext, ImageState};
use crate::release::ReleaseRef;
use crate::snapshot::{AlarmReading, Reading, Snapshot};
use crate::stage::Stage;
use crate::target::TargetState;
use crate::template::TemplateReading;
use crate::time::{Percent, Seconds};
use crate::verdict::Verdict;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The result of a dry run: whether a deployment would start, and what it would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The target to deploy to.
    pub target: TargetId,
    /// The release to deploy.
    pub release: ReleaseRef,
    /// Version of the policy that the deployment would keep.
    pub policy_version: u64,
    /// Whether it would start.
    pub status: PlanStatus,
    /// Why it would not start, or not yet; empty where it would start.
    pub blockers: Vec<String>,
    /// The side that carries all traffic or, in place, what runs now; none: unknown.
    pub stable: Option<PlannedSide>,
    /// The side that the release would be deployed to; none: unknown, or it replaces what runs now.
    pub candidate: Option<PlannedSide>,
    /// Current state of the policy's alarms; none: they could not be read, or were not.
    pub alarms: Option<BTreeMap<String, AlarmReading>>,
    /// The side that an alarm watches, for those of [`Self::alarms`] that watch one side alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alarm_sides: BTreeMap<String, Slot>,
    /// The steps to success, in order. Empty where nothing would be done.
    pub steps: Vec<PlannedStep>,
    /// Minimum total duration, if it waits for nothing but the policy's own times.
    #[serde(rename = "takes_s")]
    pub duration: Seconds,
    /// From a firing alarm to the deadline of the rollback.
    #[serde(rename = "rollback_deadline_s")]
    pub rollback_deadline: Seconds,
    /// The environment's recovery time; none: the policy does not state it.
    #[serde(rename = "recovery_time_s", default, skip_serializing_if = "Option::is_none")]
    pub recovery_time: Option<Seconds>,
    /// The template that the new version would be made of, and how it differs from what is live; none: it would be the
    /// live version with another image, or the templates could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateReading>,
}

/// Whether a deployment would start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanStatus {
    /// It would start at once.
    Starts,
    /// Preflight would wait for something, and fail at its deadline.
    Blocked,
    /// It would wait at gates first.
    Gated,
    /// It would wait for the running deployment.
    Queued,
    /// The command would be refused.
    Refused,
    /// The release is live already; the deployment would only record that in the ledger.
    AlreadyLive,
}

/// The current state of one side, as shown in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedSide {
    /// Blue or green; none: versions replace one another in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// Name of what runs it: of ECS, a service.
    pub service: String,
    /// Its version; none: it could not be read.
    pub version: Option<String>,
    /// The image of the policy's container, where known.
    pub image: Option<String>,
    /// Tasks running now.
    pub running: u32,
    /// Healthy targets now.
    pub healthy: u32,
}

/// One step that the deployment would take, with its duration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// The stage of the deployment.
    pub stage: Stage,
    /// The candidate's share of traffic from this step on, where the step changes it.
    pub traffic: Option<Percent>,
    /// The candidate's tasks in this step, where known.
    pub tasks: Option<u32>,
    /// The hook that runs in this step, if one does.
    pub hook: Option<String>,
    /// Minimum duration.
    #[serde(rename = "takes_s")]
    pub duration: Seconds,
    /// Maximum duration, from the start of the step.
    #[serde(rename = "at_most_s")]
    pub max_duration: Seconds,
}

/// A dry run whose start is decided; preflight is evaluated by [`DryRun::plan`].
#[derive(Debug)]
pub struct DryRun<'a> {
    target: TargetId,
    release: ReleaseRef,
    applied: &'a AppliedTarget,
    state: TargetState,
    now: Timestamp,
    status: PlanStatus,
    blockers: Vec<String>,
    images: BTreeMap<ImageDigest, Reading<ImageState>>,
    template: Option<Reading<TemplateReading>>,
}

/// Starts a dry run of `command`, which deploys `release`.
#[must_use]
pub fn dry_run<'a>(
    state: &TargetState,
    applied: &'a AppliedTarget,
    command: &Command,
    release: ReleaseRef,
    gate_context: &GateContext,
    now: Timestamp,
) -> DryRun<'a> {
    let inbox =
        Inbox { commands: std::slice::from_ref(command), policy: Some(applied), gate_context: Some(gate_context) };
    // Pending outbox messages would be delivered before the command is consumed.
    let mut decision = decide(&TargetState { outbox: Vec::new(), ..state.clone() }, &inbox, None, now);
    let number = decision.state.running.as_ref().map(|running| running.number);
    // A deployment that waits at its gates may be superseded at once; one that has started stays, and the new one is
    // queued.
    let displaced_deployment =
        state.running.as_ref().filter(|running| number.is_some_and(|number| number != running.number));
    let (status, blockers) = if let Some(reason) = refusal(&decision.journal) {
        (PlanStatus::Refused, vec![reason])
    } else if let Some(running) = state.running.as_ref().filter(|_| displaced_deployment.is_none()) {
        let is_cancelled = decision.state.running.as_ref().is_some_and(|running| running.superseded_by.is_some());
        let then = if is_cancelled {
            "it would turn back, and this one start after it"
        } else {
            "this one would wait for its end"
        };
        let (number, tag, stage) = (running.number, &running.release.tag, running.stage().name());
        let mut reasons = vec![format!("deployment #{number} ({tag}, {stage}) is running: {then}")];
        reasons.extend(queue(&decision, &release));
        (PlanStatus::Queued, reasons)
    } else {
        let displaced = displaced_deployment.map(|running| {
            let (number, tag) = (running.number, &running.release.tag);
            format!("deployment #{number} ({tag}) waits at its gates, and would give way to this one")
        });
        let mut blockers: Vec<String> = displaced.into_iter().collect();
        match decision.state.running.as_mut().filter(|running| running.stage() == Stage::Gated) {
            Some(running) => {
                // The steps after the gates are evaluated as if the gates were open.
                let deadline = applied.policy.deadlines.preflight.after(now);
                running.phase = Phase::preparing(deadline, running.phase.deadline(), None);
                blockers.extend(decision.state.explanation.waiting_on.iter().map(describe_wait));
                (PlanStatus::Gated, blockers)
            }
            None => (PlanStatus::Starts, blockers),
        }
    };
    let target = state.target.clone();
    let images = gate_context.images.clone();
    let template = gate_context.template.clone();
    DryRun { target, release, applied, state: decision.state, now, status, blockers, images, template }
}

/// Why the command would be refused; none: it would not.
fn refusal(journal: &[JournalEntry]) -> Option<String> {
    journal.iter().find_map(|entry| match &entry.fact {
        Fact::CommandRefused { reason, .. } => Some(reason.to_string()),
        _ => None,
    })
}

/// The wait as a message.
fn describe_wait(on: &WaitingOn) -> String {
    match on {
        WaitingOn::Gate { gate, reason, until: None, .. } => format!("{gate}: {reason}"),
        WaitingOn::Gate { gate, reason, until: Some(until), .. } => {
            format!("{gate}: {reason} (until {})", until.strftime("%Y-%m-%d %H:%M:%S UTC"))
        }
        WaitingOn::Approval { required, eligible, .. } => {
            let names: Vec<&str> = eligible.iter().map(crate::Name::as_str).collect();
            format!("approval: {required} of {} must approve", names.join(", "))
        }
        other => format!("{other:?}"),
    }
}

/// What happens to the releases that are queued already.
fn queue(decision: &Decision, release: &ReleaseRef) -> Vec<String> {
    let mut texts: Vec<String> = decision
        .journal
        .iter()
        .filter_map(|entry| match &entry.fact {
            Fact::Superseded { tag, .. } => Some(format!("{tag} waits already, and would give way to this one")),
            _ => None,
        })
        .collect();
    let before = decision.state.queued.iter().filter(|queued| queued.release.id != release.id);
    texts.extend(before.map(|queued| format!("{} waits already, and would start before this one", queued.release.tag)));
    texts
}

impl DryRun<'_> {
    /// What must be read for preflight; none: there is nothing to evaluate.
    #[must_use]
    pub fn observation(&self) -> Option<ObservationPlan> {
        self.is_evaluated().then(|| observation(&self.state)).flatten()
    }

    fn is_evaluated(&self) -> bool {
        matches!(self.status, PlanStatus::Starts | PlanStatus::Gated)
    }

    /// The plan, evaluated on the observation.
    #[must_use]
    pub fn plan(self, snapshot: Option<&Snapshot>) -> Plan {
        let policy = &self.applied.policy;
        let is_evaluated = self.is_evaluated();
        let mut plan = Plan {
            target: self.target,
            release: self.release,
            policy_version: self.applied.version,
            status: self.status,
            blockers: self.blockers,
            stable: None,
            candidate: None,
            alarms: snapshot.and_then(|snapshot| snapshot.alarms.known().cloned()),
            alarm_sides: snapshot.map(|snapshot| snapshot.alarm_sides.clone()).unwrap_or_default(),
            steps: Vec::new(),
            duration: Seconds(0),
            rollback_deadline: policy.rollback_deadline_after_alarm(),
            recovery_time: policy.recovery_time,
            template: self.template.as_ref().and_then(|template| template.known().cloned()),
        };
        let mut stable_count = None;
        if let Some(snapshot) = snapshot.filter(|_| is_evaluated) {
            // Closed gates are reported already: here, stop-the-line must not block preflight.
            let template = self.template.clone();
            let gate_context = GateContext { images: self.images, template, ..GateContext::empty() };
            let inbox = Inbox { commands: &[], policy: Some(self.applied), gate_context: Some(&gate_context) };
            let decision = decide(&self.state, &inbox, Some(snapshot), self.now);
            let mut stable = snapshot.live_side();
            match &decision.state.running {
                Some(running) if running.stage() == Stage::Preflight => {
                    plan.status = PlanStatus::Blocked;
                    plan.blockers.extend(running.blocked().map(str::to_owned));
                }
                Some(running) if running.is_asleep() => {
                    plan.status = PlanStatus::Gated;
                    plan.blockers.push(format!("{}: {}", crate::entry::Gate::Asleep, crate::promotion::rules::ASLEEP));
                }
                Some(running) => {
                    stable_count = running.stable_at_start().map(|at_start| at_start.stable_count);
                    stable = running.stable_at_start().map(|at_start| at_start.stable);
                }
                None => {
                    let (verdict, reason) = ending(&decision.journal);
                    plan.status =
                        if verdict == Some(Verdict::Succeeded) { PlanStatus::AlreadyLive } else { PlanStatus::Blocked };
                    plan.blockers.extend(reason);
                }
            }
            plan.stable = match policy.resources.platform.way() {
                Way::Weighted => stable.map(|slot| side(slot, policy, snapshot)),
                Way::InPlace => workload(policy, snapshot),
            };
            plan.candidate = stable.map(|slot| side(slot.other(), policy, snapshot));
        }
        if !matches!(plan.status, PlanStatus::AlreadyLive | PlanStatus::Refused) {
            plan.steps = steps(policy, stable_count);
            plan.duration = Seconds(plan.steps.iter().map(|step| step.duration.0).sum());
        }
        plan
    }
}

/// How and why the deployment would end in preflight.
fn ending(journal: &[JournalEntry]) -> (Option<Verdict>, Option<String>) {
    journal
        .iter()
        .find_map(|entry| match &entry.fact {
            Fact::Ended { verdict, reason, .. } => Some((Some(*verdict), Some(reason.clone()))),
            _ => None,
        })
        .unwrap_or_default()
}

fn side(slot: Slot, policy: &TargetPolicy, snapshot: &Snapshot) -> PlannedSide {
    let seen = snapshot.side(slot).known();
    PlannedSide {
        slot: Some(slot),
        service: policy.resources.platform.workload_name(Some(slot)).to_owned(),
        version: seen.map(|side| side.version.clone()),
        image: seen.and_then(|side| side.image.clone()),
        running: seen.map_or(0, |side| side.running),
        healthy: seen.map_or(0, |side| side.targets.healthy),
    }
}

/// What runs now, where versions replace one another in place.
fn workload(policy: &TargetPolicy, snapshot: &Snapshot) -> Option<PlannedSide> {
    let seen = snapshot.workload.known()?;
    Some(PlannedSide {
        slot: None,
        service: policy.resources.platform.workload_name(None).to_owned(),
        version: Some(seen.version.clone()),
        image: seen.image.clone(),
        running: seen.running + seen.others,
        healthy: seen.targets.map_or(seen.running, |targets| targets.healthy),
    })
}

fn steps(policy: &TargetPolicy, stable_count: Option<u32>) -> Vec<PlannedStep> {
    let (strategy, deadlines) = (&policy.strategy, &policy.deadlines);
    let sum = |parts: &[Seconds]| Seconds(parts.iter().map(|part| part.0).sum());
    let tasks = |share: Percent| stable_count.map(|count| share.max(strategy.green_capacity).of(count).max(1));
    let step = |stage: Stage, duration: Seconds, max_duration: Seconds| PlannedStep {
        stage,
        traffic: None,
        tasks: None,
        hook: None,
        duration,
        max_duration,
    };
    let nothing = Seconds(0);
    let hooks = |stage: Stage, at: HookPoint| {
        policy
            .hooks
            .iter()
            .filter(move |hook| hook.at == at)
            .map(move |hook| PlannedStep { hook: Some(hook.name.to_string()), ..step(stage, nothing, hook.deadline) })
    };
    let mut steps = vec![
        step(Stage::Preflight, nothing, deadlines.preflight),
        step(Stage::Registering, nothing, deadlines.register),
    ];
    steps.extend(hooks(Stage::BeforeTraffic, HookPoint::BeforeTraffic));
    if policy.resources.platform.way() == Way::InPlace {
        steps.push(step(Stage::Replacing, nothing, deadlines.healthy));
        steps.extend(hooks(Stage::AfterTraffic, HookPoint::AfterTraffic));
        steps.push(step(Stage::Baking, strategy.bake, sum(&[strategy.bake, deadlines.shift])));
        return steps;
    }
    steps.push(PlannedStep {
        tasks: tasks(strategy.green_capacity),
        ..step(Stage::Scaling, nothing, deadlines.healthy)
    });
    let before = steps.len();
    steps.extend(hooks(Stage::Testing, HookPoint::TestTraffic));
    if steps.len() == before && policy.resources.test_rules().next().is_some() {
        steps.push(step(Stage::Testing, nothing, deadlines.shift));
    }
    for shift in &strategy.steps {
        let max_duration = sum(&[deadlines.healthy, deadlines.shift, shift.hold, deadlines.shift]);
        steps.push(PlannedStep {
            traffic: Some(shift.traffic),
            tasks: tasks(shift.traffic),
            ..step(Stage::Shifting, shift.hold, max_duration)
        });
    }
    steps.extend(hooks(Stage::AfterTraffic, HookPoint::AfterTraffic));
    steps.push(step(Stage::Baking, strategy.bake, sum(&[strategy.bake, deadlines.shift])));
    steps.push(step(Stage::KeepingWarm, strategy.keep_warm, strategy.keep_warm));
    steps.push(step(Stage::Retiring, strategy.drain, sum(&[strategy.drain, deadlines.retire])));
    steps
}
