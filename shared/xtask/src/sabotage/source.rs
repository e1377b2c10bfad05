//! Which mistakes there are, as the source of the packages says, and which test of each package is there to notice which.
//!
//! The file `tests/sabotages.txt` of a package has a line for each: the mistake, the suite (`lib` for the tests beside the
//! code) and the test, by its name or a part of it. What follows a `#` is a comment.

use std::{collections::BTreeMap, fs, io::ErrorKind, path::Path};

use anyhow::{Context, Result, ensure};

use crate::workspace::{Metadata, Package};

/// What stands before a name in the source.
const CALL: &str = "sabotage::active(\"";

/// What stands before a name in a `sabotage.rs`.
const CONSTANT: &str = ": &str = \"";

/// The suite of a package that are the tests beside its code.
pub(super) const BESIDE_THE_CODE: &str = "lib";

/// A mistake that a product can be told to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// The package that makes it.
    pub(super) package: String,
    /// The test that is there to notice it; `None` if nobody says which.
    pub(super) witness: Option<Witness>,
}

/// A test, or those whose names contain this, of one suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Witness {
    pub(super) suite: String,
    pub(super) test: String,
}

/// Every sabotage by its name. Fails if a package names a test for a mistake that it does not make.
pub(super) fn mistakes(metadata: &Metadata) -> Result<BTreeMap<String, Mistake>> {
    let mut found = BTreeMap::new();
    for package in metadata
        .packages
        .iter()
        .filter(|package| package.features.contains_key("sabotage"))
    {
        collect(&package.manifest_path.with_file_name("src"), &mut |name| {
            let mistake = Mistake {
                package: package.name.clone(),
                witness: None,
            };
            found.insert(name, mistake);
        })?;
        add_witnesses(package, &mut found)?;
    }
    Ok(found)
}

fn add_witnesses(package: &Package, mistakes: &mut BTreeMap<String, Mistake>) -> Result<()> {
    let path = package
        .manifest_path
        .with_file_name("tests")
        .join("sabotages.txt");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    for (name, witness) in witnesses(&text).with_context(|| format!("{} is malformed", path.display()))? {
        let mistake = mistakes.get_mut(&name);
        let mistake = mistake.filter(|mistake| mistake.package == package.name);
        let mistake = mistake.with_context(|| {
            format!(
                "{} names a test for `{name}`, a mistake that {} does not make",
                path.display(),
                package.name
            )
        })?;
        mistake.witness = Some(witness);
    }
    Ok(())
}

/// What a `sabotages.txt` says.
fn witnesses(text: &str) -> Result<Vec<(String, Witness)>> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            continue;
        }
        ensure!(words.len() == 3, "`{line}` is not a mistake, a suite and a test");
        let [suite, test] = [&words[1], &words[2]].map(Clone::clone);
        found.push((words[0].clone(), Witness { suite, test }));
    }
    Ok(found)
}

fn collect(folder: &Path, found: &mut dyn FnMut(String)) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.context("cannot list a source folder")?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            names(&text, CALL).for_each(&mut *found);
            if path.file_name().is_some_and(|name| name == "sabotage.rs") {
                names(&text, CONSTANT).for_each(&mut *found);
            }
        }
    }
    Ok(())
}

/// The words that stand in quotes after `before` (which ends with the first quote), comments left out.
fn names(source: &str, before: &'static str) -> impl Iterator<Item = String> {
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(move |line| {
            line.split(before)
                .skip(1)
                .filter_map(|rest| rest.split_once('"'))
                .map(|(name, _)| name.to_owned())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_the_code_and_not_from_comments() {
        let source =
            "if sabotage::active(\"a\") || sabotage::active(\"b\") {\n  // sabotage::active(\"c\")\n}";
        assert_eq!(names(source, CALL).collect::<Vec<_>>(), ["a", "b"]);
        let source = "/// x\npub(crate) const SKIP: &str = \"skip-it\";\npub const ALL: &[&str] = &[SKIP];";
        assert_eq!(names(source, CONSTANT).collect::<Vec<_>>(), ["skip-it"]);
    }

    #[test]
    fn the_operators_mistakes_are_found_and_most_name_the_test_that_notices_them() {
        let found = mistakes(&Metadata::read().unwrap()).unwrap();
        let with_witness = found.values().filter(|mistake| mistake.witness.is_some());
        assert!(with_witness.count() >= 30, "only {found:?}");
    }

    #[test]
    fn a_line_is_a_mistake_a_suite_and_a_test() {
        let text = "# comment\n\nskip-it  engine  it_is_not_skipped # why\n";
        let witness = Witness {
            suite: "engine".to_owned(),
            test: "it_is_not_skipped".to_owned(),
        };
        assert_eq!(witnesses(text).unwrap(), [("skip-it".to_owned(), witness)]);
        assert!(witnesses("skip-it engine").is_err());
    }
}
