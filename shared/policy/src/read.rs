//! The file's top level: application, services, environments. Continues after a problem, so that all are reported at once.

use crate::entry::{Upstream, read_depends_on, read_entry_rules, read_trigger};
use crate::github::read_grants;
use crate::names::{Entry, KnownNames, LocatedName, read_section};
use crate::notify::read_notifications;
use crate::order::{EnvironmentOrder, check_environments, check_services};
use crate::people::{People, read_people};
use crate::problem::{Mark, Problem, ProblemCollector, Problems};
use crate::resources::{ExclusiveResource, check_no_shared_resources};
use crate::target::{read_partial_target, read_target};
use crate::tree::MAX_FILE_BYTES;
use crate::values::{self, Fields, LocatedNode, MIN_DEADLINE};
use crate::{arn, file, tags, tree};
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
    let policy = read_file(LocatedNode { inner: &root, mark: root.mark }, &mut problems);
    if let Some(policy) = policy.as_ref().filter(|_| problems.count() == 0) {
        let size = serde_json::to_vec(policy).map_or(usize::MAX, |json| json.len());
        if size > MAX_POLICY_BYTES {
            let message = format!(
                "as JSON, the policy takes {size} bytes, at most {MAX_POLICY_BYTES} are stored: split the application"
            );
            problems.add(root.mark, "", message);
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
        // It is refused for its length, and may have been cut within a character.
        Err(_) if bytes.len() > MAX_FILE_BYTES => parse(&String::from_utf8_lossy(bytes)),
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

fn read_file(node: LocatedNode<'_>, problems: &mut ProblemCollector) -> Option<Policy> {
    let fields = Fields::new(node, "", file::File::KEYS, problems)?;
    let application = fields.read("application", problems, |node, path, problems| {
        values::name(node, path, "the application's name", problems)
    });
    // A service or environment with an invalid entry still counts as defined, so that references to it are not reported as
    // unknown.
    let mut service_names = None;
    let services = fields.read("services", problems, |node, path, problems| {
        let entries = read_section(node, path, "services by name", MAX_SERVICES, problems)?;
        service_names = Some(names_of(&entries));
        read_services(entries, service_names.as_deref(), problems)
    });
    let people = read_people(&fields, problems);
    let environment_entries = fields.read("environments", problems, |node, path, problems| {
        Some((node, path.to_owned(), read_section(node, path, "environments by name", MAX_ENVIRONMENTS, problems)?))
    });
    let environment_names = environment_entries.as_ref().map(|(_, _, entries)| names_of(entries));
    let known = KnownNames { services: service_names.as_deref(), environments: environment_names.as_deref() };
    let grants =
        fields.read_or("github", Vec::new(), problems, |node, path, problems| read_grants(node, path, known, problems));
    let environments = environment_entries
        .map(|(node, path, entries)| read_environments(node, &path, entries, known, &people, problems));
    let notifications = fields.read_or("notifications", Vec::new(), problems, |node, path, problems| {
        read_notifications(node, path, known, problems)
    });
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

/// Reads the services. `known_services`: their names; `None` where the section could not be read, and then no name is
/// reported as unknown.
fn read_services(
    entries: Vec<Entry<'_>>,
    known_services: Option<&[Name]>,
    problems: &mut ProblemCollector,
) -> Option<BTreeMap<Name, ServicePolicy>> {
    let mut services = BTreeMap::new();
    let mut order = BTreeMap::new();
    for Entry { name, node, path, .. } in entries {
        let mut upstream = Vec::new();
        if let Some(service) = read_service(node, &path, &name, known_services, &mut upstream, problems) {
            services.insert(name.clone(), service);
        }
        order.insert(name, upstream);
    }
    check_services(&order, problems);
    Some(services)
}

fn read_environments(
    node: LocatedNode<'_>,
    path: &str,
    entries: Vec<Entry<'_>>,
    known: KnownNames<'_>,
    people: &People,
    problems: &mut ProblemCollector,
) -> BTreeMap<Name, EnvironmentPolicy> {
    let mut environments = BTreeMap::new();
    let (mut resources, mut environment_orders) = (Vec::new(), Vec::new());
    for Entry { name, node, path, .. } in entries {
        let mut environment_order = EnvironmentOrder { name: name.clone(), targets: None, upstream: None };
        if let Some(environment) =
            read_environment(node, &path, known, people, &mut resources, &mut environment_order, problems)
        {
            environments.insert(name, environment);
        }
        environment_orders.push(environment_order);
    }
    let count: usize = environments.values().map(|environment: &EnvironmentPolicy| environment.targets.len()).sum();
    if count > MAX_TARGETS {
        problems.add(
            node.mark,
            path,
            format!("there are {count} targets, at most {MAX_TARGETS} are allowed: split the application"),
        );
    }
    check_no_shared_resources(&resources, problems);
    check_environments(&environment_orders, problems);
    environments
}

/// Reads a service; its dependencies are added to `upstream`, with their positions. `known_services` as in
/// [`read_services`].
fn read_service(
    node: LocatedNode<'_>,
    path: &str,
    own: &Name,
    known_services: Option<&[Name]>,
    upstream: &mut Vec<LocatedName>,
    problems: &mut ProblemCollector,
) -> Option<ServicePolicy> {
    let fields = Fields::new(node, path, file::Service::KEYS, problems)?;
    let registry = fields.read_or("registry", RegistryPolicy::default(), problems, read_registry);
    let repository = fields.read("repository", problems, |node, path, problems| {
        values::checked_text(node, path, "the name of an ECR repository", arn::repository, problems)
    });
    let tags = fields.read_or("tags", TagRule::Glob("*".to_owned()), problems, read_tags);
    let paused = fields.read_or("paused", false, problems, values::boolean);
    let depends_on = fields.read_or("depends_on", Vec::new(), problems, |node, path, problems| {
        read_depends_on(node, path, own, known_services, MAX_SERVICES, problems)
    });
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
fn read_registry(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<RegistryPolicy> {
    let fields = Fields::new(node, path, file::Registry::KEYS, problems)?;
    let account = fields.get("account").map(|(node, path)| {
        let written = match &node.inner.value {
            tree::Value::Scalar { text, .. } => text.as_str(),
            _ => "",
        };
        let valid = is_account(written);
        if !valid {
            let description = values::describe_node(node.inner);
            problems.add(node.mark, &path, format!("expected the 12 digits of an AWS account, found {description}"));
        }
        valid.then(|| written.to_owned())
    });
    let region = fields.get("region").map(|(node, path)| {
        let written = values::text(node, &path, "a Region such as `eu-central-1`", problems)?;
        let valid = is_region(written);
        if !valid {
            let message = format!("expected a Region such as `eu-central-1`, found `{}`", values::shorten(written));
            problems.add(node.mark, &path, message);
        }
        valid.then(|| written.to_owned())
    });
    if account.is_none() && region.is_none() {
        let message = "names neither `account` nor `region`: write one of them, or take the key away".to_owned();
        problems.add(node.mark, path, message);
        return None;
    }
    let valid = account.as_ref().is_none_or(Option::is_some) && region.as_ref().is_none_or(Option::is_some);
    valid.then(|| RegistryPolicy { account: account.flatten(), region: region.flatten() })
}

/// Reads which tags become releases: one pattern, and one that excludes some of the matches.
fn read_tags(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<TagRule> {
    let fields = Fields::new(node, path, file::Tags::KEYS, problems)?;
    let take = read_tag_rule(&fields, node, path, problems);
    match fields.get("not") {
        Some((node, path)) => {
            let fields = Fields::new(node, &path, file::NotTags::KEYS, problems);
            let not = fields.and_then(|fields| read_tag_rule(&fields, node, &path, problems));
            Some(tags::except(take?, not?))
        }
        None => take,
    }
}

fn read_tag_rule(
    fields: &Fields<'_>,
    node: LocatedNode<'_>,
    path: &str,
    problems: &mut ProblemCollector,
) -> Option<TagRule> {
    type Check = fn(&str) -> Result<TagRule, tags::TagRuleError>;
    let kinds: [(&str, &str, Check); 3] = [
        ("glob", "a glob such as `v*`", tags::glob),
        ("regex", "a regular expression such as `v[0-9]+`", tags::regex),
        ("semver", "a range of versions such as `>=1.2, <2`", tags::semver),
    ];
    let mut rules = Vec::new();
    let mut pattern_count = 0;
    for (key, description, check) in kinds {
        let Some((node, path)) = fields.get(key) else { continue };
        pattern_count += 1;
        let Some(written) = values::text(node, &path, description, problems) else { continue };
        match check(written) {
            Ok(rule) => rules.push(rule),
            Err(error) => problems.add(node.mark, &path, describe(&error)),
        }
    }
    if pattern_count != 1 {
        problems.add(
            node.mark,
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
fn read_environment(
    node: LocatedNode<'_>,
    path: &str,
    known: KnownNames<'_>,
    people: &People,
    resources: &mut Vec<ExclusiveResource>,
    environment_order: &mut EnvironmentOrder,
    problems: &mut ProblemCollector,
) -> Option<EnvironmentPolicy> {
    let fields = Fields::new(node, path, file::Environment::KEYS, problems)?;
    let trigger = read_trigger(&fields, problems);
    let (entry, upstream): (_, Option<Upstream>) =
        read_entry_rules(&fields, &environment_order.name, known, people, problems);
    environment_order.upstream = upstream;
    let concurrency = fields.choice_or("concurrency", &CONCURRENCY, Concurrency::default(), problems);
    let drift = fields.choice_or("drift", &DRIFT, Drift::default(), problems);
    let recovery_time = fields
        .read("recovery_time", problems, |node, path, problems| values::duration(node, path, MIN_DEADLINE, problems));
    let defaults = fields.read("defaults", problems, |node, path, problems| {
        Some(read_partial_target(&Fields::new(node, path, file::Defaults::KEYS, problems)?, problems))
    });
    let defaults = defaults.unwrap_or_default();
    let targets = fields.read("targets", problems, |node, path, problems| {
        let mut targets: BTreeMap<Name, TargetPolicy> = BTreeMap::new();
        let entries = read_section(node, path, "targets by service", MAX_SERVICES, problems)?;
        let located_services = entries.iter().map(|entry| (entry.name.clone(), entry.key_mark, entry.path.clone()));
        environment_order.targets = Some(located_services.collect());
        for Entry { name, key_mark, node, path } in entries {
            if let Some(services) = known.services {
                check_service_is_known(&name, services, key_mark, &path, problems);
            }
            if let Some(target) = read_target(node, &path, &defaults, resources, problems) {
                targets.insert(name, TargetPolicy { drift: drift.unwrap_or_default(), recovery_time, ..target });
            }
        }
        Some(targets)
    });
    Some(EnvironmentPolicy {
        trigger: trigger?,
        concurrency: concurrency?,
        entry: entry?,
        targets: targets?,
        unreadable: BTreeMap::new(),
    })
}

fn check_service_is_known(name: &Name, services: &[Name], mark: Mark, path: &str, problems: &mut ProblemCollector) {
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
