//! The hooks of one target, including an environment's defaults.

use crate::arn;
use crate::problem::{Mark, ProblemCollector};
use crate::target::{MIN_DEADLINE, container_name};
use crate::tree::{Node, Value};
use crate::values::{self, Fields, LocatedNode, Shape};
use rollout::policy::{Hook, HookAction, HookPoint};
use rollout::{Name, Seconds};
use std::collections::BTreeMap;

const MAX_HOOKS: usize = 10;
/// Maximum number of arguments of a command, and of their bytes in all: the overrides of `RunTask` take 8192 characters.
const MAX_ARGUMENTS: usize = 50;
const MAX_COMMAND_BYTES: usize = 4096;

pub(crate) const HOOKS: Shape =
    Shape { name: "Hooks", keys: &["before_traffic", "test_traffic", "after_traffic"], required: &[] };
pub(crate) const HOOK: Shape =
    Shape { name: "Hook", keys: &["name", "lambda", "task", "deadline", "forward_only"], required: &["name"] };
pub(crate) const TASK: Shape = Shape { name: "Task", keys: &["container", "command"], required: &[] };

/// Hooks by point; a missing point means that the mapping does not mention it.
pub(crate) type PartialHooks = BTreeMap<HookPoint, Vec<PartialHook>>;

/// A hook as the file specifies it.
#[derive(Debug, Clone)]
pub(crate) struct PartialHook {
    pub(crate) mark: Mark,
    pub(crate) path: String,
    name: Name,
    at: HookPoint,
    /// Name or ARN of a Lambda function; `None` for a task.
    pub(crate) function: Option<String>,
    /// Container of a task; `None` means the target's container, filled in by [`resolve_hooks`].
    container: Option<String>,
    command: Vec<String>,
    deadline: Seconds,
    forward_only: bool,
}

impl PartialHook {
    pub(crate) fn into_hook(self) -> Hook {
        let run = match self.function {
            Some(function) => HookAction::Lambda { function },
            None => HookAction::Task { container: self.container.unwrap_or_default(), command: self.command },
        };
        Hook { name: self.name, at: self.at, run, deadline: self.deadline, forward_only: self.forward_only }
    }
}

