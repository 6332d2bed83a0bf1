//! Reads single values from a tree: types, units, known keys. The meaning of the keys is the concern of `read`.

use crate::file::KnownKey;
use crate::problem::{Mark, ProblemCollector};
use crate::tree::{Key, Node, Value};
use rollout::text::{clip_with_ellipsis, is_visible, visible};
use rollout::{Name, Percent, Seconds};

/// The shortest deadline: with a shorter one, a single slow AWS response would decide.
pub const MIN_DEADLINE: Seconds = Seconds(5);

/// A node, and the position that messages name for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocatedNode<'n> {
    pub(crate) inner: &'n Node,
    /// The key's position where the value is empty.
    pub(crate) mark: Mark,
}

/// The entries of a mapping whose keys [`file`](mod@crate::file) declares.
#[derive(Debug)]
pub(crate) struct Fields<'n> {
    /// Position of the mapping.
    pub(crate) mark: Mark,
    pub(crate) path: String,
    entries: Vec<(&'n Key, &'n Node)>,
    known: &'static [KnownKey],
}

/// Describes the kind of `node` for messages.
pub(crate) fn describe_node(node: &Node) -> String {
    match &node.value {
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
        Value::Broken => "something unreadable".to_owned(),
        Value::Scalar { text, plain } => match scalar_type(text, *plain) {
            ScalarType::Null => "nothing".to_owned(),
            ScalarType::Boolean => format!("`{text}` (true or false)"),
            ScalarType::Number => format!("the number {}", shorten(text)),
            ScalarType::Text => format!("`{}`", shorten(text)),
        },
    }
}

/// `text` as messages quote it: at most 60 characters of it, made safe to display.
pub(crate) fn shorten(text: &str) -> String {
    visible(&clip_with_ellipsis(text, 60))
}

#[derive(Debug, PartialEq, Eq)]
enum ScalarType {
    Null,
    Boolean,
    Number,
    Text,
}

/// The type of a scalar by YAML's core schema (YAML 1.2.2, 10.3.2).
fn scalar_type(text: &str, plain: bool) -> ScalarType {
    if !plain {
        return ScalarType::Text;
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return ScalarType::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return ScalarType::Boolean,
        _ => {}
    }
    let bare = text.strip_prefix(['-', '+']).unwrap_or(text);
    let number = matches!(bare, ".inf" | ".Inf" | ".INF")
        || matches!(text, ".nan" | ".NaN" | ".NAN")
        || text.strip_prefix("0x").is_some_and(|hex| !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()))
        || text
            .strip_prefix("0o")
            .is_some_and(|oct| !oct.is_empty() && oct.bytes().all(|b| (b'0'..=b'7').contains(&b)))
        || (bare.starts_with(|c: char| c.is_ascii_digit() || c == '.') && bare.parse::<f64>().is_ok());
    if number { ScalarType::Number } else { ScalarType::Text }
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { shorten(key) } else { format!("{path}.{}", shorten(key)) }
}

/// The entries of a mapping, with duplicate keys reported and dropped; `None` where it is not a mapping.
pub(crate) fn entries<'n>(
    node: LocatedNode<'n>,
    path: &str,
    description: &str,
    problems: &mut ProblemCollector,
) -> Option<Vec<(&'n Key, &'n Node)>> {
    let Value::Map(all) = &node.inner.value else {
        if !matches!(node.inner.value, Value::Broken) {
            problems.add(
                node.mark,
                path,
                format!("expected {description} (`key: value`), found {}", describe_node(node.inner)),
            );
        }
        return None;
    };
    let mut entries: Vec<(&Key, &Node)> = Vec::with_capacity(all.len());
    let mut first_lines = std::collections::BTreeMap::new();
    for (key, node) in all {
        match first_lines.get(key.text.as_str()) {
            Some(line) => {
                let message = format!("the key comes twice, first in line {line}: keep one of them");
                problems.add(key.mark, &join(path, &key.text), message);
            }
            None => {
                first_lines.insert(key.text.as_str(), key.mark.line);
                entries.push((key, node));
            }
        }
    }
    Some(entries)
}

/// The entry of a mapping with this key; `None`: there is none, or it is no mapping.
pub(crate) fn find_entry<'n>(node: &'n Node, key: &str) -> Option<(&'n Key, &'n Node)> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|(present, _)| present.text == key).map(|(key, node)| (key, node))
}

/// The names of keys, as messages list them.
pub(crate) fn list_keys(keys: &[KnownKey]) -> String {
    keys.iter().map(|key| format!("`{}`", key.name)).collect::<Vec<_>>().join(", ")
}

