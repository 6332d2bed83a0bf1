//! YAML text to a tree of nodes that know their place. Knows nothing of what the file means.
//!
//! Built from the parser's events instead of its ready-made tree: keys that come twice, anchors, aliases and tags are
//! problems of ours, with a place, and nothing can grow on expansion.

use crate::problem::{Found, Mark};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};
use std::borrow::Cow;

/// The largest file, in bytes: with its checked form it fits one item of the ledger (400 KB).
pub const LARGEST_FILE: usize = 256 * 1024;

/// How deep lists and mappings may stand in each other; the file's own structure needs 10.
const DEEPEST: usize = 24;

/// A piece of the file.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Mark,
    pub(crate) value: Value,
}

/// What a piece is.
#[derive(Debug)]
pub(crate) enum Value {
    /// Text; plain if it stands without quotes, so that `5` is a number and `"5"` is not.
    Scalar { text: String, plain: bool },
    /// `[…]` or lines with a dash.
    List(Vec<Node>),
    /// `{…}` or lines with a colon, in the file's order, keys that come twice included.
    Map(Vec<(Key, Node)>),
    /// Something that has been reported already.
    Broken,
}

/// The key of an entry.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) at: Mark,
    pub(crate) text: String,
}

/// A list or mapping whose end has not come yet.
enum Open {
    List(Mark, Vec<Node>),
    Map(Mark, Vec<(Key, Node)>, Option<Key>),
}

fn mark(marker: Marker) -> Mark {
    Mark { line: marker.line().max(1), column: marker.col() + 1 }
}

/// A file with the pairs of surrogates in its escapes (`\ud83d\udd25`) written as YAML has them (`\U0001f525`): JSON (RFC 8259,
/// section 7), and what Python's `json` writes by default, has no other form for characters beyond U+FFFF; YAML's `\u` is a
/// character by itself (YAML 1.2.2, 5.7), which a half is not.
struct Json<'t> {
    text: Cow<'t, str>,
    /// Where pairs were: the line, and the column behind them in `text`. Each is shorter there by [`SHORTER`].
    pairs: Vec<Mark>,
}

/// `\ud83d\udd25` has 12 characters, `\U0001f525` has 10.
const SHORTER: usize = 2;

impl<'t> Json<'t> {
    /// Only JSON is touched: there, every backslash begins an escape.
    fn of(text: &'t str) -> Self {
        let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        if !text.trim_start().starts_with('{') || !text.contains("\\u") || !is_json() {
            return Self { text: text.into(), pairs: Vec::new() };
        }
        let half = |text: &str| u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok();
        let (mut out, mut pairs) = (String::with_capacity(text.len()), Vec::new());
        let (mut line, mut column) = (1, 1);
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let pair = half(rest).zip(rest.get(6..).and_then(half));
            let character = pair.and_then(|(high, low)| char::decode_utf16([high, low]).next()?.ok());
            let (written, read) = match character.filter(|character| u32::from(*character) > 0xffff) {
                Some(character) => (format!("\\U{:08x}", u32::from(character)), 12),
                // An escape is one: the backslash that it may consist of begins no other.
                None if next == '\\' => {
                    (rest.chars().take(2).collect(), rest.chars().take(2).map(char::len_utf8).sum())
                }
                None => (next.to_string(), next.len_utf8()),
            };
            out.push_str(&written);
            rest = &rest[read..];
            column += written.chars().count();
            if read == 12 {
                pairs.push(Mark { line, column });
            } else if next == '\n' {
                (line, column) = (line + 1, 1);
            }
        }
        Self { text: out.into(), pairs }
    }
}

/// A place in the text that was parsed as a place in the file.
fn in_file(pairs: &[Mark], at: Mark) -> Mark {
    let before = pairs.iter().filter(|pair| pair.line == at.line && pair.column <= at.column).count();
    Mark { column: at.column + SHORTER * before, ..at }
}

