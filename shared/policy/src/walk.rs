//! Reading single values out of a tree: types, units, known keys. What keys mean is `read`'s business.

use crate::problem::{Found, Mark};
use crate::tree::{Key, Node, Value};
use rollout::text::is_visible;
use rollout::{Name, Percent, Seconds};

/// The keys of one kind of mapping. The JSON Schema's definition of the same name has the same keys (a test holds them together).
#[derive(Debug)]
pub(crate) struct Shape {
    /// Name of the type in [`file`](crate::file).
    pub(crate) name: &'static str,
    /// All keys.
    pub(crate) keys: &'static [&'static str],
    /// Those that must be there.
    pub(crate) required: &'static [&'static str],
}

/// A node, and its path for people.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'n> {
    pub(crate) node: &'n Node,
    /// Where to point at: the key where the value is empty.
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

/// What `node` is, for people.
pub(crate) fn kind(node: &Node) -> String {
    match &node.value {
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
        Value::Broken => "something unreadable".to_owned(),
        Value::Scalar { text, plain } => match plain_type(text, *plain) {
            Plain::Nothing => "nothing".to_owned(),
            Plain::Boolean => format!("`{text}` (true or false)"),
            Plain::Number => format!("the number {}", shown(text)),
            Plain::Text => format!("`{}`", shown(text)),
        },
    }
}

/// `text`, short enough to be quoted in a message.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    short = rollout::text::visible(&short);
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}

#[derive(Debug, PartialEq, Eq)]
enum Plain {
    Nothing,
    Boolean,
    Number,
    Text,
}

/// The type of a scalar by YAML's core schema (YAML 1.2.2, 10.3.2).
fn plain_type(text: &str, plain: bool) -> Plain {
    if !plain {
        return Plain::Text;
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Nothing,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return Plain::Boolean,
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
    if number { Plain::Number } else { Plain::Text }
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { shown(key) } else { format!("{path}.{}", shown(key)) }
}

/// The entries of a mapping, keys that come twice reported and dropped; none where it is no mapping.
pub(crate) fn entries<'n>(at: At<'n>, path: &str, what: &str, found: &mut Found) -> Option<Vec<(&'n Key, &'n Node)>> {
    let Value::Map(all) = &at.node.value else {
        if !matches!(at.node.value, Value::Broken) {
            found.add(at.mark, path, format!("expected {what} (`key: value`), found {}", kind(at.node)));
        }
        return None;
    };
    let mut entries: Vec<(&Key, &Node)> = Vec::with_capacity(all.len());
    let mut first_lines = std::collections::BTreeMap::new();
    for (key, node) in all {
        match first_lines.get(key.text.as_str()) {
            Some(line) => {
                let message = format!("the key comes twice, first in line {line}: keep one of them");
                found.add(key.at, &join(path, &key.text), message);
            }
            None => {
                first_lines.insert(key.text.as_str(), key.at.line);
                entries.push((key, node));
            }
        }
    }
    Some(entries)
}

/// Where a value stands: at its key if it is empty.
pub(crate) fn value_at<'n>(key: &Key, node: &'n Node) -> At<'n> {
    let empty = matches!(&node.value, Value::Scalar { text, plain: true } if text.is_empty());
    At { node, mark: if empty { key.at } else { node.at } }
}

impl<'n> Fields<'n> {
    /// The entries of a mapping of this shape; what does not belong there, or is missing, is reported.
    pub(crate) fn new(at: At<'n>, path: &str, shape: &'static Shape, found: &mut Found) -> Option<Self> {
        let what = format!("a mapping with {}", list_keys(shape));
        let all = entries(at, path, &what, found)?;
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
            found.add(key.at, &join(path, &key.text), format!("unknown key `{}`: {hint}", shown(&key.text)));
        }
        for key in shape.required {
            if !known.iter().any(|(present, _)| present.text == *key) {
                found.add(at.mark, path, format!("`{key}` is missing: add it"));
            }
        }
        Some(Self { path: path.to_owned(), at: at.mark, entries: known, shape })
    }

    /// The value of `key` and its path, if it is there.
    pub(crate) fn get(&self, key: &str) -> Option<(At<'n>, String)> {
        debug_assert!(self.shape.keys.contains(&key), "{} has no key {key}", self.shape.name);
        let (key, node) = self.entries.iter().find(|(present, _)| present.text == key)?;
        Some((value_at(key, node), join(&self.path, &key.text)))
    }

    /// The value of `key`, read by `read`.
    pub(crate) fn read<T>(
        &self,
        key: &str,
        found: &mut Found,
        read: impl FnOnce(At<'n>, &str, &mut Found) -> Option<T>,
    ) -> Option<T> {
        let (at, path) = self.get(key)?;
        read(at, &path, found)
    }
}

