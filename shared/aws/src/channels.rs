//! Where the journal is told: EventBridge for programs, SNS for people, a queue for what neither takes.

use crate::config::{Clients, DEAD_LETTERS_URL, EVENT_BUS, MissingSetting, setting};
use crate::error::Failure;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sns::types::MessageAttributeValue;
use aws_smithy_types::DateTime;
use engine::{Announcement, Channels, DETAIL_TYPE, Message, SOURCE, SendError};

/// One bus, any topic, and the dead-letter queue.
#[derive(Debug, Clone)]
pub struct AwsChannels {
    clients: Clients,
    bus: String,
    dead_letters_url: String,
}

impl AwsChannels {
    /// The channels of this bus (name or ARN) and this queue. Nothing is asked of AWS yet.
    #[must_use]
    pub fn new(clients: Clients, bus: impl Into<String>, dead_letters_url: impl Into<String>) -> Self {
        Self { clients, bus: bus.into(), dead_letters_url: dead_letters_url.into() }
    }

    /// The channels that the environment names.
    ///
    /// # Errors
    /// [`MissingSetting`] where it lacks one.
    pub fn from_environment(clients: Clients) -> Result<Self, MissingSetting> {
        Ok(Self::new(clients, setting(EVENT_BUS)?, setting(DEAD_LETTERS_URL)?))
    }
}

impl Channels for AwsChannels {
    async fn announce(&self, announcement: &Announcement) -> Result<(), SendError> {
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(&self.bus)
            .source(SOURCE)
            .detail_type(DETAIL_TYPE)
            .detail(&announcement.detail)
            .time(DateTime::from_millis(announcement.at.as_millisecond()))
            .build();
        let sent = self.clients.eventbridge().await.put_events().entries(entry).send().await;
        let answer = sent.map_err(|error| why(Failure::of("PutEvents", &error)))?;
        if answer.failed_entry_count() == 0 {
            return Ok(());
        }
        // The call succeeds, and says of each entry whether it was taken.
        let refused = answer.entries().iter().find(|entry| entry.error_code().is_some());
        let code = refused.and_then(|entry| entry.error_code()).unwrap_or_default();
        let message = refused.and_then(|entry| entry.error_message()).unwrap_or_default();
        Err(why(Failure::by_code(code, format!("PutEvents: {code}: {message}"))))
    }

    async fn publish(&self, topic: &str, message: &Message) -> Result<(), SendError> {
        let mut request =
            self.clients.sns().await.publish().topic_arn(topic).subject(&message.subject).message(&message.text);
        for (name, value) in &message.attributes {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            request = request.message_attributes(*name, value.expect("its type is set"));
        }
        if topic.ends_with(".fifo") {
            request = request.message_group_id(&message.group).message_deduplication_id(&message.once);
        }
        request.send().await.map(|_| ()).map_err(|error| why(Failure::of("Publish", &error)))
    }

    async fn set_aside(&self, letter: &str) -> Result<(), String> {
        let sqs = self.clients.sqs().await;
        let sent = sqs.send_message().queue_url(&self.dead_letters_url).message_body(letter).send().await;
        sent.map(|_| ()).map_err(|error| Failure::of("SendMessage", &error).reason().to_owned())
    }
}

fn why(failure: Failure) -> SendError {
    match failure {
        Failure::Refused { reason } => SendError::Refused { reason },
        Failure::Unsure { reason } | Failure::Conflict { reason } => SendError::Unsure { reason },
    }
}
