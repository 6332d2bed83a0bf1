//! Who is told of what.

use crate::arn;
use crate::names::{self, Known, Named, known_names};
use crate::people::slack_channel;
use crate::problem::Found;
use crate::walk::{self, At, Fields, Shape};
use rollout::Name;
use rollout::policy::{Facts, NotificationPolicy, Receiver};

const MOST_NOTIFICATIONS: usize = 20;
/// How many names one receiver may be narrowed down to.
const MOST_NAMES: usize = 50;

pub(crate) const NOTIFICATION: Shape =
    Shape { name: "Notification", keys: &["topic", "slack", "environments", "services", "facts"], required: &[] };

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
    let receiver = receiver(at, path, &fields, found);
    let environments = names(&fields, "environments", known.environments(), found);
    let services = names(&fields, "services", known.services(), found);
    let facts = match fields.get("facts") {
        Some((at, path)) => {
            let choices = [("attention", Facts::Attention), ("verdicts", Facts::Verdicts), ("all", Facts::All)];
            walk::choice(at, &path, &choices, found)
        }
        None => Some(Facts::Attention),
    };
    Some(NotificationPolicy { receiver: receiver?, environments: environments?, services: services?, facts: facts? })
}

fn receiver(at: At<'_>, path: &str, fields: &Fields<'_>, found: &mut Found) -> Option<Receiver> {
    struct Kind {
        key: &'static str,
        what: &'static str,
        check: fn(&str) -> Result<(), String>,
        make: fn(String) -> Receiver,
    }
    let topic = Kind { key: "topic", what: "the ARN of an SNS topic", check: arn::topic, make: Receiver::Topic };
    let slack =
        Kind { key: "slack", what: "the ID of a channel of Slack", check: slack_channel, make: Receiver::Slack };
    let given: Vec<_> = [topic, slack].into_iter().filter_map(|kind| Some((fields.get(kind.key)?, kind))).collect();
    if given.len() != 1 {
        let found_so = if given.is_empty() { "neither" } else { "both" };
        found.add(at.mark, path, format!("there is {found_so}: write exactly one of `topic` and `slack`"));
    }
    let mut receiver = None;
    for ((at, path), kind) in given {
        let Some(written) = walk::text(at, &path, kind.what, found) else { continue };
        match (kind.check)(written) {
            Ok(()) => receiver = Some((kind.make)(written.to_owned())),
            Err(message) => found.add(at.mark, &path, message),
        }
    }
    receiver
}

/// Names that it is narrowed down to. An empty list would tell of nothing, and is a slip.
fn names(fields: &Fields<'_>, key: &str, kind: names::Kind<'_>, found: &mut Found) -> Option<Vec<Name>> {
    let Some((at, path)) = fields.get(key) else { return Some(Vec::new()) };
    let otherwise = format!("name {key}, or take the key away to be told of all");
    let names = known_names(at, &path, kind, MOST_NAMES, &otherwise, found)?;
    Some(names.into_iter().map(Named::into_name).collect())
}

#[cfg(test)]
mod tests {
    use crate::{changes, parse};
    use rollout::policy::{Facts, Receiver};

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
        assert_eq!((&route.receiver, route.facts), (&Receiver::Topic(TOPIC.to_owned()), Facts::Attention));
        assert!(route.environments.is_empty() && route.services.is_empty());
    }

    #[test]
    fn a_channel_of_slack_is_named_by_its_id() {
        let policy = parse(&with("[{slack: C012AB3CD, environments: [prod]}]")).unwrap_or_else(|it| panic!("{it}"));
        assert_eq!(policy.notifications[0].receiver, Receiver::Slack("C012AB3CD".to_owned()));
        for wrong in ["'#deployments'", "c012ab3cd", "U012AB3CD", "C"] {
            let told = problems(&format!("[{{slack: {wrong}}}]"));
            assert!(told[0].starts_with("notifications[0].slack: expected the ID of a channel of Slack"), "{told:?}");
        }
        assert_eq!(
            problems(&format!("[{{slack: C012AB3CD, topic: \"{TOPIC}\"}}]")),
            ["notifications[0]: there is both: write exactly one of `topic` and `slack`"]
        );
    }

    #[test]
    fn what_is_wrong_is_said_where_it_stands() {
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
    fn a_changed_receiver_is_a_change() {
        let before = parse(EXAMPLE).expect("sound");
        let after = parse(&with(&format!("[{{topic: \"{TOPIC}\"}}]"))).expect("sound");
        let told = changes(Some(&before), &after);
        let paths: Vec<&str> = told.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["notifications"]);
        assert!(told[0].target.is_none() && told[0].before.is_some() && told[0].after.is_some());
    }
}
