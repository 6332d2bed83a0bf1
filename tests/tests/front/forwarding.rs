//! What is another service's is passed on byte for byte; what is signed for another service is refused.

use crate::fixture::{self, FrontFixture, code};
use aws_sdk_dynamodb::types::AttributeValue;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tests::front::{Fault, FaultKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Another service: answers every request with this status and body, and keeps what it got.
async fn upstream(status: &'static str, body: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of loopback is free");
    let address = listener.local_addr().expect("it listens");
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let request = read_request(&mut stream).await;
            keep.lock().expect("no test panics while it holds this").push(request);
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.expect("the front listens to the answer");
        }
    });
    (address, kept)
}

/// A request with a body of a given length, whole.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await.expect("the front sends a request");
        got.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&got).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length:").map(|value| value.trim().to_owned()))
            .and_then(|value| value.parse().ok())
            .unwrap_or(0);
        if body.len() >= length || count == 0 {
            return text;
        }
    }
}

#[tokio::test]
async fn dynamodb_calls_are_forwarded_unchanged_and_logged() {
    let fixture = FrontFixture::set().await;
    let (address, kept) = upstream("200 OK", r#"{"Item":{"key":{"S":"value"}}}"#).await;
    fixture.front.set_upstream(Some(address));
    let dynamodb = fixture::dynamodb(fixture.front.address(), 1);
    let key = AttributeValue::S("a".to_owned());
    let answer = dynamodb.get_item().table_name("ledger").key("key", key).send().await.expect("it is passed on");
    assert_eq!(answer.item().and_then(|item| item["key"].as_s().ok()).map(String::as_str), Some("value"));

    let got = kept.lock().expect("the upstream runs")[0].clone();
    let lower = got.to_lowercase();
    assert!(lower.contains(&format!("host: {}", fixture.front.address())), "the host that was signed: {got}");
    assert!(got.contains("/dynamodb/aws4_request") && got.contains("Signature="), "the signature: {got}");
    assert!(got.ends_with(r#"{"TableName":"ledger","Key":{"key":{"S":"a"}}}"#), "the body: {got}");
    let log = fixture.front.log();
    let call = log.of("dynamodb", "GetItem").next().expect("it is logged");
    assert!(call.succeeded(), "{call}");
    assert_eq!(call.parameter("/TableName").and_then(|value| value.as_str()), Some("ledger"));
    assert_eq!(fixture.front.anomalies(), [""; 0]);
}

#[tokio::test]
async fn an_upstream_error_is_returned_and_logged() {
    let fixture = FrontFixture::set().await;
    let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"no"}"#;
    let (address, _kept) = upstream("400 Bad Request", body).await;
    fixture.front.set_upstream(Some(address));
    let dynamodb = fixture::dynamodb(fixture.front.address(), 1);
    let put = dynamodb.put_item().table_name("ledger").item("key", AttributeValue::S("a".to_owned())).send().await;
    assert_eq!(code(put), "ConditionalCheckFailedException");
    let log = fixture.front.log();
    assert!(log.to_string().contains("dynamodb PutItem"), "{log}");
    assert!(log.to_string().contains("400 ConditionalCheckFailedException: no"), "{log}");
}

#[tokio::test]
async fn faults_apply_to_forwarded_calls() {
    let fixture = FrontFixture::set().await;
    let (address, kept) = upstream("200 OK", "{}").await;
    fixture.front.set_upstream(Some(address));
    let dynamodb = fixture::dynamodb(fixture.front.address(), 1);
    let put = || dynamodb.put_item().table_name("ledger").item("key", AttributeValue::S("a".to_owned())).send();
    fixture.front.fault(Fault::on("dynamodb", "PutItem", FaultKind::Throttle));
    assert_eq!(code(put().await), "ProvisionedThroughputExceededException");
    assert_eq!(kept.lock().expect("the upstream runs").len(), 0, "what is throttled does not arrive");
    fixture.front.fault(Fault::on("dynamodb", "PutItem", FaultKind::ApplyThenDisconnect).from_nth(1));
    assert!(put().await.is_err(), "the connection is cut");
    assert_eq!(kept.lock().expect("the upstream runs").len(), 1, "and yet it was written");
}

#[tokio::test]
async fn without_an_upstream_other_services_are_refused() {
    let fixture = FrontFixture::set().await;
    let dynamodb = fixture::dynamodb(fixture.front.address(), 1);
    assert_eq!(code(dynamodb.list_tables().send().await), "UnknownOperationException");
    assert_eq!(fixture.front.anomalies(), ["dynamodb ListTables is not spoken here"]);
}

#[tokio::test]
async fn a_request_signed_for_another_service_is_refused() {
    let fixture = FrontFixture::set().await;
    let signed =
        "AWS4-HMAC-SHA256 Credential=AKID/20261122/eu-central-1/sqs/aws4_request, SignedHeaders=host, Signature=0";
    let refused = raw(&fixture, &format!("authorization: {signed}\r\nx-amz-date: 20261122T000000Z\r\n")).await;
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("InvalidSignatureException"), "{refused}");
    let unsigned = raw(&fixture, "").await;
    assert!(unsigned.starts_with("HTTP/1.1 403") && unsigned.contains("MissingAuthenticationToken"), "{unsigned}");
}

/// One ECS request, written by hand.
async fn raw(fixture: &FrontFixture, headers: &str) -> String {
    let mut stream = TcpStream::connect(fixture.front.address()).await.expect("the front listens");
    let request = format!(
        "POST / HTTP/1.1\r\nhost: ecs\r\nx-amz-target: AmazonEC2ContainerServiceV20141113.ListTasks\r\n{headers}\
         connection: close\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).await.expect("the front reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the front answers");
    answer
}
