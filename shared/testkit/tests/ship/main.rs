//! What is shipped: images with nothing but a static program, and a release from which Helm, kubectl and Kustomize
//! install the same.

mod push;
mod uninstall;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::{
    docker::Docker,
    tools::{self, Tool},
};

/// What the program of the image under test does: it says who it is, what it finds and whom it can call by name.
const PROGRAM: &str = r#"
use std::net::ToSocketAddrs;
fn main() {
    let called = std::env::args().next().unwrap();
    println!("called {called}");
    println!("certificates {}", std::fs::metadata("/etc/ssl/certs/ca-certificates.crt").unwrap().len() > 1000);
    println!("writes {}", std::fs::write("/written", "").is_ok());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("user {}", status.lines().find(|line| line.starts_with("Uid:")).unwrap().split_whitespace().nth(1).unwrap());
    for host in std::env::args().skip(1) {
        println!("{host} {}", (host.as_str(), 1).to_socket_addrs().is_ok_and(|mut found| found.next().is_some()));
    }
}
"#;

/// The project's own commands, which are built with the tests.
fn xtask() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.ancestors().nth(2).context("no target folder")?;
    let program = folder.join("xtask");
    ensure!(
        program.is_file(),
        "{} is not built: cargo build --workspace --all-features --bins",
        program.display()
    );
    Ok(program)
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A static program in `folder`.
fn program(folder: &Path) -> Result<PathBuf> {
    let (source, program) = (folder.join("program.rs"), folder.join("program"));
    fs::write(&source, PROGRAM)?;
    let mut compiler = Command::new("rustc");
    compiler.args(["-C", "target-feature=+crt-static", "-o"]);
    said(compiler.arg(&program).arg(&source))?;
    Ok(program)
}

/// An image of Docker's, removed with the value.
struct Loaded<'a> {
    docker: &'a Docker,
    reference: String,
}

impl Drop for Loaded<'_> {
    fn drop(&mut self) {
        let remove = ["image", "rm", "--force", &self.reference];
        drop(Command::new(self.docker.program()).args(remove).output());
    }
}

impl Loaded<'_> {
    /// What a container of it prints, alone on a network with a container that is called `peer`.
    async fn run(&self, flags: &[&str], arguments: &[&str]) -> Result<String> {
        let flags = [
            &["run", "--rm", "--read-only", "--add-host=peer:192.0.2.1"],
            flags,
        ]
        .concat();
        let whole = [&flags[..], &[&self.reference], arguments].concat();
        Ok(self.docker.run(&whole).await?)
    }
}

#[tokio::test]
async fn an_image_has_a_static_program_that_finds_hosts_by_name_and_nothing_else() -> Result<()> {
    let (folder, docker) = (tempfile::tempdir()?, Docker::connect().await?);
    let program = program(folder.path())?;
    let tag = format!("test-{}", std::process::id());
    let made = said(
        Command::new(xtask()?)
            .args(["images", "capdkc", "--tag", &tag, "--program"])
            .arg(&program)
            .arg("--output")
            .arg(folder.path()),
    )?;
    let words: Vec<_> = made.split_whitespace().collect();
    ensure!(words.len() == 3 && words[0] == format!("capdkc:{tag}"), "{made}");
    let image = Loaded {
        docker: &docker,
        reference: words[0].to_owned(),
    };
    let id = docker
        .run(&["image", "inspect", "--format", "{{.Id}}", &image.reference])
        .await?;
    ensure!(id.trim() == words[1], "Docker's id is {id}, not {made}");

    let printed = image.run(&[], &["localhost", "peer", "nobody.invalid"]).await?;
    let expected = "called /manager\ncertificates true\nwrites false\nuser 65532\nlocalhost true\npeer true\nnobody.invalid false";
    ensure!(printed.trim() == expected, "{printed}");
    let by_name = image.run(&["--entrypoint=capdkc"], &[]).await?;
    ensure!(by_name.starts_with("called capdkc\n"), "{by_name}");
    let shell = image.run(&["--entrypoint=/bin/sh"], &[]).await;
    ensure!(shell.is_err(), "there is a shell");
    the_dockerfile_makes_the_same(&docker, folder.path(), &image).await
}

