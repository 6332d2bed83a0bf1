//! SDK clients created on first use, and the settings that the CloudFormation template passes in as environment variables.
//!
//! Creating [`Clients`] costs nothing. The SDK configuration is loaded on the first call of any SDK, each SDK's client is
//! created on its own first call, and all share one HTTP client, so the machine's root certificates are read once.

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_smithy_http_client::ConnectorBuilder;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Limit for establishing a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Limit for one attempt of a call.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Limit for a call including all its attempts: a small part of [`engine::MAX_LEASE`], so that a driver whose calls hang still
/// finishes well within its lease.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(8);
/// Limit for one attempt to read a secret.
pub const SECRET_ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1_200);
/// Limit for reading a secret including all attempts: Slack allows 3 s for a response that needs two secrets.
pub const SECRET_CALL_TIMEOUT: Duration = Duration::from_millis(2_000);
/// Attempts per call, the first included.
pub const MAX_ATTEMPTS: u32 = 3;

/// Environment variable: name of the ledger's table.
pub const TABLE: &str = "SWITCHBACK_TABLE";
/// Environment variable: URL of the wake queue.
pub const WAKES_URL: &str = "SWITCHBACK_WAKES_URL";

/// Environment variable: URL of the urgent wake queue. Where it is unset, urgent wakes use the ordinary queue.
pub const URGENT_WAKES_URL: &str = "SWITCHBACK_URGENT_WAKES_URL";
/// Environment variable: load balancer read calls per second that all deployments share; set where the account's API limits
/// differ from the defaults.
pub const BALANCER_READS: &str = "SWITCHBACK_BALANCER_READS";

/// Environment variable: name of the event bus that journal entries are published to.
pub const EVENT_BUS: &str = "SWITCHBACK_EVENT_BUS";
/// Environment variable: name of the secret holding Slack's bot token.
pub const SLACK_TOKEN_SECRET: &str = "SWITCHBACK_SLACK_TOKEN_SECRET";
/// Environment variable: name of the secret with which Slack signs its requests.
pub const SLACK_SIGNING_SECRET: &str = "SWITCHBACK_SLACK_SIGNING_SECRET";
/// Environment variable: name of the secret with which approval links are signed.
pub const LINK_KEY_SECRET: &str = "SWITCHBACK_LINK_KEY_SECRET";
/// JSON field of that secret that holds the key, where the secret is a JSON object.
pub const LINK_KEY_FIELD: &str = "link_key";
/// JSON field of the secret that holds Slack's signing secret, where the secret is a JSON object.
pub const SLACK_SIGNING_FIELD: &str = "signing_secret";
/// Environment variable: address of Slack's Web API, where it differs from Slack's own.
pub const SLACK_URL: &str = "SWITCHBACK_SLACK_URL";
/// Environment variable: base URL of the signed approval links.
pub const APPROVALS_URL: &str = "SWITCHBACK_APPROVALS_URL";
/// Environment variable: URL of the dead-letter queue.
pub const DEAD_LETTERS_URL: &str = "SWITCHBACK_DEAD_LETTERS_URL";

/// Environment variable: account ID of the control plane.
pub const ACCOUNT: &str = "SWITCHBACK_ACCOUNT";
/// Environment variable: Region of the control plane. Lambda sets it.
pub const REGION: &str = "AWS_REGION";

/// Environment variable: the resources that the control plane's IAM roles are restricted to, as JSON.
pub const REACH: &str = "SWITCHBACK_REACH";

/// A setting that is missing from the environment or invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {variable} {problem}: template.yaml sets it in the function's Environment")]
pub struct SettingError {
    /// Name of the environment variable.
    pub variable: &'static str,
    /// What is wrong with its value.
    pub problem: &'static str,
}

