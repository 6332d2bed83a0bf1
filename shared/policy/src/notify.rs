//! Who is told of what.

use crate::arn;
use crate::problem::Found;
use crate::walk::{self, At, Fields, Shape};
use rollout::Name;
use rollout::policy::{Facts, NotificationPolicy};

const MOST_NOTIFICATIONS: usize = 20;
/// How many names one receiver may be narrowed down to.
const MOST_NAMES: usize = 50;

pub(crate) const NOTIFICATION: Shape =
    Shape { name: "Notification", keys: &["topic", "environments", "services", "facts"], required: &["topic"] };

/// The names that the file has; none where its own part of the file is wrong, and no name is called unknown for that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) services: Option<&'a [Name]>,
    pub(crate) environments: Option<&'a [Name]>,
}

/// Reads the list of receivers.
pub(crate) fn notifications(
    at: At<'_>,
    path: &str,
    known: Known<'_>,
    found: &mut Found,
) -> Option<Vec<NotificationPolicy>> {
    let nodes = walk::list(at, path, "notifications", MOST_NOTIFICATIONS, found)?;
    let all: Vec<_> = nodes.into_iter().map(|(at, path)| notification(at, &path, known, found)).collect();
    all.into_iter().collect()
}

fn notification(at: At<'_>, path: &str, known: Known<'_>, found: &mut Found) -> Option<NotificationPolicy> {
    let fields = Fields::new(at, path, &NOTIFICATION, found)?;
    let topic = fields.read("topic", found, |at, path, found| {
        let written = walk::text(at, path, "the ARN of an SNS topic", found)?;
        match arn::topic(written) {
            Ok(()) => Some(written.to_owned()),
            Err(message) => {
                found.add(at.mark, path, message);
                None
            }
        }
    });
    let environments = names(&fields, "environments", "environment", known.environments, found);
    let services = names(&fields, "services", "service", known.services, found);
    let facts = match fields.get("facts") {
        Some((at, path)) => {
            let choices = [("attention", Facts::Attention), ("verdicts", Facts::Verdicts), ("all", Facts::All)];
            walk::choice(at, &path, &choices, found)
        }
        None => Some(Facts::Attention),
    };
    Some(NotificationPolicy { topic: topic?, environments: environments?, services: services?, facts: facts? })
}

/// Names of one kind, each of which the file has. An empty list would tell of nothing, and is a slip.
fn names(fields: &Fields<'_>, key: &str, kind: &str, known: Option<&[Name]>, found: &mut Found) -> Option<Vec<Name>> {
    let Some((at, path)) = fields.get(key) else { return Some(Vec::new()) };
    let nodes = walk::list(at, &path, key, MOST_NAMES, found)?;
    if nodes.is_empty() {
        found.add(at.mark, &path, format!("the list is empty: name {key}, or take the key away to be told of all"));
        return None;
    }
    let mut names = Vec::new();
    let mut sound = true;
    for (at, path) in nodes {
        match walk::name(at, &path, &format!("the name of {} {kind}", article(kind)), found) {
            Some(name) => {
                if let Some(known) = known.filter(|known| !known.contains(&name)) {
                    let known: Vec<&str> = known.iter().map(Name::as_str).collect();
                    let hint = walk::nearest(name.as_str(), &known)
                        .map_or_else(|| format!("`{key}` has no such name"), |near| format!("did you mean `{near}`?"));
                    found.add(at.mark, &path, format!("there is no {kind} `{name}`: {hint}"));
                    sound = false;
                }
                names.push(name);
            }
            None => sound = false,
        }
    }
    sound.then_some(names)
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with('e') { "an" } else { "a" }
}

#[cfg(test)]
mod tests {
    use crate::{changes, parse};
    use rollout::policy::Facts;

    const EXAMPLE: &str = include_str!("../examples/switchback.yaml");
    const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:deployments";

    fn with(notifications: &str) -> String {
        let start = EXAMPLE.find("\nnotifications:").expect("the example tells of notifications");
        format!("{}\nnotifications: {notifications}\n", &EXAMPLE[..start])
    }

    fn problems(notifications: &str) -> Vec<String> {
        match parse(&with(notifications)) {
            Ok(policy) => panic!("accepted: {:?}", policy.notifications),
            Err(problems) => problems.0.iter().map(|it| format!("{}: {}", it.path, it.message)).collect(),
        }
    }

    #[test]
    fn a_topic_alone_is_told_of_what_is_worth_attention_everywhere() {
        let policy = parse(&with(&format!("[{{topic: \"{TOPIC}\"}}]"))).unwrap_or_else(|it| panic!("{it}"));
        let [route] = policy.notifications.as_slice() else { panic!("{:?}", policy.notifications) };
        assert_eq!((route.topic.as_str(), route.facts), (TOPIC, Facts::Attention));
        assert!(route.environments.is_empty() && route.services.is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_where_it_stands() {
        assert_eq!(
            problems("[{topic: deployments}]"),
            ["notifications[0].topic: expected the ARN of an SNS topic, such as \
              `arn:aws:sns:eu-central-1:123456789012:deployments`"]
        );
        assert_eq!(problems("[{facts: all}]"), ["notifications[0]: `topic` is missing: add it"]);
        let wrong = format!("[{{topic: \"{TOPIC}\", environments: [prd], services: [shop-front], facts: some}}]");
        assert_eq!(
            problems(&wrong),
            [
                "notifications[0].environments[0]: there is no environment `prd`: did you mean `prod`?",
                "notifications[0].services[0]: there is no service `shop-front`: `services` has no such name",
                "notifications[0].facts: expected one of `attention`, `verdicts`, `all`, found `some`",
            ]
        );
        let wrong = format!("[{{topic: \"{TOPIC}\", environments: []}}]");
        assert_eq!(
            problems(&wrong),
            [
                "notifications[0].environments: the list is empty: name environments, or take the key away to be told of all"
            ]
        );
    }

    #[test]
    fn a_changed_receiver_is_a_change() {
        let before = parse(EXAMPLE).expect("sound");
        let after = parse(&with(&format!("[{{topic: \"{TOPIC}\"}}]"))).expect("sound");
        let told = changes(Some(&before), &after);
        let paths: Vec<&str> = told.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["notifications"]);
        assert!(told[0].target.is_none() && told[0].before.is_some() && told[0].after.is_some());
    }
}
