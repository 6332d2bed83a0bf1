//! `switchback demo` as a person starts it: the story it tells, and that it leaves nothing behind.

use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tests::harness::child::target;
use tests::harness::workspace;

/// The story, and then half as much again for a machine that does other things too.
const DEMO_TIMEOUT: Duration = Duration::from_secs(240);

/// A killed demo's tasks notice at once; they may have requests in flight.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn the_demo_ends_as_scripted_without_lost_requests() {
    let mut demo = Demo::start(&["demo", "--json"]);
    let output = demo.finish(DEMO_TIMEOUT);
    let journal: Vec<Value> = lines(&output);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "the demo says why:\n{words}");

    let (last, entries) = journal.split_last().expect("there is a journal, and a summary after it");
    let summary = &last["summary"];
    assert_eq!(summary["problems"], serde_json::json!([]));
    assert_eq!(summary["requests"]["lost"], 0, "lost to the shift: {}", summary["requests"]["losses"]);
    assert_eq!(summary["made_by_balancer"], 0);
    assert!(
        summary["requests"]["requests"].as_u64() > Some(2000),
        "clients sent too little to show anything: {summary}"
    );
    assert!(summary["requests"]["bad_release_errors"].as_u64() > Some(0), "the bad release failed nobody: {summary}");

    assert_eq!(verdicts(entries), [(1, "succeeded"), (2, "rolled_back")]);
    assert_eq!(candidate_weights(entries, 1), [10, 50, 100]);
    assert_eq!(candidate_weights(entries, 2), [10, 0], "the bad release got no further than the first step");
    let cause = facts(entries, 2, "rollback_started").next().expect("it went back for a reason");
    assert_eq!(cause["cause"]["cause"], "alarm", "it was the alarm over real answers: {cause}");
    assert_eq!(demo.tasks_left(CLEANUP_TIMEOUT), BTreeSet::new(), "tasks outlive the demo");
}

#[test]
fn a_killed_demo_leaves_no_tasks() {
    let mut demo = Demo::start(&["demo", "--json"]);
    demo.wait_for_journal();
    assert!(!demo.running_tasks().is_empty(), "tasks run as processes of their own");
    demo.process.kill().expect("the demo still runs");
    demo.process.wait().expect("it was killed");
    assert_eq!(demo.tasks_left(CLEANUP_TIMEOUT), BTreeSet::new(), "tasks outlive a demo that was killed");
}

#[test]
fn a_lost_request_fails_the_demo() {
    let mut demo = Demo::start(&["demo", "--json"]);
    demo.wait_for_journal();
    let (victim, ..) = processes()
        .into_iter()
        .find(|(_, parent, release)| *parent == demo.process.id() && release == "v1")
        .expect("v1 runs while v2 is deployed");
    let killed = Command::new("kill").args(["-KILL", &victim.to_string()]).status();
    assert!(killed.expect("there is a kill").success());
    let output = demo.finish(DEMO_TIMEOUT);
    let last = String::from_utf8_lossy(&output.stdout).lines().last().map(str::to_owned).unwrap_or_default();
    let summary: Value = serde_json::from_str(&last).unwrap_or_else(|error| panic!("{error}: {last}"));
    assert!(summary["summary"]["requests"]["lost"].as_u64() > Some(0), "a task was killed under load: {summary}");
    assert_ne!(summary["summary"]["problems"], serde_json::json!([]));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_interrupted_demo_stops_its_tasks_and_exits_130() {
    let mut demo = Demo::start(&["demo", "--json"]);
    demo.wait_for_journal();
    assert!(!demo.running_tasks().is_empty(), "tasks run as processes of their own");
    let signalled = Command::new("kill").args(["-INT", &demo.process.id().to_string()]).status();
    assert!(signalled.expect("there is a kill").success());
    assert_eq!(demo.finish(CLEANUP_TIMEOUT).status.code(), Some(130));
    assert_eq!(demo.tasks_left(Duration::from_secs(1)), BTreeSet::new(), "it waits for its tasks before it ends");
}

#[test]
fn the_page_answers_only_local_requests() {
    let mut demo = Demo::start(&["demo"]);
    let page = demo.page_address();
    let ask = |host: &str, path: &str| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(&page).expect("the page's address is listened on");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("it can be asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers in text");
        answer
    };
    let answer = ask(&page, "/");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("<title>Switchback</title>"), "{answer}");
    assert!(answer.contains("content-security-policy: default-src 'none'"), "{answer}");
    let data = ask(&page, "/data.json");
    assert!(data.starts_with("HTTP/1.1 200") && data.contains("application/json"), "{data}");
    assert!(ask("elsewhere.example", "/data.json").starts_with("HTTP/1.1 403"), "another site's name is refused");
}

