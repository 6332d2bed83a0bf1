//! Colours, where whoever shows the text wants them.

use crate::journal::Tone;
use rollout::Slot;
use rollout::text::{REPLACEMENT, visible_lines};

/// The codes that are put around words, and the one that ends them (ECMA-48, SGR).
const CODES: [&str; 7] = ["0", "1", "2", "31", "32", "33", "34"];

/// Puts colours around words, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    coloured: bool,
}

impl Paint {
    /// Words as they are.
    pub const PLAIN: Self = Self { coloured: false };
    /// With the sixteen colours that every terminal has.
    pub const COLOURED: Self = Self { coloured: true };

    /// Text for a terminal, with all of its colours: everything that others wrote is shown and nothing of it acts on the
    /// terminal ([`rollout::text::visible_lines`]). What stays are the codes of this type, where they are wanted.
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

    fn with(self, code: &str, text: &str) -> String {
        if self.coloured && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What is looked for first.
    #[must_use]
    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    /// What is there for whoever looks for it.
    #[must_use]
    pub fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    /// In the colour of how it is meant.
    #[must_use]
    pub fn tone(self, tone: Tone, text: &str) -> String {
        match tone {
            Tone::Plain => text.to_owned(),
            Tone::Good => self.with("32", text),
            Tone::Warning => self.with("33", text),
            Tone::Bad => self.with("31", text),
        }
    }

    /// In a side's colour.
    #[must_use]
    pub fn slot(self, slot: Slot, text: &str) -> String {
        match slot {
            Slot::Blue => self.with("34", text),
            Slot::Green => self.with("32", text),
        }
    }

    /// The mark of a tone: read without colours too.
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
    fn nothing_of_others_acts_on_a_terminal() {
        let painted = |paint: Paint| format!("{}\n", paint.strong("api\u{1b}]0;title\u{7}\u{202e}"));
        let coloured = Paint::COLOURED.visible(&painted(Paint::COLOURED));
        assert_eq!(coloured, "\u{1b}[1mapi\u{fffd}]0;title\u{fffd}\u{fffd}\u{1b}[0m\n");
        assert_eq!(Paint::PLAIN.visible(&painted(Paint::PLAIN)), "api\u{fffd}]0;title\u{fffd}\u{fffd}\n");
        assert_eq!(Paint::PLAIN.visible("\u{1b}[31mred"), "\u{fffd}[31mred");
        assert_eq!(Paint::COLOURED.visible("\u{1b}[8mhidden\u{1b}[2K\u{1b}"), "\u{fffd}[8mhidden\u{fffd}[2K\u{fffd}");
    }
}
