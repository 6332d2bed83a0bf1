//! Starts and stops the demo's tasks: this very binary, once more, as child processes.
//!
//! No task outlives the demo: each reads from a pipe that the operating system closes when the demo's process ends,
//! however it ends, and stops when the pipe does.

use super::task::LISTENING;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A task that has not said where it listens by then has failed to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A task that has not ended by then after it was told to is killed.
const KILL_AFTER: Duration = Duration::from_secs(12);

/// What a task runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// The release, as its answers say it.
    pub(crate) release: String,
    /// How many of a hundred requests fail.
    pub(crate) fail_percent: u8,
}

/// Why a task did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the task's process could not be started")]
    Spawn(#[source] std::io::Error),
    #[error("the task ended before it listened ({0})")]
    Ended(String),
    #[error("the task did not say where it listens within {START_TIMEOUT:?}")]
    Silent,
}

/// A task that runs.
#[derive(Debug)]
pub(crate) struct Task {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    process: Child,
}

impl Task {
    /// Starts a task and waits until it listens.
    pub(crate) async fn start(image: &Image) -> Result<Self, StartError> {
        let binary = own_binary().map_err(StartError::Spawn)?;
        let mut process = Command::new(binary)
            .arg("demo-task")
            .args(["--release", &image.release, "--fail-percent", &image.fail_percent.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A group of its own: Ctrl-C reaches the demo alone, which then ends its tasks in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(StartError::Spawn)?;
        let output = process.stdout.take().ok_or(StartError::Silent)?;
        let mut lines = BufReader::new(output).lines();
        let first = tokio::time::timeout(START_TIMEOUT, lines.next_line()).await.map_err(|_| StartError::Silent)?;
        let line = match first {
            Ok(Some(line)) => line,
            Ok(None) => {
                let status = process.wait().await.map_err(StartError::Spawn)?;
                return Err(StartError::Ended(status.to_string()));
            }
            Err(error) => return Err(StartError::Spawn(error)),
        };
        let address = line.strip_prefix(LISTENING).and_then(|address| address.parse().ok());
        let address = address.ok_or_else(|| StartError::Ended(format!("it said `{line}`")))?;
        Ok(Self { address, process })
    }

    /// How the process ended, if it has by itself: in ECS's words.
    pub(crate) fn ended(&mut self) -> Option<String> {
        match self.process.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(match status.code() {
                Some(code) => format!("Essential container in task exited (exit code {code})"),
                None => format!("Essential container in task exited ({status})"),
            }),
            Err(error) => Some(format!("the task's process is lost: {error}")),
        }
    }

    /// Stops it: it finishes what is in flight; past [`KILL_AFTER`] it is killed.
    pub(crate) async fn stop(mut self) {
        drop(self.process.stdin.take());
        if tokio::time::timeout(KILL_AFTER, self.process.wait()).await.is_err() {
            // Already dead is fine, and there is nobody else to tell.
            let _ = self.process.kill().await;
        }
    }
}

/// This program, as it is running: on Linux it stays the same one when a build replaces the file meanwhile.
fn own_binary() -> std::io::Result<std::path::PathBuf> {
    let running = std::path::Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { std::env::current_exe() }
}
