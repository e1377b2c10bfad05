//! Images, compiled twice.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The smallest operator.
const IMAGE: &str = "capdkc";

/// Makes the image of what is committed here, in folders of its own, and returns the archive.
fn make(folder: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (tree, output) = (folder.join("tree"), folder.join("images"));
    let mut clone = Command::new("git");
    clone.args(["clone", "--quiet"]).arg(root).arg(&tree);
    assert!(clone.status().unwrap().success(), "{clone:?}");
    let mut images = Command::new("cargo");
    images
        .args(["xtask", "images", IMAGE, "--no-load", "--output"])
        .arg(&output)
        .current_dir(&tree)
        .env("CARGO_TARGET_DIR", folder.join("target"));
    assert!(images.status().unwrap().success(), "{images:?}");
    output.join(format!("{IMAGE}.tar"))
}

#[test]
#[ignore = "takes minutes: --full"]
fn two_builds_in_two_folders_give_one_image() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, other] = folders
        .each_ref()
        .map(|folder| fs::read(make(folder.path())).unwrap());
    // Not by assert_eq!, which would print megabytes.
    assert!(
        one == other,
        "{} and {} bytes that differ",
        one.len(),
        other.len()
    );
}
