//! Templates: how a new version's configuration differs from the live one.

use rollout::template::{TemplateChange, TemplateReading};

/// The template, and each difference in a line of its own.
pub(crate) fn template_lines(template: &TemplateReading) -> Vec<String> {
    let name = template.version.rsplit('/').next().unwrap_or_default();
    if template.is_unchanged() {
        return vec![format!("configuration of {name}")];
    }
    let more = (template.more > 0).then(|| format!("and {} more differences", template.more));
    let head = format!("configuration of {name}, which differs from what is live:");
    [head].into_iter().chain(template.changes.iter().map(change)).chain(more).collect()
}

/// One difference: `cpu: 256, becomes 512`.
fn change(change: &TemplateChange) -> String {
    let TemplateChange { field, before, after } = change;
    match (before, after) {
        (Some(before), Some(after)) => format!("{field}: {before}, becomes {after}"),
        (None, Some(after)) => format!("{field}: added, {after}"),
        (Some(before), None) => format!("{field}: removed, it was {before}"),
        (None, None) => field.clone(),
    }
}

/// The template and its differences in one sentence.
pub(crate) fn template_sentence(template: &TemplateReading) -> String {
    template_lines(template).join("; ").replacen(":; ", ": ", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_is_shown_with_both_values() {
        let change = |field: &str, before: Option<&str>, after: Option<&str>| TemplateChange {
            field: field.to_owned(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        };
        let changes = vec![
            change("cpu", Some("256"), Some("512")),
            change("container app: secrets TOKEN", None, Some("arn:token")),
        ];
        let template = TemplateReading::new("arn:aws:ecs:…:task-definition/shop-api:14".to_owned(), changes);
        assert_eq!(
            template_sentence(&template),
            "configuration of shop-api:14, which differs from what is live: cpu: 256, becomes 512; container app: \
             secrets TOKEN: added, arn:token"
        );
    }
}
