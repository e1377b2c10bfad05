//! What all operators of one `up` share.

use std::path::{Path, PathBuf};

use anyhow::Context;
use testkit::process::{ScratchFolder, tail};

use super::Arguments;

/// Lines of a log that a failure quotes.
const LAST_WORDS: usize = 20;

/// A name that no other run on this machine has, for networks, namespaces and the like.
pub(super) fn unique() -> String {
    format!("up-{}", std::process::id())
}

/// One run of `up`.
#[derive(Debug)]
pub(super) struct Session {
    /// The project's folder.
    pub(super) project: PathBuf,
    /// The folder of the programs.
    pub(super) programs: PathBuf,
    /// Items of the partition that is deleted.
    pub(super) items: u64,
    /// What builds an operator; without it all are built already.
    pub(super) builder: Option<PathBuf>,
    folder: ScratchFolder,
}

impl Session {
    /// Makes its folder.
    pub(super) fn prepare(arguments: &Arguments) -> anyhow::Result<Self> {
        Ok(Self {
            project: arguments.project.clone(),
            programs: arguments.programs.clone(),
            items: arguments.items,
            builder: arguments.builder.clone(),
            folder: ScratchFolder::create("testkit-up").context("cannot make a folder for logs")?,
        })
    }

    /// The folder, gone with the session.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the output of `program` goes.
    pub(super) fn log(&self, program: &str) -> PathBuf {
        self.folder().join(format!("{program}.log"))
    }

    /// The end of that, for the message of a failure.
    pub(super) fn last_words(&self, program: &str) -> String {
        let said = tail(&self.log(program), LAST_WORDS);
        format!("the end of the log of {program}:\n{said}")
    }
}
