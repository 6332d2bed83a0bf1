//! The file's top: application, services, environments. Goes on after a problem, so that all of them are told at once.

use crate::entry::{Before, depends_on, entry_rules, trigger};
use crate::github::grants;
use crate::names::{Known, Named};
use crate::notify::notifications;
use crate::order::{Station, check_environments, check_services};
use crate::people::{People, people};
use crate::problem::{Found, Mark, Problem, Problems};
use crate::target::{Wishes, check_targets, read_target, wishes};
use crate::walk::{self, At, Fields, Shape};
use crate::{arn, tags, tree};
use rollout::policy::{
    Concurrency, Drift, EnvironmentPolicy, Policy, Receiver, RegistryPolicy, ServicePolicy, TagRule,
};
use rollout::registry::{is_account, is_region};
use rollout::{Name, TargetPolicy};
use std::collections::BTreeMap;

/// The most targets that one application may have.
pub const MOST_TARGETS: usize = 100;
/// The largest checked policy, in bytes of JSON: together with the largest file it fits one item of the ledger (400 KB).
pub const LARGEST_POLICY: usize = 128 * 1024;

const MOST_SERVICES: usize = 50;
const MOST_ENVIRONMENTS: usize = 20;

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

/// The words for what happens to a release that comes while another one is deployed.
pub(crate) const CONCURRENCY: [(&str, Concurrency); 4] = [
    ("queue-newest", Concurrency::QueueNewest),
    ("queue-all", Concurrency::QueueAll),
    ("cancel-running", Concurrency::CancelRunning),
    ("reject", Concurrency::Reject),
];

/// The words for what is done about edits while nothing is deployed.
pub(crate) const DRIFT: [(&str, Drift); 2] = [("tell", Drift::Tell), ("revert", Drift::Revert)];

/// Reads the text of a `switchback.yaml`.
///
/// # Errors
/// [`Problems`]: everything that is wrong with it, in the order of its lines.
pub fn parse(text: &str) -> Result<Policy, Problems> {
    let mut found = Found::default();
    let Some(root) = tree::read(text, &mut found) else {
        return found.into_result(None);
    };
    let policy = file(At { node: &root, mark: root.at }, &mut found);
    if let Some(policy) = policy.as_ref().filter(|_| found.count() == 0) {
        let size = serde_json::to_vec(policy).map_or(usize::MAX, |json| json.len());
        if size > LARGEST_POLICY {
            let message = format!(
                "written out, the targets take {size} bytes, at most {LARGEST_POLICY} are stored: split the application"
            );
            found.add(root.at, "", message);
        }
    }
    found.into_result(policy)
}

/// Reads the bytes of a `switchback.yaml`.
///
/// # Errors
/// [`Problems`]: everything that is wrong with it, in the order of its lines.
pub fn parse_bytes(bytes: &[u8]) -> Result<Policy, Problems> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text),
        Err(error) => {
            let sound = &bytes[..error.valid_up_to()];
            let line = 1 + sound.iter().filter(|byte| **byte == b'\n').count();
            let start = sound.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
            let column = 1 + String::from_utf8_lossy(&sound[start..]).chars().count();
            let message = "this is not UTF-8 text: save the file as UTF-8".to_owned();
            Err(Problems(vec![Problem { line, column, path: String::new(), message }]))
        }
    }
}

fn file(at: At<'_>, found: &mut Found) -> Option<Policy> {
    let fields = Fields::new(at, "", &FILE, found)?;
    let application =
        fields.read("application", found, |at, path, found| walk::name(at, path, "the application's name", found));
    // The names of services and environments count even where one itself is wrong: what refers to it is then not called
    // unknown.
    let mut services_named = None;
    let services = fields.read("services", found, |at, path, found| {
        let entries = section(at, path, "services by name", MOST_SERVICES, found)?;
        services_named = Some(names_of(&entries));
        services(entries, services_named.as_deref(), found)
    });
    let people = people(&fields, found);
    let environment_entries = fields.read("environments", found, |at, path, found| {
        Some((at, path.to_owned(), section(at, path, "environments by name", MOST_ENVIRONMENTS, found)?))
    });
    let environments_named = environment_entries.as_ref().map(|(_, _, entries)| names_of(entries));
    let known = Known { services: services_named.as_deref(), environments: environments_named.as_deref() };
    let grants = match fields.get("github") {
        Some((at, path)) => grants(at, &path, known, found),
        None => Some(Vec::new()),
    };
    let environments =
        environment_entries.map(|(at, path, entries)| environments(at, &path, entries, known, &people, found));
    let notifications = match fields.get("notifications") {
        Some((at, path)) => notifications(at, &path, known, found),
        None => Some(Vec::new()),
    };
    let topics = notifications.iter().flatten().filter_map(|route| match &route.receiver {
        Receiver::Topic(topic) => Some(topic.as_str()),
        Receiver::Slack(_) => None,
    });
    people.check_topics(topics, found);
    if !people.sound() {
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
    found: &mut Found,
) -> Option<BTreeMap<Name, ServicePolicy>> {
    let mut services = BTreeMap::new();
    let mut order = BTreeMap::new();
    for Entry { name, at, path, .. } in entries {
        let mut before = Vec::new();
        if let Some(service) = service(at, &path, &name, named, &mut before, found) {
            services.insert(name.clone(), service);
        }
        order.insert(name, before);
    }
    check_services(&order, found);
    Some(services)
}

fn environments(
    at: At<'_>,
    path: &str,
    entries: Vec<Entry<'_>>,
    known: Known<'_>,
    people: &People,
    found: &mut Found,
) -> BTreeMap<Name, EnvironmentPolicy> {
    let mut environments = BTreeMap::new();
    let (mut places, mut stations) = (Vec::new(), Vec::new());
    for Entry { name, at, path, .. } in entries {
        let mut station = Station { name: name.clone(), targets: None, before: None };
        if let Some(environment) = environment(at, &path, known, people, &mut places, &mut station, found) {
            environments.insert(name, environment);
        }
        stations.push(station);
    }
    let count: usize = environments.values().map(|environment: &EnvironmentPolicy| environment.targets.len()).sum();
    if count > MOST_TARGETS {
        found.add(
            at.mark,
            path,
            format!("there are {count} targets, at most {MOST_TARGETS} are allowed: split the application"),
        );
    }
    check_targets(&places, found);
    check_environments(&stations, found);
    environments
}

/// An entry of a mapping from names of ours.
#[derive(Debug)]
pub(crate) struct Entry<'n> {
    pub(crate) name: Name,
    pub(crate) key: Mark,
    pub(crate) at: At<'n>,
    pub(crate) path: String,
}

