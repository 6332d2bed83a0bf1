//! Untrusted text, made safe to display and to store: from registries, AWS, GitHub, hooks, policy files and people.
//!
//! Terminals, mail clients, chats and browsers act on characters that the reader does not see: escape sequences,
//! changes of direction, zero-width characters. Every external text passes [`visible`] or [`line()`] before a person
//! sees it; there is no second list of such characters. External text may also be megabytes long: [`clip`] and
//! [`clip_with_ellipsis`] cut it.

use std::error::Error;

/// Replaces a character that is not displayed (U+FFFD, the replacement character).
pub const REPLACEMENT: char = '\u{fffd}';

/// Whether a character is displayed as itself and does not affect its surroundings.
///
/// Not visible are control characters (C0, C1, DEL), line and paragraph separators, characters that set the direction
/// of text (Unicode Standard Annex 9), and characters without a width of their own: the default-ignorable code points
/// of Unicode, "Derived Core Properties", `Default_Ignorable_Code_Point`, except variation selectors 1 to 16 (emoji
/// carry U+FE0F).
#[must_use]
pub fn is_visible(character: char) -> bool {
    let ignorable = matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    !character.is_control() && !ignorable
}

/// Replaces every character that is not [visible](is_visible): by a space where it ends a line or a column, by
/// [`REPLACEMENT`] otherwise, so that a text that hid something does not look like one that did not.
#[must_use]
pub fn visible(text: &str) -> String {
    text.chars().map(shown).collect()
}

/// Like [`visible`], but keeps line feeds: for multi-line text.
#[must_use]
pub fn visible_lines(text: &str) -> String {
    text.chars().map(|character| if character == '\n' { '\n' } else { shown(character) }).collect()
}

/// Like [`visible`], on one line: runs of white space become one space, and of more than `most` characters the first
/// `most` are kept, followed by an ellipsis.
#[must_use]
pub fn line(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut count = 0;
    let mut space = false;
    // The text may have megabytes: it is not copied first.
    for character in text.chars().map(shown) {
        if character.is_whitespace() {
            space = count > 0;
            continue;
        }
        let needed = if space { 2 } else { 1 };
        if count + needed > most {
            line.push('…');
            break;
        }
        if std::mem::take(&mut space) {
            line.push(' ');
        }
        line.push(character);
        count += needed;
    }
    line
}

/// The first `max` characters of `text`, without an ellipsis.
#[must_use]
pub fn clip(text: &str, max: usize) -> &str {
    text.char_indices().nth(max).map_or(text, |(end, _)| &text[..end])
}

/// `text` if it has at most `max` characters; otherwise its first `max` characters and an ellipsis, which does not
/// count: `max + 1` characters in total.
#[must_use]
pub fn clip_with_ellipsis(text: &str, max: usize) -> String {
    let kept = clip(text, max);
    if kept.len() < text.len() { format!("{kept}…") } else { text.to_owned() }
}

/// An error's message and those of its sources, separated by colons. A source whose message the text already contains
/// is skipped: many libraries repeat it in the wrapping error.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let message = source.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        next = source.source();
    }
    text
}

/// JSON text in which every character that is not [visible](is_visible) is escaped as `\uXXXX`: programs read the same
/// values, and terminals act on nothing. `json` must be valid JSON; line feeds between its tokens are kept.
#[must_use]
pub fn visible_json(json: &str) -> String {
    if json.chars().all(|character| is_visible(character) || character == '\n') {
        return json.to_owned();
    }
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if is_visible(character) || character == '\n' {
            escaped.push(character);
        } else {
            // Outside strings, JSON has no such characters; inside them, these escapes are equivalent.
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

fn shown(character: char) -> char {
    match character {
        '\n' | '\r' | '\t' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => ' ',
        other if is_visible(other) => other,
        _ => REPLACEMENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that a terminal, a mail client or a browser would act on.
    const UNSAFE: [&str; 10] = [
        "v1\u{1b}[2K\u{1b}[1Gv2",
        "\u{1b}]8;;https://evil.example\u{7}v1\u{1b}]8;;\u{7}",
        "v1\r\nv2",
        "v1\u{2028}v2",
        "v1\u{202e}2v",
        "v1\u{2066}v2\u{2069}",
        "v1\u{200b}",
        "\u{feff}v1",
        "v\u{ad}1",
        "v1\u{e0041}\u{9b}31m",
    ];

    #[test]
    fn invisible_characters_are_replaced_and_the_rest_kept() {
        for text in UNSAFE {
            for shown in [visible(text), line(text, 80)] {
                assert!(shown.chars().all(is_visible), "{text:?}: {shown:?}");
            }
        }
        assert_eq!(visible("v1\u{202e}2v"), "v1\u{fffd}2v");
        assert_eq!(visible("a\r\nb"), "a  b");
        assert_eq!(visible_lines("a\n\u{1b}[1mb"), "a\n\u{fffd}[1mb");
        for plain in ["api-5xx", "Größe 10 %", "東京", "🔥\u{fe0f}", "עברית", "e\u{301}"] {
            assert_eq!(visible(plain), plain);
        }
    }

    #[test]
    fn line_collapses_whitespace_and_truncates() {
        assert_eq!(line("  looks\tgood\r\n to me ", 80), "looks good to me");
        assert_eq!(line(&"ä".repeat(100), 5), "äääää…");
        assert_eq!(line("abcde", 5), "abcde");
        assert_eq!(line("abcd ef", 5), "abcd…");
        assert_eq!(line(" \n\t", 5), "");
    }

    #[test]
    fn clipping_counts_characters_and_not_the_ellipsis() {
        for (text, clipped, marked) in [("", "", ""), ("äöü", "äöü", "äöü"), ("äöü!", "äöü", "äöü…")]
        {
            assert_eq!((clip(text, 3), clip_with_ellipsis(text, 3).as_str()), (clipped, marked));
        }
        assert_eq!((clip("a", 0), clip_with_ellipsis("a", 0).as_str()), ("", "…"));
    }

    #[derive(Debug)]
    struct Wrapped(&'static str, Option<Box<Wrapped>>);

    impl std::fmt::Display for Wrapped {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|source| source as &(dyn Error + 'static))
        }
    }

    #[test]
    fn an_error_chain_names_every_cause_once() {
        let refused = || Wrapped("connection refused", None);
        let io = Wrapped("io error: connection refused", Some(Box::new(refused())));
        let dispatch = Wrapped("dispatch failure", Some(Box::new(io)));
        assert_eq!(error_chain(&refused()), "connection refused");
        assert_eq!(error_chain(&dispatch), "dispatch failure: io error: connection refused");
    }

    #[test]
    fn visible_json_keeps_its_values() {
        for text in UNSAFE {
            let json = format!("{{\n  \"reason\": \"{}\"\n}}", text.replace(['\r', '\n', '\u{1b}', '\u{7}'], "\u{9b}"));
            let shown = visible_json(&json);
            assert!(shown.chars().all(|it| is_visible(it) || it == '\n'), "{shown:?}");
        }
        assert_eq!(visible_json("{\"a\":\"v1\u{202e}\u{e0041}\"}"), "{\"a\":\"v1\\u202e\\udb40\\udc41\"}");
    }
}
