//! GitHub's identity provider, as far as a workflow and whoever trusts it see it: OIDC discovery, the signing keys, and
//! the endpoint of a runner that gives a job its token.
//!
//! Tokens have the claims that GitHub documents ("OpenID Connect reference") and its algorithm, RS256. The key is made
//! when the issuer starts.

use super::HarnessError;
use super::loopback::{LoopbackServer, ReceivedRequest, Reply};
use super::stack::now;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How long a token lives: GitHub's are said to live five minutes.
const TOKEN_LIFETIME_S: i64 = 300;

/// What GitHub knows of a running job, and says in its token.
#[derive(Debug, Clone)]
pub struct GithubJob {
    /// `owner/name`
    pub repository: String,
    /// The repository's number. A name can be registered again by somebody else; a number cannot.
    pub repository_id: u64,
    /// The owner's number.
    pub owner_id: u64,
    /// `refs/heads/main`
    pub git_ref: String,
    /// The commit, in hexadecimal digits.
    pub sha: String,
    /// The job's `environment:`, if it has one.
    pub environment: Option<String>,
    /// The workflow's file: `.github/workflows/promote.yaml`.
    pub workflow: String,
    /// `push`, `workflow_dispatch`, `pull_request`.
    pub event: String,
    /// The run's number.
    pub run_id: u64,
    /// 1 for the first, more for a re-run.
    pub run_attempt: u64,
    /// Who started it.
    pub actor: String,
    /// The number of whoever started it.
    pub actor_id: u64,
}

impl GithubJob {
    /// A job of a push to `main` in `repository`, whose workflow is `.github/workflows/promote.yaml`.
    #[must_use]
    pub fn of(repository: &str, repository_id: u64, owner_id: u64) -> Self {
        Self {
            repository: repository.to_owned(),
            repository_id,
            owner_id,
            git_ref: "refs/heads/main".to_owned(),
            sha: "4f1c2a9be0d3a76f5c8e1b2d3f405162738495a6".to_owned(),
            environment: None,
            workflow: ".github/workflows/promote.yaml".to_owned(),
            event: "push".to_owned(),
            run_id: 9_001,
            run_attempt: 1,
            actor: "ada".to_owned(),
            actor_id: 1815,
        }
    }

    fn owner(&self) -> &str {
        self.repository.split('/').next().unwrap_or_default()
    }

    /// The claims that are about the job: all but the token's own (`iss`, `aud`, `iat`, `nbf`, `exp`, `jti`).
    fn claims(&self) -> Map<String, Value> {
        let Self { repository, repository_id, owner_id, git_ref, sha, environment, workflow, event, .. } = self;
        let owner = self.owner();
        let name = repository.split('/').nth(1).unwrap_or_default();
        let context = match environment {
            Some(environment) => format!("environment:{environment}"),
            None if event == "pull_request" => "pull_request".to_owned(),
            None => format!("ref:{git_ref}"),
        };
        let workflow_ref = format!("{repository}/{workflow}@{git_ref}");
        let mut claims = json!({
            // The form with numbers in it, which repositories made since mid-2026 have.
            "sub": format!("repo:{owner}@{owner_id}/{name}@{repository_id}:{context}"),
            "repository": repository,
            "repository_id": repository_id.to_string(),
            "repository_owner": owner,
            "repository_owner_id": owner_id.to_string(),
            "repository_visibility": "private",
            "ref": git_ref,
            "ref_type": if git_ref.starts_with("refs/tags/") { "tag" } else { "branch" },
            "ref_protected": "true",
            "sha": sha,
            "head_ref": if event == "pull_request" { "a-branch" } else { "" },
            "base_ref": if event == "pull_request" { "main" } else { "" },
            "workflow": "promote",
            "workflow_ref": workflow_ref,
            "workflow_sha": sha,
            "job_workflow_ref": workflow_ref,
            "job_workflow_sha": sha,
            "event_name": event,
            "run_id": self.run_id.to_string(),
            "run_number": "7",
            "run_attempt": self.run_attempt.to_string(),
            "runner_environment": "github-hosted",
            "actor": self.actor,
            "actor_id": self.actor_id.to_string(),
        });
        if let (Some(environment), Some(claims)) = (environment, claims.as_object_mut()) {
            claims.insert("environment".to_owned(), json!(environment));
        }
        match claims {
            Value::Object(claims) => claims,
            _ => Map::new(),
        }
    }
}

/// What is wrong with a token that somebody made up, stole or kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Signed by the right key, but in another issuer's name.
    Issuer,
    /// For somebody else.
    Audience,
    /// Claims of its own choice under another token's signature.
    Signature,
    /// Signed by a key of its own that claims to be the issuer's.
    Key,
    /// `"alg": "none"`, and no signature.
    Unsigned,
    /// Its time is over by a minute.
    Expired,
    /// Its time begins in a quarter of an hour.
    NotYetValid,
}

