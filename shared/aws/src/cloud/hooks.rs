//! Hooks: Lambda functions that are polled until they answer, and ECS tasks that are run once.

use super::AwsCloud;
use crate::error::{AwsFailure, one_line};
use aws_sdk_ecs::operation::run_task::RunTaskError;
use aws_sdk_ecs::types::{
    ContainerOverride, Failure as NotPlaced, Service, TaskManagedEbsVolumeConfiguration, TaskOverride,
    TaskVolumeConfiguration,
};
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::primitives::Blob;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use rollout::effect::HookPayload;
use rollout::text::{clip, line, visible};
use rollout::{EcsServiceName, HookReport, Outcome};
use serde_json::Value;
use std::time::Duration;

/// Limit for one invocation of a hook's function. The function is invoked again until the hook's own deadline, so one
/// that needs longer answers `in_progress`.
pub const HOOK_CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// The expected response, quoted to the author of a function that returns another shape.
const EXPECTED_RESPONSE: &str = r#"{"status": "succeeded" | "failed" | "in_progress", "reason": "…"}"#;

/// Parameters for starting a hook's task.
#[derive(Debug)]
pub(super) struct TaskStart<'a> {
    pub(super) run: &'a str,
    pub(super) task_definition: &'a str,
    pub(super) container: &'a str,
    pub(super) command: &'a [String],
}

/// Maximum length of a function's reason, in characters.
const MAX_REASON_CHARS: usize = 500;

/// Parses a function's response. An unparsable response fails the hook and states the expected shape: invoking the
/// function again would give the same response until the deadline, without anyone knowing why.
fn report(answer: &[u8]) -> HookReport {
    let value: Option<Value> = serde_json::from_slice(answer).ok();
    let field = |name: &str| value.as_ref().and_then(|value| value.get(name)).and_then(Value::as_str);
    match field("status") {
        Some("succeeded") => HookReport::Succeeded,
        Some("in_progress") => HookReport::InProgress,
        Some("failed") => HookReport::Failed { reason: truncated(field("reason").unwrap_or_default()) },
        _ => HookReport::Failed {
            reason: format!("the function answered {}, and should answer {EXPECTED_RESPONSE}", shortened(answer)),
        },
    }
}

/// The error message of a function that threw: its response is `{"errorMessage": …, "errorType": …}`.
fn error_text(answer: &[u8]) -> String {
    let value: Option<Value> = serde_json::from_slice(answer).ok();
    let field = |name: &str| value.as_ref().and_then(|value| value.get(name)).and_then(Value::as_str);
    match (field("errorType"), field("errorMessage")) {
        (Some(kind), Some(message)) => truncated(&format!("{kind}: {message}")),
        (None, Some(message)) => truncated(message),
        _ => shortened(answer),
    }
}

/// A function's text as stored: on one line, and short enough for a ledger item beside everything else. A response may
/// be megabytes, and one that cannot be stored would be requested again and again.
fn truncated(words: &str) -> String {
    visible(clip(words.trim(), MAX_REASON_CHARS)).trim_end().to_owned()
}

/// At most 200 characters of a response: enough to recognize it.
fn shortened(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    if text.is_empty() {
        return "nothing".to_owned();
    }
    line(&text, 200)
}

/// Why tasks were not placed, in ECS's words. All placement failures may be transient: capacity comes back, instances
/// register.
fn placement_failure_reason(failures: &[NotPlaced]) -> String {
    let words = |failure: &NotPlaced| {
        let detail = failure.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
        format!("{}{detail}", failure.reason().unwrap_or("no reason given"))
    };
    let all: Vec<_> = failures.iter().map(words).collect();
    let all = if all.is_empty() { "no reason given".to_owned() } else { all.join("; ") };
    one_line(&format!("RunTask: no task was started ({all})"))
}

/// The service's settings for volumes that its task definition configures at launch: without them `RunTask` rejects
/// such a definition (ECS developer guide, "Specify Amazon EBS volume configuration at Amazon ECS deployment"). By
/// default the volume of a standalone task is deleted with the task (API reference,
/// `TaskManagedEBSVolumeTerminationPolicy`).
fn volumes(service: &Service) -> Option<Vec<TaskVolumeConfiguration>> {
    let primary = service.deployments().iter().find(|deployment| deployment.status() == Some("PRIMARY"))?;
    let volumes = primary.volume_configurations().iter().filter_map(|volume| {
        let of_service = volume.managed_ebs_volume();
        let of_task = of_service.map(|it| {
            TaskManagedEbsVolumeConfiguration::builder()
                .set_encrypted(it.encrypted())
                .set_kms_key_id(it.kms_key_id().map(str::to_owned))
                .set_volume_type(it.volume_type().map(str::to_owned))
                .set_size_in_gib(it.size_in_gib())
                .set_snapshot_id(it.snapshot_id().map(str::to_owned))
                .set_volume_initialization_rate(it.volume_initialization_rate())
                .set_iops(it.iops())
                .set_throughput(it.throughput())
                .set_tag_specifications(it.tag_specifications.clone())
                .role_arn(it.role_arn())
                .set_filesystem_type(it.filesystem_type().cloned())
                .build()
        });
        // The builders fail only where a name or a role is missing, and both are set.
        let of_task = of_task.transpose().ok()?;
        TaskVolumeConfiguration::builder().name(volume.name()).set_managed_ebs_volume(of_task).build().ok()
    });
    Some(volumes.collect::<Vec<_>>()).filter(|volumes| !volumes.is_empty())
}

