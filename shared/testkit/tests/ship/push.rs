//! `cargo xtask images --push`, with a real registry that lets in who has logged in.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use testkit::{
    docker::Docker,
    tools::{self, Tool},
};

use super::{Loaded, program, said, xtask};

const USER: &str = "somebody";
const PASSWORD: &str = "secret";

/// A registry. It ends with its standard input.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start(program: &Path, folder: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg(folder).arg(USER).stderr(Stdio::null());
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = process.stdin.as_mut().context("no input")?;
        writeln!(input, "{PASSWORD}")?;
        let output = process.stdout.take().context("no output")?;
        let mut address = String::new();
        BufReader::new(output).read_line(&mut address)?;
        ensure!(!address.is_empty(), "the registry did not start");
        Ok(Self {
            process,
            address: address.trim().to_owned(),
        })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        drop(self.process.wait());
    }
}

#[tokio::test]
async fn an_image_that_was_pushed_is_pulled_as_it_was_made_and_a_refusal_fails_the_command() -> Result<()> {
    let (folder, docker) = (tempfile::tempdir()?, Docker::connect().await?);
    let registry = tools::ensure_pinned(&[Tool::Registry]).await?.remove(0);
    let registry = Registry::start(&registry, folder.path())?;
    let program = program(folder.path())?;
    let tag = format!("push-{}", std::process::id());
    let configuration = folder.path().join("docker").to_string_lossy().into_owned();
    // A registry is often named with what belongs before the image's name, and with a slash behind it.
    let push = || {
        let mut command = Command::new(xtask().unwrap_or_default());
        command
            .args(["images", "capdkc", "--tag", &tag])
            .args(["--push", &format!("{}/team/", registry.address)])
            .arg("--program")
            .arg(&program)
            .arg("--output")
            .arg(folder.path())
            .env("DOCKER_CONFIG", &configuration);
        command
    };
    let [local, remote] = ["", &format!("{}/team/", registry.address)].map(|prefix| Loaded {
        docker: &docker,
        reference: format!("{prefix}capdkc:{tag}"),
    });

    let refused = push().output()?;
    let why = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        !refused.status.success() && why.contains("docker push") && why.contains(&remote.reference),
        "{why}"
    );
    let login = ["login", "--username", USER, "--password-stdin", &registry.address];
    let login = [&["--config", &configuration], &login[..]].concat();
    docker.run_with(&login, PASSWORD.as_bytes()).await?;
    let made = said(&mut push())?;
    let (first, pushed) = made.trim().split_once('\n').context("it tells one thing only")?;
    let id = first.split_whitespace().nth(1).context("it tells no image id")?;
    let by_digest = format!("{}/team/capdkc@sha256:", registry.address);
    ensure!(pushed.starts_with(&by_digest), "{made}");
    let pulled = Loaded {
        docker: &docker,
        reference: pushed.to_owned(),
    };

    docker
        .run(&["image", "rm", "--force", &local.reference, &remote.reference])
        .await?;
    docker
        .run(&["--config", &configuration, "pull", "--quiet", &pulled.reference])
        .await?;
    let inspect = ["image", "inspect", "--format", "{{.Id}}", &pulled.reference];
    let found = docker.run(&inspect).await?;
    ensure!(found.trim() == id, "{found} was pulled, and {made} made");
    Ok(())
}
