//! Grants for GitHub Actions workflows, as the file states them. [`grants`](mod@crate::grants) checks tokens against them.

use crate::grants::{self, FORBIDDEN_EVENTS};
use crate::names::{KnownNames, LocatedName, NameKind, known_names};
use crate::problem::ProblemCollector;
use crate::values::{self, Fields, LocatedNode, Shape};
use rollout::Name;
use rollout::entry::{Grant, Permission};
use std::collections::BTreeSet;

const MAX_GRANTS: usize = 50;
/// Maximum number of patterns or events in one key of a grant: all are compiled for each request of a workflow.
const MAX_PATTERNS: usize = 20;
/// Maximum number of names in one key of a grant.
const MAX_NAMES: usize = 50;

pub(crate) const GRANT: Shape = Shape {
    name: "Grant",
    keys: &[
        "repository_id",
        "repository_owner_id",
        "refs",
        "environment",
        "workflows",
        "reusable_workflows",
        "events",
        "may",
        "services",
        "environments",
    ],
    required: &["repository_id", "repository_owner_id", "environments"],
};

/// What a workflow can be allowed to do, in the file's notation.
const PERMISSIONS: [(&str, Permission); 3] =
    [("promote", Permission::Promote), ("deploy", Permission::Deploy), ("hotfix", Permission::Hotfix)];

/// Reads the list of grants.
pub(crate) fn grants(
    at: LocatedNode<'_>,
    path: &str,
    known: KnownNames<'_>,
    problems: &mut ProblemCollector,
) -> Option<Vec<Grant>> {
    let nodes = values::list(at, path, "grants", MAX_GRANTS, problems)?;
    let all: Vec<_> = nodes.into_iter().map(|(at, path)| grant(at, &path, known, problems)).collect();
    all.into_iter().collect()
}

fn grant(at: LocatedNode<'_>, path: &str, known: KnownNames<'_>, problems: &mut ProblemCollector) -> Option<Grant> {
    let count = problems.count();
    let fields = Fields::new(at, path, &GRANT, problems)?;
    let mut id = |key: &str, description: &str| {
        fields.read(key, problems, |at, path, problems| values::digits(at, path, description, problems))
    };
    let repository_id = id("repository_id", "GitHub's number of the repository");
    let repository_owner_id = id("repository_owner_id", "GitHub's number of the repository's owner");
    let github_environment = fields.read("environment", problems, |at, path, problems| {
        values::line(at, path, "the name of a GitHub environment", 255, problems)
    });
    let refs = patterns(&fields, "refs", "a ref such as `refs/heads/main` or `refs/tags/v*`", check_ref, problems);
    let workflows = patterns(
        &fields,
        "workflows",
        "a workflow's path such as `.github/workflows/promote.yml`",
        check_workflow,
        problems,
    );
    let reusable_workflows = patterns(
        &fields,
        "reusable_workflows",
        "a reusable workflow such as `octo-org/workflows/.github/workflows/deploy.yml@refs/heads/main`",
        check_reusable,
        problems,
    );
    let events = patterns(&fields, "events", "an event such as `push`", check_event, problems);
    let permissions = match fields.get("may") {
        Some((at, path)) => permissions(at, &path, problems),
        None => Some(BTreeSet::from([Permission::Promote])),
    };
    let services =
        names(&fields, "services", known.services(), "name services, or take the key away for all", problems);
    let environments = names(&fields, "environments", known.environments(), "name environments", problems);
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
fn patterns(
    fields: &Fields<'_>,
    key: &str,
    description: &str,
    check: fn(&str) -> Result<(), String>,
    problems: &mut ProblemCollector,
) -> Option<Vec<String>> {
    let Some((at, path)) = fields.get(key) else { return Some(Vec::new()) };
    let nodes = values::list(at, &path, key, MAX_PATTERNS, problems)?;
    if nodes.is_empty() {
        problems.add(at.mark, &path, format!("the list is empty: name {key}, or take the key away"));
        return None;
    }
    let mut patterns: Vec<String> = Vec::new();
    for (at, path) in nodes {
        let Some(written) = values::line(at, &path, description, crate::tags::MAX_PATTERN_BYTES, problems) else {
            continue;
        };
        match check(&written) {
            Ok(()) if patterns.contains(&written) => {
                problems.add(
                    at.mark,
                    &path,
                    format!("`{}` is there already: take one away", values::shorten(&written)),
                );
            }
            Ok(()) => patterns.push(written),
            Err(message) => problems.add(at.mark, &path, message),
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

fn permissions(at: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<BTreeSet<Permission>> {
    let nodes = values::list(at, path, "deeds", PERMISSIONS.len(), problems)?;
    if nodes.is_empty() {
        problems.add(at.mark, path, "the list is empty: a workflow that may do nothing needs no grant");
        return None;
    }
    let mut permissions = BTreeSet::new();
    for (at, path) in nodes {
        if let Some(permission) = values::choice(at, &path, &PERMISSIONS, problems)
            && !permissions.insert(permission)
        {
            problems.add(at.mark, &path, format!("`{}` is there already: take one away", permission_name(permission)));
        }
    }
    Some(permissions)
}

fn names(
    fields: &Fields<'_>,
    key: &str,
    kind: NameKind<'_>,
    empty_hint: &str,
    problems: &mut ProblemCollector,
) -> Option<Vec<Name>> {
    let Some((at, path)) = fields.get(key) else { return Some(Vec::new()) };
    let names = known_names(at, &path, kind, MAX_NAMES, empty_hint, problems)?;
    Some(names.into_iter().map(LocatedName::into_name).collect())
}

/// A permission in the file's notation.
pub(crate) fn permission_name(permission: Permission) -> &'static str {
    PERMISSIONS.iter().find(|(_, known)| *known == permission).map_or("", |(word, _)| word)
}
