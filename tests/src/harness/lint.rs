//! What others check of the files that the compiler does not see.

use super::Failure;
use super::tools::{said, tools, workspace};
use std::path::PathBuf;
use std::process::Command;

/// cfn-lint on `template.yaml`, warnings included, and without the network.
///
/// # Errors
/// [`Failure`] with its findings.
pub fn template() -> Result<(), Failure> {
    let mut command = Command::new(tools()?.program("cfn-lint"));
    command.current_dir(workspace()).args(["--non-zero-exit-code", "warning", "--template", "template.yaml"]);
    said(&mut command, "cfn-lint does not like template.yaml").map(drop)
}

/// The workflow files, sorted.
///
/// # Errors
/// [`Failure`] where their folder cannot be read.
pub fn workflow_files() -> Result<Vec<PathBuf>, Failure> {
    let folder = workspace().join(".github/workflows");
    let trouble = |error: std::io::Error| Failure(format!("{}: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(trouble)? {
        files.push(entry.map_err(trouble)?.path());
    }
    files.sort();
    Ok(files)
}

/// The published schema of workflow files, by check-jsonschema's own copy of it.
///
/// # Errors
/// [`Failure`] with its findings.
pub fn workflow_schema() -> Result<(), Failure> {
    let mut command = Command::new(tools()?.python());
    command.args(["-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]).args(workflow_files()?);
    said(&mut command, "a workflow is not of GitHub's schema").map(drop)
}

/// zizmor on the workflows: injections, unpinned actions, permissions that nobody asked for.
///
/// # Errors
/// [`Failure`] with its findings.
pub fn workflow_security() -> Result<(), Failure> {
    let mut command = Command::new(tools()?.program("zizmor"));
    command.args(["--offline", "--no-progress", "--persona", "pedantic"]).args(workflow_files()?);
    said(&mut command, "zizmor does not like a workflow").map(drop)
}
