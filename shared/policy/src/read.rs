//! The file's top level: application, services, environments. Continues after a problem, so that all are reported at once.

use crate::entry::{Upstream, depends_on, entry_rules, trigger};
use crate::github::grants;
use crate::names::{KnownNames, LocatedName};
use crate::notify::notifications;
use crate::order::{EnvironmentOrder, check_environments, check_services};
use crate::people::{People, people};
use crate::problem::{Mark, Problem, ProblemCollector, Problems};
use crate::target::{PartialTarget, check_no_shared_resources, partial_target, read_target};
use crate::values::{self, Fields, LocatedNode, Shape};
use crate::{arn, tags, tree};
use rollout::notification::Receiver;
use rollout::policy::{Concurrency, Drift, EnvironmentPolicy, Policy, RegistryPolicy, ServicePolicy, TagRule};
use rollout::registry::{is_account, is_region};
use rollout::{Name, TargetPolicy};
use std::collections::BTreeMap;

/// The most targets that one application may have.
pub const MAX_TARGETS: usize = 100;
/// The largest checked policy, in bytes of JSON: together with the largest file it fits one item of the ledger (400 KB).
pub const MAX_POLICY_BYTES: usize = 128 * 1024;

const MAX_SERVICES: usize = 50;
const MAX_ENVIRONMENTS: usize = 20;

pub(crate) const FILE: Shape = Shape {
    name: "File",
    keys: &["application", "services", "people", "groups", "github", "environments", "notifications"],
    required: &["application", "services", "environments"],
};
pub(crate) const SERVICE: Shape = Shape {
    name: "Service",
    keys: &["registry", "repository", "tags", "paused", "depends_on"],
    required: &["repository"],
};
pub(crate) const REGISTRY: Shape = Shape { name: "Registry", keys: &["account", "region"], required: &[] };
pub(crate) const TAGS: Shape = Shape { name: "Tags", keys: &["glob", "regex", "semver", "not"], required: &[] };
pub(crate) const NOT_TAGS: Shape = Shape { name: "NotTags", keys: &["glob", "regex", "semver"], required: &[] };
pub(crate) const ENVIRONMENT: Shape = Shape {
    name: "Environment",
    keys: &[
        "trigger",
        "after",
        "soak",
        "approval",
        "time_zone",
        "windows",
        "freezes",
        "hotfix",
        "trains",
        "give_up_after",
        "concurrency",
        "drift",
        "defaults",
        "targets",
    ],
    required: &["targets"],
};
pub(crate) const DEFAULTS: Shape =
    Shape { name: "Defaults", keys: &["strategy", "alarms", "hooks", "deadlines"], required: &[] };

/// Values of `concurrency`: what happens to a release that arrives while another one is being deployed.
pub(crate) const CONCURRENCY: [(&str, Concurrency); 4] = [
    ("queue-newest", Concurrency::QueueNewest),
    ("queue-all", Concurrency::QueueAll),
    ("cancel-running", Concurrency::CancelRunning),
    ("reject", Concurrency::Reject),
];

/// Values of `drift`: what happens to edits made outside Switchback while nothing is being deployed.
pub(crate) const DRIFT: [(&str, Drift); 2] = [("tell", Drift::Tell), ("revert", Drift::Revert)];

/// Reads the text of a `switchback.yaml`.
///
/// # Errors
/// [`Problems`]: all problems of the file, in the order of its lines.
pub fn parse(text: &str) -> Result<Policy, Problems> {
    let mut problems = ProblemCollector::default();
    let Some(root) = tree::read(text, &mut problems) else {
        return problems.into_result(None);
    };
    let policy = file(LocatedNode { node: &root, mark: root.at }, &mut problems);
    if let Some(policy) = policy.as_ref().filter(|_| problems.count() == 0) {
        let size = serde_json::to_vec(policy).map_or(usize::MAX, |json| json.len());
        if size > MAX_POLICY_BYTES {
            let message = format!(
                "written out, the targets take {size} bytes, at most {MAX_POLICY_BYTES} are stored: split the application"
            );
            problems.add(root.at, "", message);
        }
    }
    problems.into_result(policy)
}