/// The entries of a mapping from names of ours.
pub(crate) fn section<'n>(
    at: At<'n>,
    path: &str,
    what: &str,
    most: usize,
    found: &mut Found,
) -> Option<Vec<Entry<'n>>> {
    let entries = walk::entries(at, path, &format!("a mapping of {what}"), found)?;
    if entries.is_empty() || entries.len() > most {
        let message = format!("there are {} {what}: expected 1 to {most}", entries.len());
        found.add(at.mark, path, message);
        return None;
    }
    let mut named = Vec::new();
    for (key, node) in entries {
        let path = walk::join(path, &key.text);
        if let Some(name) = walk::key_name(key, &path, found) {
            named.push(Entry { name, key: key.at, at: walk::value_at(key, node), path });
        }
    }
    Some(named)
}

/// Reads a service; what it depends on is put into `before`, with its places.
fn service(
    at: At<'_>,
    path: &str,
    own: &Name,
    named: Option<&[Name]>,
    before: &mut Vec<Named>,
    found: &mut Found,
) -> Option<ServicePolicy> {
    let fields = Fields::new(at, path, &SERVICE, found)?;
    let registry = match fields.get("registry") {
        Some((at, path)) => registry(at, &path, found),
        None => Some(RegistryPolicy::default()),
    };
    let repository = fields.read("repository", found, |at, path, found| {
        let written = walk::text(at, path, "the name of an ECR repository", found)?;
        match arn::repository(written) {
            Ok(()) => Some(written.to_owned()),
            Err(message) => {
                found.add(at.mark, path, message);
                None
            }
        }
    });
    let tags = match fields.get("tags") {
        Some((at, path)) => tags(at, &path, found),
        None => Some(TagRule::Glob("*".to_owned())),
    };
    let paused = match fields.get("paused") {
        Some((at, path)) => walk::boolean(at, &path, found),
        None => Some(false),
    };
    let depends_on = match fields.get("depends_on") {
        Some((at, path)) => depends_on(at, &path, own, named, MOST_SERVICES, found),
        None => Some(Vec::new()),
    };
    if let Some(names) = &depends_on {
        before.clone_from(names);
    }
    let depends_on = depends_on.map(|names| names.into_iter().map(Named::into_name).collect());
    Some(ServicePolicy {
        registry: registry?,
        repository: repository?,
        tags: tags?,
        paused: paused?,
        depends_on: depends_on?,
    })
}

/// Reads a registry: an account, a Region, or both. What is left out is the control plane's own.
fn registry(at: At<'_>, path: &str, found: &mut Found) -> Option<RegistryPolicy> {
    let fields = Fields::new(at, path, &REGISTRY, found)?;
    let account = fields.get("account").map(|(at, path)| {
        let written = match &at.node.value {
            tree::Value::Scalar { text, .. } => text.as_str(),
            _ => "",
        };
        let sound = is_account(written);
        if !sound {
            let what = walk::kind(at.node);
            found.add(at.mark, &path, format!("expected the 12 digits of an AWS account, found {what}"));
        }
        sound.then(|| written.to_owned())
    });
    let region = fields.get("region").map(|(at, path)| {
        let written = walk::text(at, &path, "a Region such as `eu-central-1`", found)?;
        let sound = is_region(written);
        if !sound {
            let message = format!("expected a Region such as `eu-central-1`, found `{}`", walk::shown(written));
            found.add(at.mark, &path, message);
        }
        sound.then(|| written.to_owned())
    });
    if account.is_none() && region.is_none() {
        let message = "names neither `account` nor `region`: write one of them, or take the key away".to_owned();
        found.add(at.mark, path, message);
        return None;
    }
    let sound = account.as_ref().is_none_or(Option::is_some) && region.as_ref().is_none_or(Option::is_some);
    sound.then(|| RegistryPolicy { account: account.flatten(), region: region.flatten() })
}

