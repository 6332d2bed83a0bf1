//! Reads `switchback.yaml` into checked types, and matches tags.
//!
//! Pure: text in, a [`Policy`](rollout::Policy) or every problem with its line out. [`parse`] is the only door; what has
//! passed it is sound. In reading order:
//!
//! | module | what it does |
//! |---|---|
//! | [`tags`] | which tags of a repository become releases |
//! | [`file`](mod@file) | the format as types; the JSON Schema comes from them |
//! | `problem` | what is wrong with a file, and where |
//! | `tree` | YAML to nodes that know their place; anchors, tags, sizes |
//! | `walk` | single values: types, units, known keys |
//! | `arn` | shapes of AWS names |
//! | `read` | application, services, environments |
//! | `target` | one target: pair, strategy, alarms, deadlines |
//! | `hooks` | a target's hooks |
//! | `notify` | who is told of what |
//! | `changes` | what applying one policy after another changes |

mod arn;
mod changes;
pub mod file;
mod hooks;
mod notify;
mod problem;
mod read;
pub mod tags;
mod target;
mod tree;
mod walk;

pub use changes::{Change, changes, notation};
pub use file::schema;
pub use problem::{MOST_PROBLEMS, Problem, Problems};
pub use read::{LARGEST_POLICY, MOST_TARGETS, parse, parse_bytes};
pub use target::SHORTEST_DEADLINE;
pub use tree::LARGEST_FILE;

/// Every kind of mapping that the reader knows, for the test that holds reader and schema together.
#[cfg(test)]
pub(crate) const SHAPES: &[&walk::Shape] = &[
    &read::FILE,
    &read::SERVICE,
    &read::TAGS,
    &read::ENVIRONMENT,
    &read::DEFAULTS,
    &target::TARGET,
    &target::SIDE,
    &target::STRATEGY,
    &target::STEP,
    &target::ALARM,
    &target::DEADLINES,
    &hooks::HOOKS,
    &hooks::HOOK,
    &hooks::TASK,
    &notify::NOTIFICATION,
];

#[cfg(test)]
mod tests;