impl AwsCloud {
    /// Invokes a hook's function once, for at most [`HOOK_CALL_TIMEOUT`]. A function that throws or does not answer is
    /// invoked again, until the hook's deadline.
    pub(super) async fn invoke_hook(&self, function: &str, payload: &HookPayload) -> Outcome {
        let payload = match serde_json::to_vec(payload) {
            Ok(payload) => payload,
            Err(error) => return Outcome::Refused { reason: format!("the hook's payload is no JSON: {error}") },
        };
        // Only the outermost timeout may end the call; the other timeouts are set beyond it.
        let out_of_reach = HOOK_CALL_TIMEOUT + Duration::from_secs(5);
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(crate::config::CONNECT_TIMEOUT)
            .read_timeout(out_of_reach)
            .operation_attempt_timeout(out_of_reach)
            .operation_timeout(HOOK_CALL_TIMEOUT)
            .build();
        // The SDK must not retry within one invocation: a slow function would run concurrently with itself.
        let no_retries = RetryConfig::standard().with_max_attempts(1);
        let answer = self
            .clients
            .lambda()
            .await
            .invoke()
            .function_name(function)
            .payload(Blob::new(payload))
            .customize()
            .config_override(aws_sdk_lambda::config::Builder::new().timeout_config(timeouts).retry_config(no_retries))
            .send()
            .await;
        match answer {
            Ok(answer) => {
                let response = answer.payload().map(Blob::as_ref).unwrap_or_default();
                match answer.function_error() {
                    Some(_) => Outcome::Unsure { reason: format!("{function} failed: {}", error_text(response)) },
                    None => Outcome::HookReported { report: report(response) },
                }
            }
            Err(SdkError::TimeoutError(_)) => Outcome::Unsure {
                reason: format!("{function} did not answer within {} s", HOOK_CALL_TIMEOUT.as_secs()),
            },
            Err(error) => {
                let failure = AwsFailure::of("Invoke", &error);
                match error.into_service_error() {
                    // The function is being created or updated, and will be available shortly.
                    InvokeError::ResourceConflictException(_) | InvokeError::ResourceNotReadyException(_) => {
                        Outcome::Unsure { reason: failure.reason().to_owned() }
                    }
                    _ => failure.outcome(),
                }
            }
        }
    }

    /// Runs a hook's task once per `run`: ECS answers a second request with the same token with the first one's task.
    /// The task is placed and connected like those of the service `template`.
    pub(super) async fn start_task(&self, template: EcsServiceName<'_>, start: &TaskStart<'_>) -> Outcome {
        let service = match self.live_service(template).await {
            Ok(service) => service,
            Err(failure) => return failure.outcome(),
        };
        let volumes = volumes(&service);
        let command = Some(start.command.to_vec()).filter(|command| !command.is_empty());
        let container = ContainerOverride::builder().name(start.container).set_command(command).build();
        let strategy = service.capacity_provider_strategy.filter(|strategy| !strategy.is_empty());
        // ECS rejects a launch type given together with a capacity provider strategy.
        let launch_type = service.launch_type.filter(|_| strategy.is_none());
        let answer = self
            .clients
            .ecs()
            .await
            .run_task()
            .cluster(template.cluster)
            .task_definition(start.task_definition)
            .count(1)
            .client_token(start.run)
            .started_by(start.run)
            .overrides(TaskOverride::builder().container_overrides(container).build())
            .set_network_configuration(service.network_configuration)
            .set_capacity_provider_strategy(strategy)
            .set_launch_type(launch_type)
            .set_volume_configurations(volumes)
            .set_platform_version(service.platform_version.filter(|version| !version.is_empty()))
            .send()
            .await;
        match answer {
            Ok(answer) => match answer.tasks().first().and_then(|task| task.task_arn()) {
                Some(task) => Outcome::TaskStarted { task: task.to_owned() },
                None => Outcome::Unsure { reason: placement_failure_reason(answer.failures()) },
            },
            Err(error) => {
                let failure = AwsFailure::of("RunTask", &error);
                // The token was used with other settings (the service's network configuration has changed since): the
                // task exists.
                if let RunTaskError::ConflictException(conflict) = error.into_service_error()
                    && let Some(task) = conflict.resource_ids().first()
                {
                    return Outcome::TaskStarted { task: task.clone() };
                }
                failure.outcome()
            }
        }
    }

