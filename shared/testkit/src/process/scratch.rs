//! Folders that are gone with whoever made them.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::Janitor;

/// Removes a folder once the other watchdogs have done their work.
const REMOVE_FOLDER: &str =
    r#"for _ in 1 2 3 4 5; do sleep 0.2; rm -rf -- "$1" && [ ! -e "$1" ] && break; done"#;

/// A folder that is removed when this value is dropped, and also soon after this process ends in any other way.
#[derive(Debug)]
pub struct ScratchFolder {
    path: PathBuf,
    janitor: Option<Janitor>,
    /// Locked for as long as the folder is in use; what [`sweep`] goes by.
    _held: File,
}

/// The file in a scratch folder that is locked while the folder is in use.
const HELD: &str = ".held";

impl ScratchFolder {
    /// Makes a new folder whose name starts with `prefix` below the system's temporary folder. Folders of that
    /// prefix that nobody holds any more (the machine went down, say) are removed on the way.
    pub fn create(prefix: &str) -> io::Result<Self> {
        sweep(&std::env::temp_dir(), prefix);
        let path = std::env::temp_dir().join(format!("{prefix}-{}", uuid::Uuid::new_v4().simple()));
        Self::adopt(path)
    }

    /// Makes the folder `path`, which must not exist, and owns it from here on.
    pub fn adopt(path: PathBuf) -> io::Result<Self> {
        std::fs::create_dir(&path)?;
        let held = File::create(path.join(HELD))?;
        held.lock()?;
        let janitor = Janitor::engage(REMOVE_FOLDER, &[path.as_os_str()])?;
        Ok(Self {
            path,
            janitor: Some(janitor),
            _held: held,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if std::fs::remove_dir_all(&self.path).is_ok()
            && let Some(janitor) = self.janitor.take()
        {
            janitor.dismiss();
        }
    }
}

/// Removes the folders in `parent` whose name starts with `prefix-` and that no process holds. A folder without
/// its lock file yet is left alone for a minute.
fn sweep(parent: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_prefix(prefix)?.strip_prefix('-'))
            .is_some();
        if ours && is_abandoned(&entry.path()) {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

fn is_abandoned(folder: &Path) -> bool {
    match File::open(folder.join(HELD)) {
        Ok(held) => held.try_lock().is_ok(),
        Err(_) => folder
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > Duration::from_mins(1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_scratch_folder_is_removed_with_its_content() {
        let kept = ScratchFolder::create("testkit-scratch").unwrap();
        let path = kept.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(kept);
        assert!(!path.exists());
    }

    #[test]
    fn a_sweep_removes_abandoned_folders_and_no_other() {
        let parent = tempfile::tempdir().unwrap();
        let [held, abandoned, fresh, foreign] =
            ["bed-held", "bed-abandoned", "bed-fresh", "other"].map(|name| parent.path().join(name));
        let _held = ScratchFolder::adopt(held.clone()).unwrap();
        for folder in [&abandoned, &fresh, &foreign] {
            std::fs::create_dir(folder).unwrap();
        }
        File::create(abandoned.join(HELD)).unwrap();
        sweep(parent.path(), "bed");
        assert_eq!(
            [held, abandoned, fresh, foreign].map(|path| path.exists()),
            [true, false, true, true]
        );
    }
}
