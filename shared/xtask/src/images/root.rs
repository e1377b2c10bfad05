//! The root file system of an image.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context, Result};

use super::program;

/// The certificates of public authorities, where distributions have them.
const CERTIFICATES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// The user without rights by name, for what looks names up.
const USERS: &str = "root:x:0:0::/:\nnonroot:x:65532:65532::/:\n";
const GROUPS: &str = "root:x:0:\nnonroot:x:65532:\n";

/// Makes the folder `root` anew, with `program` as `/manager`, and as `name` on the `PATH`.
pub(super) fn assemble(root: &Path, program: &Path, name: &str) -> Result<()> {
    program::ensure_static(program)?;
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    let certificates = CERTIFICATES
        .iter()
        .map(Path::new)
        .find(|path| path.is_file())
        .context("this machine has no certificates of public authorities: apt-get install ca-certificates")?;
    for folder in ["usr/bin", "etc/ssl/certs"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for folder in ["usr", "usr/bin", "etc", "etc/ssl", "etc/ssl/certs"] {
        set_mode(&root.join(folder), 0o755)?;
    }
    put(root, "manager", &fs::read(program)?, 0o755)?;
    put(
        root,
        "etc/ssl/certs/ca-certificates.crt",
        &fs::read(certificates)?,
        0o644,
    )?;
    put(root, "etc/passwd", USERS.as_bytes(), 0o644)?;
    put(root, "etc/group", GROUPS.as_bytes(), 0o644)?;
    std::os::unix::fs::symlink("/manager", root.join("usr/bin").join(name))?;
    Ok(())
}

fn put(root: &Path, name: &str, content: &[u8], mode: u32) -> Result<()> {
    let path = root.join(name);
    fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    set_mode(&path, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the permissions of {}", path.display()))
}
