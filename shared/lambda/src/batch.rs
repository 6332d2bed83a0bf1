//! SQS batches, and which of their messages must come again.

use crate::Failure;
use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use serde_json::Value;

/// One message of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What a reply names it by.
    pub id: String,
    /// What was sent; empty where nothing was.
    pub body: String,
}

/// The messages of a batch (Lambda developer guide, "Using Lambda with Amazon SQS").
///
/// # Errors
/// `InvalidEvent` where it is no batch, or where a message has no id: no reply could name it, so all come again.
pub fn messages(event: Value) -> Result<Vec<Message>, Failure> {
    let event: SqsEvent = crate::read(event, "")?;
    let named = |(index, record): (usize, aws_lambda_events::event::sqs::SqsMessage)| {
        let id = record.message_id.ok_or_else(|| Failure::event(format!("Records[{index}].messageId: missing")))?;
        Ok(Message { id, body: record.body.unwrap_or_default() })
    };
    event.records.into_iter().enumerate().map(named).collect()
}

/// The reply that makes SQS send `failed` again and forget the others. The event source must be mapped with
/// `FunctionResponseTypes: [ReportBatchItemFailures]`, or SQS forgets all of them.
///
/// A stream takes the same form, with sequence numbers: it begins again at the lowest of them.
#[must_use]
pub fn reply(failed: Vec<String>) -> SqsBatchResponse {
    let mut reply = SqsBatchResponse::default();
    reply.set_failures(failed);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reply_names_what_must_come_again() {
        let reply = serde_json::to_value(reply(vec!["m-2".to_owned()])).expect("plain data");
        assert_eq!(reply, json!({"batchItemFailures": [{"itemIdentifier": "m-2"}]}));
        let nothing = serde_json::to_value(super::reply(vec![])).expect("plain data");
        assert_eq!(nothing, json!({"batchItemFailures": []}));
    }

    #[test]
    fn a_message_that_no_reply_could_name_fails_the_batch() {
        let event = json!({"Records": [{"messageId": "m-1", "body": "x"}, {"body": "y"}]});
        let failure = messages(event).expect_err("no id");
        assert_eq!(failure.to_string(), "Records[1].messageId: missing");
        let other = messages(json!({"source": "aws.ecr"})).expect_err("no batch");
        assert_eq!(other.to_string(), "the event: missing field `Records`");
    }
}
