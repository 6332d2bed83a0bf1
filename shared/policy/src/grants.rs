//! Whether a workflow of GitHub Actions may do what it asks for: the claims of its token against the policy's grants.
//!
//! Pure: that the token is GitHub's, for this audience and not over is the API's authorizer's to check, before. What is
//! decided here is decided by numbers that GitHub never gives twice (`repository_id`, `repository_owner_id`), never by
//! names, which somebody else can register once they are free. A claim that is not there fits nothing.

use crate::github::deed_word;
use crate::walk::shown;
use globset::{GlobBuilder, GlobMatcher};
use rollout::entry::{Deed, Grant};
use rollout::{Name, Policy};
use serde::Deserialize;

/// Events that nothing can be granted to: they run for a proposal whose code nobody has agreed to, of whoever proposes it.
pub const NEVER: [&str; 2] = ["pull_request", "pull_request_target"];

/// The events that a grant means that names none: only who may write to the repository (or whoever they gave a token to)
/// makes these happen. All others (a comment, a fork, a page of the wiki, the end of another workflow) can be set off by a
/// stranger, or carry what a stranger wrote, and have to be named.
pub const USUAL_EVENTS: [&str; 6] =
    ["push", "workflow_dispatch", "schedule", "release", "repository_dispatch", "deployment"];

/// What the branches of a merge queue begin with (GitHub Docs, "Managing a merge queue"): each holds pull requests that are not
/// merged, together with the branch that they would go to. Whoever may push can put code of theirs there, so that only a
/// pattern that begins with this means them; `refs/heads/**` does not.
pub(crate) const MERGE_QUEUE: &str = "refs/heads/gh-readonly-queue/";

/// Where a repository has its workflows.
pub(crate) const WORKFLOWS: &str = ".github/workflows/";

/// What GitHub's token says of the job that holds it (GitHub Docs, "OpenID Connect reference"), as texts. A claim that is
/// not there, or empty, is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// The repository's number.
    pub repository_id: Option<String>,
    /// Its owner's number.
    pub repository_owner_id: Option<String>,
    /// `owner/name`, for people: it may be somebody else's tomorrow.
    pub repository: Option<String>,
    /// Claim `ref`: `refs/heads/main`.
    #[serde(rename = "ref")]
    pub git_ref: Option<String>,
    /// The job's GitHub environment, if it has one.
    pub environment: Option<String>,
    /// The workflow that runs: `owner/name/.github/workflows/promote.yml@refs/heads/main`.
    pub workflow_ref: Option<String>,
    /// The workflow that the job is written in: another one where it is reused.
    pub job_workflow_ref: Option<String>,
    /// What set it off: `push`.
    pub event_name: Option<String>,
    /// The run's number, the same for its re-runs.
    pub run_id: Option<String>,
    /// Which of its runs it is, from 1.
    pub run_attempt: Option<String>,
    /// Who set it off, for people.
    pub actor: Option<String>,
    /// The number of their account.
    pub actor_id: Option<String>,
    /// The commit.
    pub sha: Option<String>,
}

impl Claims {
    /// Takes the claims that are known here out of a token's, by their names.
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

/// Why a workflow may not. For operators: whoever asks is told nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The token lacks a claim that every job has.
    #[error("the token has no claim `{0}`")]
    Lacks(&'static str),
    /// It runs for a pull request.
    #[error("pull requests are never granted anything (event {event}, {git_ref})")]
    PullRequest {
        /// Claim `event_name`.
        event: String,
        /// Claim `ref`.
        git_ref: String,
    },
    /// No grant is for its repository.
    #[error(
        "no grant is for repository {repository_id} of owner {owner_id}, which calls itself {name}: numbers are \
         compared, names are not"
    )]
    Stranger {
        /// Claim `repository_id`.
        repository_id: String,
        /// Claim `repository_owner_id`.
        owner_id: String,
        /// Claim `repository`.
        name: String,
    },
    /// Grants are for its repository, and none of them for this.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NotGranted(
        /// What the first thing is in each of them that does not fit.
        Vec<Misfit>,
    ),
}

/// Why a grant for the repository is not one for this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Which grant: its place in the file's list, from 0.
    pub grant: usize,
    /// The grant's key that does not fit.
    pub key: &'static str,
    /// Why not, with what the token or the request says.
    pub words: String,
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "github[{}]: {}", self.grant, self.words)
    }
}

