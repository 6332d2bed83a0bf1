//! Reads `switchback.yaml` into checked types, and matches tags.
//!
//! Pure: text in, a [`Policy`](rollout::Policy) or every problem with its line out. [`parse`] is the only door; what has
//! passed it is sound. In reading order:
//!
//! | module | what it does |
//! |---|---|
//! | [`tags`] | which tags of a repository become releases |
//! | [`grants`] | what a workflow of GitHub Actions may do, by its token's claims |
//! | [`file`](mod@file) | the format as types; the JSON Schema comes from them |
//! | `problem` | what is wrong with a file, and where |
//! | `tree` | YAML to nodes that know their place; anchors, tags, sizes |
//! | `walk` | single values: types, units, known keys |
//! | `arn` | shapes of AWS names |
//! | `names` | names that one part has and another one refers to |
//! | `read` | application, services, environments |
//! | `people` | people, groups, and what proves them |
//! | `entry` | what an environment asks of a release |
//! | `calendar` | windows and freezes |
//! | `order` | the order of environments and services |
//! | `github` | grants, as the file has them |
//! | `target` | one target: pair, strategy, alarms, deadlines |
//! | `hooks` | a target's hooks |
//! | `notify` | who is told of what |
//! | `notation` | a policy written out again |
//! | `changes` | what applying one policy after another changes |
//! | `warnings` | what is sound and still most likely not meant |

mod arn;
mod calendar;
mod changes;
mod entry;
pub mod file;
mod github;
pub mod grants;
mod hooks;
mod names;
mod notation;
mod notify;
mod order;
mod people;
mod problem;
mod read;
pub mod tags;
mod target;
mod tree;
mod walk;
mod warnings;

pub use changes::{Change, changes};
pub use file::schema;
pub use notation::notation;
pub use problem::{MOST_PROBLEMS, Problem, Problems};
pub use read::{LARGEST_POLICY, MOST_TARGETS, parse, parse_bytes};
pub use target::SHORTEST_DEADLINE;
pub use tree::LARGEST_FILE;
pub use warnings::warnings;

/// Every kind of mapping that the reader knows, for the test that holds reader and schema together.
#[cfg(test)]
pub(crate) const SHAPES: &[&walk::Shape] = &[
    &read::FILE,
    &read::SERVICE,
    &read::REGISTRY,
    &read::TAGS,
    &read::NOT_TAGS,
    &read::ENVIRONMENT,
    &read::DEFAULTS,
    &people::PERSON,
    &entry::AFTER,
    &entry::APPROVAL,
    &entry::HOTFIX,
    &entry::TRAINS,
    &calendar::FREEZE,
    &github::GRANT,
    &target::TARGET,
    &target::SIDE,
    &target::STRATEGY,
    &target::TASK_FAILURES,
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