/// A value with its position: the key's position where the value is empty.
pub(crate) fn value_at<'n>(key: &Key, node: &'n Node) -> LocatedNode<'n> {
    let empty = matches!(&node.value, Value::Scalar { text, plain: true } if text.is_empty());
    LocatedNode { inner: node, mark: if empty { key.mark } else { node.mark } }
}

impl<'n> Fields<'n> {
    /// Reads the entries of a mapping with these keys; unknown and missing keys are reported.
    pub(crate) fn new(
        node: LocatedNode<'n>,
        path: &str,
        known: &'static [KnownKey],
        problems: &mut ProblemCollector,
    ) -> Option<Self> {
        Self::with_hints(node, path, known, |_, _| None, problems)
    }

    /// The same. `hint` ends the message about an unknown key, given the key and the known key that is most likely meant;
    /// where it is `None`, that known key or all of them are listed.
    pub(crate) fn with_hints(
        node: LocatedNode<'n>,
        path: &str,
        known: &'static [KnownKey],
        hint: impl Fn(&str, Option<&str>) -> Option<String>,
        problems: &mut ProblemCollector,
    ) -> Option<Self> {
        let names: Vec<&str> = known.iter().map(|key| key.name).collect();
        let listed = list_keys(known);
        let all = entries(node, path, &format!("a mapping with {listed}"), problems)?;
        let (present, unknown): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(key, _)| names.contains(&key.text.as_str()));
        for (key, _) in unknown {
            if key.text.starts_with('\u{0}') {
                continue;
            }
            let near = nearest(&key.text, &names);
            let hint = hint(&key.text, near).unwrap_or_else(|| match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {listed}"),
            });
            problems.add(key.mark, &join(path, &key.text), format!("unknown key `{}`: {hint}", shorten(&key.text)));
        }
        for key in known.iter().filter(|key| key.required) {
            if !present.iter().any(|(found, _)| found.text == key.name) {
                problems.add(node.mark, path, format!("`{}` is missing: add it", key.name));
            }
        }
        Some(Self { mark: node.mark, path: path.to_owned(), entries: present, known })
    }

    /// The value of `key` and its path, if present.
    pub(crate) fn get(&self, key: &str) -> Option<(LocatedNode<'n>, String)> {
        debug_assert!(self.known.iter().any(|known| known.name == key), "{}: no such key: {key}", self.path);
        let (key, node) = self.entries.iter().find(|(present, _)| present.text == key)?;
        Some((value_at(key, node), join(&self.path, &key.text)))
    }

    /// The value of `key`, read by `read`.
    pub(crate) fn read<T>(
        &self,
        key: &str,
        problems: &mut ProblemCollector,
        read: impl FnOnce(LocatedNode<'n>, &str, &mut ProblemCollector) -> Option<T>,
    ) -> Option<T> {
        let (node, path) = self.get(key)?;
        read(node, &path, problems)
    }

    /// The value of `key`, read by `read`; `default` where the key is missing.
    pub(crate) fn read_or<T>(
        &self,
        key: &str,
        default: T,
        problems: &mut ProblemCollector,
        read: impl FnOnce(LocatedNode<'n>, &str, &mut ProblemCollector) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some((node, path)) => read(node, &path, problems),
            None => Some(default),
        }
    }

    /// One of a fixed set of words; `default` where the key is missing.
    pub(crate) fn choice_or<T: Copy>(
        &self,
        key: &str,
        choices: &[(&str, T)],
        default: T,
        problems: &mut ProblemCollector,
    ) -> Option<T> {
        self.read_or(key, default, problems, |node, path, problems| choice(node, path, choices, problems))
    }
}

/// The known key that is most likely meant by a misspelled one.
pub(crate) fn nearest<'k>(text: &str, known: &[&'k str]) -> Option<&'k str> {
    // Longer than any misspelled key: computing the distance takes time proportional to the product of the lengths.
    if text.len() > 40 {
        return None;
    }
    let plain = text.to_lowercase().replace(['-', ' '], "_");
    closest(&plain, known.iter().map(|key| (*key, (*key).to_owned())))
}

/// The same for words that are not keys: hyphens and slashes are significant, and case is ignored.
pub(crate) fn nearest_word<'k>(text: &str, known: &[&'k str]) -> Option<&'k str> {
    if text.len() > 40 {
        return None;
    }
    closest(&text.to_lowercase(), known.iter().map(|word| (*word, word.to_lowercase())))
}

