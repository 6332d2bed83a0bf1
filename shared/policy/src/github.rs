//! Grants for GitHub Actions workflows, as the file states them. [`grants`](mod@crate::grants) checks tokens against them.

use crate::file;
use crate::grants::{self, FORBIDDEN_EVENTS, PERMISSIONS};
use crate::names::{KnownNames, read_optional_names};
use crate::problem::ProblemCollector;
use crate::tags::MAX_PATTERN_BYTES;
use crate::values::{self, Fields, LocatedNode};
use rollout::entry::{Grant, Permission};
use std::collections::BTreeSet;

const MAX_GRANTS: usize = 50;
/// Maximum number of patterns or events in one key of a grant: all are compiled for each request of a workflow.
const MAX_PATTERNS: usize = 20;
/// Maximum number of names in one key of a grant.
const MAX_NAMES: usize = 50;

/// Reads the list of grants.
pub(crate) fn read_grants(
    node: LocatedNode<'_>,
    path: &str,
    known: KnownNames<'_>,
    problems: &mut ProblemCollector,
) -> Option<Vec<Grant>> {
    let nodes = values::list(node, path, "grants", MAX_GRANTS, problems)?;
    let all: Vec<_> = nodes.into_iter().map(|(node, path)| read_grant(node, &path, known, problems)).collect();
    all.into_iter().collect()
}

fn read_grant(
    node: LocatedNode<'_>,
    path: &str,
    known: KnownNames<'_>,
    problems: &mut ProblemCollector,
) -> Option<Grant> {
    let count = problems.count();
    let fields = Fields::new(node, path, file::Grant::KEYS, problems)?;
    let mut id = |key: &str, description: &str| {
        fields.read(key, problems, |node, path, problems| values::digits(node, path, description, problems))
    };
    let repository_id = id("repository_id", "GitHub's number of the repository");
    let repository_owner_id = id("repository_owner_id", "GitHub's number of the repository's owner");
    let github_environment = fields.read("environment", problems, |node, path, problems| {
        values::line(node, path, "the name of a GitHub environment", 255, problems)
    });
    let refs = read_patterns(&fields, "refs", "a ref such as `refs/heads/main` or `refs/tags/v*`", check_ref, problems);
    let workflows = read_patterns(
        &fields,
        "workflows",
        "a workflow's path such as `.github/workflows/promote.yml`",
        check_workflow,
        problems,
    );
    let reusable_workflows = read_patterns(
        &fields,
        "reusable_workflows",
        "a reusable workflow such as `octo-org/workflows/.github/workflows/deploy.yml@refs/heads/main`",
        check_reusable,
        problems,
    );
    let events = read_patterns(&fields, "events", "an event such as `push`", check_event, problems);
    let permissions = fields.read_or("may", BTreeSet::from([Permission::Promote]), problems, read_permissions);
    let all_services = "name services, or take the key away for all";
    let services = read_optional_names(&fields, "services", known.services(), MAX_NAMES, all_services, problems);
    let environments =
        read_optional_names(&fields, "environments", known.environments(), MAX_NAMES, "name environments", problems);
    if problems.count() > count {
        return None;
    }
    Some(Grant {
        repository_id: repository_id?,
        repository_owner_id: repository_owner_id?,
        refs: refs?,
        github_environment,
        workflows: workflows?,
        reusable_workflows: reusable_workflows?,
        events: events?,
        permissions: permissions?,
        services: services?,
        environments: environments?,
    })
}

/// An empty list would match nothing, while it looks as if it matched anything.
fn read_patterns(
    fields: &Fields<'_>,
    key: &str,
    description: &str,
    check: fn(&str) -> Result<(), String>,
    problems: &mut ProblemCollector,
) -> Option<Vec<String>> {
    let Some((node, path)) = fields.get(key) else { return Some(Vec::new()) };
    let nodes = values::list(node, &path, key, MAX_PATTERNS, problems)?;
    if nodes.is_empty() {
        problems.add(node.mark, &path, format!("the list is empty: name {key}, or take the key away"));
        return None;
    }
    let mut patterns: Vec<String> = Vec::new();
    for (node, path) in nodes {
        let Some(written) = values::line(node, &path, description, MAX_PATTERN_BYTES, problems) else { continue };
        match check(&written) {
            Ok(()) if patterns.contains(&written) => {
                problems.add(
                    node.mark,
                    &path,
                    format!("`{}` is there already: take one away", values::shorten(&written)),
                );
            }
            Ok(()) => patterns.push(written),
            Err(message) => problems.add(node.mark, &path, message),
        }
    }
    Some(patterns)
}

