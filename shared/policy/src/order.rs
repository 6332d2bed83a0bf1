//! The order of environments, and of services: whether it has a beginning, and leads anywhere.

use crate::entry::Before;
use crate::names::Named;
use crate::problem::{Found, Mark};
use rollout::Name;
use std::collections::{BTreeMap, BTreeSet};

/// What an environment says that others depend on.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) name: Name,
    /// The services that have a target there, and where that stands; none: they could not be read.
    pub(crate) targets: Option<Vec<(Name, Mark, String)>>,
    pub(crate) before: Option<Before>,
}

/// Checks the way of every service from one environment to the next.
pub(crate) fn check_environments(stations: &[Station], found: &mut Found) {
    let there: BTreeMap<&Name, Option<BTreeSet<&Name>>> = stations
        .iter()
        .map(|station| {
            let services = station.targets.as_ref().map(|targets| targets.iter().map(|(name, ..)| name).collect());
            (&station.name, services)
        })
        .collect();
    for station in stations {
        let Some(Before { any, names }) = &station.before else { continue };
        for (service, mark, path) in station.targets.iter().flatten() {
            let lacks = |named: &&Named| {
                let services = there.get(&named.name).and_then(Option::as_ref);
                named.name != station.name && services.is_some_and(|services| !services.contains(service))
            };
            let lacking: Vec<&str> = names.iter().filter(lacks).map(|named| named.name.as_str()).collect();
            if lacking.is_empty() || (*any && lacking.len() < names.len()) {
                continue;
            }
            let message = format!(
                "`{service}` has no target in {}, which `after` of `{}` names: nothing of it would ever be verified there; \
                 add a target there, or move this one to an environment without that `after`",
                lacking.join(" and in "),
                station.name
            );
            found.add(*mark, path, message);
        }
    }
    let edges = stations.iter().filter_map(|station| Some((&station.name, station.before.as_ref()?.names.as_slice())));
    for (circle, closes) in circles(edges) {
        let message =
            format!("{circle}: each of them waits for another one, and no release ever gets there; take one away");
        found.add(closes.mark, &closes.path, message);
    }
}

/// Checks that services do not depend on each other in a circle.
pub(crate) fn check_services(depends_on: &BTreeMap<Name, Vec<Named>>, found: &mut Found) {
    let edges = depends_on.iter().map(|(name, names)| (name, names.as_slice()));
    for (circle, closes) in circles(edges) {
        let message = format!("{circle}: none of them could go first; take one away");
        found.add(closes.mark, &closes.path, message);
    }
}

/// Every circle that a walk comes upon, in words, and the name that closes it.
fn circles<'n>(edges: impl Iterator<Item = (&'n Name, &'n [Named])>) -> Vec<(String, &'n Named)> {
    struct Walk<'n> {
        edges: BTreeMap<&'n Name, &'n [Named]>,
        /// From where the walk began to where it is.
        way: Vec<&'n Name>,
        done: BTreeSet<&'n Name>,
        circles: Vec<(String, &'n Named)>,
    }
    impl<'n> Walk<'n> {
        /// As deep as there are names: 50 at most.
        fn go(&mut self, from: &'n Name) {
            if !self.done.insert(from) {
                return;
            }
            self.way.push(from);
            let next = self.edges.get(from).copied().unwrap_or_default();
            for named in next {
                match self.way.iter().position(|name| **name == named.name) {
                    // Itself: said already.
                    Some(at) if at + 1 == self.way.len() => {}
                    Some(at) => {
                        let names = self.way[at..].iter().copied().chain([&named.name]).map(Name::as_str);
                        self.circles.push((format!("a circle: {}", names.collect::<Vec<_>>().join(" after ")), named));
                    }
                    None => self.go(&named.name),
                }
            }
            self.way.pop();
        }
    }
    let edges: BTreeMap<_, _> = edges.collect();
    let names: Vec<&Name> = edges.keys().copied().collect();
    let mut walk = Walk { edges, way: Vec::new(), done: BTreeSet::new(), circles: Vec::new() };
    for name in names {
        walk.go(name);
    }
    walk.circles
}
