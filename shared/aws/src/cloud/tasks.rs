//! Stopped tasks: which of them failed to start, and why; and the task of a hook.

use super::instant;
use crate::error::one_line;
use aws_sdk_ecs::types::{Container, Task, TaskStopCode};
use rollout::observation::{FailedStartsQuery, HookTask};
use rollout::snapshot::{FailedStart, TaskReading};

/// Maximum number of failed starts reported.
const MAX_FAILED_STARTS: usize = 10;

/// Tasks of the plan's task definition that stopped on their own since the given time: their number, and the newest first.
pub(super) fn failed_starts(tasks: &[Task], starts: &FailedStartsQuery) -> (u32, Vec<FailedStart>) {
    let mut failed: Vec<_> = tasks
        .iter()
        .filter(|task| task.task_definition_arn() == Some(starts.task_definition.as_str()))
        .filter(|task| stopped_on_its_own(task))
        .filter_map(|task| {
            let at = instant(task.stopped_at()).or_else(|| instant(task.stopping_at()))?;
            let task_arn = task.task_arn()?.to_owned();
            (at >= starts.since).then(|| FailedStart { task: task_arn, reason: reason(task), at })
        })
        .collect();
    failed.sort_by(|one, other| other.at.cmp(&one.at).then_with(|| one.task.cmp(&other.task)));
    let count = u32::try_from(failed.len()).unwrap_or(u32::MAX);
    failed.truncate(MAX_FAILED_STARTS);
    (count, failed)
}

/// Whether the task caused its own stop. A stop requested by a user or the scheduler (scale-in, manual stop) does not count,
/// nor does the loss of the host (Spot, retired host); but the scheduler also stops tasks that fail their health checks.
fn stopped_on_its_own(task: &Task) -> bool {
    let reason = task.stopped_reason().unwrap_or_default();
    let unhealthy = reason.contains("failed ELB health checks")
        || reason.contains("failed container health checks")
        || reason.contains("Target.FailedHealthChecks");
    match task.stop_code() {
        Some(TaskStopCode::EssentialContainerExited | TaskStopCode::TaskFailedToStart) => true,
        Some(_) => unhealthy,
        // Emulators omit the stop code.
        None => unhealthy || !reason.starts_with("Scaling activity initiated"),
    }
}

/// ECS's stop reason of the task, and each container's where it adds something: `Essential container in task exited (api:
/// exit code 1)`.
fn reason(task: &Task) -> String {
    let words = task.stopped_reason().unwrap_or("the task stopped, without a reason").trim_end_matches('.');
    let mut details: Vec<_> = task.containers().iter().filter_map(|container| detail(container, words)).collect();
    if details.is_empty() && task.stop_code() == Some(&TaskStopCode::EssentialContainerExited) {
        let ended = |container: &Container| container.exit_code().map(|code| exit_code_text(container, code));
        details = task.containers().iter().filter_map(ended).collect();
    }
    one_line(&if details.is_empty() { words.to_owned() } else { format!("{words} ({})", details.join("; ")) })
}

fn exit_code_text(container: &Container, code: i32) -> String {
    format!("{}: exit code {code}", container.name().unwrap_or("?"))
}

fn detail(container: &Container, words: &str) -> Option<String> {
    let code = container.exit_code().filter(|code| *code != 0);
    let reason =
        container.reason().filter(|reason| !reason.is_empty() && !words.contains(reason.trim_end_matches('.')));
    match (code, reason) {
        (None, None) => None,
        (Some(code), None) => Some(exit_code_text(container, code)),
        (Some(code), Some(reason)) => Some(format!("{}, {reason}", exit_code_text(container, code))),
        (None, Some(reason)) => Some(format!("{}: {reason}", container.name().unwrap_or("?"))),
    }
}

