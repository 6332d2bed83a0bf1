//! Starts what the product runs on, and the product itself: everything on loopback, in versions that are pinned.
//!
//! | module | what it does |
//! |---|---|
//! | [`tools`](tools()) | the Python tools, installed once into a cache of the project's own |
//! | [`child`] | child processes that end with the test, however the test ends |
//! | [`ministack`], [`moto`] | the emulators |
//! | [`lint`] | what others check of the template and the workflows |
//! | [`aws`] | signed calls to an emulator, for what tests set up and ask |
//! | [`permissions`] | what the roles allow, and whether the functions keep to it |
//! | [`packages`] | the functions' binaries |
//! | [`lambda`] | one function's process as Lambda runs it, to be killed at will |
//! | [`wakes`] | the queue before the driver |
//! | `bus` | the template's rules, asked on behalf of what AWS sends by itself |
//! | [`stack`](stack()) | the product deployed from `template.yaml`, before the wire front |
//! | [`OperationsClient`] | the `operations` API, as operators call it |
//! | [`Subscriber`] | a queue subscribed to a topic or to the event bus |
//! | [`issuer`] | GitHub's identity provider: keys, tokens, what a runner gives a job |
//! | [`leaks`] | secrets and tokens, looked for in every log |
//! | `replay` | what the driver recorded of its decisions, decided again |
//! | [`slack`] | Slack's Web API, and what it sends when somebody presses a button |
//! | [`http`] | one request to a server on loopback |
//! | [`scenario`] | one application in the shared world |
//! | [`suite`] | runs the end-to-end tests of a target, and what is checked after all of them |

pub mod aws;
mod bus;
pub mod child;
mod emulators;
pub mod http;
pub mod issuer;
pub mod lambda;
pub mod leaks;
pub mod lint;
mod loopback;
mod operations;
pub mod packages;
pub mod permissions;
mod replay;
pub mod scenario;
pub mod slack;
mod stack;
mod subscriber;
pub mod suite;
mod tools;
pub mod wakes;

pub use emulators::{REGION, ministack, moto};
pub use operations::OperationsClient;
pub use stack::{AUDIENCE, Stack, digest_of, eventually, now, stack};
pub use subscriber::{Subscriber, topic_arn};
pub use tools::{Tools, cache, tools, workspace};

/// Why the harness could not do its part: for the person who runs the tests.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct HarnessError(pub String);
