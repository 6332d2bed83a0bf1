//! Shared by all functions: start-up, logging, reading events, reporting failures.
//!
//! The first event waits for a cold start, so start-up does only four things: one thread, one log layer, the state that the
//! function defines (with clients created on first use), the first poll.
//!
//! | module | what it does |
//! |---|---|
//! | `run` | [`run()`]: the runtime's loop on one thread, each invocation in a span of its own |
//! | `logging` | one JSON object per line: time, level, message, dotted fields |
//! | `failure` | [`InvocationFailure`]: an error with a stable type name, for alarms, retries and people; [`one_line`]: bounded text |
//! | `event` | [`read`]: deserializes JSON, with the path of the invalid part in errors |
//! | `http` | [`http_request`], [`TextRequest`], [`json_response`]: events of an HTTP API and its responses |
//! | `batch` | [`messages`], [`batch_response`]: SQS batches and which of their messages are redelivered |
//! | `setting` | [`configured`], [`number`], [`switch`]: settings, with errors that name the variable |

mod batch;
mod event;
mod failure;
mod http;
mod logging;
mod run;
mod setting;

pub use batch::{SqsMessage, batch_response, messages};
pub use event::{EventBridgeEvent, Scheduled, event_time, eventbridge, read, scheduled, unexpected_event};
pub use failure::{InvocationFailure, MAX_MESSAGE_CHARS, one_line};
pub use http::{HttpRequest, TextRequest, http_request, json_response};
pub use run::{Invocation, run};
pub use setting::{configured, number, switch};
