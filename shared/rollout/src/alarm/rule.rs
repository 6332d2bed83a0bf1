//! The rule of a composite alarm: `ALARM("a") AND NOT (OK(b) OR AT_LEAST(2, ALARM, (c, "d e", arn:…:alarm:f)))`.
//!
//! Syntax: CloudWatch user guide, "Composite alarms" (rule expressions, alarm references); AT_LEAST as aws-cdk writes
//! it (`aws-cloudwatch/lib/alarm-rule.ts`): a count or a percentage, a state with or without NOT, and a list of alarms.

use std::collections::BTreeSet;
use std::fmt;

/// Maximum nesting of a rule. CloudWatch allows 10,240 characters; without a limit one rule could overflow the stack.
const MAX_DEPTH: usize = 64;

/// An alarm's `StateValue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateValue {
    /// `ALARM`
    Alarm,
    /// `OK`
    Ok,
    /// `INSUFFICIENT_DATA`
    InsufficientData,
}

impl StateValue {
    /// Parses CloudWatch's spelling; none: not a state.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ALARM" => Some(Self::Alarm),
            "OK" => Some(Self::Ok),
            "INSUFFICIENT_DATA" => Some(Self::InsufficientData),
            _ => None,
        }
    }
}

/// How many of the alarms of an `AT_LEAST` must be in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// This many.
    Count(usize),
    /// This percentage of them.
    Percent(usize),
}

/// A parsed rule. Alarms are identified by name, whether the rule uses names or ARNs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlarmRule {
    /// `ALARM(name)`, `OK(name)`, `INSUFFICIENT_DATA(name)`
    Is(StateValue, String),
    /// `TRUE`, `FALSE`
    Constant(bool),
    /// `NOT …`
    Not(Box<AlarmRule>),
    /// `… AND …`
    All(Vec<AlarmRule>),
    /// `… OR …`
    Any(Vec<AlarmRule>),
    /// `AT_LEAST(2, NOT OK, (a, b, c))`
    AtLeast {
        /// How many alarms must match.
        threshold: Threshold,
        /// Alarms *not* in `state` are counted.
        negated: bool,
        /// The state to compare with.
        state: StateValue,
        /// The alarms, by name.
        alarms: Vec<String>,
    },
}

/// Why a rule could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError(String);

impl fmt::Display for RuleError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for RuleError {}

impl AlarmRule {
    /// Parses a rule.
    ///
    /// # Errors
    /// What was found, and what was expected instead.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let mut parser = Parser { rest: text.trim_start(), depth: 0 };
        let rule = parser.any()?;
        match parser.rest {
            "" => Ok(rule),
            rest => Err(RuleError(format!("`{rest}` after the end of the rule"))),
        }
    }

    /// Whether the rule holds, given the alarms' states. An alarm without a state matches no state.
    pub fn holds(&self, state_of: &impl Fn(&str) -> Option<StateValue>) -> bool {
        match self {
            Self::Is(wanted, name) => state_of(name) == Some(*wanted),
            Self::Constant(value) => *value,
            Self::Not(rule) => !rule.holds(state_of),
            Self::All(rules) => rules.iter().all(|rule| rule.holds(state_of)),
            Self::Any(rules) => rules.iter().any(|rule| rule.holds(state_of)),
            Self::AtLeast { threshold, negated, state, alarms } => {
                let counts = |name: &&String| state_of(name).is_some_and(|now| (now == *state) != *negated);
                let count = alarms.iter().filter(counts).count();
                match threshold {
                    Threshold::Count(wanted) => count >= *wanted,
                    Threshold::Percent(wanted) => count * 100 >= wanted * alarms.len(),
                }
            }
        }
    }

    /// Every alarm that the rule names.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        self.visit(true, &mut |_, name, _| _ = names.insert(name));
        names
    }

    /// The alarms that make the rule hold by firing: `ALARM(a)`, `NOT OK(a)`. An alarm under NOT only suppresses
    /// (`NOT ALARM(maintenance)`), and one that is tested for lack of data does not indicate trouble.
    #[must_use]
    pub fn watched(&self) -> BTreeSet<&str> {
        let mut watched = BTreeSet::new();
        self.visit(true, &mut |state, name, positive| {
            let fires = match state {
                StateValue::Alarm => positive,
                StateValue::Ok => !positive,
                StateValue::InsufficientData => false,
            };
            if fires {
                watched.insert(name);
            }
        });
        watched
    }

    /// Visits every alarm, with the state it is tested for, and whether being in that state makes the rule hold
    /// (`true`) or not.
    fn visit<'a>(&'a self, positive: bool, found: &mut dyn FnMut(StateValue, &'a str, bool)) {
        match self {
            Self::Is(state, name) => found(*state, name, positive),
            Self::Constant(_) => {}
            Self::Not(rule) => rule.visit(!positive, found),
            Self::All(rules) | Self::Any(rules) => {
                for rule in rules {
                    rule.visit(positive, found);
                }
            }
            Self::AtLeast { negated, state, alarms, .. } => {
                for name in alarms {
                    found(*state, name, positive != *negated);
                }
            }
        }
    }
}

