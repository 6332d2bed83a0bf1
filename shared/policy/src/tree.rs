//! Parses YAML text into a tree of nodes with positions. Knows nothing of the file's semantics.
//!
//! Built from the parser's events instead of its own tree: duplicate keys, anchors, aliases and tags are reported as problems
//! with a position, and nothing can expand in size.

use crate::problem::{Mark, ProblemCollector};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};
use std::borrow::Cow;

/// Maximum file size in bytes: together with its parsed form, a file fits one item of the ledger (400 KB).
pub const MAX_FILE_BYTES: usize = 256 * 1024;

/// Maximum nesting of lists and mappings; the file's own structure needs 10.
const MAX_DEPTH: usize = 24;

/// A node of the file's tree.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Value,
}

/// The value of a node.
#[derive(Debug)]
pub(crate) enum Value {
    /// Text; `plain` if it is unquoted, so that `5` is a number and `"5"` is not.
    Scalar { text: String, plain: bool },
    /// `[…]`, or lines that begin with a dash.
    List(Vec<Node>),
    /// `{…}`, or lines with a colon, in the file's order, duplicate keys included.
    Map(Vec<(Key, Node)>),
    /// A value whose problem has been reported already.
    Broken,
}

/// The key of an entry.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) mark: Mark,
    pub(crate) text: String,
}

/// A list or mapping whose end has not been reached yet.
enum OpenCollection {
    List(Mark, Vec<Node>),
    Map(Mark, Vec<(Key, Node)>, Option<Key>),
}

fn to_mark(marker: Marker) -> Mark {
    Mark { line: marker.line().max(1), column: marker.col() + 1 }
}

/// A file whose escaped surrogate pairs (`\ud83d\udd25`) are rewritten in YAML's form (`\U0001f525`): JSON (RFC 8259, section
/// 7), and by default Python's `json`, has no other escape for characters beyond U+FFFF; in YAML, `\u` is a character of its
/// own (YAML 1.2.2, 5.7), which half a pair is not.
struct JsonAsYaml<'t> {
    text: Cow<'t, str>,
    /// Position in `text` right after each rewritten pair, which is shorter there by [`PAIR_SHRINKAGE`].
    pairs: Vec<Mark>,
}

/// `\ud83d\udd25` has 12 characters, `\U0001f525` has 10.
const PAIR_SHRINKAGE: usize = 2;

impl<'t> JsonAsYaml<'t> {
    /// Only JSON is rewritten: there, every backslash begins an escape.
    fn convert(text: &'t str) -> Self {
        let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        if !text.trim_start().starts_with('{') || !text.contains("\\u") || !is_json() {
            return Self { text: text.into(), pairs: Vec::new() };
        }
        let surrogate = |text: &str| u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok();
        let (mut out, mut pairs) = (String::with_capacity(text.len()), Vec::new());
        let (mut line, mut column) = (1, 1);
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let pair = surrogate(rest).zip(rest.get(6..).and_then(surrogate));
            let character = pair.and_then(|(high, low)| char::decode_utf16([high, low]).next()?.ok());
            let (written, read) = match character.filter(|character| u32::from(*character) > 0xffff) {
                Some(character) => (format!("\\U{:08x}", u32::from(character)), 12),
                // An escaped backslash is copied as a unit: its second backslash begins no other escape.
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

/// Converts a position in the rewritten text to a position in the file.
fn to_file_position(pairs: &[Mark], mark: Mark) -> Mark {
    let before = pairs.iter().filter(|pair| pair.line == mark.line && pair.column <= mark.column).count();
    Mark { column: mark.column + PAIR_SHRINKAGE * before, ..mark }
}

/// Reads one document; `None` where it is malformed or there is none, with the reason in `problems`.
pub(crate) fn read(text: &str, problems: &mut ProblemCollector) -> Option<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !check_text(text, problems) {
        return None;
    }
    let JsonAsYaml { text, pairs } = JsonAsYaml::convert(text);
    let text = text.as_ref();
    let mut open: Vec<OpenCollection> = Vec::new();
    let mut root: Option<Node> = None;
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let (mark, message) = explain_scan_error(&error, text);
                problems.add(to_file_position(&pairs, mark), "", message);
                return None;
            }
        };
        let mark = to_file_position(&pairs, to_mark(span.start));
        let node = match event {
            Event::StreamEnd => break,
            Event::Nothing | Event::StreamStart | Event::DocumentEnd => continue,
            Event::DocumentStart(_) if root.is_some() => {
                let message = "a second document starts here: keep one application a file, and one document";
                problems.add(mark, "", message);
                return None;
            }
            Event::DocumentStart(_) => continue,
            Event::Alias(_) => {
                problems.add(mark, "", ALIAS_UNSUPPORTED);
                Node { mark, value: Value::Broken }
            }
            Event::Scalar(text, style, anchor, tag) => {
                reject_anchors_and_tags(mark, anchor, tag.is_some(), problems);
                let plain = style == ScalarStyle::Plain;
                Node { mark, value: Value::Scalar { text: text.into_owned(), plain } }
            }
            Event::SequenceStart(anchor, tag) => {
                reject_anchors_and_tags(mark, anchor, tag.is_some(), problems);
                open.push(OpenCollection::List(mark, Vec::new()));
                if too_deep(&open, mark, problems) {
                    return None;
                }
                continue;
            }
            Event::MappingStart(anchor, tag) => {
                reject_anchors_and_tags(mark, anchor, tag.is_some(), problems);
                open.push(OpenCollection::Map(mark, Vec::new(), None));
                if too_deep(&open, mark, problems) {
                    return None;
                }
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(OpenCollection::List(mark, nodes)) => Node { mark, value: Value::List(nodes) },
                Some(OpenCollection::Map(mark, entries, _)) => Node { mark, value: Value::Map(entries) },
                None => continue,
            },
        };
        match open.last_mut() {
            None => root = Some(node),
            Some(OpenCollection::List(_, nodes)) => nodes.push(node),
            Some(OpenCollection::Map(_, entries, key @ None)) => *key = Some(to_key(node, entries.len(), problems)),
            Some(OpenCollection::Map(_, entries, key)) => {
                if let Some(key) = key.take() {
                    entries.push((key, node));
                }
            }
        }
    }
    if root.is_none() {
        problems.add(
            Mark { line: 1, column: 1 },
            "",
            "the file is empty: expected `application:`, `services:` and `environments:`",
        );
    }
    root
}

