//! Whoever is notified of deployments: a queue that subscribes to a topic, or that a rule of the event bus sends to.

use super::emulators::{REGION, ministack};
use super::{HarnessError, Stack};
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};

/// A queue, and everything that came into it so far.
#[derive(Debug)]
pub struct Subscriber {
    stack: &'static Stack,
    queue_url: String,
    received: Mutex<Vec<Value>>,
}

impl Subscriber {
    /// Makes a topic of this name, and a queue that subscribes to it.
    ///
    /// # Errors
    /// [`HarnessError`] where the emulator refuses.
    pub fn of_topic(stack: &'static Stack, name: &str) -> Result<Self, HarnessError> {
        let subscriber = Self::new(stack, &format!("{name}-topic"))?;
        let (topic, queue) = (topic_arn(name), queue_arn(&format!("{name}-topic")));
        let sns = |form: String| {
            let headers = [("content-type", "application/x-www-form-urlencoded")];
            let response = stack.aws().send("sns", "POST", "/", &headers, &format!("{form}&Version=2010-03-31"))?;
            if response.status == 200 { Ok(()) } else { Err(HarnessError(format!("{form}: {}", response.body))) }
        };
        sns(format!("Action=CreateTopic&Name={name}"))?;
        sns(format!("Action=Subscribe&Protocol=sqs&TopicArn={topic}&Endpoint={queue}"))?;
        Ok(subscriber)
    }

    /// Makes a rule that sends what Switchback tells of an application to a queue.
    ///
    /// # Errors
    /// [`HarnessError`] where the emulator refuses.
    pub fn of_bus(stack: &'static Stack, application: &str) -> Result<Self, HarnessError> {
        let name = format!("{application}-bus");
        let subscriber = Self::new(stack, &name)?;
        let events = |operation: &str, parameters: &Value| {
            stack.aws().json("events", &format!("AWSEvents.{operation}"), parameters)
        };
        let pattern = json!({
            "source": ["switchback"],
            "detail-type": ["Switchback Journal Entry"],
            "detail": {"application": [application], "environment": ["dev"]},
        });
        events("PutRule", &json!({"Name": name, "EventPattern": pattern.to_string()}))?;
        let targets = json!([{"Id": "queue", "Arn": queue_arn(&name)}]);
        events("PutTargets", &json!({"Rule": name, "Targets": targets}))?;
        Ok(subscriber)
    }

    fn new(stack: &'static Stack, name: &str) -> Result<Self, HarnessError> {
        let policy = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": {"Service": ["sns.amazonaws.com", "events.amazonaws.com"]},
            "Action": "sqs:SendMessage",
            "Resource": queue_arn(name),
        }]});
        let parameters = json!({"QueueName": name, "Attributes": {"Policy": policy.to_string()}});
        let made = stack.aws().json("sqs", "AmazonSQS.CreateQueue", &parameters)?;
        let url = made["QueueUrl"].as_str().ok_or_else(|| HarnessError(format!("CreateQueue answered {made}")))?;
        Ok(Self { stack, queue_url: url.to_owned(), received: Mutex::default() })
    }

    /// Everything that came so far, each as the JSON that it is.
    ///
    /// # Errors
    /// [`HarnessError`] where the emulator refuses.
    pub fn received(&self) -> Result<Vec<Value>, HarnessError> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let parameters = json!({"QueueUrl": self.queue_url, "MaxNumberOfMessages": 10});
            let answer = self.stack.aws().json("sqs", "AmazonSQS.ReceiveMessage", &parameters)?;
            let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
            if messages.is_empty() {
                return Ok(received.clone());
            }
            for message in messages {
                let parameters = json!({"QueueUrl": self.queue_url, "ReceiptHandle": message["ReceiptHandle"]});
                self.stack.aws().json("sqs", "AmazonSQS.DeleteMessage", &parameters)?;
                let body = message["Body"].as_str().unwrap_or_default();
                received.push(serde_json::from_str(body).unwrap_or_else(|_| json!(body)));
            }
        }
    }
}

fn queue_arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{}:{name}", ministack::ACCOUNT)
}

/// The ARN of a topic of the emulator's.
#[must_use]
pub fn topic_arn(name: &str) -> String {
    format!("arn:aws:sns:{REGION}:{}:{name}", ministack::ACCOUNT)
}
