//! The Python tools that tests start: one virtual environment of pinned versions, in a cache of the project's own.

use super::HarnessError;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Every package that is installed, by exact version and hash.
const REQUIREMENTS: &str = include_str!("../../requirements.txt");

/// The virtual environment, made at the first call if this machine has none of this content yet (about a minute).
///
/// It lies in `$SWITCHBACK_CACHE`, by default `${XDG_CACHE_HOME:-$HOME/.cache}/switchback`, in a folder named after the
/// content of the requirements and the version of Python. Two processes that ask at once make it once.
///
/// # Errors
/// [`HarnessError`] with what `python3` or `pip` said.
pub fn tools() -> Result<&'static Tools, HarnessError> {
    static TOOLS: OnceLock<Result<Tools, HarnessError>> = OnceLock::new();
    TOOLS.get_or_init(Tools::make).as_ref().map_err(Clone::clone)
}

/// A virtual environment that holds ministack, moto, cfn-lint, check-jsonschema, zizmor, jactionlint and shellcheck.
#[derive(Debug)]
pub struct Tools {
    root: PathBuf,
}

impl Tools {
    /// The environment's Python: `python -m ministack`, `python -m cfnlint`.
    #[must_use]
    pub fn python(&self) -> PathBuf {
        self.root.join("bin/python")
    }

    /// A program that a package brought along.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }

    fn make() -> Result<Self, HarnessError> {
        // 3.11 is the lowest that the pinned versions were resolved for.
        let python = std::env::var("SWITCHBACK_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let version = command_output(
            Command::new(&python).args(["-c", "import sys; assert sys.version_info >= (3, 11); print(sys.version)"]),
            &format!("`{python}` is to be Python 3.11 or newer (another one can be named in SWITCHBACK_PYTHON)"),
        )?;
        let key = Sha256::new().chain_update(REQUIREMENTS).chain_update(version).finalize();
        let name = hex::encode(&key[..8]);
        let cache = cache()?;
        let root = cache.join(format!("tools-{name}"));
        let ready = root.join("ready");
        // The marker is written last: where it is, everything is, and no lock is needed.
        if ready.is_file() {
            return Ok(Self { root });
        }
        let to_failure = |error: std::io::Error| HarnessError(format!("{}: {error}", cache.display()));
        fs::create_dir_all(&cache).map_err(to_failure)?;
        let lock = File::create(cache.join(format!("tools-{name}.lock"))).map_err(to_failure)?;
        lock.lock().map_err(to_failure)?;
        if ready.is_file() {
            return Ok(Self { root });
        }
        if root.exists() {
            fs::remove_dir_all(&root).map_err(to_failure)?;
        }
        eprintln!("installing the test tools into {} (once, about a minute)", root.display());
        command_output(
            Command::new(&python).args(["-m", "venv"]).arg(&root),
            "`python3 -m venv` failed (on Debian and Ubuntu it is in the package python3-venv)",
        )?;
        let requirements = root.join("requirements.txt");
        fs::write(&requirements, REQUIREMENTS).map_err(to_failure)?;
        let tools = Self { root };
        command_output(
            Command::new(tools.python())
                .args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"])
                .args(["--no-deps", "--require-hashes", "--no-compile", "--requirement"])
                .arg(&requirements),
            "pip could not install the test tools",
        )?;
        fs::write(&ready, "").map_err(to_failure)?;
        Ok(tools)
    }
}

/// The project's own cache directory; see [`tools`].
///
/// # Errors
/// [`HarnessError`] where the environment names no home.
pub fn cache() -> Result<PathBuf, HarnessError> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("SWITCHBACK_CACHE")
        .or_else(|| named("XDG_CACHE_HOME").map(|base| base.join("switchback")))
        .or_else(|| named("HOME").map(|home| home.join(".cache/switchback")))
        .ok_or_else(|| {
            HarnessError("set SWITCHBACK_CACHE, XDG_CACHE_HOME or HOME: the test tools need a place".to_owned())
        })
}

/// The root of the workspace that these tests were built from.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package `tests` lies in the workspace")
}

/// Runs a command to its end and answers its standard output.
pub(super) fn command_output(command: &mut Command, what: &str) -> Result<String, HarnessError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| HarnessError(format!("{what}: {command:?} did not start: {error}")))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(HarnessError(format!("{what}: {command:?} ended with {}\n{stdout}\n{stderr}", output.status)))
}