fn check_ref(written: &str) -> Result<(), String> {
    if written.starts_with("refs/pull/") {
        return Err("pull requests are never granted anything: their code is not reviewed yet; take it away".to_owned());
    }
    if !written.starts_with("refs/heads/") && !written.starts_with("refs/tags/") {
        return Err(format!(
            "`{}` is not a ref in full: write `refs/heads/…` for branches, `refs/tags/…` for tags",
            values::shorten(written)
        ));
    }
    check_glob(written)
}

fn check_workflow(written: &str) -> Result<(), String> {
    if written.contains('@') {
        return Err(
            "write the workflow's path alone: on which branches and tags it may run is said under `refs`".to_owned()
        );
    }
    if !written.starts_with(grants::WORKFLOW_DIR) {
        return Err(format!(
            "`{}` is not a workflow's path: write it as it is in the repository, such as `.github/workflows/promote.yml`",
            values::shorten(written)
        ));
    }
    check_glob(written)
}

/// Requires the complete form of claim `job_workflow_ref`: a path alone would match any repository, and a name without a ref
/// any branch.
fn check_reusable(written: &str) -> Result<(), String> {
    let wrong = || {
        format!(
            "`{}` is not a reusable workflow in full: write owner, repository, path and ref, such as \
             `octo-org/workflows/.github/workflows/deploy.yml@refs/heads/main`",
            values::shorten(written)
        )
    };
    let (repository, rest) = grants::split_repository(written).ok_or_else(wrong)?;
    let (path, git_ref) = rest.split_once('@').ok_or_else(wrong)?;
    let named = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let commit = git_ref.len() == 40 && git_ref.bytes().all(|b| b.is_ascii_hexdigit());
    let on_ref = commit || git_ref.starts_with("refs/heads/") || git_ref.starts_with("refs/tags/");
    let file = path.strip_prefix(grants::WORKFLOW_DIR).filter(|file| !file.is_empty());
    if !repository.split('/').all(named) || file.is_none() || !on_ref {
        return Err(wrong());
    }
    check_glob(rest)
}

fn check_glob(written: &str) -> Result<(), String> {
    grants::glob(written).map(|_| ()).map_err(|error| {
        format!(
            "`{}` is not a glob such as `refs/tags/v*`: {}",
            values::shorten(written),
            values::shorten(&error.kind().to_string())
        )
    })
}

fn check_event(written: &str) -> Result<(), String> {
    if FORBIDDEN_EVENTS.contains(&written) {
        return Err(format!(
            "`{written}` is never granted anything: it runs for what strangers propose; let `push` do it once it is merged"
        ));
    }
    if !written.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
        return Err(format!("`{}` is not an event of GitHub Actions, such as `push`", values::shorten(written)));
    }
    Ok(())
}

fn read_permissions(
    node: LocatedNode<'_>,
    path: &str,
    problems: &mut ProblemCollector,
) -> Option<BTreeSet<Permission>> {
    let nodes = values::list(node, path, "deeds", PERMISSIONS.len(), problems)?;
    if nodes.is_empty() {
        problems.add(node.mark, path, "the list is empty: a workflow that may do nothing needs no grant");
        return None;
    }
    let mut permissions = BTreeSet::new();
    for (node, path) in nodes {
        if let Some(permission) = values::choice(node, &path, &PERMISSIONS, problems)
            && !permissions.insert(permission)
        {
            let word = values::word(&PERMISSIONS, &permission);
            problems.add(node.mark, &path, format!("`{word}` is there already: take one away"));
        }
    }
    Some(permissions)
}
