//! The hooks of one target, including an environment's defaults.

use crate::problem::{Mark, ProblemCollector};
use crate::tree::{Node, Value};
use crate::values::{self, Fields, LocatedNode, MIN_DEADLINE};
use crate::{arn, file};
use rollout::policy::{Hook, HookAction, HookPoint};
use rollout::{Name, Seconds};
use std::collections::BTreeMap;

const MAX_HOOKS: usize = 10;
/// Maximum number of arguments of a command, and of their bytes in all: the overrides of `RunTask` take 8192 characters.
const MAX_ARGUMENTS: usize = 50;
const MAX_COMMAND_BYTES: usize = 4096;

/// The points at which hooks run, in their order, in the file's notation.
pub(crate) const POINTS: [(&str, HookPoint); 3] = [
    ("before_traffic", HookPoint::BeforeTraffic),
    ("test_traffic", HookPoint::TestTraffic),
    ("after_traffic", HookPoint::AfterTraffic),
];

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
pub(crate) fn read_partial_hooks(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> PartialHooks {
    let mut partial_hooks = PartialHooks::new();
    let Some(fields) = Fields::new(node, path, file::Hooks::KEYS, problems) else { return partial_hooks };
    for (key, point) in POINTS {
        let Some((node, path)) = fields.get(key) else { continue };
        let Some(nodes) = values::list(node, &path, "hooks", MAX_HOOKS, problems) else { continue };
        let hooks = nodes.into_iter().filter_map(|(node, path)| read_hook(node, &path, point, problems)).collect();
        partial_hooks.insert(point, hooks);
    }
    partial_hooks
}

fn read_hook(
    node: LocatedNode<'_>,
    path: &str,
    point: HookPoint,
    problems: &mut ProblemCollector,
) -> Option<PartialHook> {
    let fields = Fields::new(node, path, file::Hook::KEYS, problems)?;
    let name =
        fields.read("name", problems, |node, path, problems| values::name(node, path, "the hook's name", problems));
    let deadline = fields.read_or("deadline", Seconds(600), problems, |node, path, problems| {
        values::duration(node, path, MIN_DEADLINE, problems)
    });
    let forward_only = fields.read_or("forward_only", false, problems, values::boolean);
    let lambda = fields.get("lambda");
    let task = fields.get("task");
    if lambda.is_some() == task.is_some() {
        let both_or_neither = if lambda.is_some() { "both" } else { "neither" };
        problems.add(node.mark, path, format!("there is {both_or_neither}: write exactly one of `lambda` and `task`"));
    }
    let function = lambda.map(|(node, path)| {
        let check = |written: &str| arn::function(written).map(|_| ());
        values::checked_text(node, &path, "the name or the ARN of a Lambda function", check, problems)
    });
    let task = task.map(|(node, path)| read_task(node, &path, problems));
    let (function, (container, command)) = match (function, task) {
        (Some(function), None) => (Some(function?), (None, Vec::new())),
        (None, Some(task)) => (None, task?),
        _ => return None,
    };
    Some(PartialHook {
        mark: node.mark,
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

fn read_task(
    node: LocatedNode<'_>,
    path: &str,
    problems: &mut ProblemCollector,
) -> Option<(Option<String>, Vec<String>)> {
    let fields = Fields::new(node, path, file::Task::KEYS, problems)?;
    let container = fields.read_or("container", None, problems, |node, path, problems| {
        values::checked_text(node, path, "the name of a container", arn::container, problems).map(Some)
    });
    let command = fields.read_or("command", Vec::new(), problems, read_command);
    Some((container?, command?))
}

fn read_command(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<Vec<String>> {
    let nodes = values::list(node, path, "arguments", MAX_ARGUMENTS, problems)?;
    let mut command = Vec::new();
    let mut valid = true;
    for (node, path) in nodes {
        // A quoted empty argument is valid.
        let quoted_empty =
            matches!(node.inner, Node { value: Value::Scalar { text, plain: false }, .. } if text.is_empty());
        match if quoted_empty { Some("") } else { values::text(node, &path, "an argument", problems) } {
            Some(argument) => command.push(argument.to_owned()),
            None => valid = false,
        }
    }
    let length: usize = command.iter().map(|argument| argument.len() + 3).sum();
    if length > MAX_COMMAND_BYTES {
        let message = format!(
            "the command takes {length} bytes, at most {MAX_COMMAND_BYTES} are allowed: put it into a script in the image"
        );
        problems.add(node.mark, path, message);
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
    let of_point = |(_, point): &(&str, HookPoint)| own.get(point).or_else(|| defaults.get(point));
    let mut hooks: Vec<PartialHook> = POINTS.iter().filter_map(of_point).flatten().cloned().collect();
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
