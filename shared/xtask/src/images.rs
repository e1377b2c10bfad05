//! `cargo xtask images`: the operators' images, made on this machine from nothing but this workspace.
//!
//! Each is a static program, the certificates of public authorities, and a user without rights: no shell, no library,
//! no base that would have to be pulled. The program is `/manager`, and its own name on the `PATH`.
//!
//! ```text
//! target/images/<name>/root/          what is in the image; the Dockerfile's target `prebuilt` takes it
//! target/images/<name>.tar            the image as `docker load` and registry clients read it
//! ```
//!
//! # Guarantees
//! - The same commit, toolchain and certificates give the same image id: nothing in an image depends on when or in which
//!   folder it was made.
//! - A program that would load a library is refused.
//! - An image is at most 20 MB large; one that is larger is written, so that it can be looked into, and fails the command.

mod archive;
mod origin;
mod program;
mod root;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::workspace::{self, Metadata};

use archive::Contents;
pub(crate) use archive::hex;
use origin::Origin;

/// The most that is in an image, in bytes, before any compression.
const LIMIT: u64 = 20_000_000;

/// The tag of images that tests run.
const TESTED: &str = "tested";

/// Arguments of `cargo xtask images`.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Which images: capdkc, dynamoctl-dp-operator, nairobi-mysql-operator; all without
    names: Vec<String>,
    /// Push them to this registry, by Docker
    #[arg(long, value_name = "REGISTRY")]
    push: Option<String>,
    /// The tag; v and this version without
    #[arg(long)]
    tag: Option<String>,
    /// What to compile for: x86_64-unknown-linux-gnu, aarch64-unknown-linux-gnu, or either with musl; this machine's
    /// without
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// Take this program instead of compiling one; for one image
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Where to write; `target/images` without
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Only write files: leave Docker alone
    #[arg(long, conflicts_with = "push")]
    no_load: bool,
}

impl Args {
    /// The tag for this machine's images or those of another, which in a registry would take the place of the first.
    fn tag(&self, target: &program::Target) -> Result<String> {
        let version = concat!("v", env!("CARGO_PKG_VERSION"));
        let (architecture, own) = (target.architecture(), program::Target::parse(None)?);
        ensure!(
            self.tag.is_some() || self.push.is_none() || architecture == own.architecture(),
            "{version} in a registry is this machine's, {}: push those for {architecture} with --tag {version}-{architecture}, and \
             join both in an index (docs/install.md)",
            own.architecture()
        );
        Ok(self.tag.clone().unwrap_or_else(|| version.to_owned()))
    }
}

/// One operator's image.
#[derive(Debug)]
pub(crate) struct Image {
    /// Its name in a registry.
    pub(crate) name: &'static str,
    /// The package that has the program.
    pub(crate) package: &'static str,
    /// The program.
    pub(crate) program: &'static str,
    title: &'static str,
}

/// Every image.
pub(crate) const IMAGES: [Image; 3] = [
    Image {
        name: "capdkc",
        package: "docker-controller",
        program: "capdkc",
        title: "Cluster API infrastructure provider whose machines are containers",
    },
    Image {
        name: "dynamoctl-dp-operator",
        package: "dynamodb-controller",
        program: "dynamoctl",
        title: "Deletes single partitions of DynamoDB tables",
    },
    Image {
        name: "nairobi-mysql-operator",
        package: "mysql-ec2",
        program: "mysql-operator",
        title: "Runs MySQL for Kubernetes",
    },
];

/// Makes the images.
pub(crate) fn run(args: &Args) -> Result<()> {
    let images = chosen(&args.names)?;
    ensure!(
        args.program.is_none() || images.len() == 1,
        "--program is the program of one image: name that image"
    );
    let target = program::Target::parse(args.target.as_deref())?;
    let tag = args.tag(&target)?;
    let output = match &args.output {
        Some(output) => std::path::absolute(output)?,
        None => Metadata::read()?.target_directory.join("images"),
    };
    let programs = match &args.program {
        Some(program) => vec![program.clone()],
        None => program::build(&images, &target)?,
    };
    let loads = !args.no_load && (args.push.is_some() || docker(&["version"]).is_ok());
    for (image, program) in images.iter().zip(&programs) {
        let made = image.make(program, &output, &target, &tag)?;
        if loads {
            docker(&["load", "--quiet", "--input", &made.archive.to_string_lossy()])?;
        }
        println(&format!("{} {} {}", made.reference, made.id, made.size))?;
        ensure_small(&made.reference, image.package, made.size)?;
        if let Some(registry) = &args.push {
            let remote = format!("{}/{}", registry.trim_end_matches('/'), made.reference);
            docker(&["tag", &made.reference, &remote])?;
            docker(&["push", "--quiet", &remote])?;
            println(&pushed(&remote)?)?;
        }
    }
    if !loads && !args.no_load {
        eprintln!(
            "there is no Docker to load them into; they are in {}",
            output.display()
        );
    }
    Ok(())
}

