//! What runs a target, and how traffic reaches it.

use crate::arn::{self, ArnLocation};
use crate::file;
use crate::problem::{Mark, ProblemCollector};
use crate::tree::Value;
use crate::values::{self, Fields, LocatedNode};
use rollout::resources::cluster_name;
use rollout::{EcsPair, EcsRolling, Leg, Platform, Slot, TargetResources, Way};
use std::collections::{BTreeMap, BTreeSet};

/// Of one leg. ELB has a quota on rules, and each is read with every look.
const MAX_RULES: usize = 5;
/// Target groups per service (ECS quotas).
const MAX_TARGET_GROUPS: usize = 5;

/// A resource that only one target may name, and where the file names it.
#[derive(Debug)]
pub(crate) struct ExclusiveResource {
    /// Its kind and name, for messages.
    description: String,
    mark: Mark,
    path: String,
    /// Path of the target that names it.
    target: String,
}

/// Checks that all resources of a target are in one account and Region.
pub(crate) struct LocationCheck<'a> {
    path: &'a str,
    first: Option<(ArnLocation<'a>, &'static str)>,
}

impl<'a> LocationCheck<'a> {
    /// `path`: of the target.
    pub(crate) fn new(path: &'a str) -> Self {
        Self { path, first: None }
    }

    pub(crate) fn check(
        &mut self,
        location: ArnLocation<'a>,
        description: &'static str,
        mark: Mark,
        path: &str,
        problems: &mut ProblemCollector,
    ) {
        match self.first {
            None => self.first = Some((location, description)),
            Some((first, first_description)) if first != location => {
                let partition = |location: &ArnLocation<'_>, other: &ArnLocation<'_>| {
                    if location.partition() == other.partition() {
                        String::new()
                    } else {
                        format!(", partition {}", location.partition())
                    }
                };
                let message = format!(
                    "{description} is in {location}{}, {first_description} of `{}` in {first}{}: everything of a target is in one account and Region",
                    partition(&location, &first),
                    self.path,
                    partition(&first, &location)
                );
                problems.add(mark, path, message);
            }
            Some(_) => {}
        }
    }
}

/// How the versions of a target replace one another, by the keys that say what runs it and what its traffic reaches;
/// `None`: it has none of them.
pub(crate) fn written_way(target: &Fields<'_>) -> Option<Way> {
    let ecs = target.get("ecs");
    let ecs_has = |key: &str| ecs.as_ref().is_some_and(|(node, _)| values::find_entry(node.inner, key).is_some());
    if ecs_has("blue") || ecs_has("green") {
        return Some(Way::Weighted);
    }
    let traffic = target.get("traffic");
    let entries = match traffic.as_ref().map(|(node, _)| &node.inner.value) {
        Some(Value::List(entries)) => entries.as_slice(),
        _ => &[],
    };
    let has_target_group = |entry| values::find_entry(entry, "target_group").is_some();
    (ecs_has("service") || entries.iter().any(has_target_group)).then_some(Way::InPlace)
}

/// Reads `ecs` and `traffic` of a target. `way`: its [`written_way`].
pub(crate) fn read_resources<'n>(
    fields: &Fields<'n>,
    way: Option<Way>,
    locations: &mut LocationCheck<'n>,
    resources: &mut Vec<ExclusiveResource>,
    problems: &mut ProblemCollector,
) -> Option<TargetResources> {
    let mut reader = ResourceReader { target: &fields.path, locations, resources, rules: BTreeSet::new() };
    let (traffic, target_groups) = if way == Some(Way::InPlace) {
        let groups = fields.read_or("traffic", Vec::new(), problems, |node, path, problems| {
            reader.target_groups_in_place(node, path, problems)
        });
        (Some(Vec::new()), groups)
    } else {
        let legs = fields.read("traffic", problems, |node, path, problems| reader.legs(node, path, problems));
        (legs, Some(Vec::new()))
    };
    if way == Some(Way::Weighted) && fields.get("traffic").is_none() {
        let message = "`traffic` is missing: add the load balancers whose weights are moved, or name one `service` in \
                       place of `blue` and `green`";
        problems.add(fields.mark, &fields.path, message);
    }
    let ecs = fields.read("ecs", problems, |node, path, problems| reader.ecs(node, path, problems));
    let platform = match ecs? {
        Platform::EcsRolling(rolling) => Platform::EcsRolling(EcsRolling { target_groups: target_groups?, ..rolling }),
        pair @ Platform::EcsPair(_) => pair,
    };
    Some(TargetResources { platform, traffic: traffic? })
}

/// Reads the entries of `traffic`, at least one. `description` and `empty`: what they are called, and what to do where
/// there is none.
fn read_traffic<'n, T>(
    node: LocatedNode<'n>,
    path: &str,
    (description, empty): (&str, &str),
    problems: &mut ProblemCollector,
    mut read: impl FnMut(LocatedNode<'n>, &str, &mut ProblemCollector) -> Option<T>,
) -> Option<Vec<T>> {
    let nodes = values::list(node, path, description, MAX_TARGET_GROUPS, problems)?;
    if nodes.is_empty() {
        problems.add(node.mark, path, format!("there is nothing in it: {empty}"));
    }
    let count = nodes.len();
    let entries: Vec<T> = nodes.iter().filter_map(|(node, path)| read(*node, path, problems)).collect();
    (count > 0 && entries.len() == count).then_some(entries)
}