/// The task of a hook: still running, or stopped with the named container's exit code.
pub(super) fn hook_task(task: &Task, asked: &HookTask) -> TaskReading {
    if task.last_status() != Some("STOPPED") {
        return TaskReading::Running;
    }
    let named = |container: &&Container| container.name() == Some(asked.container.as_str());
    let exit_code = task.containers().iter().find(named).and_then(Container::exit_code);
    TaskReading::Stopped { exit_code, reason: reason(task) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_types::DateTime;
    use rollout::{Slot, Timestamp};

    const NEW: &str = "arn:aws:ecs:eu-west-1:123456789012:task-definition/api:8";

    fn starts() -> FailedStartsQuery {
        let since = Timestamp::from_second(1000).expect("an instant");
        FailedStartsQuery { slot: Slot::Green, task_definition: NEW.to_owned(), since, beside: None }
    }

    fn stopped(id: &str, at: i64, code: TaskStopCode, reason: &str, containers: Vec<Container>) -> Task {
        Task::builder()
            .task_arn(id)
            .task_definition_arn(NEW)
            .last_status("STOPPED")
            .stopped_at(DateTime::from_secs(at))
            .stop_code(code)
            .stopped_reason(reason)
            .set_containers(Some(containers))
            .build()
    }

    fn container(name: &str, code: Option<i32>, reason: Option<&str>) -> Container {
        Container::builder().name(name).set_exit_code(code).set_reason(reason.map(str::to_owned)).build()
    }

    #[test]
    fn failed_starts_carry_container_reasons_newest_first() {
        let tasks = [
            stopped(
                "crashed",
                1100,
                TaskStopCode::EssentialContainerExited,
                "Essential container in task exited",
                vec![container("api", Some(1), None), container("proxy", Some(0), None)],
            ),
            stopped(
                "no-image",
                1300,
                TaskStopCode::TaskFailedToStart,
                "CannotPullContainerError: pull image manifest has been retried 7 time(s): not found",
                vec![container(
                    "api",
                    None,
                    Some("CannotPullContainerError: pull image manifest has been retried 7 time(s): not found"),
                )],
            ),
            stopped(
                "killed",
                1200,
                TaskStopCode::EssentialContainerExited,
                "Essential container in task exited",
                vec![container("api", Some(137), Some("OutOfMemoryError: Container killed due to memory usage"))],
            ),
            stopped(
                "ended",
                1150,
                TaskStopCode::EssentialContainerExited,
                "Essential container in task exited",
                vec![container("api", Some(0), None)],
            ),
        ];
        let reported: Vec<_> =
            failed_starts(&tasks, &starts()).1.into_iter().map(|start| (start.task, start.reason)).collect();
        let expected = [
            ("no-image", "CannotPullContainerError: pull image manifest has been retried 7 time(s): not found"),
            (
                "killed",
                "Essential container in task exited (api: exit code 137, OutOfMemoryError: Container killed due to memory usage)",
            ),
            ("ended", "Essential container in task exited (api: exit code 0)"),
            ("crashed", "Essential container in task exited (api: exit code 1)"),
        ];
        assert_eq!(reported, expected.map(|(task, reason)| (task.to_owned(), reason.to_owned())));
    }

    #[test]
    fn a_stopped_task_counts_only_if_unhealthy() {
        let scaled = "Scaling activity initiated by (deployment ecs-svc/1)";
        let unhealthy = "Task failed ELB health checks in (target-group arn:aws:elasticloadbalancing:…)";
        let tasks = [
            stopped("scaled", 1100, TaskStopCode::ServiceSchedulerInitiated, scaled, vec![]),
            stopped("by-hand", 1100, TaskStopCode::UserInitiated, "Task stopped by user", vec![]),
            stopped("spot", 1100, TaskStopCode::SpotInterruption, "Your Spot Task was interrupted.", vec![]),
            stopped("unhealthy", 1100, TaskStopCode::ServiceSchedulerInitiated, unhealthy, vec![]),
        ];
        let reported: Vec<_> = failed_starts(&tasks, &starts()).1.into_iter().map(|start| start.task).collect();
        assert_eq!(reported, ["unhealthy"]);
    }

    #[test]
    fn failed_starts_are_filtered_and_limited_to_ten() {
        let crash = |id: &str, at| {
            stopped(id, at, TaskStopCode::EssentialContainerExited, "Essential container in task exited", vec![])
        };
        let mut other = crash("other", 1100);
        other.task_definition_arn = Some("arn:aws:ecs:eu-west-1:123456789012:task-definition/api:7".to_owned());
        assert_eq!(failed_starts(&[other, crash("before", 999)], &starts()), (0, vec![]));

        let many: Vec<_> = (0..15).map(|n| crash(&format!("task-{n}"), 1000 + n)).collect();
        let (count, reported) = failed_starts(&many, &starts());
        assert_eq!((count, reported.len()), (15, 10), "all are counted");
        assert_eq!(reported[0].task, "task-14");
    }

    #[test]
    fn a_hook_task_has_the_named_containers_exit_code() {
        let asked = HookTask { task: "t".to_owned(), container: "migrate".to_owned() };
        let containers = vec![container("migrate", Some(3), None), container("proxy", Some(0), None)];
        let code = TaskStopCode::EssentialContainerExited;
        let mut task = stopped("t", 1100, code, "Essential container in task exited", containers);
        let TaskReading::Stopped { exit_code, reason } = hook_task(&task, &asked) else { panic!("it is stopped") };
        assert_eq!(exit_code, Some(3));
        assert_eq!(reason, "Essential container in task exited (migrate: exit code 3)");

        task.last_status = Some("DEPROVISIONING".to_owned());
        assert_eq!(hook_task(&task, &asked), TaskReading::Running);
    }
}