/// Reads one document; none where it cannot be read to its end, or there is none: `found` says why.
pub(crate) fn read(text: &str, found: &mut Found) -> Option<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !is_text(text, found) {
        return None;
    }
    let Json { text, pairs } = Json::of(text);
    let mark = |marker: Marker| in_file(&pairs, mark(marker));
    let text = text.as_ref();
    let mut open: Vec<Open> = Vec::new();
    let mut root: Option<Node> = None;
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                found.add(mark(*error.marker()), "", explain(&error, text));
                return None;
            }
        };
        let at = mark(span.start);
        let node = match event {
            Event::StreamEnd => break,
            Event::Nothing | Event::StreamStart | Event::DocumentEnd => continue,
            Event::DocumentStart(_) if root.is_some() => {
                let message = "a second document starts here: keep one application a file, and one document";
                found.add(at, "", message);
                return None;
            }
            Event::DocumentStart(_) => continue,
            Event::Alias(_) => {
                found.add(at, "", ALIAS);
                Node { at, value: Value::Broken }
            }
            Event::Scalar(text, style, anchor, tag) => {
                extras(at, anchor, tag.is_some(), found);
                let plain = style == ScalarStyle::Plain;
                Node { at, value: Value::Scalar { text: text.into_owned(), plain } }
            }
            Event::SequenceStart(anchor, tag) => {
                extras(at, anchor, tag.is_some(), found);
                open.push(Open::List(at, Vec::new()));
                if too_deep(&open, at, found) {
                    return None;
                }
                continue;
            }
            Event::MappingStart(anchor, tag) => {
                extras(at, anchor, tag.is_some(), found);
                open.push(Open::Map(at, Vec::new(), None));
                if too_deep(&open, at, found) {
                    return None;
                }
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(at, nodes)) => Node { at, value: Value::List(nodes) },
                Some(Open::Map(at, entries, _)) => Node { at, value: Value::Map(entries) },
                None => continue,
            },
        };
        match open.last_mut() {
            None => root = Some(node),
            Some(Open::List(_, nodes)) => nodes.push(node),
            Some(Open::Map(_, entries, key @ None)) => *key = Some(to_key(node, entries.len(), found)),
            Some(Open::Map(_, entries, key)) => {
                if let Some(key) = key.take() {
                    entries.push((key, node));
                }
            }
        }
    }
    if root.is_none() {
        found.add(
            Mark { line: 1, column: 1 },
            "",
            "the file is empty: expected `application:`, `services:` and `environments:`",
        );
    }
    root
}

const ALIAS: &str = "aliases (`*name`) are not supported: write the value out, or use an environment's `defaults`; \
                     a pattern that starts with `*` must be in quotes";

fn too_deep(open: &[Open], at: Mark, found: &mut Found) -> bool {
    let deep = open.len() > DEEPEST;
    if deep {
        found.add(
            at,
            "",
            format!("lists and mappings are nested more than {DEEPEST} deep: nothing in this file needs that"),
        );
    }
    deep
}

fn extras(at: Mark, anchor: usize, tagged: bool, found: &mut Found) {
    if anchor != 0 {
        let message = "anchors (`&name`) are not supported: write the value out, or use an environment's `defaults`";
        found.add(at, "", message);
    }
    if tagged {
        found.add(
            at,
            "",
            "tags (`!name`) are not supported: take it away; text that starts with `!` must be in quotes",
        );
    }
}

fn to_key(node: Node, index: usize, found: &mut Found) -> Key {
    let text = match node.value {
        Value::Scalar { text, .. } => text,
        Value::Broken => String::new(),
        Value::List(_) | Value::Map(_) => {
            let message = "a list or a mapping stands where a key should: write `key: value`; text with brackets in front must be in quotes";
            found.add(node.at, "", message);
            // Unknown keys are reported by name; this one has been reported.
            return Key { at: node.at, text: format!("\u{0}{index}") };
        }
    };
    Key { at: node.at, text }
}

/// Whether the file is text of a size that is read at all.
fn is_text(text: &str, found: &mut Found) -> bool {
    let start = Mark { line: 1, column: 1 };
    if text.len() > LARGEST_FILE {
        let message =
            format!("the file has {} bytes, at most {LARGEST_FILE} are read: split the application", text.len());
        found.add(start, "", message);
        return false;
    }
    let (mut line, mut column) = (1, 1);
    for character in text.chars() {
        if character.is_control() && !matches!(character, '\n' | '\r' | '\t' | '\u{85}') {
            let message = format!(
                "there is a control character (U+{:04X}) here: this is not a text file, or it was damaged; save it as UTF-8",
                u32::from(character)
            );
            found.add(Mark { line, column }, "", message);
            return false;
        }
        if character == '\n' {
            (line, column) = (line + 1, 1);
        } else {
            column += 1;
        }
    }
    true
}

/// The scanner's words, and ours where we know better.
fn explain(error: &ScanError, text: &str) -> String {
    let info = error.info();
    if info.contains("anchor or alias") || info.contains("unknown anchor") {
        return ALIAS.to_owned();
    }
    let line = text.lines().nth(error.marker().line().saturating_sub(1)).unwrap_or_default();
    let indent: &str = &line[..line.len() - line.trim_start().len()];
    if indent.contains('\t') || info.contains("tab") {
        return "there is a tab here: YAML is indented with spaces only; replace tabs by two spaces".to_owned();
    }
    format!("this is not YAML: {info}; look at the brackets, quotes and indentation here and in the line above")
}
