//! What an application of the file would change, in the file's own words.
//!
//! Both policies are written out in the file's notation, defaults included, and compared key by key: a change of a
//! default that a target takes over is a change of that target.

use crate::notation::notation;
use rollout::{Name, Policy, TargetId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One difference between two policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Where in the file: `environments.prod.targets.api.strategy.bake`.
    pub path: String,
    /// The target that it is a change of; none: of anything else.
    pub target: Option<TargetId>,
    /// What stood there, in the file's notation; none: nothing, it is new.
    pub before: Option<String>,
    /// What stands there now; none: nothing, it was taken away.
    pub after: Option<String>,
}

/// The differences from `before` to `after`, in the file's order; all of it where there was nothing before.
#[must_use]
pub fn changes(before: Option<&Policy>, after: &Policy) -> Vec<Change> {
    const NAMED: [&str; 4] = ["services", "people", "groups", "environments"];
    let (mut old, mut new) = (before.map_or_else(|| json!({}), notation), notation(after));
    for policy in [&mut old, &mut new] {
        // A section that is not there has no entries: what comes or goes is told by its name.
        for key in NAMED {
            if policy.get(key).is_none() {
                policy[key] = json!({});
            }
        }
    }
    let mut changes = Vec::new();
    compare(&after.application, &mut Vec::new(), &old, &new, &mut changes);
    changes
}

fn compare(application: &Name, path: &mut Vec<String>, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else {
        if old != new {
            changes.push(change(application, path, Some(old), Some(new)));
        }
        return;
    };
    for (key, value) in before {
        if !after.contains_key(key) {
            path.push(key.clone());
            changes.push(change(application, path, Some(value), None));
            path.pop();
        }
    }
    for (key, value) in after {
        path.push(key.clone());
        match before.get(key) {
            Some(old) => compare(application, path, old, value, changes),
            // A whole new environment is told target by target.
            None if path.len() == 2 && path[0] == "environments" => {
                compare(application, path, &json!({"targets": {}}), value, changes);
            }
            None => changes.push(change(application, path, None, Some(value))),
        }
        path.pop();
    }
}

fn change(application: &Name, path: &[String], before: Option<&Value>, after: Option<&Value>) -> Change {
    let target = match path {
        [environments, environment, targets, service, ..] if environments == "environments" && targets == "targets" => {
            TargetId::parse(&format!("{application}/{service}/{environment}")).ok()
        }
        _ => None,
    };
    Change { path: path.join("."), target, before: before.map(words), after: after.map(words) }
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    const EXAMPLE: &str = include_str!("../examples/switchback.yaml");

    #[test]
    fn what_is_written_out_is_read_again_as_it_was() {
        let policy = parse(EXAMPLE).expect("sound");
        let again = parse(&notation(&policy).to_string()).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(again, policy);
        assert_eq!(changes(Some(&policy), &again), []);
    }

    #[test]
    fn a_change_says_where_and_from_what_to_what() {
        let before = parse(EXAMPLE).expect("sound");
        let after = EXAMPLE
            .replace("bake: 30m", "bake: 45m")
            .replace("bake: 2m", "bake: 3m")
            .replace("paused: true ", "paused: false ")
            .replace("        test_rule: arn", "        #");
        let after = parse(&after).unwrap_or_else(|problems| panic!("{problems}"));
        let told: Vec<_> = changes(Some(&before), &after)
            .into_iter()
            .map(|change| {
                let target = change.target.map_or_else(|| "-".to_owned(), |target| target.to_string());
                format!(
                    "{target} {}: {} -> {}",
                    change.path,
                    change.before.unwrap_or_default(),
                    change.after.unwrap_or_default()
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "shop/api/dev environments.dev.targets.api.strategy.bake: 2m -> 3m",
                "shop/api/prod environments.prod.targets.api.test_rule: arn:aws:elasticloadbalancing:eu-central-1:\
                 444455556666:listener-rule/app/shop/2123456789abcdef/3123456789abcdef/6123456789abcdef -> ",
                "shop/api/prod environments.prod.targets.api.strategy.bake: 30m -> 45m",
                "- services.worker-api.paused: true -> false",
            ]
        );
    }

    #[test]
    fn a_first_application_names_every_target() {
        let policy = parse(EXAMPLE).expect("sound");
        let told = changes(None, &policy);
        let targets: Vec<_> =
            told.iter().filter_map(|change| change.target.as_ref().map(ToString::to_string)).collect();
        assert_eq!(targets, ["shop/api/dev", "shop/api/prod", "shop/api/qa", "shop/api/staging"]);
        assert!(told.iter().all(|change| change.before.is_none()));
        let whole =
            |name: &str| told.iter().any(|change| change.after.as_ref().is_some_and(|after| after.contains(name)));
        for name in ["targetgroup/api-blue/0123456789abcde1", "listener/app/shop-dev/0123456789abcdef/1123456789abcdef"]
        {
            assert!(whole(name), "{name}");
        }
    }
}
