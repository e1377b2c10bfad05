//! `testkit images` and `testkit tools`: what clusters are made of, built ahead of time.

use anyhow::Context;

use super::print_lines;
use testkit::{
    docker::Docker,
    image::{Image, Images},
    tools::{self, Tool},
};

/// Builds images and prints their tags, one a line, with their size in bytes.
#[derive(Debug, clap::Args)]
pub(crate) struct ImagesArguments {
    /// Which images [default: all].
    names: Vec<String>,
    /// Instead of building, remove those that are no longer what the source says, and print their tags.
    #[arg(long, conflicts_with = "names")]
    prune: bool,
}

/// Builds programs and prints where they are, one a line.
#[derive(Debug, clap::Args)]
pub(crate) struct ToolsArguments {
    /// Which programs [default: all].
    names: Vec<String>,
}

/// Runs `testkit images`.
pub(crate) async fn run_images(arguments: ImagesArguments) -> anyhow::Result<()> {
    let wanted = select(&arguments.names, &Image::ALL, Image::named)?;
    let images = Images::new(&Docker::connect().await?);
    if arguments.prune {
        return print_lines(images.prune().await?);
    }
    let mut lines = Vec::new();
    for (tag, &image) in images.ensure_all(&wanted).await?.iter().zip(&wanted) {
        lines.push(format!("{tag} {}", images.size(image).await?));
    }
    print_lines(lines)
}

/// Runs `testkit tools`.
pub(crate) async fn run_tools(arguments: ToolsArguments) -> anyhow::Result<()> {
    let wanted = select(&arguments.names, &Tool::ALL, Tool::named)?;
    let paths = tools::ensure_async(&wanted).await?;
    print_lines(paths.iter().map(|path| path.display()))
}

fn select<T: Copy>(wanted: &[String], all: &[T], find: fn(&str) -> Option<T>) -> anyhow::Result<Vec<T>> {
    if wanted.is_empty() {
        return Ok(all.to_vec());
    }
    wanted
        .iter()
        .map(|name| find(name).with_context(|| format!("there is no {name}")))
        .collect()
}
