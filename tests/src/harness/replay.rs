//! What the driver recorded of its decisions, decided again by the operator's binary.

use super::{HarnessError, Stack};
use serde_json::Value;

/// What is decided otherwise than the driver's log has it, or is missing there: a sentence each. Everything that a suite
/// has done is looked at, with all that went wrong in it.
#[must_use]
pub(super) fn replay_differences(stack: &Stack) -> Vec<String> {
    let look = || -> Result<Vec<String>, HarnessError> {
        let file = std::env::temp_dir().join(format!("switchback-recorded-{}.log", std::process::id()));
        let to_failure = |error: std::io::Error| HarnessError(format!("{}: {error}", file.display()));
        std::fs::write(&file, stack.function_log("rollout-driver")?).map_err(to_failure)?;
        let replayed = stack.operator().arg("replay").arg(&file).args(["--json", "--strict"]).output();
        let replayed = replayed.map_err(to_failure)?;
        let text = String::from_utf8_lossy(&replayed.stdout).into_owned();
        let report: Value = serde_json::from_str(&text)
            .map_err(|_| HarnessError(format!("replay said {text}{}", String::from_utf8_lossy(&replayed.stderr))))?;
        let (decisions, outcomes) = (report["decisions"].as_u64(), report["outcomes"].as_u64());
        eprintln!("{} decisions and {} outcomes were decided again", decisions.unwrap_or(0), outcomes.unwrap_or(0));
        let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
        let mut found: Vec<String> = Vec::new();
        found.extend(list("different").iter().map(|it| format!("decided otherwise than it was recorded: {it}")));
        found.extend(list("gaps").iter().map(|it| format!("missing in what was recorded: {it}")));
        if decisions.unwrap_or(0) == 0 || (replayed.status.code() == Some(0)) != found.is_empty() {
            found.push(format!("replay ended with {}: {text}", replayed.status));
        }
        if found.is_empty() {
            std::fs::remove_file(&file).map_err(to_failure)?;
        }
        Ok(found)
    };
    look().unwrap_or_else(|failure| vec![format!("what was decided cannot be replayed: {failure}")])
}
