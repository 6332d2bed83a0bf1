//! Names that one part of the file defines and another one refers to.

use crate::problem::{Mark, ProblemCollector};
use crate::values::{self, LocatedNode};
use rollout::Name;

/// Kind of a referenced name, and the names of that kind that the file defines; `None` where the defining section is invalid,
/// so that no name is reported as unknown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NameKind<'a> {
    /// Singular noun for messages: `service`.
    noun: &'static str,
    /// `the name of a service`.
    description: &'static str,
    /// Section that would define it, with its verb: `` `services` has``.
    owner: &'static str,
    known: Option<&'a [Name]>,
}

impl<'a> NameKind<'a> {
    pub(crate) fn services(known: Option<&'a [Name]>) -> Self {
        Self { noun: "service", description: "the name of a service", owner: "`services` has", known }
    }

    pub(crate) fn environments(known: Option<&'a [Name]>) -> Self {
        Self { noun: "environment", description: "the name of an environment", owner: "`environments` has", known }
    }

    pub(crate) fn people(known: Option<&'a [Name]>) -> Self {
        Self { noun: "person", description: "the name of a person", owner: "`people` has", known }
    }

    pub(crate) fn people_and_groups(known: Option<&'a [Name]>) -> Self {
        let (noun, description) = ("person or group", "the name of a person or a group");
        Self { noun, description, owner: "`people` and `groups` have", known }
    }
}

/// Names of the services and environments that the file defines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownNames<'a> {
    pub(crate) services: Option<&'a [Name]>,
    pub(crate) environments: Option<&'a [Name]>,
}

impl<'a> KnownNames<'a> {
    pub(crate) fn services(self) -> NameKind<'a> {
        NameKind::services(self.services)
    }

    pub(crate) fn environments(self) -> NameKind<'a> {
        NameKind::environments(self.environments)
    }
}

/// A name, and where the file has it.
#[derive(Debug, Clone)]
pub(crate) struct LocatedName {
    pub(crate) name: Name,
    pub(crate) mark: Mark,
    pub(crate) path: String,
}

impl LocatedName {
    pub(crate) fn into_name(self) -> Name {
        self.name
    }
}

/// Reads a name that the file must define.
pub(crate) fn known_name(
    at: LocatedNode<'_>,
    path: &str,
    kind: NameKind<'_>,
    problems: &mut ProblemCollector,
) -> Option<LocatedName> {
    let name = values::name(at, path, kind.description, problems)?;
    if let Some(known) = kind.known.filter(|known| !known.contains(&name)) {
        let known: Vec<&str> = known.iter().map(Name::as_str).collect();
        let hint = values::nearest(name.as_str(), &known)
            .map_or_else(|| format!("{} no such name", kind.owner), |near| format!("did you mean `{near}`?"));
        problems.add(at.mark, path, format!("there is no {} `{name}`: {hint}", kind.noun));
        return None;
    }
    Some(LocatedName { name, mark: at.mark, path: path.to_owned() })
}

/// Reads a list of names that the file must define, each once; `empty_hint` tells the author what to do about an empty list.
pub(crate) fn known_names(
    at: LocatedNode<'_>,
    path: &str,
    kind: NameKind<'_>,
    max: usize,
    empty_hint: &str,
    problems: &mut ProblemCollector,
) -> Option<Vec<LocatedName>> {
    let nodes = values::list(at, path, "names", max, problems)?;
    if nodes.is_empty() {
        problems.add(at.mark, path, format!("the list is empty: {empty_hint}"));
        return None;
    }
    let mut names: Vec<LocatedName> = Vec::new();
    let mut valid = true;
    for (at, path) in nodes {
        match known_name(at, &path, kind, problems) {
            Some(named) if names.iter().any(|other| other.name == named.name) => {
                problems.add(at.mark, &path, format!("`{}` is there already: take one away", named.name));
                valid = false;
            }
            Some(named) => names.push(named),
            None => valid = false,
        }
    }
    valid.then_some(names)
}
