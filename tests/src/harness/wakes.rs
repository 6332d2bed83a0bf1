//! A standard queue of SQS before a Lambda function, as far as a function can tell: a delay for each message, delivery at
//! least once, invisible while it is looked at, again when that is over, and a dead-letter queue in the end.

use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How the queue is set up: `template.yaml` has `WakesQueue` so.
#[derive(Debug, Clone, Copy)]
pub struct QueueSettings {
    /// How long a message that was received is nobody else's.
    pub visibility: Duration,
    /// How often it is received before it is put aside.
    pub max_receives: u32,
}

/// A message.
#[derive(Debug, Clone)]
struct QueuedMessage {
    id: String,
    body: String,
    visible_at: Instant,
    receives: u32,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    settings: QueueSettings,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sent: u64,
    messages: Vec<QueuedMessage>,
    dead: Vec<String>,
}

/// One message as the function gets it, with what is needed to be done with it.
#[derive(Debug, Clone)]
pub struct Received {
    id: String,
    body: String,
    receives: u32,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(settings: QueueSettings) -> Self {
        Self { settings, inner: Mutex::default() }
    }

    /// `SendMessage`: answers the message's id.
    pub fn send(&self, body: &str, delay: Duration) -> String {
        let mut inner = self.inner();
        inner.sent += 1;
        let id = format!("{:08}-0000-4000-8000-000000000000", inner.sent);
        let visible_at = Instant::now() + delay;
        inner.messages.push(QueuedMessage { id: id.clone(), body: body.to_owned(), visible_at, receives: 0 });
        id
    }

    /// `ReceiveMessage`, of one: the one that has been visible for the longest.
    #[must_use]
    pub fn receive(&self) -> Option<Received> {
        let mut inner = self.inner();
        let now = Instant::now();
        loop {
            let due = inner.messages.iter().enumerate().filter(|(_, message)| message.visible_at <= now);
            let (index, _) = due.min_by_key(|(_, message)| message.visible_at)?;
            let message = &mut inner.messages[index];
            if message.receives >= self.settings.max_receives {
                let QueuedMessage { body, .. } = inner.messages.remove(index);
                inner.dead.push(body);
                continue;
            }
            message.receives += 1;
            message.visible_at = now + self.settings.visibility;
            let QueuedMessage { id, body, receives, .. } = message.clone();
            return Some(Received { id, body, receives });
        }
    }

    /// `DeleteMessage`.
    pub fn delete(&self, received: &Received) {
        self.inner().messages.retain(|message| message.id != received.id);
    }

    /// Every message is visible now, whatever its delay was.
    pub fn make_all_visible(&self) {
        let now = Instant::now();
        self.inner().messages.iter_mut().for_each(|message| message.visible_at = now);
    }

    /// How many messages there are, invisible ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner().messages.len()
    }

    /// How many messages could be received now, and how long the oldest of them has been waiting for that.
    #[must_use]
    pub fn backlog(&self) -> (usize, Duration) {
        let (inner, now) = (self.inner(), Instant::now());
        let visible = || inner.messages.iter().map(|message| message.visible_at).filter(|at| *at <= now);
        (visible().count(), visible().min().map_or(Duration::ZERO, |at| now - at))
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bodies of what was put aside.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<String> {
        self.inner().dead.clone()
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Received {
    /// The event of a batch of this one message, as Lambda hands it to the function.
    #[must_use]
    pub fn event(&self) -> Value {
        json!({"Records": [{
            "messageId": self.id,
            "receiptHandle": self.id,
            "body": self.body,
            "attributes": {"ApproximateReceiveCount": self.receives.to_string()},
            "messageAttributes": {},
            "md5OfBody": "",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-central-1:000000000000:wakes",
            "awsRegion": "eu-central-1",
        }]})
    }

    /// Whether the function's answer says that it is done with (`ReportBatchItemFailures`).
    #[must_use]
    pub fn is_done(&self, answer: &Value) -> bool {
        let failures = answer["batchItemFailures"].as_array().map(Vec::as_slice).unwrap_or_default();
        failures.iter().all(|failure| failure["itemIdentifier"] != json!(self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::{Queue, QueueSettings};
    use serde_json::json;
    use std::time::Duration;

    fn queue(visibility: Duration) -> Queue {
        Queue::new(QueueSettings { visibility, max_receives: 2 })
    }

    #[test]
    fn a_received_message_is_invisible_until_its_timeout() {
        let queue = queue(Duration::from_secs(60));
        queue.send("later", Duration::from_secs(60));
        assert!(queue.receive().is_none());
        queue.send("now", Duration::ZERO);
        let received = queue.receive().expect("it is visible");
        assert_eq!(received.event()["Records"][0]["body"], "now");
        assert!(queue.receive().is_none());
        let id = received.event()["Records"][0]["messageId"].clone();
        assert!(!received.is_done(&json!({"batchItemFailures": [{"itemIdentifier": id}]})));
        assert!(received.is_done(&json!({"batchItemFailures": []})));
        queue.delete(&received);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn an_undeleted_message_is_redelivered_then_dead_lettered() {
        let queue = queue(Duration::ZERO);
        queue.send("poison", Duration::ZERO);
        assert!(queue.receive().is_some() && queue.receive().is_some());
        assert!(queue.receive().is_none());
        assert_eq!(queue.dead_letters(), ["poison"]);
        assert!(queue.is_empty());
    }
}
