//! Passes on what the front does not speak, byte for byte: target, headers (`Host` and the signature included) and body.

use super::protocol::Protocol;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::http::request::Parts;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;

/// Sends the request to `upstream` over a connection of its own, and reads the whole answer.
///
/// # Errors
/// What went wrong, for people.
pub(super) async fn forward(upstream: SocketAddr, head: Parts, body: Bytes) -> Result<Response<Full<Bytes>>, String> {
    let failed = |step: &str, error: &dyn std::fmt::Display| format!("{step} {upstream}: {error}");
    let stream = tokio::net::TcpStream::connect(upstream).await.map_err(|error| failed("cannot connect to", &error))?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .preserve_header_case(true)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| failed("no HTTP with", &error))?;
    let exchange = async {
        let response = sender
            .send_request(Request::from_parts(head, Full::new(body)))
            .await
            .map_err(|error| failed("no answer from", &error))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| failed("half an answer from", &error))?.to_bytes();
        drop(sender);
        Ok(Response::from_parts(head, Full::new(body)))
    };
    // The connection is driven here, beside the exchange: nothing outlives this call.
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(failed("lost the connection to", &error)),
        },
    }
}

/// The error code and message in another service's answer, for the log.
pub(super) async fn error_of(response: &Response<Full<Bytes>>, protocol: Protocol) -> (String, String) {
    let body = response.body().clone().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let tree = match protocol {
        Protocol::RpcV2Cbor => super::protocol::cbor::decode(&body).unwrap_or_default(),
        _ => serde_json::from_slice(&body).unwrap_or_default(),
    };
    let text = |names: [&str; 2]| {
        names.iter().find_map(|name| tree.get(*name).and_then(Value::as_str)).unwrap_or_default().to_owned()
    };
    let code = match response.headers().get("x-amzn-errortype").and_then(|value| value.to_str().ok()) {
        Some(code) => code.to_owned(),
        None => text(["__type", "code"]),
    };
    let code = code.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default().to_owned();
    (code, text(["message", "Message"]))
}
