//! One name in six places: folder, package, binary, resource, fixtures, code map.

use super::{files, read, root};
use std::collections::BTreeSet;

fn functions() -> BTreeSet<String> {
    let manifest = |file: &String| {
        let name = file.strip_prefix("functions/")?.strip_suffix("/Cargo.toml")?;
        Some(name.to_owned())
    };
    files().iter().filter_map(manifest).collect()
}

/// `image-pushed` as a template's resource is called: `ImagePushed`.
fn camel_case(name: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('-').map(word).collect()
}

#[test]
fn a_function_has_one_name_everywhere() {
    let template = read("template.yaml");
    for name in functions() {
        let manifest = read(&format!("functions/{name}/Cargo.toml"));
        assert!(manifest.contains(&format!("name = \"{name}\"")), "functions/{name} holds another package");
        assert!(root().join(format!("functions/{name}/src/main.rs")).is_file(), "{name} is no binary");
        let resource = camel_case(&name);
        let lines: Vec<&str> = template.lines().collect();
        let at = lines.iter().position(|line| *line == format!("  {resource}:"));
        let at = at.unwrap_or_else(|| panic!("template.yaml has no resource {resource}"));
        assert!(lines[at + 1].contains("AWS::Serverless::Function"), "{resource} is no function in template.yaml");
        let fixtures = files().into_iter().filter(|file| file.starts_with(&format!("events/{name}."))).count();
        assert!(fixtures > 0, "events/ has no {name}.<case>.json");
    }
}

#[test]
fn every_function_of_the_template_and_every_event_has_a_folder() {
    let functions = functions();
    let resources: BTreeSet<String> = functions.iter().map(|name| camel_case(name)).collect();
    let template = read("template.yaml");
    let lines: Vec<&str> = template.lines().collect();
    for (above, line) in lines.iter().zip(lines.iter().skip(1)) {
        if line.trim() == "Type: AWS::Serverless::Function" {
            let resource = above.trim().trim_end_matches(':');
            assert!(resources.contains(resource), "template.yaml has {resource}, and functions/ has no such folder");
        }
    }
    for file in files() {
        let Some(event) = file.strip_prefix("events/").filter(|name| name.ends_with(".json")) else { continue };
        let function = event.split('.').next().unwrap();
        assert!(functions.contains(function), "{file} belongs to no function");
        serde_json::from_str::<serde_json::Value>(&read(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

#[test]
fn the_code_map_names_every_package_and_nothing_else() {
    let readme = read("README.md");
    let map = readme.split("## Code map").nth(1).expect("README.md has a code map").split("\n## ").next().unwrap();
    let named: BTreeSet<String> =
        map.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned)).collect();
    let package = |file: &String| file.strip_suffix("/Cargo.toml").map(str::to_owned);
    let mut there: BTreeSet<String> = files().iter().filter_map(package).collect();
    there.extend(["template.yaml", "events"].map(str::to_owned));
    let missing: Vec<_> = there.difference(&named).collect();
    let gone: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty(), "the code map does not name {missing:?}");
    assert!(gone.is_empty(), "the code map names what is not there: {gone:?}");
}
