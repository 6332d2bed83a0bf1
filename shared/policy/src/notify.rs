//! Receivers of notifications, and what they are sent.

use crate::names::{KnownNames, read_optional_names};
use crate::people::slack_channel;
use crate::problem::ProblemCollector;
use crate::values::{self, Fields, LocatedNode};
use crate::{arn, file};
use rollout::notification::{FactFilter, NotificationPolicy, Receiver};

const MAX_NOTIFICATIONS: usize = 20;
/// Maximum number of names that one receiver may be restricted to.
const MAX_NAMES: usize = 50;

/// Which facts are sent, in the file's notation.
pub(crate) const FACTS: [(&str, FactFilter); 3] =
    [("attention", FactFilter::Attention), ("verdicts", FactFilter::Verdicts), ("all", FactFilter::All)];

/// Reads the list of receivers.
pub(crate) fn read_notifications(
    node: LocatedNode<'_>,
    path: &str,
    known: KnownNames<'_>,
    problems: &mut ProblemCollector,
) -> Option<Vec<NotificationPolicy>> {
    let nodes = values::list(node, path, "notifications", MAX_NOTIFICATIONS, problems)?;
    let all: Vec<_> = nodes.into_iter().map(|(node, path)| read_notification(node, &path, known, problems)).collect();
    all.into_iter().collect()
}

fn read_notification(
    node: LocatedNode<'_>,
    path: &str,
    known: KnownNames<'_>,
    problems: &mut ProblemCollector,
) -> Option<NotificationPolicy> {
    let fields = Fields::new(node, path, file::Notification::KEYS, problems)?;
    let receiver = read_receiver(node, path, &fields, problems);
    // An empty list would send nothing, and is a mistake in the file.
    let all_environments = "name environments, or remove the key to be notified of all";
    let environments =
        read_optional_names(&fields, "environments", known.environments(), MAX_NAMES, all_environments, problems);
    let all_services = "name services, or remove the key to be notified of all";
    let services = read_optional_names(&fields, "services", known.services(), MAX_NAMES, all_services, problems);
    let facts = fields.choice_or("facts", &FACTS, FactFilter::Attention, problems);
    Some(NotificationPolicy { receiver: receiver?, environments: environments?, services: services?, facts: facts? })
}

fn read_receiver(
    node: LocatedNode<'_>,
    path: &str,
    fields: &Fields<'_>,
    problems: &mut ProblemCollector,
) -> Option<Receiver> {
    struct ReceiverKind {
        key: &'static str,
        description: &'static str,
        check: fn(&str) -> Result<(), String>,
        make: fn(String) -> Receiver,
    }
    let topic =
        ReceiverKind { key: "topic", description: "the ARN of an SNS topic", check: arn::topic, make: Receiver::Topic };
    let slack = ReceiverKind {
        key: "slack",
        description: "the ID of a channel of Slack",
        check: slack_channel,
        make: Receiver::Slack,
    };
    let given: Vec<_> = [topic, slack].into_iter().filter_map(|kind| Some((fields.get(kind.key)?, kind))).collect();
    if given.len() != 1 {
        let both_or_neither = if given.is_empty() { "neither" } else { "both" };
        problems.add(node.mark, path, format!("there is {both_or_neither}: write exactly one of `topic` and `slack`"));
    }
    let mut receiver = None;
    for ((node, path), kind) in given {
        let read = values::checked_text(node, &path, kind.description, kind.check, problems).map(kind.make);
        receiver = read.or(receiver);
    }
    receiver
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
                "notifications[0].environments: the list is empty: name environments, or remove the key to be notified of all"
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