    /// Stops a hook's task; a no-op where it has stopped already.
    pub(super) async fn stop_task(&self, cluster: &str, task: &str) -> Outcome {
        let reason = "Switchback: nobody waits for this hook any more";
        let answer = self.clients.ecs().await.stop_task().cluster(cluster).task(task).reason(reason).send().await;
        match answer {
            Ok(_) => Outcome::Done,
            Err(error) => match AwsFailure::of("StopTask", &error) {
                // ECS forgets a task about an hour after it stopped.
                AwsFailure::Refused { reason } if reason.contains("task was not found") => Outcome::Done,
                failure => failure.outcome(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_response_is_parsed_and_its_reason_bounded() {
        assert_eq!(report(br#"{"status": "succeeded", "reason": null, "more": 1}"#), HookReport::Succeeded);
        assert_eq!(report(br#"{"status": "in_progress"}"#), HookReport::InProgress);
        let failed = HookReport::Failed { reason: "2 of 40 checks failed".to_owned() };
        assert_eq!(report(br#"{"status": "failed", "reason": "2 of 40 checks failed"}"#), failed);
        assert_eq!(report(br#"{"status": "failed"}"#), HookReport::Failed { reason: String::new() });
        let odd = serde_json::json!({"status": "failed", "reason": format!("a\u{1b}[2J\nb{}", "x".repeat(1_000_000))});
        let HookReport::Failed { reason } = report(odd.to_string().as_bytes()) else { panic!("it is no yes") };
        assert!(reason.starts_with("a\u{fffd}[2J bx") && reason.chars().count() == MAX_REASON_CHARS, "{reason}");
        let error_text = error_text(serde_json::json!({"errorMessage": "x".repeat(1_000_000)}).to_string().as_bytes());
        assert_eq!(error_text.len(), MAX_REASON_CHARS);
    }

    #[test]
    fn an_unknown_hook_response_fails_with_the_expected_format() {
        for (answer, shown) in
            [(&b"\"ok\""[..], "\"ok\""), (b"", "nothing"), (b"{\"status\":\"OK\"}", "{\"status\":\"OK\"}")]
        {
            let HookReport::Failed { reason } = report(answer) else { panic!("{answer:?} is no yes") };
            assert_eq!(reason, format!("the function answered {shown}, and should answer {EXPECTED_RESPONSE}"));
        }
        let HookReport::Failed { reason } = report("é".repeat(500).as_bytes()) else { panic!("it is no yes") };
        assert!(reason.contains(&format!("{}…", "é".repeat(200))), "{reason}");
    }

    #[test]
    fn a_function_error_is_quoted() {
        let answer = br#"{"errorType": "KeyError", "errorMessage": "'table'", "stackTrace": []}"#;
        assert_eq!(error_text(answer), "KeyError: 'table'");
        assert_eq!(
            error_text(br#"{"errorMessage": "Task timed out after 3.00 seconds"}"#),
            "Task timed out after 3.00 seconds"
        );
        assert_eq!(error_text(b"gone"), "gone");
    }

    #[test]
    fn a_placement_failure_carries_its_reason() {
        let failure = NotPlaced::builder().arn("arn:aws:ecs:…").reason("RESOURCE:MEMORY").build();
        assert_eq!(placement_failure_reason(&[failure]), "RunTask: no task was started (RESOURCE:MEMORY)");
    }

    #[test]
    fn arbitrary_hook_responses_never_succeed_by_accident() {
        use garbage::proptest::prelude::*;
        let sound =
            ["succeeded", "failed", "in_progress"].map(|status| serde_json::json!({"status": status, "reason": "r"}));
        check_answers(&garbage::body(sound.to_vec()).prop_map(String::into_bytes).boxed());
        check_answers(&garbage::proptest::collection::vec(any::<u8>(), 0..3_000).boxed());
    }

    fn check_answers(answers: &garbage::proptest::prelude::BoxedStrategy<Vec<u8>>) {
        use garbage::proptest::prelude::*;
        garbage::hold(300, answers, |answer| {
            let status = serde_json::from_slice::<Value>(&answer).ok().map(|value| value["status"].clone());
            match report(&answer) {
                HookReport::Succeeded => prop_assert_eq!(status, Some("succeeded".into())),
                HookReport::InProgress => prop_assert_eq!(status, Some("in_progress".into())),
                HookReport::Failed { reason } => {
                    prop_assert!(reason.chars().count() <= MAX_REASON_CHARS, "{} characters", reason.chars().count());
                }
            }
            prop_assert!(error_text(&answer).chars().count() <= MAX_REASON_CHARS);
            Ok(())
        });
    }
}
