//! Clients that are made on first use, and the settings that the template hands in.
//!
//! Making [`Clients`] costs nothing. The configuration is loaded with the first call of any SDK, each SDK's client
//! with its own first call, and all of them share one HTTP client: the machine's root certificates are read once.

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

/// How long a connection may take to be made.
pub const CONNECT: Duration = Duration::from_secs(1);
/// How long one attempt of a call may take.
pub const ATTEMPT: Duration = Duration::from_secs(3);
/// How long a call may take with all its attempts: a small part of [`engine::LEASE`], so that a driver whose calls
/// hang still ends well inside of its lease.
pub const CALL: Duration = Duration::from_secs(8);
/// How long one attempt to read a secret may take.
pub const SECRET_ATTEMPT: Duration = Duration::from_millis(1_200);
/// How long reading a secret may take with all attempts: Slack waits 3 s for an answer that needs two of them.
pub const SECRET_CALL: Duration = Duration::from_millis(2_000);
/// How often a call is tried at most.
pub const ATTEMPTS: u32 = 3;

/// The environment variable that names the ledger's table.
pub const TABLE: &str = "SWITCHBACK_TABLE";
/// The environment variable that holds the URL of the queue of wakes.
pub const WAKES_URL: &str = "SWITCHBACK_WAKES_URL";

/// The environment variable that holds the URL of the queue of urgent wakes; without it they take the other one.
pub const URGENT_WAKES_URL: &str = "SWITCHBACK_URGENT_WAKES_URL";
/// The environment variable that says how many reads of load balancers a second deployments share, where an account's
/// budgets are not the usual ones.
pub const BALANCER_READS: &str = "SWITCHBACK_BALANCER_READS";

/// The environment variable that names the event bus that the journal is put on.
pub const EVENT_BUS: &str = "SWITCHBACK_EVENT_BUS";
/// The environment variable that names the secret with Slack's bot token.
pub const SLACK_TOKEN_SECRET: &str = "SWITCHBACK_SLACK_TOKEN_SECRET";
/// The environment variable that names the secret with which Slack signs what it sends.
pub const SLACK_SIGNING_SECRET: &str = "SWITCHBACK_SLACK_SIGNING_SECRET";
/// The environment variable that names the secret with which links for approvals are signed.
pub const LINK_KEY_SECRET: &str = "SWITCHBACK_LINK_KEY_SECRET";
/// The field of that secret that holds the key, where the secret is a JSON object.
pub const LINK_KEY_FIELD: &str = "link_key";
/// The field of the secret that holds Slack's signing secret, where the secret is a JSON object.
pub const SLACK_SIGNING_FIELD: &str = "signing_secret";
/// The environment variable that holds the address of Slack's Web API, where it is not Slack's own.
pub const SLACK_URL: &str = "SWITCHBACK_SLACK_URL";
/// The environment variable that holds the address under which people answer signed links.
pub const APPROVALS_URL: &str = "SWITCHBACK_APPROVALS_URL";
/// The environment variable that holds the URL of the dead-letter queue.
pub const DEAD_LETTERS_URL: &str = "SWITCHBACK_DEAD_LETTERS_URL";

/// The environment variable that holds the number of the account that the control plane is in.
pub const ACCOUNT: &str = "SWITCHBACK_ACCOUNT";
/// The environment variable that names the Region that it is in: Lambda sets it.
pub const REGION: &str = "AWS_REGION";

/// The environment variable that says, as JSON, what the control plane's roles are narrowed to.
pub const REACH: &str = "SWITCHBACK_REACH";

/// A setting that the environment does not have, or not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {variable} {problem}: template.yaml sets it in the function's Environment")]
pub struct BadSetting {
    /// The variable's name.
    pub variable: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Reads a setting from the environment.
///
/// # Errors
/// [`BadSetting`] where the variable is not there, is empty, or is no Unicode.
pub fn setting(variable: &'static str) -> Result<String, BadSetting> {
    std::env::var(variable).ok().filter(|value| !value.is_empty()).ok_or(BadSetting { variable, problem: "is not set" })
}

/// The control plane's own registry: its account's, in its Region.
///
/// # Errors
/// [`BadSetting`] where the environment does not say which, or names none.
pub fn own_registry() -> Result<rollout::Registry, BadSetting> {
    let (account, region) = (setting(ACCOUNT)?, setting(REGION)?);
    if !rollout::registry::is_account(&account) {
        return Err(BadSetting { variable: ACCOUNT, problem: "is no account's 12 digits" });
    }
    Ok(rollout::Registry { account, region })
}

/// Reads a rate, a second, from the environment; none where the variable is not there.
///
/// # Errors
/// [`BadSetting`] where it is there and no number above 0.
pub fn rate(variable: &'static str) -> Result<Option<f64>, BadSetting> {
    let Ok(said) = std::env::var(variable) else { return Ok(None) };
    let rate = said.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.map(Some).ok_or(BadSetting { variable, problem: "is no number above 0" })
}

/// One client for each SDK, made on first use; cheap to make and to clone.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    http: OneHttpClient,
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
    /// Clients that read Region, credentials and endpoints from the environment when they are first used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Clients of a configuration that is there already; see [`loader`].
    #[must_use]
    pub fn of(config: SdkConfig) -> Self {
        Self { shared: Arc::new(Shared { config: OnceCell::new_with(Some(config)), ..Shared::default() }) }
    }

