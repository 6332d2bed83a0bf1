//! Credentials: environment, profile, role, container or instance through `aws-config`; all other sources of the AWS
//! command line (SSO, `aws login`, `credential_process`) by calling it.
//!
//! SSO users have the AWS command line, since only it can log in. Asking it for the credentials of that login saves
//! this binary two more SDKs.

use super::failure::Failure;
use aws_config::BehaviorVersion;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use rollout::text::error_chain;
use serde::Deserialize;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

/// Credentials that expire sooner than this are renewed before use.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);
/// Time-out of a call of the AWS command line.
const AWS_CLI_TIMEOUT: Duration = Duration::from_secs(30);

/// Source of credentials, and the current ones.
#[derive(Debug)]
pub(crate) struct CredentialSource {
    provider: Option<SharedCredentialsProvider>,
    profile: Option<String>,
    cached: Option<Credentials>,
    /// The Region from environment or profile.
    pub(crate) region: Option<String>,
}

impl CredentialSource {
    /// Determines the source of credentials; fetches none yet.
    pub(crate) async fn find(profile: Option<&str>) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(profile) = profile {
            loader = loader.profile_name(profile);
        }
        let config = loader.load().await;
        let provider = match profile {
            // A profile that is named wins over keys in the environment, as with the AWS command line.
            Some(profile) => {
                let settings = ProviderConfig::without_region().with_region(config.region().cloned());
                let provider =
                    ProfileFileCredentialsProvider::builder().configure(&settings).profile_name(profile).build();
                Some(SharedCredentialsProvider::new(provider))
            }
            None => config.credentials_provider(),
        };
        Self {
            provider,
            profile: profile.map(str::to_owned),
            cached: None,
            region: config.region().map(ToString::to_string),
        }
    }

    /// Credentials that are valid long enough for a request.
    pub(crate) async fn credentials(&mut self) -> Result<Credentials, Failure> {
        let is_valid = |credentials: &Credentials| {
            credentials.expiry().is_none_or(|expiry| expiry > SystemTime::now() + EXPIRY_MARGIN)
        };
        if let Some(credentials) = self.cached.as_ref().filter(|credentials| is_valid(credentials)) {
            return Ok(credentials.clone());
        }
        let first = match &self.provider {
            Some(provider) => match provider.provide_credentials().await {
                Ok(credentials) => return Ok(self.cached.insert(credentials).clone()),
                Err(error) => first_line(&error_chain(&error)),
            },
            None => "no source is configured".to_owned(),
        };
        match export(self.profile.as_deref()).await {
            Ok(credentials) => Ok(self.cached.insert(credentials).clone()),
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
struct ExportedCredentials {
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
    let output = match tokio::time::timeout(AWS_CLI_TIMEOUT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err("the AWS command line is not installed".to_owned());
        }
        Ok(Err(error)) => return Err(format!("the AWS command line could not be started: {error}")),
        Err(_) => return Err("the AWS command line did not answer".to_owned()),
    };
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason was given");
        return Err(format!("the AWS command line: {}", last.trim()));
    }
    // The output is a secret: the error names the position of the problem, never the content.
    let exported: ExportedCredentials = serde_json::from_slice(&output.stdout).map_err(|error| {
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

/// The credential chain's message, without the list of all sources tried and without advice for developers of this
/// binary.
fn first_line(text: &str) -> String {
    if text.contains("cargo feature") {
        return "only the AWS command line can read this profile".to_owned();
    }
    let first = text.lines().next().unwrap_or_default();
    first.trim_end_matches(" Attempted:").trim_end_matches('.').to_owned()
}
