use super::files::one_target;
use crate::grants::{Claims, authorize};
use crate::{MAX_FILE_BYTES, MAX_PROBLEMS, parse, parse_bytes, render};
use proptest::prelude::*;
use rollout::entry::Permission;
use rollout::{Name, Policy};
use std::sync::LazyLock;

const EXAMPLE: &str = include_str!("../../examples/switchback.yaml");
static POLICY: LazyLock<Policy> = LazyLock::new(|| parse(EXAMPLE).expect("sound"));

fn report(text: &str) -> String {
    parse(text).map(|policy| format!("accepted: {policy:?}")).unwrap_or_else(|problems| problems.to_string())
}

#[test]
fn an_unreadable_file_gets_a_clear_message() {
    let empty = "1:1: the file is empty: expected `application:`, `services:` and `environments:`";
    assert_eq!(report(""), empty);
    assert_eq!(report("# nothing\n"), empty);
    assert!(report("- a\n- b\n").starts_with(
        "1:1: expected a mapping with `application`, `services`, `people`, `groups`, `github`, `environments`, `notifications` (`key: value`), found a list"
    ));
    assert!(report("PK\u{3}\u{4}").starts_with("1:3: there is a control character (U+0003) here"));
    assert!(report("application: shop\nservices: \u{0}").starts_with("2:11: there is a control character (U+0000)"));
    for (text, at) in [
        ("application: shop\n\tservices: {}\n", "2:1"),
        ("application:\tshop\n", "1:13"),
        ("environments:\n  prod:\n    trigger: push\n  \tsoak: 1h\n", "4:3"),
    ] {
        assert!(report(text).starts_with(&format!("{at}: there is a tab here")), "{}", report(text));
    }
    assert!(report("application: [shop\n").contains("this is not YAML"));
    assert!(report("a: 1\n---\nb: 2\n").contains("2:1: a second document starts here"));
    assert!(report("? [a]\n: b\n").contains("1:3: a list or a mapping stands where a key should"));
    assert!(report(&"a".repeat(MAX_FILE_BYTES + 1)).starts_with("1:1: the file has more than 262144 bytes"));
    assert!(parse(&format!("\u{feff}{EXAMPLE}")).is_ok(), "a byte order mark is no problem");
    assert!(parse(&EXAMPLE.replace('\n', "\r\n")).is_ok(), "nor are the line ends of another system");
    let problems = parse_bytes(b"application: shop\nservices: \xff").expect_err("not UTF-8");
    assert_eq!(problems.to_string(), "2:11: this is not UTF-8 text: save the file as UTF-8");
}

#[test]
fn anchors_aliases_and_tags_are_refused_without_expansion() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let aliases = vec![format!("*a{}", n - 1); 9].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
    }
    let report = report(&bomb);
    assert!(report.contains("1:5: anchors (`&name`) are not supported"), "{report}");
    assert!(report.contains("2:10: aliases (`*name`) are not supported"), "{report}");
    assert!(self::report("application: !name shop\n").contains("1:14: tags (`!name`) are not supported"));
    assert!(self::report("tags: {glob: *}\n").contains("must be in quotes"));
}

#[test]
fn deep_nesting_and_many_problems_are_bounded() {
    for deep in ["[".repeat(100_000), "{a: ".repeat(50_000), "[".repeat(30), "- ".repeat(100_000)] {
        let report = report(&deep);
        assert!(report.contains("nested") || report.contains("recursion"), "{report}");
    }
    let flood: String = (0..20_000).map(|n| format!("key{n}: x\n")).collect();
    let problems = parse(&flood).expect_err("no policy");
    assert_eq!(problems.0.len(), MAX_PROBLEMS + 1);
    assert!(problems.to_string().ends_with("there are more problems: the first 100 are listed"));
}

