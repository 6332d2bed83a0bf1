//! Durations and percentages, with the notation that people use.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A duration in whole seconds, at most 30 days. Written `90s`, `5m`, `4h`, `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(pub u64);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a duration: write a whole number and a unit, such as `90s`, `5m`, `4h` or `1d` (at most 30 days)"
)]
pub struct DurationError(pub String);

impl Seconds {
    /// The longest duration that a policy may name: 30 days.
    pub const MAX: Self = Self(30 * 24 * 3600);

    /// Parses `90s`, `5m`, `4h`, `1d`, or `0`.
    ///
    /// # Errors
    /// [`DurationError`] for anything else, and for more than [`Seconds::MAX`].
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let wrong = || DurationError(text.to_owned());
        if text == "0" {
            return Ok(Self(0));
        }
        let unit = text.chars().last().ok_or_else(wrong)?;
        let factor = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86400,
            _ => return Err(wrong()),
        };
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        let seconds = Self(number.checked_mul(factor).ok_or_else(wrong)?);
        if seconds <= Self::MAX { Ok(seconds) } else { Err(wrong()) }
    }

    /// The instant this long after `instant`, saturating at the latest timestamp.
    #[must_use]
    pub fn after(self, instant: Timestamp) -> Timestamp {
        let span = SignedDuration::from_secs(i64::try_from(self.0).unwrap_or(i64::MAX));
        instant.checked_add(span).unwrap_or(Timestamp::MAX)
    }

    /// Whole seconds from `earlier` to `later`, 0 if `later` is not later. Fractions are rounded up, so that a wait of
    /// this length never ends early.
    #[must_use]
    pub fn between(earlier: Timestamp, later: Timestamp) -> Self {
        let milliseconds = later.as_millisecond().saturating_sub(earlier.as_millisecond()).max(0);
        Self(u64::try_from(milliseconds).unwrap_or(0).div_ceil(1000))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0s"),
            n if n % 86400 == 0 => write!(f, "{}d", n / 86400),
            n if n % 3600 == 0 => write!(f, "{}h", n / 3600),
            n if n % 60 == 0 => write!(f, "{}m", n / 60),
            n => write!(f, "{n}s"),
        }
    }
}

/// A percentage of traffic or capacity, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Percent(u8);

impl Percent {
    /// 100 %.
    pub const ALL: Self = Self(100);
    /// 0 %.
    pub const NONE: Self = Self(0);
    /// 5 %.
    pub(crate) const FIVE: Self = Self(5);

    /// None if `value` is more than 100.
    #[must_use]
    pub fn new(value: u8) -> Option<Self> {
        (value <= 100).then_some(Self(value))
    }

    /// The percentage, 0 to 100.
    #[must_use]
    pub fn value(self) -> u8 {
        self.0
    }

    /// This percentage of `count`, rounded up: half of 3 tasks is 2.
    #[must_use]
    pub fn of(self, count: u32) -> u32 {
        let share = (u64::from(count) * u64::from(self.0)).div_ceil(100);
        u32::try_from(share).unwrap_or(u32::MAX)
    }
}

impl TryFrom<u8> for Percent {
    type Error = String;
    fn try_from(value: u8) -> Result<Self, Self::Error> {
        Self::new(value).ok_or_else(|| format!("{value} is more than 100 %"))
    }
}
impl From<Percent> for u8 {
    fn from(value: Percent) -> Self {
        value.0
    }
}
impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}
