//! The functions' binaries, as they are uploaded.

use super::HarnessError;
use super::child::target;
use super::tools::{command_output, workspace};
use std::path::PathBuf;
use std::process::Command;

/// The names of all functions: folder, package, binary and the last part of a CodeUri in `template.yaml`.
///
/// # Errors
/// [`HarnessError`] where the folder cannot be read.
pub fn functions() -> Result<Vec<String>, HarnessError> {
    let folder = workspace().join("functions");
    let to_failure = |error: std::io::Error| HarnessError(format!("{}: {error}", folder.display()));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(to_failure)? {
        let entry = entry.map_err(to_failure)?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The operator's binary.
pub const OPERATOR: &str = "switchback";

/// Builds every function and the operator's binary in one cargo call, in the profile that the running test was built in,
/// and answers the folder of the binaries. What is up to date costs under a second; cargo's own lock keeps two callers apart.
///
/// # Errors
/// [`HarnessError`] with what the compiler said.
pub fn build() -> Result<PathBuf, HarnessError> {
    let functions = functions()?;
    build_only(functions.iter().map(String::as_str).chain([OPERATOR]))
}

/// The same for some of them.
///
/// # Errors
/// [`HarnessError`] with what the compiler said.
pub fn build_only<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<PathBuf, HarnessError> {
    // target/<profile>/deps/<test>
    let exe = std::env::current_exe().map_err(|error| HarnessError(format!("the test's own executable: {error}")))?;
    let folder = exe.ancestors().nth(2).unwrap_or(&exe).to_owned();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // The whole workspace with a test among it is what `cargo test --workspace` selects: features of dependencies are then
    // the same, and no SDK is compiled a second time.
    command.current_dir(workspace()).args(["build", "--quiet", "--locked", "--workspace", "--test", "decide"]);
    for name in names {
        command.args(["--bin", name]);
    }
    match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some(profile) => {
            command.args(["--profile", profile]);
        }
    }
    command.arg("--target-dir").arg(target());
    command_output(&mut command, "the functions do not build")?;
    Ok(folder)
}
