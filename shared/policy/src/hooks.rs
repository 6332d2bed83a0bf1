//! The hooks of one target, an environment's defaults included.

use crate::arn;
use crate::problem::{Found, Mark};
use crate::target::{SHORTEST_DEADLINE, container_name};
use crate::tree::{Node, Value};
use crate::walk::{self, At, Fields, Shape};
use rollout::policy::{Hook, HookAction, HookPoint};
use rollout::{Name, Seconds};
use std::collections::BTreeMap;

const MOST_HOOKS: usize = 10;
/// How many arguments a command may have, and how many bytes in all: `RunTask`'s overrides take 8192 characters.
const MOST_ARGUMENTS: usize = 50;
const LONGEST_COMMAND: usize = 4096;

pub(crate) const HOOKS: Shape =
    Shape { name: "Hooks", keys: &["before_traffic", "test_traffic", "after_traffic"], required: &[] };
pub(crate) const HOOK: Shape =
    Shape { name: "Hook", keys: &["name", "lambda", "task", "deadline", "forward_only"], required: &["name"] };
pub(crate) const TASK: Shape = Shape { name: "Task", keys: &["container", "command"], required: &[] };

/// The hooks that are named for each point; a point that is not there is not spoken of.
pub(crate) type HookWishes = BTreeMap<HookPoint, Vec<HookWish>>;

/// A hook as the file names it.
#[derive(Debug, Clone)]
pub(crate) struct HookWish {
    pub(crate) mark: Mark,
    pub(crate) path: String,
    name: Name,
    at: HookPoint,
    /// A function's name or ARN; none: a task.
    pub(crate) function: Option<String>,
    /// Of a task; none: the target's container, filled in by [`settle_hooks`].
    container: Option<String>,
    command: Vec<String>,
    deadline: Seconds,
    forward_only: bool,
}

impl HookWish {
    pub(crate) fn into_hook(self) -> Hook {
        let run = match self.function {
            Some(function) => HookAction::Lambda { function },
            None => HookAction::Task { container: self.container.unwrap_or_default(), command: self.command },
        };
        Hook { name: self.name, at: self.at, run, deadline: self.deadline, forward_only: self.forward_only }
    }
}

/// Reads a mapping of hooks.
pub(crate) fn hook_wishes(at: At<'_>, path: &str, found: &mut Found) -> HookWishes {
    let points = [
        ("before_traffic", HookPoint::BeforeTraffic),
        ("test_traffic", HookPoint::TestTraffic),
        ("after_traffic", HookPoint::AfterTraffic),
    ];
    let mut wishes = HookWishes::new();
    let Some(fields) = Fields::new(at, path, &HOOKS, found) else { return wishes };
    for (key, point) in points {
        let Some((at, path)) = fields.get(key) else { continue };
        let Some(nodes) = walk::list(at, &path, "hooks", MOST_HOOKS, found) else { continue };
        let hooks = nodes.into_iter().filter_map(|(at, path)| hook(at, &path, point, found)).collect();
        wishes.insert(point, hooks);
    }
    wishes
}

fn hook(at: At<'_>, path: &str, point: HookPoint, found: &mut Found) -> Option<HookWish> {
    let fields = Fields::new(at, path, &HOOK, found)?;
    let name = fields.read("name", found, |at, path, found| walk::name(at, path, "the hook's name", found));
    let deadline = match fields.get("deadline") {
        Some((at, path)) => walk::duration(at, &path, SHORTEST_DEADLINE, found),
        None => Some(Seconds(600)),
    };
    let forward_only = match fields.get("forward_only") {
        Some((at, path)) => walk::boolean(at, &path, found),
        None => Some(false),
    };
    let lambda = fields.get("lambda");
    let task = fields.get("task");
    if lambda.is_some() == task.is_some() {
        let found_so = if lambda.is_some() { "both" } else { "neither" };
        found.add(at.mark, path, format!("there is {found_so}: write exactly one of `lambda` and `task`"));
    }
    let function = lambda.map(|(at, path)| {
        let written = walk::text(at, &path, "the name or the ARN of a Lambda function", found)?;
        match arn::function(written) {
            Ok(_) => Some(written.to_owned()),
            Err(message) => {
                found.add(at.mark, &path, message);
                None
            }
        }
    });
    let task = task.map(|(at, path)| run(at, &path, found));
    let (function, (container, command)) = match (function, task) {
        (Some(function), None) => (Some(function?), (None, Vec::new())),
        (None, Some(task)) => (None, task?),
        _ => return None,
    };
    Some(HookWish {
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

fn run(at: At<'_>, path: &str, found: &mut Found) -> Option<(Option<String>, Vec<String>)> {
    let fields = Fields::new(at, path, &TASK, found)?;
    let container = fields.get("container").map(|(at, path)| container_name(at, &path, found));
    let command = match fields.get("command") {
        Some((at, path)) => command(at, &path, found),
        None => Some(Vec::new()),
    };
    let container = match container {
        Some(None) => return None,
        Some(container) => container,
        None => None,
    };
    Some((container, command?))
}

fn command(at: At<'_>, path: &str, found: &mut Found) -> Option<Vec<String>> {
    let nodes = walk::list(at, path, "arguments", MOST_ARGUMENTS, found)?;
    let mut command = Vec::new();
    let mut sound = true;
    for (at, path) in nodes {
        // An empty argument in quotes is one.
        let quoted_nothing =
            matches!(at.node, Node { value: Value::Scalar { text, plain: false }, .. } if text.is_empty());
        match if quoted_nothing { Some("") } else { walk::text(at, &path, "an argument", found) } {
            Some(argument) => command.push(argument.to_owned()),
            None => sound = false,
        }
    }
    let length: usize = command.iter().map(|argument| argument.len() + 3).sum();
    if length > LONGEST_COMMAND {
        let message = format!(
            "the command takes {length} bytes, at most {LONGEST_COMMAND} are allowed: put it into a script in the image"
        );
        found.add(at.mark, path, message);
        return None;
    }
    sound.then_some(command)
}

/// The hooks of a target: its own, and its environment's for each point that it does not speak of.
pub(crate) fn settle_hooks(
    own: &HookWishes,
    defaults: &HookWishes,
    container: Option<&str>,
    mark: Mark,
    path: &str,
    found: &mut Found,
) -> Option<Vec<HookWish>> {
    let points = [HookPoint::BeforeTraffic, HookPoint::TestTraffic, HookPoint::AfterTraffic];
    let mut hooks: Vec<HookWish> =
        points.iter().filter_map(|point| own.get(point).or_else(|| defaults.get(point))).flatten().cloned().collect();
    if hooks.len() > MOST_HOOKS {
        found.add(
            mark,
            path,
            format!("there are {} hooks in all, at most {MOST_HOOKS} are allowed in a target", hooks.len()),
        );
        return None;
    }
    let mut first: BTreeMap<&str, &HookWish> = BTreeMap::new();
    for hook in &hooks {
        match first.get(hook.name.as_str()) {
            None => {
                first.insert(hook.name.as_str(), hook);
            }
            Some(other) => {
                // Reported where the target says it, if one of them is its own.
                let inherited = |hook: &HookWish| !hook.path.starts_with(path);
                let (here, there) = if inherited(hook) { (*other, hook) } else { (hook, *other) };
                let message = format!(
                    "the name `{}` is taken by `{}` (line {}): each hook of a target has its own",
                    hook.name, there.path, there.mark.line
                );
                found.add(here.mark, &here.path, message);
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
