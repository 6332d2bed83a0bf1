//! The runtime's loop on one thread.

use crate::{InvocationFailure, logging};
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::{LambdaEvent, LambdaInvocation, Runtime, Service, service_fn, tower};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;
use std::task::{Context, Poll};
use tracing::Instrument as _;
use tracing::instrument::Instrumented;

/// Time reserved at the end of an invocation for sending the response.
const RESPONSE_MARGIN: SignedDuration = SignedDuration::from_secs(1);

/// Facts about the current invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// AWS's identity of the invocation; in every log line as `request_id`.
    pub request_id: String,
    /// Deadline of the work: one second before Lambda ends the invocation.
    pub until: Timestamp,
}

/// Serves events until the sandbox ends: `start` creates the state shared by all invocations, once, and must make no calls;
/// `handle` handles one event. If `start` fails, every invocation returns its failure, so that the caller learns the reason.
///
/// A failure or a panic is logged once, by lambda_runtime, within the invocation's span; a panic also becomes an error response.
pub fn run<S, A, R>(
    start: impl FnOnce() -> Result<S, InvocationFailure>,
    handle: impl AsyncFn(&S, A, &Invocation) -> Result<R, InvocationFailure>,
) -> ExitCode
where
    A: for<'de> Deserialize<'de>,
    R: Serialize,
{
    logging::start();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the asynchronous runtime could not be started");
            return ExitCode::FAILURE;
        }
    };
    let (state, handle) = (&start(), &handle);
    let serve = |event: LambdaEvent<A>| async move {
        let (payload, context) = event.into_parts();
        let invocation = Invocation { until: until(context.deadline), request_id: context.request_id };
        match state {
            Ok(state) => handle(state, payload, &invocation).await,
            Err(failure) => Err(failure.clone()),
        }
    };
    let served = Runtime::new(service_fn(serve)).layer(tower::layer::layer_fn(InvocationSpan));
    match runtime.block_on(served.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the runtime interface did not answer");
            ExitCode::FAILURE
        }
    }
}

/// Wraps every invocation in a span with its `request_id`.
struct InvocationSpan<S>(S);

impl<S: Service<LambdaInvocation>> Service<LambdaInvocation> for InvocationSpan<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, invocation: LambdaInvocation) -> Self::Future {
        let span = tracing::error_span!("invocation", request_id = invocation.context.request_id);
        let entered = span.enter();
        let future = self.0.call(invocation);
        drop(entered);
        future.instrument(span)
    }
}

/// `deadline`: milliseconds since 1970 (Lambda developer guide, "Lambda runtime API", `Lambda-Runtime-Deadline-Ms`).
fn until(deadline: u64) -> Timestamp {
    let deadline = i64::try_from(deadline).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    deadline.and_then(|deadline| deadline.checked_sub(RESPONSE_MARGIN).ok()).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_ends_a_second_before_the_lambda_deadline() {
        assert_eq!(until(1_763_780_460_000).to_string(), "2025-11-22T03:00:59Z");
        assert_eq!(until(u64::MAX), Timestamp::MIN);
    }
}
