//! Optional terminal colours.

use crate::journal::Tone;
use rollout::Slot;
use rollout::text::{REPLACEMENT, visible_lines};

/// The SGR codes in use, the reset code first (ECMA-48).
const CODES: [&str; 7] = ["0", "1", "2", "31", "32", "33", "34"];

/// Adds colour codes to text, or leaves it plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    coloured: bool,
}

impl Paint {
    /// Text without colours.
    pub const PLAIN: Self = Self { coloured: false };
    /// Text with the sixteen colours that every terminal supports.
    pub const COLOURED: Self = Self { coloured: true };

    /// Makes text with colours safe for a terminal: control characters from outside are shown, not executed
    /// ([`rollout::text::visible_lines`]). Only this type's own codes are kept, if colours are on.
    #[must_use]
    pub fn visible(self, text: &str) -> String {
        let mut parts = text.split('\x1b');
        let mut safe = visible_lines(parts.next().unwrap_or_default());
        for part in parts {
            let code = CODES.iter().find_map(|code| {
                let rest = part.strip_prefix('[')?.strip_prefix(code)?.strip_prefix('m')?;
                Some((code, rest))
            });
            match code.filter(|_| self.coloured) {
                Some((code, rest)) => safe.push_str(&format!("\x1b[{code}m{}", visible_lines(rest))),
                None => safe.push_str(&format!("{REPLACEMENT}{}", visible_lines(part))),
            }
        }
        safe
    }

    fn sgr(self, code: &str, text: &str) -> String {
        if self.coloured && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Emphasised: what a reader looks for first.
    #[must_use]
    pub fn strong(self, text: &str) -> String {
        self.sgr("1", text)
    }

    /// De-emphasised: secondary details.
    #[must_use]
    pub fn faint(self, text: &str) -> String {
        self.sgr("2", text)
    }

    /// In the colour of a tone.
    #[must_use]
    pub fn tone(self, tone: Tone, text: &str) -> String {
        match tone {
            Tone::Plain => text.to_owned(),
            Tone::Good => self.sgr("32", text),
            Tone::Warning => self.sgr("33", text),
            Tone::Bad => self.sgr("31", text),
        }
    }

    /// In a side's colour.
    #[must_use]
    pub fn slot(self, slot: Slot, text: &str) -> String {
        match slot {
            Slot::Blue => self.sgr("34", text),
            Slot::Green => self.sgr("32", text),
        }
    }

    /// The mark of a tone, readable without colours.
    #[must_use]
    pub fn mark(self, tone: Tone) -> String {
        match tone {
            Tone::Plain => self.faint("·"),
            Tone::Good => self.tone(tone, "✓"),
            Tone::Warning => self.tone(tone, "!"),
            Tone::Bad => self.tone(tone, "✗"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_terminal_escapes_are_neutralized() {
        let painted = |paint: Paint| format!("{}\n", paint.strong("api\u{1b}]0;title\u{7}\u{202e}"));
        let coloured = Paint::COLOURED.visible(&painted(Paint::COLOURED));
        assert_eq!(coloured, "\u{1b}[1mapi\u{fffd}]0;title\u{fffd}\u{fffd}\u{1b}[0m\n");
        assert_eq!(Paint::PLAIN.visible(&painted(Paint::PLAIN)), "api\u{fffd}]0;title\u{fffd}\u{fffd}\n");
        assert_eq!(Paint::PLAIN.visible("\u{1b}[31mred"), "\u{fffd}[31mred");
        assert_eq!(Paint::COLOURED.visible("\u{1b}[8mhidden\u{1b}[2K\u{1b}"), "\u{fffd}[8mhidden\u{fffd}[2K\u{fffd}");
    }
}
