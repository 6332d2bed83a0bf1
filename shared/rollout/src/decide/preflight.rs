//! Preflight of every deployment, whichever way it moves: what blocks the start of one that has changed nothing yet.

use super::health::{self, Alarms};
use super::stop_the_line;
use super::transition::{Change, Context, Transition};
use crate::deployment::{Deployment, Purpose};
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::phase::{Phase, Preparing};
use crate::promotion::ImageState;
use crate::snapshot::{AlarmReading, Reading, Snapshot};
use crate::template::TemplateReading;
use crate::time::Seconds;
use crate::verdict::Verdict;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Poll interval while the start is blocked, in case the event that unblocks it is lost.
const PREFLIGHT_POLL: Seconds = Seconds(15);
/// How long a deployment waits for a person to correct the rules before it can start.
const OPERATOR_TIMEOUT: Seconds = Seconds(12 * 3600);
/// Poll interval meanwhile.
const OPERATOR_POLL: Seconds = Seconds(60);

/// A deployment that has changed nothing yet, and its observation.
pub(super) struct Preflight<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) deployment: &'a Deployment,
    pub(super) snapshot: &'a Snapshot,
    pub(super) preparing: Preparing,
}

/// The deployment, which does not judge these alarms until they have been OK.
pub(super) fn with_passed(deployment: &Deployment, passed: &BTreeMap<String, String>) -> Deployment {
    let mut begun = deployment.clone();
    begun.overrides.firing_alarms.extend(passed.keys().cloned());
    begun
}

/// The deployment, which makes its version of this template.
pub(super) fn with_template(mut deployment: Deployment, template: Option<TemplateReading>) -> Deployment {
    if template.is_some() {
        deployment.options.template = template.map(Box::new);
    }
    deployment
}

impl Preflight<'_> {
    /// The deployment, still preparing.
    pub(super) fn at(&self, preparing: Preparing) -> Deployment {
        self.deployment.with_phase(Phase::Preparing(preparing))
    }

    /// The transition of a deployment that must not start although nothing observed blocks it: stop-the-line holds it, or
    /// its image cannot be pulled. `is_live`: the release runs already, so that nothing has to be pulled.
    pub(super) fn held_before_start(&self, is_live: bool) -> Option<Transition> {
        let (context, deployment) = (self.context, self.deployment);
        if let Some(stopped) = stop_the_line::reason_to_hold(context, deployment) {
            // The deployment has passed its gates, and nothing of it has started yet.
            let deadline = stopped.deadline.max(self.preparing.deadline);
            let held = self.at(Preparing { deadline, ..self.preparing.clone() });
            return Some(Transition::wait(held, stopped.on, stopped.poll, stopped.deadline));
        }
        Some(match self.image_problem().filter(|_| !is_live)? {
            ImageProblem::Deleted(reason) => Transition::end(deployment.clone(), Verdict::Failed, reason),
            ImageProblem::Archived(reason) => self.blocked(Blocker::Observed(reason)),
        })
    }

    /// The version to make the new one of, where the policy names a family of templates; none: the live version, or that
    /// which a rollback returns to.
    pub(super) fn template(&self) -> Result<Option<TemplateReading>, Blocker> {
        let policy = &self.deployment.policy;
        let Some(family) = policy.template.family().filter(|_| self.deployment.purpose == Purpose::Deploy) else {
            return Ok(None);
        };
        if let Some(chosen) = &self.deployment.options.template {
            return Ok(Some(chosen.as_ref().clone()));
        }
        match self.context.template {
            Some(Reading::Known(newest)) => Ok(Some(newest.clone())),
            Some(Reading::Unknown(reason)) => {
                Err(Blocker::Unreadable(format!("the templates of family {family} could not be read: {reason}")))
            }
            None => Err(Blocker::Unreadable(format!("the templates of family {family} were not read yet"))),
        }
    }

    /// Whether a request for newer configuration finds none: the template is that of the stable version, or equal to
    /// what is live.
    pub(super) fn is_configured_already(&self, template: Option<&TemplateReading>) -> bool {
        let stable = self.context.state.stable.as_ref().and_then(|stable| stable.template.as_deref());
        self.deployment.options.configuration
            && template.is_none_or(|template| stable == Some(template.version.as_str()) || template.is_unchanged())
    }

    /// Why no task can be started with the release's image; `None`: one may be started, or the registry could not be
    /// read.
    fn image_problem(&self) -> Option<ImageProblem> {
        let Some(Reading::Known(state)) = self.context.images.get(&self.deployment.release.id.digest) else {
            return None;
        };
        let reason = state.start_blocker()?;
        let reason = format!("{} cannot be started: {reason}", self.deployment.release.tag);
        Some(match state {
            ImageState::Gone => ImageProblem::Deleted(reason),
            ImageState::Archived | ImageState::Present => ImageProblem::Archived(reason),
        })
    }

    /// Waits until the start is no longer blocked; fails at the deadline.
    pub(super) fn blocked(&self, blocker: Blocker) -> Transition {
        let (context, deployment) = (self.context, self.deployment);
        let (reason, journalled, needs_operator) = match blocker {
            Blocker::NeedsOperator(reason) => (reason.clone(), reason, deployment.purpose == Purpose::Deploy),
            Blocker::Observed(reason) => (reason.clone(), reason, false),
            Blocker::Unreadable(reason) => (reason, UNREAD.to_owned(), false),
        };
        let usual = deployment.policy.deadlines.preflight;
        let (deadline, awaiting_operator) = if needs_operator {
            // Each deployment that starts meanwhile would fail the same way: one waits and reports what has to be done.
            (OPERATOR_TIMEOUT.after(deployment.started_at).max(self.preparing.deadline), true)
        } else if self.preparing.awaiting_operator {
            // A person has corrected that, and something else blocks the start: it gets the usual time.
            (usual.after(context.now), false)
        } else {
            (self.preparing.deadline, false)
        };
        if context.now >= deadline {
            let had = if needs_operator { OPERATOR_TIMEOUT } else { usual };
            let why = format!("it could not start within {had}: {reason}");
            return Transition::end(deployment.clone(), Verdict::Failed, why);
        }
        let new = self.preparing.blocked.as_ref() != Some(&journalled);
        let fact = new.then(|| Change::Fact(Fact::Blocked { reason: reason.clone() }));
        let blocked = Some(journalled);
        let preparing = Preparing { deadline, awaiting_operator, blocked, ..self.preparing.clone() };
        let poll = if needs_operator { OPERATOR_POLL } else { PREFLIGHT_POLL };
        let on = WaitingOn::Preflight { reason, deadline };
        Transition::wait(self.at(preparing), on, poll, deadline).changes(fact)
    }
}

