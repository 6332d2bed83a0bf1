//! awsQuery answers: XML, written from the tree that the operations answer.
//!
//! An object's fields are elements, a list's members are `<member>` elements, null is left out. The one map in these
//! answers (`AuthenticationRequestExtraParams`) is written as `<entry>` elements.

use serde_json::Value;

/// The namespace of ELBv2's answers (API version 2015-12-01).
pub const ELBV2_NAMESPACE: &str = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/";

/// `<OperationResponse><OperationResult>…</OperationResult><ResponseMetadata>…`
#[must_use]
pub fn success(operation: &str, result: &Value, request_id: &str) -> String {
    let mut xml = String::new();
    xml.push_str(&format!("<{operation}Response xmlns=\"{ELBV2_NAMESPACE}\"><{operation}Result>"));
    write_fields(&mut xml, result);
    xml.push_str(&format!(
        "</{operation}Result><ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
    ));
    xml
}

/// `<ErrorResponse><Error><Type/><Code/><Message/></Error><RequestId/></ErrorResponse>`; the type is `Sender` or `Receiver`.
#[must_use]
pub fn refusal(fault: &str, code: &str, message: &str, request_id: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"{ELBV2_NAMESPACE}\"><Error><Type>{fault}</Type><Code>{}</Code><Message>{}</Message></Error>\
         <RequestId>{request_id}</RequestId></ErrorResponse>",
        escape(code),
        escape(message)
    )
}

fn write_fields(xml: &mut String, value: &Value) {
    if let Value::Object(fields) = value {
        for (name, field) in fields {
            write_element(xml, name, field);
        }
    }
}

fn write_element(xml: &mut String, name: &str, value: &Value) {
    if value.is_null() {
        return;
    }
    xml.push_str(&format!("<{name}>"));
    match value {
        Value::Object(entries) if name == "AuthenticationRequestExtraParams" => {
            for (key, value) in entries {
                write_element(xml, "entry", &serde_json::json!({"key": key, "value": value}));
            }
        }
        Value::Object(_) => write_fields(xml, value),
        Value::Array(members) => members.iter().for_each(|member| write_element(xml, "member", member)),
        Value::String(text) => xml.push_str(&escape(text)),
        other => xml.push_str(&other.to_string()),
    }
    xml.push_str(&format!("</{name}>"));
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\r' => escaped.push_str("&#xD;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::success;
    use serde_json::json;

    #[test]
    fn lists_are_members_and_text_is_escaped() {
        let xml = success(
            "DescribeRules",
            &json!({"Rules": [{"Priority": "1", "Note": "a<b & c"}], "NextMarker": null}),
            "id",
        );
        assert!(
            xml.contains("<DescribeRulesResult><Rules><member><Note>a&lt;b &amp; c</Note><Priority>1</Priority></member></Rules></DescribeRulesResult>"),
            "{xml}"
        );
    }
}
