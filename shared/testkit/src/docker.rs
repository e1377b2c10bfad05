//! Docker, through its own command line: a daemon is found, or started where none runs, and asked.
//!
//! The command line is used and not the API because it knows contexts, remote hosts, credentials and the builder of
//! the machine that it is on.
//!
//! # Guarantees
//! - Nothing of a person's own Docker is touched: every object that the test bed makes carries a label that starts
//!   with [`LABEL`], and only objects with such a label are ever removed.
//! - A future that is dropped ends the command that it waits for.

mod daemon;
pub mod door;
pub mod own;

use std::{
    ffi::OsStr,
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

pub(crate) use daemon::{SYS_RESOURCE, has_capability, lacks_nothing};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

use crate::tools::{ToolError, on_path};

/// What the labels of the test bed's objects start with.
pub const LABEL: &str = "operators-testbed";

/// Where a daemon listens that was told nothing else.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// How many lines of a failed command's output an error quotes.
const QUOTED_LINES: usize = 20;

/// Why Docker did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// There is none, and none can be had without help.
    #[error("docker: {why}; {remedy}")]
    Unavailable {
        /// What is missing.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// A command could not be run.
    #[error("docker: cannot run `{command}`: {source}")]
    Run {
        /// The command.
        command: String,
        /// The reason.
        source: io::Error,
    },
    /// A command failed.
    #[error("docker: `{command}` failed ({status}): {output}")]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        output: String,
    },
    /// The folder in the cache.
    #[error(transparent)]
    Cache(#[from] ToolError),
}

impl DockerError {
    fn is_broken_pipe(&self) -> bool {
        let signalled = matches!(self, Self::Failed { status, .. } if status.signal() == Some(libc::SIGPIPE));
        signalled || self.says("roken pipe")
    }

    /// Whether the command failed and said `text`.
    pub fn says(&self, text: &str) -> bool {
        matches!(self, Self::Failed { output, .. } if output.contains(text))
    }
}

/// A reachable Docker daemon.
#[derive(Clone, Debug)]
pub struct Docker {
    program: PathBuf,
    /// Where the daemon is; none where the command line's own configuration says it.
    host: Option<String>,
}

impl Docker {
    /// The daemon that the command line's own configuration leads to; where none answers, one is started, and
    /// installed first, if this is a Debian machine and we are root. Otherwise the error says which command helps.
    pub async fn connect() -> Result<Self, DockerError> {
        daemon::ensure().await?;
        let program = on_path("docker").ok_or_else(|| DockerError::Unavailable {
            why: "there is no `docker` command".to_owned(),
            remedy: "install Docker's command line (`apt-get install docker.io`)".to_owned(),
        })?;
        Ok(Self { program, host: None })
    }

    /// The command line's program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The daemon's socket on this machine, for containers that mount it; none where the daemon is not asked by one.
    pub fn socket(&self) -> Option<String> {
        let path = match std::env::var("DOCKER_HOST") {
            Ok(host) if !host.is_empty() => host.strip_prefix("unix://")?.to_owned(),
            _ => DEFAULT_SOCKET.to_owned(),
        };
        Path::new(&path).exists().then_some(path)
    }

    /// Runs `docker ARGUMENTS…` and returns what it prints, without the last line's end.
    pub async fn run(&self, arguments: &[&str]) -> Result<String, DockerError> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null());
        run_to_end(command, None).await
    }

    /// [`Docker::run`] with `input` on standard input.
    pub async fn run_with(&self, arguments: &[&str], input: &[u8]) -> Result<String, DockerError> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        run_to_end(command, Some(input)).await
    }

    /// Runs a command in a container.
    pub async fn exec(&self, container: &str, command: &[&str]) -> Result<String, DockerError> {
        self.run(&[&["exec", container], command].concat()).await
    }

    /// Runs a command in a container with `input` on its standard input.
    pub async fn exec_with(
        &self,
        container: &str,
        command: &[&str],
        input: &[u8],
    ) -> Result<String, DockerError> {
        self.run_with(&[&["exec", "-i", container], command].concat(), input)
            .await
    }

    /// Runs `docker FROM…` and `docker TO…`, the output of the first being the input of the second. Fails if either
    /// does.
    pub async fn pipe(&self, from: &[&str], to: &[&str]) -> Result<String, DockerError> {
        let mut source = self.command(from);
        source.stderr(Stdio::piped());
        pipe_commands(source, self.command(to)).await
    }

    /// Whether an object of this kind (`image`, `container`, `volume`, `network`) exists.
    pub async fn exists(&self, kind: &str, name: &str) -> Result<bool, DockerError> {
        match self.run(&[kind, "inspect", "--format", "yes", name]).await {
            Ok(_) => Ok(true),
            Err(DockerError::Failed { output, .. }) if is_absence(&output) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(host) = &self.host {
            command.args(["--host", host]);
        }
        command.args(arguments).kill_on_drop(true);
        command
    }
}

