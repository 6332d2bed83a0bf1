//! Receivers of notifications, and what they are sent.

use crate::arn;
use crate::names::{self, KnownNames, LocatedName, known_names};
use crate::people::slack_channel;
use crate::problem::ProblemCollector;
use crate::values::{self, Fields, LocatedNode, Shape};
use rollout::Name;
use rollout::notification::{FactFilter, NotificationPolicy, Receiver};

const MAX_NOTIFICATIONS: usize = 20;
/// Maximum number of names that one receiver may be restricted to.
const MAX_NAMES: usize = 50;

pub(crate) const NOTIFICATION: Shape =
    Shape { name: "Notification", keys: &["topic", "slack", "environments", "services", "facts"], required: &[] };

/// Reads the list of receivers.
pub(crate) fn notifications(
    at: LocatedNode<'_>,
    path: &str,
    known: KnownNames<'_>,
    problems: &mut ProblemCollector,
) -> Option<Vec<NotificationPolicy>> {
    let nodes = values::list(at, path, "notifications", MAX_NOTIFICATIONS, problems)?;
    let all: Vec<_> = nodes.into_iter().map(|(at, path)| notification(at, &path, known, problems)).collect();
    all.into_iter().collect()
}

fn notification(
    at: LocatedNode<'_>,
    path: &str,
    known: KnownNames<'_>,
    problems: &mut ProblemCollector,
) -> Option<NotificationPolicy> {
    let fields = Fields::new(at, path, &NOTIFICATION, problems)?;
    let receiver = receiver(at, path, &fields, problems);
    let environments = names(&fields, "environments", known.environments(), problems);
    let services = names(&fields, "services", known.services(), problems);
    let facts = match fields.get("facts") {
        Some((at, path)) => {
            let choices =
                [("attention", FactFilter::Attention), ("verdicts", FactFilter::Verdicts), ("all", FactFilter::All)];
            values::choice(at, &path, &choices, problems)
        }
        None => Some(FactFilter::Attention),
    };
    Some(NotificationPolicy { receiver: receiver?, environments: environments?, services: services?, facts: facts? })
}

fn receiver(at: LocatedNode<'_>, path: &str, fields: &Fields<'_>, problems: &mut ProblemCollector) -> Option<Receiver> {
    struct NameKind {
        key: &'static str,
        description: &'static str,
        check: fn(&str) -> Result<(), String>,
        make: fn(String) -> Receiver,
    }
    let topic =
        NameKind { key: "topic", description: "the ARN of an SNS topic", check: arn::topic, make: Receiver::Topic };
    let slack = NameKind {
        key: "slack",
        description: "the ID of a channel of Slack",
        check: slack_channel,
        make: Receiver::Slack,
    };
    let given: Vec<_> = [topic, slack].into_iter().filter_map(|kind| Some((fields.get(kind.key)?, kind))).collect();
    if given.len() != 1 {
        let both_or_neither = if given.is_empty() { "neither" } else { "both" };
        problems.add(at.mark, path, format!("there is {both_or_neither}: write exactly one of `topic` and `slack`"));
    }
    let mut receiver = None;
    for ((at, path), kind) in given {
        let Some(written) = values::text(at, &path, kind.description, problems) else { continue };
        match (kind.check)(written) {
            Ok(()) => receiver = Some((kind.make)(written.to_owned())),
            Err(message) => problems.add(at.mark, &path, message),
        }
    }
    receiver
}

/// Names that a receiver is restricted to. An empty list would send nothing, and is a mistake in the file.
fn names(
    fields: &Fields<'_>,
    key: &str,
    kind: names::NameKind<'_>,
    problems: &mut ProblemCollector,
) -> Option<Vec<Name>> {
    let Some((at, path)) = fields.get(key) else { return Some(Vec::new()) };
    let empty_hint = format!("name {key}, or take the key away to be told of all");
    let names = known_names(at, &path, kind, MAX_NAMES, &empty_hint, problems)?;
    Some(names.into_iter().map(LocatedName::into_name).collect())
}

#[cfg(test)]
mod tests {
    use crate::{changes, parse};
    use rollout::notification::{FactFilter, Receiver};

    const EXAMPLE: &str = include_str!("../examples/switchback.yaml");
    const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:deployments";

    fn example_with(notifications: &str) -> String {
        let start = EXAMPLE.find("\nnotifications:").expect("the example tells of notifications");
        format!("{}\nnotifications: {notifications}\n", &EXAMPLE[..start])
    }

    fn problems(notifications: &str) -> Vec<String> {
        match parse(&example_with(notifications)) {
            Ok(policy) => panic!("accepted: {:?}", policy.notifications),
            Err(problems) => problems.0.iter().map(|it| format!("{}: {}", it.path, it.message)).collect(),
        }
    }

    #[test]
    fn a_topic_defaults_to_attention_facts_of_all_targets() {
        let policy = parse(&example_with(&format!("[{{topic: \"{TOPIC}\"}}]"))).unwrap_or_else(|it| panic!("{it}"));
        let [route] = policy.notifications.as_slice() else { panic!("{:?}", policy.notifications) };
        assert_eq!((&route.receiver, route.facts), (&Receiver::Topic(TOPIC.to_owned()), FactFilter::Attention));
        assert!(route.environments.is_empty() && route.services.is_empty());
    }

    #[test]
    fn a_slack_channel_is_named_by_its_id() {
        let policy =
            parse(&example_with("[{slack: C012AB3CD, environments: [prod]}]")).unwrap_or_else(|it| panic!("{it}"));
        assert_eq!(policy.notifications[0].receiver, Receiver::Slack("C012AB3CD".to_owned()));
        for wrong in ["'#deployments'", "c012ab3cd", "U012AB3CD", "C"] {
            let messages = problems(&format!("[{{slack: {wrong}}}]"));
            assert!(
                messages[0].starts_with("notifications[0].slack: expected the ID of a channel of Slack"),
                "{messages:?}"
            );
        }
        assert_eq!(
            problems(&format!("[{{slack: C012AB3CD, topic: \"{TOPIC}\"}}]")),
            ["notifications[0]: there is both: write exactly one of `topic` and `slack`"]
        );
    }

    #[test]
    fn problems_are_reported_at_their_path() {
        assert_eq!(
            problems("[{topic: deployments}]"),
            ["notifications[0].topic: expected the ARN of an SNS topic, such as \
              `arn:aws:sns:eu-central-1:123456789012:deployments`"]
        );
        assert_eq!(
            problems("[{facts: all}]"),
            ["notifications[0]: there is neither: write exactly one of `topic` and `slack`"]
        );
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
    fn a_changed_receiver_is_listed_as_a_change() {
        let before = parse(EXAMPLE).expect("sound");
        let after = parse(&example_with(&format!("[{{topic: \"{TOPIC}\"}}]"))).expect("sound");
        let messages = changes(Some(&before), &after);
        let paths: Vec<&str> = messages.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["notifications"]);
        assert!(messages[0].target.is_none() && messages[0].before.is_some() && messages[0].after.is_some());
    }
}
