//! The composite action, as GitHub's runner runs it: its two scripts in bash, with the inputs in their environment, and
//! a stand-in for the binary that writes down how it is called. And the grants that the example workflows tell of, as the
//! policy reads them.

use policy::grants::{Claims, authorize};
use rollout::Name;
use rollout::entry::Permission;
use simulation::world::Settings;
use simulation::world::scene::{PairSetup, build_application};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const ACTION: &str = include_str!("../../.github/actions/switchback/action.yml");

/// The scripts of its steps, without their indentation.
fn scripts() -> Vec<String> {
    let mut scripts: Vec<String> = Vec::new();
    let mut inside = false;
    for line in ACTION.lines() {
        if line.trim() == "run: |" {
            scripts.push(String::new());
            inside = true;
        } else if inside && (line.is_empty() || line.starts_with("        ")) {
            let script = scripts.last_mut().expect("it has begun");
            script.push_str(line.strip_prefix("        ").unwrap_or_default());
            script.push('\n');
        } else {
            inside = false;
        }
    }
    scripts
}

/// A runner's folder with a stand-in for the binary, which ends with 14.
fn runner(name: &str) -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("action-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let binary = folder.join("stand-in");
    let script = "#!/bin/bash\nprintf '%s\\n' \"$@\" > \"$RUNNER_TEMP/called\"\n[ \"$1\" = --version ] || exit 14\n";
    std::fs::write(&binary, script).expect("it can be written");
    std::fs::set_permissions(&binary, PermissionsExt::from_mode(0o755)).expect("it can be run");
    (folder, binary)
}