/// Reads the bytes of a `switchback.yaml`.
///
/// # Errors
/// [`Problems`]: all problems of the file, in the order of its lines.
pub fn parse_bytes(bytes: &[u8]) -> Result<Policy, Problems> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text),
        Err(error) => {
            let valid = &bytes[..error.valid_up_to()];
            let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
            let start = valid.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
            let column = 1 + String::from_utf8_lossy(&valid[start..]).chars().count();
            let message = "this is not UTF-8 text: save the file as UTF-8".to_owned();
            Err(Problems(vec![Problem { line, column, path: String::new(), message }]))
        }
    }
}

fn file(at: LocatedNode<'_>, problems: &mut ProblemCollector) -> Option<Policy> {
    let fields = Fields::new(at, "", &FILE, problems)?;
    let application = fields
        .read("application", problems, |at, path, problems| values::name(at, path, "the application's name", problems));
    // A service or environment with an invalid entry still counts as defined, so that references to it are not reported as
    // unknown.
    let mut service_names = None;
    let services = fields.read("services", problems, |at, path, problems| {
        let entries = section(at, path, "services by name", MAX_SERVICES, problems)?;
        service_names = Some(names_of(&entries));
        services(entries, service_names.as_deref(), problems)
    });
    let people = people(&fields, problems);
    let environment_entries = fields.read("environments", problems, |at, path, problems| {
        Some((at, path.to_owned(), section(at, path, "environments by name", MAX_ENVIRONMENTS, problems)?))
    });
    let environment_names = environment_entries.as_ref().map(|(_, _, entries)| names_of(entries));
    let known = KnownNames { services: service_names.as_deref(), environments: environment_names.as_deref() };
    let grants = match fields.get("github") {
        Some((at, path)) => grants(at, &path, known, problems),
        None => Some(Vec::new()),
    };
    let environments =
        environment_entries.map(|(at, path, entries)| environments(at, &path, entries, known, &people, problems));
    let notifications = match fields.get("notifications") {
        Some((at, path)) => notifications(at, &path, known, problems),
        None => Some(Vec::new()),
    };
    let topics = notifications.iter().flatten().filter_map(|route| match &route.receiver {
        Receiver::Topic(topic) => Some(topic.as_str()),
        Receiver::Slack(_) => None,
    });
    people.check_mail_topics(topics, problems);
    if !people.valid() {
        return None;
    }
    Some(Policy {
        application: application?,
        services: services?,
        environments: environments?,
        people: people.people,
        groups: people.groups,
        grants: grants?,
        notifications: notifications?,
    })
}

fn names_of(entries: &[Entry<'_>]) -> Vec<Name> {
    entries.iter().map(|entry| entry.name.clone()).collect()
}

fn services(
    entries: Vec<Entry<'_>>,
    named: Option<&[Name]>,
    problems: &mut ProblemCollector,
) -> Option<BTreeMap<Name, ServicePolicy>> {
    let mut services = BTreeMap::new();
    let mut order = BTreeMap::new();
    for Entry { name, at, path, .. } in entries {
        let mut upstream = Vec::new();
        if let Some(service) = service(at, &path, &name, named, &mut upstream, problems) {
            services.insert(name.clone(), service);
        }
        order.insert(name, upstream);
    }
    check_services(&order, problems);
    Some(services)
}

fn environments(
    at: LocatedNode<'_>,
    path: &str,
    entries: Vec<Entry<'_>>,
    known: KnownNames<'_>,
    people: &People,
    problems: &mut ProblemCollector,
) -> BTreeMap<Name, EnvironmentPolicy> {
    let mut environments = BTreeMap::new();
    let (mut resources, mut environment_orders) = (Vec::new(), Vec::new());
    for Entry { name, at, path, .. } in entries {
        let mut environment_order = EnvironmentOrder { name: name.clone(), targets: None, upstream: None };
        if let Some(environment) =
            environment(at, &path, known, people, &mut resources, &mut environment_order, problems)
        {
            environments.insert(name, environment);
        }
        environment_orders.push(environment_order);
    }
    let count: usize = environments.values().map(|environment: &EnvironmentPolicy| environment.targets.len()).sum();
    if count > MAX_TARGETS {
        problems.add(
            at.mark,
            path,
            format!("there are {count} targets, at most {MAX_TARGETS} are allowed: split the application"),
        );
    }
    check_no_shared_resources(&resources, problems);
    check_environments(&environment_orders, problems);
    environments
}

/// An entry of a mapping keyed by Switchback's own names.
#[derive(Debug)]
pub(crate) struct Entry<'n> {
    pub(crate) name: Name,
    pub(crate) key: Mark,
    pub(crate) at: LocatedNode<'n>,
    pub(crate) path: String,
}

