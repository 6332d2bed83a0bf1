//! Local validation of the policy file.

use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;
use rollout::Policy;
use serde_json::json;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use view::policy_file::{PolicyProblem, policy_problem};

/// Check a policy file.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ValidateArguments {
    /// The file; `-` is standard input.
    #[arg(default_value = "switchback.yaml")]
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// A file's content and its display name.
pub(super) struct PolicyFile {
    name: String,
    bytes: Vec<u8>,
}

impl PolicyFile {
    /// Reads a file, or standard input for `-`.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
        let bytes = if path == Path::new("-") {
            read_policy(std::io::stdin().lock())
        } else {
            std::fs::File::open(path).and_then(read_policy)
        };
        match bytes {
            Ok(bytes) => Ok(Self { name, bytes }),
            Err(error) => Err(Failure::Usage(format!("{name} cannot be read: {error}"))),
        }
    }

    /// The validated policy; problems are printed with their lines.
    pub(super) fn policy(&self, output: &mut Output) -> Result<Policy, Failure> {
        let problems = match policy::parse_bytes(&self.bytes) {
            Ok(policy) => return Ok(policy),
            Err(problems) => problems.0,
        };
        let text = String::from_utf8_lossy(&self.bytes);
        for problem in &problems {
            let policy::Problem { line, column, path, message } = problem;
            let shown = PolicyProblem { line: *line, column: *column, path, message };
            output.say(&policy_problem(&self.name, &text, shown, output.paint));
        }
        output.document(&json!({"file": self.name, "sound": false, "problems": problems}));
        let count = if problems.len() == 1 { "a problem".to_owned() } else { format!("{} problems", problems.len()) };
        Err(Failure::Policy(format!("{} has {count}", self.name)))
    }

    /// The text to send to the control plane; it has been parsed, so it is valid text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Display name of the file.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// `switchback validate`
pub(super) fn validate(arguments: &ValidateArguments, output: &mut Output) -> Result<Exit, Failure> {
    let file = PolicyFile::read(&arguments.file)?;
    let policy = match file.policy(output) {
        Ok(policy) => policy,
        // The problems are the result, which `--json` has printed already.
        Err(Failure::Policy(sentence)) => {
            super::output::warn(&format!("switchback: {sentence}"));
            return Ok(Exit::Policy);
        }
        Err(failure) => return Err(failure),
    };
    let targets: Vec<String> = policy.targets().map(|(target, _)| target.to_string()).collect();
    let warnings = policy::warnings(&policy);
    output.document(&json!({
        "file": file.name, "sound": true, "application": policy.application, "targets": targets, "warnings": warnings,
    }));
    let list: String = targets.iter().map(|target| format!("  {target}\n")).collect();
    let count = if targets.len() == 1 { "1 target".to_owned() } else { format!("{} targets", targets.len()) };
    output.say(&format!("{} is sound: application {}, {count}\n{list}", file.name(), policy.application));
    for warning in &warnings {
        super::output::warn(&format!("switchback: {warning}"));
    }
    Ok(Exit::Done)
}

/// No more than shows that a file is too long: a device has no end.
fn read_policy(from: impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(policy::MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
