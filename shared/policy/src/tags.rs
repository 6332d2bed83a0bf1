//! Which tags of a repository become releases: checks a rule when the file is read, and matches tags when images are pushed.

use regex::bytes::{Regex, RegexBuilder};
use rollout::policy::TagRule;

/// Maximum length of a rule's pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 256;

/// Maximum memory of a compiled regular expression, in bytes: bounds what a pattern such as `(a{999}){999}` costs.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Why a pattern is not a valid rule.
#[derive(Debug, thiserror::Error)]
pub enum TagRuleError {
    /// Nothing matches an empty pattern.
    #[error("the pattern is empty: write `*` for every tag")]
    Empty,
    /// More than [`MAX_PATTERN_BYTES`] bytes.
    #[error("the pattern has {0} bytes, at most {MAX_PATTERN_BYTES} are allowed")]
    TooLong(usize),
    /// Not a shell pattern.
    #[error("`{pattern}` is not a glob such as `v*` or `release-??`")]
    Glob {
        /// The pattern as written.
        pattern: String,
        /// What is wrong.
        #[source]
        source: globset::Error,
    },
    /// Not a regular expression, or too large when compiled.
    #[error("`{pattern}` is not a regular expression such as `v[0-9]+`")]
    Regex {
        /// The pattern as written.
        pattern: String,
        /// What is wrong.
        #[source]
        source: regex::Error,
    },
    /// Not a range of semantic versions.
    #[error("`{pattern}` is not a range of versions such as `>=1.2, <2`")]
    Semver {
        /// The pattern as written.
        pattern: String,
        /// What is wrong.
        #[source]
        source: semver::Error,
    },
}

/// A rule for shell patterns: `v*`, `release-??`, `{main,release}-*`.
///
/// # Errors
/// [`TagRuleError`] where `pattern` is invalid.
pub fn glob(pattern: &str) -> Result<TagRule, TagRuleError> {
    checked(TagRule::Glob(pattern.to_owned()))
}

/// A rule for regular expressions, which the whole tag must match.
///
/// # Errors
/// [`TagRuleError`] where `pattern` is invalid.
pub fn regex(pattern: &str) -> Result<TagRule, TagRuleError> {
    checked(TagRule::Regex(pattern.to_owned()))
}

/// A rule for ranges of semantic versions: `>=1.2, <2`. A tag's leading `v` is ignored.
///
/// # Errors
/// [`TagRuleError`] where `range` is invalid.
pub fn semver(range: &str) -> Result<TagRule, TagRuleError> {
    checked(TagRule::Semver(range.to_owned()))
}

/// A rule that matches what `take` matches and `not` does not: `v*`, but not `*-arm64`. Both are valid already.
#[must_use]
pub fn except(take: TagRule, not: TagRule) -> TagRule {
    TagRule::Except { take: Box::new(take), not: Box::new(not) }
}

fn checked(rule: TagRule) -> Result<TagRule, TagRuleError> {
    Matcher::new(&rule).map(|_| rule)
}

/// Whether `tag` becomes a release. A rule that does not compile matches nothing: the check of the file lets no such rule
/// pass.
#[must_use]
pub fn matches(rule: &TagRule, tag: &str) -> bool {
    Matcher::new(rule).is_ok_and(|matcher| matcher.matches(tag))
}

/// A compiled rule, for matching many tags.
#[derive(Debug, Clone)]
pub struct Matcher(Compiled);

#[derive(Debug, Clone)]
enum Compiled {
    Glob(globset::GlobMatcher),
    Regex(Regex),
    Semver(semver::VersionReq),
    Except(Box<(Matcher, Matcher)>),
}

impl Matcher {
    /// Compiles `rule`.
    ///
    /// # Errors
    /// [`TagRuleError`] where the rule is invalid.
    pub fn new(rule: &TagRule) -> Result<Self, TagRuleError> {
        let compiled = match rule {
            TagRule::Glob(pattern) => globset::Glob::new(checked_length(pattern)?)
                .map(|glob| Compiled::Glob(glob.compile_matcher()))
                .map_err(|source| TagRuleError::Glob { pattern: pattern.clone(), source })?,
            TagRule::Regex(pattern) => {
                let wrong = |source| TagRuleError::Regex { pattern: pattern.clone(), source };
                // Compiled alone first: `a)|(b` is invalid, and would become valid inside the brackets between the anchors.
                compile_regex(checked_length(pattern)?).map_err(wrong)?;
                Compiled::Regex(compile_regex(&format!(r"\A(?:{pattern})\z")).map_err(wrong)?)
            }
            TagRule::Semver(pattern) => semver::VersionReq::parse(checked_length(pattern)?)
                .map(Compiled::Semver)
                .map_err(|source| TagRuleError::Semver { pattern: pattern.clone(), source })?,
            TagRule::Except { take, not } => Compiled::Except(Box::new((Self::new(take)?, Self::new(not)?))),
        };
        Ok(Self(compiled))
    }