fn list_keys(shape: &Shape) -> String {
    shape.keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

/// The known key that is most likely meant.
pub(crate) fn nearest<'k>(text: &str, known: &[&'k str]) -> Option<&'k str> {
    // Longer than any key with any slip: the distance below takes time in the product of the lengths.
    if text.len() > 40 {
        return None;
    }
    let plain = text.to_lowercase().replace(['-', ' '], "_");
    closest(&plain, known.iter().map(|key| (*key, (*key).to_owned())))
}

/// The same for what is no key: hyphens and slashes are a part of it, upper and lower case are not told apart.
pub(crate) fn nearest_word<'k>(text: &str, known: &[&'k str]) -> Option<&'k str> {
    if text.len() > 40 {
        return None;
    }
    closest(&text.to_lowercase(), known.iter().map(|word| (*word, word.to_lowercase())))
}

/// The first of the nearest, if it is near; each comes with the form that is compared.
fn closest<'k>(text: &str, known: impl Iterator<Item = (&'k str, String)>) -> Option<&'k str> {
    known
        .map(|(word, form)| (distance(text, &form), word))
        .filter(|(far, word)| *far <= (word.len() / 3).max(1))
        .min()
        .map(|(_, word)| word)
}

/// Insertions, deletions, replacements and swaps of neighbours from one to the other.
fn distance(a: &str, b: &str) -> usize {
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

/// Text; `what` is what it should be, for people: `the name of an ECS cluster`.
pub(crate) fn text<'n>(at: At<'n>, path: &str, what: &str, found: &mut Found) -> Option<&'n str> {
    match &at.node.value {
        Value::Broken => None,
        Value::Scalar { text, plain } => match plain_type(text, *plain) {
            Plain::Text if text.is_empty() => {
                found.add(
                    at.mark,
                    path,
                    format!("expected {what}, found an empty text: write it, or take the key away"),
                );
                None
            }
            Plain::Text => Some(text),
            Plain::Nothing => {
                found.add(at.mark, path, format!("expected {what}, found nothing: write it, or take the key away"));
                None
            }
            Plain::Boolean | Plain::Number => {
                let message = format!("expected {what}, found {}: put it in quotes if it is meant", kind(at.node));
                found.add(at.mark, path, message);
                None
            }
        },
        Value::List(_) | Value::Map(_) => {
            found.add(at.mark, path, format!("expected {what}, found {}", kind(at.node)));
            None
        }
    }
}

/// The nodes of a list of at most `most`, each with its path.
pub(crate) fn list<'n>(
    at: At<'n>,
    path: &str,
    what: &str,
    most: usize,
    found: &mut Found,
) -> Option<Vec<(At<'n>, String)>> {
    match &at.node.value {
        Value::Broken => None,
        Value::List(nodes) if nodes.len() > most => {
            found.add(at.mark, path, format!("there are {} {what}, at most {most} are allowed", nodes.len()));
            None
        }
        Value::List(nodes) => Some(
            nodes
                .iter()
                .enumerate()
                .map(|(index, node)| (At { node, mark: node.at }, format!("{path}[{index}]")))
                .collect(),
        ),
        _ => {
            found.add(at.mark, path, format!("expected a list of {what} (`[…]`), found {}", kind(at.node)));
            None
        }
    }
}

/// `true` or `false`.
pub(crate) fn boolean(at: At<'_>, path: &str, found: &mut Found) -> Option<bool> {
    match &at.node.value {
        Value::Scalar { text, plain: true } if text == "true" => Some(true),
        Value::Scalar { text, plain: true } if text == "false" => Some(false),
        Value::Broken => None,
        _ => {
            found.add(at.mark, path, format!("expected `true` or `false`, found {}", kind(at.node)));
            None
        }
    }
}

/// One of a few words.
pub(crate) fn choice<T: Copy>(at: At<'_>, path: &str, choices: &[(&str, T)], found: &mut Found) -> Option<T> {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let expected = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let written = text(at, path, &format!("one of {expected}"), found)?;
    match choices.iter().find(|(word, _)| *word == written) {
        Some((_, value)) => Some(*value),
        None => {
            let hint = nearest(written, &words).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            found.add(at.mark, path, format!("expected one of {expected}, found {}{hint}", kind(at.node)));
            None
        }
    }
}