/// Whether the workflow with these claims may do this with a service in an environment.
///
/// # Errors
/// [`Denied`]: why not, for the log and the journal, and not for the workflow.
pub fn allowed(policy: &Policy, claims: &Claims, deed: Deed, service: &Name, environment: &Name) -> Result<(), Denied> {
    granted(policy, claims, Some(deed), service, environment)
}

/// Whether it may see how deployments of a service in an environment go: who may do anything there may.
///
/// # Errors
/// [`Denied`]: why not, for the log and the journal, and not for the workflow.
pub fn may_see(policy: &Policy, claims: &Claims, service: &Name, environment: &Name) -> Result<(), Denied> {
    granted(policy, claims, None, service, environment)
}

fn granted(
    policy: &Policy,
    claims: &Claims,
    deed: Option<Deed>,
    service: &Name,
    environment: &Name,
) -> Result<(), Denied> {
    let needed = |claim: &'static str, value: &Option<String>| match value.as_deref() {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        _ => Err(Denied::Lacks(claim)),
    };
    let repository_id = needed("repository_id", &claims.repository_id)?;
    let owner_id = needed("repository_owner_id", &claims.repository_owner_id)?;
    let git_ref = needed("ref", &claims.git_ref)?;
    let event = needed("event_name", &claims.event_name)?;
    if NEVER.contains(&event.as_str()) || git_ref.starts_with("refs/pull/") {
        return Err(Denied::PullRequest { event: shown(&event), git_ref: shown(&git_ref) });
    }
    let mut misfits = Vec::new();
    for (index, grant) in policy.grants.iter().enumerate() {
        if grant.repository_id != repository_id || grant.repository_owner_id != owner_id {
            continue;
        }
        let fit = whose(grant, claims, &git_ref, &event).and_then(|()| what(grant, deed, service, environment));
        match fit {
            Ok(()) => return Ok(()),
            Err((key, words)) => misfits.push(Misfit { grant: index, key, words }),
        }
    }
    if misfits.is_empty() {
        let name = claims.repository.as_deref().map_or_else(|| "nothing".to_owned(), shown);
        return Err(Denied::Stranger { repository_id: shown(&repository_id), owner_id: shown(&owner_id), name });
    }
    Err(Denied::NotGranted(misfits))
}

/// Whether the job is one that the grant is for.
fn whose(grant: &Grant, claims: &Claims, git_ref: &str, event: &str) -> Result<(), (&'static str, String)> {
    let usual = grant.events.is_empty();
    if !(usual && USUAL_EVENTS.contains(&event) || grant.events.iter().any(|known| known == event)) {
        let named = if usual { "one that has to be named" } else { "none of its `events`" };
        return Err(("events", format!("the event {} is {named}", shown(event))));
    }
    on_ref(grant, git_ref, "refs", "")?;
    // GitHub Docs, "Managing environments for deployment": environment names are not case sensitive. The token has the name as
    // the workflow writes it.
    let same = |other: &String, environment: &str| other.to_lowercase() == environment.to_lowercase();
    if let Some(environment) = &grant.github_environment
        && !claims.environment.as_ref().is_some_and(|other| same(other, environment))
    {
        let words = match &claims.environment {
            Some(other) => format!("the job's GitHub environment is {}, not {}", shown(other), shown(environment)),
            None => format!("the job has no GitHub environment, and {} is needed", shown(environment)),
        };
        return Err(("environment", words));
    }
    if !grant.workflows.is_empty() {
        let workflow = claims.workflow_ref.as_deref().unwrap_or_default();
        let Workflow { repository, path, git_ref } = Workflow::of(workflow).ok_or_else(|| {
            let words = match workflow {
                "" => "the token has no claim `workflow_ref`, and `workflows` are named".to_owned(),
                other => format!("`{}` names no workflow", shown(other)),
            };
            ("workflows", words)
        })?;
        if !fits(&grant.workflows, path) {
            return Err(("workflows", format!("the workflow {} fits none of its `workflows`", shown(path))));
        }
        // An organisation can have workflows of other repositories run in this one (GitHub Docs, "Available rules for
        // rulesets", required workflows): the same path there is another file.
        let own = claims.repository.as_deref().unwrap_or_default();
        if !repository.eq_ignore_ascii_case(own) {
            let (repository, own) = (shown(repository), shown(own));
            return Err(("workflows", format!("the workflow {} is of {repository}, not of {own}", shown(path))));
        }
        on_ref(grant, git_ref, "workflows", "the workflow's ref ")?;
    }
    if !grant.reusable_workflows.is_empty() {
        let workflow = claims.job_workflow_ref.as_deref().unwrap_or_default();
        if !grant.reusable_workflows.iter().any(|pattern| is_reusable(pattern, workflow)) {
            let words = match workflow {
                "" => "the token has no claim `job_workflow_ref`, and `reusable_workflows` are named".to_owned(),
                other => format!("the job's workflow {} fits none of its `reusable_workflows`", shown(other)),
            };
            return Err(("reusable_workflows", words));
        }
    }
    Ok(())
}

