//! The operators' door, as the CLI uses it: HTTP, signed with IAM, to `operations` behind the deployed API.

use super::HarnessError;
use super::stack::Stack;
use api::{
    ApplyResponse, CommandResponse, DoctorResponse, HistoryResponse, JournalResponse, PlanResponse, TargetStatus,
    TargetsResponse,
};
use rollout::JournalEntry;
use rollout::deployment::DeploymentRecord;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What can be asked about one target.
#[derive(Debug)]
pub struct OperationsClient<'a> {
    stack: &'a Stack,
    target: String,
}

impl<'a> OperationsClient<'a> {
    /// About `target` (`application/service/environment`).
    pub(super) fn new(stack: &'a Stack, target: String) -> Self {
        Self { stack, target }
    }

    /// Applies a `switchback.yaml`.
    ///
    /// # Errors
    /// [`HarnessError`] with the refusal.
    pub fn apply(&self, text: &str) -> Result<ApplyResponse, HarnessError> {
        self.ask("POST", "/v1/apply", Some(&json!({"text": text})))
    }

    /// What is known of the target.
    ///
    /// # Errors
    /// [`HarnessError`] with the refusal.
    pub fn status(&self) -> Result<TargetStatus, HarnessError> {
        self.ask("GET", &format!("/v1/targets/{}", self.target), None)
    }

    /// Its newest deployments, newest first.
    ///
    /// # Errors
    /// [`HarnessError`] with the refusal.
    pub fn history(&self) -> Result<Vec<DeploymentRecord>, HarnessError> {
        let path = format!("/v1/targets/{}/history", self.target);
        self.ask("GET", &path, None).map(|HistoryResponse { deployments, .. }| deployments)
    }

    /// Its newest journal entries, oldest first.
    ///
    /// # Errors
    /// [`HarnessError`] with the refusal.
    pub fn journal(&self) -> Result<Vec<JournalEntry>, HarnessError> {
        let path = format!("/v1/targets/{}/journal?limit=200", self.target);
        self.ask("GET", &path, None).map(|JournalResponse { entries, .. }| entries)
    }

    /// Whether the account is fit for the target.
    ///
    /// # Errors
    /// [`HarnessError`] with the refusal.
    pub fn doctor(&self) -> Result<DoctorResponse, HarnessError> {
        self.ask("POST", "/v1/doctor", Some(&json!({"target": self.target})))
    }

    /// What a deployment of this release would do to the target.
    ///
    /// # Errors
    /// [`HarnessError`] with the refusal.
    pub fn plan(&self, release: &str) -> Result<PlanResponse, HarnessError> {
        self.ask("POST", "/v1/plan", Some(&json!({"target": self.target, "release": release})))
    }

    /// All targets of all applications.
    ///
    /// # Errors
    /// [`HarnessError`] with the refusal.
    pub fn targets(&self) -> Result<TargetsResponse, HarnessError> {
        self.ask("GET", "/v1/targets", None)
    }

    /// Asks for a deployment of this release.
    ///
    /// # Errors
    /// [`HarnessError`] with the refusal.
    pub fn deploy(&self, release: &str, reason: &str) -> Result<CommandResponse, HarnessError> {
        let wanted = json!({"release": release, "reason": reason});
        self.ask("POST", &format!("/v1/targets/{}/deploy", self.target), Some(&wanted))
    }

    /// Asks for a deployment of the stable release with the newest template.
    ///
    /// # Errors
    /// [`HarnessError`] with the refusal.
    pub fn deploy_configuration(&self, reason: &str) -> Result<CommandResponse, HarnessError> {
        let wanted = json!({"configuration": true, "reason": reason});
        self.ask("POST", &format!("/v1/targets/{}/deploy", self.target), Some(&wanted))
    }

    /// Asks for an end of the running deployment.
    ///
    /// # Errors
    /// [`HarnessError`] with the refusal.
    pub fn abort(&self, reason: &str) -> Result<CommandResponse, HarnessError> {
        self.ask("POST", &format!("/v1/targets/{}/abort", self.target), Some(&json!({"reason": reason})))
    }

    /// Asks for the release before, or for all traffic back on the stable side.
    ///
    /// # Errors
    /// [`HarnessError`] with the refusal.
    pub fn rollback(&self, reason: &str) -> Result<CommandResponse, HarnessError> {
        self.ask("POST", &format!("/v1/targets/{}/rollback", self.target), Some(&json!({"reason": reason})))
    }

    /// Asks a deployment that waits for a person to go on.
    ///
    /// # Errors
    /// [`HarnessError`] with the refusal.
    pub fn resume(&self, reason: &str) -> Result<CommandResponse, HarnessError> {
        self.ask("POST", &format!("/v1/targets/{}/resume", self.target), Some(&json!({"reason": reason})))
    }

    fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: Option<&Value>) -> Result<T, HarnessError> {
        let response = self.stack.operations(method, path, body)?;
        let to_failure = |reason: String| HarnessError(format!("{method} {path}: {reason}: {}", response.body));
        if response.status != 200 {
            return Err(to_failure(response.status.to_string()));
        }
        serde_json::from_str(&response.body).map_err(|error| to_failure(error.to_string()))
    }
}