impl Flaw {
    /// All there are.
    pub const ALL: [Self; 7] =
        [Self::Issuer, Self::Audience, Self::Signature, Self::Key, Self::Unsigned, Self::Expired, Self::NotYetValid];
}

/// The issuer, on loopback. It ends when it is dropped.
#[derive(Debug)]
pub struct Issuer {
    server: LoopbackServer,
    key: Arc<KeyPair>,
    runner: Arc<Mutex<Runner>>,
}

/// What the runners' endpoint knows.
#[derive(Debug, Default)]
struct Runner {
    jobs: Vec<(String, GithubJob)>,
    /// Statuses of the next answers, in order.
    failure_statuses: Vec<u16>,
    /// Audiences asked for, in order.
    requested: Vec<String>,
    /// Tokens that were signed.
    signed: Vec<String>,
}

/// What a runner puts into a job's environment so that it can ask for its token.
#[derive(Debug, Clone)]
pub struct RunnerEnvironment {
    /// `ACTIONS_ID_TOKEN_REQUEST_URL`
    pub request_url: String,
    /// `ACTIONS_ID_TOKEN_REQUEST_TOKEN`
    pub request_token: String,
}

impl Issuer {
    /// Makes a key and listens.
    ///
    /// # Errors
    /// [`HarnessError`] where no port is to be had.
    pub fn start() -> Result<Self, HarnessError> {
        let key = Arc::new(generate()?);
        let runner = Arc::<Mutex<Runner>>::default();
        let (served, known) = (Arc::clone(&key), Arc::clone(&runner));
        let server = LoopbackServer::start("issuer", move |requested| answer(requested, &served, &known))?;
        Ok(Self { server, key, runner })
    }

    /// What stands in `iss`: `http://127.0.0.1:port`.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.server.endpoint()
    }

    /// A job's token for an audience.
    #[must_use]
    pub fn token(&self, job: &GithubJob, audience: &str) -> String {
        self.sign(&token_claims(job, &self.issuer(), audience))
    }

    /// A job's token with claims of a test's choice: a null takes the claim out.
    #[must_use]
    pub fn token_with(&self, job: &GithubJob, audience: &str, changes: &Value) -> String {
        let mut claims = token_claims(job, &self.issuer(), audience);
        for (name, value) in changes.as_object().into_iter().flatten() {
            match value {
                Value::Null => claims.remove(name),
                value => claims.insert(name.clone(), value.clone()),
            };
        }
        self.sign(&claims)
    }

    /// A token as it should not be taken.
    ///
    /// # Panics
    /// Where no second key can be made.
    #[must_use]
    pub fn bad_token(&self, job: &GithubJob, audience: &str, flaw: Flaw) -> String {
        let mut claims = token_claims(job, &self.issuer(), audience);
        let now = now().as_second();
        match flaw {
            Flaw::Issuer => {
                claims.insert("iss".to_owned(), json!("https://token.actions.githubusercontent.com.example"));
            }
            Flaw::Audience => {
                claims.insert("aud".to_owned(), json!("https://somebody.example"));
            }
            Flaw::Expired => {
                claims.insert("iat".to_owned(), json!(now - TOKEN_LIFETIME_S - 60));
                claims.insert("nbf".to_owned(), json!(now - TOKEN_LIFETIME_S - 660));
                claims.insert("exp".to_owned(), json!(now - 60));
            }
            Flaw::NotYetValid => {
                claims.insert("iat".to_owned(), json!(now + 900));
                claims.insert("nbf".to_owned(), json!(now + 900));
                claims.insert("exp".to_owned(), json!(now + 900 + TOKEN_LIFETIME_S));
            }
            Flaw::Signature => {
                let honest = self.sign(&claims);
                let (_, signature) = honest.rsplit_once('.').unwrap_or_default();
                claims.insert("repository_owner_id".to_owned(), json!("666"));
                let (head, _) = self.sign(&claims).rsplit_once('.').map(owned).unwrap_or_default();
                return format!("{head}.{signature}");
            }
            Flaw::Key => {
                let other = generate().unwrap_or_else(|failure| panic!("{failure}"));
                return sign(&other, &key_id(&self.key), &claims);
            }
            Flaw::Unsigned => {
                let header = json!({"typ": "JWT", "alg": "none", "kid": key_id(&self.key)});
                return format!("{}.{}.", encoded(&header), encoded(&Value::Object(claims)));
            }
        }
        self.sign(&claims)
    }

    /// A runner starts this job: what it finds in its environment.
    #[must_use]
    pub fn run(&self, job: &GithubJob) -> RunnerEnvironment {
        let mut runner = lock(&self.runner);
        let request_token = format!("request-{}-{}", runner.jobs.len(), random_hex());
        runner.jobs.push((request_token.clone(), job.clone()));
        // GitHub's address has a query of its own, to which the audience is added.
        let request_url = format!("{}/_apis/idtoken?api-version=2.0", self.server.endpoint());
        RunnerEnvironment { request_url, request_token }
    }

    /// The runners' endpoint answers its next requests with these statuses and no token.
    pub fn runner_fails_with(&self, statuses: &[u16]) {
        lock(&self.runner).failure_statuses.extend_from_slice(statuses);
    }

    /// For whom tokens were asked for at the runners' endpoint, in order.
    #[must_use]
    pub fn requested_audiences(&self) -> Vec<String> {
        lock(&self.runner).requested.clone()
    }

    /// Every token that was given to somebody: what it is, and its text.
    #[must_use]
    pub fn given(&self) -> Vec<(&'static str, String)> {
        let runner = lock(&self.runner);
        let requests = runner.jobs.iter().map(|(token, _)| ("a runner's request token", token.clone()));
        let signed = runner.signed.iter().map(|token| ("a workflow's token", token.clone()));
        requests.chain(signed).collect()
    }

    fn sign(&self, claims: &Map<String, Value>) -> String {
        let token = sign(&self.key, &key_id(&self.key), claims);
        lock(&self.runner).signed.push(token.clone());
        token
    }
}

