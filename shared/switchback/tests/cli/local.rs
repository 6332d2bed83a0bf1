//! Commands that need no control plane, and what they do with input that nobody should give them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

/// The command line without anything from this machine's environment.
fn switchback(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchback"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command.output().expect("it starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn schema_prints_the_committed_schema() {
    let output = switchback(&["schema"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let committed =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/switchback.schema.json"));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed.trim_end(), committed.expect("the schema is there").trim_end());
}

#[test]
fn a_file_without_an_end_is_refused_and_not_read_whole() {
    let output = switchback(&["validate", "/dev/zero"], &[]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
    assert!(printed.contains("more than 262144 bytes"), "{printed}");
}

#[test]
fn control_characters_in_settings_are_errors_and_no_panics() {
    let keys = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    let remote = ["status", "--endpoint", "http://127.0.0.1:1"];
    let region = switchback(&[&remote[..], &["--region", "eu-central-1\n"]].concat(), &keys);
    assert_eq!(region.status.code(), Some(2), "{}", stderr(&region));
    assert!(stderr(&region).contains("Region"), "{}", stderr(&region));
    let key = [("AWS_ACCESS_KEY_ID", "key\n"), keys[1]];
    let output = switchback(&[&remote[..], &["--region", "eu-central-1"]].concat(), &key);
    assert!(matches!(output.status.code(), Some(1..=20)), "{:?}: {}", output.status, stderr(&output));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}

#[test]
fn a_named_profile_wins_over_keys_in_the_environment() {
    let folder = std::env::temp_dir().join(format!("switchback-profile-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let credentials = folder.join("credentials");
    let profile = "[prod]\naws_access_key_id = PROFILEKEY\naws_secret_access_key = secret\nregion = eu-west-1\n";
    std::fs::write(&credentials, profile).expect("the file can be written");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a request");
        let lines = BufReader::new(stream.try_clone().expect("a copy")).lines().map_while(Result::ok);
        let header: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let _answered = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
        header.into_iter().find(|line| line.to_ascii_lowercase().starts_with("authorization:")).unwrap_or_default()
    });
    let path = credentials.to_string_lossy();
    let environment = [
        ("AWS_ACCESS_KEY_ID", "ENVIRONMENTKEY"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SHARED_CREDENTIALS_FILE", &*path),
        ("AWS_CONFIG_FILE", &*path),
        ("AWS_REGION", "eu-west-1"),
    ];
    let output = switchback(&["status", "--profile", "prod", "--endpoint", &endpoint], &environment);
    let authorization = asked.join().expect("a request was sent");
    let _removed = std::fs::remove_dir_all(&folder);
    assert!(authorization.contains("Credential=PROFILEKEY/"), "{authorization}; {}", stderr(&output));
}
