//! Problems of a file: position, what was expected, and how to fix it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Maximum number of problems reported for one file; one further problem then says that there are more.
pub const MAX_PROBLEMS: usize = 100;

/// One problem of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Path in the file's structure: `environments.prod.targets.api.strategy.steps[2].traffic`; empty for the file itself.
    pub path: String,
    /// What is wrong, what was expected, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// All problems of a file, in the order of its lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// A position in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    /// From 1.
    pub(crate) line: usize,
    /// From 1.
    pub(crate) column: usize,
}

/// Collects problems while a file is read.
#[derive(Debug, Default)]
pub(crate) struct ProblemCollector(Vec<Problem>);

impl ProblemCollector {
    pub(crate) fn add(&mut self, mark: Mark, path: &str, message: impl Into<String>) {
        // `into_result` counts what is dropped here: a file consisting of errors must not produce a large response.
        if self.0.len() < 10 * MAX_PROBLEMS {
            let Mark { line, column } = mark;
            self.0.push(Problem { line, column, path: path.to_owned(), message: message.into() });
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The problems in the order of the file, or `value` if there are none.
    pub(crate) fn into_result<T>(mut self, value: Option<T>) -> Result<T, Problems> {
        self.0.sort();
        self.0.dedup();
        if self.0.len() > MAX_PROBLEMS {
            self.0.truncate(MAX_PROBLEMS);
            let last = self.0[MAX_PROBLEMS - 1].clone();
            let message = format!("there are more problems: the first {MAX_PROBLEMS} are listed");
            self.0.push(Problem { path: String::new(), message, ..last });
        }
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Problems(self.0)),
        }
    }
}
