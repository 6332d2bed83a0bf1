//! The doctor: reads an account and reports whether it is configured correctly for a target. Nothing is written.

use super::Operations;
use crate::command_service::RequestLedger;
use crate::{DoctorRequest, DoctorResponse, Refusal};
use engine::ports::{Clock, Cloud, Inspector, WakeQueue};
use rollout::Policy;
use rollout::doctor::inspected::InspectionResult;
use rollout::doctor::{inspection, judge, terraform};
use rollout::{Reading, TargetId};

impl<L: RequestLedger, C: Cloud + Inspector, D: WakeQueue, K: Clock> Operations<'_, L, C, D, K> {
    /// Compares the account with what the policy requires for one target.
    ///
    /// # Errors
    /// [`Refusal`]: every problem of the file, a file of another application, an unknown target, or a ledger that did not answer.
    /// A part of the account that could not be read is a finding, not a refusal.
    pub async fn doctor(&self, request: &DoctorRequest) -> Result<DoctorResponse, Refusal> {
        let target = &request.target;
        let (version, policy): (Option<u64>, Policy) = match &request.text {
            Some(text) => (None, policy::parse(text).map_err(Refusal::for_unapplied_policy)?),
            None => {
                let applied = self.command_service().applied(&target.application).await?;
                (Some(applied.version), applied.policy)
            }
        };
        let (Some(inspection), Some(wanted)) = (inspection(&policy, target), policy.target(target)) else {
            let what = format!("the policy has no target `{target}`");
            let known = policy.targets().map(|(id, _)| id.to_string());
            return Err(Refusal::unknown(
                "unknown_target",
                what,
                known,
                "name one of those, or add it to switchback.yaml",
            ));
        };
        let mut seen = self.cloud.inspect(&inspection).await;
        mark_matching_tags(&policy, target, &mut seen);
        Ok(DoctorResponse {
            target: target.clone(),
            version,
            findings: judge(&policy, target, &seen),
            terraform: terraform::ignored_attributes(wanted, &seen),
        })
    }
}

/// Marks which of the repository's newest tags match the service's rule.
fn mark_matching_tags(policy: &Policy, target: &TargetId, seen: &mut InspectionResult) {
    let rule = policy.services.get(&target.service).and_then(|rules| policy::tags::Matcher::new(&rules.tags).ok());
    if let (Some(rule), Reading::Known(Some(repository))) = (rule, &mut seen.repository)
        && let Reading::Known(newest) = &mut repository.newest
    {
        for seen in newest {
            seen.matches_rule = rule.matches(&seen.tag);
        }
    }
}
