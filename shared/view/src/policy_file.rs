//! Problems of a policy file, shown with their line, and the changes that applying it makes.

use crate::journal::Tone;
use crate::layout::{WIDTH, hanging_indent};
use crate::paint::Paint;

/// One problem in a file.
#[derive(Debug, Clone, Copy)]
pub struct PolicyProblem<'a> {
    /// Line number, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Path in the file's structure; empty: the whole file.
    pub path: &'a str,
    /// The problem, the expectation, and the remedy.
    pub message: &'a str,
}

/// One difference between two policies; without `before` it was added, without `after` it was removed.
#[derive(Debug, Clone, Copy)]
pub struct PolicyDifference<'a> {
    /// Path in the file's structure.
    pub path: &'a str,
    /// The target concerned; empty: a service, an environment or a notification.
    pub target: &'a str,
    /// The old value.
    pub before: Option<&'a str>,
    /// The new value.
    pub after: Option<&'a str>,
}

/// `switchback.yaml:12:7: environments.prod…: message`, with the line and a caret under the column.
#[must_use]
pub fn policy_problem(file: &str, text: &str, policy_problem: PolicyProblem<'_>, paint: Paint) -> String {
    let PolicyProblem { line, column, path, message } = policy_problem;
    let location = paint.strong(&format!("{file}:{line}:{column}:"));
    let path = if path.is_empty() { String::new() } else { format!(" {path}:") };
    let mut output = format!("{location}{path} {message}\n");
    let Some(shown) = text.lines().nth(line.saturating_sub(1)) else { return output };
    // A tab is one character of the file and takes one cell here, so that the caret stays aligned.
    let shown = rollout::text::visible(shown);
    let gutter = format!("{line:>5} | ");
    let available = WIDTH - gutter.len();
    // For a column far to the right, only the part of the line around it is shown.
    let skipped = if column > available { column - available / 2 } else { 0 };
    let part: String = shown.chars().skip(skipped).take(available).collect();
    let mark = " ".repeat(column.saturating_sub(1 + skipped));
    output.push_str(&format!("{}{}\n", paint.faint(&gutter), part.trim_end()));
    output.push_str(&format!("{}{mark}{}\n", paint.faint("      | "), paint.tone(Tone::Bad, "^")));
    output
}

/// The differences, grouped by target.
#[must_use]
pub fn differences(differences: &[PolicyDifference<'_>], paint: Paint) -> String {
    let mut text = String::new();
    let mut group = None;
    // Differences of the whole application first; the rest keeps its order, which is by target.
    let mut targets: Vec<&str> = vec![""];
    targets.extend(differences.iter().map(|difference| difference.target).filter(|target| !target.is_empty()));
    let mut seen = std::collections::BTreeSet::new();
    targets.retain(|target| seen.insert(*target));
    let grouped = targets.iter().flat_map(|target| differences.iter().filter(move |other| other.target == *target));
    for difference in grouped {
        if group != Some(difference.target) {
            group = Some(difference.target);
            let heading = if difference.target.is_empty() { "services and environments" } else { difference.target };
            text.push_str(&format!("{}\n", paint.strong(heading)));
        }
        text.push_str(&one_difference(difference, paint));
    }
    text
}

fn one_difference(difference: &PolicyDifference<'_>, paint: Paint) -> String {
    // The path is relative to the target, whose name is the heading.
    let path = match difference.target.rsplit_once('/') {
        Some((front, environment)) => {
            let service = front.rsplit('/').next().unwrap_or(front);
            let start = format!("environments.{environment}.targets.{service}");
            difference.path.strip_prefix(&start).map_or(difference.path, |rest| rest.trim_start_matches('.'))
        }
        None => difference.path,
    };
    let name = if path.is_empty() { String::new() } else { format!("{path}: ") };
    let (tone, mark, words) = match (difference.before.map(spaced), difference.after.map(spaced)) {
        (None, Some(after)) => (Tone::Good, "+", format!("{name}{after}")),
        (Some(before), None) => (Tone::Bad, "-", format!("{name}{before}")),
        (before, after) => {
            (Tone::Warning, "~", format!("{name}{} → {}", before.unwrap_or_default(), after.unwrap_or_default()))
        }
    };
    format!("{}\n", hanging_indent(&format!("  {} ", paint.tone(tone, mark)), 4, &words))
}

/// JSON with spaces after commas and colons, so that lines can be wrapped there; other text unchanged.
fn spaced(value: &str) -> String {
    if !value.starts_with(['{', '[']) {
        return value.to_owned();
    }
    let (mut spaced, mut quoted, mut escaped) = (String::with_capacity(value.len()), false, false);
    for character in value.chars() {
        spaced.push(character);
        quoted ^= character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        if !quoted && matches!(character, ',' | ':') {
            spaced.push(' ');
        }
    }
    spaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_is_shown_with_its_line_and_a_caret() {
        let problem = PolicyProblem { line: 2, column: 9, path: "services.api", message: "`repo` is not known here" };
        let text = "services:\n  api: {repo: x}\n";
        assert_eq!(
            policy_problem("switchback.yaml", text, problem, Paint::PLAIN),
            "switchback.yaml:2:9: services.api: `repo` is not known here\n    2 |   api: {repo: x}\n      |         ^\n"
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_problem() {
        let text = format!("{}here{}", "x".repeat(300), "y".repeat(300));
        let shown =
            policy_problem("f", &text, PolicyProblem { line: 1, column: 301, path: "", message: "m" }, Paint::PLAIN);
        let lines: Vec<Vec<char>> = shown.lines().map(|line| line.chars().collect()).collect();
        let at = lines[2].iter().position(|it| *it == '^').expect("a mark");
        assert_eq!(lines[1][at..at + 4].iter().collect::<String>(), "here");
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{shown}");
    }

    #[test]
    fn problem_past_the_end_is_shown_without_a_line() {
        let output =
            policy_problem("f", "a\n", PolicyProblem { line: 9, column: 1, path: "", message: "m" }, Paint::PLAIN);
        assert_eq!(output, "f:9:1: m\n");
    }

    #[test]
    fn json_values_are_wrapped_and_never_truncated() {
        let group = format!("arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/{}/1", "a".repeat(32));
        let after = format!(r#"{{"ecs":{{"blue":"a \"b\", c","container":"api"}},"traffic":[{{"blue":"{group}"}}]}}"#);
        let new = PolicyDifference {
            path: "environments.dev.targets.api",
            target: "shop/api/dev",
            before: None,
            after: Some(&after),
        };
        let output = differences(&[new], Paint::PLAIN);
        assert!(output.contains(&format!("\"{group}\"")) && output.contains(r#""blue": "a \"b\", c","#), "{output}");
        assert!(output.lines().count() >= 3, "{output}");
    }

    #[test]
    fn differences_are_grouped_by_target() {
        let of = |target, path, before, after| PolicyDifference { path, target, before, after };
        let output = differences(
            &[
                of("", "services.api.paused", Some("true"), Some("false")),
                of("shop/api/prod", "environments.prod.targets.api.strategy.bake", Some("2m"), Some("3m")),
                of("shop/api/prod", "environments.prod.targets.api.traffic[0].test_rule", Some("arn"), None),
                of("shop/api/dev", "environments.dev.targets.api", None, Some("{}")),
            ],
            Paint::PLAIN,
        );
        assert_eq!(
            output,
            "services and environments\n  ~ services.api.paused: true → false\n\
             shop/api/prod\n  ~ strategy.bake: 2m → 3m\n\
             \x20 - traffic[0].test_rule: arn\nshop/api/dev\n  + {}\n"
        );
    }
}
