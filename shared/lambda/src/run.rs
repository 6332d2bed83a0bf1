//! The runtime's loop on one thread.

use crate::{Failure, logging};
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::{LambdaEvent, LambdaInvocation, Runtime, Service, service_fn, tower};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;
use std::task::{Context, Poll};
use tracing::Instrument as _;
use tracing::instrument::Instrumented;

/// What is left of an invocation's time when its work must be over: for the answer to be sent.
const FOR_THE_ANSWER: SignedDuration = SignedDuration::from_secs(1);

/// What a function knows of the call that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// AWS's identity of the call; in every log line as `request_id`.
    pub request_id: String,
    /// When the work must be over: a second before Lambda ends the sandbox.
    pub until: Timestamp,
}

/// Serves events until the sandbox ends: `start` makes what all calls share, once, and must not call out; `handle`
/// answers one event. Where `start` fails, every call is answered with its failure, so that whoever called learns why.
///
/// A failure and a panic are logged once, by lambda_runtime, within the invocation's span; a panic becomes an error
/// answer, too.
pub fn run<S, A, R>(
    start: impl FnOnce() -> Result<S, Failure>,
    handle: impl AsyncFn(&S, A, &Invocation) -> Result<R, Failure>,
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
    let served = Runtime::new(service_fn(serve)).layer(tower::layer::layer_fn(InSpan));
    match runtime.block_on(served.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the runtime interface did not answer");
            ExitCode::FAILURE
        }
    }
}

/// Everything that is done for an invocation happens in a span with its `request_id`.
struct InSpan<S>(S);

impl<S: Service<LambdaInvocation>> Service<LambdaInvocation> for InSpan<S> {
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
    deadline.and_then(|deadline| deadline.checked_sub(FOR_THE_ANSWER).ok()).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_over_a_second_before_the_sandbox() {
        assert_eq!(until(1_763_780_460_000).to_string(), "2025-11-22T03:00:59Z");
        assert_eq!(until(u64::MAX), Timestamp::MIN);
    }
}