/// Why no task can be started with the release's image, according to the registry.
enum ImageProblem {
    /// The image is deleted: the deployment fails.
    Deleted(String),
    /// The image is archived: the deployment waits until it is restored.
    Archived(String),
}

/// Text recorded for everything that preflight could not read.
const UNREAD: &str = "something could not be read";

/// A problem that blocks the start, as text for people.
pub(super) enum Blocker {
    /// Observed, and to be corrected by a person: a newer release need not wait for this deployment meanwhile.
    NeedsOperator(String),
    /// Observed; expected to clear without a person.
    Observed(String),
    /// Could not be read. Under throttling a different reading fails each time, so it is journalled only once.
    Unreadable(String),
}

/// Why the alarms block the start; `None`: they do not.
pub(super) fn alarm_blocker(deployment: &Deployment, snapshot: &Snapshot, now: Timestamp) -> Option<Blocker> {
    match &snapshot.alarms {
        Reading::Unknown(reason) if health::judged_alarms(deployment).next().is_some() => {
            return Some(Blocker::Unreadable(format!("the alarms could not be read: {reason}")));
        }
        Reading::Known(readings) => {
            let absent = |name: &&str| matches!(readings.get(*name), None | Some(AlarmReading::Absent));
            let mut names = health::judged_alarms(deployment).map(|alarm| alarm.name.as_str());
            if let Some(name) = names.find(absent) {
                return Some(Blocker::Observed(format!(
                    "there is no alarm {name}: create it, or take it out of the policy"
                )));
            }
        }
        Reading::Unknown(_) => {}
    }
    if let Alarms::Firing { name, reason } | Alarms::Holding { name, reason } =
        health::alarms(deployment, None, snapshot, now)
    {
        return Some(Blocker::Observed(format!("alarm {name} is firing already: {reason}")));
    }
    None
}
