//! Control plane client: signed HTTP, with retries where they can help.
//!
//! All requests are idempotent: reads change nothing, an unchanged policy is not applied again, and commands carry a
//! key. So every request without a response is retried.

use super::credentials::CredentialSource;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::http::{self, AttemptError, RequestLine};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use rollout::text::error_chain;
use serde::Serialize;
use serde::de::DeserializeOwned;
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

/// Arguments of commands that send one request and print its response.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RemoteArguments {
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) remote: Remote,
}

/// Client of one control plane.
#[derive(Debug)]
pub(crate) struct Client {
    endpoint: Endpoint,
    region: String,
    identity: Mutex<CredentialSource>,
    connector: Connector,
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
        let identity = CredentialSource::find(remote.profile.as_deref()).await;
        let region = remote.region.clone().or_else(|| endpoint.region.clone()).or_else(|| identity.region.clone());
        let Some(region) = region else {
            return Err(Failure::Usage(format!(
                "the Region of {} is not known: set AWS_REGION, or give --region",
                endpoint.url
            )));
        };
        if region.is_empty() || !region.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
            return Err(Failure::Usage(format!("the Region {region:?} is not one: write it as in eu-central-1")));
        }
        let connector = http::connector(endpoint.secure);
        Ok(Self { endpoint, region, identity: Mutex::new(identity), connector })
    }

    /// Sends a read request.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send("GET", path, String::new()).await
    }

    /// Sends a command.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.send("POST", path, http::json_body(body)?).await
    }

    async fn send<T: DeserializeOwned>(&self, method: &str, path: &str, body: String) -> Result<T, Failure> {
        let line = RequestLine { url: &self.endpoint.url, method, path };
        let text = http::with_retries(async || self.attempt(line, &body).await).await?;
        line.parse(&text)
    }

    async fn attempt(&self, line: RequestLine<'_>, body: &str) -> Result<String, AttemptError> {
        // Locked only while credentials are fetched: concurrent requests cause a single login.
        let credentials = self.identity.lock().await.credentials().await.map_err(AttemptError::permanent)?;
        let request = self.signed(line, body, &credentials).map_err(AttemptError::permanent)?;
        let (status, text) = line.exchange(&self.connector, request).await?;
        line.success(status, text, |message| AttemptError::permanent(self.denied(line, status, message)))
    }

    fn signed(&self, line: RequestLine<'_>, body: &str, credentials: &Credentials) -> Result<HttpRequest, Failure> {
        let RequestLine { url, method, path } = line;
        let malformed = |error: &dyn std::error::Error| {
            Failure::Unexpected(format!("the request {method} {path} cannot be signed: {}", error_chain(error)))
        };
        let url = format!("{url}{path}");
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
            // Credentials may hold anything that an environment variable may.
            headers.try_insert(name.to_owned(), value.to_owned()).map_err(|error| malformed(&error))?;
        }
        headers.insert("user-agent", concat!("switchback/", env!("CARGO_PKG_VERSION")));
        Ok(request)
    }

    /// The gateway's 401, 403 or 404.
    fn denied(&self, line: RequestLine<'_>, status: u16, message: &str) -> Failure {
        let RequestLine { url, method, path } = line;
        if status == 404 {
            return Failure::Forbidden(format!("{url} has no {path} ({message}): is that a Switchback control plane?"));
        }
        let route = path.split('?').next().unwrap_or(path);
        Failure::Forbidden(format!(
            "{url} denied access ({status}: {message}). The caller needs the IAM permission \
             `{SERVICE}:Invoke` on `arn:aws:{SERVICE}:{}:ACCOUNT:API/*/{method}{route}`; also check the \
             account, the Region and this machine's clock",
            self.region
        ))
    }
}
