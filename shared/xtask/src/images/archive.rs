//! An image as one file, in the format of `docker save`, byte for byte the same for the same content.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const BLOCK: usize = 512;
/// The longest name that a header has room for; ours are shorter.
const NAME: usize = 100;

/// What an image consists of.
pub(super) struct Contents<'a> {
    pub(super) reference: &'a str,
    /// A tar of its root.
    pub(super) layer: Vec<u8>,
    /// Its configuration without the part that follows from the layer.
    pub(super) configuration: Value,
}

impl Contents<'_> {
    /// The archive, the image id, and how many bytes are in it.
    pub(super) fn write(mut self) -> Result<(Vec<u8>, String, u64)> {
        let layer = digest(&self.layer);
        self.configuration["rootfs"] = json!({"type": "layers", "diff_ids": [layer]});
        self.configuration["history"] = json!([{
            "created": self.configuration["created"],
            "created_by": "cargo xtask images",
        }]);
        let configuration = serde_json::to_vec(&self.configuration)?;
        let image = digest(&configuration);
        let (name, folder) = (
            format!("{}.json", without_algorithm(&image)),
            without_algorithm(&layer).to_owned(),
        );
        let manifest = serde_json::to_vec(&json!([{
            "Config": name,
            "RepoTags": [self.reference],
            "Layers": [format!("{folder}/layer.tar")],
        }]))?;
        let size = self.layer.len() as u64;
        let mut archive = Vec::new();
        entry(&mut archive, &name, &Kind::File(&configuration, 0o644))?;
        entry(&mut archive, &format!("{folder}/"), &Kind::Folder(0o755))?;
        entry(
            &mut archive,
            &format!("{folder}/layer.tar"),
            &Kind::File(&self.layer, 0o644),
        )?;
        entry(&mut archive, "manifest.json", &Kind::File(&manifest, 0o644))?;
        finish(&mut archive);
        Ok((archive, image, size))
    }
}

/// `sha256:` and the hash of `bytes`.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

/// The SHA-256 of `bytes` in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn without_algorithm(digest: &str) -> &str {
    digest.split_once(':').map_or(digest, |(_, hash)| hash)
}

/// A tar of everything below `root`, in order, everything root's and as old as the epoch.
pub(super) fn layer(root: &Path) -> Result<Vec<u8>> {
    let mut tar = Vec::new();
    for path in below(root)? {
        let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
        let metadata = fs::symlink_metadata(&path)?;
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_symlink() {
            let target = fs::read_link(&path)?.to_string_lossy().into_owned();
            entry(&mut tar, &name, &Kind::Link(&target))?;
        } else if metadata.is_dir() {
            entry(&mut tar, &format!("{name}/"), &Kind::Folder(mode))?;
        } else {
            let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            entry(&mut tar, &name, &Kind::File(&content, mode))?;
        }
    }
    finish(&mut tar);
    Ok(tar)
}

/// Everything below `folder`, a folder before what is in it.
fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        entries.push(entry?.path());
    }
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        let is_folder = fs::symlink_metadata(&path)?.is_dir();
        found.push(path.clone());
        if is_folder {
            found.extend(below(&path)?);
        }
    }
    Ok(found)
}

/// What an entry of a tar is; with its permissions.
enum Kind<'a> {
    File(&'a [u8], u32),
    Folder(u32),
    Link(&'a str),
}

/// Appends an entry in the ustar format.
fn entry(tar: &mut Vec<u8>, name: &str, kind: &Kind<'_>) -> Result<()> {
    let (content, mode, flag, link) = match *kind {
        Kind::File(content, mode) => (content, mode, b'0', ""),
        Kind::Folder(mode) => (&[][..], mode, b'5', ""),
        Kind::Link(target) => (&[][..], 0o777, b'2', target),
    };
    ensure!(
        name.len() < NAME && link.len() < NAME,
        "the name {name} is too long for an image's archive"
    );
    let mut header = [0u8; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{:011o}", content.len()).as_bytes());
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[flag]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&header);
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    Ok(())
}

/// The end of a tar.
fn finish(tar: &mut Vec<u8>) {
    tar.resize(tar.len() + 2 * BLOCK, 0);
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn tar_reads_what_is_written() {
        let mut tar = Vec::new();
        entry(&mut tar, "a/", &Kind::Folder(0o755)).unwrap();
        entry(&mut tar, "a/file", &Kind::File(b"content", 0o640)).unwrap();
        entry(&mut tar, "a/link", &Kind::Link("/a/file")).unwrap();
        finish(&mut tar);
        let path = std::env::temp_dir().join(format!("archive-{}.tar", std::process::id()));
        fs::write(&path, &tar).unwrap();
        let listed = Command::new("tar")
            .args(["--list", "--verbose", "--numeric-owner", "--utc", "--file"])
            .arg(&path)
            .output()
            .unwrap();
        fs::remove_file(&path).unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let lines: Vec<_> = listed
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let expected = [
            "drwxr-xr-x 0/0 0 1970-01-01 00:00 a/",
            "-rw-r----- 0/0 7 1970-01-01 00:00 a/file",
            "lrwxrwxrwx 0/0 0 1970-01-01 00:00 a/link -> /a/file",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_name_that_would_be_cut_is_refused() {
        assert!(entry(&mut Vec::new(), &"x".repeat(NAME), &Kind::Folder(0)).is_err());
    }

    #[test]
    fn the_hash_is_the_known_one() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(b"abc"), known);
    }
}
