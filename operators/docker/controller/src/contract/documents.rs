//! The documents about the contract say what is so.

use std::{fs, path::Path};

use docker_api::{ConditionType, Reason};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.."))
}

/// All sources below `folder`, in one text.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    text
}

#[test]
fn every_test_that_the_contract_table_names_exists() {
    let table = fs::read_to_string(root().join("docs/contract.md")).unwrap();
    let sources = sources(&root().join("operators/docker")) + &sources(&root().join("shared/xtask/src"));
    let mut named = 0;
    for row in table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| rule"))
    {
        let held_by = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap();
        assert!(!held_by.trim().is_empty(), "nothing holds this rule: {row}");
        for name in held_by.split('`').skip(1).step_by(2) {
            named += 1;
            assert!(
                sources.contains(&format!("fn {name}(")),
                "there is no test {name}"
            );
        }
    }
    assert!(named > 30, "only {named} tests are named");
}

#[test]
fn every_condition_and_reason_is_documented() {
    let page = fs::read_to_string(root().join("docs/docker.md")).unwrap();
    let types = ConditionType::ALL.iter().map(|of| of.as_str());
    for name in types.chain(Reason::ALL.iter().map(|of| of.as_str())) {
        assert!(
            page.contains(&format!("| `{name}` |")),
            "docs/docker.md does not explain `{name}`"
        );
    }
}