/// The first of the closest words, if close enough; each word comes with the form to compare.
fn closest<'k>(text: &str, known: impl Iterator<Item = (&'k str, String)>) -> Option<&'k str> {
    known
        .map(|(word, form)| (strsim::osa_distance(text, &form), word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min()
        .map(|(_, word)| word)
}

/// Reads text; `description` is what is expected, for messages: `the name of an ECS cluster`.
pub(crate) fn text<'n>(
    node: LocatedNode<'n>,
    path: &str,
    description: &str,
    problems: &mut ProblemCollector,
) -> Option<&'n str> {
    match &node.inner.value {
        Value::Broken => None,
        Value::Scalar { text, plain } => match scalar_type(text, *plain) {
            ScalarType::Text if text.is_empty() => {
                problems.add(
                    node.mark,
                    path,
                    format!("expected {description}, found an empty text: write it, or take the key away"),
                );
                None
            }
            ScalarType::Text => Some(text),
            ScalarType::Null => {
                problems.add(
                    node.mark,
                    path,
                    format!("expected {description}, found nothing: write it, or take the key away"),
                );
                None
            }
            ScalarType::Boolean | ScalarType::Number => {
                let message = format!(
                    "expected {description}, found {}: put it in quotes if it is meant",
                    describe_node(node.inner)
                );
                problems.add(node.mark, path, message);
                None
            }
        },
        Value::List(_) | Value::Map(_) => {
            problems.add(node.mark, path, format!("expected {description}, found {}", describe_node(node.inner)));
            None
        }
    }
}

/// Reads text and parses it by `parse`, whose error is the problem to report.
pub(crate) fn parsed_text<'n, T>(
    node: LocatedNode<'n>,
    path: &str,
    description: &str,
    parse: impl FnOnce(&'n str) -> Result<T, String>,
    problems: &mut ProblemCollector,
) -> Option<T> {
    let written = text(node, path, description, problems)?;
    match parse(written) {
        Ok(value) => Some(value),
        Err(message) => {
            problems.add(node.mark, path, message);
            None
        }
    }
}

/// Reads text that `check` accepts; its error is the problem to report.
pub(crate) fn checked_text(
    node: LocatedNode<'_>,
    path: &str,
    description: &str,
    check: impl FnOnce(&str) -> Result<(), String>,
    problems: &mut ProblemCollector,
) -> Option<String> {
    parsed_text(node, path, description, |written| check(written).map(|()| written.to_owned()), problems)
}

/// The nodes of a list of at most `max`, each with its path.
pub(crate) fn list<'n>(
    node: LocatedNode<'n>,
    path: &str,
    description: &str,
    max: usize,
    problems: &mut ProblemCollector,
) -> Option<Vec<(LocatedNode<'n>, String)>> {
    match &node.inner.value {
        Value::Broken => None,
        Value::List(nodes) if nodes.len() > max => {
            let message = format!("there are {} {description}, at most {max} are allowed", nodes.len());
            problems.add(node.mark, path, message);
            None
        }
        Value::List(nodes) => Some(
            nodes
                .iter()
                .enumerate()
                .map(|(index, node)| (LocatedNode { inner: node, mark: node.mark }, format!("{path}[{index}]")))
                .collect(),
        ),
        _ => {
            problems.add(
                node.mark,
                path,
                format!("expected a list of {description} (`[…]`), found {}", describe_node(node.inner)),
            );
            None
        }
    }
}

