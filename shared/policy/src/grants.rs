//! Authorizes a request of a GitHub Actions workflow: the claims of its token against the policy's grants.
//!
//! Pure: the API's authorizer has already verified that the token is GitHub's, is meant for this audience and has not
//! expired. Repositories are identified by numbers that GitHub never reuses (`repository_id`, `repository_owner_id`), never
//! by names, which anyone can register once they are free. A missing claim matches nothing.

use crate::values::{self, shorten};
use globset::{GlobBuilder, GlobMatcher};
use rollout::entry::{Grant, Permission};
use rollout::{Name, Policy};
use serde::Deserialize;

/// Events that can never be granted anything: they run for a proposal from anyone, whose code nobody has accepted.
pub const FORBIDDEN_EVENTS: [&str; 2] = ["pull_request", "pull_request_target"];

/// Events of a grant that lists none: only people with write access to the repository (or holders of a token of theirs) can
/// trigger these. All others (a comment, a fork, a wiki page, the end of another workflow) can be triggered by an outsider,
/// or carry an outsider's content, and must be listed explicitly.
pub const DEFAULT_EVENTS: [&str; 6] =
    ["push", "workflow_dispatch", "schedule", "release", "repository_dispatch", "deployment"];

/// Prefix of a merge queue's branches (GitHub Docs, "Managing a merge queue"): each holds pull requests that are not merged
/// yet, combined with their target branch. Anyone who can push can put code there, so only a pattern that begins with this
/// prefix matches them; `refs/heads/**` does not.
pub(crate) const MERGE_QUEUE_PREFIX: &str = "refs/heads/gh-readonly-queue/";

/// The directory of a repository's workflows.
pub(crate) const WORKFLOW_DIR: &str = ".github/workflows/";

/// What a workflow can be allowed to do, in the file's notation.
pub(crate) const PERMISSIONS: [(&str, Permission); 3] =
    [("promote", Permission::Promote), ("deploy", Permission::Deploy), ("hotfix", Permission::Hotfix)];

/// Claims of the GitHub token about the job that holds it (GitHub Docs, "OpenID Connect reference"), as text. A missing or
/// empty claim is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// The repository's numeric ID.
    pub repository_id: Option<String>,
    /// The numeric ID of the repository's owner.
    pub repository_owner_id: Option<String>,
    /// `owner/name`, for display only: the name may belong to another repository tomorrow.
    pub repository: Option<String>,
    /// Claim `ref`: `refs/heads/main`.
    #[serde(rename = "ref")]
    pub git_ref: Option<String>,
    /// The job's GitHub environment, if any.
    pub environment: Option<String>,
    /// The running workflow: `owner/name/.github/workflows/promote.yml@refs/heads/main`.
    pub workflow_ref: Option<String>,
    /// The workflow file that defines the job: differs from `workflow_ref` where the job is in a reusable workflow.
    pub job_workflow_ref: Option<String>,
    /// The event that triggered the run: `push`.
    pub event_name: Option<String>,
    /// The run's ID, which its re-runs share.
    pub run_id: Option<String>,
    /// Attempt number of the run, from 1.
    pub run_attempt: Option<String>,
    /// User name of the account that triggered the run, for display only.
    pub actor: Option<String>,
    /// The numeric ID of that account.
    pub actor_id: Option<String>,
    /// The commit hash.
    pub sha: Option<String>,
}

impl Claims {
    /// Takes the known claims out of a token's, by name.
    #[must_use]
    pub fn of<'c>(claim: impl Fn(&str) -> Option<&'c str>) -> Self {
        let text = |name: &str| claim(name).filter(|text| !text.is_empty()).map(str::to_owned);
        Self {
            repository_id: text("repository_id"),
            repository_owner_id: text("repository_owner_id"),
            repository: text("repository"),
            git_ref: text("ref"),
            environment: text("environment"),
            workflow_ref: text("workflow_ref"),
            job_workflow_ref: text("job_workflow_ref"),
            event_name: text("event_name"),
            run_id: text("run_id"),
            run_attempt: text("run_attempt"),
            actor: text("actor"),
            actor_id: text("actor_id"),
            sha: text("sha"),
        }
    }
}

/// Why a workflow is not authorized. For operators: the caller learns nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The token lacks a claim that every job has.
    #[error("the token has no claim `{0}`")]
    MissingClaim(&'static str),
    /// The job runs for a pull request.
    #[error("pull requests are never granted anything (event {event}, {git_ref})")]
    PullRequest {
        /// Claim `event_name`.
        event: String,
        /// Claim `ref`.
        git_ref: String,
    },
    /// No grant is for the job's repository.
    #[error(
        "no grant is for repository {repository_id} of owner {owner_id}, which calls itself {name}: numbers are \
         compared, names are not"
    )]
    UnknownRepository {
        /// Claim `repository_id`.
        repository_id: String,
        /// Claim `repository_owner_id`.
        owner_id: String,
        /// Claim `repository`.
        name: String,
    },
    /// There are grants for the repository, and none of them covers this request.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NotGranted(
        /// The first mismatch of each of these grants.
        Vec<GrantMismatch>,
    ),
}

