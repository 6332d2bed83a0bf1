//! Settings that are valid in a policy and most likely not intended.

use rollout::{Policy, Seconds, Way};

/// So long after it started, ECS counts a task as healthy whose essential containers have no health check (ECS API
/// reference, `DeploymentConfiguration`, `minimumHealthyPercent`).
const HEALTHY_WITHOUT_CHECK: Seconds = Seconds(40);

/// Warnings for the owners of a policy before they apply it, one sentence each.
#[must_use]
pub fn warnings(policy: &Policy) -> Vec<String> {
    open_grants(policy).chain(unwatched_services(policy)).collect()
}

/// Grants that whoever can push a branch may use.
fn open_grants(policy: &Policy) -> impl Iterator<Item = String> {
    let open = policy.grants.iter().enumerate().filter(|(_, grant)| {
        // A reusable workflow of another repository, or at a fixed ref, cannot be changed through the branch.
        grant.refs.is_empty() && grant.github_environment.is_none() && grant.reusable_workflows.is_empty()
    });
    open.map(|(index, grant)| {
        let workflows = if grant.workflows.is_empty() { "" } else { ", also that of a workflow that `workflows` names" };
        format!(
            "github[{index}] has neither `refs` nor `environment`: whoever can push a branch to repository {} can change the \
             workflow's file there{workflows}, and use this grant; name `refs: [refs/heads/main]`, or the `environment` of \
             GitHub whose rules say which branches may",
            grant.repository_id
        )
    })
}

/// Services that are replaced in place, and whose new tasks nobody watches once ECS counts them as healthy.
fn unwatched_services(policy: &Policy) -> impl Iterator<Item = String> {
    let unwatched = policy.targets().filter(|(_, target)| {
        let resources = &target.resources;
        // Behind a load balancer, its health check is one.
        let unchecked = resources.platform.way() == Way::InPlace && resources.all_target_groups().next().is_none();
        unchecked && target.alarms.is_empty() && target.strategy.bake <= HEALTHY_WITHOUT_CHECK
    });
    unwatched.map(|(id, target)| {
        format!(
            "{id} has no alarms, and bakes for {} only: ECS counts a task without a health check as healthy \
             {HEALTHY_WITHOUT_CHECK} after it started, so nothing notices one that fails later; give it alarms, or a \
             longer `bake`",
            target.strategy.bake
        )
    })
}