/// Reads a setting from the environment.
///
/// # Errors
/// [`SettingError`] where the variable is unset, empty, or not Unicode.
pub fn setting(variable: &'static str) -> Result<String, SettingError> {
    std::env::var(variable)
        .ok()
        .filter(|value| !value.is_empty())
        .ok_or(SettingError { variable, problem: "is not set" })
}

/// The control plane's own registry: the one of its account and Region.
///
/// # Errors
/// [`SettingError`] where the environment lacks the account or the Region, or one is invalid.
pub fn own_registry() -> Result<rollout::Registry, SettingError> {
    let (account, region) = (setting(ACCOUNT)?, setting(REGION)?);
    if !rollout::registry::is_account(&account) {
        return Err(SettingError { variable: ACCOUNT, problem: "is no account's 12 digits" });
    }
    Ok(rollout::Registry { account, region })
}

/// Reads a rate per second from the environment; `None` where the variable is unset.
///
/// # Errors
/// [`SettingError`] where the variable is set and not a number above 0.
pub fn rate(variable: &'static str) -> Result<Option<f64>, SettingError> {
    let Ok(value) = std::env::var(variable) else { return Ok(None) };
    let rate = value.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.map(Some).ok_or(SettingError { variable, problem: "is no number above 0" })
}

/// One client per SDK, created on first use. Cheap to create and to clone.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    shared: Arc<SharedClients>,
}

#[derive(Debug, Default)]
struct SharedClients {
    http: CachedHttpClient,
    config: OnceCell<SdkConfig>,
    #[cfg(feature = "cloud")]
    autoscaling: OnceCell<aws_sdk_applicationautoscaling::Client>,
    #[cfg(feature = "cloud")]
    cloudwatch: OnceCell<aws_sdk_cloudwatch::Client>,
    #[cfg(feature = "ledger")]
    dynamodb: OnceCell<aws_sdk_dynamodb::Client>,
    #[cfg(feature = "registry")]
    ecr: OnceCell<aws_sdk_ecr::Client>,
    #[cfg(feature = "cloud")]
    ecs: OnceCell<aws_sdk_ecs::Client>,
    #[cfg(feature = "cloud")]
    elb: OnceCell<aws_sdk_elasticloadbalancingv2::Client>,
    #[cfg(feature = "cloud")]
    lambda: OnceCell<aws_sdk_lambda::Client>,
    #[cfg(feature = "channels")]
    eventbridge: OnceCell<aws_sdk_eventbridge::Client>,
    #[cfg(feature = "secrets")]
    secrets: OnceCell<aws_sdk_secretsmanager::Client>,
    #[cfg(feature = "channels")]
    sns: OnceCell<aws_sdk_sns::Client>,
    #[cfg(any(feature = "channels", feature = "wake_queue"))]
    sqs: OnceCell<aws_sdk_sqs::Client>,
}

impl Clients {
    /// Clients that read Region, credentials and endpoints from the environment on first use.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Clients with an existing configuration; see [`loader`].
    #[must_use]
    pub fn of(config: SdkConfig) -> Self {
        Self {
            shared: Arc::new(SharedClients { config: OnceCell::new_with(Some(config)), ..SharedClients::default() }),
        }
    }

    /// The configuration shared by all clients, loaded on first use.
    pub async fn config(&self) -> &SdkConfig {
        self.shared.config.get_or_init(|| loader().http_client(self.shared.http.clone()).load()).await
    }

    /// HTTP connector for requests that no SDK makes: the one that the SDKs use, or, with `bypass_proxy`, one without a
    /// proxy.
    #[cfg(feature = "http")]
    pub(crate) fn connector(&self, bypass_proxy: bool) -> SharedHttpConnector {
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build();
        self.shared.http.connector(&settings, None, bypass_proxy)
    }

    /// Application Auto Scaling.
    #[cfg(feature = "cloud")]
    pub async fn autoscaling(&self) -> &aws_sdk_applicationautoscaling::Client {
        let make = async || aws_sdk_applicationautoscaling::Client::new(self.config().await);
        self.shared.autoscaling.get_or_init(make).await
    }

