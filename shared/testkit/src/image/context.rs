//! The context of an image's build: a folder with the files of the repository and the tools.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{Image, ImageError};
use crate::tools::cache_folder;

/// A folder that holds everything a build reads; removed when dropped.
#[derive(Debug)]
pub(super) struct Context {
    folder: tempfile::TempDir,
}

impl Context {
    /// Copies the files of `image` and links `programs` into `bin/`.
    pub(super) fn assemble(image: Image, programs: &[PathBuf]) -> Result<Self, ImageError> {
        // Next to the tools, so that they can be linked instead of copied.
        let parent = cache_folder()?.join("contexts");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ImageError::File {
                image: image.name(),
                path,
                source,
            }
        };
        fs::create_dir_all(&parent).map_err(failed(&parent))?;
        let folder = tempfile::tempdir_in(&parent).map_err(failed(&parent))?;
        for source in image.folders() {
            for (path, executable, content) in files(image, source)? {
                let target = folder.path().join(path);
                write(&target, &content, executable).map_err(failed(&target))?;
            }
        }
        let bin = folder.path().join("bin");
        fs::create_dir_all(&bin).map_err(failed(&bin))?;
        for program in programs {
            let target = bin.join(program.file_name().unwrap_or_default());
            fs::hard_link(program, &target)
                .or_else(|_| fs::copy(program, &target).map(drop))
                .map_err(failed(&target))?;
        }
        Ok(Self { folder })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn write(path: &Path, content: &[u8], executable: bool) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, content)?;
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// The files of a folder under `images`, ordered by path: relative path, whether executable, content.
pub(super) fn files(image: Image, folder: &str) -> Result<Vec<(PathBuf, bool, Vec<u8>)>, ImageError> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/images")).join(folder);
    let mut found = Vec::new();
    walk(&root, &mut found).map_err(|source| ImageError::File {
        image: image.name(),
        path: root.clone(),
        source,
    })?;
    for (path, ..) in &mut found {
        *path = path
            .strip_prefix(&root)
            .map_or_else(|_| path.clone(), Path::to_owned);
    }
    found.sort();
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<(PathBuf, bool, Vec<u8>)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else {
            let executable = path.metadata()?.permissions().mode() & 0o111 != 0;
            let content = fs::read(&path)?;
            found.push((path, executable, content));
        }
    }
    Ok(())
}
