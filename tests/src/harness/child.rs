//! Child processes that end with the test, however the test ends.

use super::HarnessError;
use super::tools::tools;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ends a command and its children when standard input closes.
const LEASH: &str = include_str!("leash.py");

/// A server on a loopback port, with its output in a file.
///
/// Dropping it ends the process and its children. So does the end of the test process, a kill included: they hang on
/// a pipe whose other end it held.
#[derive(Debug)]
pub struct Server {
    child: Child,
    name: &'static str,
    port: u16,
    log: PathBuf,
}

impl Server {
    /// Starts `name` with the command that `command` builds for a free port and an empty folder of its own, and waits
    /// until `path` answers a GET with status 200, at most a minute.
    ///
    /// # Errors
    /// [`HarnessError`] with the end of its output where it ended, or was not ready in time.
    pub fn start(
        name: &'static str,
        path: &str,
        command: impl Fn(u16, &Path) -> Result<Command, HarnessError>,
    ) -> Result<Self, HarnessError> {
        let mut last = None;
        // Between choosing a port and listening on it somebody else may take it: then once more.
        for _ in 0..3 {
            let mut server = Self::spawn(name, &command)?;
            match server.wait_ready(path) {
                Ok(()) => return Ok(server),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.expect("three attempts were made"))
    }

    fn spawn(
        name: &'static str,
        command: impl Fn(u16, &Path) -> Result<Command, HarnessError>,
    ) -> Result<Self, HarnessError> {
        let to_failure = |error: std::io::Error| HarnessError(format!("{name} did not start: {error}"));
        let port = free_port().map_err(to_failure)?;
        let folder = target().join("tmp").join(format!("{name}-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).map_err(to_failure)?;
        let log = folder.with_extension("log");
        delete_old_logs(&target().join("tmp"));
        let output = File::create(&log).map_err(to_failure)?;
        let inner = command(port, &folder)?;
        let mut outer = Command::new(tools()?.python());
        outer.args(["-c", LEASH]).arg(inner.get_program()).args(inner.get_args()).current_dir(&folder);
        for (key, value) in inner.get_envs() {
            match value {
                Some(value) => outer.env(key, value),
                None => outer.env_remove(key),
            };
        }
        outer.stdin(Stdio::piped()).stdout(output.try_clone().map_err(to_failure)?).stderr(output);
        let child = outer.spawn().map_err(to_failure)?;
        Ok(Self { child, name, port, log })
    }

    fn wait_ready(&mut self, path: &str) -> Result<(), HarnessError> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if responds_ok(self.address(), path) {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let (name, tail) = (self.name, self.tail());
                return Err(HarnessError(format!("{name} ended with {status} before it was ready\n{tail}")));
            }
            if Instant::now() > deadline {
                return Err(HarnessError(format!("{} was not ready within a minute\n{}", self.name, self.tail())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where it listens, as the SDKs want it: `http://127.0.0.1:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The file that holds its standard output and standard error.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last 100 lines of its output.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("--- {} ---\n{}", self.log.display(), lines[lines.len().saturating_sub(100)..].join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The leash ends the whole group when its standard input closes; it is waited for so that nothing is left.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The workspace's target folder: the one that the running test was built in.
#[must_use]
pub fn target() -> PathBuf {
    // target/debug/deps/<test>: three up.
    let exe = std::env::current_exe().expect("the test knows its own executable");
    exe.ancestors().nth(3).expect("a test executable lies in target/<profile>/deps").to_owned()
}

/// Logs are for whoever looks at a failure; a day later nobody does.
fn delete_old_logs(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|at| at.elapsed().unwrap_or_default());
        let old = age.is_ok_and(|age| age > Duration::from_secs(24 * 60 * 60));
        if old && entry.path().extension().is_some_and(|extension| extension == "log") {
            // Another test may have been quicker.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn responds_ok(address: SocketAddr, path: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(&head == b"HTTP/1.1 200" || &head == b"HTTP/1.0 200")
    };
    ask().unwrap_or(false)
}
