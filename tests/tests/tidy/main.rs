//! The house stays tidy: who may depend on whom, one name in six places, a README that tells the truth about the tree,
//! no name for two things, and no logic twice.
#![expect(clippy::unwrap_used, reason = "tests: what is missing here is what the test is about")]

mod copies;
mod modules;
mod names;
mod packages;
mod pages;
mod platforms;
mod tree;
mod type_names;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The project's root folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// What a command prints, run in the root; panics with its words if it fails.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root()).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} failed: {words}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every file of the project: what git tracks, and what it would track.
fn files() -> Vec<String> {
    let listed = output("git", &["ls-files", "--cached", "--others", "--exclude-standard"]);
    let mut files: Vec<String> = listed.lines().map(str::to_owned).filter(|file| root().join(file).is_file()).collect();
    files.sort();
    files.dedup();
    files
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file} cannot be read: {error}"))
}

/// The folder of the crate that a source file belongs to, `shared/rollout` for `shared/rollout/src/lib.rs`; none: it is no
/// source file, or one of a crate's `tests` folder.
fn crate_of(file: &str) -> Option<&str> {
    let (folder, _) = file.split_once("/src/").filter(|_| file.ends_with(".rs"))?;
    let is_crate = folder == "tests" || folder.starts_with("shared/") || folder.starts_with("functions/");
    is_crate.then_some(folder)
}
