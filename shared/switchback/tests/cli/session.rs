//! A session: a text of comments, of what happens in the world, and of commands with what they print.
//!
//! | a line that begins with | is |
//! |---|---|
//! | `#` | a comment |
//! | `@` | something that happens in the world: see [`Session::apply_event`] |
//! | `$ ` | a command; under it, what it prints on standard output, then `! ` and what it prints on standard error |
//! | `= ` | the exit code of the command above; a session that is being written has a bare `= ` under each command |

use crate::control_plane::{ControlPlane, Shop, TestBackend};
use crate::signature::{CALLERS, REGION};
use rollout::{Name, TargetId};
use serde_json::json;
use simulation::virtual_time::PushAnnouncement;
use simulation::world::{ImageBehaviour, scene};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The policy file of one service in one environment, names of the world left out.
const ONE_TARGET_POLICY: &str = include_str!("switchback.yaml");
/// The policy file of two services in three environments, with a `TARGET` for what [`TARGET`] says.
const SIX_TARGET_POLICY: &str = include_str!("promotion.yaml");
/// What each of its targets is.
const TARGET: &str = include_str!("target.yaml");

pub(crate) struct Session<'a> {
    control_plane: &'a ControlPlane,
    folder: PathBuf,
    binary: PathBuf,
    environment: Vec<(String, String)>,
}

