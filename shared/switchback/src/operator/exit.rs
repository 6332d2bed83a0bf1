//! Exit codes of the commands.

use rollout::verdict::Verdict;
use std::process::ExitCode;

/// Exit code of a command. Scripts rely on these numbers, so a number never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The request was carried out; with `--wait`: the deployment succeeded, or the deployment to be ended has ended.
    Done = 0,
    /// Unexpected: a bug, or a response that cannot be parsed.
    Unexpected = 1,
    /// Wrong usage: invalid arguments, a missing file, no endpoint, no credentials.
    Usage = 2,
    /// The policy file has problems.
    Policy = 3,
    /// Refused by Switchback, or by IAM before it.
    Refused = 4,
    /// The control plane did not respond, or could not.
    Unreachable = 5,
    /// `doctor`: the account is not fit for what the policy wants.
    Unfit = 6,
    /// `replay`: this version decides otherwise than what was recorded.
    Different = crate::replay::DIFFERENT,
    /// `--wait`: traffic had moved, and was rolled back to the stable side.
    RolledBack = 10,
    /// `--wait`: the deployment ended before traffic moved, or its rollback could not be completed.
    Failed = 11,
    /// `--wait`: superseded by a newer release.
    Superseded = 12,
    /// `--wait`: cancelled by a person.
    Cancelled = 13,
    /// `--wait`: rejected by an approver.
    Rejected = 14,
    /// `--wait`: expired without a decision.
    Expired = 15,
    /// `--timeout` has expired; the deployment continues.
    StillRunning = 20,
}

impl Exit {
    /// All exit codes in numerical order.
    pub(crate) const ALL: [Self; 15] = [
        Self::Done,
        Self::Unexpected,
        Self::Usage,
        Self::Policy,
        Self::Refused,
        Self::Unreachable,
        Self::Unfit,
        Self::Different,
        Self::RolledBack,
        Self::Failed,
        Self::Superseded,
        Self::Cancelled,
        Self::Rejected,
        Self::Expired,
        Self::StillRunning,
    ];

    /// The numeric code.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The name in `--json` output.
    pub(crate) fn name(self) -> &'static str {
        self.row().0
    }

    /// The meaning, in a sentence.
    pub(crate) fn meaning(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::Done => ("done", "done; with --wait: succeeded, or ended as requested"),
            Self::Unexpected => ("unexpected", "something that should not happen"),
            Self::Usage => ("usage", "arguments, a missing file, no endpoint, no credentials"),
            Self::Policy => ("policy", "the policy file has problems"),
            Self::Refused => ("refused", "refused by Switchback or IAM"),
            Self::Unreachable => ("unreachable", "the control plane did not answer, or could not"),
            Self::Unfit => ("unfit", "doctor: a deployment could not go well"),
            Self::Different => ("different", "replay: this version decides differently"),
            Self::RolledBack => ("rolled_back", "--wait: traffic had moved, and is back on the stable side"),
            Self::Failed => ("failed", "--wait: ended before traffic moved, or rollback stuck"),
            Self::Superseded => ("superseded", "--wait: superseded by a newer release"),
            Self::Cancelled => ("cancelled", "--wait: a person ended it"),
            Self::Rejected => ("rejected", "--wait: rejected by a person"),
            Self::Expired => ("expired", "--wait: nobody answered in time"),
            Self::StillRunning => ("still_running", "--timeout has passed; the deployment goes on"),
        }
    }

    /// Exit code for a verdict, from the point of view of a command that wanted the deployment to succeed.
    pub(crate) fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Succeeded => Self::Done,
            Verdict::RolledBack => Self::RolledBack,
            Verdict::Failed => Self::Failed,
            Verdict::Superseded => Self::Superseded,
            Verdict::Cancelled => Self::Cancelled,
            Verdict::Rejected => Self::Rejected,
            Verdict::Expired => Self::Expired,
        }
    }

    /// The exit codes as a table.
    pub(crate) fn table() -> String {
        let lines =
            Self::ALL.iter().map(|exit| format!("{:>4}  {:<14} {}\n", exit.code(), exit.name(), exit.meaning()));
        format!("Exit codes:\n{}", lines.collect::<String>())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_lists_every_code_once_within_80_columns() {
        let table = Exit::table();
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        assert_eq!(table.lines().count(), codes.len() + 1);
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }

    #[test]
    fn readme_lists_every_exit_code() {
        let page = include_str!("../../README.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} | ", exit.code(), exit.name());
            assert!(page.contains(&row), "shared/switchback/README.md has no row {row}");
        }
    }
}
