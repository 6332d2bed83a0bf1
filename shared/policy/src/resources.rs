//! What runs a target, and how traffic reaches it.

use crate::arn::{self, ArnLocation};
use crate::file;
use crate::problem::{Mark, ProblemCollector};
use crate::values::{self, Fields, LocatedNode};
use rollout::resources::cluster_name;
use rollout::{EcsPair, Leg, Slot, TargetResources};
use std::collections::{BTreeMap, BTreeSet};

/// Of one leg. ELB has a quota on rules, and each is read with every look.
const MAX_RULES: usize = 5;
/// Target groups per service (ECS quotas).
const MAX_LEGS: usize = 5;

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

/// Reads `ecs` and `traffic` of a target.
pub(crate) fn read_resources<'n>(
    fields: &Fields<'n>,
    locations: &mut LocationCheck<'n>,
    resources: &mut Vec<ExclusiveResource>,
    problems: &mut ProblemCollector,
) -> Option<TargetResources> {
    let target = fields.path.clone();
    let traffic = fields.read("traffic", problems, |node, path, problems| {
        let nodes = values::list(node, path, "load balancers", MAX_LEGS, problems)?;
        if nodes.is_empty() {
            let message = "there is nothing in it: name the target groups and the rules of at least one load balancer";
            problems.add(node.mark, path, message);
        }
        let count = nodes.len();
        let mut reader = LegReader { target: &target, locations, resources, rules: BTreeSet::new() };
        let legs: Vec<Leg> = nodes.iter().filter_map(|(node, path)| reader.leg(*node, path, problems)).collect();
        (count > 0 && legs.len() == count).then_some(legs)
    });
    let ecs = fields
        .read("ecs", problems, |node, path, problems| read_ecs(node, path, &target, locations, resources, problems));
    Some(TargetResources { ecs: ecs?, traffic: traffic? })
}

fn read_ecs<'n>(
    node: LocatedNode<'n>,
    path: &str,
    target: &str,
    locations: &mut LocationCheck<'n>,
    resources: &mut Vec<ExclusiveResource>,
    problems: &mut ProblemCollector,
) -> Option<EcsPair> {
    let fields = Fields::new(node, path, file::Ecs::KEYS, problems)?;
    let cluster = fields.read("cluster", problems, |node, path, problems| {
        let parse = |written| arn::cluster(written).map(|arn| (written, arn));
        let (written, arn) = values::parsed_text(node, path, "the name of an ECS cluster", parse, problems)?;
        if let Some(arn) = arn {
            locations.check(arn.location(), "the cluster", node.mark, path, problems);
        }
        Some(written.to_owned())
    });
    let container = fields.read("container", problems, |node, path, problems| {
        values::checked_text(node, path, "the name of a container", arn::container, problems)
    });
    let mut service = |key: &str| {
        fields.read(key, problems, |node, path, problems| {
            let name = values::checked_text(node, path, "the name of an ECS service", arn::ecs_service, problems)?;
            Some((name, node.mark, path.to_owned()))
        })
    };
    let (blue, green) = (service("blue"), service("green"));
    if let (Some((blue, ..)), Some((green, mark, path))) = (&blue, &green)
        && blue == green
    {
        problems.add(*mark, path, "blue and green are the same service: each side has its own");
    }
    let cluster = cluster?;
    for (name, mark, path) in [&blue, &green].into_iter().flatten() {
        resources.push(ExclusiveResource {
            description: format!("the ECS service `{name}` of cluster `{}`", cluster_name(&cluster)),
            mark: *mark,
            path: path.clone(),
            target: target.to_owned(),
        });
    }
    Some(EcsPair { cluster, container: container?, blue: blue?.0, green: green?.0 })
}

/// Reads the legs of one target.
struct LegReader<'r, 'n> {
    target: &'r str,
    locations: &'r mut LocationCheck<'n>,
    resources: &'r mut Vec<ExclusiveResource>,
    /// The rules read so far.
    rules: BTreeSet<&'n str>,
}

impl<'n> LegReader<'_, 'n> {
    fn leg(&mut self, node: LocatedNode<'n>, path: &str, problems: &mut ProblemCollector) -> Option<Leg> {
        let fields = Fields::new(node, path, file::Leg::KEYS, problems)?;
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
