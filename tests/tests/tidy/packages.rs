//! Who may depend on whom.

use super::{output, read};
use std::collections::{BTreeMap, BTreeSet};

/// Which of the product's own packages each may use. Reading order: nothing uses what stands below it.
const ALLOWED: &[(&str, &[&str])] = &[
    ("rollout", &[]),
    ("policy", &["rollout"]),
    ("view", &["rollout"]),
    ("engine", &["rollout", "policy", "view"]),
    ("api", &["rollout", "policy", "view", "engine"]),
    ("simulation", &["rollout", "policy", "view", "engine"]),
    ("aws", &["rollout", "engine", "api"]),
    ("lambda", &["engine", "rollout"]),
    ("garbage", &[]),
    ("switchback", &["rollout", "policy", "view", "engine", "api", "simulation"]),
    ("image-pushed", &["rollout", "engine", "aws", "lambda"]),
    ("signal-received", &["rollout", "engine", "aws", "lambda"]),
    ("rollout-driver", &["rollout", "engine", "aws", "lambda"]),
    ("operations", &["rollout", "engine", "api", "aws", "lambda"]),
    ("promotions", &["rollout", "engine", "api", "aws", "lambda"]),
    ("approvals", &["rollout", "engine", "api", "aws", "lambda"]),
    ("notifier", &["rollout", "engine", "aws", "lambda"]),
    ("sweeper", &["rollout", "engine", "aws", "lambda"]),
];

/// The core may stand on these, and on nothing that has a clock, a socket or a thread.
const CORE_DEPENDENCIES: &[&str] = &["hex", "jiff", "serde", "serde_json", "serde_path_to_error", "sha2", "thiserror"];

/// Ports of `aws` (its features) that each function may be given: what it is not given it cannot link.
const PORTS: &[(&str, &[&str])] = &[
    ("image-pushed", &["ledger", "wake_queue"]),
    ("signal-received", &["ledger", "wake_queue"]),
    ("rollout-driver", &["cloud", "ledger", "wake_queue"]),
    ("operations", &["cloud", "inspect", "ledger", "wake_queue"]),
    ("promotions", &["ledger", "wake_queue"]),
    ("approvals", &["http", "ledger", "secrets", "wake_queue"]),
    ("notifier", &["channels", "ledger"]),
    ("sweeper", &["ledger", "registry", "wake_queue"]),
];

struct Package {
    name: String,
    /// Normal and build dependencies, with the features asked for.
    uses: BTreeMap<String, BTreeSet<String>>,
}

