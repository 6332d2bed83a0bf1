//! Who asks: environment, profile, role, container or instance through `aws-config`; whatever else the AWS command line
//! knows (SSO, `aws login`, `credential_process`) through it.
//!
//! Somebody who uses SSO has the AWS command line, since only it can log in. Asking it for the credentials of that
//! login spares this binary two more SDKs.

use super::failure::Failure;
use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use serde::Deserialize;
use std::error::Error;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

/// Credentials that end sooner than this are replaced before they are used.
const MARGIN: Duration = Duration::from_secs(60);
/// How long the AWS command line may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where credentials come from, and the ones at hand.
#[derive(Debug)]
pub(crate) struct Identity {
    provider: Option<SharedCredentialsProvider>,
    profile: Option<String>,
    at_hand: Option<Credentials>,
    /// The Region that environment or profile name.
    pub(crate) region: Option<String>,
}

impl Identity {
    /// Looks where credentials could come from; none are fetched yet.
    pub(crate) async fn find(profile: Option<&str>) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(profile) = profile {
            loader = loader.profile_name(profile);
        }
        let config = loader.load().await;
        Self {
            provider: config.credentials_provider(),
            profile: profile.map(str::to_owned),
            at_hand: None,
            region: config.region().map(ToString::to_string),
        }
    }

    /// Credentials that last long enough for a request.
    pub(crate) async fn credentials(&mut self) -> Result<Credentials, Failure> {
        let lasts =
            |credentials: &Credentials| credentials.expiry().is_none_or(|expiry| expiry > SystemTime::now() + MARGIN);
        if let Some(credentials) = self.at_hand.as_ref().filter(|credentials| lasts(credentials)) {
            return Ok(credentials.clone());
        }
        let first = match &self.provider {
            Some(provider) => match provider.provide_credentials().await {
                Ok(credentials) => return Ok(self.at_hand.insert(credentials).clone()),
                Err(error) => in_a_line(&chain(&error)),
            },
            None => "no source is configured".to_owned(),
        };
        match export(self.profile.as_deref()).await {
            Ok(credentials) => Ok(self.at_hand.insert(credentials).clone()),
            Err(second) => {
                let profile = match &self.profile {
                    Some(profile) => format!(" of the profile `{profile}`"),
                    None => String::new(),
                };
                Err(Failure::Usage(format!(
                    "no AWS credentials{profile} were found ({first}; {second}). Set AWS_ACCESS_KEY_ID and \
                     AWS_SECRET_ACCESS_KEY, or name a profile with --profile; with SSO, run `aws sso login` first"
                )))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Exported {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    /// RFC 3339.
    expiration: Option<rollout::Timestamp>,
}

/// `aws configure export-credentials` (AWS command line, version 2.9 and later).
async fn export(profile: Option<&str>) -> Result<Credentials, String> {
    let mut command = tokio::process::Command::new("aws");
    command.args(["configure", "export-credentials", "--format", "process"]);
    if let Some(profile) = profile {
        command.args(["--profile", profile]);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err("the AWS command line is not installed".to_owned());
        }
        Ok(Err(error)) => return Err(format!("the AWS command line could not be started: {error}")),
        Err(_) => return Err("the AWS command line did not answer".to_owned()),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason was given");
        return Err(format!("the AWS command line: {}", last.trim()));
    }
    // The output is a secret: an error says where it is wrong, never what it was.
    let exported: Exported = serde_json::from_slice(&output.stdout).map_err(|error| {
        format!("the AWS command line's credentials cannot be read (line {}, column {})", error.line(), error.column())
    })?;
    let expiry = exported.expiration.and_then(|at| u64::try_from(at.as_second()).ok());
    Ok(Credentials::new(
        exported.access_key_id,
        exported.secret_access_key,
        exported.session_token,
        expiry.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
        "aws-cli",
    ))
}

/// What the credential chain says, without the list of every source that was tried, and without words that are meant for
/// whoever builds this binary.
fn in_a_line(text: &str) -> String {
    if text.contains("cargo feature") {
        return "only the AWS command line can read this profile".to_owned();
    }
    let first = text.lines().next().unwrap_or_default();
    first.trim_end_matches(" Attempted:").trim_end_matches('.').to_owned()
}

/// An error with its causes, each once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
