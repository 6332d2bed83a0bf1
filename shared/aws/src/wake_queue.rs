//! The wake queue on SQS: a wake is a message, and its delay is the message's delay.

use crate::config::{Clients, SettingError, URGENT_WAKES_URL, WAKES_URL, setting};
use crate::error::AwsFailure;
use engine::{Wake, WakeQueue};
use rollout::Seconds;

/// The longest delay that SQS allows for one message.
const MAX_DELAY: Seconds = Seconds(900);

/// Standard queues: at-least-once and unordered, which is all that a wake needs. Urgent wakes have a queue of their own, in
/// which they do not wait behind thousands of others.
#[derive(Debug, Clone)]
pub struct SqsWakeQueue {
    clients: Clients,
    queue_url: String,
    urgent_url: String,
}

impl SqsWakeQueue {
    /// Uses this queue for all wakes, urgent ones included. Makes no call to AWS yet.
    #[must_use]
    pub fn new(clients: Clients, queue_url: impl Into<String>) -> Self {
        let queue_url = queue_url.into();
        Self { clients, urgent_url: queue_url.clone(), queue_url }
    }

    /// The queues configured by environment variables.
    ///
    /// # Errors
    /// [`SettingError`] where none is named.
    pub fn from_environment(clients: Clients) -> Result<Self, SettingError> {
        let wake_queue = Self::new(clients, setting(WAKES_URL)?);
        Ok(match setting(URGENT_WAKES_URL) {
            Ok(urgent_url) => Self { urgent_url, ..wake_queue },
            Err(_) => wake_queue,
        })
    }
}

impl WakeQueue for SqsWakeQueue {
    async fn send(&self, wake: &Wake, delay: Seconds) -> Result<(), String> {
        let body = serde_json::to_string(wake).map_err(|error| format!("the wake is no JSON: {error}"))?;
        let sent = self
            .clients
            .sqs()
            .await
            .send_message()
            .queue_url(if wake.urgent { &self.urgent_url } else { &self.queue_url })
            .message_body(body)
            .delay_seconds(i32::try_from(delay.min(MAX_DELAY).0).expect("900 at most"))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) => Err(AwsFailure::of("SendMessage", &error).reason().to_owned()),
        }
    }
}
