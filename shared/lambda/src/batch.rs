//! SQS batches, and the response that names the messages to redeliver.

use crate::InvocationFailure;
use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use serde_json::Value;

/// A message of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqsMessage {
    /// Message ID, by which the batch response names it.
    pub id: String,
    /// Message body; empty if absent.
    pub body: String,
}

/// The messages of a batch (Lambda developer guide, "Using Lambda with Amazon SQS").
///
/// # Errors
/// `InvalidEvent` if it is not a batch, or if a message has no ID: the response could not name it, so all are redelivered.
pub fn messages(event: Value) -> Result<Vec<SqsMessage>, InvocationFailure> {
    let event: SqsEvent = crate::read(event, "")?;
    let named = |(index, record): (usize, aws_lambda_events::event::sqs::SqsMessage)| {
        let id = record
            .message_id
            .ok_or_else(|| InvocationFailure::event(format!("Records[{index}].messageId: missing")))?;
        Ok(SqsMessage { id, body: record.body.unwrap_or_default() })
    };
    event.records.into_iter().enumerate().map(named).collect()
}

/// The batch response: SQS redelivers `failed` and deletes the others. The event source mapping must have `FunctionResponseTypes:
/// [ReportBatchItemFailures]`, or SQS deletes all of them.
///
/// Streams use the same response with sequence numbers and restart at the lowest.
#[must_use]
pub fn batch_response(failed: Vec<String>) -> SqsBatchResponse {
    let mut batch_response = SqsBatchResponse::default();
    batch_response.set_failures(failed);
    batch_response
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_response_lists_failed_messages() {
        let batch_response = serde_json::to_value(batch_response(vec!["m-2".to_owned()])).expect("plain data");
        assert_eq!(batch_response, json!({"batchItemFailures": [{"itemIdentifier": "m-2"}]}));
        let nothing = serde_json::to_value(super::batch_response(vec![])).expect("plain data");
        assert_eq!(nothing, json!({"batchItemFailures": []}));
    }

    #[test]
    fn a_message_without_an_id_fails_the_batch() {
        let event = json!({"Records": [{"messageId": "m-1", "body": "x"}, {"body": "y"}]});
        let failure = messages(event).expect_err("no id");
        assert_eq!(failure.to_string(), "Records[1].messageId: missing");
        let other = messages(json!({"source": "aws.ecr"})).expect_err("no batch");
        assert_eq!(other.to_string(), "the event: missing field `Records`");
    }
}
