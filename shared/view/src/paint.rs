//! Colours, where whoever shows the text wants them.

use crate::journal::Tone;
use rollout::Slot;

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