/// Runs two commands, the output of the first being the input of the second. Fails if either does; returns what the
/// second prints.
pub(crate) async fn pipe_commands(mut source: Command, mut sink: Command) -> Result<String, DockerError> {
    let described = describe(&source);
    source.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut source = spawn(source)?;
    let output = source.stdout.take().map(TryInto::<Stdio>::try_into);
    let output = output
        .transpose()
        .map_err(running(&described))?
        .unwrap_or_else(Stdio::null);
    sink.stdin(output);
    let (source, sink) = tokio::join!(finish(source, described), run_to_end(sink, None));
    match (source, sink) {
        // Who had nobody to write to any more is not to blame.
        (Err(source), Err(sink)) if source.is_broken_pipe() => Err(sink),
        (Err(source), _) => Err(source),
        (Ok(_), sink) => sink,
    }
}

fn is_absence(output: &str) -> bool {
    let output = output.to_lowercase();
    output.contains("no such") || output.contains("not found")
}

async fn run_to_end(mut command: Command, input: Option<&[u8]>) -> Result<String, DockerError> {
    let described = describe(&command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command)?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        let written = async {
            stdin.write_all(input).await?;
            stdin.shutdown().await
        };
        // A command that ends without reading everything is judged by how it ends.
        written.await.ok();
    }
    finish(child, described).await
}

fn spawn(mut command: Command) -> Result<Child, DockerError> {
    let described = describe(&command);
    command.spawn().map_err(running(&described))
}

async fn finish(child: Child, command: String) -> Result<String, DockerError> {
    let output = child.wait_with_output().await.map_err(running(&command))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(printed.trim_end_matches('\n').to_owned());
    }
    let said = format!("{printed}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = said.trim().lines().collect();
    let quoted = lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n");
    Err(DockerError::Failed {
        command,
        status: output.status,
        output: quoted,
    })
}

fn describe(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(OsStr::new("docker")).chain(command.get_args());
    let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    words.join(" ").chars().take(200).collect()
}

fn running(command: &str) -> impl FnOnce(io::Error) -> DockerError {
    let command = command.to_owned();
    move |source| DockerError::Run { command, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docker(program: &str) -> Docker {
        Docker {
            program: PathBuf::from(program),
            host: None,
        }
    }

    #[tokio::test]
    async fn a_failed_command_is_quoted_with_what_it_said() {
        let error = docker("/bin/sh")
            .run(&["-c", "echo out; echo the reason >&2; exit 3"])
            .await
            .unwrap_err();
        assert!(
            error.says("the reason") && error.to_string().contains("exit status: 3"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_pipe_fails_when_its_source_does() {
        let shell = docker("/bin/sh");
        let joined = shell
            .pipe(&["-c", "echo a"], &["-c", "cat; echo b"])
            .await
            .unwrap();
        assert_eq!(joined, "a\nb");
        let error = shell.pipe(&["-c", "exit 4"], &["-c", "cat"]).await.unwrap_err();
        assert!(error.to_string().contains("exit status: 4"), "{error}");
    }

    #[tokio::test]
    async fn a_pipe_blames_its_end_where_the_source_only_lost_its_reader() {
        let shell = docker("/bin/sh");
        let endless = ["-c", "while echo a; do :; done"];
        let error = shell
            .pipe(&endless, &["-c", "echo full >&2; exit 5"])
            .await
            .unwrap_err();
        assert!(error.says("full"), "{error}");
    }

    #[tokio::test]
    async fn input_reaches_the_command() {
        let long = vec![b'x'; 1 << 20];
        let counted = docker("/bin/sh").run_with(&["-c", "wc -c"], &long).await.unwrap();
        assert_eq!(counted.trim(), "1048576");
    }
}
