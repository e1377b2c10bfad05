//! Which mistakes there are, as the source of the packages says.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::workspace::{Metadata, Package};

/// What stands before a name in the source.
const CALL: &str = "sabotage::active(\"";

/// What stands before a name in a `sabotage.rs`.
const CONSTANT: &str = ": &str = \"";

/// Every sabotage, with the package that makes it.
pub(super) fn mistakes(metadata: &Metadata) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for package in metadata
        .packages
        .iter()
        .filter(|package| package.features.contains_key("sabotage"))
    {
        collect(&source_folder(package), &mut |name| {
            found.insert(name, package.name.clone());
        })?;
    }
    Ok(found)
}

fn source_folder(package: &Package) -> PathBuf {
    package.manifest_path.with_file_name("src")
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
    fn the_operators_mistakes_are_found() {
        let found = mistakes(&Metadata::read().unwrap()).unwrap();
        assert!(found.len() >= 5, "only {found:?}");
    }
}
