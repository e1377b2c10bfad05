//! A real daemon, and a real registry that gives its images to nobody who has not logged in.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use docker_controller::{
    archive,
    controllers::Settings,
    engine::docker::DockerEngine,
    manager::{Concurrency, NAME, assemble},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use reconcile::manager::Options;
use serde_json::{Value, json};
use testkit::{
    control_plane::{ControlPlane, TestNamespace},
    docker::Docker,
    process::{Janitor, ScratchFolder},
    tools::{self, Tool},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
};
use tokio_util::sync::CancellationToken;

use crate::objects::{Objects, definitions, is, message_of, reason};

const SWEEP: &str = r#"docker ps -aq --filter "label=capdkc.cluster.x-k8s.io/namespace=$1" | xargs -r docker rm -fv
docker network rm "$1"
docker image rm "$2""#;

const USER: &str = "somebody";
/// As base64 it has both characters in which the two alphabets of base64 differ, wherever it stands.
const PASSWORD: &str = "???-or->>>";
/// Has the user, and their password as far as it is right.
const SECRET: &str = "registry";

/// A registry. It ends with its standard input.
struct Registry {
    address: String,
    _stdin: ChildStdin,
    _process: Child,
}

impl Registry {
    async fn start(program: &Path, folder: &Path) -> Result<Self> {
        let mut process = Command::new(program)
            .arg(folder)
            .arg(USER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut stdin = process.stdin.take().context("no input")?;
        stdin.write_all(format!("{PASSWORD}\n").as_bytes()).await?;
        let output = process.stdout.take().context("no output")?;
        let mut address = String::new();
        BufReader::new(output).read_line(&mut address).await?;
        ensure!(!address.is_empty(), "the registry did not start");
        Ok(Self {
            address: address.trim().to_owned(),
            _stdin: stdin,
            _process: process,
        })
    }
}

/// A cluster without a control plane, and an image in the registry that is nowhere else.
struct Bed {
    docker: Docker,
    plane: &'static ControlPlane,
    namespace: TestNamespace,
    image: String,
    registry: Registry,
    folder: ScratchFolder,
    _janitor: Janitor,
}

impl Bed {
    async fn start() -> Result<Self> {
        let docker = Docker::connect().await?;
        let programs = tools::ensure_pinned(&[Tool::Registry, Tool::Pause]).await?;
        let folder = ScratchFolder::create("capdkc-registry")?;
        let registry = Registry::start(&programs[0], folder.path()).await?;
        let plane = ControlPlane::shared().await?;
        plane.apply_crds(&definitions()).await?;
        plane.apply_crds(&docker_api::crds()).await?;
        let namespace = plane.namespace().await?;
        let image = format!("{}/team/node:1", registry.address);
        let janitor = Janitor::engage(SWEEP, &[namespace.name(), &image])?;
        let bed = Self {
            docker,
            plane,
            namespace,
            image,
            registry,
            folder,
            _janitor: janitor,
        };
        bed.push(&programs[1]).await?;
        Ok(bed)
    }

    /// Leaves the image, which does nothing, in the registry alone.
    async fn push(&self, program: &Path) -> Result<()> {
        let (docker, image) = (&self.docker, self.image.as_str());
        let layer = archive::pack("init", 0o755, &std::fs::read(program)?);
        let import = ["import", "--change", r#"ENTRYPOINT ["/init"]"#, "-", image];
        docker.run_with(&import, &layer).await?;
        let configuration = self.folder.path().join("docker");
        let configuration = configuration.to_str().context("the folder's name is none")?;
        let of_user = ["--config", configuration];
        let login = [
            "login",
            "--username",
            USER,
            "--password-stdin",
            &self.registry.address,
        ];
        docker
            .run_with(&[of_user.as_slice(), &login].concat(), PASSWORD.as_bytes())
            .await?;
        docker
            .run(&[of_user.as_slice(), &["push", image]].concat())
            .await?;
        docker.run(&["image", "rm", image]).await?;
        Ok(())
    }

    fn objects(&self) -> Objects {
        Objects {
            client: self.plane.client(),
            namespace: self.namespace.name().to_owned(),
        }
    }

    /// A machine of that image, in which nothing can be bootstrapped.
    async fn machine(&self, name: &str, spec: Value) -> Result<()> {
        let objects = self.objects();
        let reference = json!({"apiGroup": docker_api::GROUP, "kind": "DockerMachine", "name": name});
        let of_machine = json!({"clusterName": "c1", "bootstrap": {"dataSecretName": "data"},
                                "infrastructureRef": reference});
        let machine = objects.create("Machine", name, None, of_machine).await?;
        objects
            .create("DockerMachine", name, Some(&machine), spec)
            .await?;
        Ok(())
    }

    async fn set_password(&self, password: &str) -> Result<()> {
        let entry = json!({"username": USER, "password": password});
        let config = json!({"auths": {&self.registry.address: entry}});
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": config.to_string()},
        });
        let secrets: Api<Secret> = Api::namespaced(self.plane.client(), self.namespace.name());
        let parameters = PatchParams::apply("test").force();
        secrets.patch(SECRET, &parameters, &Patch::Apply(&secret)).await?;
        Ok(())
    }

