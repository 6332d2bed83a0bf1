//! The tables of the READMEs: every line of the owners' documents that bears on deployment, and where it is met.

use crate::system;
use std::path::Path;

const HEADER: &str = "| the document says | where it is met |";
/// How a cell says that a line is not met, before the reason.
const NOT_MET: [&str; 2] = ["not met: ", "not yet: "];
/// Length of the shortest reason that says something.
const REASON_CHARS: usize = 20;

/// The rows of a README's table: what the document says, and where it is met. Rows that are headings are left out.
fn rows(readme: &str) -> Vec<(&str, &str)> {
    let (_, table) = readme.split_once(HEADER).expect("the README has the table");
    // The rest of the header's line, and the line below it.
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let rows = lines.map(|line| {
        let cells = line.trim_matches('|').split_once(" | ");
        let (says, met) = cells.unwrap_or_else(|| panic!("this row has no two cells: {line}"));
        (says.trim(), met.trim())
    });
    rows.filter(|(_, met)| !met.is_empty()).collect()
}

/// Whether a text between backticks names a test, a resource or a file that exists; none: it names none of these.
fn exists(named: &str, folder: &Path, declarations: &str) -> Option<bool> {
    if let Some((module, test)) = named.rsplit_once("::") {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systems");
        let source = std::fs::read_to_string(tests.join(module.replace("::", "/")).with_extension("rs"));
        return Some(source.is_ok_and(|source| source.contains(&format!("#[test]\nfn {test}("))));
    }
    if named.starts_with("aws_") {
        let mut parts = named.split('.');
        let (kind, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        return Some(declarations.contains(&format!("resource \"{kind}\" \"{name}\"")));
    }
    let is_file = [".tf", ".tfvars", ".yaml", ".py"].iter().any(|ending| named.ends_with(ending));
    is_file.then(|| folder.join(named).is_file())
}

/// Whether the cell gives a reason why the line is not met.
fn has_reason(cell: &str) -> bool {
    NOT_MET.iter().any(|mark| cell.split_once(mark).is_some_and(|(_, reason)| reason.chars().count() >= REASON_CHARS))
}

/// All `.tf` files of a folder, one after the other.
fn declarations(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let files = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "tf"));
    files.map(|path| std::fs::read_to_string(path).expect("the file is read")).collect()
}

/// Each row names a file, a resource or a test, or says why the line is not met. Everything that a row names exists.
#[test]
fn every_row_names_what_meets_it_or_says_why_it_is_not_met() {
    for system in system::both() {
        let page = system.folder.join("README.md");
        let readme = std::fs::read_to_string(&page).expect("the system has a README");
        let declarations = declarations(&system.folder) + &declarations(&system.folder.join("account"));
        let rows = rows(&readme);
        assert!(rows.len() >= 20, "{} has {} rows", page.display(), rows.len());
        for (says, met) in rows {
            let named = met.split('`').skip(1).step_by(2);
            let found: Vec<(&str, bool)> =
                named.filter_map(|named| Some((named, exists(named, &system.folder, &declarations)?))).collect();
            for (named, exists) in &found {
                assert!(*exists, "{}: {says}: there is no {named}", page.display());
            }
            assert!(!found.is_empty() || has_reason(met), "{}: {says}: neither met nor a reason", page.display());
        }
    }
}

/// Every test of this target is named in a table: what is proved is said, and of which line.
#[test]
fn every_requirement_test_is_named_in_a_readme() {
    let readmes: String = system::both()
        .iter()
        .map(|system| std::fs::read_to_string(system.folder.join("README.md")).expect("the system has a README"))
        .collect();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systems");
    for module in ["two_tier", "skillancer", "production"] {
        let source = std::fs::read_to_string(tests.join(module).with_extension("rs")).expect("the module is read");
        for test in source.split("#[test]\nfn ").skip(1) {
            let name = test.split('(').next().unwrap_or_default();
            assert!(readmes.contains(&format!("`{module}::{name}`")), "no README names {module}::{name}");
        }
    }
}
