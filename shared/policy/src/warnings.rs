//! Settings that are valid in a policy and most likely not intended.

use rollout::Policy;

/// Warnings for the owners of a policy before they apply it, one sentence each.
#[must_use]
pub fn warnings(policy: &Policy) -> Vec<String> {
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
    .collect()
}
