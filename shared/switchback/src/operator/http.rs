//! HTTP as every command speaks it: one exchange, time-outs, and the pause before another try.

use super::credentials::chain;
use aws_smithy_http_client::{Connector, proxy::ProxyConfig, tls};
use aws_smithy_runtime_api::client::http::{HttpConnector as _, HttpConnectorSettings};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use http_body_util::{BodyExt as _, Limited};
use std::time::Duration;

/// How long one try may take; the gateway itself gives up after 30 s.
const PATIENCE: Duration = Duration::from_secs(35);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How often something is asked, and the pause after the first try; it doubles.
pub(super) const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);
/// The largest answer that is read, in bytes; the gateway's own limit is 10 MB.
const LARGEST_ANSWER: usize = 10 * 1024 * 1024;

/// What goes out: with TLS, through the proxy that the environment names; without, to this machine alone.
pub(super) fn connector(secure: bool) -> Connector {
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT).build();
    let builder = Connector::builder().connector_settings(settings);
    let builder = builder.tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc));
    // This machine is never behind a proxy.
    let proxy = if secure { ProxyConfig::from_env() } else { ProxyConfig::disabled() };
    builder.proxy_config(proxy).build()
}

/// One request and its answer: status and text. The error is why there is none.
pub(super) async fn exchange(connector: &Connector, request: HttpRequest) -> Result<(u16, String), String> {
    let exchange = async {
        let response = connector.call(request).await.map_err(|error| chain(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .map_err(|_| format!("nothing came within {} s", PATIENCE.as_secs()))?
}

/// Whether another try may get another answer.
pub(super) fn may_pass(status: u16) -> bool {
    matches!(status, 429 | 500 | 502..=504)
}

/// Waits before another try, longer after each: half of the pause up to all of it, so that many that failed together do
/// not come back together.
pub(super) async fn pause(tries: u32) {
    let pause = PAUSE * 2_u32.pow(tries - 1);
    let mut byte = [0_u8];
    // Without chance the pause is whole.
    let share = if getrandom::fill(&mut byte).is_ok() { u32::from(byte[0]) } else { 255 };
    tokio::time::sleep(pause / 2 + pause * share / 510).await;
}
