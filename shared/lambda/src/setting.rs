//! Settings read at start-up: numbers and switches from environment variables, with errors that name the variable.

use crate::InvocationFailure;
use std::error::Error;

/// The value of a setting, for the `start` of [`run`](crate::run()).
///
/// # Errors
/// A `Configuration` failure if the setting is missing or invalid.
pub fn configured<T, E: Error>(setting: Result<T, E>) -> Result<T, InvocationFailure> {
    setting.map_err(|error| InvocationFailure::configuration(&error))
}

/// Reads a whole number from an environment variable; `default` if it is unset or empty.
///
/// # Errors
/// A `Configuration` failure that names the variable and its value, if that is not a whole number.
pub fn number(variable: &str, default: u64) -> Result<u64, InvocationFailure> {
    parse(variable, std::env::var(variable).ok().as_deref(), default)
}

/// Reads `on` or `off` from an environment variable; `default` if it is unset or empty.
///
/// # Errors
/// A `Configuration` failure that names the variable and its value, if that is neither.
pub fn switch(variable: &str, default: bool) -> Result<bool, InvocationFailure> {
    parse_switch(variable, std::env::var(variable).ok().as_deref(), default)
}

#[derive(Debug, thiserror::Error)]
#[error("the environment variable {variable} holds `{value}`, which is neither `on` nor `off`")]
struct InvalidSwitch {
    variable: String,
    value: String,
}

fn parse_switch(variable: &str, value: Option<&str>, default: bool) -> Result<bool, InvocationFailure> {
    match value.map(str::trim) {
        None | Some("") => Ok(default),
        Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(text) => {
            let invalid = InvalidSwitch { variable: variable.to_owned(), value: text.to_owned() };
            Err(InvocationFailure::configuration(&invalid))
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the environment variable {variable} holds `{value}`, which is no whole number")]
struct InvalidNumber {
    variable: String,
    value: String,
    #[source]
    source: std::num::ParseIntError,
}

fn parse(variable: &str, value: Option<&str>, default: u64) -> Result<u64, InvocationFailure> {
    match value.map(str::trim) {
        None | Some("") => Ok(default),
        Some(text) => text.parse().map_err(|source| {
            let invalid = InvalidNumber { variable: variable.to_owned(), value: text.to_owned(), source };
            InvocationFailure::configuration(&invalid)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_variable_uses_the_default() {
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
    fn an_invalid_number_names_its_variable() {
        let failure = parse("EVERY", Some("often"), 5).expect_err("no number");
        assert_eq!(failure.kind(), "Configuration");
        assert_eq!(
            failure.to_string(),
            "the environment variable EVERY holds `often`, which is no whole number: invalid digit found in string"
        );
    }
}
