//! Block Kit: what Slack takes (limits of "Block Kit reference"), and what a person reads and presses of it.

use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Refuses what Slack refuses, and gives a `block_id` to every block that has none, as Slack does.
pub(super) fn check(blocks: &mut Value) -> Result<(), String> {
    if blocks.is_null() {
        return Ok(());
    }
    let Some(blocks) = blocks.as_array_mut() else { return Err("blocks are no array".to_owned()) };
    at_most(blocks.len(), 50, "blocks")?;
    let mut ids = BTreeSet::new();
    for (index, block) in blocks.iter_mut().enumerate() {
        check_block(block).map_err(|why| format!("{why} [json-pointer:/blocks/{index}]"))?;
        if block["block_id"].is_null() {
            block["block_id"] = json!(format!("b{index}"));
        }
        let id = block["block_id"].as_str().unwrap_or_default().to_owned();
        at_most(id.chars().count(), 255, "characters of a block_id")?;
        if !ids.insert(id.clone()) {
            return Err(format!("block_id {id} already exists [json-pointer:/blocks/{index}]"));
        }
    }
    Ok(())
}

fn check_block(block: &Value) -> Result<(), String> {
    let list = |name: &str| block[name].as_array().map(Vec::as_slice).unwrap_or_default();
    match block["type"].as_str().unwrap_or_default() {
        "header" => check_text(&block["text"], 150, &["plain_text"]),
        "section" => {
            if block["text"].is_null() && list("fields").is_empty() {
                return Err("a section has neither text nor fields".to_owned());
            }
            if !block["text"].is_null() {
                check_text(&block["text"], 3000, &["mrkdwn", "plain_text"])?;
            }
            at_most(list("fields").len(), 10, "fields of a section")?;
            for field in list("fields") {
                check_text(field, 2000, &["mrkdwn", "plain_text"])?;
            }
            if block["accessory"].is_null() { Ok(()) } else { check_element(&block["accessory"]) }
        }
        "context" => {
            at_least_one(list("elements").len(), "elements of a context")?;
            at_most(list("elements").len(), 10, "elements of a context")?;
            list("elements").iter().try_for_each(|text| check_text(text, 3000, &["mrkdwn", "plain_text"]))
        }
        "actions" => {
            at_least_one(list("elements").len(), "elements of an actions block")?;
            at_most(list("elements").len(), 25, "elements of an actions block")?;
            let mut ids = BTreeSet::new();
            for element in list("elements") {
                check_element(element)?;
                if !ids.insert(element["action_id"].as_str().unwrap_or_default()) {
                    return Err(format!("action_id {} already exists in its block", element["action_id"]));
                }
            }
            Ok(())
        }
        "input" => {
            check_text(&block["label"], 2000, &["plain_text"])?;
            if block["element"]["type"] != "plain_text_input" {
                return Err(format!("unsupported element {} of an input", block["element"]["type"]));
            }
            check_action_id(&block["element"])
        }
        "divider" => Ok(()),
        other => Err(format!("unsupported type: {other}")),
    }
}

fn check_element(element: &Value) -> Result<(), String> {
    match element["type"].as_str().unwrap_or_default() {
        "button" => {
            check_text(&element["text"], 75, &["plain_text"])?;
            check_action_id(element)?;
            length(&element["value"], 2000, "value")?;
            length(&element["url"], 3000, "url")?;
            match element["style"].as_str() {
                None | Some("primary" | "danger") => {}
                Some(style) => return Err(format!("invalid style {style}")),
            }
            let confirm = &element["confirm"];
            if confirm.is_null() {
                return Ok(());
            }
            check_text(&confirm["title"], 100, &["plain_text"])?;
            check_text(&confirm["text"], 300, &["plain_text", "mrkdwn"])?;
            check_text(&confirm["confirm"], 30, &["plain_text"])?;
            check_text(&confirm["deny"], 30, &["plain_text"])
        }
        other => Err(format!("unsupported element: {other}")),
    }
}

fn check_action_id(element: &Value) -> Result<(), String> {
    if element["action_id"].as_str().unwrap_or_default().is_empty() {
        return Err("an element without action_id".to_owned());
    }
    length(&element["action_id"], 255, "action_id")
}

fn check_text(text: &Value, limit: usize, kinds: &[&str]) -> Result<(), String> {
    let kind = text["type"].as_str().unwrap_or_default();
    if !kinds.contains(&kind) {
        return Err(format!("a text is {kind:?}, and must be one of {kinds:?}"));
    }
    if text["text"].as_str().unwrap_or_default().is_empty() {
        return Err("must be more than 0 characters".to_owned());
    }
    length(&text["text"], limit, "text")
}

fn length(value: &Value, limit: usize, what: &str) -> Result<(), String> {
    match value {
        Value::Null => Ok(()),
        Value::String(text) if text.chars().count() <= limit => Ok(()),
        Value::String(_) => Err(format!("{what} must be less than {} characters", limit + 1)),
        _ => Err(format!("{what} is no text")),
    }
}

fn at_most(count: usize, limit: usize, what: &str) -> Result<(), String> {
    if count > limit { Err(format!("no more than {limit} {what} allowed: {count}")) } else { Ok(()) }
}

fn at_least_one(count: usize, what: &str) -> Result<(), String> {
    if count == 0 { Err(format!("no {what}")) } else { Ok(()) }
}

/// Every text of the blocks, in reading order.
pub(super) fn texts(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(object) => {
            if let Some(text) = object.get("text").and_then(Value::as_str) {
                into.push(text.to_owned());
            }
            object.values().for_each(|item| texts(item, into));
        }
        _ => {}
    }
}

/// Every button, with the id of its block.
pub(super) fn buttons(blocks: &Value) -> impl Iterator<Item = (&str, &Value)> {
    blocks.as_array().into_iter().flatten().flat_map(|block| {
        let id = block["block_id"].as_str().unwrap_or_default();
        let elements = block["elements"].as_array().into_iter().flatten().chain([&block["accessory"]]);
        elements.filter(|element| element["type"] == "button").map(move |button| (id, button))
    })
}
