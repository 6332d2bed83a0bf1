//! Serves the live page on the loopback address: the HTML document, and the data that it polls.
//!
//! Read-only and for this machine only: a request whose `Host` is not the loopback address is refused, so that another
//! site's page cannot reach this server through the browser under its own host name (DNS rebinding).

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use view::page::{DATA_PATH, PAGE, PAGE_CSP};

/// The latest page data as JSON.
pub(crate) type PageJson = Arc<[u8]>;

/// Serves forever; `data` always holds the latest page data.
pub(crate) async fn serve(listener: TcpListener, data: watch::Receiver<PageJson>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // The connection was reset before it was accepted, or file descriptors are temporarily exhausted.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let data = data.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let answer = answer(&request, &data);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A browser that closes its connection is no error.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

fn answer(request: &Request<Incoming>, data: &watch::Receiver<PageJson>) -> Response<Full<Bytes>> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_loopback(host) {
        return plain(StatusCode::FORBIDDEN, "this page is for this machine: ask for 127.0.0.1\n");
    }
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "this page can only be read\n");
    }
    match request.uri().path() {
        "/" => with_type(Bytes::from_static(PAGE.as_bytes()), "text/html; charset=utf-8"),
        DATA_PATH => with_type(Bytes::copy_from_slice(&data.borrow()), "application/json"),
        _ => plain(StatusCode::NOT_FOUND, "there is one page here: /\n"),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    matches!(name, "127.0.0.1" | "localhost")
}

fn with_type(body: Bytes, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_CSP));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = with_type(Bytes::from_static(text.as_bytes()), "text/plain; charset=utf-8");
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_loopback_hosts_are_accepted() {
        assert!(is_loopback("127.0.0.1:8080") && is_loopback("localhost:1") && is_loopback("localhost"));
        assert!(!is_loopback("evil.example:8080") && !is_loopback("127.0.0.1.evil.example") && !is_loopback(""));
    }
}
