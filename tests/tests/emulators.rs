//! The emulators that other tests stand on start, listen on loopback alone, end when they are let go, and do what those
//! tests take for granted.

use serde_json::{Value, json};
use std::net::TcpStream;
use std::time::Duration;
use tests::harness::aws::Aws;
use tests::harness::issuer::{Flaw, GithubJob, Issuer};
use tests::harness::{child::Server, eventually, http, ministack, moto};

fn assert_stopped_after_drop(server: Server) {
    let address = server.address();
    assert!(address.ip().is_loopback());
    assert!(TcpStream::connect(address).is_ok(), "{}", server.tail());
    drop(server);
    assert!(TcpStream::connect(address).is_err(), "{address} still answers");
}

fn ok<T, E: std::fmt::Display>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn ministack_starts_and_ends_with_its_handle() {
    assert_stopped_after_drop(ok(ministack::start(&[])));
}

#[test]
fn moto_starts_and_ends_with_its_handle() {
    assert_stopped_after_drop(ok(moto::start(&[])));
}

#[test]
fn ministack_creates_the_secrets_of_a_template() {
    let server = ok(ministack::start(&[]));
    let aws = Aws::at(server.address());
    let template = json!({
        "Parameters": {"Given": {"Type": "String", "NoEcho": true}},
        "Resources": {
            "Made": {"Type": "AWS::SecretsManager::Secret", "Properties": {
                "Name": "made", "GenerateSecretString": {"PasswordLength": 64, "ExcludePunctuation": true},
            }},
            "Said": {"Type": "AWS::SecretsManager::Secret", "Properties": {
                "Name": "said", "SecretString": {"Ref": "Given"},
            }},
        },
    });
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("Action", "CreateStack")
        .append_pair("Version", "2010-05-15")
        .append_pair("StackName", "secrets")
        .append_pair("TemplateBody", &template.to_string())
        .append_pair("Parameters.member.1.ParameterKey", "Given")
        .append_pair("Parameters.member.1.ParameterValue", "by somebody")
        .finish();
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let created = ok(aws.send("cloudformation", "POST", "/", &headers, &form));
    assert_eq!(created.status, 200, "{}", created.body);
    let secret = |name: &str| {
        eventually(Duration::from_secs(20), || {
            let answer = aws.json("secretsmanager", "secretsmanager.GetSecretValue", &json!({"SecretId": name}));
            answer.map_err(|failure| failure.0)
        })
    };
    let made = ok(secret("made"));
    assert_eq!(made["SecretString"].as_str().map(str::len), Some(64), "{made}");
    assert!(made["ARN"].as_str().is_some_and(|arn| arn.contains(":secret:made-")), "{made}");
    assert_eq!(ok(secret("said"))["SecretString"], "by somebody");
    // By its ARN as well: that is what functions are given.
    assert_eq!(ok(secret(made["ARN"].as_str().unwrap_or_default())), made);
}

/// A route for any token of the issuer, and one for tokens with the scope `deploy`. What passes is answered by the issuer
/// itself: the emulator hands it on under the same path, which AWS does not.
const OPEN: &str = "/.well-known/openid-configuration";
const SCOPED: &str = "/.well-known/jwks";

/// An HTTP API with both routes behind a JWT authorizer for the issuer.
fn api(aws: Aws, issuer: &Issuer) -> String {
    let make = |path: &str, parameters: &Value| {
        let headers = [("content-type", "application/json")];
        let made = ok(aws.send("apigateway", "POST", path, &headers, &parameters.to_string()));
        assert_eq!(made.status, 201, "{path} {parameters}: {}", made.body);
        made.json()
    };
    let id = |made: &Value, name: &str| made[name].as_str().unwrap_or_default().to_owned();
    let api = id(&make("/v2/apis", &json!({"name": "door", "protocolType": "HTTP"})), "apiId");
    let under = |path: &str| format!("/v2/apis/{api}/{path}");
    let authorizer = make(
        &under("authorizers"),
        &json!({
            "name": "github", "authorizerType": "JWT", "identitySource": ["$request.header.Authorization"],
            "jwtConfiguration": {"issuer": issuer.issuer(), "audience": ["switchback"]},
        }),
    );
    let integration = make(
        &under("integrations"),
        &json!({
            "integrationType": "HTTP_PROXY", "integrationMethod": "GET", "payloadFormatVersion": "1.0",
            "integrationUri": issuer.issuer(),
        }),
    );
    for (route, scopes) in [(OPEN, json!([])), (SCOPED, json!(["deploy"]))] {
        let _made = make(
            &under("routes"),
            &json!({
                "routeKey": format!("GET {route}"), "target": format!("integrations/{}", id(&integration, "integrationId")),
                "authorizationType": "JWT", "authorizerId": id(&authorizer, "authorizerId"),
                "authorizationScopes": scopes,
            }),
        );
    }
    let _stage = make(&under("stages"), &json!({"stageName": "$default", "autoDeploy": true}));
    api
}

#[test]
fn ministacks_jwt_authorizer_accepts_only_the_issuers_tokens() {
    let issuer = ok(Issuer::start());
    let server = ok(ministack::start(&[]));
    let api = api(Aws::at(server.address()), &issuer);
    let job = GithubJob::of("acme/shop", 74, 65);
    let answer = |path: &str, token: Option<&str>| {
        let url = format!("{}/_aws/execute-api/{api}{path}", server.endpoint());
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        ok(http::ask("GET", &url, &headers, "")).status
    };
    let good = issuer.token(&job, "switchback");
    assert_eq!(answer(OPEN, Some(&good)), 200, "{}", server.tail());
    assert_eq!(answer(OPEN, None), 401);
    assert_eq!(answer(OPEN, Some("no.token.atall")), 401);
    for flaw in Flaw::ALL {
        assert_eq!(answer(OPEN, Some(&issuer.bad_token(&job, "switchback", flaw))), 401, "{flaw:?}");
    }
    let another = ok(Issuer::start());
    assert_eq!(answer(OPEN, Some(&another.token(&job, "switchback"))), 401, "another issuer's");

    assert_eq!(answer(SCOPED, Some(&good)), 403, "GitHub's tokens have no scopes");
    let scoped = issuer.token_with(&job, "switchback", &json!({"scope": "read deploy"}));
    assert_eq!(answer(SCOPED, Some(&scoped)), 200);
}
