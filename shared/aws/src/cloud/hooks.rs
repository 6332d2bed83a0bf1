//! Hooks: functions that are asked until they know, and tasks that are run once.

use super::{AwsCloud, service_key};
use crate::error::{Failure, one_line};
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
use rollout::{EcsPair, HookReport, Outcome, Slot};
use serde_json::Value;
use std::time::Duration;

/// How long a hook's function may take to answer one question. It is asked again until the hook's own deadline, so a
/// function that has more to do answers `in_progress`.
pub const HOOK_CALL: Duration = Duration::from_secs(20);

/// What an answer must look like, for who wrote one that does not.
const SHAPE: &str = r#"{"status": "succeeded" | "failed" | "in_progress", "reason": "…"}"#;

/// A hook's task to be started.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) run: &'a str,
    pub(super) task_definition: &'a str,
    pub(super) container: &'a str,
    pub(super) command: &'a [String],
}

/// The most of a function's words that is kept, in characters.
const MOST_WORDS: usize = 500;

/// What a function answered. What cannot be understood is a no, with the shape that was expected: asking again would
/// bring the same answer until the deadline, and nobody would know why.
fn report(answer: &[u8]) -> HookReport {
    let value: Option<Value> = serde_json::from_slice(answer).ok();
    let field = |name: &str| value.as_ref().and_then(|value| value.get(name)).and_then(Value::as_str);
    match field("status") {
        Some("succeeded") => HookReport::Succeeded,
        Some("in_progress") => HookReport::InProgress,
        Some("failed") => HookReport::Failed { reason: kept(field("reason").unwrap_or_default()) },
        _ => HookReport::Failed {
            reason: format!("the function answered {}, and should answer {SHAPE}", shortened(answer)),
        },
    }
}

/// The words of a function that threw: it answers `{"errorMessage": …, "errorType": …}` then.
fn thrown(answer: &[u8]) -> String {
    let value: Option<Value> = serde_json::from_slice(answer).ok();
    let field = |name: &str| value.as_ref().and_then(|value| value.get(name)).and_then(Value::as_str);
    match (field("errorType"), field("errorMessage")) {
        (Some(kind), Some(message)) => kept(&format!("{kind}: {message}")),
        (None, Some(message)) => kept(message),
        _ => shortened(answer),
    }
}

/// A function's words as they are kept: on one line, and no more than an item of the ledger holds with all else. An answer
/// may have megabytes, and one that cannot be written down would be asked for again and again.
fn kept(words: &str) -> String {
    rollout::text::visible(words.trim()).chars().take(MOST_WORDS).collect::<String>().trim_end().to_owned()
}

/// At most 200 characters of an answer: enough to know it again.
fn shortened(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    if text.is_empty() {
        return "nothing".to_owned();
    }
    rollout::text::line(&text, 200)
}

/// Why tasks were not placed, in ECS's words. All of them may pass: capacity comes back, instances register.
fn not_placed(failures: &[NotPlaced]) -> String {
    let words = |failure: &NotPlaced| {
        let detail = failure.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
        format!("{}{detail}", failure.reason().unwrap_or("no reason given"))
    };
    let all: Vec<_> = failures.iter().map(words).collect();
    let all = if all.is_empty() { "no reason given".to_owned() } else { all.join("; ") };
    one_line(&format!("RunTask: no task was started ({all})"))
}

/// The service's settings for volumes that its task definition leaves to the launch: `RunTask` of such a definition is
/// refused without (ECS developer guide, "Specify Amazon EBS volume configuration at Amazon ECS deployment"). The volume of
/// a single task is deleted with it, where nothing else is said (API reference, `TaskManagedEBSVolumeTerminationPolicy`).
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
        // The builders fail only for a name or a role that is missing, and neither is.
        let of_task = of_task.transpose().ok()?;
        TaskVolumeConfiguration::builder().name(volume.name()).set_managed_ebs_volume(of_task).build().ok()
    });
    Some(volumes.collect::<Vec<_>>()).filter(|volumes| !volumes.is_empty())
}

