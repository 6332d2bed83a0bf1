//! The doctor: reads an account and reports whether it is configured correctly for a target. Nothing is written.

use super::Operations;
use crate::command_service::RequestLedger;
use crate::{DoctorRequest, DoctorResponse, Refusal};
use engine::ports::{Clock, Cloud, Inspector, WakeQueue};
use futures::future::{join, join_all};
use rollout::Policy;
use rollout::doctor::inspected::InspectionResult;
use rollout::doctor::{Finding, images, inspection, judge, terraform};
use rollout::{Reading, TargetId, Way};

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
        let way = wanted.resources.platform.way();
        let (mut seen, images) = join(self.cloud.inspect(&inspection), self.images(target, way)).await;
        mark_matching_tags(&policy, target, &mut seen);
        let mut findings = judge(&policy, target, &seen);
        findings.extend(images?);
        findings.sort_by_key(|finding| finding.severity);
        Ok(DoctorResponse {
            target: target.clone(),
            version,
            findings,
            terraform: terraform::ignored_attributes(wanted, &seen),
        })
    }

    /// What is wrong with the images that the target may need again; nothing where nothing was ever deployed.
    async fn images(&self, target: &TargetId, way: Way) -> Result<Vec<Finding>, Refusal> {
        let Some(state) = self.ledger.state(target).await? else { return Ok(Vec::new()) };
        let reads = images::needed(&state).map(async |(needed, release)| {
            let image = self.cloud.image_state(&release.image).await;
            (needed, release.clone(), image)
        });
        Ok(images::judge(way, &join_all(reads).await))
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