/// The entries of a mapping keyed by Switchback's own names.
pub(crate) fn section<'n>(
    at: LocatedNode<'n>,
    path: &str,
    description: &str,
    max: usize,
    problems: &mut ProblemCollector,
) -> Option<Vec<Entry<'n>>> {
    let entries = values::entries(at, path, &format!("a mapping of {description}"), problems)?;
    if entries.is_empty() || entries.len() > max {
        let message = format!("there are {} {description}: expected 1 to {max}", entries.len());
        problems.add(at.mark, path, message);
        return None;
    }
    let mut named = Vec::new();
    for (key, node) in entries {
        let path = values::join(path, &key.text);
        if let Some(name) = values::key_name(key, &path, problems) {
            named.push(Entry { name, key: key.at, at: values::value_at(key, node), path });
        }
    }
    Some(named)
}

/// Reads a service; its dependencies are added to `upstream`, with their positions.
fn service(
    at: LocatedNode<'_>,
    path: &str,
    own: &Name,
    named: Option<&[Name]>,
    upstream: &mut Vec<LocatedName>,
    problems: &mut ProblemCollector,
) -> Option<ServicePolicy> {
    let fields = Fields::new(at, path, &SERVICE, problems)?;
    let registry = match fields.get("registry") {
        Some((at, path)) => registry(at, &path, problems),
        None => Some(RegistryPolicy::default()),
    };
    let repository = fields.read("repository", problems, |at, path, problems| {
        let written = values::text(at, path, "the name of an ECR repository", problems)?;
        match arn::repository(written) {
            Ok(()) => Some(written.to_owned()),
            Err(message) => {
                problems.add(at.mark, path, message);
                None
            }
        }
    });
    let tags = match fields.get("tags") {
        Some((at, path)) => tags(at, &path, problems),
        None => Some(TagRule::Glob("*".to_owned())),
    };
    let paused = match fields.get("paused") {
        Some((at, path)) => values::boolean(at, &path, problems),
        None => Some(false),
    };
    let depends_on = match fields.get("depends_on") {
        Some((at, path)) => depends_on(at, &path, own, named, MAX_SERVICES, problems),
        None => Some(Vec::new()),
    };
    if let Some(names) = &depends_on {
        upstream.clone_from(names);
    }
    let depends_on = depends_on.map(|names| names.into_iter().map(LocatedName::into_name).collect());
    Some(ServicePolicy {
        registry: registry?,
        repository: repository?,
        tags: tags?,
        paused: paused?,
        depends_on: depends_on?,
    })
}

