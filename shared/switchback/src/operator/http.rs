//! HTTP for all commands: a single exchange, time-outs, and the delay between retries.

use super::credentials::chain;
use aws_smithy_http_client::{Connector, proxy::ProxyConfig, tls};
use aws_smithy_runtime_api::client::http::{HttpConnector as _, HttpConnectorSettings};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use http_body_util::{BodyExt as _, Limited};
use std::time::Duration;

/// Time-out of one attempt; the gateway's own is 30 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(35);
/// Time-out for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of attempts. The delay after the first one is [`INITIAL_BACKOFF`]; it doubles after each.
pub(super) const MAX_ATTEMPTS: u32 = 4;
const INITIAL_BACKOFF: Duration = Duration::from_millis(250);
/// Maximum response size in bytes; the gateway's own limit is 10 MB.
const MAX_RESPONSE_BYTES: usize = 10 * 1024 * 1024;

/// Connector for outgoing requests: with TLS, through the proxy from the environment; without TLS, to this machine
/// only.
pub(super) fn connector(secure: bool) -> Connector {
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build();
    let builder = Connector::builder().connector_settings(settings);
    let builder = builder.tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc));
    // Loopback connections never use a proxy.
    let proxy = if secure { ProxyConfig::from_env() } else { ProxyConfig::disabled() };
    builder.proxy_config(proxy).build()
}

/// One request and its response: status and text. The error describes why there is no response.
pub(super) async fn exchange(connector: &Connector, request: HttpRequest) -> Result<(u16, String), String> {
    let exchange = async {
        let response = connector.call(request).await.map_err(|error| chain(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::time::timeout(REQUEST_TIMEOUT, exchange)
        .await
        .map_err(|_| format!("nothing came within {} s", REQUEST_TIMEOUT.as_secs()))?
}

/// Whether a retry may succeed.
pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 429 | 500 | 502..=504)
}

/// Waits before a retry, longer after each attempt. The delay is random between half and all of its maximum, so that
/// clients that failed together do not retry together.
pub(super) async fn backoff(attempts: u32) {
    let backoff = INITIAL_BACKOFF * 2_u32.pow(attempts - 1);
    let mut byte = [0_u8];
    // Without randomness the full delay is used.
    let share = if getrandom::fill(&mut byte).is_ok() { u32::from(byte[0]) } else { 255 };
    tokio::time::sleep(backoff / 2 + backoff * share / 510).await;
}
