//! What runs a target, and how traffic reaches it.

mod ecs;

use crate::arn::{self, ArnLocation};
use crate::file;
use crate::problem::{Mark, ProblemCollector};
use crate::tree::Value;
use crate::values::{self, Fields, LocatedNode};
use rollout::{Leg, Platform, Slot, TargetResources, Way};
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
    let written = PLATFORMS.into_iter().filter_map(|platform| platform.way(target.get(platform.key())?.0));
    if let Some(way) = written.min_by_key(|way| *way == Way::InPlace) {
        return Some(way);
    }
    let traffic = target.get("traffic");
    let entries = match traffic.as_ref().map(|(node, _)| &node.inner.value) {
        Some(Value::List(entries)) => entries.as_slice(),
        _ => &[],
    };
    let has_target_group = |entry| values::find_entry(entry, "target_group").is_some();
    entries.iter().any(has_target_group).then_some(Way::InPlace)
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
    let platform = read_platform(fields, target_groups, &mut reader, problems);
    Some(TargetResources { platform: platform?, traffic: traffic? })
}

/// A key of a target that says what runs it.
trait PlatformKey: Sync {
    fn key(&self) -> &'static str;

    /// How the versions replace one another, by the value of the key; none: it does not say.
    fn way(&self, node: LocatedNode<'_>) -> Option<Way>;

    /// Reads the value of the key; target groups of what changes its version in place are read elsewhere, and empty.
    fn read<'n>(
        &self,
        reader: &mut ResourceReader<'_, 'n>,
        node: LocatedNode<'n>,
        path: &str,
        problems: &mut ProblemCollector,
    ) -> Option<Platform>;

    /// Adds the target groups of what changes its version in place.
    fn with_target_groups(&self, platform: Platform, target_groups: Vec<String>) -> Platform;

    /// The value of the key; none: this is not what runs the target.
    fn render(&self, platform: &Platform) -> Option<serde_json::Value>;
}

/// A new platform is a module here, and a row.
const PLATFORMS: [&dyn PlatformKey; 1] = [&ecs::Ecs];

/// Reads the one key that says what runs the target.
fn read_platform<'n>(
    fields: &Fields<'n>,
    target_groups: Option<Vec<String>>,
    reader: &mut ResourceReader<'_, 'n>,
    problems: &mut ProblemCollector,
) -> Option<Platform> {
    let written: Vec<_> = PLATFORMS.into_iter().filter(|platform| fields.get(platform.key()).is_some()).collect();
    if let [first, second, ..] = written.as_slice() {
        let message = format!(
            "`{}` stands beside `{}`: one of them runs the target, take the other one away",
            second.key(),
            first.key()
        );
        problems.add(fields.mark, &fields.path, message);
        return None;
    }
    let platform = written.first().copied().unwrap_or(PLATFORMS[0]);
    let read =
        fields.read(platform.key(), problems, |node, path, problems| platform.read(reader, node, path, problems));
    Some(platform.with_target_groups(read?, target_groups?))
}

/// The key that says what runs a target, and its value.
pub(crate) fn render_platform(platform: &Platform) -> (&'static str, serde_json::Value) {
    let rendered = PLATFORMS.into_iter().find_map(|it| Some((it.key(), it.render(platform)?)));
    rendered.unwrap_or((PLATFORMS[0].key(), serde_json::Value::Null))
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