impl AwsCloud {
    /// Asks a hook's function once, and waits for [`HOOK_CALL`] at most. A function that throws or does not answer is
    /// asked again; the hook's deadline says how often.
    pub(super) async fn ask_hook(&self, function: &str, payload: &HookPayload) -> Outcome {
        let payload = match serde_json::to_vec(payload) {
            Ok(payload) => payload,
            Err(error) => return Outcome::Refused { reason: format!("the hook's payload is no JSON: {error}") },
        };
        // One of the limits ends it, and always the same one: the others are out of its reach.
        let out_of_reach = HOOK_CALL + Duration::from_secs(5);
        let patience = TimeoutConfig::builder()
            .connect_timeout(crate::config::CONNECT)
            .read_timeout(out_of_reach)
            .operation_attempt_timeout(out_of_reach)
            .operation_timeout(HOOK_CALL)
            .build();
        // The SDK must not ask a second time within one question: a function that is slow would run side by side with itself.
        let once = RetryConfig::standard().with_max_attempts(1);
        let answer = self
            .clients
            .lambda()
            .await
            .invoke()
            .function_name(function)
            .payload(Blob::new(payload))
            .customize()
            .config_override(aws_sdk_lambda::config::Builder::new().timeout_config(patience).retry_config(once))
            .send()
            .await;
        match answer {
            Ok(answer) => {
                let said = answer.payload().map(Blob::as_ref).unwrap_or_default();
                match answer.function_error() {
                    Some(_) => Outcome::Unsure { reason: format!("{function} failed: {}", thrown(said)) },
                    None => Outcome::HookReported { report: report(said) },
                }
            }
            Err(SdkError::TimeoutError(_)) => {
                Outcome::Unsure { reason: format!("{function} did not answer within {} s", HOOK_CALL.as_secs()) }
            }
            Err(error) => {
                let failure = Failure::of("Invoke", &error);
                match error.into_service_error() {
                    // The function is being created or updated: it will be there in a moment.
                    InvokeError::ResourceConflictException(_) | InvokeError::ResourceNotReadyException(_) => {
                        Outcome::Unsure { reason: failure.reason().to_owned() }
                    }
                    _ => failure.outcome(),
                }
            }
        }
    }

