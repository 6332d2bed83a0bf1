//! Signed calls to an emulator, for what tests set up and ask. The product's own calls go through the SDKs.

use super::{Failure, REGION};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

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
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// A caller of the emulator at an address.
#[derive(Debug, Clone, Copy)]
pub struct Aws {
    address: SocketAddr,
}

impl Aws {
    /// Calls the emulator at `address`.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self { address }
    }

    /// One request, signed for `service` with the emulator's root key; an answer of any status is an answer.
    ///
    /// # Errors
    /// [`Failure`] where no answer came within half a minute.
    pub fn send(
        &self,
        service: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Response, Failure> {
        let what = format!("{service} {method} {path}");
        let trouble = |error: &dyn std::fmt::Display| Failure(format!("{what}: {error}"));
        let host = self.address.to_string();
        let mut sent: Vec<(String, String)> = vec![("host".to_owned(), host.clone())];
        sent.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let identity = Credentials::new("test", "test", None, None, "harness").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| trouble(&error))?
            .into();
        let signable = SignableRequest::new(
            method,
            format!("http://{host}{path}"),
            sent.iter().map(|(name, value)| (name.as_str(), value.as_str())),
            SignableBody::Bytes(body.as_bytes()),
        )
        .map_err(|error| trouble(&error))?;
        let (instructions, _) = sign(signable, &parameters).map_err(|error| trouble(&error))?.into_parts();
        let (signed, _) = instructions.into_parts();
        sent.extend(signed.iter().map(|header| (header.name().to_owned(), header.value().to_owned())));

        self.exchange(method, path, &sent, body).map_err(|error| trouble(&error))
    }

    /// One call of a service that speaks awsJson; `target` is the operation with its prefix.
    ///
    /// # Errors
    /// [`Failure`] for any answer but a success.
    pub fn json(&self, service: &str, target: &str, parameters: &Value) -> Result<Value, Failure> {
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        let response = self.send(service, "POST", "/", &headers, &parameters.to_string())?;
        if response.status == 200 {
            Ok(response.json())
        } else {
            Err(Failure(format!("{target} {parameters}: {} {}", response.status, response.body)))
        }
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &str,
    ) -> std::io::Result<Response> {
        let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5))?;
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
}
