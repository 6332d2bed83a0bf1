//! The log of a deployment: one filter over the logs of all functions tells all of it.

use super::shop::{Shop, ok};
use rollout::{Fact, JournalEntry};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;
use tests::harness::scenario::Scenario;
use tests::harness::{packages, stack};

/// The filter, as operators write it: `target_id = … and (deployment = … or (release = … and not ispresent(deployment)))`.
fn lines(scene: &Scenario, number: u64, digest: &str) -> Vec<(String, Value)> {
    let mut lines = Vec::new();
    for function in ok(packages::functions()) {
        for line in ok(stack().function_log(&function)).lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            let of_it = line["deployment"] == number || line["deployment"].is_null() && line["release"] == digest;
            if line["target_id"] == scene.target().as_str() && of_it {
                lines.push((function.clone(), line));
            }
        }
    }
    lines
}

fn matching_lines<'a>(lines: &'a [(String, Value)], function: &str, message: &str) -> Vec<&'a Value> {
    let fits = |(of, line): &&(String, Value)| of == function && line["message"] == message;
    lines.iter().filter(fits).map(|(_, line)| line).collect()
}

/// The ids of the commands that the lines name.
fn commands(lines: &[&Value]) -> BTreeSet<String> {
    lines.iter().filter_map(|line| line["command_id"].as_str()).map(str::to_owned).collect()
}

/// Of a release that was pushed to dev, promoted to staging by a workflow, and approved for prod in Slack, as deployment
/// #1 of each.
pub(super) fn assert_log_is_complete(shop: &Shop, tag: &str) {
    let requested_by = ["image-pushed", "promotions", "rollout-driver"];
    for (scene, requested_by) in shop.environments.iter().zip(requested_by) {
        let record = scene.verdict(1);
        assert_eq!(record.release.tag, tag);
        let digest = record.release.id.digest.to_string();
        let journal: Vec<JournalEntry> =
            scene.journal().into_iter().filter(|entry| entry.deployment == Some(1)).collect();
        scene.expect("the log tells the story", Duration::from_secs(30), || {
            let lines = lines(scene, 1, &digest);
            let check = |holds: bool, what: &str| {
                if holds { Ok(()) } else { Err(format!("{what}, by {lines:#?}")) }
            };
            // Who asked, and that the driver has heard it.
            let received_commands = commands(&matching_lines(&lines, "rollout-driver", "a command was consumed"));
            let requested_commands = match requested_by {
                "image-pushed" => commands(&matching_lines(&lines, requested_by, "its deployment is asked for")),
                "promotions" => commands(&matching_lines(&lines, requested_by, "a command was written")),
                // Verified below, and promoted by the policy.
                _ => received_commands.iter().filter(|id| id.starts_with("promotion:")).cloned().collect(),
            };
            check(
                requested_commands.len() == 1 && requested_commands.is_subset(&received_commands),
                "what was asked was heard",
            )?;
            // Each entry of its journal was decided and delivered.
            for entry in &journal {
                let decided = matching_lines(&lines, "rollout-driver", "journal");
                let decided = decided.iter().any(|line| {
                    line["sequence"] == entry.sequence && line["release"] == digest.as_str() && line["deployment"] == 1
                });
                check(decided, &format!("the driver says {entry:?}"))?;
                let noted = matching_lines(&lines, "notifier", "delivered")
                    .iter()
                    .any(|line| line["entry"] == entry.id().as_str());
                check(noted, &format!("the notifier says {entry:?}"))?;
            }
            check(journal.iter().any(|entry| matches!(entry.fact, Fact::Ended { .. })), "it ended")?;
            // Each vote came in at the door, and was heard.
            let votes = commands(&matching_lines(&lines, "approvals", "a command was written"));
            let approved = journal.iter().filter(|entry| matches!(entry.fact, Fact::Approved { .. })).count();
            check(votes.len() == approved && votes.is_subset(&received_commands), "every vote was heard")?;
            // One whose asker it was is a line of the same story.
            let refused = lines.iter().any(|(function, line)| {
                function == "approvals" && line["message"].as_str().is_some_and(|text| text.starts_with("refused: "))
            });
            check(approved == 0 || refused, "who asked may not approve, and the door says so")
        });
    }
}
