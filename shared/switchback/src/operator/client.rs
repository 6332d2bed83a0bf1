//! Control plane client: signed HTTP, with retries where they can help.
//!
//! All requests are idempotent: reads change nothing, an unchanged policy is not applied again, and commands carry a
//! key. So every request without a response is retried.

use super::credentials::{Identity, chain};
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::http::{self, MAX_ATTEMPTS};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use engine::operate::ErrorBody;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::SystemTime;
use tokio::sync::Mutex;

/// Service name for request signing: API Gateway's name in IAM.
const SERVICE: &str = "execute-api";

/// How the control plane is reached.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Remote {
    /// URL of the control plane: output `OperationsEndpoint` of its stack.
    #[arg(long, env = "SWITCHBACK_ENDPOINT", value_name = "URL", hide_env_values = true)]
    endpoint: Option<String>,
    /// The control plane's Region, where its URL does not say it.
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Profile of the AWS configuration files.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

/// Client of one control plane.
#[derive(Debug)]
pub(crate) struct Client {
    endpoint: Endpoint,
    region: String,
    identity: Mutex<Identity>,
    connector: Connector,
}

/// Error of one attempt: the failure, and whether a retry can help.
struct AttemptError {
    retryable: bool,
    failure: Failure,
}

impl Client {
    /// Determines endpoint and credentials; sends nothing yet.
    pub(crate) async fn new(remote: &Remote) -> Result<Self, Failure> {
        let Some(endpoint) = &remote.endpoint else {
            return Err(Failure::Usage(
                "no control plane is named: set SWITCHBACK_ENDPOINT, or give --endpoint, to the output \
                 `OperationsEndpoint` of its stack"
                    .to_owned(),
            ));
        };
        let endpoint = Endpoint::parse(endpoint)?;
        let identity = Identity::find(remote.profile.as_deref()).await;
        let region = remote.region.clone().or_else(|| endpoint.region.clone()).or_else(|| identity.region.clone());
        let Some(region) = region else {
            return Err(Failure::Usage(format!(
                "the Region of {} is not known: set AWS_REGION, or give --region",
                endpoint.url
            )));
        };
        let connector = http::connector(endpoint.secure);
        Ok(Self { endpoint, region, identity: Mutex::new(identity), connector })
    }

    /// Sends a read request.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send("GET", path, String::new()).await
    }

    /// Sends a command.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_string(body)
            .map_err(|error| Failure::Unexpected(format!("the request cannot be written: {error}")))?;
        self.send("POST", path, body).await
    }

    async fn send<T: DeserializeOwned>(&self, method: &str, path: &str, body: String) -> Result<T, Failure> {
        let mut attempts = 0;
        let text = loop {
            attempts += 1;
            match self.attempt(method, path, &body).await {
                Ok(text) => break text,
                Err(error) if error.retryable && attempts < MAX_ATTEMPTS => {
                    http::backoff(attempts).await;
                }
                Err(error) => return Err(error.failure),
            }
        };
        serde_json::from_str(&text).map_err(|error| {
            Failure::Unexpected(format!(
                "the answer to {method} {path} cannot be read ({error}): is the control plane of another version? this is {}",
                env!("CARGO_PKG_VERSION")
            ))
        })
    }

    async fn attempt(&self, method: &str, path: &str, body: &str) -> Result<String, AttemptError> {
        let permanent = |failure| AttemptError { retryable: false, failure };
        // Locked only while credentials are fetched: concurrent requests cause a single login.
        let credentials = self.identity.lock().await.credentials().await.map_err(permanent)?;
        let request = self.signed(method, path, body, &credentials).map_err(permanent)?;
        let no_response = |reason: String| AttemptError {
            retryable: true,
            failure: Failure::Unreachable(format!("{} did not answer {method} {path}: {reason}", self.endpoint.url)),
        };
        let (status, text) = http::exchange(&self.connector, request).await.map_err(no_response)?;
        if (200..300).contains(&status) { Ok(text) } else { Err(self.error_response(method, path, status, &text)) }
    }

    fn signed(&self, method: &str, path: &str, body: &str, credentials: &Credentials) -> Result<HttpRequest, Failure> {
        let malformed = |error: &dyn std::error::Error| {
            Failure::Unexpected(format!("the request {method} {path} cannot be signed: {}", chain(error)))
        };
        let url = format!("{}{path}", self.endpoint.url);
        let identity = credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| malformed(&error))?
            .into();
        let json = ("content-type", "application/json");
        let content_type = (!body.is_empty()).then_some(json);
        let signable =
            SignableRequest::new(method, url.as_str(), content_type.into_iter(), SignableBody::Bytes(body.as_bytes()))
                .map_err(|error| malformed(&error))?;
        let (instructions, _) = sign(signable, &parameters).map_err(|error| malformed(&error))?.into_parts();
        let mut request = HttpRequest::new(SdkBody::from(body.to_owned()));
        request.set_method(method).map_err(|error| malformed(&error))?;
        request.set_uri(url).map_err(|error| malformed(&error))?;
        let headers = request.headers_mut();
        for (name, value) in instructions.headers().chain(content_type) {
            headers.insert(name.to_owned(), value.to_owned());
        }
        headers.insert("user-agent", concat!("switchback/", env!("CARGO_PKG_VERSION")));
        Ok(request)
    }

    /// Maps an error response: Switchback's own refusal, or the gateway's.
    fn error_response(&self, method: &str, path: &str, status: u16, text: &str) -> AttemptError {
        if let Ok(ErrorBody { mut error }) = serde_json::from_str(text) {
            error.status = status;
            if status < 500 {
                return AttemptError { retryable: status == 429, failure: Failure::Refused(error) };
            }
            let failure =
                Failure::Unreachable(format!("{} could not answer {method} {path}: {error}", self.endpoint.url));
            return AttemptError { retryable: status == 503, failure };
        }
        let parsed: Value = serde_json::from_str(text).unwrap_or_default();
        let message = parsed.get("message").or_else(|| parsed.get("Message")).and_then(Value::as_str);
        let message: String = message.unwrap_or(text).chars().take(300).collect();
        let url = &self.endpoint.url;
        let failure = match status {
            401 | 403 => {
                let route = path.split('?').next().unwrap_or(path);
                Failure::Forbidden(format!(
                    "{url} let nobody in ({status}: {message}). Whoever asks needs the IAM permission \
                     `{SERVICE}:Invoke` on `arn:aws:{SERVICE}:{}:ACCOUNT:API/*/{method}{route}`; also check the \
                     account, the Region and this machine's clock",
                    self.region
                ))
            }
            404 => Failure::Forbidden(format!("{url} has no {path} ({message}): is that a Switchback control plane?")),
            429 | 500.. => {
                Failure::Unreachable(format!("{url} could not answer {method} {path} ({status}): {message}"))
            }
            _ => Failure::Forbidden(format!("{url} refused {method} {path} ({status}): {message}")),
        };
        AttemptError { retryable: http::is_transient(status), failure }
    }
}
