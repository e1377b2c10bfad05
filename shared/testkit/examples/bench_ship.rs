//! `cargo xtask bench ship`: how large the images are, how soon their programs are ready, and what they need at rest.
//!
//! Measures what `cargo xtask images` has left in `target/images`, each program beside a control plane with the
//! definitions that it waits for and no objects: from its start until `/readyz` is well, and its resident memory five
//! seconds later.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use testkit::{
    bench::{Report, Usage},
    control_plane::{ControlPlane, Options},
    process::{ScratchFolder, Supervised, free_port, tail},
};

/// How soon a program must be ready for the benchmark to go on.
const LIMIT: Duration = Duration::from_secs(60);
/// How long it rests before its memory is read.
const REST: Duration = Duration::from_secs(5);
/// How often it is asked whether it is ready.
const GLANCE: Duration = Duration::from_millis(1);

#[derive(Parser)]
struct Args {
    /// How often each program is started
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Where the images are
    #[arg(long, default_value = "target/images")]
    images: PathBuf,
    /// Only the image of this name
    #[arg(long)]
    only: Option<String>,
}

/// An operator as its chart starts it.
struct Operator {
    image: &'static str,
    arguments: &'static [&'static str],
}

const OPERATORS: [Operator; 3] = [
    Operator {
        image: "capdkc",
        arguments: &["--docker-host=unix:///nonexistent/docker.sock"],
    },
    Operator {
        image: "dynamoctl-dp-operator",
        arguments: &["manager"],
    },
    Operator {
        image: "nairobi-mysql-operator",
        arguments: &["--aws-region=us-east-1"],
    },
];

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let mut report = Report::new("ship");
    report.parameter("runs", args.runs);
    let plane = ControlPlane::start(Options::default()).await?;
    plane.apply_crds(&definitions()?).await?;
    let wanted = |operator: &&Operator| args.only.as_deref().is_none_or(|only| only == operator.image);
    for operator in OPERATORS.iter().filter(wanted) {
        let root = args.images.join(operator.image).join("root");
        let program = std::path::absolute(root.join("manager"))?;
        ensure!(
            program.is_file(),
            "{} is not there: make the images first, with `cargo xtask images`",
            program.display()
        );
        let (mut ready, mut memory) = (Vec::new(), Vec::new());
        for _ in 0..args.runs {
            let (started, usage) = operator.run(&program, &plane)?;
            ready.push(started.as_secs_f64() * 1e3);
            memory.push(usage.resident_mb());
        }
        let name = operator.image;
        report.median(&format!("{name}_start_to_ready"), "ms", &ready)?;
        report.median(&format!("{name}_resident_at_rest"), "MB", &memory)?;
        let size = size(&root)?;
        report.samples(&format!("{name}_image"), "MB", &[size]);
        report.figure(&format!("{name}_image"), size, "MB", "the bytes of its files")?;
    }
    report.write()?;
    Ok(())
}

impl Operator {
    fn run(&self, program: &Path, plane: &ControlPlane) -> Result<(Duration, Usage)> {
        let folder = ScratchFolder::create("bench-ship")?;
        let log = folder.path().join("log");
        let (probes, metrics) = (free_port()?, free_port()?);
        let mut command = Command::new(program);
        command
            .args(self.arguments)
            .arg("--kubeconfig")
            .arg(plane.kubeconfig_path())
            .args(["--leader-elect", "--leader-election-namespace=default"])
            .arg(format!("--health-probe-bind-address=127.0.0.1:{probes}"))
            .arg(format!("--metrics-bind-address=127.0.0.1:{metrics}"))
            .envs([
                ("AWS_ACCESS_KEY_ID", "AKIDBENCH"),
                ("AWS_SECRET_ACCESS_KEY", "secret"),
                ("AWS_EC2_METADATA_DISABLED", "true"),
            ]);
        let began = Instant::now();
        let mut process = Supervised::spawn(self.image, &command, &log)?;
        while !is_ready(probes) {
            process.check()?;
            ensure!(
                began.elapsed() < LIMIT,
                "{} is not ready after {LIMIT:?}:\n{}",
                self.image,
                tail(&log, 20)
            );
            std::thread::sleep(GLANCE);
        }
        let took = began.elapsed();
        std::thread::sleep(REST);
        let usage = Usage::of(process.id())?;
        // It gives its lease back, for which the next one would have to wait.
        process.stop(Duration::from_secs(40));
        Ok((took, usage))
    }
}

fn is_ready(port: u16) -> bool {
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    asked().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// Megabytes (10^6) of all files in `folder`.
#[expect(clippy::cast_precision_loss, reason = "files are far below 2^52 bytes")]
fn size(folder: &Path) -> Result<f64> {
    let mut megabytes = 0.0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        megabytes += if metadata.is_dir() {
            size(&path)?
        } else {
            metadata.len() as f64 / 1e6
        };
    }
    Ok(megabytes)
}

/// Our kinds, and those of Cluster API that its provider waits for.
fn definitions() -> Result<Vec<CustomResourceDefinition>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut paths = Vec::new();
    for entry in fs::read_dir(root.join("crds"))? {
        paths.push(entry?.path());
    }
    let module = Command::new("go")
        .args(["list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/cluster-api"])
        .current_dir(root.join("shared/testkit/tools/cluster-api"))
        .output()
        .context("cannot start go")?;
    let module = PathBuf::from(String::from_utf8(module.stdout)?.trim());
    for kind in ["clusters", "machines", "machinepools"] {
        paths.push(module.join(format!("config/crd/bases/cluster.x-k8s.io_{kind}.yaml")));
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
    };
    paths.into_iter().map(read).collect()
}
