//! The order of environments and of services: every service can get from one environment to the next, and there are no
//! cycles.

use crate::entry::Upstream;
use crate::names::LocatedName;
use crate::problem::{Mark, ProblemCollector};
use rollout::Name;
use std::collections::{BTreeMap, BTreeSet};

/// The parts of an environment that others depend on.
#[derive(Debug)]
pub(crate) struct EnvironmentOrder {
    pub(crate) name: Name,
    /// The services with a target there, and where the file has it; `None` where they could not be read.
    pub(crate) targets: Option<Vec<(Name, Mark, String)>>,
    pub(crate) upstream: Option<Upstream>,
}

/// Checks every service's path from one environment to the next.
pub(crate) fn check_environments(environment_orders: &[EnvironmentOrder], problems: &mut ProblemCollector) {
    let services_by_environment: BTreeMap<&Name, Option<BTreeSet<&Name>>> = environment_orders
        .iter()
        .map(|environment_order| {
            let services =
                environment_order.targets.as_ref().map(|targets| targets.iter().map(|(name, ..)| name).collect());
            (&environment_order.name, services)
        })
        .collect();
    for environment_order in environment_orders {
        let Some(Upstream { any, names }) = &environment_order.upstream else { continue };
        for (service, mark, path) in environment_order.targets.iter().flatten() {
            let lacks = |named: &&LocatedName| {
                let services = services_by_environment.get(&named.name).and_then(Option::as_ref);
                named.name != environment_order.name && services.is_some_and(|services| !services.contains(service))
            };
            let lacking: Vec<&str> = names.iter().filter(lacks).map(|named| named.name.as_str()).collect();
            if lacking.is_empty() || (*any && lacking.len() < names.len()) {
                continue;
            }
            let message = format!(
                "`{service}` has no target in {}, which `after` of `{}` names: no release of it can be verified there; \
                 add a target there, or move this one to an environment without that `after`",
                lacking.join(" and in "),
                environment_order.name
            );
            problems.add(*mark, path, message);
        }
    }
    let edges = environment_orders.iter().filter_map(|environment_order| {
        Some((&environment_order.name, environment_order.upstream.as_ref()?.names.as_slice()))
    });
    for (cycle, closing) in cycles(edges) {
        let message = format!("{cycle}; remove one of them");
        problems.add(closing.mark, &closing.path, message);
    }
}

/// Checks that dependencies between services have no cycle.
pub(crate) fn check_services(depends_on: &BTreeMap<Name, Vec<LocatedName>>, problems: &mut ProblemCollector) {
    let edges = depends_on.iter().map(|(name, names)| (name, names.as_slice()));
    for (cycle, closing) in cycles(edges) {
        let message = format!("{cycle}; remove one of them");
        problems.add(closing.mark, &closing.path, message);
    }
}

/// Every cycle that a depth-first search finds, as text, with the reference that closes it.
fn cycles<'n>(edges: impl Iterator<Item = (&'n Name, &'n [LocatedName])>) -> Vec<(String, &'n LocatedName)> {
    struct CycleSearch<'n> {
        edges: BTreeMap<&'n Name, &'n [LocatedName]>,
        /// Names from the start of the search to the current one.
        path: Vec<&'n Name>,
        done: BTreeSet<&'n Name>,
        cycles: Vec<(String, &'n LocatedName)>,
    }
    impl<'n> CycleSearch<'n> {
        /// Recursion depth is at most the number of names: 50.
        fn visit(&mut self, from: &'n Name) {
            if !self.done.insert(from) {
                return;
            }
            self.path.push(from);
            let next = self.edges.get(from).copied().unwrap_or_default();
            for named in next {
                match self.path.iter().position(|name| **name == named.name) {
                    // A self-reference: reported already.
                    Some(at) if at + 1 == self.path.len() => {}
                    Some(at) => {
                        let names = self.path[at..].iter().copied().chain([&named.name]).map(Name::as_str);
                        let names = names.collect::<Vec<_>>().join(" -> ");
                        self.cycles.push((format!("dependency cycle: {names}"), named));
                    }
                    None => self.visit(&named.name),
                }
            }
            self.path.pop();
        }
    }
    let edges: BTreeMap<_, _> = edges.collect();
    let names: Vec<&Name> = edges.keys().copied().collect();
    let mut search = CycleSearch { edges, path: Vec::new(), done: BTreeSet::new(), cycles: Vec::new() };
    for name in names {
        search.visit(name);
    }
    search.cycles
}
