//! Reads `switchback.yaml` into checked types, and matches tags.
//!
//! Pure: text in, a [`Policy`](rollout::Policy) or every problem with its line out.
//!
//! | module | what it does |
//! |---|---|
//! | [`tags`] | which tags of a repository become releases |

pub mod tags;
