//! Address of the control plane.

use super::failure::Failure;
use std::net::IpAddr;

/// Address of the control plane: `https://host[:port][/stage]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Scheme, host, port and stage, without a trailing slash.
    pub(crate) url: String,
    /// Whether TLS is used.
    pub(crate) secure: bool,
    /// The Region, if the host name contains it.
    pub(crate) region: Option<String>,
}

impl Endpoint {
    /// Parses a URL. Without TLS only loopback addresses are accepted.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let invalid = |why: &str| Failure::Usage(format!("the endpoint `{text}` {why}"));
        let url = text.trim().trim_end_matches('/');
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("is no URL: write https://…"))?;
        let authority = rest.split('/').next().unwrap_or_default();
        if authority.is_empty() || authority.contains('@') || rest.contains(['?', '#', ' ']) {
            return Err(invalid("must be https://host[:port][/stage], without query and user"));
        }
        let host = match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        };
        let secure = match scheme {
            "https" => true,
            "http" if is_loopback(host) => false,
            "http" => return Err(invalid("has no TLS: http:// is for this machine only, write https://")),
            _ => return Err(invalid("is neither https:// nor http://")),
        };
        let mut labels = host.split('.').skip_while(|label| *label != "execute-api").skip(1);
        let region = labels.next().filter(|label| label.contains('-')).map(str::to_owned);
        Ok(Self { url: url.to_owned(), secure, region })
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_is_read_from_the_gateway_host() {
        let endpoint = Endpoint::parse("https://a1b2c3.execute-api.eu-central-1.amazonaws.com/").expect("an endpoint");
        assert_eq!(endpoint.url, "https://a1b2c3.execute-api.eu-central-1.amazonaws.com");
        assert_eq!((endpoint.secure, endpoint.region.as_deref()), (true, Some("eu-central-1")));
        let endpoint = Endpoint::parse("https://deploy.example.com/prod").expect("an endpoint");
        assert_eq!((endpoint.url.as_str(), endpoint.region), ("https://deploy.example.com/prod", None));
    }

    #[test]
    fn plain_http_is_accepted_for_loopback_only() {
        for local in ["http://127.0.0.1:4000", "http://[::1]:4000", "http://localhost/x"] {
            assert!(!Endpoint::parse(local).expect("local").secure, "{local}");
        }
        for invalid in [
            "http://example.com",
            "http://127.0.0.1.example.com",
            "example.com",
            "ftp://localhost",
            "https://",
            "https://a@b",
        ] {
            assert_eq!(Endpoint::parse(invalid).expect_err(invalid).exit().code(), 2, "{invalid}");
        }
    }
}
