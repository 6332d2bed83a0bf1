//! Starts and stops the demo's tasks: child processes that run this same binary.
//!
//! No task outlives the demo: each reads from a pipe that the operating system closes when the demo's process ends for
//! any reason, and stops when it is closed.

use super::task::LISTENING;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A task that has not reported its address within this time has failed to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A task that is still running this long after it was signalled to stop is killed.
const KILL_AFTER: Duration = Duration::from_secs(12);

/// Behaviour of the tasks of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// Name of the release, which its responses contain.
    pub(crate) release: String,
    /// Percentage of requests that fail.
    pub(crate) fail_percent: u8,
}

/// Why a task failed to start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the task's process could not be started")]
    Spawn(#[source] std::io::Error),
    #[error("the task ended before it listened ({0})")]
    Ended(String),
    #[error("the task did not say where it listens within {START_TIMEOUT:?}")]
    Silent,
}

/// A running task.
#[derive(Debug)]
pub(crate) struct TaskProcess {
    /// Address on which it listens.
    pub(crate) address: SocketAddr,
    process: Child,
}

impl TaskProcess {
    /// Starts a task and waits until it listens.
    pub(crate) async fn start(image: &Image) -> Result<Self, StartError> {
        let binary = own_binary().map_err(StartError::Spawn)?;
        let mut process = Command::new(binary)
            .arg("demo-task")
            .args(["--release", &image.release, "--fail-percent", &image.fail_percent.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A process group of its own: Ctrl-C reaches only the demo, which then stops its tasks in order.
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

    /// If the process has exited by itself: the reason, in ECS's wording.
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

    /// Stops the task: it finishes its requests in flight; after [`KILL_AFTER`] it is killed.
    pub(crate) async fn stop(mut self) {
        drop(self.process.stdin.take());
        if tokio::time::timeout(KILL_AFTER, self.process.wait()).await.is_err() {
            // If it has exited already, there is nothing to do.
            let _ = self.process.kill().await;
        }
    }
}

/// The running binary: on Linux the same file even if a build replaces it meanwhile.
fn own_binary() -> std::io::Result<std::path::PathBuf> {
    let running = std::path::Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { std::env::current_exe() }
}
