//! Reads `switchback.yaml` into checked types, and matches tags.
//!
//! Pure: text in, a [`Policy`](rollout::Policy) or every problem with its line out. [`parse`] is the only way in; a policy
//! that it returned is valid. In reading order:
//!
//! | module | what it does |
//! |---|---|
//! | [`tags`] | which tags of a repository become releases |
//! | [`grants`] | what a workflow of GitHub Actions may do, by its token's claims |
//! | [`file`](mod@file) | the format as types, from which the JSON Schema is generated |
//! | `problem` | what is wrong with a file, and where |
//! | `tree` | YAML to nodes with their position; anchors, tags, sizes |
//! | `values` | single values: types, units, known keys |
//! | `arn` | shapes of AWS names |
//! | `names` | names that one part defines and another one refers to |
//! | `read` | application, services, environments |
//! | `people` | people, groups, and their identities |
//! | `entry` | an environment's requirements for a release |
//! | `calendar` | windows and freezes |
//! | `order` | the order of environments and services |
//! | `github` | grants, as the file states them |
//! | `target` | one target: pair, strategy, alarms, deadlines |
//! | `hooks` | a target's hooks |
//! | `notify` | receivers of notifications |
//! | `render` | a policy rendered in the file's notation |
//! | `changes` | what applying one policy after another changes |
//! | `warnings` | valid settings that are most likely not intended |

mod arn;
mod calendar;
mod changes;
mod entry;
pub mod file;
mod github;
pub mod grants;
mod hooks;
mod names;
mod notify;
mod order;
mod people;
mod problem;
mod read;
mod render;
pub mod tags;
mod target;
mod tree;
mod values;
mod warnings;

pub use changes::{PolicyChange, changes};
pub use file::schema;
pub use problem::{MAX_PROBLEMS, Problem, Problems};
pub use read::{MAX_POLICY_BYTES, MAX_TARGETS, parse, parse_bytes};
pub use render::render;
pub use target::MIN_DEADLINE;
pub use tree::MAX_FILE_BYTES;
pub use warnings::warnings;

/// Every mapping shape that the reader knows, for the test that compares reader and schema.
#[cfg(test)]
pub(crate) const SHAPES: &[&values::Shape] = &[
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
