//! The commit that an image is made from, as its labels tell it.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};

/// A commit and its time.
pub(super) struct Origin {
    /// The commit; with `-dirty` where something is there that it has not.
    pub(super) revision: String,
    /// When it was made.
    pub(super) created: String,
}

impl Origin {
    /// From git in the clone at `folder`, or from `REVISION` and `CREATED` where the sources are no clone.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        if let (Ok(revision), Ok(created)) = (std::env::var("REVISION"), std::env::var("CREATED")) {
            return Ok(Self { revision, created });
        }
        Self::of_clone(folder).context(
            "this is no git clone: set REVISION to its commit and CREATED to the commit's time (2026-01-31T12:00:00Z)",
        )
    }

    fn of_clone(folder: &Path) -> Option<Self> {
        let format = [
            "log",
            "-1",
            "--format=%H %cd",
            "--date=format-local:%Y-%m-%dT%H:%M:%SZ",
        ];
        let printed = git(folder, &format)?;
        let (commit, created) = printed.trim().split_once(' ')?;
        let changed = git(folder, &["--no-optional-locks", "status", "--porcelain"])?;
        let dirty = if changed.trim().is_empty() { "" } else { "-dirty" };
        Some(Self {
            revision: format!("{commit}{dirty}"),
            created: created.to_owned(),
        })
    }
}

/// What git prints, if it does what it is asked for.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    let output = command
        .current_dir(folder)
        .args(arguments)
        .env("TZ", "UTC")
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_no_commit_has_is_told() {
        let folder = std::env::temp_dir().join(format!("origin-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert!(Origin::of_clone(&folder).is_none());
        let git = |arguments: &[&str]| git(&folder, arguments).unwrap();
        git(&["init", "--quiet"]);
        fs::write(folder.join("source"), "one").unwrap();
        git(&["add", "source"]);
        let who = [
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@example.com",
            "-c",
            "commit.gpgsign=false",
        ];
        git(&[&who[..], &["commit", "--quiet", "--message=x"]].concat());
        let revision = || Origin::of_clone(&folder).unwrap().revision;
        let clean = revision();
        assert_eq!(clean.len(), 40, "{clean}");
        fs::write(folder.join("source"), "two").unwrap();
        assert_eq!(revision(), format!("{clean}-dirty"));
        fs::write(folder.join("source"), "one").unwrap();
        assert_eq!(revision(), clean);
        fs::write(folder.join("another"), "one").unwrap();
        assert_eq!(revision(), format!("{clean}-dirty"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