    /// Runs a hook's task once for each `run`: ECS answers a second request of the same token with the first one's task.
    pub(super) async fn start_task(&self, pair: &EcsPair, like: Slot, start: &Start<'_>) -> Outcome {
        let key = service_key(pair, like);
        let service = match self.memory.services.take(&key) {
            Some(service) => service,
            None => match self.service(pair, like).await {
                Ok(service) => service,
                Err(failure) => return failure.outcome(),
            },
        };
        let volumes = volumes(&service);
        let command = Some(start.command.to_vec()).filter(|command| !command.is_empty());
        let container = ContainerOverride::builder().name(start.container).set_command(command).build();
        let strategy = service.capacity_provider_strategy.filter(|strategy| !strategy.is_empty());
        // A launch type beside a strategy is refused.
        let launch_type = service.launch_type.filter(|_| strategy.is_none());
        let answer = self
            .clients
            .ecs()
            .await
            .run_task()
            .cluster(&pair.cluster)
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
                None => Outcome::Unsure { reason: not_placed(answer.failures()) },
            },
            Err(error) => {
                let failure = Failure::of("RunTask", &error);
                // The token was used with other settings (the service's network has changed since): the task is there.
                if let RunTaskError::ConflictException(conflict) = error.into_service_error()
                    && let Some(task) = conflict.resource_ids().first()
                {
                    return Outcome::TaskStarted { task: task.clone() };
                }
                failure.outcome()
            }
        }
    }

    /// Reads one side's service.
    async fn service(&self, pair: &EcsPair, slot: Slot) -> Result<Service, Failure> {
        let (services, failures) = self.services(pair, &[slot]).await?;
        let found = super::service::find(&pair.side(slot).service, &services, &failures).cloned();
        found.map_err(|reason| Failure::Refused { reason })
    }

    /// Stops a hook's task; one that has stopped already stays as it is.
    pub(super) async fn stop_task(&self, pair: &EcsPair, task: &str) -> Outcome {
        let reason = "Switchback: nobody waits for this hook any more";
        let answer = self.clients.ecs().await.stop_task().cluster(&pair.cluster).task(task).reason(reason).send().await;
        match answer {
            Ok(_) => Outcome::Done,
            Err(error) => match Failure::of("StopTask", &error) {
                // ECS forgets a task about an hour after it stopped.
                Failure::Refused { reason } if reason.contains("task was not found") => Outcome::Done,
                failure => failure.outcome(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_the_hooks_word() {
        assert_eq!(report(br#"{"status": "succeeded", "reason": null, "more": 1}"#), HookReport::Succeeded);
        assert_eq!(report(br#"{"status": "in_progress"}"#), HookReport::InProgress);
        let failed = HookReport::Failed { reason: "2 of 40 checks failed".to_owned() };
        assert_eq!(report(br#"{"status": "failed", "reason": "2 of 40 checks failed"}"#), failed);
        assert_eq!(report(br#"{"status": "failed"}"#), HookReport::Failed { reason: String::new() });
        let odd = serde_json::json!({"status": "failed", "reason": format!("a\u{1b}[2J\nb{}", "x".repeat(1_000_000))});
        let HookReport::Failed { reason } = report(odd.to_string().as_bytes()) else { panic!("it is no yes") };
        assert!(reason.starts_with("a\u{fffd}[2J bx") && reason.chars().count() == MOST_WORDS, "{reason}");
        let thrown = thrown(serde_json::json!({"errorMessage": "x".repeat(1_000_000)}).to_string().as_bytes());
        assert_eq!(thrown.len(), MOST_WORDS);
    }

    #[test]
    fn an_answer_that_says_nothing_known_is_a_no_that_shows_the_shape() {
        for (answer, shown) in
            [(&b"\"ok\""[..], "\"ok\""), (b"", "nothing"), (b"{\"status\":\"OK\"}", "{\"status\":\"OK\"}")]
        {
            let HookReport::Failed { reason } = report(answer) else { panic!("{answer:?} is no yes") };
            assert_eq!(reason, format!("the function answered {shown}, and should answer {SHAPE}"));
        }
        let HookReport::Failed { reason } = report("é".repeat(500).as_bytes()) else { panic!("it is no yes") };
        assert!(reason.contains(&format!("{}…", "é".repeat(200))), "{reason}");
    }

    #[test]
    fn a_function_that_threw_is_quoted() {
        let answer = br#"{"errorType": "KeyError", "errorMessage": "'table'", "stackTrace": []}"#;
        assert_eq!(thrown(answer), "KeyError: 'table'");
        assert_eq!(
            thrown(br#"{"errorMessage": "Task timed out after 3.00 seconds"}"#),
            "Task timed out after 3.00 seconds"
        );
        assert_eq!(thrown(b"gone"), "gone");
    }

    #[test]
    fn a_task_that_was_not_placed_says_why() {
        let failure = NotPlaced::builder().arn("arn:aws:ecs:…").reason("RESOURCE:MEMORY").build();
        assert_eq!(not_placed(&[failure]), "RunTask: no task was started (RESOURCE:MEMORY)");
    }

    #[test]
    fn whatever_a_function_answers_it_says_yes_only_in_our_words_and_never_too_many() {
        use garbage::proptest::prelude::*;
        let sound =
            ["succeeded", "failed", "in_progress"].map(|status| serde_json::json!({"status": status, "reason": "r"}));
        hold_for(&garbage::body(sound.to_vec()).prop_map(String::into_bytes).boxed());
        hold_for(&garbage::proptest::collection::vec(any::<u8>(), 0..3_000).boxed());
    }

    fn hold_for(answers: &garbage::proptest::prelude::BoxedStrategy<Vec<u8>>) {
        use garbage::proptest::prelude::*;
        garbage::hold(300, answers, |answer| {
            let status = serde_json::from_slice::<Value>(&answer).ok().map(|value| value["status"].clone());
            match report(&answer) {
                HookReport::Succeeded => prop_assert_eq!(status, Some("succeeded".into())),
                HookReport::InProgress => prop_assert_eq!(status, Some("in_progress".into())),
                HookReport::Failed { reason } => {
                    prop_assert!(reason.chars().count() <= MOST_WORDS, "{} characters", reason.chars().count());
                }
            }
            prop_assert!(thrown(&answer).chars().count() <= MOST_WORDS);
            Ok(())
        });
    }
}