fn owned((head, tail): (&str, &str)) -> (String, String) {
    (head.to_owned(), tail.to_owned())
}

fn lock(runner: &Mutex<Runner>) -> MutexGuard<'_, Runner> {
    runner.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(requested: &ReceivedRequest, key: &KeyPair, runner: &Mutex<Runner>) -> Reply {
    let issuer = format!("http://{}", requested.header("host").unwrap_or_default());
    match (requested.method.as_str(), requested.path.as_str()) {
        ("GET", "/.well-known/openid-configuration") => Reply::json(
            200,
            &json!({
                "issuer": issuer,
                "jwks_uri": format!("{issuer}/.well-known/jwks"),
                "subject_types_supported": ["public", "pairwise"],
                "response_types_supported": ["id_token"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": ["openid"],
            }),
        ),
        ("GET", "/.well-known/jwks") => {
            let (modulus, exponent) = rsa_components(key);
            let key = json!({
                "kty": "RSA",
                "alg": "RS256",
                "use": "sig",
                "kid": key_id(key),
                "n": URL_SAFE_NO_PAD.encode(modulus),
                "e": URL_SAFE_NO_PAD.encode(exponent),
            });
            Reply::json(200, &json!({"keys": [key]}))
        }
        ("GET", "/_apis/idtoken") => issue_token(requested, key, &issuer, &mut lock(runner)),
        _ => Reply::json(404, &json!({"message": "not found"})),
    }
}

fn issue_token(requested: &ReceivedRequest, key: &KeyPair, issuer: &str, runner: &mut Runner) -> Reply {
    if !runner.failure_statuses.is_empty() {
        return Reply::json(runner.failure_statuses.remove(0), &json!({"message": "no token now"}));
    }
    let given = requested.bearer().unwrap_or_default();
    let Some(job) = runner.jobs.iter().find(|(token, _)| token == given).map(|(_, job)| job.clone()) else {
        return Reply::json(401, &json!({"message": "Unauthorized"}));
    };
    if requested.parameter("api-version").is_none() {
        return Reply::json(400, &json!({"message": "the query of the request URL is gone"}));
    }
    // Without one, a token is for the repository's owner.
    let audience = match requested.parameter("audience") {
        Some(audience) => audience.to_owned(),
        None => format!("https://github.com/{}", job.owner()),
    };
    runner.requested.push(audience.clone());
    let token = sign(key, &key_id(key), &token_claims(&job, issuer, &audience));
    runner.signed.push(token.clone());
    Reply::json(200, &json!({"count": token.len(), "value": token}))
}

/// The job's claims with the token's own, valid now.
fn token_claims(job: &GithubJob, issuer: &str, audience: &str) -> Map<String, Value> {
    let now = now().as_second();
    let mut claims = job.claims();
    for (name, value) in [
        ("iss", json!(issuer)),
        ("aud", json!(audience)),
        ("iat", json!(now)),
        ("nbf", json!(now - 600)),
        ("exp", json!(now + TOKEN_LIFETIME_S)),
        ("jti", json!(random_hex())),
    ] {
        claims.insert(name.to_owned(), value);
    }
    claims
}

fn encoded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

fn sign(key: &KeyPair, key_id: &str, claims: &Map<String, Value>) -> String {
    let header = json!({"typ": "JWT", "alg": "RS256", "x5t": key_id, "kid": key_id});
    let signed = format!("{}.{}", encoded(&header), encoded(&Value::Object(claims.clone())));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &rand::SystemRandom::new(), signed.as_bytes(), &mut signature)
        .expect("a key of 2,048 bits signs a SHA-256 digest");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn generate() -> Result<KeyPair, HarnessError> {
    KeyPair::generate(KeySize::Rsa2048).map_err(|error| HarnessError(format!("no key was made: {error}")))
}

/// What the key set calls the key.
fn key_id(key: &KeyPair) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(key.public_key().as_ref());
    hex::encode_upper(&digest[..10])
}

