//! Preflight of a deployment that replaces one version by the next in place: what runs before, and whether the platform
//! is still busy with it.

use super::asleep;
use super::health;
use super::in_place_rollback::short_version;
use super::preflight::{Blocker, Preflight, alarm_blocker, with_passed, with_template};
use super::replacement;
use super::transition::{Change, Transition};
use crate::deployment::{Deployment, Purpose};
use crate::in_place::{InPlace, VersionBefore};
use crate::journal::Fact;
use crate::snapshot::{Reading, RolloutReading, WorkloadReading};
use crate::target::StableSide;
use crate::verdict::Verdict;
use crate::weighted::Registering;
use jiff::Timestamp;

/// Starts the deployment unless something blocks it.
pub(super) fn step(preflight: &Preflight<'_>) -> Transition {
    let Preflight { context, deployment, snapshot, .. } = *preflight;
    if deployment.purpose == Purpose::Repair {
        let reason = "there are no weights to restore; nothing was changed";
        return Transition::end(deployment.clone(), Verdict::Succeeded, reason);
    }
    let workload = match &snapshot.workload {
        Reading::Known(workload) => workload,
        Reading::Unknown(reason) => return preflight.blocked(Blocker::Unreadable(replacement::unread(reason))),
    };
    if asleep::is_asleep(context.state, snapshot) {
        return asleep::back_to_gates(context, deployment, &preflight.preparing);
    }
    if let Some(blocker) = busy(deployment, workload, context.now) {
        return preflight.blocked(blocker);
    }
    // An alarm that may fire at the start is not judged until it has been OK, as if a person had accepted it.
    let passed = health::passed_at_start(deployment, snapshot, context.now);
    let begun = with_passed(deployment, &passed);
    if let Some(blocker) = alarm_blocker(&begun, snapshot, context.now) {
        return preflight.blocked(blocker);
    }
    let runs_it = workload.image.as_deref() == Some(deployment.release.image.as_str());
    let chosen = match preflight.template() {
        Ok(chosen) => chosen,
        Err(blocker) => return preflight.blocked(blocker),
    };
    let configures = deployment.options.configuration && !preflight.is_configured_already(chosen.as_ref());
    let is_live = runs_it && !configures && workload.rollout == RolloutReading::Complete;
    if let Some(held) = preflight.held_before_start(is_live) {
        return held;
    }
    if let Some(blocker) = no_way_back(preflight, workload).filter(|_| !is_live) {
        return preflight.blocked(blocker);
    }
    let found = Fact::WorkloadFound { version: workload.version.clone(), running: workload.running };
    if is_live && deployment.purpose == Purpose::Deploy {
        return already_live(preflight, workload).fact(found);
    }
    let chosen_version = chosen.as_ref().map(|template| template.version.clone());
    let returns_to = preflight.preparing.version.clone().or(chosen_version);
    let template = returns_to.unwrap_or_else(|| workload.version.clone());
    let deadline = deployment.policy.deadlines.register.after(context.now);
    let registering = Registering { deadline, template, registered: None };
    let in_place = InPlace::new(VersionBefore::seen(workload), registering);
    let passed = passed.into_iter().map(|(alarm, reason)| Change::Fact(Fact::AlarmPassed { alarm, reason }));
    let begun = with_template(begun, chosen.clone());
    let chosen = chosen.map(|template| Change::Fact(Fact::TemplateChosen { template }));
    let entered = Transition::enter(begun.with_in_place(in_place), deployment.release.tag.clone());
    entered.fact(found).changes(chosen).changes(passed)
}

/// The release runs already: the ledger learns that, and the deployment's record says so.
fn already_live(preflight: &Preflight<'_>, workload: &WorkloadReading) -> Transition {
    let deployment = preflight.deployment;
    let stable = StableSide {
        slot: None,
        version: workload.version.clone(),
        release: Some(deployment.release.clone()),
        since: preflight.context.now,
        forward_only: deployment.options.forward_only,
        train: deployment.options.train.clone(),
        template: preflight.context.state.stable.as_ref().and_then(|stable| stable.template.clone()),
    };
    let reason = "it was live already; nothing was changed";
    let ended = Transition::end(deployment.clone(), Verdict::Succeeded, reason);
    ended.change(Change::Stable(Box::new(stable)))
}

/// Why the version before could not be started again, should the release have to go back; `None`: it could, or there is
/// no going back, or whether the registry has its image could not be read.
fn no_way_back(preflight: &Preflight<'_>, workload: &WorkloadReading) -> Option<Blocker> {
    let Preflight { context, deployment, .. } = preflight;
    if deployment.purpose != Purpose::Deploy || deployment.is_forward_only() {
        return None;
    }
    let stable = context.state.stable.as_ref().filter(|stable| stable.version == workload.version)?;
    let before = stable.release.as_ref()?;
    let Some(Reading::Known(image)) = context.images.get(&before.id.digest) else { return None };
    let reason = image.start_blocker()?;
    Some(Blocker::Observed(format!(
        "there would be no way back to {}, which runs now: {reason}; or deploy with --forward-only",
        before.tag
    )))
}

/// Why the platform is not done with the version before; `None`: it is, it has given up on it, or it has had as long as
/// a deployment may take: a version that never comes up must not keep its own repair from starting.
fn busy(deployment: &Deployment, workload: &WorkloadReading, now: Timestamp) -> Option<Blocker> {
    let RolloutReading::InProgress { since } = &workload.rollout else {
        let nothing_runs = workload.desired == 0;
        return nothing_runs.then(|| {
            let reason = "nothing runs here yet: `switchback deploy --first TASKS` starts it";
            Blocker::Observed(reason.to_owned())
        });
    };
    let patience = deployment.policy.deadlines.healthy;
    let ends = since.map(|since| patience.after(since));
    if ends.is_some_and(|ends| now >= ends) {
        return None;
    }
    let version = short_version(&workload.version);
    let (running, desired, others) = (workload.running, workload.desired, workload.others);
    Some(Blocker::Observed(format!(
        "ECS is still replacing what runs by {version}: {running} of {desired} tasks run, and {others} of other versions"
    )))
}
