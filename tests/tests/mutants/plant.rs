//! A copy of the tree, a defect in it, and what the suite says.

use super::{Mutant, Suite, root};
use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a suite may take with a defect in it, which takes a minute or two without: one that goes round and round is
/// noticed, too.
const SUITE_TIMEOUT: Duration = Duration::from_secs(900);

/// The copy of the tree that defects are planted in. It keeps its place and its target folder, so that the next run
/// compiles only what has changed.
pub(crate) struct SourceCopy {
    tree: PathBuf,
    target: PathBuf,
}

/// What became of a mutant.
pub(crate) enum MutantOutcome {
    /// These tests failed.
    Caught(Vec<String>),
    /// The suite went on and on.
    NeverEnded,
    /// The suite was content.
    Survived,
    /// The compiler refused it, with these words: it proves nothing.
    DoesNotCompile(String),
    /// Its text is not found, or more than once.
    DoesNotApply,
}

impl MutantOutcome {
    /// The last column of its row.
    pub(crate) fn to_markdown(&self, suite: Suite) -> String {
        match self {
            Self::Caught(tests) => {
                let first = tests.first().map(String::as_str).unwrap_or_default();
                let more = tests.len().saturating_sub(1);
                let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
                format!("{}: `{first}`{rest}", suite.label())
            }
            Self::NeverEnded => format!("{}: not over after {} s", suite.label(), SUITE_TIMEOUT.as_secs()),
            Self::Survived => "**survived**".to_owned(),
            Self::DoesNotCompile(_) => "**does not compile**".to_owned(),
            Self::DoesNotApply => "**cannot be planted**".to_owned(),
        }
    }

    /// What is wrong with it; none: it was caught.
    pub(crate) fn complaint(&self, mutant: &Mutant) -> Option<String> {
        let name = mutant.name;
        match self {
            Self::Caught(_) | Self::NeverEnded => None,
            Self::Survived => Some(format!("{name} survived: {}", mutant.caught_by.command())),
            Self::DoesNotCompile(words) => Some(format!("{name} does not compile:\n{words}")),
            Self::DoesNotApply => Some(format!("{name} cannot be planted in {} any more", mutant.file)),
        }
    }
}

impl SourceCopy {
    /// Brings the copy into line with the tree as it is, uncommitted changes included.
    pub(crate) fn prepare() -> Self {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
        let field = Self { tree: place.join("tree"), target: place.join("target") };
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
        let listed = String::from_utf8(listed.stdout).unwrap();
        let files: BTreeSet<&str> = listed.split('\0').filter(|file| root().join(file).is_file()).collect();
        for file in &files {
            field.put(file, &std::fs::read(root().join(file)).unwrap());
        }
        field.clear(&field.tree, &files);
        field
    }

    /// Writes a file where it is not so already: what is untouched is not compiled again.
    fn put(&self, file: &str, bytes: &[u8]) {
        let path = self.tree.join(file);
        if std::fs::read(&path).is_ok_and(|there| there == bytes) {
            return;
        }
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Takes away what the tree does not have any more.
    fn clear(&self, folder: &Path, files: &BTreeSet<&str>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.clear(&path, files);
            } else if !files.contains(path.strip_prefix(&self.tree).unwrap().to_str().unwrap()) {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO"));
        command
            .args(arguments)
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_TERM_COLOR", "never")
            // Not what somebody else wants of warnings: a defect may well leave something unused.
            .env_remove("RUSTFLAGS");
        command
    }

    /// A suite that fails without any defect would catch everything.
    pub(crate) fn must_pass(&self, suite: Suite) {
        let (began, output) = (Instant::now(), self.cargo(suite.arguments()).output().unwrap());
        let words = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "without any defect, {} fails:\n{words}\n{errors}", suite.command());
        println!("{:>4} s  passes without any defect: {}", began.elapsed().as_secs(), suite.command());
    }

