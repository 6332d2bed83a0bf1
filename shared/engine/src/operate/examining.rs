//! Whether an account is fit for a target: read, judged, told. Nothing is written.

use super::{DoctorAnswer, DoctorRequest, Operations, Refusal};
use crate::ports::{Clock, Cloud, Inspector, Ledger, WakeQueue};
use rollout::Policy;
use rollout::doctor::seen::Inspected;
use rollout::doctor::{inspection, judge, terraform};
use rollout::{Reading, TargetId};

impl<L: Ledger, C: Cloud + Inspector, D: WakeQueue, K: Clock> Operations<'_, L, C, D, K> {
    /// Judges what is there against what the policy wants of one target.
    ///
    /// # Errors
    /// [`Refusal`]: every problem of the file, a file of another application, an unknown target, or a ledger that did not
    /// answer. What could not be read of the account is a finding, no refusal.
    pub async fn doctor(&self, request: &DoctorRequest) -> Result<DoctorAnswer, Refusal> {
        let target = &request.target;
        let (version, policy): (Option<u64>, Policy) = match &request.text {
            Some(text) => (None, policy::parse(text).map_err(Refusal::of_a_file_only_read)?),
            None => {
                let applied = self.desk().applied(&target.application).await?;
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
        mark_taken(&policy, target, &mut seen);
        Ok(DoctorAnswer {
            target: target.clone(),
            version,
            findings: judge(&policy, target, &seen),
            terraform: terraform::ignored(wanted, &seen),
        })
    }
}

/// Says of the repository's newest tags which of them the service's rule takes.
fn mark_taken(policy: &Policy, target: &TargetId, seen: &mut Inspected) {
    let rule = policy.services.get(&target.service).and_then(|rules| policy::tags::Matcher::new(&rules.tags).ok());
    if let (Some(rule), Reading::Known(Some(repository))) = (rule, &mut seen.repository)
        && let Reading::Known(newest) = &mut repository.newest
    {
        for seen in newest {
            seen.taken = rule.matches(&seen.tag);
        }
    }
}
