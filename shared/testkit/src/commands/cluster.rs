//! `testkit cluster`: real clusters for people and for tests.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use super::{caller::Caller, print_lines};
use anyhow::Context;
use testkit::{
    cluster::{CLUSTER_VARIABLE, Cluster, DEFAULT_NAME, Spec, sweep},
    docker::{Docker, LABEL},
    image::{Image, Images},
    progress::line,
};

/// Makes a Kubernetes cluster in Docker containers and prints the variable under which kubectl finds it. What is
/// missing is built or installed first; a cluster of that name that exists is used.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    create: Create,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes a cluster (as without a subcommand).
    Create(Create),
    /// Removes a cluster with everything in it; nothing happens when there is none.
    Delete {
        /// Its name.
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
    },
    /// Makes a cluster with a name of its own, prints the variable under which tests find it, and removes it when
    /// standard input closes, a signal comes or this process ends in any other way.
    Hold {
        /// How many nodes it has, the control plane included.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=20))]
        nodes: u16,
        /// An image of the local Docker to copy into every node; may be given several times.
        #[arg(long, value_name = "IMAGE", num_args = 1..)]
        load: Vec<String>,
        /// Once the cluster is ready, build the other images of the test bed too.
        #[arg(long)]
        all_images: bool,
    },
    /// Prints the names of all clusters of the test bed.
    List,
    /// Removes clusters that test runs have left.
    Sweep,
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Its name: lower-case letters, digits and dashes.
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
    /// How many nodes it has, the control plane included.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=20))]
    nodes: u16,
    /// An image of the local Docker to copy into every node; may be given several times.
    #[arg(long, value_name = "IMAGE", num_args = 1..)]
    load: Vec<String>,
    /// Write the kubeconfig to this file too.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// Runs the subcommand.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command.unwrap_or(Command::Create(arguments.create)) {
        Command::Create(arguments) => create(arguments).await,
        Command::Delete { name } => Ok(Cluster::delete(&name).await?),
        Command::Hold {
            nodes,
            load,
            all_images,
        } => {
            let name = "held".to_owned();
            hold(Spec { name, nodes, load }, all_images).await
        }
        Command::List => list().await,
        Command::Sweep => {
            let removed = sweep::sweep(&Docker::connect().await?).await?;
            print_lines(removed)
        }
    }
}

async fn create(arguments: Create) -> anyhow::Result<()> {
    let spec = Spec {
        name: arguments.name,
        nodes: arguments.nodes,
        load: arguments.load,
    };
    let cluster = Cluster::create(&spec).await?;
    let mut path = cluster.kubeconfig_path().to_owned();
    if let Some(copy) = arguments.kubeconfig {
        write_copy(&path, &copy)?;
        path = copy;
    }
    print_lines([format!("export KUBECONFIG={}", path.display())])
}

/// Writes a copy of a kubeconfig. What stands there and is none of this cluster's stays: most people have but one.
fn write_copy(kubeconfig: &Path, copy: &Path) -> anyhow::Result<()> {
    let content = std::fs::read_to_string(kubeconfig)
        .with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    match std::fs::read_to_string(copy) {
        Ok(present) if present == content => return Ok(()),
        Ok(present) if !present.is_empty() && contexts(&present) != contexts(&content) => anyhow::bail!(
            "{} is the kubeconfig of something else: choose another file, or merge them (`KUBECONFIG={}:{} kubectl \
             config view --flatten`)",
            copy.display(),
            copy.display(),
            kubeconfig.display()
        ),
        _ => {}
    }
    let folder = copy.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".kubeconfig")
        .tempfile_in(folder.unwrap_or_else(|| Path::new(".")))
        .with_context(|| format!("cannot write beside {}", copy.display()))?;
    file.write_all(content.as_bytes())
        .with_context(|| format!("cannot write {}", copy.display()))?;
    file.persist(copy)
        .with_context(|| format!("cannot write {}", copy.display()))?;
    Ok(())
}

/// The lines that name contexts.
fn contexts(kubeconfig: &str) -> Vec<&str> {
    kubeconfig
        .lines()
        .filter(|line| line.trim_start().starts_with("current-context:"))
        .collect()
}

async fn hold(spec: Spec, all_images: bool) -> anyhow::Result<()> {
    let mut caller = Caller::new()?;
    let cluster = tokio::select! {
        cluster = Cluster::ephemeral(spec) => cluster?,
        () = caller.gone() => return Ok(()),
    };
    print_lines([format!("{CLUSTER_VARIABLE}={}", cluster.name())])?;
    if all_images {
        let images = Images::new(cluster.docker());
        tokio::select! {
            // The cluster is there all the same; a test that needs the image will say what is wrong with it.
            built = images.ensure_all(&Image::ALL) => if let Err(error) = built { line(&error.to_string()) },
            () = caller.gone() => return Ok(()),
        }
    }
    caller.gone().await;
    Ok(())
}

async fn list() -> anyhow::Result<()> {
    let docker = Docker::connect().await?;
    let label = format!("{LABEL}.cluster");
    let format = format!("{{{{.Label {label:?}}}}}");
    let filter = format!("label={label}");
    let printed = docker
        .run(&["ps", "--all", "--filter", &filter, "--format", &format])
        .await?;
    let mut names: Vec<&str> = printed.lines().collect();
    names.sort_unstable();
    names.dedup();
    print_lines(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_replaces_its_own_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (own, copy) = (folder.path().join("own"), folder.path().join("copy"));
        std::fs::write(&own, "current-context: a\nport: 1\n").unwrap();
        write_copy(&own, &own).unwrap();
        assert_eq!(
            std::fs::read_to_string(&own).unwrap(),
            "current-context: a\nport: 1\n"
        );
        std::fs::write(&copy, "current-context: a\nport: 2\n").unwrap();
        write_copy(&own, &copy).unwrap();
        assert_eq!(std::fs::read(&own).unwrap(), std::fs::read(&copy).unwrap());
        std::fs::write(&copy, "current-context: work\n").unwrap();
        let refused = write_copy(&own, &copy).unwrap_err().to_string();
        assert!(refused.contains("something else"), "{refused}");
        assert_eq!(std::fs::read_to_string(&copy).unwrap(), "current-context: work\n");
    }
}
