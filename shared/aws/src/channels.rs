//! Publishes journal entries: EventBridge for programs, SNS and Slack for people, a dead-letter queue for undeliverable ones.

use crate::config::{
    APPROVALS_URL, Clients, DEAD_LETTERS_URL, EVENT_BUS, LINK_KEY_FIELD, LINK_KEY_SECRET, SettingError, setting,
};
use crate::error::AwsFailure;
use crate::secrets::{SecretError, Secrets};
use crate::slack::{Slack, SlackConfigError, SlackMessage};
use api::approval_links::{self, LinkKey};
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sns::types::MessageAttributeValue;
use aws_smithy_types::DateTime;
use engine::{
    ApprovalLinkRequest, BusEvent, Channels, ChatMessage, DETAIL_TYPE, EditOutcome, SOURCE, SendError, TopicMessage,
};
use rollout::Seconds;
use std::time::Duration;

/// Added to the wait for the end of a rate limit, which the wall clock measures: it may run slower than the timer.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(50);

/// One event bus, any SNS topic, at most one Slack workspace, signed approval links, and the dead-letter queue.
#[derive(Debug, Clone)]
pub struct AwsChannels {
    clients: Clients,
    bus: String,
    dead_letters_url: String,
    slack: Option<Slack>,
    links: Option<ApprovalLinks>,
}

/// Base URL of the signed approval links, and the secret whose key signs them.
#[derive(Debug, Clone)]
pub struct ApprovalLinks {
    secrets: Secrets,
    key_secret: String,
    url: String,
}

impl ApprovalLinks {
    /// Links below `url` (`https://host[/stage]`), signed with the key in this secret.
    #[must_use]
    pub fn new(secrets: Secrets, key_secret: impl Into<String>, url: impl Into<String>) -> Self {
        Self { secrets, key_secret: key_secret.into(), url: url.into() }
    }
}

