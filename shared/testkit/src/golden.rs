//! What a release leaves, kept as files beside the tests: `<version>.json`, one for each release, which later ones are held
//! to. A release writes its own when the variable `GOLDEN` names its version (`GOLDEN=v0.1.0`).

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde::{Serialize, de::DeserializeOwned};

/// Writes what this release leaves into `folder`, if that is asked for.
pub fn record(folder: &Path, left: &impl Serialize) -> Result<()> {
    let Ok(version) = std::env::var("GOLDEN") else {
        return Ok(());
    };
    let path = folder.join(format!("{version}.json"));
    let text = serde_json::to_string_pretty(left)? + "\n";
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// What each release has left in `folder`, by the name of its file; an error if there is none.
pub fn releases<T: DeserializeOwned>(folder: &Path) -> Result<Vec<(String, T)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let left = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        found.push((path.display().to_string(), left));
    }
    ensure!(
        !found.is_empty(),
        "there is nothing to upgrade from in {}",
        folder.display()
    );
    Ok(found)
}
