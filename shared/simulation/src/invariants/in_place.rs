//! A model of one target that changes its version in place: what its service runs, who set that, and what its journal
//! says about it.
//!
//! A version that is not Switchback's is found at the next look: at each observation of a pass, and around each request
//! of Switchback to set a version.

use super::observations::Observations;
use super::overdue_rollback::{RollbackTimer, decisive_alarms};
use super::service_state::ServiceState;
use super::target_journal::TargetJournal;
use super::{
    BrokenInvariant, Moment, NO_HOOK_TASK_LEFT, NO_REQUEST_LOST, ROLLBACK_WITHIN_A_MINUTE_OF_ALARM, TargetModel,
};
use crate::trace::{InjectedFault, PassEvent, PrimaryDeployment, SeenState, SeenWorkload, TraceSubject, service_key};
use crate::world::{ServiceKey, World, WorldChange};
use engine::LeaseId;
use rollout::deployment::Deployment;
use rollout::{EcsServiceName, Seconds, SignedDuration, Stage, TargetId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// How long AWS may report the state before the last write, in seconds.
const MAX_LAG_S: i64 = 5;
/// How long a task's death or an outside change may cause lost requests, in seconds.
const DISRUPTION_EFFECT_S: i64 = 1_800;
/// How long after the end of its deployment a hook's task must have been asked to stop: one that still runs then is
/// stopped right after the last decision.
const HOOKS_STOP_WITHIN: Seconds = Seconds(120);

/// The service when a pass observed it, and what the pass read of it.
#[derive(Debug, Clone)]
pub(super) struct InPlaceState {
    pub(super) at: Timestamp,
    pub(super) service: ServiceState,
    /// Its version was set by Switchback, or was there before.
    pub(super) is_own: bool,
    /// AWS may have answered with the state before Switchback's last write.
    pub(super) may_lag: bool,
    /// None: it could not be read.
    pub(super) read: Option<SeenWorkload>,
    /// Names of the alarms seen firing.
    pub(super) firing: Vec<String>,
}

/// The running deployment, as its journal describes it.
#[derive(Debug, Default)]
pub(super) struct OpenReplacement {
    pub(super) number: u64,
    pub(super) digest: String,
    /// The version that ran when the deployment started, once it was found.
    pub(super) before: Option<String>,
    /// The new version, once it was decided to set it.
    pub(super) set_version: Option<String>,
    pub(super) rolls_back: bool,
    /// Since it rolls back, Switchback has requested the version to return to.
    pub(super) rollback_requested: bool,
    /// Versions set outside Switchback that a rollback replaces, according to the journal.
    pub(super) replaced_foreign: BTreeSet<String>,
    /// Its new version was set, and nothing may roll it back automatically.
    pub(super) is_forward_only: bool,
    /// The causes of its waits for an operator.
    pub(super) operator_wait_causes: Vec<rollout::Cause>,
    /// ARNs of the tasks of its hooks.
    pub(super) hook_tasks: BTreeSet<String>,
    /// The journal says that something was not cleaned up.
    pub(super) left_behind: bool,
}

/// Conditions under which the running deployment must roll back.
#[derive(Debug)]
struct InPlaceTriggers {
    /// The version to return to.
    version: String,
    /// Alarms that trigger a rollback.
    alarms: Vec<String>,
    is_rolling_back: bool,
}

/// One target that changes its version in place.
#[derive(Debug)]
pub(crate) struct InPlaceModel {
    pub(super) target: TargetId,
    pub(super) service: ServiceKey,
    pub(super) container: String,
    /// Requests that found no target so far, by target group.
    lost_requests: BTreeMap<String, f64>,
    /// All old tasks may stop before new ones run: requests are lost then.
    stops_first: bool,
    /// The primary deployment at the last look.
    pub(super) primary: PrimaryDeployment,
    /// Whether Switchback set it, or it was there before.
    pub(super) is_own: bool,
    /// When Switchback last requested a version.
    pub(super) own_write_at: Option<Timestamp>,
    /// When one of its tasks last died, or something of it was last changed outside Switchback.
    pub(super) disrupted_at: Option<Timestamp>,
    observations: Observations<InPlaceState>,
    pub(super) journal: TargetJournal,
    pub(super) open: Option<OpenReplacement>,
    /// A deployment has ended without completing its cleanup, and none has found since what runs.
    pub(super) left_behind: bool,
    triggers: Option<InPlaceTriggers>,
    rollback_timer: RollbackTimer,
    /// Tasks of hooks that ran when their deployment ended, and until when they may.
    pub(super) ending_hooks: Option<(Timestamp, Vec<String>)>,
}

impl InPlaceModel {
    /// The model of a target; none: its service does not exist.
    pub(crate) fn of(world: &mut World, target: &TargetId, of: EcsServiceName<'_>, groups: &[String]) -> Option<Self> {
        let service = service_key(of);
        let (cluster, name) = &service;
        let described = world.as_third_party(|world| world.describe_services(cluster, std::slice::from_ref(name)));
        let (described, _) = described.ok()?;
        let described = described.first()?;
        let groups = groups.iter();
        Some(Self {
            target: target.clone(),
            container: of.container.to_owned(),
            lost_requests: groups.map(|group| (group.clone(), world.lost_requests_of_group(group))).collect(),
            stops_first: described.deployment_configuration.minimum_healthy_percent == 0,
            primary: PrimaryDeployment::of(described)?,
            is_own: true,
            own_write_at: None,
            disrupted_at: None,
            observations: Observations::default(),
            journal: TargetJournal::default(),
            open: None,
            left_behind: false,
            triggers: None,
            rollback_timer: RollbackTimer::default(),
            ending_hooks: None,
            service,
        })
    }

    /// Notes the primary deployment at a look: another one than the last is not Switchback's.
    pub(super) fn note_primary(&mut self, seen: &PrimaryDeployment, now: Timestamp) {
        if seen.id != self.primary.id {
            self.is_own = false;
            self.disrupted_at = Some(now);
        }
        self.primary.clone_from(seen);
    }

    /// The last observation of the pass that holds `lease`.
    pub(super) fn last_observation_of(&self, lease: Option<&LeaseId>) -> Option<&InPlaceState> {
        self.observations.last_of(lease)
    }

    /// The service as it is now.
    pub(super) fn service_state(&mut self, moment: &mut Moment<'_>) -> Option<ServiceState> {
        let state = ServiceState::read(moment.world, &self.service, self.lost_requests.keys())?;
        self.note_primary(&state.primary, moment.now);
        Some(state)
    }

    /// A pass has observed the target.
    fn check_observed(
        &mut self,
        lease: Option<&LeaseId>,
        (read, firing): (Option<&SeenWorkload>, &[String]),
        moment: &mut Moment<'_>,
    ) -> Option<BrokenInvariant> {
        let service = self.service_state(moment)?;
        let lag = SignedDuration::from_secs(MAX_LAG_S);
        let state = InPlaceState {
            at: moment.now,
            service,
            is_own: self.is_own,
            may_lag: self.own_write_at.is_some_and(|at| moment.now.duration_since(at) <= lag),
            read: read.cloned(),
            firing: firing.to_vec(),
        };
        self.observations.record(lease.cloned(), state);
        self.check_stable_is_live(moment.store)
    }

    /// Recomputes when the running deployment must roll back.
    pub(super) fn update_triggers(&mut self, running: Option<&Deployment>) {
        let triggers = |running: &Deployment| {
            let in_place = running.in_place().filter(|in_place| in_place.has_replaced())?;
            Some(InPlaceTriggers {
                version: in_place.rollback_path().version().to_owned(),
                alarms: decisive_alarms(running).cloned().collect(),
                is_rolling_back: running.stage() == Stage::RollingBack,
            })
        };
        self.triggers = running.and_then(triggers);
    }

    /// The reason to roll back that is not answered, and whether the deployment is already rolling back; none: there is
    /// none, the version to return to is set, or the request to set it was sent.
    fn reason(&self, world: &World) -> Option<(String, bool)> {
        let triggers = self.triggers.as_ref()?;
        let is_requested = self.open.as_ref().is_some_and(|open| open.rollback_requested);
        if is_requested || self.primary.version == triggers.version {
            return None;
        }
        if triggers.is_rolling_back {
            return Some((format!("it rolls back to {}", triggers.version), true));
        }
        let firing = triggers.alarms.iter().find(|name| world.alarm_fires(name))?;
        Some((format!("{firing} fires"), false))
    }

    /// Whether a pass has observed the reason.
    fn reason_was_observed(&self, pass_event: &PassEvent) -> bool {
        let (Some(triggers), PassEvent::Observed { subject, firing, .. }) = (&self.triggers, pass_event) else {
            return false;
        };
        let fires = || triggers.alarms.iter().any(|name| firing.contains(name));
        self.is_subject(subject) && (triggers.is_rolling_back || fires())
    }

    /// Whether a reason to roll back has been unanswered for too long.
    fn check_overdue_rollback(
        &mut self,
        pass_events: &[PassEvent],
        world: &World,
        injected: &[InjectedFault],
        now: Timestamp,
    ) -> Option<BrokenInvariant> {
        let Some((reason, is_rolling_back)) = self.reason(world) else {
            self.rollback_timer.reset();
            return None;
        };
        let observed = pass_events.iter().any(|pass_event| self.reason_was_observed(pass_event));
        let since = self.rollback_timer.overdue_since(is_rolling_back, observed, &self.target, injected, now)?;
        let words = format!("{reason} since {since}, and {} is still set", self.primary.version);
        Some((&ROLLBACK_WITHIN_A_MINUTE_OF_ALARM, words))
    }

    /// Whether tasks of hooks run on after their deployment has ended.
    fn check_ending_hooks(&mut self, moment: &mut Moment<'_>) -> Option<BrokenInvariant> {
        let (_, tasks) = self.ending_hooks.take_if(|(due, _)| *due < moment.now)?;
        let left = running_tasks(moment.world, &self.service.0, &tasks);
        let first = left.first()?;
        Some((&NO_HOOK_TASK_LEFT, format!("{first} runs {HOOKS_STOP_WITHIN} after the end of its deployment")))
    }

    /// Tasks of the ended deployment's hooks that nothing has asked to stop yet.
    pub(super) fn note_ending_hooks(&mut self, open: &OpenReplacement, moment: &mut Moment<'_>) {
        let tasks: Vec<String> = open.hook_tasks.iter().cloned().collect();
        let running = running_tasks(moment.world, &self.service.0, &tasks);
        self.ending_hooks = (!running.is_empty()).then(|| (HOOKS_STOP_WITHIN.after(moment.now), running));
    }

    /// Checks whether requests were lost since the last call.
    fn check_lost_requests(&mut self, world: &World, now: Timestamp) -> Option<BrokenInvariant> {
        let effect = SignedDuration::from_secs(DISRUPTION_EFFECT_S);
        // What somebody else has set may never serve, and at 0 tasks nothing does.
        let is_foreign = !self.is_own || world.desired_of(&self.service) == 0;
        let is_disrupted = is_foreign || self.disrupted_at.is_some_and(|at| now.duration_since(at) <= effect);
        for (group, before) in &mut self.lost_requests {
            let lost = world.lost_requests_of_group(group);
            if lost > *before {
                *before = lost;
                if !is_disrupted && !self.stops_first {
                    return Some((&NO_REQUEST_LOST, format!("{} had no target for its requests", self.service.1)));
                }
                // What was disrupted has not recovered: the image may have turned bad for good.
                self.disrupted_at = self.disrupted_at.and(Some(now));
            }
        }
        None
    }
}

impl TargetModel for InPlaceModel {
    fn target(&self) -> &TargetId {
        &self.target
    }

    fn is_subject(&self, subject: &TraceSubject) -> bool {
        matches!(subject, TraceSubject::Service(key) if key == &self.service)
    }

    fn is_affected_by(&self, change: &WorldChange) -> bool {
        match change {
            WorldChange::RuleWritten { groups, .. } => {
                groups.iter().any(|group| self.lost_requests.contains_key(&group.arn))
            }
            WorldChange::Desired { service, .. }
            | WorldChange::Limits { service, .. }
            | WorldChange::TaskDied { service } => service == &self.service,
            WorldChange::NodeConverged { .. } | WorldChange::Targets { .. } => false,
        }
    }

    fn on_pass_event(&mut self, pass_event: &PassEvent, moment: &mut Moment<'_>) -> Option<BrokenInvariant> {
        match pass_event {
            PassEvent::Observed { lease, seen, firing, .. } => {
                let SeenState::InPlace(read) = seen else { return None };
                self.check_observed(lease.as_ref(), (read.as_ref(), firing), moment)
            }
            PassEvent::Performed { lease, effect, version_change, .. } => {
                self.check_performed(lease.as_ref(), effect, version_change.as_deref(), moment.store, moment.now)
            }
        }
    }

    fn on_change(&mut self, change: WorldChange, _: &[PassEvent], moment: &mut Moment<'_>) -> Option<BrokenInvariant> {
        self.check_change(&change, moment.store, moment.now)
    }

    fn on_decision(&mut self, lease: &LeaseId, after: u64, moment: &mut Moment<'_>) -> Option<BrokenInvariant> {
        self.check_decision(lease, after, moment)
    }

    fn on_lost_requests(&mut self, moment: &mut Moment<'_>) -> Option<BrokenInvariant> {
        self.check_lost_requests(moment.world, moment.now)
    }

    fn on_step(
        &mut self,
        pass_events: &[PassEvent],
        injected: &[InjectedFault],
        moment: &mut Moment<'_>,
    ) -> Option<BrokenInvariant> {
        let overdue = self.journal.check_deadline(moment.now);
        let overdue = overdue.or_else(|| self.check_overdue_rollback(pass_events, moment.world, injected, moment.now));
        overdue.or_else(|| self.check_ending_hooks(moment))
    }

    fn on_rest(&mut self, moment: &mut Moment<'_>) -> Option<BrokenInvariant> {
        self.service_state(moment)?;
        self.check_stable_is_live(moment.store)
    }
}

/// Those of these tasks that run or start, and that nothing has asked to stop.
fn running_tasks(world: &mut World, cluster: &str, tasks: &[String]) -> Vec<String> {
    if tasks.is_empty() {
        return Vec::new();
    }
    let found = world.as_third_party(|world| world.describe_tasks(cluster, tasks));
    let found = found.map(|(tasks, _)| tasks).unwrap_or_default();
    found.into_iter().filter(|task| task.desired_status == "RUNNING").map(|task| task.task_arn).collect()
}