/// Why a grant for the repository does not cover this request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantMismatch {
    /// The grant's position in the file's list, from 0.
    pub grant: usize,
    /// The key of the grant that does not match.
    pub key: &'static str,
    /// Quotes the token's or the request's value.
    pub reason: String,
}

impl std::fmt::Display for GrantMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "github[{}]: {}", self.grant, self.reason)
    }
}

/// Whether the workflow with these claims may use this permission for a service in an environment.
///
/// # Errors
/// [`Denied`]: the reason, for the log and the journal, and not for the workflow.
pub fn authorize(
    policy: &Policy,
    claims: &Claims,
    permission: Permission,
    service: &Name,
    environment: &Name,
) -> Result<(), Denied> {
    check_grants(policy, claims, Some(permission), service, environment)
}

/// Whether the workflow may read the status of deployments of a service in an environment: any permission there includes
/// reading.
///
/// # Errors
/// [`Denied`]: the reason, for the log and the journal, and not for the workflow.
pub fn authorize_read(policy: &Policy, claims: &Claims, service: &Name, environment: &Name) -> Result<(), Denied> {
    check_grants(policy, claims, None, service, environment)
}

fn check_grants(
    policy: &Policy,
    claims: &Claims,
    permission: Option<Permission>,
    service: &Name,
    environment: &Name,
) -> Result<(), Denied> {
    let needed = |claim: &'static str, value: &Option<String>| match value.as_deref() {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        _ => Err(Denied::MissingClaim(claim)),
    };
    let repository_id = needed("repository_id", &claims.repository_id)?;
    let owner_id = needed("repository_owner_id", &claims.repository_owner_id)?;
    let git_ref = needed("ref", &claims.git_ref)?;
    let event = needed("event_name", &claims.event_name)?;
    if FORBIDDEN_EVENTS.contains(&event.as_str()) || git_ref.starts_with("refs/pull/") {
        return Err(Denied::PullRequest { event: shorten(&event), git_ref: shorten(&git_ref) });
    }
    let mut mismatches = Vec::new();
    for (index, grant) in policy.grants.iter().enumerate() {
        if grant.repository_id != repository_id || grant.repository_owner_id != owner_id {
            continue;
        }
        let result =
            check_job(grant, claims, &git_ref, &event).and_then(|()| what(grant, permission, service, environment));
        match result {
            Ok(()) => return Ok(()),
            Err((key, reason)) => mismatches.push(GrantMismatch { grant: index, key, reason }),
        }
    }
    if mismatches.is_empty() {
        let name = claims.repository.as_deref().map_or_else(|| "nothing".to_owned(), shorten);
        return Err(Denied::UnknownRepository {
            repository_id: shorten(&repository_id),
            owner_id: shorten(&owner_id),
            name,
        });
    }
    Err(Denied::NotGranted(mismatches))
}

/// Whether the grant matches the job.
fn check_job(grant: &Grant, claims: &Claims, git_ref: &str, event: &str) -> Result<(), (&'static str, String)> {
    let use_defaults = grant.events.is_empty();
    if !(use_defaults && DEFAULT_EVENTS.contains(&event) || grant.events.iter().any(|known| known == event)) {
        let named = if use_defaults { "one that has to be named" } else { "none of its `events`" };
        return Err(("events", format!("the event {} is {named}", shorten(event))));
    }
    check_git_ref(grant, git_ref, "refs", "")?;
    // GitHub Docs, "Managing environments for deployment": environment names are not case sensitive. The token spells the
    // name as the workflow does.
    let same_name = |other: &String, environment: &str| other.to_lowercase() == environment.to_lowercase();
    if let Some(environment) = &grant.github_environment
        && !claims.environment.as_ref().is_some_and(|other| same_name(other, environment))
    {
        let reason = match &claims.environment {
            Some(other) => format!("the job's GitHub environment is {}, not {}", shorten(other), shorten(environment)),
            None => format!("the job has no GitHub environment, and {} is needed", shorten(environment)),
        };
        return Err(("environment", reason));
    }
    if !grant.workflows.is_empty() {
        let workflow = claims.workflow_ref.as_deref().unwrap_or_default();
        let WorkflowRef { repository, path, git_ref } = WorkflowRef::of(workflow).ok_or_else(|| {
            let reason = match workflow {
                "" => "the token has no claim `workflow_ref`, and `workflows` are named".to_owned(),
                other => format!("`{}` names no workflow", shorten(other)),
            };
            ("workflows", reason)
        })?;
        if !matches_patterns(&grant.workflows, path) {
            return Err(("workflows", format!("the workflow {} fits none of its `workflows`", shorten(path))));
        }
        // An organisation can run workflows of other repositories in this one (GitHub Docs, "Available rules for rulesets",
        // required workflows): the same path there is a different file.
        let own = claims.repository.as_deref().unwrap_or_default();
        if !repository.eq_ignore_ascii_case(own) {
            let (repository, own) = (shorten(repository), shorten(own));
            return Err(("workflows", format!("the workflow {} is of {repository}, not of {own}", shorten(path))));
        }
        check_git_ref(grant, git_ref, "workflows", "the workflow's ref ")?;
    }
    if !grant.reusable_workflows.is_empty() {
        let workflow = claims.job_workflow_ref.as_deref().unwrap_or_default();
        if !grant.reusable_workflows.iter().any(|pattern| matches_reusable_workflow(pattern, workflow)) {
            let reason = match workflow {
                "" => "the token has no claim `job_workflow_ref`, and `reusable_workflows` are named".to_owned(),
                other => format!("the job's workflow {} fits none of its `reusable_workflows`", shorten(other)),
            };
            return Err(("reusable_workflows", reason));
        }
    }
    Ok(())
}