impl<'a> Session<'a> {
    /// In a folder of its own, with a policy file in it.
    pub(crate) fn new(name: &str, shop: Shop, control_plane: &'a ControlPlane) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("session-{name}"));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let policy = match shop {
            Shop::One => fill_names(ONE_TARGET_POLICY, control_plane, "shop/api/prod"),
            Shop::Three => shop.targets().fold(SIX_TARGET_POLICY.to_owned(), |policy, (service, environment)| {
                let target = fill_names(TARGET, control_plane, &format!("shop/{service}/{environment}"));
                policy.replacen("TARGET", target.trim(), 1)
            }),
        };
        std::fs::write(folder.join("switchback.yaml"), policy).expect("the policy can be written");
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let environment = vec![
            set("SWITCHBACK_ENDPOINT", &control_plane.url),
            set("AWS_ACCESS_KEY_ID", CALLERS[0].access_key),
            set("AWS_SECRET_ACCESS_KEY", CALLERS[0].secret_key),
            set("AWS_REGION", REGION),
            // Nothing of the machine that runs the test may be found.
            set("AWS_EC2_METADATA_DISABLED", "true"),
            set("HOME", &folder.display().to_string()),
            set("PATH", "/nonexistent"),
        ];
        let binary = link_binary(&folder);
        Self { control_plane, folder, binary, environment }
    }

    /// Plays it; answers the session as it was this time.
    pub(crate) fn play(mut self, session: &str) -> String {
        let mut found = String::new();
        let mut printed = false;
        for line in session.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                found.push_str(&format!("{line}\n{}", self.run(command)));
                printed = true;
            } else if line.starts_with("= ") {
                printed = false;
            } else if printed {
                // What was printed when the session was written.
            } else if let Some(event) = line.strip_prefix("@ ") {
                self.apply_event(event);
                found.push_str(&format!("{line}\n"));
            } else if line.starts_with('#') {
                found.push_str(&format!("\n{line}\n"));
            }
        }
        found.trim_start().to_owned()
    }

    /// Something happens: in the world, in the session's folder, or in the environment of the commands that follow.
    fn apply_event(&mut self, event: &str) {
        let (what, rest) = event.split_once(' ').unwrap_or((event, ""));
        let known =
            self.apply_to_world(what, rest) || self.apply_to_folder(what, rest) || self.apply_to_shell(what, rest);
        assert!(known, "nothing is known that happens as `@ {event}`");
    }

    /// Whether the event is one of the world's.
    fn apply_to_world(&self, what: &str, rest: &str) -> bool {
        let number =
            |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("a number stands in `@ {what} {rest}`"));
        match what {
            // `@ push 2`: the second release is pushed; `@ push web 2`: of that service
            "push" => {
                let (service, tag) = rest.split_once(' ').unwrap_or(("api", rest));
                let (service, tag) = (Name::new(service).expect("a service"), number(tag));
                self.control_plane.change(move |backend| {
                    backend.simulation.push_service(&service, tag, PushAnnouncement::Event);
                    backend.simulation.run_for(5);
                });
            }
            // `@ bad 2`: half of the second release's answers are errors
            "bad" => {
                let digest = scene::digest_of(number(rest));
                self.control_plane.change(move |backend| {
                    let image = ImageBehaviour::failing(0.5);
                    backend.simulation.world(|world| world.set_image(digest.as_str(), image));
                });
            }
            // `@ pass 60`: so many seconds pass
            "pass" => {
                let seconds = number(rest);
                self.control_plane.change(move |backend| backend.simulation.run_for(seconds));
            }
            // `@ broken 3 503`: the next requests are answered with that status, before anybody looks at them
            "broken" => {
                let mut numbers = rest.split(' ').map(|text| text.parse::<u16>().expect("a number"));
                let broken = (numbers.next().unwrap_or(1).into(), numbers.next().unwrap_or(503));
                self.control_plane.change(move |backend| backend.broken = broken);
            }
            // `@ rival 3 2`: somebody else asks for the third release, after two looks
            "rival" => {
                let mut numbers = rest.split(' ').map(|text| text.parse::<u32>().expect("a number"));
                let rival = (u64::from(numbers.next().unwrap_or(1)), numbers.next().unwrap_or(0));
                self.control_plane.change(move |backend| backend.rival = Some(rival));
            }
            // `@ reply bob no 2`: bob says no to what waits on shop/api/prod, after two looks
            "reply" => {
                let shell_words: Vec<&str> = rest.split(' ').collect();
                let [person, answer, polls] = shell_words[..] else {
                    panic!("`@ reply NAME yes|no LOOKS`, not `@ {what} {rest}`")
                };
                let caller = CALLERS.iter().find(|caller| caller.name == person).expect("a caller that there is");
                let (yes, polls) = (answer == "yes", polls.parse().expect("a number"));
                self.control_plane.change(move |backend| backend.reply = Some((caller.name, yes, polls)));
            }
            _ => return false,
        }
        true
    }

    /// Whether the event is one of the session's folder: its policy file, logs, and other files.
    fn apply_to_folder(&self, what: &str, rest: &str) -> bool {
        match what {
            // `@ edit OLD => NEW`: in the policy file
            "edit" => {
                let (old, new) = rest.split_once(" => ").expect("`@ edit OLD => NEW`");
                let path = self.folder.join("switchback.yaml");
                let text = std::fs::read_to_string(&path).expect("the policy is there");
                assert!(text.contains(old), "`{old}` stands in the policy file");
                std::fs::write(path, text.replace(old, new)).expect("the policy can be written");
            }
            // `@ log NAME lines|events`: what the driver has logged so far is fetched into a file of that name
            "log" => {
                let (name, form) = rest.split_once(' ').expect("`@ log NAME lines|events`");
                let lines = self.control_plane.change(|backend| backend.simulation.recorded());
                std::fs::write(self.folder.join(name), log(&lines, form)).expect("the log can be written");
            }
            // `@ first PATTERN in NAME: OLD => NEW`: in the first line of a file that has the pattern
            "first" => {
                let (pattern, rest) = rest.split_once(" in ").expect("`@ first PATTERN in NAME: OLD => NEW`");
                let (name, change) = rest.split_once(": ").expect("`@ first PATTERN in NAME: OLD => NEW`");
                let (old, new) = change.split_once(" => ").expect("`@ first PATTERN in NAME: OLD => NEW`");
                self.replace_line(name, pattern, |line| {
                    assert!(line.contains(old), "`{old}` stands in the line: {line}");
                    line.replacen(old, new, 1)
                });
            }
            // `@ drop PATTERN in NAME`: the first line of a file that has the pattern is gone
            "drop" => {
                let (pattern, name) = rest.split_once(" in ").expect("`@ drop PATTERN in NAME`");
                self.replace_line(name, pattern, |_| String::new());
            }
            // `@ write NAME TEXT`: a file of one line
            "write" => {
                let (name, text) = rest.split_once(' ').expect("`@ write NAME TEXT`");
                std::fs::write(self.folder.join(name), format!("{text}\n")).expect("the file can be written");
            }
            _ => return false,
        }
        true
    }

    /// Whether the event is one of the environment of the commands that follow.
    fn apply_to_shell(&mut self, what: &str, rest: &str) -> bool {
        match what {
            // `@ as bob`: from here on it is bob who types
            "as" => {
                let caller = CALLERS.iter().find(|caller| caller.name == rest).expect("a caller that there is");
                self.set("AWS_ACCESS_KEY_ID", caller.access_key);
                self.set("AWS_SECRET_ACCESS_KEY", caller.secret_key);
            }
            // `@ set NAME VALUE`, `@ unset NAME`
            "set" => {
                let (name, value) = rest.split_once(' ').expect("`@ set NAME VALUE`");
                self.set(name, value);
            }
            "unset" => self.environment.retain(|(found, _)| found != rest),
            _ => return false,
        }
        true
    }

    /// Replaces the first line of a file that has the pattern, its line break included.
    fn replace_line(&self, name: &str, pattern: &str, change: impl Fn(&str) -> String) {
        let path = self.folder.join(name);
        let text = std::fs::read_to_string(&path).expect("the file is there");
        let line = text.split_inclusive('\n').find(|line| line.contains(pattern)).expect("a line has the pattern");
        std::fs::write(path, text.replacen(line, &change(line), 1)).expect("the file can be written");
    }

    fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(found, _)| found != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    fn run(&self, command: &str) -> String {
        let mut shell_words = shell_words(command).into_iter();
        assert_eq!(shell_words.next().as_deref(), Some("switchback"), "only one program is known: {command}");
        let output = Command::new(&self.binary)
            .args(shell_words)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .output()
            .expect("the binary can be started");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            text.push_str(&format!("! {line}\n"));
        }
        let code = output.status.code().map_or("killed".to_owned(), |code| code.to_string());
        let text = text.replace(&self.control_plane.url, "https://control-plane");
        format!("{}= {code}\n", mask_random_keys(&text))
    }
}

