//! Numbers and switches from the environment, with errors that name the variable.

use crate::Failure;

/// Reads a whole number from the environment; `default` where the variable is not there or is empty.
///
/// # Errors
/// A `Configuration` failure that names the variable and what it holds, where that is no whole number.
pub fn number(variable: &str, default: u64) -> Result<u64, Failure> {
    parse(variable, std::env::var(variable).ok().as_deref(), default)
}

/// Reads `on` or `off` from the environment; `default` where the variable is not there or is empty.
///
/// # Errors
/// A `Configuration` failure that names the variable and what it holds, where that is neither.
pub fn switch(variable: &str, default: bool) -> Result<bool, Failure> {
    parse_switch(variable, std::env::var(variable).ok().as_deref(), default)
}

#[derive(Debug, thiserror::Error)]
#[error("the environment variable {variable} holds `{value}`, which is neither `on` nor `off`")]
struct NoSwitch {
    variable: String,
    value: String,
}

fn parse_switch(variable: &str, value: Option<&str>, default: bool) -> Result<bool, Failure> {
    match value.map(str::trim) {
        None | Some("") => Ok(default),
        Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(text) => Err(Failure::configuration(&NoSwitch { variable: variable.to_owned(), value: text.to_owned() })),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the environment variable {variable} holds `{value}`, which is no whole number")]
struct NoNumber {
    variable: String,
    value: String,
    #[source]
    source: std::num::ParseIntError,
}

fn parse(variable: &str, value: Option<&str>, default: u64) -> Result<u64, Failure> {
    match value.map(str::trim) {
        None | Some("") => Ok(default),
        Some(text) => text.parse().map_err(|source| {
            Failure::configuration(&NoNumber { variable: variable.to_owned(), value: text.to_owned(), source })
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_not_there_is_the_default() {
        assert_eq!(parse("EVERY", None, 5), Ok(5));
        assert_eq!(parse("EVERY", Some(""), 5), Ok(5));
        assert_eq!(parse("EVERY", Some("1"), 5), Ok(1));
    }

    #[test]
    fn a_switch_is_on_or_off_and_nothing_else() {
        let read = |text| parse_switch("RECORD", text, true);
        assert_eq!([None, Some(""), Some("on"), Some("off")].map(read), [Ok(true), Ok(true), Ok(true), Ok(false)]);
        let failure = read(Some("no")).expect_err("no switch");
        assert_eq!(failure.to_string(), "the environment variable RECORD holds `no`, which is neither `on` nor `off`");
    }

    #[test]
    fn what_is_no_number_is_named() {
        let failure = parse("EVERY", Some("often"), 5).expect_err("no number");
        assert_eq!(failure.kind(), "Configuration");
        assert_eq!(
            failure.to_string(),
            "the environment variable EVERY holds `often`, which is no whole number: invalid digit found in string"
        );
    }
}
