//! Reads `switchback.yaml` into checked types, and matches tags.
//!
//! Pure: text in, a [`Policy`](rollout::Policy) or every problem with its line out. [`parse`] is the only way in; a policy
//! that it returned is valid. In reading order; a module uses only those above it:
//!
//! | module | what it does |
//! |---|---|
//! | [`tags`] | which tags of a repository become releases |
//! | [`file`](mod@file) | the format as types: its keys, and the JSON Schema |
//! | `problem` | what is wrong with a file, and where |
//! | `tree` | YAML to nodes with their position; anchors, tags, sizes |
//! | `values` | single values: types, units, known keys |
//! | `arn` | shapes of AWS names |
//! | `names` | names that one part defines and another one refers to |
//! | [`grants`] | what a workflow of GitHub Actions may do, by its token's claims |
//! | `github` | grants, as the file states them |
//! | `people` | people, groups, and their identities |
//! | `calendar` | windows and freezes |
//! | `entry` | an environment's requirements for a release |
//! | `order` | the order of environments and services |
//! | `hooks` | a target's hooks |
//! | `resources` | what runs a target, and how traffic reaches it |
//! | `target` | one target: strategy, alarms, deadlines |
//! | `notify` | receivers of notifications |
//! | `read` | the whole file: application, services, environments |
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
mod resources;
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
pub use tree::MAX_FILE_BYTES;
pub use values::MIN_DEADLINE;
pub use warnings::warnings;

#[cfg(test)]
mod tests;