/// A duration of at least `least`.
pub(crate) fn duration(at: At<'_>, path: &str, least: Seconds, found: &mut Found) -> Option<Seconds> {
    let written = match &at.node.value {
        Value::Broken => return None,
        Value::Scalar { text, .. } if !text.is_empty() => text,
        _ => {
            let message = format!("expected a duration such as `90s`, `5m`, `4h` or `1d`, found {}", kind(at.node));
            found.add(at.mark, path, message);
            return None;
        }
    };
    match Seconds::parse(written) {
        Ok(seconds) if seconds >= least => Some(seconds),
        Ok(seconds) => {
            found.add(at.mark, path, format!("{seconds} is too short: write `{least}` or more"));
            None
        }
        Err(_) => {
            let message = format!(
                "`{}` is not a duration: write a whole number and a unit, such as `90s`, `5m`, `4h` or `1d` (at most 30 days)",
                shown(written)
            );
            found.add(at.mark, path, message);
            None
        }
    }
}

/// A whole number within `range`.
pub(crate) fn count<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
    at: At<'_>,
    path: &str,
    what: &str,
    range: std::ops::RangeInclusive<T>,
    found: &mut Found,
) -> Option<T> {
    let written = match &at.node.value {
        Value::Broken => return None,
        Value::Scalar { text, plain: true } => text.as_str(),
        _ => "",
    };
    let digits = !written.is_empty() && written.bytes().all(|b| b.is_ascii_digit());
    let number = written.parse::<T>().ok().filter(|number| digits && range.contains(number));
    if number.is_none() {
        let (least, most) = range.into_inner();
        found.add(
            at.mark,
            path,
            format!("expected {what}, a whole number from {least} to {most}, found {}", kind(at.node)),
        );
    }
    number
}

/// A number that is a name: of digits only, in quotes or not, never shortened or counted with.
pub(crate) fn digits(at: At<'_>, path: &str, what: &str, found: &mut Found) -> Option<String> {
    let written = match &at.node.value {
        Value::Broken => return None,
        Value::Scalar { text, .. } => text.as_str(),
        _ => "",
    };
    let sound =
        (1..=20).contains(&written.len()) && written.bytes().all(|b| b.is_ascii_digit()) && !written.starts_with('0');
    if !sound {
        let message =
            format!("expected {what}: digits only, such as `123456789`, and no name; found {}", kind(at.node));
        found.add(at.mark, path, message);
    }
    sound.then(|| written.to_owned())
}

/// Text of one line, at most `most` characters.
pub(crate) fn line(at: At<'_>, path: &str, what: &str, most: usize, found: &mut Found) -> Option<String> {
    let written = text(at, path, what, found)?;
    if written.chars().count() > most || !written.chars().all(is_visible) {
        let message = format!("expected {what}: at most {most} characters, in one line, all of which are shown");
        found.add(at.mark, path, message);
        return None;
    }
    Some(written.to_owned())
}

/// A share above nothing, as `10%`.
pub(crate) fn percent(at: At<'_>, path: &str, what: &str, found: &mut Found) -> Option<Percent> {
    let written = match &at.node.value {
        Value::Broken => return None,
        Value::Scalar { text, .. } => text.as_str(),
        _ => {
            found.add(at.mark, path, format!("expected {what} such as `10%`, found {}", kind(at.node)));
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
        let message = format!("expected {what}, a whole percentage from `1%` to `100%`, found {}", kind(at.node));
        found.add(at.mark, path, message);
    }
    share
}

/// A name of ours, given as a value.
pub(crate) fn name(at: At<'_>, path: &str, what: &str, found: &mut Found) -> Option<Name> {
    let written = text(at, path, what, found)?;
    checked_name(written, at.mark, path, found)
}

/// A name of ours, given as a key.
pub(crate) fn key_name(key: &Key, path: &str, found: &mut Found) -> Option<Name> {
    if key.text.starts_with('\u{0}') {
        return None;
    }
    checked_name(&key.text, key.at, path, found)
}

fn checked_name(written: &str, mark: Mark, path: &str, found: &mut Found) -> Option<Name> {
    let name = Name::new(written).ok();
    if name.is_none() {
        let message = format!(
            "`{}` is not a name: use lower-case letters, digits and single hyphens, at most 63 characters",
            shown(written)
        );
        found.add(mark, path, message);
    }
    name
}