/// Whether the grant matches a ref: the job's, or that of its workflow file. `key` and `what` go into the message.
fn check_git_ref(grant: &Grant, git_ref: &str, key: &'static str, what: &str) -> Result<(), (&'static str, String)> {
    if git_ref.starts_with(MERGE_QUEUE_PREFIX) {
        let named = grant.refs.iter().filter(|pattern| pattern.starts_with(MERGE_QUEUE_PREFIX));
        if !matches_any(named, git_ref) {
            let reason = format!(
                "{what}{} is of a merge queue, whose code is not merged yet: `refs` must name it",
                shorten(git_ref)
            );
            return Err((key, reason));
        }
    } else if !matches_patterns(&grant.refs, git_ref) {
        return Err((key, format!("{what}{} fits none of its `refs`", shorten(git_ref))));
    }
    Ok(())
}

/// Whether the grant covers this permission, service and environment.
fn what(
    grant: &Grant,
    permission: Option<Permission>,
    service: &Name,
    environment: &Name,
) -> Result<(), (&'static str, String)> {
    if !grant.environments.contains(environment) {
        return Err(("environments", format!("{environment} is none of its `environments`")));
    }
    if !grant.services.is_empty() && !grant.services.contains(service) {
        return Err(("services", format!("{service} is none of its `services`")));
    }
    match permission.filter(|permission| !grant.permissions.contains(permission)) {
        Some(permission) => {
            Err(("may", format!("{} is nothing that it `may`", values::word(&PERMISSIONS, &permission))))
        }
        None => Ok(()),
    }
}

/// Whether a text matches one of the patterns, or there are none.
fn matches_patterns(patterns: &[String], text: &str) -> bool {
    patterns.is_empty() || matches_any(patterns, text)
}

fn matches_any<'p>(patterns: impl IntoIterator<Item = &'p String>, text: &str) -> bool {
    patterns.into_iter().any(|pattern| glob(pattern).is_ok_and(|glob| glob.is_match(text)))
}

/// Whether claim `job_workflow_ref` matches a pattern. Owner and name are compared literally and without case, as GitHub
/// does; the rest is a pattern.
fn matches_reusable_workflow(pattern: &str, workflow: &str) -> bool {
    let (Some((repository, rest)), Some((own, path))) = (split_repository(pattern), split_repository(workflow)) else {
        return false;
    };
    repository.eq_ignore_ascii_case(own) && glob(rest).is_ok_and(|glob| glob.is_match(path))
}

/// Splits off `owner/name` from what follows it.
pub(crate) fn split_repository(text: &str) -> Option<(&str, &str)> {
    let (name_at, _) = text.match_indices('/').nth(1)?;
    Some((&text[..name_at], &text[name_at + 1..]))
}

/// Compiles a pattern of refs or paths with the semantics of GitHub's own filters: `*` stops at a slash, `**` does not.
pub(crate) fn glob(pattern: &str) -> Result<GlobMatcher, globset::Error> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build()?;
    Ok(glob.compile_matcher())
}

/// Claim `workflow_ref`, split: `owner/name/.github/workflows/file@refs/…`.
#[derive(Debug)]
struct WorkflowRef<'c> {
    repository: &'c str,
    path: &'c str,
    git_ref: &'c str,
}

impl<'c> WorkflowRef<'c> {
    /// GitHub runs no workflow files in subfolders of `.github/workflows`, so the first `@refs/` begins the ref: a file name
    /// may contain an `@`, but no slash.
    fn of(workflow_ref: &'c str) -> Option<Self> {
        let at = workflow_ref.find("@refs/")?;
        let (before, git_ref) = (&workflow_ref[..at], &workflow_ref[at + 1..]);
        let (repository, path) = split_repository(before)?;
        let file = path.strip_prefix(WORKFLOW_DIR)?;
        (!file.is_empty() && !file.contains('/')).then_some(Self { repository, path, git_ref })
    }
}

#[cfg(test)]
#[path = "tests/grants.rs"]
mod tests;