const ALIAS_UNSUPPORTED: &str = "aliases (`*name`) are not supported: write the value out, or use an environment's `defaults`; \
                     a pattern that starts with `*` must be in quotes";

fn too_deep(open: &[OpenCollection], mark: Mark, problems: &mut ProblemCollector) -> bool {
    let deep = open.len() > MAX_DEPTH;
    if deep {
        problems.add(
            mark,
            "",
            format!("lists and mappings are nested more than {MAX_DEPTH} deep: nothing in this file needs that"),
        );
    }
    deep
}

fn reject_anchors_and_tags(mark: Mark, anchor: usize, tagged: bool, problems: &mut ProblemCollector) {
    if anchor != 0 {
        let message = "anchors (`&name`) are not supported: write the value out, or use an environment's `defaults`";
        problems.add(mark, "", message);
    }
    if tagged {
        problems.add(
            mark,
            "",
            "tags (`!name`) are not supported: take it away; text that starts with `!` must be in quotes",
        );
    }
}

fn to_key(node: Node, index: usize, problems: &mut ProblemCollector) -> Key {
    let text = match node.value {
        Value::Scalar { text, .. } => text,
        Value::Broken => String::new(),
        Value::List(_) | Value::Map(_) => {
            let message = "a list or a mapping stands where a key should: write `key: value`; text with brackets in front must be in quotes";
            problems.add(node.mark, "", message);
            // Unknown keys are reported by name; this one has been reported already.
            return Key { mark: node.mark, text: format!("\u{0}{index}") };
        }
    };
    Key { mark: node.mark, text }
}

/// Whether the file is text and small enough to be read.
fn check_text(text: &str, problems: &mut ProblemCollector) -> bool {
    let start = Mark { line: 1, column: 1 };
    if text.len() > MAX_FILE_BYTES {
        let message = format!("the file has more than {MAX_FILE_BYTES} bytes: split the application");
        problems.add(start, "", message);
        return false;
    }
    let (mut line, mut column) = (1, 1);
    for character in text.chars() {
        if character.is_control() && !matches!(character, '\n' | '\r' | '\t' | '\u{85}') {
            let message = format!(
                "there is a control character (U+{:04X}) here: this is not a text file, or it was damaged; save it as UTF-8",
                u32::from(character)
            );
            problems.add(Mark { line, column }, "", message);
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

/// Where the mistake is, and the scanner's message or a better explanation for known mistakes.
fn explain_scan_error(error: &ScanError, text: &str) -> (Mark, String) {
    let info = error.info();
    let mark = to_mark(*error.marker());
    if info.contains("anchor or alias") || info.contains("unknown anchor") {
        return (mark, ALIAS_UNSUPPORTED.to_owned());
    }
    // The scanner may stop in the line before.
    if let Some(tab) = tab_used_as_space(text, mark.line).or_else(|| tab_used_as_space(text, mark.line + 1)) {
        let message = "there is a tab here: YAML is indented with spaces only; replace tabs by two spaces";
        return (tab, message.to_owned());
    }
    let message =
        format!("this is not YAML: {info}; look at the brackets, quotes and indentation here and in the line above");
    (mark, message)
}

/// The first tab of a line (from 1) that stands in its indentation, or after the sign of a key or of a list item.
fn tab_used_as_space(text: &str, line: usize) -> Option<Mark> {
    let found = text.lines().nth(line.checked_sub(1)?)?;
    let before = found.split_once('\t')?.0;
    let as_space = before.trim().is_empty() || before.ends_with([':', '-']);
    as_space.then(|| Mark { line, column: before.chars().count() + 1 })
}