garbage::held! {
    200;

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_bytes(&bytes);
    }

    #[test]
    fn yaml_like_text_never_panics(parts in proptest::collection::vec(
        prop_oneof![
            Just("application"), Just("services"), Just("environments"), Just(": "), Just(":\n"), Just("\n"), Just("  "),
            Just("- "), Just("["), Just("]"), Just("{"), Just("}"), Just(", "), Just("\""), Just("'"), Just("&a "), Just("*a"),
            Just("!x "), Just("|\n"), Just(">\n"), Just("? "), Just("---\n"), Just("...\n"), Just("#"), Just("\t"), Just("%"),
            Just("people"), Just("groups"), Just("github"), Just("after"), Just("windows"), Just("mon-fri 09:00-16:00"),
            Just("targets"), Just("strategy"), Just("steps"), Just("traffic"), Just("10%"), Just("\u{85}"), Just("\r"), Just("é"),
        ],
        0..60,
    )) {
        let _ = parse(&parts.concat());
    }

    /// One character of a valid file is changed, inserted or removed: the file parses and renders to what was parsed, or is
    /// rejected with a position inside the file.
    #[test]
    fn a_damaged_file_parses_or_reports_a_valid_line(at in 0..EXAMPLE.len(), edit in 0..3u8, with in "[ -~\\n\\t]") {
        prop_assume!(EXAMPLE.is_char_boundary(at) && EXAMPLE.is_char_boundary(at + 1));
        let (before, after) = EXAMPLE.split_at(at);
        let text = match edit {
            0 => format!("{before}{with}{}", &after[1..]),
            1 => format!("{before}{with}{after}"),
            _ => format!("{before}{}", &after[1..]),
        };
        match parse(&text) {
            Ok(policy) => {
                let again = parse(&render(&policy).to_string());
                prop_assert_eq!(again.map_err(|problems| problems.to_string()), Ok(policy));
            }
            Err(problems) => {
                prop_assert!(!problems.0.is_empty());
                let lines = text.lines().count() + 1;
                for problem in problems.0 {
                    prop_assert!((1..=lines).contains(&problem.line), "{problem}");
                    prop_assert!(!problem.message.is_empty());
                }
            }
        }
    }

    /// However a window is written, it is open for its length, on as many days, and renders back in the file's notation.
    #[test]
    fn a_window_covers_exactly_its_written_minutes(days in 1u8..128, from in 0u16..1440, length in 1u16..=1440) {
        const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let names: Vec<&str> = (0..7).filter(|day| days & (1 << day) != 0).map(|day| DAYS[day]).collect();
        let until = (from + length) % 1440;
        // A whole day that does not begin at midnight cannot be written: its end would equal its beginning.
        prop_assume!(length < 1440 || from == 0);
        let until = if length == 1440 { 1440 } else { until };
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        let text = format!("{} {}-{}", names.join(","), time(from), time(until));
        let keys = format!("  dev:\n    time_zone: UTC\n    windows: [\"{text}\"]\n");
        let policy = parse(&one_target("").replace("  dev:\n", &keys))
            .map_err(|problems| TestCaseError::fail(problems.to_string()))?;
        let read = &policy.environments[&Name::new("dev").expect("a name")].entry.windows;
        let minutes: usize =
            read.iter().map(|window| window.days.len() * usize::from(window.until_minute - window.from_minute)).sum();
        prop_assert_eq!(minutes, names.len() * usize::from(length), "{}", text);
        prop_assert!(read.iter().all(|window| window.from_minute < window.until_minute && window.until_minute <= 1440));
        let again = parse(&render(&policy).to_string());
        prop_assert_eq!(again.map_err(|problems| problems.to_string()), Ok(policy));
    }

    /// Claims of another repository are never authorized, whatever the other claims are.
    #[test]
    fn another_repository_is_never_authorized(
        id in "[0-9]{1,12}|\\PC{0,20}", owner in "[0-9]{1,12}|\\PC{0,20}",
        git_ref in "refs/(heads|tags|pull)/\\PC{0,20}|\\PC{0,20}", workflow in "\\PC{0,40}", event in "[a-z_]{0,20}|\\PC{0,20}",
    ) {
        prop_assume!(id != "123456789" || owner != "987654");
        let policy = LazyLock::force(&POLICY);
        let claims = Claims {
            repository_id: Some(id),
            repository_owner_id: Some(owner),
            repository: Some("shop/shop".to_owned()),
            git_ref: Some(git_ref),
            environment: Some("production".to_owned()),
            workflow_ref: Some(workflow),
            event_name: Some(event),
            ..Claims::default()
        };
        for (environment, rules) in &policy.environments {
            for service in rules.targets.keys() {
                for permission in [Permission::Promote, Permission::Deploy, Permission::Hotfix] {
                    let denied = authorize(policy, &claims, permission, service, environment).expect_err("another repository");
                    prop_assert!(!denied.to_string().contains('\n'));
                }
            }
        }
    }
}