/// Reports an `ecs` that names neither a pair nor one service, half of a pair, or parts of both.
fn check_service_keys(ecs: &Fields<'_>, node: LocatedNode<'_>, problems: &mut ProblemCollector) {
    const ADVICE: &str = "write `blue` and `green`, a pair, or `service` alone, whose tasks are replaced in place";
    let [blue, green, service] = ["blue", "green", "service"].map(|key| values::find_entry(node.inner, key));
    match (blue, green, service) {
        (Some(_), Some(_), None) | (None, None, Some(_)) => {}
        (None, None, None) => problems.add(ecs.mark, &ecs.path, format!("no service is named: {ADVICE}")),
        (Some(_), None, None) => problems.add(ecs.mark, &ecs.path, format!("`green` is missing: {ADVICE}")),
        (None, Some(_), None) => problems.add(ecs.mark, &ecs.path, format!("`blue` is missing: {ADVICE}")),
        (_, _, Some((key, _))) => {
            let message = format!("`service` stands beside the sides of a pair: {ADVICE}");
            problems.add(key.mark, &values::join(&ecs.path, "service"), message);
        }
    }
}

/// Reads what one target names.
struct ResourceReader<'r, 'n> {
    /// Path of the target.
    target: &'r str,
    locations: &'r mut LocationCheck<'n>,
    resources: &'r mut Vec<ExclusiveResource>,
    /// The rules read so far.
    rules: BTreeSet<&'n str>,
}