fn packages() -> Vec<Package> {
    let text = output(env!("CARGO"), &["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap();
    let package = |package: &serde_json::Value| {
        let mut uses = BTreeMap::new();
        for dependency in package["dependencies"].as_array().unwrap() {
            if dependency["kind"] == "dev" {
                continue;
            }
            let features = dependency["features"].as_array().unwrap().iter();
            let features = features.map(|feature| feature.as_str().unwrap().to_owned()).collect();
            uses.insert(dependency["name"].as_str().unwrap().to_owned(), features);
        }
        Package { name: package["name"].as_str().unwrap().to_owned(), uses }
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

/// The names of the crates that a package links, its own included.
fn linked(package: &str) -> BTreeSet<String> {
    let arguments = ["tree", "-p", package, "-e", "normal", "--prefix", "none", "--offline", "--locked"];
    let tree = output(env!("CARGO"), &arguments);
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// Each function's bound is what one more crate would be noticed by.
#[test]
fn functions_link_no_more_crates_than_their_bounds() {
    let bounds: toml::Table = read("tests/bounds.toml").parse().unwrap();
    for (function, _) in PORTS {
        let flags =
            ["--edges", "normal", "--prefix", "none", "--no-dedupe", "--format", "{p}", "--offline", "--locked"];
        let tree = output(env!("CARGO"), &[&["tree", "--package", function][..], &flags].concat());
        let crates: BTreeSet<&str> = tree.lines().filter(|line| !line.is_empty()).collect();
        let most = bounds["crates"][function].as_integer().unwrap();
        assert!(
            crates.len() as i64 <= most,
            "{function} links {} crates, tests/bounds.toml allows {most}",
            crates.len()
        );
    }
}

#[test]
fn packages_use_only_allowed_packages() {
    let packages = packages();
    let own: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    for package in packages.iter().filter(|package| package.name != "tests") {
        let (_, allowed) = ALLOWED
            .iter()
            .find(|(name, _)| *name == package.name)
            .unwrap_or_else(|| panic!("{}: say in this test whom it may depend on", package.name));
        for used in package.uses.keys().filter(|used| own.contains(used.as_str())) {
            assert!(allowed.contains(&used.as_str()), "{} must not depend on {used}", package.name);
        }
    }
    for (name, _) in ALLOWED {
        assert!(own.contains(name), "there is no package {name} any more: take it out of this test");
    }
}

#[test]
fn the_core_links_no_clock_socket_or_thread() {
    for package in packages().iter().filter(|package| package.name == "rollout") {
        for used in package.uses.keys() {
            assert!(CORE_DEPENDENCIES.contains(&used.as_str()), "the core must not depend on {used}");
        }
    }
    let linked = linked("rollout");
    for forbidden in ["tokio", "hyper", "getrandom", "rand", "aws-config"] {
        assert!(!linked.contains(forbidden), "the core links {forbidden}");
    }
}

/// The drive loop has ports, and no client behind them.
#[test]
fn the_drive_loop_links_no_http_html_or_slack_client() {
    let linked = linked("engine");
    assert!(linked.contains("rollout"), "the engine's tree looks wrong: {linked:?}");
    for forbidden in ["hyper", "http", "reqwest", "maud", "form_urlencoded", "hmac", "aws-config"] {
        assert!(!linked.contains(forbidden), "the drive loop links {forbidden}");
    }
    let sdk = linked.iter().find(|name| name.starts_with("aws-sdk-"));
    assert_eq!(sdk, None, "SDKs belong into shared/aws");
}

#[test]
fn the_function_that_drives_links_no_pages_and_no_api() {
    let linked = linked("rollout-driver");
    assert!(linked.contains("engine"), "the function's tree looks wrong: {linked:?}");
    for forbidden in ["maud", "api"] {
        assert!(!linked.contains(forbidden), "rollout-driver links {forbidden}");
    }
}

#[test]
fn only_shared_aws_uses_the_sdks() {
    for package in packages().iter().filter(|package| !["aws", "tests", "switchback"].contains(&package.name.as_str()))
    {
        for used in package.uses.keys() {
            assert!(!used.starts_with("aws-sdk-"), "{} uses {used}: SDKs belong into shared/aws", package.name);
        }
    }
}

#[test]
fn a_function_links_only_the_ports_that_it_uses() {
    for package in packages() {
        let Some((_, ports)) = PORTS.iter().find(|(name, _)| *name == package.name) else { continue };
        let given: Vec<&str> = package.uses["aws"].iter().map(String::as_str).collect();
        assert_eq!(given, *ports, "{}: ports of `aws`", package.name);
    }
}

#[test]
fn the_demo_links_no_aws_sdk() {
    let arguments = [
        "tree",
        "-p",
        "switchback",
        "--no-default-features",
        "--features",
        "demo",
        "-e",
        "normal,build",
        "--prefix",
        "none",
        "--offline",
    ];
    let tree = output(env!("CARGO"), &arguments);
    assert!(tree.contains("hyper"), "the demo's tree looks wrong:\n{tree}");
    let sdk = tree.lines().find(|line| line.starts_with("aws") || line.starts_with("lambda_runtime"));
    assert_eq!(sdk, None, "the demo must build without AWS");
}
