//! awsQuery requests: a flat form whose dotted names spell out a tree.
//!
//! `Actions.member.1.ForwardConfig.TargetGroups.member.2.Weight=90` is the weight of the second group of the first action.
//! Every leaf is a text; the operations read numbers and truth values out of it. An empty list is sent as an empty text
//! (aws-smithy-query, `QueryListWriter::finish`), so a list that is read from a text is empty.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Reads a form into a tree of objects, lists and texts. Members of a list stand in the order of their numbers.
#[must_use]
pub fn decode(body: &[u8]) -> Value {
    let mut root = FormNode::default();
    for (name, value) in form_urlencoded::parse(body) {
        root.insert(&name, value.into_owned());
    }
    root.into_value()
}

#[derive(Default)]
struct FormNode {
    text: Option<String>,
    children: BTreeMap<String, FormNode>,
}

impl FormNode {
    fn insert(&mut self, name: &str, value: String) {
        match name.split_once('.') {
            None => self.children.entry(name.to_owned()).or_default().text = Some(value),
            Some((first, rest)) => self.children.entry(first.to_owned()).or_default().insert(rest, value),
        }
    }

    fn into_value(mut self) -> Value {
        if self.children.is_empty() {
            return Value::String(self.text.unwrap_or_default());
        }
        if self.children.len() == 1 {
            if let Some(members) = self.children.remove("member") {
                return Value::Array(members.numbered().map(FormNode::into_value).collect());
            }
            if let Some(entries) = self.children.remove("entry") {
                return Value::Object(entries.numbered().filter_map(FormNode::into_entry).collect());
            }
        }
        let fields: Map<String, Value> =
            self.children.into_iter().map(|(name, node)| (name, node.into_value())).collect();
        Value::Object(fields)
    }

    /// The children in the order of the numbers that they are named by.
    fn numbered(self) -> impl Iterator<Item = FormNode> {
        let mut numbered: Vec<(u64, FormNode)> =
            self.children.into_iter().map(|(number, node)| (number.parse().unwrap_or(u64::MAX), node)).collect();
        numbered.sort_by_key(|(number, _)| *number);
        numbered.into_iter().map(|(_, node)| node)
    }

    fn into_entry(mut self) -> Option<(String, Value)> {
        let key = self.children.remove("key")?.text?;
        let value = self.children.remove("value")?;
        Some((key, value.into_value()))
    }
}

#[cfg(test)]
mod tests {
    use super::decode;
    use serde_json::json;

    #[test]
    fn dotted_names_become_a_tree_with_ordered_members() {
        let form = "Action=ModifyRule&Version=2015-12-01&RuleArn=arn%3Aaws%3Arule%2F1\
                    &Actions.member.1.Type=forward&Actions.member.1.ForwardConfig.TargetGroups.member.1.TargetGroupArn=blue\
                    &Actions.member.1.ForwardConfig.TargetGroups.member.1.Weight=90\
                    &Actions.member.1.ForwardConfig.TargetGroups.member.2.TargetGroupArn=green\
                    &Actions.member.1.ForwardConfig.TargetGroups.member.2.Weight=10&Conditions=";
        let expected = json!({
            "Action": "ModifyRule",
            "Version": "2015-12-01",
            "RuleArn": "arn:aws:rule/1",
            "Actions": [{"Type": "forward", "ForwardConfig": {"TargetGroups": [
                {"TargetGroupArn": "blue", "Weight": "90"},
                {"TargetGroupArn": "green", "Weight": "10"},
            ]}}],
            "Conditions": "",
        });
        assert_eq!(decode(form.as_bytes()), expected);
    }

    #[test]
    fn the_tenth_member_comes_after_the_ninth() {
        let form = (1..=11).map(|n| format!("Arns.member.{n}=a{n}")).collect::<Vec<_>>().join("&");
        let expected: Vec<String> = (1..=11).map(|n| format!("a{n}")).collect();
        assert_eq!(decode(form.as_bytes()), json!({ "Arns": expected }));
    }
}
