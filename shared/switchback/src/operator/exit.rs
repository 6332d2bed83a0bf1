//! What the commands tell whoever started them.

use rollout::stage::Verdict;
use std::process::ExitCode;

/// What a command tells whoever started it. Scripts rely on these numbers: none is ever given another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// What was asked is done; with `--wait`: the deployment succeeded, or what was to be ended has ended.
    Done = 0,
    /// Something that should not happen: a bug, or an answer that cannot be read.
    Unexpected = 1,
    /// The command cannot be understood: arguments, a file that is not there, no endpoint, no credentials.
    Usage = 2,
    /// The policy file has problems.
    Policy = 3,
    /// Switchback, or IAM before it, said no.
    Refused = 4,
    /// The control plane did not answer, or could not.
    Unreachable = 5,
    /// `doctor`: the account is not fit for what the policy wants.
    Unfit = 6,
    /// `replay`: this version decides otherwise than what was recorded.
    Different = crate::replay::DIFFERENT,
    /// `--wait`: traffic had moved, and is back on the stable side.
    RolledBack = 10,
    /// `--wait`: it ended before traffic moved, or the way back could not be finished.
    Failed = 11,
    /// `--wait`: a newer release took its place.
    Superseded = 12,
    /// `--wait`: a person ended it.
    Cancelled = 13,
    /// `--wait`: a person said no.
    Rejected = 14,
    /// `--wait`: nobody answered in time.
    Expired = 15,
    /// The time of `--timeout` has passed; the deployment goes on.
    StillRunning = 20,
}

impl Exit {
    /// All of them, in the order of their numbers.
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

    /// The number.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The name, as `--json` has it.
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

    /// What a deployment's end means to whoever waited for it to succeed.
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

    /// The table, for people.
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
    fn every_code_is_in_the_table_once_and_fits_a_terminal() {
        let table = Exit::table();
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        assert_eq!(table.lines().count(), codes.len() + 1);
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }

    #[test]
    fn the_page_has_every_code() {
        let page = include_str!("../../README.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} | ", exit.code(), exit.name());
            assert!(page.contains(&row), "shared/switchback/README.md has no row {row}");
        }
    }
}