impl<'n> ResourceReader<'_, 'n> {
    /// Reads `ecs`; the target groups of one service are named elsewhere, and are empty here.
    fn ecs(&mut self, node: LocatedNode<'n>, path: &str, problems: &mut ProblemCollector) -> Option<Platform> {
        let fields = Fields::new(node, path, file::Ecs::KEYS, problems)?;
        check_service_keys(&fields, node, problems);
        let cluster = fields.read("cluster", problems, |node, path, problems| {
            let parse = |written| arn::cluster(written).map(|arn| (written, arn));
            let (written, arn) = values::parsed_text(node, path, "the name of an ECS cluster", parse, problems)?;
            if let Some(arn) = arn {
                self.locations.check(arn.location(), "the cluster", node.mark, path, problems);
            }
            Some(written.to_owned())
        });
        let container = fields.read("container", problems, |node, path, problems| {
            values::checked_text(node, path, "the name of a container", arn::container, problems)
        });
        let [blue, green, service] = ["blue", "green", "service"].map(|key| {
            fields.read(key, problems, |node, path, problems| {
                let name = values::checked_text(node, path, "the name of an ECS service", arn::ecs_service, problems)?;
                Some((name, node.mark, path.to_owned()))
            })
        });
        if let (Some((blue, ..)), Some((green, mark, path))) = (&blue, &green)
            && blue == green
        {
            problems.add(*mark, path, "blue and green are the same service: each side has its own");
        }
        let cluster = cluster?;
        for (name, mark, path) in [&blue, &green, &service].into_iter().flatten() {
            self.own(format!("the ECS service `{name}` of cluster `{}`", cluster_name(&cluster)), *mark, path);
        }
        let container = container?;
        match (blue, green, service) {
            (Some((blue, ..)), Some((green, ..)), None) => {
                Some(Platform::EcsPair(EcsPair { cluster, container, blue, green }))
            }
            (None, None, Some((service, ..))) => {
                Some(Platform::EcsRolling(EcsRolling { cluster, container, service, target_groups: Vec::new() }))
            }
            _ => None,
        }
    }

    /// Reads `traffic` of a pair.
    fn legs(&mut self, node: LocatedNode<'n>, path: &str, problems: &mut ProblemCollector) -> Option<Vec<Leg>> {
        let empty = "name the target groups and the rules of at least one load balancer";
        read_traffic(node, path, ("load balancers", empty), problems, |node, path, problems| {
            self.leg(node, path, problems)
        })
    }

    /// Reads `traffic` of one service: ARNs of target groups, each once.
    fn target_groups_in_place(
        &mut self,
        node: LocatedNode<'n>,
        path: &str,
        problems: &mut ProblemCollector,
    ) -> Option<Vec<String>> {
        let hint = |key: &str, _: Option<&str>| {
            file::Leg::KEYS.iter().any(|known| known.name == key).then(|| {
                "weights need two sides, `blue` and `green` under `ecs`; of one `service` name the `target_group` only"
                    .to_owned()
            })
        };
        let mut named = BTreeSet::new();
        let empty = "name the target groups that the service registers its tasks in, or take the key away";
        read_traffic(node, path, ("target groups", empty), problems, |node, path, problems| {
            let fields = Fields::with_hints(node, path, file::InPlaceTargetGroup::KEYS, hint, problems)?;
            fields.read("target_group", problems, |node, path, problems| {
                let written = self.target_group(node, path, problems)?;
                if !named.insert(written) {
                    problems.add(node.mark, path, "this target group is there already: take one away");
                }
                Some(written.to_owned())
            })
        })
    }

    fn leg(&mut self, node: LocatedNode<'n>, path: &str, problems: &mut ProblemCollector) -> Option<Leg> {
        let hint = |key: &str, _: Option<&str>| {
            (key == "target_group").then(|| {
                "weights need two sides, so a pair names a target group for each, `blue` and `green`; `target_group` \
                 is for one `service`"
                    .to_owned()
            })
        };
        let fields = Fields::with_hints(node, path, file::Leg::KEYS, hint, problems)?;
        let groups = Slot::BOTH.map(|slot| {
            let key = match slot {
                Slot::Blue => "blue",
                Slot::Green => "green",
            };
            fields.read(key, problems, |node, path, problems| self.target_group(node, path, problems))
        });
        if let [Some(blue), Some(green)] = groups
            && blue == green
        {
            let (mark, path) =
                fields.get("green").map_or((node.mark, path.to_owned()), |(node, path)| (node.mark, path));
            problems.add(mark, &path, "blue and green are the same target group: each side has its own");
        }
        let rules = fields.read("rules", problems, |node, path, problems| {
            let nodes = values::list(node, path, "rules", MAX_RULES, problems)?;
            if nodes.is_empty() {
                let message = "there are no rules: name at least one listener rule or listener whose weights are moved";
                problems.add(node.mark, path, message);
            }
            Some(nodes)
        });
        let test_rule = fields.get("test_rule");
        let rules_and_test_rule = self.rules(rules.as_deref(), test_rule.as_ref(), problems);
        let [blue, green] = groups;
        let (blue, green) = (blue?.to_owned(), green?.to_owned());
        let (rules, test_rule) = rules_and_test_rule?;
        Some(Leg { blue, green, rules, test_rule })
    }

    fn target_group(&mut self, node: LocatedNode<'n>, path: &str, problems: &mut ProblemCollector) -> Option<&'n str> {
        let parse = |written| arn::target_group(written).map(|arn| (written, arn.location()));
        let (written, location) = values::parsed_text(node, path, "the ARN of a target group", parse, problems)?;
        self.locations.check(location, "the target group", node.mark, path, problems);
        self.own(format!("the target group `{written}`"), node.mark, path);
        Some(written)
    }

    fn own(&mut self, description: String, mark: Mark, path: &str) {
        let (path, target) = (path.to_owned(), self.target.to_owned());
        self.resources.push(ExclusiveResource { description, mark, path, target });
    }

    /// Reads the rules and the test rule: well-formed, each listed once, and all of one load balancer.
    fn rules(
        &mut self,
        rules: Option<&[(LocatedNode<'n>, String)]>,
        test_rule: Option<&(LocatedNode<'n>, String)>,
        problems: &mut ProblemCollector,
    ) -> Option<(Vec<String>, Option<String>)> {
        let mut first_load_balancer = None;
        let mut valid = true;
        let mut texts = Vec::new();
        for (node, path) in rules.into_iter().flatten().chain(test_rule) {
            let description = "the ARN of a listener rule or a listener";
            let parse = |written| arn::rule_or_listener(written).map(|rule| (written, rule));
            let Some((written, rule)) = values::parsed_text(*node, path, description, parse, problems) else {
                valid = false;
                continue;
            };
            self.locations.check(rule.arn.location(), "the rule", node.mark, path, problems);
            if !self.rules.insert(written) {
                let message =
                    "this rule is there already: each rule once, and the test rule is another than the `rules`";
                problems.add(node.mark, path, message);
            }
            if *first_load_balancer.get_or_insert(rule.load_balancer) != rule.load_balancer {
                let message = "this rule is of another load balancer than the first one: a target group belongs to \
                               one load balancer, and each load balancer is an entry of `traffic`";
                problems.add(node.mark, path, message);
            }
            self.own(format!("the rule `{written}`"), node.mark, path);
            texts.push(written.to_owned());
        }
        rules?;
        if !valid {
            return None;
        }
        let test_rule = if test_rule.is_some() { texts.pop() } else { None };
        Some((texts, test_rule))
    }
}

/// Checks that no two targets control the same resource.
pub(crate) fn check_no_shared_resources(resources: &[ExclusiveResource], problems: &mut ProblemCollector) {
    let mut owners: BTreeMap<&str, &ExclusiveResource> = BTreeMap::new();
    for resource in resources {
        let first = owners.entry(&resource.description).or_insert(resource);
        if first.target != resource.target {
            let message = format!(
                "{} belongs to `{}` already (line {}): two targets must not move the same thing",
                resource.description, first.target, first.mark.line
            );
            problems.add(resource.mark, &resource.path, message);
        }
    }
}
