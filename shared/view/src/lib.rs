//! Every word a person reads, made in one place: the terminal, the page, `--json`.
//!
//! Pure: it is handed what is to be said, and the time.
//!
//! | module | says |
//! |---|---|
//! | [`journal`] | what happened, a sentence a fact |
//! | [`waiting`](waiting()) | what a target waits for |
//! | [`page`] | the live page, and the data that it polls |

pub mod journal;
pub mod page;
mod waiting;

pub use waiting::{left, waiting};