/// Makes all of them for this machine and loads them into Docker; returns them as tests find them, by their programs.
pub(crate) fn shipped() -> Result<(String, String)> {
    run(&Args {
        tag: Some(TESTED.to_owned()),
        ..Args::default()
    })?;
    let pairs = IMAGES.map(|image| format!("{}={}:{TESTED}", image.program, image.name));
    Ok(("TESTKIT_SHIPPED_IMAGES".to_owned(), pairs.join(",")))
}

fn ensure_small(reference: &str, package: &str, size: u64) -> Result<()> {
    let (has, may) = (tenths(size), tenths(LIMIT));
    ensure!(
        size <= LIMIT,
        "{reference} holds {has} MB, and an image may hold {may}: see what its program has come to depend on, with \
         `cargo tree --package {package} --edges normal`, and leave out features that nothing uses"
    );
    Ok(())
}

/// Megabytes (10^6) with one decimal, rounded up.
fn tenths(bytes: u64) -> String {
    let tenths = bytes.div_ceil(100_000);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// A line for programs to read: reference, image id, bytes; or a reference by digest, as [`pushed`] gives it.
fn println(line: &str) -> Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
}

fn chosen(names: &[String]) -> Result<Vec<&'static Image>> {
    if names.is_empty() {
        return Ok(IMAGES.iter().collect());
    }
    let find = |name: &String| {
        let all = || IMAGES.map(|image| image.name).join(", ");
        let found = IMAGES.iter().find(|image| image.name == name);
        found.with_context(|| format!("there is no image {name}; there are {}", all()))
    };
    names.iter().map(find).collect()
}

/// What was made.
struct Made {
    reference: String,
    /// The digest of its configuration, which names everything else. A registry knows it by another one, that of what it stores.
    id: String,
    /// Bytes of what is in it.
    size: u64,
    archive: PathBuf,
}

impl Image {
    fn make(&self, program: &Path, output: &Path, target: &program::Target, tag: &str) -> Result<Made> {
        let root = output.join(self.name).join("root");
        root::assemble(&root, program, self.program)
            .with_context(|| format!("cannot make the root of {}", self.name))?;
        let reference = format!("{}:{tag}", self.name);
        let contents = Contents {
            reference: &reference,
            layer: archive::layer(&root)?,
            configuration: self.configuration(target, tag)?,
        };
        let (bytes, id, size) = contents.write()?;
        let archive = output.join(format!("{}.tar", self.name));
        fs::write(&archive, bytes).with_context(|| format!("cannot write {}", archive.display()))?;
        Ok(Made {
            reference,
            id,
            size,
            archive,
        })
    }

    fn configuration(&self, target: &program::Target, tag: &str) -> Result<serde_json::Value> {
        let origin = Origin::read(&workspace::root())?;
        Ok(serde_json::json!({
            "architecture": target.architecture(),
            "os": "linux",
            "created": origin.created,
            "config": {
                "User": "65532:65532",
                "Env": ["PATH=/usr/bin"],
                "Entrypoint": ["/manager"],
                "WorkingDir": "/",
                "Labels": {
                    "org.opencontainers.image.title": self.name,
                    "org.opencontainers.image.description": self.title,
                    "org.opencontainers.image.version": tag.trim_start_matches('v'),
                    "org.opencontainers.image.licenses": "Apache-2.0",
                    "org.opencontainers.image.revision": origin.revision,
                    "org.opencontainers.image.created": origin.created,
                },
            },
        }))
    }
}

