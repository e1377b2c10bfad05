//! The node image: a node that has the images of its pods already, so that nothing is pulled and nothing is
//! imported when it boots.

use std::time::Duration;

use tokio::time::Instant;

use super::{Image, ImageError, on};
use crate::{
    docker::{Docker, DockerError, LABEL},
    tools::{self, Tool},
};

/// To be changed with what this module does to the image, which is then made again.
pub(super) const REVISION: &str = "1";

/// The images that a node brings along.
pub(super) const PRELOADED: [Image; 8] = [
    Image::KubeApiserver,
    Image::KubeControllerManager,
    Image::KubeScheduler,
    Image::Etcd,
    Image::Coredns,
    Image::Pause,
    Image::KubeProxy,
    Image::PodNetwork,
];

/// The name of the pod network's image inside of nodes.
pub(crate) const POD_NETWORK_NAME: &str = "localhost/pod-network:node";
/// The name that containerd's configuration gives to the image of [`Image::Pause`].
const PAUSE_NAME: &str = "localhost/pause:node";

/// How long containerd may take to start.
const DEADLINE: Duration = Duration::from_secs(30);

/// Makes the node image: starts containerd in a container, gives it the images, and commits the container.
pub(super) async fn preload(docker: &Docker, tag: &str) -> Result<(), ImageError> {
    let failed = || on(Image::Node);
    let container = format!("{LABEL}-making-node");
    // What a build that was killed has left. Nobody else builds: the caller holds the lock.
    remove(docker, &container).await.map_err(failed())?;
    let result = fill(docker, &container, tag).await;
    let removed = remove(docker, &container).await.map_err(failed());
    result.and(removed)
}

async fn remove(docker: &Docker, container: &str) -> Result<(), DockerError> {
    let (name, label) = (
        format!("name=^/?{container}$"),
        format!("label={LABEL}.build=node"),
    );
    let list = ["ps", "--all", "--quiet", "--filter", &name, "--filter", &label];
    for id in docker.run(&list).await?.lines() {
        docker.run(&["rm", "--force", "--volumes", id]).await?;
    }
    Ok(())
}

async fn fill(docker: &Docker, container: &str, tag: &str) -> Result<(), ImageError> {
    let failed = || on(Image::Node);
    let base = Image::NodeBase.tag()?;
    let label = format!("{LABEL}.build=node");
    let created = format!("{LABEL}.created={}", jiff::Timestamp::now().as_second());
    let sleeping = ["--privileged", "--entrypoint", "sleep", &base, "infinity"];
    docker
        .run(
            &[
                &[
                    "run", "--detach", "--name", container, "--label", &label, "--label", &created,
                ],
                &sleeping[..],
            ]
            .concat(),
        )
        .await
        .map_err(failed())?;
    docker
        .run(&["exec", "--detach", container, "containerd"])
        .await
        .map_err(failed())?;
    wait_for_containerd(docker, container).await.map_err(failed())?;
    let names = wanted_names(docker, container).await?;
    let mut save = vec!["save".to_owned()];
    for image in PRELOADED {
        save.push(image.tag()?);
    }
    let save: Vec<&str> = save.iter().map(String::as_str).collect();
    let import = [
        "exec",
        "-i",
        container,
        "ctr",
        "-n",
        "k8s.io",
        "images",
        "import",
        "--no-unpack",
        "-",
    ];
    docker.pipe(&save, &import).await.map_err(failed())?;
    for (image, name) in names {
        let imported = format!("docker.io/{}", image.tag()?);
        let script = r#"ctr -n k8s.io images tag "$1" "$2""#;
        docker
            .exec(container, &["sh", "-c", script, "tag", &imported, &name])
            .await
            .map_err(failed())?;
    }
    finish(docker, container, tag).await.map_err(failed())
}

/// Under which names the pods of a node ask for their images: what kubeadm lists, and two of our own.
async fn wanted_names(docker: &Docker, container: &str) -> Result<Vec<(Image, String)>, ImageError> {
    let version = format!("v{}", tools::version(Tool::Kubeadm)?);
    let list = [
        "kubeadm",
        "config",
        "images",
        "list",
        "--kubernetes-version",
        &version,
    ];
    let listed = docker.exec(container, &list).await.map_err(on(Image::Node))?;
    let mut names = listed
        .lines()
        .filter(|line| line.contains('/'))
        .map(|line| image_for(line).map(|image| (image, line.to_owned())))
        .collect::<Result<Vec<_>, _>>()?;
    names.push((Image::Pause, PAUSE_NAME.to_owned()));
    names.push((Image::PodNetwork, POD_NETWORK_NAME.to_owned()));
    Ok(names)
}

/// The image of the test bed that stands for the one of this reference. etcd is the version that is pinned here,
/// a patch release or two after the one that kubeadm names.
fn image_for(reference: &str) -> Result<Image, ImageError> {
    let name = reference
        .rsplit('/')
        .next()
        .and_then(|last| last.split(':').next())
        .unwrap_or_default();
    PRELOADED
        .into_iter()
        .find(|image| image.name() == name)
        .ok_or_else(|| ImageError::Unknown(reference.to_owned()))
}

async fn wait_for_containerd(docker: &Docker, container: &str) -> Result<(), DockerError> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match docker.exec(container, &["ctr", "version"]).await {
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            Ok(_) => return Ok(()),
        }
    }
}

/// Ends containerd in good order, so that its database is whole, and commits.
async fn finish(docker: &Docker, container: &str, tag: &str) -> Result<(), DockerError> {
    let stop = "kill $(pidof containerd); while pidof containerd > /dev/null; do sleep 0.1; done; \
                rm -rf /run/containerd";
    docker.exec(container, &["sh", "-c", stop]).await?;
    let label = format!("LABEL {LABEL}.image=node");
    let entrypoint = r#"ENTRYPOINT ["/usr/local/bin/entrypoint"]"#;
    let changes = ["--change", entrypoint, "--change", "CMD []", "--change", &label];
    docker
        .run(&[&["commit"], &changes[..], &[container, tag]].concat())
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kubeadm_lead_to_the_images_that_stand_for_them() {
        assert_eq!(
            image_for("example.com/coredns/coredns:v1.12.1").unwrap(),
            Image::Coredns
        );
        assert_eq!(image_for("example.com/etcd:3.6.5-0").unwrap(), Image::Etcd);
        let error = image_for("example.com/konnectivity:v1").unwrap_err();
        assert!(error.to_string().contains("konnectivity"), "{error}");
    }
}
