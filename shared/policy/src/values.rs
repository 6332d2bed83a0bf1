//! Reads single values from a tree: types, units, known keys. The meaning of the keys is the concern of `read`.

use crate::problem::{Mark, ProblemCollector};
use crate::tree::{Key, Node, Value};
use rollout::text::is_visible;
use rollout::{Name, Percent, Seconds};

/// The keys of one kind of mapping. The JSON Schema's definition of the same name has the same keys (a test checks this).
#[derive(Debug)]
pub(crate) struct Shape {
    /// Name of the type in [`file`](crate::file).
    pub(crate) name: &'static str,
    /// All keys.
    pub(crate) keys: &'static [&'static str],
    /// The mandatory keys.
    pub(crate) required: &'static [&'static str],
}

/// A node, and its path for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocatedNode<'n> {
    pub(crate) node: &'n Node,
    /// Position for messages: that of the key where the value is empty.
    pub(crate) mark: Mark,
}

/// The entries of a mapping of a known shape.
#[derive(Debug)]
pub(crate) struct Fields<'n> {
    pub(crate) path: String,
    pub(crate) at: Mark,
    entries: Vec<(&'n Key, &'n Node)>,
    shape: &'static Shape,
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

/// Shortens `text` for quoting in a message.
pub(crate) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    short = rollout::text::visible(&short);
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
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
    at: LocatedNode<'n>,
    path: &str,
    description: &str,
    problems: &mut ProblemCollector,
) -> Option<Vec<(&'n Key, &'n Node)>> {
    let Value::Map(all) = &at.node.value else {
        if !matches!(at.node.value, Value::Broken) {
            problems.add(
                at.mark,
                path,
                format!("expected {description} (`key: value`), found {}", describe_node(at.node)),
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
                problems.add(key.at, &join(path, &key.text), message);
            }
            None => {
                first_lines.insert(key.text.as_str(), key.at.line);
                entries.push((key, node));
            }
        }
    }
    Some(entries)
}

/// A value with its position: the key's position where the value is empty.
pub(crate) fn value_at<'n>(key: &Key, node: &'n Node) -> LocatedNode<'n> {
    let empty = matches!(&node.value, Value::Scalar { text, plain: true } if text.is_empty());
    LocatedNode { node, mark: if empty { key.at } else { node.at } }
}

impl<'n> Fields<'n> {
    /// Reads the entries of a mapping of this shape; unknown and missing keys are reported.
    pub(crate) fn new(
        at: LocatedNode<'n>,
        path: &str,
        shape: &'static Shape,
        problems: &mut ProblemCollector,
    ) -> Option<Self> {
        let description = format!("a mapping with {}", list_keys(shape));
        let all = entries(at, path, &description, problems)?;
        let (known, unknown): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(key, _)| shape.keys.contains(&key.text.as_str()));
        for (key, _) in unknown {
            if key.text.starts_with('\u{0}') {
                continue;
            }
            let hint = match nearest(&key.text, shape.keys) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", list_keys(shape)),
            };
            problems.add(key.at, &join(path, &key.text), format!("unknown key `{}`: {hint}", shorten(&key.text)));
        }
        for key in shape.required {
            if !known.iter().any(|(present, _)| present.text == *key) {
                problems.add(at.mark, path, format!("`{key}` is missing: add it"));
            }
        }
        Some(Self { path: path.to_owned(), at: at.mark, entries: known, shape })
    }

    /// The value of `key` and its path, if present.
    pub(crate) fn get(&self, key: &str) -> Option<(LocatedNode<'n>, String)> {
        debug_assert!(self.shape.keys.contains(&key), "{} has no key {key}", self.shape.name);
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
        let (at, path) = self.get(key)?;
        read(at, &path, problems)
    }
}

