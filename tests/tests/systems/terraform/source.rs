//! Files of a configuration, and what is wrong with one, with its place.

use hcl_edit::Span;
use hcl_edit::structure::Body;
use std::fmt;
use std::ops::Range;
use std::path::Path;

/// What is wrong with a configuration, and where: `network.tf:12: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem(String);

impl Problem {
    /// `place`: file and line.
    pub(super) fn new(place: &str, message: impl fmt::Display) -> Self {
        Self(format!("{place}: {message}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A parsed file.
#[derive(Debug)]
pub(super) struct SourceFile {
    name: String,
    text: String,
    /// Its blocks and attributes.
    pub(super) body: Body,
}

impl SourceFile {
    /// Parses the text of a file.
    pub(super) fn parse(name: &str, text: String) -> Result<Self, Problem> {
        match text.parse::<Body>() {
            Ok(body) => Ok(Self { name: name.to_owned(), text, body }),
            Err(error) => Err(Problem::new(&format!("{name}:{}", error.location().line()), error.message())),
        }
    }

    /// Reads and parses a file of this folder.
    pub(super) fn read(folder: &Path, name: &str) -> Result<Self, Problem> {
        let text = std::fs::read_to_string(folder.join(name)).map_err(|error| Problem::new(name, error))?;
        Self::parse(name, text)
    }

    /// File and line of what begins at `span`.
    pub(super) fn place(&self, span: Option<Range<usize>>) -> String {
        let start = span.map_or(0, |span| span.start).min(self.text.len());
        let line = self.text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("{}:{line}", self.name)
    }

    /// What is wrong with a part of the file.
    pub(super) fn problem(&self, at: &impl Span, message: impl fmt::Display) -> Problem {
        Problem::new(&self.place(at.span()), message)
    }
}