    /// CloudWatch.
    #[cfg(feature = "cloud")]
    pub async fn cloudwatch(&self) -> &aws_sdk_cloudwatch::Client {
        let make = async || aws_sdk_cloudwatch::Client::new(self.config().await);
        self.shared.cloudwatch.get_or_init(make).await
    }

    /// DynamoDB.
    #[cfg(feature = "ledger")]
    pub async fn dynamodb(&self) -> &aws_sdk_dynamodb::Client {
        let make = async || aws_sdk_dynamodb::Client::new(self.config().await);
        self.shared.dynamodb.get_or_init(make).await
    }

    /// ECR.
    #[cfg(feature = "registry")]
    pub async fn ecr(&self) -> &aws_sdk_ecr::Client {
        let make = async || aws_sdk_ecr::Client::new(self.config().await);
        self.shared.ecr.get_or_init(make).await
    }

    /// ECR in the given Region; `None`: the clients' own Region.
    #[cfg(feature = "registry")]
    pub async fn ecr_in(&self, region: Option<&str>) -> aws_sdk_ecr::Client {
        let own = self.config().await.region().map(AsRef::as_ref);
        match region.filter(|region| Some(*region) != own) {
            None => self.ecr().await.clone(),
            Some(region) => {
                let config = aws_sdk_ecr::config::Builder::from(self.config().await);
                let region = aws_sdk_ecr::config::Region::new(region.to_owned());
                aws_sdk_ecr::Client::from_conf(config.region(region).build())
            }
        }
    }

    /// ECS.
    #[cfg(feature = "cloud")]
    pub async fn ecs(&self) -> &aws_sdk_ecs::Client {
        let make = async || aws_sdk_ecs::Client::new(self.config().await);
        self.shared.ecs.get_or_init(make).await
    }

    /// Elastic Load Balancing v2.
    #[cfg(feature = "cloud")]
    pub async fn elb(&self) -> &aws_sdk_elasticloadbalancingv2::Client {
        let make = async || aws_sdk_elasticloadbalancingv2::Client::new(self.config().await);
        self.shared.elb.get_or_init(make).await
    }

    /// Lambda, for hooks.
    #[cfg(feature = "cloud")]
    pub async fn lambda(&self) -> &aws_sdk_lambda::Client {
        let make = async || aws_sdk_lambda::Client::new(self.config().await);
        self.shared.lambda.get_or_init(make).await
    }

    /// EventBridge.
    #[cfg(feature = "channels")]
    pub async fn eventbridge(&self) -> &aws_sdk_eventbridge::Client {
        let make = async || aws_sdk_eventbridge::Client::new(self.config().await);
        self.shared.eventbridge.get_or_init(make).await
    }

    /// Secrets Manager. Callers who need a secret, such as Slack, wait less patiently than a driver does, so its calls have
    /// the shorter limits [`SECRET_ATTEMPT_TIMEOUT`] and [`SECRET_CALL_TIMEOUT`].
    #[cfg(feature = "secrets")]
    pub async fn secrets(&self) -> &aws_sdk_secretsmanager::Client {
        let make = async || {
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_attempt_timeout(SECRET_ATTEMPT_TIMEOUT)
                .operation_timeout(SECRET_CALL_TIMEOUT)
                .build();
            let config = aws_sdk_secretsmanager::config::Builder::from(self.config().await);
            aws_sdk_secretsmanager::Client::from_conf(config.timeout_config(timeouts).build())
        };
        self.shared.secrets.get_or_init(make).await
    }

    /// SNS.
    #[cfg(feature = "channels")]
    pub async fn sns(&self) -> &aws_sdk_sns::Client {
        let make = async || aws_sdk_sns::Client::new(self.config().await);
        self.shared.sns.get_or_init(make).await
    }