/// A recursive-descent parser: `any` parses terms joined by `OR`, and `all` those joined by `AND`, which binds tighter.
struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Result<AlarmRule, RuleError> {
        let mut rules = vec![self.all()?];
        while self.keyword("OR") {
            rules.push(self.all()?);
        }
        Ok(single_or(rules, AlarmRule::Any))
    }

    fn all(&mut self) -> Result<AlarmRule, RuleError> {
        let mut rules = vec![self.one()?];
        while self.keyword("AND") {
            rules.push(self.one()?);
        }
        Ok(single_or(rules, AlarmRule::All))
    }

    fn one(&mut self) -> Result<AlarmRule, RuleError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(RuleError(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let rule = self.term()?;
        self.depth -= 1;
        Ok(rule)
    }

    fn term(&mut self) -> Result<AlarmRule, RuleError> {
        if self.symbol('(') {
            let rule = self.any()?;
            self.expect(')')?;
            return Ok(rule);
        }
        match self.word() {
            "NOT" => Ok(AlarmRule::Not(Box::new(self.one()?))),
            "TRUE" => Ok(AlarmRule::Constant(true)),
            "FALSE" => Ok(AlarmRule::Constant(false)),
            "AT_LEAST" => self.at_least(),
            word => {
                let state = state(word)?;
                self.expect('(')?;
                let name = self.name()?;
                self.expect(')')?;
                Ok(AlarmRule::Is(state, name))
            }
        }
    }

    fn at_least(&mut self) -> Result<AlarmRule, RuleError> {
        self.expect('(')?;
        let word = self.word();
        let threshold = match word.strip_suffix('%') {
            Some(share) => share.parse().map(Threshold::Percent),
            None => word.parse().map(Threshold::Count),
        };
        let threshold = threshold.map_err(|_| RuleError(format!("`{word}` where a number was expected")))?;
        self.expect(',')?;
        let negated = self.keyword("NOT");
        let state = state(self.word())?;
        self.expect(',')?;
        self.expect('(')?;
        let mut alarms = vec![self.name()?];
        while self.symbol(',') {
            alarms.push(self.name()?);
        }
        self.expect(')')?;
        self.expect(')')?;
        Ok(AlarmRule::AtLeast { threshold, negated, state, alarms })
    }

    /// Reads a keyword: up to whitespace, a parenthesis, a comma or a quote.
    fn word(&mut self) -> &'a str {
        let ends = |letter: char| letter.is_whitespace() || matches!(letter, '(' | ')' | ',' | '"');
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    /// Consumes this keyword, if it comes next.
    fn keyword(&mut self, keyword: &str) -> bool {
        let before = self.rest;
        let found = self.word() == keyword;
        if !found {
            self.rest = before;
        }
        found
    }

    /// Consumes this character, if it comes next.
    fn symbol(&mut self, symbol: char) -> bool {
        match self.rest.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, symbol: char) -> Result<(), RuleError> {
        if self.symbol(symbol) {
            return Ok(());
        }
        match self.word() {
            "" => Err(RuleError(format!("the rule ends where `{symbol}` was expected"))),
            word => Err(RuleError(format!("`{word}` where `{symbol}` was expected"))),
        }
    }

    /// Reads an alarm's name or ARN: quoted (a quote within is escaped by a backslash), or up to a comma or
    /// parenthesis.
    fn name(&mut self) -> Result<String, RuleError> {
        let name = match self.rest.strip_prefix('"') {
            Some(quoted) => {
                let mut name = String::new();
                let mut letters = quoted.char_indices();
                loop {
                    match letters.next() {
                        None => return Err(RuleError("a quote that does not end".to_owned())),
                        Some((at, '"')) => {
                            self.rest = quoted[at + 1..].trim_start();
                            break;
                        }
                        Some((_, '\\')) => name.extend(letters.next().map(|(_, letter)| letter)),
                        Some((_, letter)) => name.push(letter),
                    }
                }
                name
            }
            None => {
                let end = self.rest.find([',', ')', '(', '"']).unwrap_or(self.rest.len());
                let (name, rest) = self.rest.split_at(end);
                self.rest = rest;
                name.trim_end().to_owned()
            }
        };
        if name.is_empty() {
            return Err(RuleError("an alarm's name is missing".to_owned()));
        }
        // The alarm's name is the last part of its ARN.
        Ok(name.split_once(":alarm:").map_or(name.as_str(), |(_, name)| name).to_owned())
    }
}

