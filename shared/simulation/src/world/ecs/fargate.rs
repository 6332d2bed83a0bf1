//! What Fargate counts of an account: the vCPUs that run, and how many may.

use super::shapes::LastStatus;
use crate::world::{Answer, World};
use serde_json::json;

/// vCPUs, On-Demand or Spot, of an account that has asked for some; new ones may have 6 (Fargate quotas).
const QUOTA: f64 = 4000.0;
/// What `cpu` of a task definition is counted in.
const CPU_UNITS_A_VCPU: f64 = 1024.0;

/// vCPUs of the account, On-Demand or Spot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FargateUsage {
    /// So many may run at once.
    pub quota: f64,
    /// So many run.
    pub used: f64,
}

impl World {
    /// `GetMetricData` of Fargate's usage metrics, On-Demand and Spot, and of `SERVICE_QUOTA`. Tasks without a launch type run
    /// elsewhere.
    ///
    /// # Errors
    /// None that this model knows.
    pub fn fargate_usage(&mut self) -> Answer<[FargateUsage; 2]> {
        self.call("cloudwatch:GetMetricData", self.detail(|| json!({"metric": "AWS/Usage ResourceCount"})), |world| {
            let usage = |spot: bool| {
                let counted = world.tasks.values().map(|task| &task.shape).filter(|task| {
                    task.launch_type.as_deref() == Some("FARGATE")
                        && (task.capacity_provider_name.as_deref() == Some("FARGATE_SPOT")) == spot
                        && task.last_status != LastStatus::Stopped
                });
                let units =
                    counted.filter_map(|task| world.definition(&task.task_definition_arn)?.document["cpu"].as_str());
                let used: f64 = units.filter_map(|units| units.parse::<f64>().ok()).sum();
                FargateUsage { quota: QUOTA, used: used / CPU_UNITS_A_VCPU }
            };
            Ok([usage(false), usage(true)])
        })
    }
}
