//! The reader against files: what is accepted, what is said of what is not, and that nothing makes it panic.

mod files;
mod garbage;
mod steps_with_schema;
