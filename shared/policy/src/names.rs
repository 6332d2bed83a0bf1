//! Names that one part of the file defines and another one refers to.

use crate::problem::{Mark, ProblemCollector};
use crate::values::{self, Fields, LocatedNode};
use rollout::Name;

/// An entry of a mapping keyed by Switchback's own names.
#[derive(Debug)]
pub(crate) struct Entry<'n> {
    pub(crate) name: Name,
    /// Position of its key.
    pub(crate) key_mark: Mark,
    pub(crate) node: LocatedNode<'n>,
    pub(crate) path: String,
}

/// The entries of a mapping keyed by Switchback's own names.
pub(crate) fn read_section<'n>(
    node: LocatedNode<'n>,
    path: &str,
    description: &str,
    max: usize,
    problems: &mut ProblemCollector,
) -> Option<Vec<Entry<'n>>> {
    let entries = values::entries(node, path, &format!("a mapping of {description}"), problems)?;
    if entries.is_empty() || entries.len() > max {
        let message = format!("there are {} {description}: expected 1 to {max}", entries.len());
        problems.add(node.mark, path, message);
        return None;
    }
    let mut named = Vec::new();
    for (key, node) in entries {
        let path = values::join(path, &key.text);
        if let Some(name) = values::key_name(key, &path, problems) {
            named.push(Entry { name, key_mark: key.mark, node: values::value_at(key, node), path });
        }
    }
    Some(named)
}

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
pub(crate) fn read_known_name(
    node: LocatedNode<'_>,
    path: &str,
    kind: NameKind<'_>,
    problems: &mut ProblemCollector,
) -> Option<LocatedName> {
    let name = values::name(node, path, kind.description, problems)?;
    if let Some(known) = kind.known.filter(|known| !known.contains(&name)) {
        let known: Vec<&str> = known.iter().map(Name::as_str).collect();
        let hint = values::nearest(name.as_str(), &known)
            .map_or_else(|| format!("{} no such name", kind.owner), |near| format!("did you mean `{near}`?"));
        problems.add(node.mark, path, format!("there is no {} `{name}`: {hint}", kind.noun));
        return None;
    }
    Some(LocatedName { name, mark: node.mark, path: path.to_owned() })
}

/// Reads a list of names that the file must define, each once; `empty_hint` tells the author what to do about an empty list.
pub(crate) fn read_known_names(
    node: LocatedNode<'_>,
    path: &str,
    kind: NameKind<'_>,
    max: usize,
    empty_hint: &str,
    problems: &mut ProblemCollector,
) -> Option<Vec<LocatedName>> {
    let nodes = values::list(node, path, "names", max, problems)?;
    if nodes.is_empty() {
        problems.add(node.mark, path, format!("the list is empty: {empty_hint}"));
        return None;
    }
    let mut names: Vec<LocatedName> = Vec::new();
    let mut valid = true;
    for (node, path) in nodes {
        match read_known_name(node, &path, kind, problems) {
            Some(named) if names.iter().any(|other| other.name == named.name) => {
                problems.add(node.mark, &path, format!("`{}` is there already: take one away", named.name));
                valid = false;
            }
            Some(named) => names.push(named),
            None => valid = false,
        }
    }
    valid.then_some(names)
}

/// Reads an optional list of names that the file must define; empty where the key is missing.
pub(crate) fn read_optional_names(
    fields: &Fields<'_>,
    key: &str,
    kind: NameKind<'_>,
    max: usize,
    empty_hint: &str,
    problems: &mut ProblemCollector,
) -> Option<Vec<Name>> {
    fields.read_or(key, Vec::new(), problems, |node, path, problems| {
        let names = read_known_names(node, path, kind, max, empty_hint, problems)?;
        Some(names.into_iter().map(LocatedName::into_name).collect())
    })
}
