//! What workflows of GitHub Actions may do, as the file says it. [`grants`](mod@crate::grants) holds it against tokens.

use crate::grants::{self, NEVER};
use crate::names::{Kind, Known, Named, known_names};
use crate::problem::Found;
use crate::walk::{self, At, Fields, Shape};
use rollout::Name;
use rollout::entry::{Deed, Grant};
use std::collections::BTreeSet;

const MOST_GRANTS: usize = 50;
/// How many patterns or events one key of a grant may have: each is compiled whenever a workflow asks.
const MOST_PATTERNS: usize = 20;
/// How many names.
const MOST_NAMES: usize = 50;

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

/// What a workflow can be allowed to do, in the file's words.
const DEEDS: [(&str, Deed); 3] = [("promote", Deed::Promote), ("deploy", Deed::Deploy), ("hotfix", Deed::Hotfix)];

/// Reads the list of grants.
pub(crate) fn grants(at: At<'_>, path: &str, known: Known<'_>, found: &mut Found) -> Option<Vec<Grant>> {
    let nodes = walk::list(at, path, "grants", MOST_GRANTS, found)?;
    let all: Vec<_> = nodes.into_iter().map(|(at, path)| grant(at, &path, known, found)).collect();
    all.into_iter().collect()
}

fn grant(at: At<'_>, path: &str, known: Known<'_>, found: &mut Found) -> Option<Grant> {
    let count = found.count();
    let fields = Fields::new(at, path, &GRANT, found)?;
    let mut id = |key: &str, what: &str| fields.read(key, found, |at, path, found| walk::digits(at, path, what, found));
    let repository_id = id("repository_id", "GitHub's number of the repository");
    let repository_owner_id = id("repository_owner_id", "GitHub's number of the repository's owner");
    let github_environment = fields.read("environment", found, |at, path, found| {
        walk::line(at, path, "the name of a GitHub environment", 255, found)
    });
    let refs = texts(&fields, "refs", "a ref such as `refs/heads/main` or `refs/tags/v*`", check_ref, found);
    let workflows =
        texts(&fields, "workflows", "a workflow's path such as `.github/workflows/promote.yml`", check_workflow, found);
    let reusable_workflows = texts(
        &fields,
        "reusable_workflows",
        "a reusable workflow such as `octo-org/workflows/.github/workflows/deploy.yml@refs/heads/main`",
        check_reusable,
        found,
    );
    let events = texts(&fields, "events", "an event such as `push`", check_event, found);
    let may = match fields.get("may") {
        Some((at, path)) => may(at, &path, found),
        None => Some(BTreeSet::from([Deed::Promote])),
    };
    let services = names(&fields, "services", known.services(), "name services, or take the key away for all", found);
    let environments = names(&fields, "environments", known.environments(), "name environments", found);
    if found.count() > count {
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
        may: may?,
        services: services?,
        environments: environments?,
    })
}

/// An empty list would fit nothing where it looks like anything.
fn texts(
    fields: &Fields<'_>,
    key: &str,
    what: &str,
    check: fn(&str) -> Result<(), String>,
    found: &mut Found,
) -> Option<Vec<String>> {
    let Some((at, path)) = fields.get(key) else { return Some(Vec::new()) };
    let nodes = walk::list(at, &path, key, MOST_PATTERNS, found)?;
    if nodes.is_empty() {
        found.add(at.mark, &path, format!("the list is empty: name {key}, or take the key away"));
        return None;
    }
    let mut texts: Vec<String> = Vec::new();
    for (at, path) in nodes {
        let Some(written) = walk::line(at, &path, what, crate::tags::LONGEST_PATTERN, found) else { continue };
        match check(&written) {
            Ok(()) if texts.contains(&written) => {
                found.add(at.mark, &path, format!("`{}` is there already: take one away", walk::shown(&written)));
            }
            Ok(()) => texts.push(written),
            Err(message) => found.add(at.mark, &path, message),
        }
    }
    Some(texts)
}

