//! What applying the file would change, in the file's notation.
//!
//! Both policies are rendered in the file's notation, defaults included, and compared key by key: changing a default that a
//! target inherits is a change of that target.

use crate::render::render;
use rollout::{Name, Policy, TargetId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One difference between two policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// Path in the file: `environments.prod.targets.api.strategy.bake`.
    pub path: String,
    /// The target that the change affects; `None` where it affects something else.
    pub target: Option<TargetId>,
    /// The previous value in the file's notation; `None` where the key is new.
    pub before: Option<String>,
    /// The new value; `None` where the key was removed.
    pub after: Option<String>,
}

/// The differences from `before` to `after`, in the file's order; everything where there is no previous policy.
#[must_use]
pub fn changes(before: Option<&Policy>, after: &Policy) -> Vec<PolicyChange> {
    const NAMED_SECTIONS: [&str; 4] = ["services", "people", "groups", "environments"];
    let (mut old, mut new) = (before.map_or_else(|| json!({}), render), render(after));
    for policy in [&mut old, &mut new] {
        // A missing section counts as empty, so that its entries are reported by name.
        for key in NAMED_SECTIONS {
            if policy.get(key).is_none() {
                policy[key] = json!({});
            }
        }
    }
    let mut changes = Vec::new();
    compare(&after.application, &mut Vec::new(), &old, &new, &mut changes);
    changes
}

fn compare(application: &Name, path: &mut Vec<String>, old: &Value, new: &Value, changes: &mut Vec<PolicyChange>) {
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
            Some(Value::Array(old))
                if key == "traffic" && value.as_array().is_some_and(|new| new.len() == old.len()) =>
            {
                // As many load balancers as before: each is compared with itself.
                for (number, (old, new)) in old.iter().zip(value.as_array().into_iter().flatten()).enumerate() {
                    let entry = format!("traffic[{number}]");
                    let list = path.pop();
                    path.push(entry);
                    compare(application, path, old, new, changes);
                    path.pop();
                    path.extend(list);
                }
            }
            Some(old) => compare(application, path, old, value, changes),
            // A whole new environment is reported target by target.
            None if path.len() == 2 && path[0] == "environments" => {
                compare(application, path, &json!({"targets": {}}), value, changes);
            }
            None => changes.push(change(application, path, None, Some(value))),
        }
        path.pop();
    }
}

fn change(application: &Name, path: &[String], before: Option<&Value>, after: Option<&Value>) -> PolicyChange {
    let target = match path {
        [environments, environment, targets, service, ..] if environments == "environments" && targets == "targets" => {
            TargetId::parse(&format!("{application}/{service}/{environment}")).ok()
        }
        _ => None,
    };
    PolicyChange { path: path.join("."), target, before: before.map(to_text), after: after.map(to_text) }
}

fn to_text(value: &Value) -> String {
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
    fn a_rendered_policy_parses_to_the_same_policy() {
        let policy = parse(EXAMPLE).expect("sound");
        let again = parse(&render(&policy).to_string()).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(again, policy);
        assert_eq!(changes(Some(&policy), &again), []);
    }

    #[test]
    fn a_change_has_its_path_old_and_new_value() {
        let before = parse(EXAMPLE).expect("sound");
        let after = EXAMPLE
            .replace("bake: 30m", "bake: 45m")
            .replace("bake: 2m", "bake: 3m")
            .replace("paused: true ", "paused: false ")
            .replace("            test_rule: arn", "            #");
        let after = parse(&after).unwrap_or_else(|problems| panic!("{problems}"));
        let actual: Vec<_> = changes(Some(&before), &after)
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
            actual,
            [
                "shop/api/dev environments.dev.targets.api.strategy.bake: 2m -> 3m",
                "shop/api/prod environments.prod.targets.api.strategy.bake: 30m -> 45m",
                "shop/api/prod environments.prod.targets.api.traffic[0].test_rule: arn:aws:elasticloadbalancing:\
                 eu-central-1:444455556666:listener-rule/app/shop/2123456789abcdef/3123456789abcdef/6123456789abcdef -> ",
                "- services.worker-api.paused: true -> false",
            ]
        );
    }

    #[test]
    fn the_first_apply_lists_every_target() {
        let policy = parse(EXAMPLE).expect("sound");
        let actual = changes(None, &policy);
        let targets: Vec<_> =
            actual.iter().filter_map(|change| change.target.as_ref().map(ToString::to_string)).collect();
        assert_eq!(
            targets,
            ["shop/api/dev", "shop/api/prod", "shop/api/qa", "shop/site/qa", "shop/worker-api/qa", "shop/api/staging"]
        );
        assert!(actual.iter().all(|change| change.before.is_none()));
        let mentioned =
            |name: &str| actual.iter().any(|change| change.after.as_ref().is_some_and(|after| after.contains(name)));
        for name in ["targetgroup/api-blue/0123456789abcde1", "listener/app/shop-dev/0123456789abcdef/1123456789abcdef"]
        {
            assert!(mentioned(name), "{name}");
        }
    }
}
