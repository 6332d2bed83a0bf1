//! The rule of a composite alarm: `ALARM("a") AND NOT (OK(b) OR INSUFFICIENT_DATA(c))`.

use super::shapes::AlarmState;
use std::collections::BTreeSet;

/// A rule, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    Is(AlarmState, String),
    Constant(bool),
    Not(Box<Rule>),
    And(Box<Rule>, Box<Rule>),
    Or(Box<Rule>, Box<Rule>),
}

impl Rule {
    /// Reads a rule; the error is what was found where something else was needed.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut words = words(text)?;
        words.reverse();
        let rule = any(&mut words)?;
        match words.pop() {
            None => Ok(rule),
            Some(word) => Err(format!("`{word}` after the end of the rule")),
        }
    }

    /// Whether it holds.
    pub(super) fn holds(&self, state: &impl Fn(&str) -> Option<AlarmState>) -> bool {
        match self {
            Self::Is(wanted, name) => state(name) == Some(*wanted),
            Self::Constant(value) => *value,
            Self::Not(rule) => !rule.holds(state),
            Self::And(a, b) => a.holds(state) && b.holds(state),
            Self::Or(a, b) => a.holds(state) || b.holds(state),
        }
    }

    /// The alarms that it names.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        match self {
            Self::Is(_, name) => BTreeSet::from([name.as_str()]),
            Self::Constant(_) => BTreeSet::new(),
            Self::Not(rule) => rule.names(),
            Self::And(a, b) | Self::Or(a, b) => a.names().into_iter().chain(b.names()).collect(),
        }
    }
}

fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' => 1,
            '"' => rest[1..].find('"').map(|end| end + 2).ok_or("a quote that does not end")?,
            _ => rest.find(|c: char| c.is_whitespace() || c == '(' || c == ')' || c == '"').unwrap_or(rest.len()),
        };
        words.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    Ok(words)
}

fn any(words: &mut Vec<String>) -> Result<Rule, String> {
    let mut rule = all(words)?;
    while words.last().is_some_and(|word| word == "OR") {
        words.pop();
        rule = Rule::Or(Box::new(rule), Box::new(all(words)?));
    }
    Ok(rule)
}

fn all(words: &mut Vec<String>) -> Result<Rule, String> {
    let mut rule = one(words)?;
    while words.last().is_some_and(|word| word == "AND") {
        words.pop();
        rule = Rule::And(Box::new(rule), Box::new(one(words)?));
    }
    Ok(rule)
}

fn one(words: &mut Vec<String>) -> Result<Rule, String> {
    let word = words.pop().ok_or("the rule ends too early")?;
    match word.as_str() {
        "NOT" => Ok(Rule::Not(Box::new(one(words)?))),
        "TRUE" => Ok(Rule::Constant(true)),
        "FALSE" => Ok(Rule::Constant(false)),
        "(" => {
            let rule = any(words)?;
            expect(words, ")")?;
            Ok(rule)
        }
        _ => {
            let state = match word.as_str() {
                "ALARM" => AlarmState::Alarm,
                "OK" => AlarmState::Ok,
                "INSUFFICIENT_DATA" => AlarmState::InsufficientData,
                _ => return Err(format!("`{word}` is no state")),
            };
            expect(words, "(")?;
            let name = words.pop().ok_or("an alarm's name is missing")?;
            expect(words, ")")?;
            let name = name.trim_matches('"');
            // An ARN names its alarm last.
            let name = name.rsplit_once(":alarm:").map_or(name, |(_, name)| name);
            Ok(Rule::Is(state, name.to_owned()))
        }
    }
}

fn expect(words: &mut Vec<String>, wanted: &str) -> Result<(), String> {
    match words.pop() {
        Some(word) if word == wanted => Ok(()),
        Some(word) => Err(format!("`{word}` where `{wanted}` was expected")),
        None => Err(format!("the rule ends where `{wanted}` was expected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str) -> bool {
        let state = |name: &str| match name {
            "on" => Some(AlarmState::Alarm),
            "off" => Some(AlarmState::Ok),
            _ => None,
        };
        Rule::parse(text).expect("a rule").holds(&state)
    }

    #[test]
    fn operators_bind_as_cloudwatch_documents() {
        assert!(holds("ALARM(on) OR ALARM(off) AND ALARM(off)"));
        assert!(!holds("(ALARM(on) OR ALARM(off)) AND ALARM(\"off\")"));
        assert!(holds("NOT ALARM(off) AND OK(arn:aws:cloudwatch:eu-central-1:111122223333:alarm:off)"));
        assert!(!holds("INSUFFICIENT_DATA(unknown) OR FALSE"));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in ["", "ALARM on", "ALARM(on", "ALARM(on) XOR OK(off)", "BAD(on)", "ALARM(\"on)"] {
            assert!(Rule::parse(text).is_err(), "{text:?} was read as a rule");
        }
    }
}