    /// Whether `tag` becomes a release.
    #[must_use]
    pub fn matches(&self, tag: &str) -> bool {
        match &self.0 {
            Compiled::Glob(glob) => glob.is_match(tag),
            Compiled::Regex(regex) => regex.is_match(tag.as_bytes()),
            Compiled::Except(rules) => rules.0.matches(tag) && !rules.1.matches(tag),
            Compiled::Semver(range) => {
                let version = tag.strip_prefix('v').unwrap_or(tag);
                semver::Version::parse(version).is_ok_and(|version| range.matches(&version))
            }
        }
    }
}

/// The pattern, if it is neither empty nor too long.
fn checked_length(pattern: &str) -> Result<&str, TagRuleError> {
    match pattern.len() {
        0 => Err(TagRuleError::Empty),
        1..=MAX_PATTERN_BYTES => Ok(pattern),
        longer => Err(TagRuleError::TooLong(longer)),
    }
}

/// Matches bytes without Unicode tables: a registry's tags are `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}` (OCI distribution spec,
/// "tag").
fn compile_regex(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).unicode(false).size_limit(MAX_REGEX_BYTES).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_matches_the_whole_tag() {
        let rule = glob("v*").expect("a glob");
        assert!(matches(&rule, "v1") && matches(&rule, "v"));
        assert!(!matches(&rule, "rev1"));
        assert!(matches(&glob("{main,release}-??").expect("a glob"), "main-42"));
    }

    #[test]
    fn a_regular_expression_is_anchored_at_both_ends() {
        let rule = regex(r"v\d+|main").expect("a regular expression");
        assert!(matches(&rule, "v12") && matches(&rule, "main"));
        for tag in ["v12-rc", "xv12", "mainly", "remain", "v12\n"] {
            assert!(!matches(&rule, tag), "{tag:?}");
        }
        assert!(matches(&regex("(?i)MAIN").expect("a regular expression"), "main"));
    }

    #[test]
    fn a_semver_range_ignores_a_leading_v() {
        let rule = semver(">=1.2, <2").expect("a range");
        assert!(matches(&rule, "v1.2.0") && matches(&rule, "1.9.3"));
        for tag in ["v2.0.0", "1.1.9", "vv1.2.0", "1.2", "latest", "v1.3.0-rc.1"] {
            assert!(!matches(&rule, tag), "{tag:?}");
        }
    }

    /// Issue 10, case 12: `v1.2.3-amd64`, `v1.2.3-arm64`, then the index `v1.2.3`.
    #[test]
    fn an_excluded_tag_does_not_match() {
        let arches = glob("*-{amd64,arm64}").expect("a glob");
        let rule = except(glob("v*").expect("a glob"), arches);
        assert!(matches(&rule, "v1.2.3") && matches(&rule, "v1.2.3-rc.1"));
        for tag in ["v1.2.3-amd64", "v1.2.3-arm64", "main"] {
            assert!(!matches(&rule, tag), "{tag}");
        }
    }

    #[test]
    fn an_invalid_pattern_is_refused() {
        assert!(matches!(glob("[v"), Err(TagRuleError::Glob { .. })));
        assert!(matches!(regex("a)|(b"), Err(TagRuleError::Regex { .. })));
        assert!(matches!(regex("((a{999}){999}){999}"), Err(TagRuleError::Regex { .. })));
        assert!(matches!(semver("about 2"), Err(TagRuleError::Semver { .. })));
        assert!(matches!(glob(""), Err(TagRuleError::Empty)));
        assert!(matches!(regex(&"a".repeat(MAX_PATTERN_BYTES + 1)), Err(TagRuleError::TooLong(257))));
    }
}