    /// SQS.
    #[cfg(any(feature = "channels", feature = "wake_queue"))]
    pub async fn sqs(&self) -> &aws_sdk_sqs::Client {
        let make = async || aws_sdk_sqs::Client::new(self.config().await);
        self.shared.sqs.get_or_init(make).await
    }
}

/// Loads the configuration with the timeouts, retries and HTTP client common to all clients. Region, credentials and
/// endpoints come from the environment unless the caller sets them.
///
/// Only a loader applies `AWS_ENDPOINT_URL_<SERVICE>`; an SDK configuration built by hand ignores these variables.
#[must_use]
pub fn loader() -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(CachedHttpClient::default())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
}

/// Keeps one connector per pair of timeouts, and none for validating a client's configuration: the SDK's own HTTP client
/// reads and parses all root certificates again for every client that is created.
#[derive(Debug, Clone, Default)]
struct CachedHttpClient {
    connectors: Arc<Mutex<Vec<(ConnectorKey, SharedHttpConnector)>>>,
}

/// Connect timeout, read timeout (to the first byte), and whether the proxy is bypassed.
type ConnectorKey = (Option<Duration>, Option<Duration>, bool);

impl CachedHttpClient {
    fn connector(
        &self,
        settings: &HttpConnectorSettings,
        components: Option<&RuntimeComponents>,
        bypass_proxy: bool,
    ) -> SharedHttpConnector {
        let key = (settings.connect_timeout(), settings.read_timeout(), bypass_proxy);
        let mut connectors = self.connectors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connector)) = connectors.iter().find(|(existing, _)| *existing == key) {
            return connector.clone();
        }
        let mut builder = ConnectorBuilder::default()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .connector_settings(settings.clone())
            .proxy_config(if bypass_proxy { ProxyConfig::disabled() } else { ProxyConfig::from_env() });
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        let connector = SharedHttpConnector::new(builder.build());
        connectors.push((key, connector.clone()));
        connector
    }
}

impl HttpClient for CachedHttpClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        self.connector(settings, Some(components), false)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        Some(ConnectorMetadata::new("hyper", Some("1.x".into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_setting_error_names_the_template() {
        let missing = setting("SWITCHBACK_NO_SUCH_SETTING").expect_err("nobody sets it");
        assert_eq!(
            missing.to_string(),
            "the environment variable SWITCHBACK_NO_SUCH_SETTING is not set: template.yaml sets it in the function's \
             Environment"
        );
    }

    #[test]
    fn call_timeouts_fit_well_within_the_lease() {
        assert!(CONNECT_TIMEOUT < ATTEMPT_TIMEOUT && ATTEMPT_TIMEOUT < CALL_TIMEOUT);
        assert!(CALL_TIMEOUT.as_secs() * 4 < engine::MAX_LEASE.0, "one round of calls is a small part of the lease");
    }

    #[tokio::test]
    async fn the_configuration_is_loaded_lazily_and_once() {
        let clients = Clients::new();
        assert!(clients.shared.config.get().is_none());
        let same = clients.clone();
        let config = loader().region(aws_config::Region::new("eu-central-1")).load().await;
        let made = Clients::of(config);
        assert!(std::ptr::eq(made.config().await, made.clone().config().await));
        assert!(same.shared.config.get().is_none());
    }

    #[tokio::test]
    async fn every_client_has_the_timeouts_and_retries() {
        let config = loader().region(aws_config::Region::new("eu-central-1")).load().await;
        let timeouts = config.timeout_config().expect("time-outs");
        assert_eq!(timeouts.connect_timeout(), Some(CONNECT_TIMEOUT));
        assert_eq!(timeouts.operation_attempt_timeout(), Some(ATTEMPT_TIMEOUT));
        assert_eq!(timeouts.operation_timeout(), Some(CALL_TIMEOUT));
        assert_eq!(config.retry_config().expect("retries").max_attempts(), MAX_ATTEMPTS);
    }
}
