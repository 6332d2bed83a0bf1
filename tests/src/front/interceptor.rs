//! Whoever stands at the door: notified of every call before it is done and after, for tests that have to be in the
//! middle of it.

use super::faults::FaultKind;
use super::log::Call;
use super::protocol::AwsError;
use serde_json::Value;
use std::fmt;

/// Stands at the door.
pub trait CallInterceptor: Send + Sync + fmt::Debug {
    /// A call has come, and nothing of it is done yet: in the order of arrival. A harm befalls it, whatever the list of
    /// faults says.
    fn before(&self, call: &Call) -> Option<FaultKind>;

    /// It is done, and the caller does not know it yet. The call has its answer: [`Answer::Disconnected`](super::Answer::Disconnected)
    /// where the caller gets none.
    fn after(&self, call: &Call);

    /// Answers an operation of a service that the front does not speak, instead of the upstream. None: the upstream does.
    fn serve(&self, service: &str, operation: &str, parameters: &Value) -> Option<Result<Value, AwsError>>;
}
