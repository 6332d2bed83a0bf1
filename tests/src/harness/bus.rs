//! EventBridge for what AWS itself sends. The emulator refuses sources of `aws.*`, as AWS does, so its rules are asked
//! whether they match, and what they name is invoked.

use super::HarnessError;
use super::aws::Aws;
use serde_json::{Value, json};

/// The rules of the deployed template.
#[derive(Debug, Clone)]
pub(super) struct Bus {
    aws: Aws,
    rules: Vec<BusRule>,
}

#[derive(Debug, Clone)]
struct BusRule {
    pattern: String,
    targets: Vec<String>,
}

impl Bus {
    /// Reads all rules with a pattern, and their targets.
    ///
    /// # Errors
    /// [`HarnessError`] where the emulator refuses.
    pub(super) fn new(aws: Aws) -> Result<Self, HarnessError> {
        let events =
            |operation: &str, parameters: &Value| aws.json("events", &format!("AWSEvents.{operation}"), parameters);
        let mut rules = Vec::new();
        let listed = events("ListRules", &json!({}))?;
        for rule in listed["Rules"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let Some(pattern) = rule["EventPattern"].as_str() else { continue };
            let named = events("ListTargetsByRule", &json!({"Rule": rule["Name"]}))?;
            let targets = named["Targets"].as_array().map(Vec::as_slice).unwrap_or_default();
            let targets = targets.iter().filter_map(|target| target["Arn"].as_str().map(str::to_owned)).collect();
            rules.push(BusRule { pattern: pattern.to_owned(), targets });
        }
        Ok(Self { aws, rules })
    }

    /// Hands the event to every function whose rule matches it, each as Lambda's asynchronous invocation: the answer
    /// comes when it is accepted. Answers the functions' ARNs.
    ///
    /// # Errors
    /// [`HarnessError`] where the emulator refuses.
    pub(super) fn send(&self, event: &Value) -> Result<Vec<String>, HarnessError> {
        let mut invoked = Vec::new();
        for rule in &self.rules {
            let question = json!({"EventPattern": rule.pattern, "Event": event.to_string()});
            let answer = self.aws.json("events", "AWSEvents.TestEventPattern", &question)?;
            if answer["Result"] != true {
                continue;
            }
            for target in &rule.targets {
                let name = target.rsplit(':').next().unwrap_or(target);
                let path = format!("/2015-03-31/functions/{name}/invocations");
                let headers = [("x-amz-invocation-type", "Event")];
                let response = self.aws.send("lambda", "POST", &path, &headers, &event.to_string())?;
                if response.status != 202 {
                    return Err(HarnessError(format!("{name}: {} {}", response.status, response.body)));
                }
                invoked.push(target.clone());
            }
        }
        Ok(invoked)
    }
}