/// A demo that runs; it is killed with the test.
struct Demo {
    process: Child,
    seen: BTreeSet<u32>,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let process = Command::new(binary())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the demo's binary was just built");
        Self { process, seen: BTreeSet::new() }
    }

    /// Waits until it ends, and reads all that it says; fails the test where it does not end in time.
    fn finish(&mut self, timeout: Duration) -> Output {
        let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                if let Some(mut pipe) = pipe {
                    pipe.read_to_end(&mut text).expect("a pipe can be read");
                }
                text
            })
        };
        let out = read(self.process.stdout.take().map(|pipe| Box::new(pipe) as _));
        let err = read(self.process.stderr.take().map(|pipe| Box::new(pipe) as _));
        let deadline = Instant::now() + timeout;
        let status = loop {
            self.running_tasks();
            if let Some(status) = self.process.try_wait().expect("it is our child") {
                break status;
            }
            if Instant::now() > deadline {
                self.process.kill().expect("it still runs");
                let said = String::from_utf8_lossy(&err.join().expect("reading ends with the process")).into_owned();
                panic!("the demo did not end within {timeout:?}; it said:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let stdout = out.join().expect("reading ends with the process");
        let stderr = err.join().expect("reading ends with the process");
        Output { status, stdout, stderr }
    }

    /// Waits for the first line on standard output: with `--json` the deployment has begun then.
    fn wait_for_journal(&mut self) {
        let pipe = self.process.stdout.as_mut().expect("standard output is a pipe");
        let mut line = String::new();
        let read = BufReader::new(pipe).read_line(&mut line).expect("a pipe can be read");
        assert!(read > 0, "the demo ended before its first journal entry");
    }

    /// The page's address, as the demo's first line says it.
    fn page_address(&mut self) -> String {
        let pipe = self.process.stdout.as_mut().expect("standard output is a pipe");
        let mut line = String::new();
        BufReader::new(pipe).read_line(&mut line).expect("a pipe can be read");
        let address = line.trim().rsplit_once("http://").map(|(_, address)| address.trim_end_matches('/'));
        address.unwrap_or_else(|| panic!("the first line names the page: {line}")).to_owned()
    }

    /// Its tasks that run now; all that were ever seen are remembered.
    fn running_tasks(&mut self) -> BTreeSet<u32> {
        let now: BTreeSet<u32> =
            processes().into_iter().filter(|(_, parent, _)| *parent == self.process.id()).map(|(id, ..)| id).collect();
        self.seen.extend(&now);
        now
    }

    /// Of all tasks that were ever seen, those that still run after `timeout`.
    fn tasks_left(&self, timeout: Duration) -> BTreeSet<u32> {
        assert!(!self.seen.is_empty(), "no task was ever seen");
        let deadline = Instant::now() + timeout;
        loop {
            let running: BTreeSet<u32> = processes().into_iter().map(|(id, ..)| id).collect();
            let left: BTreeSet<u32> = self.seen.intersection(&running).copied().collect();
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It has ended already unless an assertion failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Tasks of any demo that are alive: process, parent, release. Zombies have ended, whoever forgot to bury them.
fn processes() -> Vec<(u32, u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("this system has /proc").flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Ok(command) = std::fs::read(entry.path().join("cmdline")) else { continue };
        // switchback demo-task --release v1 …
        let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let is_task = words.get(1).is_some_and(|word| word == "demo-task");
        let release = words.get(3).map(ToString::to_string).unwrap_or_default();
        // The name in parentheses may hold anything; state and parent follow it.
        let Some((_, after)) = stat.rsplit_once(") ") else { continue };
        let mut fields = after.split(' ');
        let (state, parent) = (fields.next(), fields.next().and_then(|parent| parent.parse().ok()));
        if let (true, Some(parent)) = (is_task && state != Some("Z"), parent) {
            found.push((id, parent, release));
        }
    }
    found
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn facts<'a>(entries: &'a [Value], deployment: u64, fact: &'a str) -> impl Iterator<Item = &'a Value> {
    let of = move |entry: &&Value| entry["deployment"] == deployment && entry["fact"]["fact"] == fact;
    entries.iter().filter(of).map(|entry| &entry["fact"])
}

fn verdicts(entries: &[Value]) -> Vec<(u64, &str)> {
    let ended = entries.iter().filter(|entry| entry["fact"]["fact"] == "ended");
    ended
        .map(|entry| {
            let number = entry["deployment"].as_u64().expect("a deployment's end names it");
            (number, entry["fact"]["verdict"].as_str().expect("an end has a verdict"))
        })
        .collect()
}

/// The candidate's weights as they were seen live, in order.
fn candidate_weights(entries: &[Value], deployment: u64) -> Vec<u64> {
    let settled = facts(entries, deployment, "sides_determined").next().expect("the sides were settled");
    let candidate = settled["candidate"].as_str().expect("the candidate is a slot").to_owned();
    let verified = facts(entries, deployment, "weights_verified");
    verified.map(|fact| fact["weights"][&candidate].as_u64().expect("weights are numbers")).collect()
}

/// The binary with all its features, as every test of this workspace uses it, in the profile that the running test was
/// built in: built once, then up to date.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // target/<profile>/deps/<test>
        let exe = std::env::current_exe().expect("the test knows its own executable");
        let folder = exe.ancestors().nth(2).expect("a test executable lies in target/<profile>/deps");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(workspace()).args(["build", "--quiet", "--locked", "--package", "switchback"]);
        if let Some(profile) = folder.file_name().and_then(|name| name.to_str()).filter(|name| *name != "debug") {
            command.args(["--profile", profile]);
        }
        command.arg("--target-dir").arg(target());
        assert!(command.status().expect("cargo can be started").success(), "the binary does not build");
        folder.join("switchback")
    })
}