fn list_keys(shape: &Shape) -> String {
    shape.keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
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
        .map(|(word, form)| (edit_distance(text, &form), word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min()
        .map(|(_, word)| word)
}

/// Edit distance: insertions, deletions, replacements and swaps of neighbouring characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// Reads text; `description` is what is expected, for messages: `the name of an ECS cluster`.
pub(crate) fn text<'n>(
    at: LocatedNode<'n>,
    path: &str,
    description: &str,
    problems: &mut ProblemCollector,
) -> Option<&'n str> {
    match &at.node.value {
        Value::Broken => None,
        Value::Scalar { text, plain } => match scalar_type(text, *plain) {
            ScalarType::Text if text.is_empty() => {
                problems.add(
                    at.mark,
                    path,
                    format!("expected {description}, found an empty text: write it, or take the key away"),
                );
                None
            }
            ScalarType::Text => Some(text),
            ScalarType::Null => {
                problems.add(
                    at.mark,
                    path,
                    format!("expected {description}, found nothing: write it, or take the key away"),
                );
                None
            }
            ScalarType::Boolean | ScalarType::Number => {
                let message = format!(
                    "expected {description}, found {}: put it in quotes if it is meant",
                    describe_node(at.node)
                );
                problems.add(at.mark, path, message);
                None
            }
        },
        Value::List(_) | Value::Map(_) => {
            problems.add(at.mark, path, format!("expected {description}, found {}", describe_node(at.node)));
            None
        }
    }
}

/// The nodes of a list of at most `max`, each with its path.
pub(crate) fn list<'n>(
    at: LocatedNode<'n>,
    path: &str,
    description: &str,
    max: usize,
    problems: &mut ProblemCollector,
) -> Option<Vec<(LocatedNode<'n>, String)>> {
    match &at.node.value {
        Value::Broken => None,
        Value::List(nodes) if nodes.len() > max => {
            problems.add(at.mark, path, format!("there are {} {description}, at most {max} are allowed", nodes.len()));
            None
        }
        Value::List(nodes) => Some(
            nodes
                .iter()
                .enumerate()
                .map(|(index, node)| (LocatedNode { node, mark: node.at }, format!("{path}[{index}]")))
                .collect(),
        ),
        _ => {
            problems.add(
                at.mark,
                path,
                format!("expected a list of {description} (`[…]`), found {}", describe_node(at.node)),
            );
            None
        }
    }
}

/// Reads `true` or `false`.
pub(crate) fn boolean(at: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<bool> {
    match &at.node.value {
        Value::Scalar { text, plain: true } if text == "true" => Some(true),
        Value::Scalar { text, plain: true } if text == "false" => Some(false),
        Value::Broken => None,
        _ => {
            problems.add(at.mark, path, format!("expected `true` or `false`, found {}", describe_node(at.node)));
            None
        }
    }
}

/// Reads one of a fixed set of words.
pub(crate) fn choice<T: Copy>(
    at: LocatedNode<'_>,
    path: &str,
    choices: &[(&str, T)],
    problems: &mut ProblemCollector,
) -> Option<T> {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let expected = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let written = text(at, path, &format!("one of {expected}"), problems)?;
    match choices.iter().find(|(word, _)| *word == written) {
        Some((_, value)) => Some(*value),
        None => {
            let hint = nearest(written, &words).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            problems.add(at.mark, path, format!("expected one of {expected}, found {}{hint}", describe_node(at.node)));
            None
        }
    }
}

/// Reads a duration of at least `min`.
pub(crate) fn duration(
    at: LocatedNode<'_>,
    path: &str,
    min: Seconds,
    problems: &mut ProblemCollector,
) -> Option<Seconds> {
    let written = match &at.node.value {
        Value::Broken => return None,
        Value::Scalar { text, .. } if !text.is_empty() => text,
        _ => {
            let message =
                format!("expected a duration such as `90s`, `5m`, `4h` or `1d`, found {}", describe_node(at.node));
            problems.add(at.mark, path, message);
            return None;
        }
    };
    match Seconds::parse(written) {
        Ok(seconds) if seconds >= min => Some(seconds),
        Ok(seconds) => {
            problems.add(at.mark, path, format!("{seconds} is too short: write `{min}` or more"));
            None
        }
        Err(_) => {
            let message = format!(
                "`{}` is not a duration: write a whole number and a unit, such as `90s`, `5m`, `4h` or `1d` (at most 30 days)",
                shorten(written)
            );
            problems.add(at.mark, path, message);
            None
        }
    }
}

/// Reads a whole number within `range`.
pub(crate) fn count<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
    at: LocatedNode<'_>,
    path: &str,
    description: &str,
    range: std::ops::RangeInclusive<T>,
    problems: &mut ProblemCollector,
) -> Option<T> {
    let written = match &at.node.value {
        Value::Broken => return None,
        Value::Scalar { text, plain: true } => text.as_str(),
        _ => "",
    };
    let digits = !written.is_empty() && written.bytes().all(|b| b.is_ascii_digit());
    let number = written.parse::<T>().ok().filter(|number| digits && range.contains(number));
    if number.is_none() {
        let (min, max) = range.into_inner();
        problems.add(
            at.mark,
            path,
            format!("expected {description}, a whole number from {min} to {max}, found {}", describe_node(at.node)),
        );
    }
    number
}