/// Its target `prebuilt` takes what `cargo xtask images` has put together.
async fn the_dockerfile_makes_the_same(docker: &Docker, folder: &Path, image: &Loaded<'_>) -> Result<()> {
    let context = folder.join("context");
    fs::create_dir_all(context.join("target/images/capdkc"))?;
    fs::rename(
        folder.join("capdkc/root"),
        context.join("target/images/capdkc/root"),
    )?;
    for name in ["Dockerfile", ".dockerignore"] {
        fs::copy(root().join(name), context.join(name))?;
    }
    let built = Loaded {
        docker,
        reference: format!("{}-dockerfile", image.reference),
    };
    let context = context.to_string_lossy();
    let build = [
        "build",
        "--quiet",
        "--target=prebuilt",
        "--build-arg=OPERATOR=capdkc",
        "--build-arg=VERSION=0.1.7",
        "--build-arg=REVISION=0123abc",
        "--build-arg=CREATED=2026-01-31T12:00:00Z",
        "--tag",
        &built.reference,
        &context,
    ];
    docker.run(&build).await?;
    let labels = [
        "image",
        "inspect",
        "--format",
        "{{json .Config.Labels}}",
        &built.reference,
    ];
    let labels: Value = serde_json::from_str(&docker.run(&labels).await?)?;
    for (label, expected) in [
        ("title", "capdkc"),
        ("version", "0.1.7"),
        ("licenses", "Apache-2.0"),
        ("revision", "0123abc"),
        ("created", "2026-01-31T12:00:00Z"),
    ] {
        let told = &labels[format!("org.opencontainers.image.{label}")];
        ensure!(told == expected, "{label} is {told}");
    }
    let printed = built.run(&[], &["localhost"]).await?;
    ensure!(printed == image.run(&[], &["localhost"]).await?, "{printed}");
    for what in [
        "{{.Config.User}}",
        "{{json .Config.Entrypoint}}",
        "{{json .Config.Env}}",
    ] {
        let of = async |reference: &str| {
            docker
                .run(&["image", "inspect", "--format", what, reference])
                .await
        };
        ensure!(
            of(&built.reference).await? == of(&image.reference).await?,
            "{what}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_program_that_loads_libraries_becomes_no_image() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = Command::new(xtask()?)
        .args(["images", "capdkc", "--no-load", "--program"])
        .arg(std::env::current_exe()?)
        .arg("--output")
        .arg(folder.path())
        .output()?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && why.contains("crt-static"), "{why}");
    Ok(())
}

/// `kind namespace/name` of each object in a stream of YAML documents.
fn identities(text: &str) -> Result<BTreeSet<String>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let text_of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(documents
        .iter()
        .filter(|document| !document.is_null())
        .map(|document| {
            let metadata = &document["metadata"];
            let (kind, namespace) = (text_of(&document["kind"]), text_of(&metadata["namespace"]));
            format!("{kind} {namespace}/{}", text_of(&metadata["name"]))
        })
        .collect())
}

/// An overlay with another namespace leaves nothing in the one of its base.
fn elsewhere(kustomize: &Path, base: &Path, namespace: &str) -> Result<()> {
    let overlay = base.with_extension("overlay");
    fs::create_dir_all(&overlay)?;
    let name = base.file_name().context("a base has a name")?.to_string_lossy();
    let text = format!("namespace: operators\nresources: [../{name}]\n");
    fs::write(overlay.join("kustomization.yaml"), text)?;
    let built = said(Command::new(kustomize).arg("build").arg(&overlay))?;
    let left: Vec<_> = built.lines().filter(|line| line.contains(namespace)).collect();
    ensure!(left.is_empty(), "still in {namespace}: {left:?}");
    Ok(())
}

