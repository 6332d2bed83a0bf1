//! Tasks that stopped: which of them failed to start, and with which words; and the task of a hook.

use super::instant;
use crate::error::one_line;
use aws_sdk_ecs::types::{Container, Task, TaskStopCode};
use rollout::look::{HookTask, StartsOf};
use rollout::snapshot::{FailedStart, TaskReading};

/// At most this many failed starts are told of.
const MOST: usize = 10;

/// Tasks of the look's task definition that stopped by themselves since then: how many, and the newest of them first.
pub(super) fn failed_starts(tasks: &[Task], starts: &StartsOf) -> (u32, Vec<FailedStart>) {
    let mut failed: Vec<_> = tasks
        .iter()
        .filter(|task| task.task_definition_arn() == Some(starts.task_definition.as_str()))
        .filter(|task| by_itself(task))
        .filter_map(|task| {
            let at = instant(task.stopped_at()).or_else(|| instant(task.stopping_at()))?;
            let task_arn = task.task_arn()?.to_owned();
            (at >= starts.since).then(|| FailedStart { task: task_arn, reason: reason(task), at })
        })
        .collect();
    failed.sort_by(|one, other| other.at.cmp(&one.at).then_with(|| one.task.cmp(&other.task)));
    let count = u32::try_from(failed.len()).unwrap_or(u32::MAX);
    failed.truncate(MOST);
    (count, failed)
}

/// Whether the task's own doing stopped it. Somebody's or the scheduler's wish is not (a scale-in, a stop by hand), nor
/// is the loss of the machine (Spot, a retired host); but the scheduler also stops what fails its health checks.
fn by_itself(task: &Task) -> bool {
    let reason = task.stopped_reason().unwrap_or_default();
    let unhealthy = reason.contains("failed ELB health checks")
        || reason.contains("failed container health checks")
        || reason.contains("Target.FailedHealthChecks");
    match task.stop_code() {
        Some(TaskStopCode::EssentialContainerExited | TaskStopCode::TaskFailedToStart) => true,
        Some(_) => unhealthy,
        // Emulators leave the code out.
        None => unhealthy || !reason.starts_with("Scaling activity initiated"),
    }
}

/// ECS's words for the task, and each container's that says more:
/// `Essential container in task exited (api: exit code 1)`.
fn reason(task: &Task) -> String {
    let words = task.stopped_reason().unwrap_or("the task stopped, without a reason").trim_end_matches('.');
    let mut details: Vec<_> = task.containers().iter().filter_map(|container| detail(container, words)).collect();
    if details.is_empty() && task.stop_code() == Some(&TaskStopCode::EssentialContainerExited) {
        let ended = |container: &Container| container.exit_code().map(|code| said(container, code));
        details = task.containers().iter().filter_map(ended).collect();
    }
    one_line(&if details.is_empty() { words.to_owned() } else { format!("{words} ({})", details.join("; ")) })
}

fn said(container: &Container, code: i32) -> String {
    format!("{}: exit code {code}", container.name().unwrap_or("?"))
}

fn detail(container: &Container, words: &str) -> Option<String> {
    let code = container.exit_code().filter(|code| *code != 0);
    let reason =
        container.reason().filter(|reason| !reason.is_empty() && !words.contains(reason.trim_end_matches('.')));
    match (code, reason) {
        (None, None) => None,
        (Some(code), None) => Some(said(container, code)),
        (Some(code), Some(reason)) => Some(format!("{}, {reason}", said(container, code))),
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

    fn starts() -> StartsOf {
        let since = Timestamp::from_second(1000).expect("an instant");
        StartsOf { slot: Slot::Green, task_definition: NEW.to_owned(), since, beside: None }
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
    fn what_stopped_by_itself_is_told_with_its_containers_words() {
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
        let told: Vec<_> =
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
        assert_eq!(told, expected.map(|(task, reason)| (task.to_owned(), reason.to_owned())));
    }

    #[test]
    fn what_was_stopped_is_no_failed_start_unless_it_was_unhealthy() {
        let scaled = "Scaling activity initiated by (deployment ecs-svc/1)";
        let unhealthy = "Task failed ELB health checks in (target-group arn:aws:elasticloadbalancing:…)";
        let tasks = [
            stopped("scaled", 1100, TaskStopCode::ServiceSchedulerInitiated, scaled, vec![]),
            stopped("by-hand", 1100, TaskStopCode::UserInitiated, "Task stopped by user", vec![]),
            stopped("spot", 1100, TaskStopCode::SpotInterruption, "Your Spot Task was interrupted.", vec![]),
            stopped("unhealthy", 1100, TaskStopCode::ServiceSchedulerInitiated, unhealthy, vec![]),
        ];
        let told: Vec<_> = failed_starts(&tasks, &starts()).1.into_iter().map(|start| start.task).collect();
        assert_eq!(told, ["unhealthy"]);
    }

    #[test]
    fn only_the_named_task_definition_and_time_count_and_ten_at_most() {
        let crash = |id: &str, at| {
            stopped(id, at, TaskStopCode::EssentialContainerExited, "Essential container in task exited", vec![])
        };
        let mut other = crash("other", 1100);
        other.task_definition_arn = Some("arn:aws:ecs:eu-west-1:123456789012:task-definition/api:7".to_owned());
        assert_eq!(failed_starts(&[other, crash("before", 999)], &starts()), (0, vec![]));

        let many: Vec<_> = (0..15).map(|n| crash(&format!("task-{n}"), 1000 + n)).collect();
        let (count, told) = failed_starts(&many, &starts());
        assert_eq!((count, told.len()), (15, 10), "all are counted");
        assert_eq!(told[0].task, "task-14");
    }

    #[test]
    fn a_hooks_task_is_judged_by_the_named_container() {
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