/// Reads a mapping of hooks.
pub(crate) fn read_partial_hooks(at: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> PartialHooks {
    let points = [
        ("before_traffic", HookPoint::BeforeTraffic),
        ("test_traffic", HookPoint::TestTraffic),
        ("after_traffic", HookPoint::AfterTraffic),
    ];
    let mut partial_hooks = PartialHooks::new();
    let Some(fields) = Fields::new(at, path, &HOOKS, problems) else { return partial_hooks };
    for (key, point) in points {
        let Some((at, path)) = fields.get(key) else { continue };
        let Some(nodes) = values::list(at, &path, "hooks", MAX_HOOKS, problems) else { continue };
        let hooks = nodes.into_iter().filter_map(|(at, path)| hook(at, &path, point, problems)).collect();
        partial_hooks.insert(point, hooks);
    }
    partial_hooks
}

fn hook(at: LocatedNode<'_>, path: &str, point: HookPoint, problems: &mut ProblemCollector) -> Option<PartialHook> {
    let fields = Fields::new(at, path, &HOOK, problems)?;
    let name = fields.read("name", problems, |at, path, problems| values::name(at, path, "the hook's name", problems));
    let deadline = match fields.get("deadline") {
        Some((at, path)) => values::duration(at, &path, MIN_DEADLINE, problems),
        None => Some(Seconds(600)),
    };
    let forward_only = match fields.get("forward_only") {
        Some((at, path)) => values::boolean(at, &path, problems),
        None => Some(false),
    };
    let lambda = fields.get("lambda");
    let task = fields.get("task");
    if lambda.is_some() == task.is_some() {
        let both_or_neither = if lambda.is_some() { "both" } else { "neither" };
        problems.add(at.mark, path, format!("there is {both_or_neither}: write exactly one of `lambda` and `task`"));
    }
    let function = lambda.map(|(at, path)| {
        let written = values::text(at, &path, "the name or the ARN of a Lambda function", problems)?;
        match arn::function(written) {
            Ok(_) => Some(written.to_owned()),
            Err(message) => {
                problems.add(at.mark, &path, message);
                None
            }
        }
    });
    let task = task.map(|(at, path)| run(at, &path, problems));
    let (function, (container, command)) = match (function, task) {
        (Some(function), None) => (Some(function?), (None, Vec::new())),
        (None, Some(task)) => (None, task?),
        _ => return None,
    };
    Some(PartialHook {
        mark: at.mark,
        path: path.to_owned(),
        name: name?,
        at: point,
        function,
        container,
        command,
        deadline: deadline?,
        forward_only: forward_only?,
    })
}

fn run(at: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<(Option<String>, Vec<String>)> {
    let fields = Fields::new(at, path, &TASK, problems)?;
    let container = fields.get("container").map(|(at, path)| container_name(at, &path, problems));
    let command = match fields.get("command") {
        Some((at, path)) => command(at, &path, problems),
        None => Some(Vec::new()),
    };
    let container = match container {
        Some(None) => return None,
        Some(container) => container,
        None => None,
    };
    Some((container, command?))
}

fn command(at: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<Vec<String>> {
    let nodes = values::list(at, path, "arguments", MAX_ARGUMENTS, problems)?;
    let mut command = Vec::new();
    let mut valid = true;
    for (at, path) in nodes {
        // A quoted empty argument is valid.
        let quoted_empty =
            matches!(at.node, Node { value: Value::Scalar { text, plain: false }, .. } if text.is_empty());
        match if quoted_empty { Some("") } else { values::text(at, &path, "an argument", problems) } {
            Some(argument) => command.push(argument.to_owned()),
            None => valid = false,
        }
    }
    let length: usize = command.iter().map(|argument| argument.len() + 3).sum();
    if length > MAX_COMMAND_BYTES {
        let message = format!(
            "the command takes {length} bytes, at most {MAX_COMMAND_BYTES} are allowed: put it into a script in the image"
        );
        problems.add(at.mark, path, message);
        return None;
    }
    valid.then_some(command)
}

/// The hooks of a target: its own, and its environment's defaults for each point that the target does not mention.
pub(crate) fn resolve_hooks(
    own: &PartialHooks,
    defaults: &PartialHooks,
    container: Option<&str>,
    mark: Mark,
    path: &str,
    problems: &mut ProblemCollector,
) -> Option<Vec<PartialHook>> {
    let points = [HookPoint::BeforeTraffic, HookPoint::TestTraffic, HookPoint::AfterTraffic];
    let mut hooks: Vec<PartialHook> =
        points.iter().filter_map(|point| own.get(point).or_else(|| defaults.get(point))).flatten().cloned().collect();
    if hooks.len() > MAX_HOOKS {
        problems.add(
            mark,
            path,
            format!("there are {} hooks in all, at most {MAX_HOOKS} are allowed in a target", hooks.len()),
        );
        return None;
    }
    let mut first: BTreeMap<&str, &PartialHook> = BTreeMap::new();
    for hook in &hooks {
        match first.get(hook.name.as_str()) {
            None => {
                first.insert(hook.name.as_str(), hook);
            }
            Some(other) => {
                // Reported at the target's own hook, if one of the two is.
                let inherited = |hook: &PartialHook| !hook.path.starts_with(path);
                let (here, there) = if inherited(hook) { (*other, hook) } else { (hook, *other) };
                let message = format!(
                    "the name `{}` is taken by `{}` (line {}): each hook of a target has its own",
                    hook.name, there.path, there.mark.line
                );
                problems.add(here.mark, &here.path, message);
            }
        }
    }
    for hook in &mut hooks {
        if hook.function.is_none() && hook.container.is_none() {
            hook.container = Some(container?.to_owned());
        }
    }
    Some(hooks)
}