/// Writes a release into `folder`.
fn release(folder: &Path, version: &str, helm: &Path) -> Result<()> {
    let mut command = Command::new(xtask()?);
    command.args([
        "release",
        "--version",
        version,
        "--registry",
        "registry.example.com",
    ]);
    let command = command.arg("--helm").arg(helm).arg("--output").arg(folder);
    let output = command.output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{told}");
    let entry = std::fs::read_to_string(folder.join("clusterctl.yaml"))?;
    ensure!(told.contains(&entry), "{told}");
    Ok(())
}

/// Each object names the version that it was released as, and the chart of that version.
fn name_the_version(manifest: &str, chart: &str, version: &str) -> Result<()> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifest)?;
    let objects = documents.iter().filter(|document| !document.is_null());
    for object in objects.filter(|object| object["kind"] != "Namespace") {
        let labels = &object["metadata"]["labels"];
        ensure!(
            labels["helm.sh/chart"] == format!("{chart}-{version}")
                && labels["app.kubernetes.io/version"] == version,
            "{object}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_release_installs_the_same_by_helm_kubectl_and_kustomize_and_its_sums_hold() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let programs = tools::ensure_async(&[Tool::Helm, Tool::Kustomize]).await?;
    // Not the version that stands in the sources.
    let version = concat!(
        env!("CARGO_PKG_VERSION_MAJOR"),
        ".",
        env!("CARGO_PKG_VERSION_MINOR"),
        ".999-rc.1"
    );
    release(folder.path(), &format!("v{version}"), &programs[0])?;
    let provider = folder.path().join(format!("infrastructure-capdkc/v{version}"));
    let components = fs::read_to_string(provider.join("infrastructure-components.yaml"))?;
    let image = format!("image: registry.example.com/capdkc:v{version}\n");
    ensure!(components.contains(&image), "clusterctl installs no {image}");
    let release = folder.path().join(format!("v{version}"));
    let checked = said(
        Command::new("sha256sum")
            .args(["--check", "SHA256SUMS"])
            .current_dir(&release),
    )?;
    ensure!(checked.lines().all(|line| line.ends_with(": OK")), "{checked}");
    for (name, image) in [
        ("capdkc", "capdkc"),
        ("dynamoctl-dp-operator", "dynamoctl-dp-operator"),
        ("nairobi-mysql", "nairobi-mysql-operator"),
    ] {
        let manifest = fs::read_to_string(release.join(format!("{name}-install.yaml")))?;
        let image = format!("registry.example.com/{image}:v{version}");
        ensure!(manifest.contains(&image), "{name}-install.yaml has no {image}");
        name_the_version(&manifest, name, version)?;
        ensure!(
            !manifest.contains("managed-by: Helm") && !manifest.contains("kind: Pod\n"),
            "{name}"
        );
        let objects = identities(&manifest)?;
        let deployment = format!("Deployment {name}-system/{name}-controller-manager");
        ensure!(objects.contains(&deployment), "{objects:?}");

        let base = release.join("kustomize").join(name);
        let built = said(Command::new(&programs[1]).arg("build").arg(&base))?;
        ensure!(built.contains(&image), "Kustomize's {name} has no {image}");
        ensure!(
            identities(&built)? == objects,
            "Kustomize installs something else than {name}-install.yaml"
        );
        elsewhere(&programs[1], &base, &format!("{name}-system"))?;

        let package = release.join(format!("{name}-{version}.tgz"));
        let mut template = Command::new(&programs[0]);
        template.args([
            "template",
            name,
            "--skip-tests",
            "--kube-version=1.34.0",
            "--set=leaderElect=true",
        ]);
        template.arg(format!("--namespace={name}-system"));
        if name == "capdkc" {
            template.arg("--set=docker.socket.enabled=true");
        }
        let mut by_helm = identities(&said(template.arg(&package))?)?;
        by_helm.insert(format!("Namespace /{name}-system"));
        ensure!(
            by_helm == objects,
            "helm installs something else than {name}-install.yaml"
        );
    }
    Ok(())
}
