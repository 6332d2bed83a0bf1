//! What every function has in common: how it starts, what it logs, how it reads events, how it says that it failed.
//!
//! A cold start is paid for by whoever waits for the first event, so starting does four things and no more: one thread,
//! one log layer, the state that the function names (clients that are made on first use), the first poll.
//!
//! | module | what it does |
//! |---|---|
//! | `run` | [`run()`]: the runtime's loop on one thread, each call in a span of its own |
//! | `logging` | one JSON object a line: time, level, message, dotted fields |
//! | `failure` | [`Failure`]: an error whose type name is stable, for alarms, retries and people; [`brief`]: words with an end |
//! | `event` | [`read`]: JSON into types, with the path of what does not fit |
//! | `http` | [`http_request`], [`json_response`]: events of an HTTP API and its answers |
//! | `batch` | [`messages`], [`reply`]: SQS batches and which of their messages must come again |
//! | `setting` | [`number`], [`switch`]: from the environment, with errors that name the variable |

mod batch;
mod event;
mod failure;
mod http;
mod logging;
mod run;
mod setting;

pub use batch::{Message, messages, reply};
pub use event::{EventBridgeEvent, Scheduled, eventbridge, foreign, read, scheduled, time_of};
pub use failure::{Failure, LONGEST_MESSAGE, brief};
pub use http::{HttpRequest, http_request, json_response};
pub use run::{Invocation, run};
pub use setting::{number, switch};