/// Modulus and exponent, big-endian, out of the public key's DER: `SEQUENCE { INTEGER, INTEGER }` (RFC 8017, A.1.1).
fn rsa_components(key: &KeyPair) -> (Vec<u8>, Vec<u8>) {
    let der = key.public_key().as_ref();
    let (content, _) = der_element(der);
    let (modulus, rest) = der_element(content);
    let (exponent, _) = der_element(rest);
    // A leading zero only says that the number is positive.
    let number = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    (number(modulus), number(exponent))
}

/// The content of the first DER element, and what follows it.
fn der_element(der: &[u8]) -> (&[u8], &[u8]) {
    let length = usize::from(der[1]);
    let (start, length) = match length {
        0..0x80 => (2, length),
        _ => {
            let digits = &der[2..2 + (length & 0x7f)];
            (2 + digits.len(), digits.iter().fold(0, |sum, digit| (sum << 8) | usize::from(*digit)))
        }
    };
    der[start..].split_at(length)
}

fn random_hex() -> String {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).expect("the system has random numbers");
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::http::ask;
    use super::*;
    use aws_lc_rs::signature;

    #[test]
    fn a_jobs_token_verifies_with_the_published_key() {
        let issuer = Issuer::start().expect("it starts");
        let job = GithubJob { environment: Some("prod".to_owned()), ..GithubJob::of("acme/shop", 74, 65) };
        let runner = issuer.run(&job);
        let url = format!("{}&audience=switchback", runner.request_url);
        let refused = ask("GET", &url, &[("authorization", "Bearer guessed")], "").expect("an answer");
        assert_eq!(refused.status, 401);
        issuer.runner_fails_with(&[503]);
        let bearer = format!("Bearer {}", runner.request_token);
        let headers = [("authorization", bearer.as_str())];
        assert_eq!(ask("GET", &url, &headers, "").expect("an answer").status, 503);
        let given = ask("GET", &url, &headers, "").expect("an answer").json();
        let token = given["value"].as_str().expect("a token").to_owned();
        assert_eq!(issuer.requested_audiences(), ["switchback"]);

        let discovery = ask("GET", &format!("{}/.well-known/openid-configuration", issuer.issuer()), &[], "");
        let keys = discovery.expect("an answer").json()["jwks_uri"].as_str().expect("an address").to_owned();
        let key = ask("GET", &keys, &[], "").expect("an answer").json()["keys"][0].take();
        let bytes = |value: &Value| URL_SAFE_NO_PAD.decode(value.as_str().expect("text")).expect("base64url");
        let public = signature::RsaPublicKeyComponents { n: bytes(&key["n"]), e: bytes(&key["e"]) };
        let verified = |token: &str| {
            let (signed, mac) = token.rsplit_once('.').expect("three parts");
            let mac = URL_SAFE_NO_PAD.decode(mac).expect("base64url");
            public.verify(&signature::RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &mac).is_ok()
        };
        assert!(verified(&token));
        let claims = token.split('.').nth(1).map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64url"));
        let claims: Value = serde_json::from_slice(&claims.expect("claims")).expect("JSON");
        assert_eq!(claims["iss"], issuer.issuer());
        assert_eq!(claims["repository_id"], "74");
        assert_eq!(claims["environment"], "prod");
        assert_eq!(claims["job_workflow_ref"], "acme/shop/.github/workflows/promote.yaml@refs/heads/main");

        for flaw in [Flaw::Signature, Flaw::Key, Flaw::Unsigned] {
            assert!(!verified(&issuer.bad_token(&job, "switchback", flaw)), "{flaw:?}");
        }
        for flaw in [Flaw::Issuer, Flaw::Audience, Flaw::Expired, Flaw::NotYetValid] {
            assert!(verified(&issuer.bad_token(&job, "switchback", flaw)), "{flaw:?}: signed, and wrong all the same");
        }
    }
}
