//! Merges the messages of a batch into wakes: one per target, however many messages name it.

use engine::Wake;
use lambda::SqsMessage;

/// A wake and its messages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// The merged wake.
    pub(crate) wake: Wake,
    /// IDs of the messages merged into it, for the batch response.
    pub(crate) messages: Vec<String>,
}

/// The wakes of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WakeBatch {
    /// One per target, in the order of their first message.
    pub(crate) deliveries: Vec<Delivery>,
    /// IDs of messages that are not wakes: they are redelivered and finally moved to the dead-letter queue, where people see
    /// them.
    pub(crate) unreadable: Vec<String>,
}

/// Parses a batch. Of several wakes for one target, one that may take over from a dead holder takes precedence, otherwise the one
/// with the fewest retries: it is retried on behalf of the others, too.
pub(crate) fn of(messages: Vec<SqsMessage>) -> WakeBatch {
    let mut batch = WakeBatch::default();
    for SqsMessage { id, body } in messages {
        let wake: Wake = match serde_json::from_str(&body) {
            Ok(wake) => wake,
            Err(error) => {
                let error = lambda::one_line(&error.to_string());
                tracing::error!(message.id = id, error, "a message is no wake");
                batch.unreadable.push(id);
                continue;
            }
        };
        match batch.deliveries.iter_mut().find(|delivery| delivery.wake.target == wake.target) {
            Some(delivery) => {
                delivery.messages.push(id);
                // The merged wake requests an idle observation if any of them does.
                let idle = wake.idle || delivery.wake.idle;
                let overdue = wake.overdue || delivery.wake.overdue;
                let api_call = delivery.wake.api_call.take().or_else(|| wake.api_call.clone());
                if (wake.steal.is_none(), wake.retries) < (delivery.wake.steal.is_none(), delivery.wake.retries) {
                    delivery.wake = wake;
                }
                (delivery.wake.idle, delivery.wake.overdue, delivery.wake.api_call) = (idle, overdue, api_call);
            }
            None => batch.deliveries.push(Delivery { wake, messages: vec![id] }),
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::LeaseId;
    use rollout::TargetId;

    macro_rules! batch {
        ($case:literal) => {{
            let event = serde_json::from_str(include_str!(concat!("../../../events/rollout-driver.", $case, ".json")))
                .expect("the payload is JSON");
            of(lambda::messages(event).expect("a batch"))
        }};
    }

    fn wake(target: &str, steal: Option<&str>, retries: u8, messages: &[&str]) -> Delivery {
        Delivery {
            wake: Wake {
                steal: steal.map(|lease| LeaseId(lease.to_owned())),
                retries,
                ..Wake::of(TargetId::parse(target).expect("a target"))
            },
            messages: messages.iter().map(|&id| id.to_owned()).collect(),
        }
    }

    #[test]
    fn a_message_is_parsed_as_a_wake() {
        let expected = wake("shop/api/live", None, 0, &["059f36b4-87a3-44ab-83d2-661975830a7d"]);
        assert_eq!(batch!("wake"), WakeBatch { deliveries: vec![expected], unreadable: vec![] });
    }

    #[test]
    fn wakes_for_one_target_are_merged() {
        let expected = vec![
            wake("shop/api/live", Some("0f8e"), 0, &["m-1", "m-3", "m-4"]),
            wake("shop/web/live", None, 1, &["m-2", "m-5"]),
        ];
        assert_eq!(batch!("wakes-of-one-target"), WakeBatch { deliveries: expected, unreadable: vec![] });
    }

    #[test]
    fn only_unreadable_messages_are_returned() {
        let expected = wake("shop/api/live", None, 0, &["m-2"]);
        let unreadable = vec!["m-1".to_owned(), "m-3".to_owned()];
        assert_eq!(batch!("unreadable-wake"), WakeBatch { deliveries: vec![expected], unreadable });
    }
}
