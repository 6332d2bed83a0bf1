//! What may stand in no log: secrets, and whatever else lets whoever reads it do something.
//!
//! Two ways of looking: for the very texts that were planted (the secrets that the product was given, every token that the
//! issuer has signed or a runner was given), and for everything of the shape of one.

use super::{HarnessError, Stack, packages};

/// A text that nobody may see, and what it is.
#[derive(Debug, Clone)]
pub struct KnownSecret {
    description: &'static str,
    text: String,
}

/// How texts begin that let their holder do something, each with what it is and how many characters more it has at least.
const SECRET_PREFIXES: [(&str, &str, usize); 5] = [
    // Base64url of `{"`: what a JSON web token and a link's token begin with.
    ("eyJ", "a token or a link", 20),
    ("xoxb-", "a bot token of Slack", 1),
    ("xapp-", "an app token of Slack", 1),
    ("AWS4-HMAC-SHA256 Credential=", "a signature", 1),
    ("/actions/T", "a response URL of Slack", 4),
];

/// Everything that was planted in this stack so far.
///
/// # Errors
/// [`HarnessError`] where the emulator does not say what it made up itself.
pub fn known_secrets(stack: &Stack) -> Result<Vec<KnownSecret>, HarnessError> {
    let mut known_secrets = vec![
        KnownSecret { description: "the bot token", text: stack.slack().bot_token().to_owned() },
        KnownSecret { description: "the signing secret", text: stack.slack().signing_secret().to_owned() },
        KnownSecret { description: "the key for links", text: stack.secret("LinkKey")? },
    ];
    for (description, text) in stack.issuer().given() {
        // Whoever has the signature has the token: the rest of it is no secret.
        let secret = text.rsplit_once('.').map_or(text.as_str(), |(_, signature)| signature);
        if !secret.is_empty() {
            known_secrets.push(KnownSecret { description, text: secret.to_owned() });
        }
    }
    Ok(known_secrets)
}

/// What of it stands in a text: a sentence for each line that has some, without the text itself.
#[must_use]
pub fn found(whose: &str, text: &str, known_secrets: &[KnownSecret]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let exact = known_secrets
            .iter()
            .find(|known_secrets| line.contains(&known_secrets.text))
            .map(|known_secrets| known_secrets.description);
        if let Some(description) = exact.or_else(|| shape_in(line)) {
            let around = rollout::text::clip(line, 60);
            found.push(format!("{whose}, line {}: {description} is in it ({around}…)", number + 1));
        }
    }
    found
}

fn shape_in(line: &str) -> Option<&'static str> {
    let token = |it: &char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.' | '/');
    let has = |(begins, _, more): &&(&str, &str, usize)| {
        line.match_indices(begins).any(|(at, _)| line[at + begins.len()..].chars().take_while(token).count() >= *more)
    };
    SECRET_PREFIXES.iter().find(has).map(|(_, description, _)| *description)
}

/// What stands in the log of any function that may not: a sentence for each line. The functions write at their lowest
/// level here, so that what is not found is written at none.
#[must_use]
pub fn in_logs(stack: &Stack) -> Vec<String> {
    let look = || -> Result<Vec<String>, HarnessError> {
        let known_secrets = known_secrets(stack)?;
        let (mut leaks, mut lines) = (Vec::new(), 0);
        for function in packages::functions()? {
            let log = stack.function_log(&function)?;
            lines += log.lines().count();
            leaks.extend(found(&format!("the log of {function}"), &log, &known_secrets));
        }
        eprintln!("{lines} log lines were looked through for {} secrets and tokens", known_secrets.len());
        if lines == 0 {
            leaks.push("no function has written a line: nothing was looked through".to_owned());
        }
        Ok(leaks)
    };
    look().unwrap_or_else(|failure| vec![format!("the logs cannot be looked through: {failure}")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_secrets_and_secret_shaped_text_are_found() {
        let known_secrets = [KnownSecret { description: "the key", text: "k7Gq2mX9".to_owned() }];
        let log = "well\nkey is k7Gq2mX9.\neyJhbGciOiJSUzI1NiIsInR5cCI6Ikp\nat /approvals/eyJ2IjoxLCJ0YXJnZXQiOiJzaG9w.x\nxoxb-1\n\
                   eyJ\nhttps://hooks.slack.com/actions/T1DC2JH3J/3/x\n";
        let found = found("a log", log, &known_secrets);
        let lines: Vec<_> = found.iter().filter_map(|leak| leak.split([',', ':']).nth(1)).collect();
        assert_eq!(lines, [" line 2", " line 3", " line 4", " line 5", " line 7"]);
        assert!(found[0].starts_with("a log, line 2: the key is in it"), "{found:?}");
    }
}
