//! Findings of `doctor` with their remedies, and the attributes that Terraform must ignore.

use crate::journal::Tone;
use crate::layout::hanging_indent;
use crate::paint::Paint;
use rollout::TargetId;
use rollout::doctor::terraform::IgnoredAttributes;
use rollout::doctor::{Finding, Severity};

/// Tone and name of a severity.
fn severity(severity: Severity) -> (Tone, &'static str) {
    match severity {
        Severity::Broken => (Tone::Bad, "broken"),
        Severity::Risky => (Tone::Warning, "risky"),
        Severity::Unread => (Tone::Warning, "not read"),
        Severity::Advice => (Tone::Plain, "advice"),
    }
}

/// The findings of one target, the most severe first: the problem, and below it the remedy.
#[must_use]
pub fn findings(target: &TargetId, judged_by: &str, findings: &[Finding], paint: Paint) -> String {
    let mut text =
        format!("{}  {}, judged by {judged_by}\n", paint.strong(&target.to_string()), summary(findings, paint));
    for finding in findings {
        let (tone, name) = severity(finding.severity);
        let head = format!("  {} ", paint.mark(tone));
        let Finding { subject, problem, remedy, check, .. } = finding;
        text.push_str(&format!("{}\n", hanging_indent(&head, 4, &format!("{subject}: {problem}"))));
        text.push_str(&format!("{}\n", hanging_indent("    → ", 6, remedy)));
        text.push_str(&format!("    {}\n", paint.faint(&format!("{name}, {check}"))));
    }
    text
}

/// `2 broken, 1 risky`
fn summary(findings: &[Finding], paint: Paint) -> String {
    let all = [Severity::Broken, Severity::Risky, Severity::Unread, Severity::Advice];
    let counted = all.into_iter().filter_map(|wanted| {
        let count = findings.iter().filter(|finding| finding.severity == wanted).count();
        let (tone, name) = severity(wanted);
        (count > 0).then(|| paint.tone(tone, &format!("{count} {name}")))
    });
    let parts: Vec<String> = counted.collect();
    if parts.is_empty() { paint.tone(Tone::Good, "nothing is wrong") } else { parts.join(", ") }
}

/// `ignore_changes` blocks for Terraform's configuration, one per resource, under its real name.
#[must_use]
pub fn terraform(ignored: &[IgnoredAttributes], paint: Paint) -> String {
    let mut text = "Switchback changes these while it deploys; Terraform must leave them alone:\n".to_owned();
    for entry in ignored {
        let attributes = entry.attributes.join(", ");
        text.push_str(&format!("\n  {}\n", paint.faint(&format!("# {} {}", entry.resource, entry.name))));
        text.push_str(&format!("  lifecycle {{ ignore_changes = [{attributes}] }}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity) -> Finding {
        Finding {
            severity,
            check: "alarm_missing".to_owned(),
            subject: "alarm api-5xx".to_owned(),
            problem: "there is no alarm of this name".to_owned(),
            remedy: "create it".to_owned(),
        }
    }

    fn target() -> TargetId {
        TargetId::parse("shop/api/prod").expect("a target")
    }

    #[test]
    fn findings_show_place_problem_and_remedy() {
        let output =
            findings(&target(), "version 3", &[finding(Severity::Broken), finding(Severity::Advice)], Paint::PLAIN);
        let expected = "shop/api/prod  1 broken, 1 advice, judged by version 3\n\
                        \x20 ✗ alarm api-5xx: there is no alarm of this name\n\
                        \x20   → create it\n\
                        \x20   broken, alarm_missing\n\
                        \x20 · alarm api-5xx: there is no alarm of this name\n\
                        \x20   → create it\n\
                        \x20   advice, alarm_missing\n";
        assert_eq!(output, expected);
        let output = findings(&target(), "version 3", &[], Paint::PLAIN);
        assert_eq!(output, "shop/api/prod  nothing is wrong, judged by version 3\n");
    }

    #[test]
    fn prints_a_pasteable_ignore_changes_block() {
        let ignored = IgnoredAttributes {
            resource: "aws_ecs_service".to_owned(),
            name: "shop/api-blue".to_owned(),
            attributes: vec!["task_definition".to_owned(), "desired_count".to_owned()],
        };
        let output = terraform(&[ignored], Paint::PLAIN);
        let pasted =
            "  # aws_ecs_service shop/api-blue\n  lifecycle { ignore_changes = [task_definition, desired_count] }\n";
        assert!(output.ends_with(pasted), "{output}");
    }
}
