//! The reader against files: what is accepted, what is said of what is not, and that nothing makes it panic.

mod entry;
mod files;
mod garbage;
mod people;
mod steps_with_schema;