/// Reads a registry: an account, a Region, or both. A missing one is the control plane's own.
fn registry(at: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<RegistryPolicy> {
    let fields = Fields::new(at, path, &REGISTRY, problems)?;
    let account = fields.get("account").map(|(at, path)| {
        let written = match &at.node.value {
            tree::Value::Scalar { text, .. } => text.as_str(),
            _ => "",
        };
        let valid = is_account(written);
        if !valid {
            let description = values::describe_node(at.node);
            problems.add(at.mark, &path, format!("expected the 12 digits of an AWS account, found {description}"));
        }
        valid.then(|| written.to_owned())
    });
    let region = fields.get("region").map(|(at, path)| {
        let written = values::text(at, &path, "a Region such as `eu-central-1`", problems)?;
        let valid = is_region(written);
        if !valid {
            let message = format!("expected a Region such as `eu-central-1`, found `{}`", values::shorten(written));
            problems.add(at.mark, &path, message);
        }
        valid.then(|| written.to_owned())
    });
    if account.is_none() && region.is_none() {
        let message = "names neither `account` nor `region`: write one of them, or take the key away".to_owned();
        problems.add(at.mark, path, message);
        return None;
    }
    let valid = account.as_ref().is_none_or(Option::is_some) && region.as_ref().is_none_or(Option::is_some);
    valid.then(|| RegistryPolicy { account: account.flatten(), region: region.flatten() })
}

/// Reads which tags become releases: one pattern, and one that excludes some of the matches.
fn tags(at: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<TagRule> {
    let fields = Fields::new(at, path, &TAGS, problems)?;
    let take = tag_rule(&fields, at, path, problems);
    match fields.get("not") {
        Some((at, path)) => {
            let not =
                Fields::new(at, &path, &NOT_TAGS, problems).and_then(|fields| tag_rule(&fields, at, &path, problems));
            Some(tags::except(take?, not?))
        }
        None => take,
    }
}

fn tag_rule(fields: &Fields<'_>, at: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<TagRule> {
    type Check = fn(&str) -> Result<TagRule, tags::TagRuleError>;
    let kinds: [(&str, &str, Check); 3] = [
        ("glob", "a glob such as `v*`", tags::glob),
        ("regex", "a regular expression such as `v[0-9]+`", tags::regex),
        ("semver", "a range of versions such as `>=1.2, <2`", tags::semver),
    ];
    let mut rules = Vec::new();
    let mut pattern_count = 0;
    for (key, description, check) in kinds {
        let Some((at, path)) = fields.get(key) else { continue };
        pattern_count += 1;
        let Some(written) = values::text(at, &path, description, problems) else { continue };
        match check(written) {
            Ok(rule) => rules.push(rule),
            Err(error) => problems.add(at.mark, &path, describe(&error)),
        }
    }
    if pattern_count != 1 {
        problems.add(
            at.mark,
            path,
            format!("there are {pattern_count} patterns: write exactly one of `glob`, `regex` and `semver`"),
        );
        return None;
    }
    rules.pop()
}

/// An error and its source on one line: the pattern's own parser explains it best.
fn describe(error: &tags::TagRuleError) -> String {
    match std::error::Error::source(error) {
        // A regular expression's error shows the pattern over several lines; the last line says what is wrong.
        Some(source) => {
            let source_text = source.to_string();
            format!(
                "{error}: {}",
                values::shorten(source_text.lines().last().unwrap_or_default().trim_start_matches("error: "))
            )
        }
        None => error.to_string(),
    }
}

/// Reads an environment; the parts that others depend on are added to `environment_order`.
fn environment(
    at: LocatedNode<'_>,
    path: &str,
    known: KnownNames<'_>,
    people: &People,
    resources: &mut Vec<crate::target::ExclusiveResource>,
    environment_order: &mut EnvironmentOrder,
    problems: &mut ProblemCollector,
) -> Option<EnvironmentPolicy> {
    let fields = Fields::new(at, path, &ENVIRONMENT, problems)?;
    let trigger = trigger(&fields, problems);
    let (entry, upstream): (_, Option<Upstream>) =
        entry_rules(&fields, &environment_order.name, known, people, problems);
    environment_order.upstream = upstream;
    let concurrency = match fields.get("concurrency") {
        Some((at, path)) => values::choice(at, &path, &CONCURRENCY, problems),
        None => Some(Concurrency::default()),
    };
    let drift = match fields.get("drift") {
        Some((at, path)) => values::choice(at, &path, &DRIFT, problems),
        None => Some(Drift::default()),
    };
    let defaults = match fields.get("defaults") {
        Some((at, path)) => match Fields::new(at, &path, &DEFAULTS, problems) {
            Some(fields) => partial_target(&fields, problems),
            None => PartialTarget::default(),
        },
        None => PartialTarget::default(),
    };
    let targets = fields.read("targets", problems, |at, path, problems| {
        let mut targets: BTreeMap<Name, TargetPolicy> = BTreeMap::new();
        let entries = section(at, path, "targets by service", MAX_SERVICES, problems)?;
        let located_services = entries.iter().map(|entry| (entry.name.clone(), entry.key, entry.path.clone()));
        environment_order.targets = Some(located_services.collect());
        for Entry { name, key, at, path } in entries {
            if let Some(services) = known.services {
                known_service(&name, services, key, &path, problems);
            }
            if let Some(target) = read_target(at, &path, &defaults, resources, problems) {
                targets.insert(name, TargetPolicy { drift: drift.unwrap_or_default(), ..target });
            }
        }
        Some(targets)
    });
    Some(EnvironmentPolicy { trigger: trigger?, concurrency: concurrency?, entry: entry?, targets: targets? })
}

fn known_service(name: &Name, services: &[Name], mark: Mark, path: &str, problems: &mut ProblemCollector) {
    if services.contains(name) {
        return;
    }
    let known: Vec<&str> = services.iter().map(Name::as_str).collect();
    let hint = match values::nearest(name.as_str(), &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "add it there, or take the target away".to_owned(),
    };
    problems.add(mark, path, format!("there is no service `{name}` under `services`: {hint}"));
}
