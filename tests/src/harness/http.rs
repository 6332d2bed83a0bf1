//! One HTTP request to a loopback address, and its answer whole.

use super::HarnessError;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As it came.
    pub body: String,
}

impl Response {
    /// The first header of this name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or(serde_json::Value::Null)
    }
}

/// Asks `url` (`http://127.0.0.1:port/…`); an answer of any status is an answer.
///
/// # Errors
/// [`HarnessError`] where the address is not of this machine, or no answer came within half a minute.
pub fn ask(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Result<Response, HarnessError> {
    let to_failure = |error: &dyn std::fmt::Display| HarnessError(format!("{method} {url}: {error}"));
    let rest = url.strip_prefix("http://").ok_or_else(|| to_failure(&"no http:// address"))?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let address: SocketAddr = authority.parse().map_err(|error| to_failure(&error))?;
    if !address.ip().is_loopback() {
        return Err(to_failure(&"not an address of this machine"));
    }
    let mut sent = vec![("host".to_owned(), authority.to_owned())];
    sent.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    exchange(address, method, if path.is_empty() { "/" } else { path }, &sent, body).map_err(|error| to_failure(&error))
}

pub(super) fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &str,
) -> std::io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes())?;

    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no HTTP answer: {line:?}")))?;
    let mut received = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        received.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut response = Response { status, headers: received, body: String::new() };
    let chunked = response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let mut bytes = Vec::new();
    if chunked {
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let length = u64::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            if length == 0 {
                break;
            }
            reader.by_ref().take(length).read_to_end(&mut bytes)?;
            line.clear();
            reader.read_line(&mut line)?;
        }
    } else {
        reader.read_to_end(&mut bytes)?;
    }
    response.body = String::from_utf8_lossy(&bytes).into_owned();
    Ok(response)
}
