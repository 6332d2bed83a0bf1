//! Tests of the reader: which files are accepted, which problems are reported for others, and that no file causes a panic.

mod entry;
mod files;
mod garbage;
mod in_place;
mod keys;
mod people;
mod template;
