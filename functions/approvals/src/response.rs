//! The response in the gateway's format (API Gateway developer guide, "Lambda function response", format 2.0).

use crate::handler::HttpReply;
use serde_json::{Value, json};

/// The response with a reply, under headers that keep a browser from storing, framing or scripting it.
pub(crate) fn of(answered: &HttpReply) -> Value {
    let headers = json!({
        "content-type": answered.content_type,
        "cache-control": "no-store",
        "content-security-policy": api::approvals::link_pages::CSP,
        "referrer-policy": "no-referrer",
        "strict-transport-security": "max-age=31536000",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "x-robots-tag": "noindex, nofollow",
    });
    json!({"statusCode": answered.status, "headers": headers, "body": answered.body, "isBase64Encoded": false})
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::approvals::link_pages::Page;

    #[test]
    fn pages_have_strict_security_headers() {
        let Page { status, html } = Page::unauthenticated();
        let answered = HttpReply { status, content_type: "text/html; charset=utf-8", body: html, reply: None };
        let answer = of(&answered);
        assert_eq!((answer["statusCode"].clone(), answer["isBase64Encoded"].clone()), (json!(403), json!(false)));
        let header = |name: &str| answer["headers"][name].as_str().expect("it has one").to_owned();
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("x-content-type-options"), "nosniff");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
    }
}
