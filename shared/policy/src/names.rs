//! Names that one part of the file has and another one refers to.

use crate::problem::{Found, Mark};
use crate::walk::{self, At};
use rollout::Name;

/// What may be named in a place, and which names of it the file has; none where its own part of the file is wrong, and no
/// name is called unknown for that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind<'a> {
    /// `service`.
    one: &'static str,
    /// `the name of a service`.
    what: &'static str,
    /// Who would have it: `` `services` has``.
    owner: &'static str,
    known: Option<&'a [Name]>,
}

impl<'a> Kind<'a> {
    pub(crate) fn services(known: Option<&'a [Name]>) -> Self {
        Self { one: "service", what: "the name of a service", owner: "`services` has", known }
    }

    pub(crate) fn environments(known: Option<&'a [Name]>) -> Self {
        Self { one: "environment", what: "the name of an environment", owner: "`environments` has", known }
    }

    pub(crate) fn people(known: Option<&'a [Name]>) -> Self {
        Self { one: "person", what: "the name of a person", owner: "`people` has", known }
    }

    pub(crate) fn people_and_groups(known: Option<&'a [Name]>) -> Self {
        let (one, what) = ("person or group", "the name of a person or a group");
        Self { one, what, owner: "`people` and `groups` have", known }
    }
}

/// The services and environments of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) services: Option<&'a [Name]>,
    pub(crate) environments: Option<&'a [Name]>,
}

impl<'a> Known<'a> {
    pub(crate) fn services(self) -> Kind<'a> {
        Kind::services(self.services)
    }

    pub(crate) fn environments(self) -> Kind<'a> {
        Kind::environments(self.environments)
    }
}

/// A name, and where it is written.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: Name,
    pub(crate) mark: Mark,
    pub(crate) path: String,
}

impl Named {
    pub(crate) fn into_name(self) -> Name {
        self.name
    }
}

/// A name that the file has.
pub(crate) fn known_name(at: At<'_>, path: &str, kind: Kind<'_>, found: &mut Found) -> Option<Named> {
    let name = walk::name(at, path, kind.what, found)?;
    if let Some(known) = kind.known.filter(|known| !known.contains(&name)) {
        let known: Vec<&str> = known.iter().map(Name::as_str).collect();
        let hint = walk::nearest(name.as_str(), &known)
            .map_or_else(|| format!("{} no such name", kind.owner), |near| format!("did you mean `{near}`?"));
        found.add(at.mark, path, format!("there is no {} `{name}`: {hint}", kind.one));
        return None;
    }
    Some(Named { name, mark: at.mark, path: path.to_owned() })
}

/// Names that the file has, each once; `otherwise` is what to do about an empty list, for people.
pub(crate) fn known_names(
    at: At<'_>,
    path: &str,
    kind: Kind<'_>,
    most: usize,
    otherwise: &str,
    found: &mut Found,
) -> Option<Vec<Named>> {
    let nodes = walk::list(at, path, "names", most, found)?;
    if nodes.is_empty() {
        found.add(at.mark, path, format!("the list is empty: {otherwise}"));
        return None;
    }
    let mut names: Vec<Named> = Vec::new();
    let mut sound = true;
    for (at, path) in nodes {
        match known_name(at, &path, kind, found) {
            Some(named) if names.iter().any(|other| other.name == named.name) => {
                found.add(at.mark, &path, format!("`{}` is there already: take one away", named.name));
                sound = false;
            }
            Some(named) => names.push(named),
            None => sound = false,
        }
    }
    sound.then_some(names)
}