fn single_or(mut rules: Vec<AlarmRule>, several: fn(Vec<AlarmRule>) -> AlarmRule) -> AlarmRule {
    match rules.pop() {
        Some(rule) if rules.is_empty() => rule,
        Some(rule) => {
            rules.push(rule);
            several(rules)
        }
        None => several(rules),
    }
}

fn state(word: &str) -> Result<StateValue, RuleError> {
    StateValue::parse(word).ok_or_else(|| match word {
        "" => RuleError("the rule ends where a state was expected".to_owned()),
        word => RuleError(format!("`{word}` is no state")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> AlarmRule {
        AlarmRule::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn holds(text: &str) -> bool {
        let state = |name: &str| match name {
            "on" => Some(StateValue::Alarm),
            "off" => Some(StateValue::Ok),
            _ => None,
        };
        parsed(text).holds(&state)
    }

    #[test]
    fn operators_bind_as_cloudwatch_documents() {
        assert!(holds("ALARM(on) OR ALARM(off) AND ALARM(off)"));
        assert!(!holds("(ALARM(on) OR ALARM(off)) AND ALARM(\"off\")"));
        assert!(holds("NOT ALARM(off) AND OK(arn:aws:cloudwatch:eu-central-1:111122223333:alarm:off)"));
        assert!(!holds("INSUFFICIENT_DATA(unknown) OR FALSE"));
    }

    #[test]
    fn at_least_takes_a_count_or_a_percentage() {
        assert!(holds("AT_LEAST(1, ALARM, (on, off))"));
        assert!(!holds("AT_LEAST(2, ALARM, (on, off))"));
        assert!(holds("AT_LEAST(50%, ALARM, (on, off))"));
        assert!(!holds("AT_LEAST(51%, ALARM, (on, off))"));
        assert!(holds("TRUE AND AT_LEAST( 1 ,NOT OK,(on,off) )"));
        assert!(!holds("AT_LEAST(2, NOT OK, (on, off))"));
    }

    #[test]
    fn parses_quoted_names_plain_names_and_arns() {
        let rule = parsed(
            "AT_LEAST(2, ALARM, (a, \"b c\", arn:aws:cloudwatch:eu-central-1:111122223333:alarm:d)) \
             OR ALARM(\"arn:aws:cloudwatch:eu-central-1:111122223333:alarm:e, f\") OR OK( g h )\n \
             AND NOT ALARM(\"i\\\"j\")",
        );
        assert_eq!(rule.names().into_iter().collect::<Vec<_>>(), ["a", "b c", "d", "e, f", "g h", "i\"j"]);
    }

    #[test]
    fn an_alarm_under_not_is_not_watched() {
        let watched = |text: &str| parsed(text).watched().into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(watched("ALARM(a) AND NOT ALARM(maintenance)"), ["a"]);
        assert_eq!(watched("NOT (OK(a) OR ALARM(b))"), ["a"]);
        assert_eq!(watched("NOT NOT ALARM(a)"), ["a"]);
        assert_eq!(watched("AT_LEAST(1, NOT OK, (a, b)) AND OK(c) AND INSUFFICIENT_DATA(d)"), ["a", "b"]);
        assert_eq!(watched("NOT AT_LEAST(1, ALARM, (a, b))"), [""; 0]);
    }

    #[test]
    fn invalid_rules_are_rejected() {
        let deep = format!("{}TRUE{}", "(".repeat(5000), ")".repeat(5000));
        let odd = [
            "",
            "ALARM on",
            "ALARM(on",
            "ALARM()",
            "ALARM(on) XOR OK(off)",
            "BAD(on)",
            "ALARM(\"on)",
            "AT_LEAST(few, ALARM, (on))",
            "AT_LEAST(1, ALARM, on)",
            "AT_LEAST(1, ALARM, ())",
            deep.as_str(),
        ];
        for text in odd {
            assert!(AlarmRule::parse(text).is_err(), "{text:?} was parsed");
        }
    }
}
