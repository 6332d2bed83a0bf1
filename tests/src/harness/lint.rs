//! What others check of the files that the compiler does not see.

use super::HarnessError;
use super::tools::{command_output, tools, workspace};
use std::path::PathBuf;
use std::process::Command;

/// cfn-lint on `template.yaml`, warnings included, and without the network.
///
/// # Errors
/// [`HarnessError`] with its findings.
pub fn template() -> Result<(), HarnessError> {
    let mut command = Command::new(tools()?.program("cfn-lint"));
    command.current_dir(workspace()).args(["--non-zero-exit-code", "warning", "--template", "template.yaml"]);
    command_output(&mut command, "cfn-lint does not like template.yaml").map(drop)
}

/// `template.yaml` as JSON, with CloudFormation's short forms written out: `!Ref X` is `{"Ref": "X"}`.
///
/// # Errors
/// [`HarnessError`] where it cannot be read.
pub fn template_as_json() -> Result<serde_json::Value, HarnessError> {
    let program =
        "import json, sys; from cfnlint.decode import cfn_yaml; print(json.dumps(cfn_yaml.load(sys.argv[1])))";
    let mut command = Command::new(tools()?.python());
    command.current_dir(workspace()).args(["-c", program, "template.yaml"]);
    let text = command_output(&mut command, "template.yaml is not to be read")?;
    serde_json::from_str(&text).map_err(|error| HarnessError(format!("template.yaml as JSON: {error}")))
}

/// The YAML files under `.github`, sorted.
#[derive(Debug, Default)]
pub struct GithubFiles {
    /// Of this repository and examples for others.
    pub workflows: Vec<PathBuf>,
    /// `action.yml`.
    pub actions: Vec<PathBuf>,
}

impl GithubFiles {
    /// Finds them.
    ///
    /// # Errors
    /// [`HarnessError`] where a folder cannot be read.
    pub fn find() -> Result<Self, HarnessError> {
        let mut found = Self::default();
        let mut folders = vec![workspace().join(".github")];
        while let Some(folder) = folders.pop() {
            let to_failure = |error: std::io::Error| HarnessError(format!("{}: {error}", folder.display()));
            for entry in std::fs::read_dir(&folder).map_err(to_failure)? {
                let path = entry.map_err(to_failure)?.path();
                let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
                let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                match (path.is_dir(), end, stem) {
                    (true, _, _) => folders.push(path),
                    // Settings of others.
                    (_, "yml" | "yaml", "dependabot" | "jactionlint" | "zizmor") => {}
                    (_, "yml" | "yaml", "action") => found.actions.push(path),
                    (_, "yml" | "yaml", _) => found.workflows.push(path),
                    _ => {}
                }
            }
        }
        found.workflows.sort();
        found.actions.sort();
        Ok(found)
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.workflows.iter().chain(&self.actions)
    }
}

/// The published schemas of workflows and actions, by check-jsonschema's own copy of them.
///
/// # Errors
/// [`HarnessError`] with its findings.
pub fn workflow_schema() -> Result<(), HarnessError> {
    let GithubFiles { workflows, actions } = GithubFiles::find()?;
    for (schema, files) in [("vendor.github-workflows", workflows), ("vendor.github-actions", actions)] {
        if files.is_empty() {
            continue;
        }
        let mut command = Command::new(tools()?.python());
        command.args(["-m", "check_jsonschema", "--builtin-schema", schema]).args(files);
        command_output(&mut command, "a file under .github is not of GitHub's schema")?;
    }
    Ok(())
}

/// actionlint on workflows and actions, with shellcheck on the scripts in them: expressions, inputs, outputs, runners,
/// permissions. It is jactionlint, which has actionlint's checks and more, knows the steps of composite actions, and
/// comes whole from PyPI; actionlint's own package there is a script that downloads it.
///
/// # Errors
/// [`HarnessError`] with its findings.
pub fn actionlint() -> Result<(), HarnessError> {
    let tools = tools()?;
    let mut command = Command::new(tools.program("jactionlint"));
    command
        .current_dir(workspace())
        .env_remove("JACTIONLINT_ONLINE")
        .args(["--no-online", "--no-color", "--strict-exit", "--pyflakes="])
        .arg(format!("--shellcheck={}", tools.program("shellcheck").display()))
        .args(GithubFiles::find()?.all());
    command_output(&mut command, "actionlint does not like a file under .github").map(drop)
}

/// zizmor on workflows and actions: injections, unpinned actions, permissions that nobody asked for.
///
/// # Errors
/// [`HarnessError`] with its findings.
pub fn zizmor() -> Result<(), HarnessError> {
    let mut command = Command::new(tools()?.program("zizmor"));
    command.args(["--offline", "--no-progress", "--persona", "pedantic"]).args(GithubFiles::find()?.all());
    command_output(&mut command, "zizmor does not like a file under .github").map(drop)
}