    /// The configuration that all clients share.
    pub async fn config(&self) -> &SdkConfig {
        self.shared.config.get_or_init(|| loader().http_client(self.shared.http.clone()).load()).await
    }

    /// A connector for what no SDK speaks: the one that the SDKs have, or, `direct`, one that asks no proxy.
    #[cfg(feature = "http")]
    pub(crate) fn connector(&self, direct: bool) -> SharedHttpConnector {
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT).build();
        self.shared.http.connector(&settings, None, direct)
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

    /// ECR in a Region; none: in the clients' own.
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

    /// Secrets Manager. Whoever waits for a secret is waited for by somebody with less patience than a driver: its
    /// calls have [`SECRET_ATTEMPT`] and [`SECRET_CALL`].
    #[cfg(feature = "secrets")]
    pub async fn secrets(&self) -> &aws_sdk_secretsmanager::Client {
        let make = async || {
            let time_outs = TimeoutConfig::builder()
                .connect_timeout(CONNECT)
                .operation_attempt_timeout(SECRET_ATTEMPT)
                .operation_timeout(SECRET_CALL)
                .build();
            let config = aws_sdk_secretsmanager::config::Builder::from(self.config().await);
            aws_sdk_secretsmanager::Client::from_conf(config.timeout_config(time_outs).build())
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

/// The time-outs, the retries and the HTTP client that every client has; Region, credentials and endpoints come from
/// the environment, as long as nothing else is said.
///
/// Only a loader fills in `AWS_ENDPOINT_URL_<SERVICE>`: a configuration put together by hand ignores it.
#[must_use]
pub fn loader() -> ConfigLoader {
    let time_outs = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(CALL)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(OneHttpClient::default())
        .timeout_config(time_outs)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
}

/// One connector for each pair of time-outs that is asked for, and none for checking a client's configuration: the
/// SDK's own HTTP client reads and parses all root certificates once more for every client that is made.
#[derive(Debug, Clone, Default)]
struct OneHttpClient {
    connectors: Arc<Mutex<Vec<(Wanted, SharedHttpConnector)>>>,
}

/// Time to connect, time to the first byte, and whether no proxy is asked.
type Wanted = (Option<Duration>, Option<Duration>, bool);

impl OneHttpClient {
    fn connector(
        &self,
        settings: &HttpConnectorSettings,
        components: Option<&RuntimeComponents>,
        direct: bool,
    ) -> SharedHttpConnector {
        let wanted = (settings.connect_timeout(), settings.read_timeout(), direct);
        let mut connectors = self.connectors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connector)) = connectors.iter().find(|(there, _)| *there == wanted) {
            return connector.clone();
        }
        let mut builder = ConnectorBuilder::default()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .connector_settings(settings.clone())
            .proxy_config(if direct { ProxyConfig::disabled() } else { ProxyConfig::from_env() });
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        let connector = SharedHttpConnector::new(builder.build());
        connectors.push((wanted, connector.clone()));
        connector
    }
}

impl HttpClient for OneHttpClient {
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
    fn a_missing_setting_says_where_it_is_set() {
        let missing = setting("SWITCHBACK_NO_SUCH_SETTING").expect_err("nobody sets it");
        assert_eq!(
            missing.to_string(),
            "the environment variable SWITCHBACK_NO_SUCH_SETTING is not set: template.yaml sets it in the function's \
             Environment"
        );
    }

    #[test]
    fn a_driver_whose_calls_hang_ends_inside_of_its_lease() {
        assert!(CONNECT < ATTEMPT && ATTEMPT < CALL);
        assert!(CALL.as_secs() * 4 < engine::LEASE.0, "one round of calls is a small part of the lease");
    }

    #[tokio::test]
    async fn making_clients_loads_nothing_and_asking_twice_loads_once() {
        let clients = Clients::new();
        assert!(clients.shared.config.get().is_none());
        let same = clients.clone();
        let config = loader().region(aws_config::Region::new("eu-central-1")).load().await;
        let made = Clients::of(config);
        assert!(std::ptr::eq(made.config().await, made.clone().config().await));
        assert!(same.shared.config.get().is_none());
    }

    #[tokio::test]
    async fn every_client_has_the_time_outs_and_the_retries() {
        let config = loader().region(aws_config::Region::new("eu-central-1")).load().await;
        let time_outs = config.timeout_config().expect("time-outs");
        assert_eq!(time_outs.connect_timeout(), Some(CONNECT));
        assert_eq!(time_outs.operation_attempt_timeout(), Some(ATTEMPT));
        assert_eq!(time_outs.operation_timeout(), Some(CALL));
        assert_eq!(config.retry_config().expect("retries").max_attempts(), ATTEMPTS);
    }
}