/// Reads `true` or `false`.
pub(crate) fn boolean(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<bool> {
    match &node.inner.value {
        Value::Scalar { text, plain: true } if text == "true" => Some(true),
        Value::Scalar { text, plain: true } if text == "false" => Some(false),
        Value::Broken => None,
        _ => {
            problems.add(node.mark, path, format!("expected `true` or `false`, found {}", describe_node(node.inner)));
            None
        }
    }
}

/// Reads one of a fixed set of words.
pub(crate) fn choice<T: Copy>(
    node: LocatedNode<'_>,
    path: &str,
    choices: &[(&str, T)],
    problems: &mut ProblemCollector,
) -> Option<T> {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let expected = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let written = text(node, path, &format!("one of {expected}"), problems)?;
    match choices.iter().find(|(word, _)| *word == written) {
        Some((_, value)) => Some(*value),
        None => {
            let hint = nearest(written, &words).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let message = format!("expected one of {expected}, found {}{hint}", describe_node(node.inner));
            problems.add(node.mark, path, message);
            None
        }
    }
}

/// The word for `value` among those that [`choice`] reads.
pub(crate) fn word<T: PartialEq>(choices: &[(&'static str, T)], value: &T) -> &'static str {
    choices.iter().find(|(_, known)| known == value).map_or("", |(word, _)| *word)
}

/// Reads a duration of at least `min`.
pub(crate) fn duration(
    node: LocatedNode<'_>,
    path: &str,
    min: Seconds,
    problems: &mut ProblemCollector,
) -> Option<Seconds> {
    let written = match &node.inner.value {
        Value::Broken => return None,
        Value::Scalar { text, .. } if !text.is_empty() => text,
        _ => {
            let message =
                format!("expected a duration such as `90s`, `5m`, `4h` or `1d`, found {}", describe_node(node.inner));
            problems.add(node.mark, path, message);
            return None;
        }
    };
    match Seconds::parse(written) {
        Ok(seconds) if seconds >= min => Some(seconds),
        Ok(seconds) => {
            problems.add(node.mark, path, format!("{seconds} is too short: write `{min}` or more"));
            None
        }
        Err(_) => {
            let message = format!(
                "`{}` is not a duration: write a whole number and a unit, such as `90s`, `5m`, `4h` or `1d` (at most 30 days)",
                shorten(written)
            );
            problems.add(node.mark, path, message);
            None
        }
    }
}

/// Reads a whole number within `range`.
pub(crate) fn count<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
    node: LocatedNode<'_>,
    path: &str,
    description: &str,
    range: std::ops::RangeInclusive<T>,
    problems: &mut ProblemCollector,
) -> Option<T> {
    let written = match &node.inner.value {
        Value::Broken => return None,
        Value::Scalar { text, plain: true } => text.as_str(),
        _ => "",
    };
    let digits = !written.is_empty() && written.bytes().all(|b| b.is_ascii_digit());
    let number = written.parse::<T>().ok().filter(|number| digits && range.contains(number));
    if number.is_none() {
        let (min, max) = range.into_inner();
        problems.add(
            node.mark,
            path,
            format!("expected {description}, a whole number from {min} to {max}, found {}", describe_node(node.inner)),
        );
    }
    number
}

/// Reads a numeric ID: digits only, quoted or not, kept as text and never used in calculations.
pub(crate) fn digits(
    node: LocatedNode<'_>,
    path: &str,
    description: &str,
    problems: &mut ProblemCollector,
) -> Option<String> {
    let written = match &node.inner.value {
        Value::Broken => return None,
        Value::Scalar { text, .. } => text.as_str(),
        _ => "",
    };
    let valid =
        (1..=20).contains(&written.len()) && written.bytes().all(|b| b.is_ascii_digit()) && !written.starts_with('0');
    if !valid {
        let message = format!(
            "expected {description}: digits only, such as `123456789`, and no name; found {}",
            describe_node(node.inner)
        );
        problems.add(node.mark, path, message);
    }
    valid.then(|| written.to_owned())
}

/// Reads text of one line, at most `max` characters.
pub(crate) fn line(
    node: LocatedNode<'_>,
    path: &str,
    description: &str,
    max: usize,
    problems: &mut ProblemCollector,
) -> Option<String> {
    let written = text(node, path, description, problems)?;
    if written.chars().count() > max || !written.chars().all(is_visible) {
        let message = format!("expected {description}: at most {max} characters, in one line, all of which are shown");
        problems.add(node.mark, path, message);
        return None;
    }
    Some(written.to_owned())
}

/// Reads a share above zero, such as `10%`.
pub(crate) fn percent(
    node: LocatedNode<'_>,
    path: &str,
    description: &str,
    problems: &mut ProblemCollector,
) -> Option<Percent> {
    let written = match &node.inner.value {
        Value::Broken => return None,
        Value::Scalar { text, .. } => text.as_str(),
        _ => {
            problems.add(
                node.mark,
                path,
                format!("expected {description} such as `10%`, found {}", describe_node(node.inner)),
            );
            return None;
        }
    };
    let share = written
        .strip_suffix('%')
        .filter(|digits| !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|digits| digits.parse::<u8>().ok())
        .and_then(Percent::new)
        .filter(|share| *share > Percent::NONE);
    if share.is_none() {
        let message = format!(
            "expected {description}, a whole percentage from `1%` to `100%`, found {}",
            describe_node(node.inner)
        );
        problems.add(node.mark, path, message);
    }
    share
}

/// Reads one of Switchback's own names, given as a value.
pub(crate) fn name(
    node: LocatedNode<'_>,
    path: &str,
    description: &str,
    problems: &mut ProblemCollector,
) -> Option<Name> {
    let written = text(node, path, description, problems)?;
    checked_name(written, node.mark, path, problems)
}

/// Reads one of Switchback's own names, given as a key.
pub(crate) fn key_name(key: &Key, path: &str, problems: &mut ProblemCollector) -> Option<Name> {
    if key.text.starts_with('\u{0}') {
        return None;
    }
    checked_name(&key.text, key.mark, path, problems)
}

fn checked_name(written: &str, mark: Mark, path: &str, problems: &mut ProblemCollector) -> Option<Name> {
    let name = Name::new(written).ok();
    if name.is_none() {
        let message = format!(
            "`{}` is not a name: use lower-case letters, digits and single hyphens, at most 63 characters",
            shorten(written)
        );
        problems.add(mark, path, message);
    }
    name
}