/// Reads a numeric ID: digits only, quoted or not, kept as text and never used in calculations.
pub(crate) fn digits(
    at: LocatedNode<'_>,
    path: &str,
    description: &str,
    problems: &mut ProblemCollector,
) -> Option<String> {
    let written = match &at.node.value {
        Value::Broken => return None,
        Value::Scalar { text, .. } => text.as_str(),
        _ => "",
    };
    let valid =
        (1..=20).contains(&written.len()) && written.bytes().all(|b| b.is_ascii_digit()) && !written.starts_with('0');
    if !valid {
        let message = format!(
            "expected {description}: digits only, such as `123456789`, and no name; found {}",
            describe_node(at.node)
        );
        problems.add(at.mark, path, message);
    }
    valid.then(|| written.to_owned())
}

/// Reads text of one line, at most `max` characters.
pub(crate) fn line(
    at: LocatedNode<'_>,
    path: &str,
    description: &str,
    max: usize,
    problems: &mut ProblemCollector,
) -> Option<String> {
    let written = text(at, path, description, problems)?;
    if written.chars().count() > max || !written.chars().all(is_visible) {
        let message = format!("expected {description}: at most {max} characters, in one line, all of which are shown");
        problems.add(at.mark, path, message);
        return None;
    }
    Some(written.to_owned())
}

/// Reads a share above zero, such as `10%`.
pub(crate) fn percent(
    at: LocatedNode<'_>,
    path: &str,
    description: &str,
    problems: &mut ProblemCollector,
) -> Option<Percent> {
    let written = match &at.node.value {
        Value::Broken => return None,
        Value::Scalar { text, .. } => text.as_str(),
        _ => {
            problems.add(
                at.mark,
                path,
                format!("expected {description} such as `10%`, found {}", describe_node(at.node)),
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
        let message =
            format!("expected {description}, a whole percentage from `1%` to `100%`, found {}", describe_node(at.node));
        problems.add(at.mark, path, message);
    }
    share
}

/// Reads one of Switchback's own names, given as a value.
pub(crate) fn name(
    at: LocatedNode<'_>,
    path: &str,
    description: &str,
    problems: &mut ProblemCollector,
) -> Option<Name> {
    let written = text(at, path, description, problems)?;
    checked_name(written, at.mark, path, problems)
}

/// Reads one of Switchback's own names, given as a key.
pub(crate) fn key_name(key: &Key, path: &str, problems: &mut ProblemCollector) -> Option<Name> {
    if key.text.starts_with('\u{0}') {
        return None;
    }
    checked_name(&key.text, key.at, path, problems)
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
