//! The operator's commands, as an operator types them, against a control plane in virtual time: the real binary, real
//! signed HTTP, the real `Operations`, decision and drive loop over a simulated world.
//!
//! `tests/scenarios/*.txt` are the sessions, each with what must be printed and the exit code. After a change that is
//! meant, `UPDATE_SESSIONS=1 cargo test -p switchback --test cli` writes them anew: read the difference.

mod ci;
mod control_plane;
mod local;
mod session;
mod signature;

use control_plane::{ControlPlane, Shop};
use session::Session;
use std::path::Path;

fn play(name: &str) {
    play_in(Shop::One, name);
}

fn play_in(shop: Shop, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios").join(format!("{name}.txt"));
    let wanted = std::fs::read_to_string(&path).expect("the session is there");
    let control_plane = ControlPlane::start(shop);
    let found = Session::new(name, shop, &control_plane).play(&wanted);
    if std::env::var_os("UPDATE_SESSIONS").is_some() {
        std::fs::write(&path, found).expect("the session can be written");
        return;
    }
    for (number, (wanted, found)) in wanted.lines().zip(found.lines()).enumerate() {
        assert_eq!(
            found,
            wanted,
            "{name}.txt, line {}; the whole session:\n{found_all}",
            number + 1,
            found_all = found
        );
    }
    assert_eq!(found, wanted, "{name}.txt ends otherwise");
}

#[test]
fn a_good_release_succeeds() {
    play("good-release");
}

#[test]
fn a_bad_release_is_rolled_back() {
    play("bad-release");
}

#[test]
fn a_deployment_is_aborted_and_a_release_rolled_back() {
    play("abort-and-rollback");
}

#[test]
fn refusals_state_their_reason() {
    play("refusals");
}

#[test]
fn scripts_read_json_and_exit_codes() {
    play("scripts");
}

#[test]
fn queued_releases_are_superseded() {
    play("queue");
}

#[test]
fn environment_policy_decides_what_a_newer_release_does() {
    play("concurrency");
}

#[test]
fn a_policy_file_is_checked_and_applied() {
    play("policy-file");
}

#[test]
fn doctor_reports_account_problems() {
    play("doctor");
}

#[test]
fn a_release_is_promoted_to_production_with_approvals() {
    play_in(Shop::Three, "promotion");
}

#[test]
fn approvals_can_be_rejected_expire_or_go_stale() {
    play_in(Shop::Three, "approvals");
}

#[test]
fn a_rolled_back_release_holds_promotion() {
    play_in(Shop::Three, "held");
}

#[test]
fn freezes_and_stop_the_line_hold_deployments() {
    play_in(Shop::Three, "brakes");
}

#[test]
fn a_hotfix_skips_gates_and_stays_marked() {
    play_in(Shop::Three, "hotfix");
}

#[test]
fn a_forward_only_release_awaits_an_operator() {
    play_in(Shop::Three, "forward-only");
}

#[test]
fn replay_repeats_recorded_decisions() {
    play("replay");
}

#[test]
fn a_release_train_deploys_services_together() {
    play_in(Shop::Three, "train");
}

/// What a file quotes reaches the terminal, and nothing of it acts there.
#[test]
fn validate_neutralizes_escapes_that_it_quotes() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile.yaml");
    let name = "v1\\e[2K\\u202e2v\\u200b\\r\\n::error::forged";
    std::fs::write(&file, format!("application: \"{name}\"\n\"{name}\": \"{name}\"\nservices: [\"{name}\"]\n"))
        .expect("written");
    for arguments in [["validate"].as_slice(), &["validate", "--json"]] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_switchback"))
            .args(arguments)
            .arg(&file)
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(3));
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text")).concat();
        assert!(said.contains("v1"), "it is quoted: {said:?}");
        let visible = |it| it == '\n' || rollout::text::is_visible(it);
        assert!(said.chars().all(visible) && !said.lines().any(|line| line.starts_with("::")), "{said:?}");
    }
}
