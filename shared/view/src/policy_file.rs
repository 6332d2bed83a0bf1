//! What is wrong with a policy file, with the line shown; and what an application of it changes.

use crate::journal::Tone;
use crate::layout::{WIDTH, beside};
use crate::paint::Paint;

/// One problem of a file.
#[derive(Debug, Clone, Copy)]
pub struct Flaw<'a> {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Where in the file's structure; empty: the file itself.
    pub path: &'a str,
    /// What is wrong, what was expected, and what to do.
    pub message: &'a str,
}

/// One difference between two policies; without a `before` it is new, without an `after` it was taken away.
#[derive(Debug, Clone, Copy)]
pub struct Difference<'a> {
    /// Where in the file.
    pub path: &'a str,
    /// The target that it is of; empty: a service, an environment or a notification.
    pub target: &'a str,
    /// What stood there.
    pub before: Option<&'a str>,
    /// What stands there now.
    pub after: Option<&'a str>,
}

/// `switchback.yaml:12:7: environments.prod…: message`, with the line and a mark under the place.
#[must_use]
pub fn flaw(file: &str, text: &str, flaw: Flaw<'_>, paint: Paint) -> String {
    let Flaw { line, column, path, message } = flaw;
    let place = paint.strong(&format!("{file}:{line}:{column}:"));
    let path = if path.is_empty() { String::new() } else { format!(" {path}:") };
    let mut said = format!("{place}{path} {message}\n");
    let Some(shown) = text.lines().nth(line.saturating_sub(1)) else { return said };
    // A tab is one character of the file and one cell here: the mark stays under its place.
    let shown = rollout::text::visible(shown);
    let gutter = format!("{line:>5} | ");
    let room = WIDTH - gutter.len();
    // A place far to the right is shown with what stands around it.
    let skipped = if column > room { column - room / 2 } else { 0 };
    let part: String = shown.chars().skip(skipped).take(room).collect();
    let mark = " ".repeat(column.saturating_sub(1 + skipped));
    said.push_str(&format!("{}{}\n", paint.faint(&gutter), part.trim_end()));
    said.push_str(&format!("{}{mark}{}\n", paint.faint("      | "), paint.tone(Tone::Bad, "^")));
    said
}

/// The differences, grouped by target.
#[must_use]
pub fn differences(differences: &[Difference<'_>], paint: Paint) -> String {
    let mut text = String::new();
    let mut group = None;
    // What is the whole application's first; the rest as it comes, which is target by target.
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

fn one_difference(difference: &Difference<'_>, paint: Paint) -> String {
    // Under the target's name its path in the file goes without saying.
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
    format!("{}\n", beside(&format!("  {} ", paint.tone(tone, mark)), 4, &words))
}

/// JSON with spaces after its commas and colons, so that lines can be broken there; other text as it is.
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
    fn a_problem_is_shown_in_its_line() {
        let problem = Flaw { line: 2, column: 9, path: "services.api", message: "`repo` is not known here" };
        let text = "services:\n  api: {repo: x}\n";
        assert_eq!(
            flaw("switchback.yaml", text, problem, Paint::PLAIN),
            "switchback.yaml:2:9: services.api: `repo` is not known here\n    2 |   api: {repo: x}\n      |         ^\n"
        );
    }

    #[test]
    fn a_problem_far_to_the_right_is_shown_too() {
        let text = format!("{}here{}", "x".repeat(300), "y".repeat(300));
        let shown = flaw("f", &text, Flaw { line: 1, column: 301, path: "", message: "m" }, Paint::PLAIN);
        let lines: Vec<Vec<char>> = shown.lines().map(|line| line.chars().collect()).collect();
        let at = lines[2].iter().position(|it| *it == '^').expect("a mark");
        assert_eq!(lines[1][at..at + 4].iter().collect::<String>(), "here");
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{shown}");
    }

    #[test]
    fn a_problem_past_the_end_is_said_without_a_line() {
        let said = flaw("f", "a\n", Flaw { line: 9, column: 1, path: "", message: "m" }, Paint::PLAIN);
        assert_eq!(said, "f:9:1: m\n");
    }

    #[test]
    fn a_value_of_several_parts_is_broken_between_them_and_never_cut() {
        let group = format!("arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/{}/1", "a".repeat(32));
        let after = format!(r#"{{"blue":{{"service":"a \"b\", c","target_group":"{group}"}},"container":"api"}}"#);
        let new = Difference {
            path: "environments.dev.targets.api",
            target: "shop/api/dev",
            before: None,
            after: Some(&after),
        };
        let said = differences(&[new], Paint::PLAIN);
        assert!(said.contains(&format!("\"{group}\"}},\n")) && said.contains(r#""service": "a \"b\", c","#), "{said}");
        assert!(said.lines().count() >= 4, "{said}");
    }

    #[test]
    fn differences_stand_under_their_target() {
        let of = |target, path, before, after| Difference { path, target, before, after };
        let said = differences(
            &[
                of("", "services.api.paused", Some("true"), Some("false")),
                of("shop/api/prod", "environments.prod.targets.api.strategy.bake", Some("2m"), Some("3m")),
                of("shop/api/prod", "environments.prod.targets.api.test_rule", Some("arn"), None),
                of("shop/api/dev", "environments.dev.targets.api", None, Some("{}")),
            ],
            Paint::PLAIN,
        );
        assert_eq!(
            said,
            "services and environments\n  ~ services.api.paused: true → false\nshop/api/prod\n  ~ strategy.bake: 2m → 3m\n\
             \x20 - test_rule: arn\nshop/api/dev\n  + {}\n"
        );
    }
}