    /// Plants it, runs what has to catch it, and takes it out again.
    pub(crate) fn test_mutant(&self, mutant: &Mutant) -> MutantOutcome {
        let began = Instant::now();
        let sound = std::fs::read_to_string(root().join(mutant.file)).unwrap();
        if sound.matches(mutant.text).count() != 1 {
            return MutantOutcome::DoesNotApply;
        }
        self.put(mutant.file, sound.replacen(mutant.text, mutant.instead, 1).as_bytes());
        let outcome = self.judge(mutant.caught_by);
        self.put(mutant.file, sound.as_bytes());
        let seconds = began.elapsed().as_secs();
        match &outcome {
            MutantOutcome::Caught(tests) => {
                println!("{seconds:>4} s  caught by {} tests: {}", tests.len(), mutant.name)
            }
            MutantOutcome::NeverEnded => println!("{seconds:>4} s  never ends, which is noticed: {}", mutant.name),
            escaped => println!("{seconds:>4} s  {}", escaped.complaint(mutant).unwrap_or_default()),
        }
        outcome
    }

    fn judge(&self, suite: Suite) -> MutantOutcome {
        let arguments = suite.arguments();
        let own = arguments.iter().position(|argument| *argument == "--").unwrap_or(arguments.len());
        let compiled = self.cargo(&[&arguments[..own], &["--no-run"]].concat()).output().unwrap();
        if !compiled.status.success() {
            return MutantOutcome::DoesNotCompile(String::from_utf8_lossy(&compiled.stderr).into_owned());
        }
        let suite_run = self.cargo(&[&arguments[..1], &["--no-fail-fast"], &arguments[1..]].concat());
        let Some(output) = output_within(suite_run, SUITE_TIMEOUT) else { return MutantOutcome::NeverEnded };
        if output.status.success() {
            return MutantOutcome::Survived;
        }
        let words = String::from_utf8_lossy(&output.stdout);
        let failed = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
        let mut failed: Vec<String> = words.lines().filter_map(failed).collect();
        failed.sort();
        if failed.is_empty() {
            let errors = String::from_utf8_lossy(&output.stderr);
            panic!("{} fails, and no test does:\n{words}\n{errors}", suite.command());
        }
        MutantOutcome::Caught(failed)
    }
}

/// What a command says, or none where it is not over by then: it is killed, with all that it has started.
fn output_within(mut command: Command, patience: Duration) -> Option<Output> {
    let child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let group = format!("-{}", child.id());
    let (over, waits) = mpsc::channel();
    let waiting = std::thread::spawn(move || over.send(child.wait_with_output().unwrap()));
    let output = waits.recv_timeout(patience).ok();
    if output.is_none() {
        Command::new("kill").args(["-KILL", "--", &group]).status().unwrap();
    }
    // Its own answer comes too late then.
    let _late = waiting.join().unwrap();
    output
}

/// How the row of a mutant begins: what of it does not depend on the run.
pub(crate) fn row_begins(mutant: &Mutant) -> String {
    format!("| `{}` | {} | {} | `{}` | ", mutant.name, mutant.defect, mutant.met, mutant.file)
}

/// The results, as `tests/mutants.md` keeps them.
pub(crate) fn table(rows: &[String]) -> String {
    let caught = rows.iter().filter(|row| !row.contains("| **")).count();
    let mut text = format!(
        "# Planted defects\n\nWritten by `cargo mutation-check`: each of these defects was planted alone in a copy of the \
         tree, and the command that has to catch it was run. {caught} of {} were caught.\n\n",
        rows.len()
    );
    for suite in Suite::ALL {
        text.push_str(&format!("- {}: `{}`\n", suite.label(), suite.command()));
    }
    text.push_str("\n| name | what one would see | met in | planted in | caught by |\n|---|---|---|---|---|\n");
    for row in rows {
        text.push_str(row);
        text.push('\n');
    }
    text
}