fn check_ref(written: &str) -> Result<(), String> {
    if written.starts_with("refs/pull/") {
        return Err("pull requests are never granted anything: their code is not reviewed yet; take it away".to_owned());
    }
    if !written.starts_with("refs/heads/") && !written.starts_with("refs/tags/") {
        return Err(format!(
            "`{}` is not a ref in full: write `refs/heads/…` for branches, `refs/tags/…` for tags",
            walk::shown(written)
        ));
    }
    pattern(written)
}

fn check_workflow(written: &str) -> Result<(), String> {
    if written.contains('@') {
        return Err(
            "write the workflow's path alone: on which branches and tags it may run is said under `refs`".to_owned()
        );
    }
    if !written.starts_with(grants::WORKFLOWS) {
        return Err(format!(
            "`{}` is not a workflow's path: write it as it is in the repository, such as `.github/workflows/promote.yml`",
            walk::shown(written)
        ));
    }
    pattern(written)
}

/// Whole, as claim `job_workflow_ref` has it: a path alone would be any repository's, and a name without a ref any branch's.
fn check_reusable(written: &str) -> Result<(), String> {
    let wrong = || {
        format!(
            "`{}` is not a reusable workflow in full: write owner, repository, path and ref, such as \
             `octo-org/workflows/.github/workflows/deploy.yml@refs/heads/main`",
            walk::shown(written)
        )
    };
    let (repository, rest) = grants::after_repository(written).ok_or_else(wrong)?;
    let (path, git_ref) = rest.split_once('@').ok_or_else(wrong)?;
    let named = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let commit = git_ref.len() == 40 && git_ref.bytes().all(|b| b.is_ascii_hexdigit());
    let on_ref = commit || git_ref.starts_with("refs/heads/") || git_ref.starts_with("refs/tags/");
    let file = path.strip_prefix(grants::WORKFLOWS).filter(|file| !file.is_empty());
    if !repository.split('/').all(named) || file.is_none() || !on_ref {
        return Err(wrong());
    }
    pattern(rest)
}

fn pattern(written: &str) -> Result<(), String> {
    grants::glob(written).map(|_| ()).map_err(|error| {
        format!(
            "`{}` is not a glob such as `refs/tags/v*`: {}",
            walk::shown(written),
            walk::shown(&error.kind().to_string())
        )
    })
}

fn check_event(written: &str) -> Result<(), String> {
    if NEVER.contains(&written) {
        return Err(format!(
            "`{written}` is never granted anything: it runs for what strangers propose; let `push` do it once it is merged"
        ));
    }
    if !written.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
        return Err(format!("`{}` is not an event of GitHub Actions, such as `push`", walk::shown(written)));
    }
    Ok(())
}

fn may(at: At<'_>, path: &str, found: &mut Found) -> Option<BTreeSet<Deed>> {
    let nodes = walk::list(at, path, "deeds", DEEDS.len(), found)?;
    if nodes.is_empty() {
        found.add(at.mark, path, "the list is empty: a workflow that may do nothing needs no grant");
        return None;
    }
    let mut may = BTreeSet::new();
    for (at, path) in nodes {
        if let Some(deed) = walk::choice(at, &path, &DEEDS, found)
            && !may.insert(deed)
        {
            found.add(at.mark, &path, format!("`{}` is there already: take one away", deed_word(deed)));
        }
    }
    Some(may)
}

fn names(fields: &Fields<'_>, key: &str, kind: Kind<'_>, otherwise: &str, found: &mut Found) -> Option<Vec<Name>> {
    let Some((at, path)) = fields.get(key) else { return Some(Vec::new()) };
    let names = known_names(at, &path, kind, MOST_NAMES, otherwise, found)?;
    Some(names.into_iter().map(Named::into_name).collect())
}

/// A deed as the file writes it.
pub(crate) fn deed_word(deed: Deed) -> &'static str {
    DEEDS.iter().find(|(_, known)| *known == deed).map_or("", |(word, _)| word)
}