/// What a function's log holds, among other lines: as it is written, or as `aws logs filter-log-events` prints it.
fn log(records: &[String], form: &str) -> String {
    let other = r#"{"timestamp":"2026-01-01T00:00:00.000Z","level":"INFO","message":"a command was consumed"}"#;
    let lines: Vec<String> = records
        .iter()
        .flat_map(|record| {
            let head = r#"{"timestamp":"2026-01-01T00:00:00.000Z","level":"INFO","message":"decided""#;
            [other.to_owned(), format!(r#"{head},"request_id":"r-1","record":{record}}}"#)]
        })
        .collect();
    match form {
        "lines" => lines.iter().map(|line| format!("{line}\n")).collect(),
        "events" => {
            let event =
                |line: &String| json!({"logStreamName": "2026/01/01/[$LATEST]1", "message": format!("{line}\n")});
            let events: Vec<_> = lines.iter().map(event).collect();
            serde_json::to_string_pretty(&json!({"events": events, "searchedLogStreams": []})).expect("plain data")
        }
        _ => panic!("a log is fetched as lines or as events, not as {form}"),
    }
}

/// A part of a policy file with the names of a target's things.
fn fill_names(text: &str, control_plane: &ControlPlane, target: &str) -> String {
    let target = TargetId::parse(target).expect("a target");
    let names = control_plane.change(move |backend: &mut TestBackend| backend.simulation.at(&target).names().clone());
    text.replace("CLUSTER", &names.cluster)
        .replace("BLUE_SERVICE", &names.blue)
        .replace("GREEN_SERVICE", &names.green)
        .replace("BLUE_GROUP", &names.blue_group)
        .replace("GREEN_GROUP", &names.green_group)
        .replace("BLUE_ALARM", &names.blue_alarm)
        .replace("GREEN_ALARM", &names.green_alarm)
        .replace("TEST_RULE", &names.test_rule)
        .replace("RULE", &names.rule)
}

/// The binary, under a name of this session's: whoever builds another one meanwhile (`cargo demo` leaves the operator's
/// commands out) puts it where this one was.
pub(crate) fn link_binary(folder: &Path) -> PathBuf {
    let (built, kept) = (Path::new(env!("CARGO_BIN_EXE_switchback")), folder.join("switchback"));
    // There is one only from an earlier run.
    let _ = std::fs::remove_file(&kept);
    if std::fs::hard_link(built, &kept).is_err() {
        std::fs::copy(built, &kept).expect("the binary can be copied");
    }
    let known = Command::new(&kept).arg("exit-codes").output().expect("the binary can be started");
    assert!(known.status.success(), "a build without the operator's commands took the binary's place: run again");
    kept
}

/// The command line as a shell splits it: blanks, and double quotes around them.
fn shell_words(line: &str) -> Vec<String> {
    let mut shell_words = Vec::new();
    let (mut word, mut quoted, mut begun) = (String::new(), false, false);
    for letter in line.chars() {
        match letter {
            '"' => (quoted, begun) = (!quoted, true),
            ' ' if !quoted => {
                if std::mem::take(&mut begun) {
                    shell_words.push(std::mem::take(&mut word));
                }
            }
            letter => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        shell_words.push(word);
    }
    shell_words
}

/// The random key of an asking is another one each time.
fn mask_random_keys(text: &str) -> String {
    let mut found = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("cli-") {
        let digits = after.bytes().take_while(u8::is_ascii_hexdigit).count();
        found.push_str(before);
        found.push_str(if digits == 32 { "cli-KEY" } else { "cli-" });
        rest = &after[if digits == 32 { 32 } else { 0 }..];
    }
    found.push_str(rest);
    found
}