/// Reads which tags are taken: one pattern, and one that excludes some of them.
fn tags(at: At<'_>, path: &str, found: &mut Found) -> Option<TagRule> {
    let fields = Fields::new(at, path, &TAGS, found)?;
    let take = tag_rule(&fields, at, path, found);
    match fields.get("not") {
        Some((at, path)) => {
            let not = Fields::new(at, &path, &NOT_TAGS, found).and_then(|fields| tag_rule(&fields, at, &path, found));
            Some(tags::except(take?, not?))
        }
        None => take,
    }
}

fn tag_rule(fields: &Fields<'_>, at: At<'_>, path: &str, found: &mut Found) -> Option<TagRule> {
    type Check = fn(&str) -> Result<TagRule, tags::TagRuleError>;
    let kinds: [(&str, &str, Check); 3] = [
        ("glob", "a glob such as `v*`", tags::glob),
        ("regex", "a regular expression such as `v[0-9]+`", tags::regex),
        ("semver", "a range of versions such as `>=1.2, <2`", tags::semver),
    ];
    let mut rules = Vec::new();
    let mut given = 0;
    for (key, what, check) in kinds {
        let Some((at, path)) = fields.get(key) else { continue };
        given += 1;
        let Some(written) = walk::text(at, &path, what, found) else { continue };
        match check(written) {
            Ok(rule) => rules.push(rule),
            Err(error) => found.add(at.mark, &path, describe(&error)),
        }
    }
    if given != 1 {
        found.add(
            at.mark,
            path,
            format!("there are {given} patterns: write exactly one of `glob`, `regex` and `semver`"),
        );
        return None;
    }
    rules.pop()
}

/// An error and its source in one line: the pattern's own parser knows best.
fn describe(error: &tags::TagRuleError) -> String {
    match std::error::Error::source(error) {
        // A regular expression's error draws the pattern over several lines; the last line says what is wrong.
        Some(source) => {
            let words = source.to_string();
            format!("{error}: {}", walk::shown(words.lines().last().unwrap_or_default().trim_start_matches("error: ")))
        }
        None => error.to_string(),
    }
}

/// Reads an environment; what others depend on is put into `station`.
fn environment(
    at: At<'_>,
    path: &str,
    known: Known<'_>,
    people: &People,
    places: &mut Vec<crate::target::Place>,
    station: &mut Station,
    found: &mut Found,
) -> Option<EnvironmentPolicy> {
    let fields = Fields::new(at, path, &ENVIRONMENT, found)?;
    let trigger = trigger(&fields, found);
    let (entry, before): (_, Option<Before>) = entry_rules(&fields, &station.name, known, people, found);
    station.before = before;
    let concurrency = match fields.get("concurrency") {
        Some((at, path)) => walk::choice(at, &path, &CONCURRENCY, found),
        None => Some(Concurrency::default()),
    };
    let drift = match fields.get("drift") {
        Some((at, path)) => walk::choice(at, &path, &DRIFT, found),
        None => Some(Drift::default()),
    };
    let defaults = match fields.get("defaults") {
        Some((at, path)) => match Fields::new(at, &path, &DEFAULTS, found) {
            Some(fields) => wishes(&fields, found),
            None => Wishes::default(),
        },
        None => Wishes::default(),
    };
    let targets = fields.read("targets", found, |at, path, found| {
        let mut targets: BTreeMap<Name, TargetPolicy> = BTreeMap::new();
        let entries = section(at, path, "targets by service", MOST_SERVICES, found)?;
        let there = entries.iter().map(|entry| (entry.name.clone(), entry.key, entry.path.clone()));
        station.targets = Some(there.collect());
        for Entry { name, key, at, path } in entries {
            if let Some(services) = known.services {
                known_service(&name, services, key, &path, found);
            }
            if let Some(target) = read_target(at, &path, &defaults, places, found) {
                targets.insert(name, TargetPolicy { drift: drift.unwrap_or_default(), ..target });
            }
        }
        Some(targets)
    });
    Some(EnvironmentPolicy { trigger: trigger?, concurrency: concurrency?, entry: entry?, targets: targets? })
}

fn known_service(name: &Name, services: &[Name], mark: Mark, path: &str, found: &mut Found) {
    if services.contains(name) {
        return;
    }
    let known: Vec<&str> = services.iter().map(Name::as_str).collect();
    let hint = match walk::nearest(name.as_str(), &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "add it there, or take the target away".to_owned(),
    };
    found.add(mark, path, format!("there is no service `{name}` under `services`: {hint}"));
}