/// Whether the grant is for a ref: that of the job, or of its workflow's file. `key` and `what` are for people.
fn on_ref(grant: &Grant, git_ref: &str, key: &'static str, what: &str) -> Result<(), (&'static str, String)> {
    if git_ref.starts_with(MERGE_QUEUE) {
        let named = grant.refs.iter().filter(|pattern| pattern.starts_with(MERGE_QUEUE));
        if !any_fits(named, git_ref) {
            let words = format!(
                "{what}{} is of a merge queue, whose code is not merged yet: `refs` must name it",
                shown(git_ref)
            );
            return Err((key, words));
        }
    } else if !fits(&grant.refs, git_ref) {
        return Err((key, format!("{what}{} fits none of its `refs`", shown(git_ref))));
    }
    Ok(())
}

/// Whether the grant reaches as far as this.
fn what(grant: &Grant, deed: Option<Deed>, service: &Name, environment: &Name) -> Result<(), (&'static str, String)> {
    if !grant.environments.contains(environment) {
        return Err(("environments", format!("{environment} is none of its `environments`")));
    }
    if !grant.services.is_empty() && !grant.services.contains(service) {
        return Err(("services", format!("{service} is none of its `services`")));
    }
    match deed.filter(|deed| !grant.may.contains(deed)) {
        Some(deed) => Err(("may", format!("{} is nothing that it `may`", deed_word(deed)))),
        None => Ok(()),
    }
}

/// Whether a text fits one of the patterns, or there are none.
fn fits(patterns: &[String], text: &str) -> bool {
    patterns.is_empty() || any_fits(patterns, text)
}

fn any_fits<'p>(patterns: impl IntoIterator<Item = &'p String>, text: &str) -> bool {
    patterns.into_iter().any(|pattern| glob(pattern).is_ok_and(|glob| glob.is_match(text)))
}

/// Whether claim `job_workflow_ref` fits a pattern. Owner and name are compared whole, without case, as GitHub does; the rest
/// is a pattern.
fn is_reusable(pattern: &str, workflow: &str) -> bool {
    let (Some((repository, rest)), Some((own, path))) = (after_repository(pattern), after_repository(workflow)) else {
        return false;
    };
    repository.eq_ignore_ascii_case(own) && glob(rest).is_ok_and(|glob| glob.is_match(path))
}

/// `owner/name`, and what comes after it.
pub(crate) fn after_repository(text: &str) -> Option<(&str, &str)> {
    let (name_at, _) = text.match_indices('/').nth(1)?;
    Some((&text[..name_at], &text[name_at + 1..]))
}

/// A pattern of refs or paths, as GitHub's own filters have them: `*` ends at a slash, `**` does not.
pub(crate) fn glob(pattern: &str) -> Result<GlobMatcher, globset::Error> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build()?;
    Ok(glob.compile_matcher())
}

/// Claim `workflow_ref`, taken apart: `owner/name/.github/workflows/file@refs/…`.
#[derive(Debug)]
struct Workflow<'c> {
    repository: &'c str,
    path: &'c str,
    git_ref: &'c str,
}

impl<'c> Workflow<'c> {
    /// GitHub runs no files of folders below `.github/workflows`, so nothing before the ref's begin can look like one: a file
    /// may have an `@` in its name, but no slash.
    fn of(workflow_ref: &'c str) -> Option<Self> {
        let at = workflow_ref.find("@refs/")?;
        let (before, git_ref) = (&workflow_ref[..at], &workflow_ref[at + 1..]);
        let (repository, path) = after_repository(before)?;
        let file = path.strip_prefix(WORKFLOWS)?;
        (!file.is_empty() && !file.contains('/')).then_some(Self { repository, path, git_ref })
    }
}

#[cfg(test)]
#[path = "tests/grants.rs"]
mod tests;
