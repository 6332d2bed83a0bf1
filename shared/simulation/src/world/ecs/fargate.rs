//! Fargate usage of the account: running vCPUs and their quota.

use super::shapes::LastStatus;
use crate::world::{ApiResult, World};
use serde_json::json;

/// vCPU quota, for On-Demand and for Spot, of an account that has requested an increase; new accounts may have 6
/// (Fargate quotas).
const QUOTA: f64 = 4000.0;
/// CPU units per vCPU in the `cpu` field of a task definition.
const CPU_UNITS_PER_VCPU: f64 = 1024.0;

/// vCPU usage of the account, On-Demand or Spot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FargateUsage {
    /// Maximum number of vCPUs that may run at once.
    pub quota: f64,
    /// Number of vCPUs in use.
    pub used: f64,
}

impl World {
    /// `GetMetricData` of Fargate's usage metrics, On-Demand and Spot, and of `SERVICE_QUOTA`. Tasks without a launch
    /// type do not count.
    ///
    /// # Errors
    /// None in this model.
    pub fn fargate_usage(&mut self) -> ApiResult<[FargateUsage; 2]> {
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
                FargateUsage { quota: QUOTA, used: used / CPU_UNITS_PER_VCPU }
            };
            Ok([usage(false), usage(true)])
        })
    }
}
