//! The operators that are built while others are shown.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::bail;
use testkit::{
    process::{Supervised, tail},
    progress::Step,
};

use super::{operator::Operator, session::Session};

const POLL: Duration = Duration::from_millis(100);
/// Appears when the build before it went well.
const BUILT: &str = "built";

/// One build of all of them, in their order. It ends with this value.
pub(super) struct Builds {
    running: Option<Supervised>,
    marks: PathBuf,
    log: PathBuf,
}

impl Builds {
    /// Starts it, if there is anything to build and something to build it with.
    pub(super) fn start(session: &Session, operators: &[&Operator]) -> anyhow::Result<Self> {
        let (marks, log) = (session.folder().to_owned(), session.log("build"));
        let mut builds = Self {
            running: None,
            marks,
            log,
        };
        if let Some(builder) = session.builder.as_ref().filter(|_| !operators.is_empty()) {
            // One after another, below what is shown meanwhile.
            let script = r#"builder=$1; marks=$2; shift 2
                for operator in "$@"; do
                    nice "$builder" up "$operator" --build-only || exit
                    : > "$marks/$operator.built"
                done; exec sleep 2147483647"#;
            let mut command = Command::new("/bin/sh");
            command
                .args(["-c", script, "build"])
                .arg(builder)
                .arg(&builds.marks);
            command.args(operators.iter().map(|operator| operator.name));
            builds.running = Some(Supervised::spawn("the build", &command, &builds.log)?);
        }
        Ok(builds)
    }

    /// Returns once this one is built.
    pub(super) async fn wait_for(&mut self, operator: &Operator) -> anyhow::Result<()> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let mark = self.marks.join(operator.name).with_extension(BUILT);
        if mark.exists() {
            return Ok(());
        }
        let step = Step::start(format!("building the operator {}", operator.name));
        while !mark.exists() {
            if running.check().is_err() {
                bail!("{} was not built:\n{}", operator.name, tail(&self.log, 30));
            }
            tokio::time::sleep(POLL).await;
        }
        step.done();
        Ok(())
    }
}
