//! Starts what the product runs on, and the product itself: everything on loopback, in versions that are pinned.
//!
//! | module | what it does |
//! |---|---|
//! | [`tools`](tools()) | the Python tools, installed once into a cache of the project's own |
//! | [`child`] | child processes that end with the test, however the test ends |
//! | [`ministack`], [`moto`] | the emulators |

pub mod child;
mod emulators;
mod tools;

pub use emulators::{REGION, ministack, moto};
pub use tools::{Tools, cache, tools, workspace};

/// Why the harness could not do its part: for the person who runs the tests.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);
