//! The operators' door, as the CLI uses it: HTTP, signed with IAM, to `operations` behind the deployed API.

use super::Failure;
use super::stack::Stack;
use engine::operate::{
    ApplyResponse, CommandResponse, DoctorResponse, HistoryResponse, JournalResponse, PlanResponse, TargetStatus,
    TargetsResponse,
};
use rollout::JournalEntry;
use rollout::deployment::DeploymentRecord;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What can be asked about one target.
#[derive(Debug)]
pub struct Operations<'a> {
    stack: &'a Stack,
    target: String,
}

impl<'a> Operations<'a> {
    /// About `target` (`application/service/environment`).
    pub(super) fn new(stack: &'a Stack, target: String) -> Self {
        Self { stack, target }
    }

    /// Applies a `switchback.yaml`.
    ///
    /// # Errors
    /// [`Failure`] with the refusal.
    pub fn apply(&self, text: &str) -> Result<ApplyResponse, Failure> {
        self.ask("POST", "/v1/apply", Some(&json!({"text": text})))
    }

    /// What is known of the target.
    ///
    /// # Errors
    /// [`Failure`] with the refusal.
    pub fn status(&self) -> Result<TargetStatus, Failure> {
        self.ask("GET", &format!("/v1/targets/{}", self.target), None)
    }

    /// Its newest deployments, newest first.
    ///
    /// # Errors
    /// [`Failure`] with the refusal.
    pub fn history(&self) -> Result<Vec<DeploymentRecord>, Failure> {
        let path = format!("/v1/targets/{}/history", self.target);
        self.ask("GET", &path, None).map(|HistoryResponse { deployments, .. }| deployments)
    }

    /// Its newest journal entries, oldest first.
    ///
    /// # Errors
    /// [`Failure`] with the refusal.
    pub fn journal(&self) -> Result<Vec<JournalEntry>, Failure> {
        let path = format!("/v1/targets/{}/journal?limit=200", self.target);
        self.ask("GET", &path, None).map(|JournalResponse { entries, .. }| entries)
    }

    /// Whether the account is fit for the target.
    ///
    /// # Errors
    /// [`Failure`] with the refusal.
    pub fn doctor(&self) -> Result<DoctorResponse, Failure> {
        self.ask("POST", "/v1/doctor", Some(&json!({"target": self.target})))
    }

    /// What a deployment of this release would do to the target.
    ///
    /// # Errors
    /// [`Failure`] with the refusal.
    pub fn plan(&self, release: &str) -> Result<PlanResponse, Failure> {
        self.ask("POST", "/v1/plan", Some(&json!({"target": self.target, "release": release})))
    }

    /// All targets of all applications.
    ///
    /// # Errors
    /// [`Failure`] with the refusal.
    pub fn targets(&self) -> Result<TargetsResponse, Failure> {
        self.ask("GET", "/v1/targets", None)
    }

    /// Asks for a deployment of this release.
    ///
    /// # Errors
    /// [`Failure`] with the refusal.
    pub fn deploy(&self, release: &str, reason: &str) -> Result<CommandResponse, Failure> {
        let wanted = json!({"release": release, "reason": reason});
        self.ask("POST", &format!("/v1/targets/{}/deploy", self.target), Some(&wanted))
    }

    /// Asks for an end of the running deployment.
    ///
    /// # Errors
    /// [`Failure`] with the refusal.
    pub fn abort(&self, reason: &str) -> Result<CommandResponse, Failure> {
        self.ask("POST", &format!("/v1/targets/{}/abort", self.target), Some(&json!({"reason": reason})))
    }

    /// Asks for the release before, or for all traffic back on the stable side.
    ///
    /// # Errors
    /// [`Failure`] with the refusal.
    pub fn rollback(&self, reason: &str) -> Result<CommandResponse, Failure> {
        self.ask("POST", &format!("/v1/targets/{}/rollback", self.target), Some(&json!({"reason": reason})))
    }

    /// Asks a deployment that waits for a person to go on.
    ///
    /// # Errors
    /// [`Failure`] with the refusal.
    pub fn resume(&self, reason: &str) -> Result<CommandResponse, Failure> {
        self.ask("POST", &format!("/v1/targets/{}/resume", self.target), Some(&json!({"reason": reason})))
    }

    fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: Option<&Value>) -> Result<T, Failure> {
        let response = self.stack.operations(method, path, body)?;
        let to_failure = |reason: String| Failure(format!("{method} {path}: {reason}: {}", response.body));
        if response.status != 200 {
            return Err(to_failure(response.status.to_string()));
        }
        serde_json::from_str(&response.body).map_err(|error| to_failure(error.to_string()))
    }
}
