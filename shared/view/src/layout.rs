//! Text layout in a given width: tables, wrapped sentences.

use rollout::text::{clip, visible};

/// Maximum width of all text, in characters: the smallest terminal supported.
pub const WIDTH: usize = 80;

/// `text` wrapped to at most `width` characters per line; all lines but the first are indented by `indent` spaces. A
/// longer word (an ARN) gets a line of its own and is not cut, so that it can be copied.
#[must_use]
pub fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let used = line.chars().count();
        let empty = line.trim().is_empty();
        if !empty && used + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
        } else if !empty {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n")
}

/// `head`, then `text` wrapped beside it. `head_width`: visible width of `head` in characters.
#[must_use]
pub(crate) fn hanging_indent(head: &str, head_width: usize, text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let wrapped = wrap(&format!("{}{text}", "_".repeat(head_width)), WIDTH, head_width);
    format!("{head}{}", wrapped.chars().skip(head_width).collect::<String>())
}

/// `text`, cut to `width` characters with an ellipsis.
#[must_use]
pub(crate) fn truncate(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    format!("{}…", clip(text, width.saturating_sub(1)).trim_end())
}

/// Columns under headings, two spaces apart, each as wide as its content. Nothing is cut, so that rows can be parsed or
/// copied. `rows` must not contain colour codes.
#[must_use]
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| visible(cell)).collect()).collect();
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(heading.chars().count())
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (column, cell) in cells.enumerate() {
            let width = widths.get(column).copied().unwrap_or(0);
            if column + 1 == widths.len() {
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&" ".repeat(width - cell.chars().count() + 2));
            }
        }
        format!("{}\n", line.trim_end())
    };
    let mut text = line(&mut headings.iter().copied());
    for row in &rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_between_words() {
        assert_eq!(wrap("one two three four", 9, 2), "one two\n  three\n  four");
        assert_eq!(wrap("a-word-that-is-too-long b", 9, 2), "a-word-that-is-too-long\n  b");
        assert_eq!(hanging_indent("> ", 2, "one two three"), "> one two three");
        let long = hanging_indent("> ", 2, &"word ".repeat(30));
        assert!(long.lines().skip(1).all(|line| line.starts_with("  word")), "{long}");
        assert!(long.lines().all(|line| line.chars().count() <= WIDTH), "{long}");
    }

    #[test]
    fn table_cells_are_never_truncated() {
        let rows = vec![vec!["a".to_owned(), "x".repeat(200)], vec!["lo\tg".to_owned(), "y".to_owned()]];
        let text = table(&["K", "V"], &rows);
        assert_eq!(text, format!("K     V\na     {}\nlo g  y\n", "x".repeat(200)));
    }
}