    /// Waits until a machine tells that it cannot have the image, with this advice.
    async fn is_refused(&self, machine: &str, advice: &str) -> Result<()> {
        let told = |object: &Value| {
            reason(object, "Ready") == Some("ImageUnavailable")
                && message_of(object, "ContainerProvisioned").is_some_and(|says| says.contains(advice))
        };
        let object = self.objects().wait("DockerMachine", machine, told).await?;
        let message = message_of(&object, "ContainerProvisioned").unwrap_or_default();
        ensure!(
            message.contains(&self.image) && !message.contains("not the password"),
            "{message}"
        );
        Ok(())
    }

    /// The provider, until what is returned is cancelled.
    fn operate(&self) -> Result<(CancellationToken, tokio::task::JoinHandle<()>)> {
        let mut options = Options::new(NAME);
        options.namespaces = vec![self.namespace.name().to_owned()];
        let settings = Settings {
            network: self.namespace.name().to_owned(),
            ..Settings::default()
        };
        let concurrency = Concurrency {
            clusters: 1,
            machines: 2,
        };
        let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
        let engine = DockerEngine::new(host);
        let manager = assemble(
            engine,
            settings,
            concurrency,
            options,
            self.plane.config().clone(),
        )?;
        let shutdown = CancellationToken::new();
        let stopped = shutdown.clone();
        let running = tokio::spawn(async move { manager.run(stopped).await.unwrap() });
        Ok((shutdown, running))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn smoke_an_image_is_pulled_by_the_secret_of_the_machine_and_a_refusal_says_what_is_wrong() -> Result<()>
{
    let bed = Bed::start().await?;
    let objects = bed.objects();
    objects.create("Cluster", "c1", None, json!({})).await?;
    let there = json!({"initialization": {"infrastructureProvisioned": true}});
    objects.status("Cluster", "c1", there).await?;
    bed.set_password("not the password").await?;
    bed.machine("nobody", json!({"customImage": bed.image})).await?;
    let named = json!({"customImage": bed.image, "imagePullSecret": {"name": SECRET}});
    bed.machine("somebody", named).await?;
    let (shutdown, running) = bed.operate()?;

    bed.is_refused("nobody", "name a Secret").await?;
    bed.is_refused("somebody", "correct its name and password")
        .await?;
    bed.set_password(PASSWORD).await?;
    let runs = |object: &Value| is(object, "ContainerProvisioned", "True");
    objects.wait("DockerMachine", "somebody", runs).await?;
    let container = format!("somebody.{}", bed.namespace.name());
    let inspect = [
        "inspect",
        "--format",
        "{{.Config.Image}} {{.State.Running}}",
        &container,
    ];
    let made = bed.docker.run(&inspect).await?;
    ensure!(made == format!("{} true", bed.image), "{made}");

    for machine in ["nobody", "somebody"] {
        objects.delete("DockerMachine", machine).await?;
        objects.wait("DockerMachine", machine, Value::is_null).await?;
    }
    ensure!(
        !bed.docker.exists("container", &container).await?,
        "{container} was left behind"
    );
    ensure!(
        !bed.docker.exists("network", bed.namespace.name()).await?,
        "the network was left behind, and no DockerCluster is there to remove it"
    );
    shutdown.cancel();
    Ok(running.await?)
}