/// Why the channels cannot be configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelConfigError {
    /// A variable is missing.
    #[error(transparent)]
    Missing(#[from] SettingError),
    /// Slack's settings are invalid.
    #[error(transparent)]
    Slack(#[from] SlackConfigError),
}

impl AwsChannels {
    /// Channels on this bus (name or ARN) and this dead-letter queue. Makes no call to AWS yet.
    #[must_use]
    pub fn new(clients: Clients, bus: impl Into<String>, dead_letters_url: impl Into<String>) -> Self {
        Self { clients, bus: bus.into(), dead_letters_url: dead_letters_url.into(), slack: None, links: None }
    }

    /// Adds a Slack workspace.
    #[must_use]
    pub fn with_slack(self, slack: Slack) -> Self {
        Self { slack: Some(slack), ..self }
    }

    /// Adds signed approval links.
    #[must_use]
    pub fn with_links(self, links: ApprovalLinks) -> Self {
        Self { links: Some(links), ..self }
    }

    /// The channels configured by environment variables. Without the secret holding Slack's token, Slack is disabled.
    ///
    /// # Errors
    /// [`ChannelConfigError`] where one of the other variables is missing, or any is invalid.
    pub fn from_environment(clients: Clients) -> Result<Self, ChannelConfigError> {
        let mut channels = Self::new(clients.clone(), setting(EVENT_BUS)?, setting(DEAD_LETTERS_URL)?);
        let secrets = Secrets::new(clients.clone());
        match Slack::from_environment(clients, secrets.clone()) {
            Ok(slack) => channels = channels.with_slack(slack),
            Err(SlackConfigError::Missing(_)) => {}
            Err(wrong) => return Err(wrong.into()),
        }
        if let (Ok(key_secret), Ok(url)) = (setting(LINK_KEY_SECRET), setting(APPROVALS_URL)) {
            channels = channels.with_links(ApprovalLinks::new(secrets, key_secret, url));
        }
        Ok(channels)
    }

    fn slack(&self) -> Result<&Slack, SendError> {
        self.slack.as_ref().ok_or_else(|| SendError::Refused {
            reason: "no workspace of Slack is set up: give the stack the parameter SlackTokenSecretArn".to_owned(),
        })
    }
}

impl Channels for AwsChannels {
    async fn publish_event(&self, announcement: &BusEvent) -> Result<(), SendError> {
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(&self.bus)
            .source(SOURCE)
            .detail_type(DETAIL_TYPE)
            .detail(&announcement.detail)
            .time(DateTime::from_millis(announcement.at.as_millisecond()))
            .build();
        let sent = self.clients.eventbridge().await.put_events().entries(entry).send().await;
        let answer = sent.map_err(|error| send_error(AwsFailure::of("PutEvents", &error)))?;
        if answer.failed_entry_count() == 0 {
            return Ok(());
        }
        // PutEvents succeeds as a whole and reports per entry whether it was accepted.
        let refused = answer.entries().iter().find(|entry| entry.error_code().is_some());
        let code = refused.and_then(|entry| entry.error_code()).unwrap_or_default();
        let message = refused.and_then(|entry| entry.error_message()).unwrap_or_default();
        Err(send_error(AwsFailure::by_code(code, format!("PutEvents: {code}: {message}"))))
    }

    async fn publish(&self, topic: &str, message: &TopicMessage) -> Result<(), SendError> {
        let mut request =
            self.clients.sns().await.publish().topic_arn(topic).subject(&message.subject).message(&message.text);
        for (name, value) in &message.attributes {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            request = request.message_attributes(*name, value.expect("its type is set"));
        }
        if topic.ends_with(".fifo") {
            request = request.message_group_id(&message.group).message_deduplication_id(&message.deduplication_id);
        }
        request.send().await.map(|_| ()).map_err(|error| send_error(AwsFailure::of("Publish", &error)))
    }

    async fn post_message(&self, channel: &str, thread: Option<&str>, chat: &ChatMessage) -> Result<String, SendError> {
        let post = SlackMessage { channel, text: &chat.text, blocks: &chat.blocks, thread };
        self.slack()?.post(post).await.map(|posted| posted.ts)
    }

    async fn edit_message(&self, channel: &str, id: &str, chat: &ChatMessage) -> Result<EditOutcome, SendError> {
        self.slack()?.update(channel, id, &chat.text, &chat.blocks).await
    }

    async fn wait_for_rate_limit(&self, time: Seconds) {
        tokio::time::sleep(Duration::from_secs(time.0) + CLOCK_TOLERANCE).await;
    }

    async fn approval_link(&self, request: &ApprovalLinkRequest<'_>) -> Result<String, SendError> {
        let refused = |reason: String| SendError::Refused { reason };
        let Some(ApprovalLinks { secrets, key_secret, url }) = &self.links else {
            return Err(refused(format!("nothing signs links: set {LINK_KEY_SECRET} and {APPROVALS_URL}")));
        };
        let secret = secrets.field(key_secret, LINK_KEY_FIELD).await.map_err(|error| match error {
            SecretError::Unavailable { .. } => SendError::Unsure { reason: error.to_string() },
            SecretError::Refused { .. } => refused(error.to_string()),
        })?;
        let key = LinkKey::new(secret.expose()).map_err(|weak| refused(weak.to_string()))?;
        let ApprovalLinkRequest { target, deployment, plan, person, topic, expires } = *request;
        let token = approval_links::mint(&key, target, deployment, plan, person, topic, expires);
        Ok(format!("{}/approvals/{token}", url.trim_end_matches('/')))
    }

    async fn dead_letter(&self, dead_letter: &str) -> Result<(), String> {
        let sqs = self.clients.sqs().await;
        let sent = sqs.send_message().queue_url(&self.dead_letters_url).message_body(dead_letter).send().await;
        sent.map(|_| ()).map_err(|error| AwsFailure::of("SendMessage", &error).reason().to_owned())
    }
}

fn send_error(failure: AwsFailure) -> SendError {
    match failure {
        AwsFailure::Refused { reason } => SendError::Refused { reason },
        AwsFailure::Throttled { reason } | AwsFailure::Unsure { reason } | AwsFailure::Conflict { reason } => {
            SendError::Unsure { reason }
        }
    }
}
