//! Asks the control plane: signed HTTP, tried again where that can help.
//!
//! Everything that is asked may be asked twice: questions change nothing, an equal policy is not applied again, and
//! commands carry a key. So whatever has no answer is asked again.

use super::credentials::{Identity, chain};
use super::endpoint::Endpoint;
use super::failure::Failure;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::{Connector, proxy::ProxyConfig, tls};
use aws_smithy_runtime_api::client::http::{HttpConnector as _, HttpConnectorSettings};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use engine::operate::ErrorBody;
use http_body_util::{BodyExt as _, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;

/// The service that signatures are for: API Gateway's name in IAM.
const SERVICE: &str = "execute-api";
/// How long one try may take; the gateway itself gives up after 30 s.
const PATIENCE: Duration = Duration::from_secs(35);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How often something is asked, and the pause after the first try; it doubles.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);
/// The largest answer that is read, in bytes; the gateway's own limit is 10 MB.
const LARGEST_ANSWER: usize = 10 * 1024 * 1024;

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

/// The way to one control plane.
#[derive(Debug)]
pub(crate) struct Client {
    endpoint: Endpoint,
    region: String,
    identity: Mutex<Identity>,
    connector: Connector,
}

/// One try: whether another one can help, and why it did not work.
struct Missed {
    again: bool,
    why: Failure,
}

impl Client {
    /// Finds the control plane and whoever asks it; nothing is sent yet.
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
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT).build();
        let builder = Connector::builder().connector_settings(settings);
        let builder = builder.tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc));
        // This machine is never behind a proxy.
        let proxy = if endpoint.secure { ProxyConfig::from_env() } else { ProxyConfig::disabled() };
        let connector = builder.proxy_config(proxy).build();
        Ok(Self { endpoint, region, identity: Mutex::new(identity), connector })
    }

    /// Asks a question.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask("GET", path, String::new()).await
    }

    /// Asks for something.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_string(body)
            .map_err(|error| Failure::Unexpected(format!("the request cannot be written: {error}")))?;
        self.ask("POST", path, body).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: String) -> Result<T, Failure> {
        let mut tries = 0;
        let text = loop {
            tries += 1;
            match self.once(method, path, &body).await {
                Ok(text) => break text,
                Err(missed) if missed.again && tries < TRIES => {
                    tokio::time::sleep(jittered(PAUSE * 2_u32.pow(tries - 1))).await;
                }
                Err(missed) => return Err(missed.why),
            }
        };
        serde_json::from_str(&text).map_err(|error| {
            Failure::Unexpected(format!(
                "the answer to {method} {path} cannot be read ({error}): is the control plane of another version? this is {}",
                env!("CARGO_PKG_VERSION")
            ))
        })
    }

    async fn once(&self, method: &str, path: &str, body: &str) -> Result<String, Missed> {
        let final_ = |why| Missed { again: false, why };
        // Held while fetching only: a login is asked for once, not by every request at once.
        let credentials = self.identity.lock().await.credentials().await.map_err(final_)?;
        let request = self.signed(method, path, body, &credentials).map_err(final_)?;
        let lost = |reason: String| Missed {
            again: true,
            why: Failure::Unreachable(format!("{} did not answer {method} {path}: {reason}", self.endpoint.url)),
        };
        let exchange = async {
            let response = self.connector.call(request).await.map_err(|error| lost(chain(&error)))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
            let body = body.map_err(|error| lost(format!("the answer broke off: {error}")))?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        let (status, text) = tokio::time::timeout(PATIENCE, exchange)
            .await
            .map_err(|_| lost(format!("nothing came within {} s", PATIENCE.as_secs())))??;
        if (200..300).contains(&status) { Ok(text) } else { Err(self.said_no(method, path, status, &text)) }
    }

    fn signed(&self, method: &str, path: &str, body: &str, credentials: &Credentials) -> Result<HttpRequest, Failure> {
        let broken = |error: &dyn std::error::Error| {
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
            .map_err(|error| broken(&error))?
            .into();
        let json = ("content-type", "application/json");
        let content_type = (!body.is_empty()).then_some(json);
        let signable =
            SignableRequest::new(method, url.as_str(), content_type.into_iter(), SignableBody::Bytes(body.as_bytes()))
                .map_err(|error| broken(&error))?;
        let (instructions, _) = sign(signable, &parameters).map_err(|error| broken(&error))?.into_parts();
        let mut request = HttpRequest::new(SdkBody::from(body.to_owned()));
        request.set_method(method).map_err(|error| broken(&error))?;
        request.set_uri(url).map_err(|error| broken(&error))?;
        let headers = request.headers_mut();
        for (name, value) in instructions.headers().chain(content_type) {
            headers.insert(name.to_owned(), value.to_owned());
        }
        headers.insert("user-agent", concat!("switchback/", env!("CARGO_PKG_VERSION")));
        Ok(request)
    }

    /// An answer that is no yes: Switchback's own refusal, or the gateway's.
    fn said_no(&self, method: &str, path: &str, status: u16, text: &str) -> Missed {
        if let Ok(ErrorBody { mut error }) = serde_json::from_str(text) {
            error.status = status;
            if status < 500 {
                return Missed { again: status == 429, why: Failure::Refused(error) };
            }
            let why = Failure::Unreachable(format!("{} could not answer {method} {path}: {error}", self.endpoint.url));
            return Missed { again: status == 503, why };
        }
        let parsed: Value = serde_json::from_str(text).unwrap_or_default();
        let message = parsed.get("message").or_else(|| parsed.get("Message")).and_then(Value::as_str);
        let message: String = message.unwrap_or(text).chars().take(300).collect();
        let url = &self.endpoint.url;
        let why = match status {
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
        Missed { again: matches!(status, 429 | 500 | 502..=504), why }
    }
}

/// Half of `pause` up to all of it, so that many that failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0_u8];
    // Without chance the pause is whole.
    let share = if getrandom::fill(&mut byte).is_ok() { u32::from(byte[0]) } else { 255 };
    pause / 2 + pause * share / 510
}