/// What the registry has of an image that was pushed: `registry/name@sha256:…`, by which it can be pulled and
/// `image.digest` of a chart be set.
fn pushed(remote: &str) -> Result<String> {
    let digests = docker(&[
        "image",
        "inspect",
        "--format",
        "{{range .RepoDigests}}{{println .}}{{end}}",
        remote,
    ])?;
    let name = remote.rsplit_once(':').map_or(remote, |(name, _)| name);
    // Docker has one for each registry that the image was pushed to.
    let found = digests.lines().find(|line| line.split('@').next() == Some(name));
    found.map(str::to_owned).with_context(|| {
        format!("Docker has pushed {remote} and knows no digest of it: ask the registry, or push it again")
    })
}

/// Runs Docker; returns what it prints.
fn docker(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("docker");
    command.args(arguments);
    let shown = workspace::shown(&command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{shown}` failed: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::archive::digest;
    use super::*;
    use crate::charts::CHARTS;

    #[test]
    fn every_chart_has_its_image() {
        for chart in CHARTS {
            assert!(
                chosen(&[chart.repository.to_owned()]).is_ok(),
                "{} has no image {}",
                chart.name,
                chart.repository
            );
        }
        assert!(chosen(&["nginx".to_owned()]).is_err());
    }

    #[test]
    fn an_image_that_has_grown_too_large_is_named_with_its_size() {
        assert!(ensure_small("capdkc:v1", "docker-controller", LIMIT).is_ok());
        let error = ensure_small("capdkc:v1", "docker-controller", 20_500_001).unwrap_err();
        let error = error.to_string();
        for word in [
            "capdkc:v1 holds 20.6 MB",
            "may hold 20.0",
            "--package docker-controller",
        ] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_configuration_says_who_runs_what_and_from_which_commit() {
        let target = program::Target::parse(Some("aarch64-unknown-linux-gnu")).unwrap();
        let configuration = IMAGES[0].configuration(&target, "v1.2.3").unwrap();
        assert_eq!(configuration["architecture"], "arm64");
        assert_eq!(configuration["config"]["User"], "65532:65532");
        let labels = &configuration["config"]["Labels"];
        assert_eq!(labels["org.opencontainers.image.version"], "1.2.3");
        let revision = labels["org.opencontainers.image.revision"].as_str().unwrap();
        assert_eq!(revision.trim_end_matches("-dirty").len(), 40, "{revision}");
        assert!(configuration["created"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn an_image_for_another_machine_is_pushed_under_a_tag_of_its_own() {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            args: Args,
        }
        let own = program::Target::parse(None).unwrap();
        let foreign = match own.architecture() {
            "amd64" => "aarch64-unknown-linux-gnu",
            _ => "x86_64-unknown-linux-gnu",
        };
        let tag = |given: &[&str]| {
            let args = Command::parse_from([&["images"], given].concat()).args;
            args.tag(&program::Target::parse(args.target.as_deref()).unwrap())
        };
        let version = concat!("v", env!("CARGO_PKG_VERSION"));
        assert_eq!(tag(&["--push", "r"]).unwrap(), version);
        assert_eq!(tag(&["--target", foreign]).unwrap(), version);
        assert_eq!(
            tag(&["--push", "r", "--target", foreign, "--tag", "x"]).unwrap(),
            "x"
        );
        let refused = tag(&["--push", "r", "--target", foreign])
            .unwrap_err()
            .to_string();
        assert!(refused.contains(&format!("--tag {version}-a")), "{refused}");
    }

    #[test]
    fn an_image_is_the_same_wherever_it_is_made() {
        let made: Vec<_> = [1, 2]
            .map(|_| {
                let folder = std::env::temp_dir().join(format!("image-{}-{}", std::process::id(), rand()));
                fs::create_dir_all(&folder).unwrap();
                let target = program::Target::parse(None).unwrap();
                let program = folder.join("p");
                fs::write(&program, program::static_elf()).unwrap();
                let made = IMAGES[0].make(&program, &folder, &target, "v1").unwrap();
                let bytes = fs::read(&made.archive).unwrap();
                fs::remove_dir_all(&folder).unwrap();
                (made.id, digest(&bytes))
            })
            .into();
        assert_eq!(made[0], made[1]);
    }

    fn rand() -> u128 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_nanos()
    }
}