/// Runs one of the scripts as a runner does; its exit code, and what it printed.
fn run(folder: &Path, script: &str, inputs: &[(&str, &str)]) -> (Option<i32>, String) {
    // An input that is not given is empty, and not missing.
    let all = [
        "GIVEN",
        "URL",
        "SHA256",
        "GIT",
        "REVISION",
        "RELEASE",
        "REASON",
        "COMMIT",
        "FORWARD_ONLY",
        "HOTFIX",
        "NO_WAIT",
    ];
    let mut environment: BTreeMap<&str, &str> = all.into_iter().map(|name| (name, "")).collect();
    environment.extend(inputs.iter().copied());
    let mut bash = Command::new("bash");
    bash.args(["--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]).env_clear().envs(environment);
    bash.env("PATH", "/usr/bin:/bin").env("RUNNER_TEMP", folder).env("GITHUB_OUTPUT", folder.join("outputs"));
    let output = bash.current_dir(folder).output().expect("bash can be started");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn called(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("called")).expect("it was called");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn inputs_are_passed_verbatim_and_the_exit_code_returned() {
    let (folder, binary) = runner("hands-on");
    let binary = binary.display().to_string();
    let run_it = &scripts()[1];
    let asked = [
        ("SWITCHBACK", binary.as_str()),
        ("COMMAND", "promote"),
        ("TARGETS", "shop/api/prod\nshop/web/prod=v1\n"),
        ("REASON", "it's \"late\"; $(touch owned) `id` *"),
        ("RELEASE", "v2"),
        ("FORWARD_ONLY", "true"),
        ("HOTFIX", "false"),
        ("FOR", "5h"),
    ];
    let (exit, _) = run(&folder, run_it, &asked);
    assert_eq!(exit, Some(14), "the verdict of the binary is the step's");
    let wanted = [
        "ci",
        "promote",
        "--for",
        "5h",
        "--release",
        "v2",
        "--reason",
        "it's \"late\"; $(touch owned) `id` *",
        "--forward-only",
        "--",
        "shop/api/prod",
        "shop/web/prod=v1",
    ];
    assert_eq!(called(&folder), wanted);
    assert!(!folder.join("owned").exists(), "an input was run");

    let (exit, _) = run(&folder, run_it, &[asked[0], ("COMMAND", "wait"), ("TARGETS", "a/b/c=v1"), ("FOR", "1m")]);
    assert_eq!(
        (exit, called(&folder)),
        (Some(14), ["ci", "wait", "--for", "1m", "--", "a/b/c=v1"].map(str::to_owned).into())
    );
    let (exit, log) = run(&folder, run_it, &[asked[0], ("COMMAND", "--version"), ("TARGETS", "x"), ("FOR", "1m")]);
    assert_eq!(exit, Some(2));
    assert!(log.contains("promote, deploy or wait"), "{log}");
}

#[test]
fn only_the_named_and_verified_binary_is_used() {
    let (folder, binary) = runner("binary");
    let binary = binary.display().to_string();
    let find_it = &scripts()[0];
    let (exit, _) = run(&folder, find_it, &[("GIVEN", &binary)]);
    assert_eq!((exit, called(&folder)), (Some(0), vec!["--version".to_owned()]));
    let outputs = std::fs::read_to_string(folder.join("outputs")).expect("outputs");
    assert_eq!(outputs, format!("path={binary}\n"));
    for (inputs, part) in [
        (vec![("GIVEN", "/nonexistent")], "no program"),
        (vec![("URL", "http://127.0.0.1/switchback"), ("SHA256", "0")], "https://"),
        (vec![("URL", "https://127.0.0.1/switchback")], "sha256"),
        (vec![("GIT", "https://127.0.0.1/switchback"), ("REVISION", "main")], "revision"),
        (vec![], "not on the PATH"),
    ] {
        let (exit, log) = run(&folder, find_it, &inputs);
        assert_eq!(exit, Some(2), "{inputs:?}: {log}");
        assert!(log.contains("::error") && log.contains(part), "{inputs:?}: {log}");
    }
}

/// A policy of `dev`, `staging` and `prod`, with the grants that an example's comment shows.
fn policy_with_grants_of(example: &str) -> rollout::Policy {
    let scenes = ["dev", "staging", "prod"].map(|environment| PairSetup::new("shop", "api", environment));
    let built = policy::render(&build_application(&scenes, Settings::default()).policy);
    let (_, comment) = example.split_once("#   github:\n").expect("the example shows its grants");
    let grants: Vec<&str> = comment.lines().map_while(|line| line.strip_prefix("#   ")).collect();
    let text = format!(
        "application: shop\nservices: {}\nenvironments: {}\ngithub:\n{}\n",
        built["services"],
        built["environments"],
        grants.join("\n")
    );
    policy::parse(&text).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"))
}

#[test]
fn the_documented_grants_fit_the_example_workflows() {
    for (example, file, event, git_ref, needed) in [
        (
            include_str!("../../.github/examples/promote.yml"),
            "promote.yml",
            "workflow_dispatch",
            "refs/heads/main",
            vec![(Permission::Promote, "staging"), (Permission::Promote, "prod")],
        ),
        (
            include_str!("../../.github/examples/build-push-deploy.yml"),
            "build-push-deploy.yml",
            "push",
            "refs/tags/v1.4.2",
            vec![(Permission::Deploy, "dev"), (Permission::Promote, "staging")],
        ),
    ] {
        let policy = policy_with_grants_of(example);
        let claims = |git_ref: &str, event: &str| {
            let workflow_ref = format!("octo/shop/.github/workflows/{file}@{git_ref}");
            Claims::of(|claim| match claim {
                "repository" => Some("octo/shop"),
                "repository_id" => Some("123456789"),
                "repository_owner_id" => Some("987654"),
                "ref" => Some(git_ref),
                "event_name" => Some(event),
                "workflow_ref" => Some(workflow_ref.as_str()),
                _ => None,
            })
        };
        let name = |text: &str| Name::new(text).expect("a name");
        for (permission, environment) in needed {
            let fits = authorize(&policy, &claims(git_ref, event), permission, &name("api"), &name(environment));
            assert_eq!(fits, Ok(()), "{file}: {environment}");
            for other in
                [claims("refs/heads/mine", event), claims(git_ref, "schedule"), claims(git_ref, "pull_request")]
            {
                assert!(
                    authorize(&policy, &other, permission, &name("api"), &name(environment)).is_err(),
                    "{file}: {other:?}"
                );
            }
            let hotfix =
                authorize(&policy, &claims(git_ref, event), Permission::Hotfix, &name("api"), &name(environment));
            assert!(hotfix.is_err(), "{file}");
        }
    }
}
