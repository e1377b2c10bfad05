//! One server's life twice over: created, written to, backed up, deleted, created again, deleted again. Other stories are
//! in [`super::stories`].

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use mysql_api::MySQL;
use reconcile::{client::wire_layer, clock::Clock, manager::Options};
use serde_json::{Value, json};
use testkit::{
    audit::{Filter, Position},
    control_plane::{ControlPlane, TestNamespace},
    fault::{FaultPlan, crash::Harness, kube::FaultLayer},
};
use tokio::{sync::OnceCell, time::Instant};
use tokio_util::sync::CancellationToken;

use super::stories::{self, Story};
use crate::{
    bed::{Bed, SPEED, classless, manager, plane, says, spec},
    kubelet::Kubelet,
};

pub(super) const NAME: &str = "m";
const POLL: Duration = Duration::from_millis(25);
const PATIENCE: Duration = Duration::from_mins(5);

pub(crate) struct World {
    plane: &'static ControlPlane,
    namespace: TestNamespace,
    pub(super) kubelet: Kubelet,
    clock: Clock,
    story: Story,
    /// How far the story has come; it survives the operator.
    chapter: AtomicU8,
    /// UID of the claim that is lost in it.
    pub(super) lost: OnceLock<String>,
}

pub(crate) fn full() -> bool {
    std::env::var("TESTKIT_FULL").is_ok_and(|value| value == "1")
}

pub(crate) fn harness(name: &str) -> Harness {
    Harness::new(name)
        .clock(Clock::accelerated(SPEED))
        .deadline(Duration::from_mins(8))
        .parallel(4)
}

/// Waits, once, until the garbage collector knows the kind: until then a story would mostly wait for it.
async fn warm(plane: &ControlPlane, known: &OnceCell<()>) -> Result<()> {
    let warm = async || {
        let namespace = plane.namespace().await?;
        let databases: Api<MySQL> = Api::namespaced(plane.client(), namespace.name());
        let owner = MySQL::new("owner", serde_json::from_value(spec(&json!({})))?);
        let owner = databases.create(&PostParams::default(), &owner).await?;
        let children: Api<ConfigMap> = Api::namespaced(plane.client(), namespace.name());
        let mut child = ConfigMap::default();
        child.metadata.name = Some("child".to_owned());
        child.metadata.owner_references = owner.controller_owner_ref(&()).map(|owner| vec![owner]);
        children.create(&PostParams::default(), &child).await?;
        databases.delete("owner", &DeleteParams::default()).await?;
        let deadline = Instant::now() + PATIENCE;
        while children.get_opt("child").await?.is_some() {
            ensure!(
                Instant::now() < deadline,
                "the garbage collector does not collect"
            );
            tokio::time::sleep(POLL).await;
        }
        anyhow::Ok(())
    };
    known.get_or_try_init(warm).await.copied()
}

pub(crate) async fn world(plan: FaultPlan) -> Result<World> {
    world_of(Story::Whole, plan).await
}

/// One of another story.
pub(crate) async fn world_of(story: Story, plan: FaultPlan) -> Result<World> {
    static WARM: OnceCell<()> = OnceCell::const_new();
    let plane = plane().await;
    warm(plane, &WARM).await?;
    on(plane, story, &plan).await
}

/// One whose volumes are folders of nodes.
pub(crate) async fn world_of_folders(plan: FaultPlan) -> Result<World> {
    static WARM: OnceCell<()> = OnceCell::const_new();
    let plane = classless().await;
    warm(plane, &WARM).await?;
    let world = on(plane, Story::Whole, &plan).await?;
    let (client, namespace) = (plane.client(), world.namespace.name());
    world.kubelet.nodes(&client, namespace, 2).await?;
    Ok(world)
}

async fn on(plane: &'static ControlPlane, story: Story, plan: &FaultPlan) -> Result<World> {
    let bed = Bed::on(plane).await;
    stories::prepare(story, &bed).await;
    let Bed {
        kubelet, namespace, ..
    } = bed;
    Ok(World {
        plane,
        kubelet,
        namespace,
        clock: plan.clock().clone(),
        story,
        chapter: AtomicU8::new(0),
        lost: OnceLock::new(),
    })
}

impl World {
    pub(super) fn databases(&self) -> Api<MySQL> {
        Api::namespaced(self.plane.client(), self.namespace.name())
    }

    pub(super) fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.plane.client(), self.namespace.name())
    }

    pub(super) async fn claim(&self, name: &str) -> Result<String> {
        match self.claims().get_opt(name).await? {
            Some(claim) => Ok(claim.uid().unwrap_or_default()),
            None => bail!("{name} is gone; {}", self.what_was_written().await?),
        }
    }

    /// Every write to the volumes and the objects of this world.
    async fn what_was_written(&self) -> Result<String> {
        let writes = Filter::writes().namespace(self.namespace.name());
        let audit = self.plane.audit();
        let written = audit
            .query(&self.plane.client(), Position::default(), &writes)
            .await?;
        let lines = written.iter().filter_map(|event| {
            let object = event.object_ref.as_ref()?;
            let told =
                ["mysqls", "persistentvolumeclaims", "deployments"].contains(&object.resource.as_str());
            told.then(|| {
                let (name, part, code) = (&object.name, &object.subresource, event.code());
                let (verb, what, who) = (&event.verb, &object.resource, &event.user_agent);
                format!("{} {verb} {what} {name} {part} {code} {who}", event.received)
            })
        });
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    pub(super) async fn until(&self, what: &str, holds: impl Fn(Option<&MySQL>) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.databases().get_opt(NAME).await?;
            if holds(found.as_ref()) {
                return Ok(());
            }
            let status = found.and_then(|object| object.status);
            ensure!(
                Instant::now() < deadline,
                "not within {PATIENCE:?}: {what}; {status:#?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// One chapter of the whole story; each can be begun again after a crash in its middle.
    async fn tell(&self, chapter: u8) -> Result<()> {
        match chapter {
            0 | 3 => {
                let rows = self.begin(&json!({"backup": {"keep": 3}})).await?;
                ensure!(rows.len() >= usize::from(chapter > 0), "rows were lost: {rows:?}");
                self.write(&format!("row of chapter {chapter}")).await
            }
            1 => self.back_up().await,
            2 | 4 => {
                self.delete().await?;
                self.until("it is gone", |object| object.is_none()).await
            }
            _ => bail!("there is no chapter {chapter}"),
        }
    }

    /// Makes the object with these changes to its spec, if it is not there, and waits until it serves; returns the rows.
    pub(super) async fn begin(&self, changes: &Value) -> Result<Vec<String>> {
        let databases = self.databases();
        if databases.get_opt(NAME).await?.is_none() {
            let spec = serde_json::from_value(spec(changes))?;
            let object = MySQL::new(NAME, spec);
            databases.create(&PostParams::default(), &object).await?;
        }
        self.until("it is ready", |object| says(object, "Ready", "True", "Serving"))
            .await?;
        let data = self.claim("m-pvc").await?;
        Ok(self.kubelet.disks.rows(&data).unwrap_or_default())
    }

    /// Writes a row, if it is not there.
    pub(super) async fn write(&self, row: &str) -> Result<()> {
        let data = self.claim("m-pvc").await?;
        let rows = self.kubelet.disks.rows(&data).unwrap_or_default();
        let there = rows.iter().any(|there| there == row);
        ensure!(
            there || self.kubelet.disks.write(&data, row),
            "the server takes no rows"
        );
        Ok(())
    }

    pub(super) async fn back_up(&self) -> Result<()> {
        let asked = json!({"metadata": {"annotations": {"otus.homework/backup-now": "1"}}});
        self.databases()
            .patch(NAME, &PatchParams::default(), &Patch::Merge(asked))
            .await?;
        self.until("it was backed up", |object| {
            says(object, "BackupTaken", "True", "BackupDone")
        })
        .await
    }

    /// Deletes the object, if it is there.
    pub(super) async fn delete(&self) -> Result<()> {
        if self.databases().get_opt(NAME).await?.is_some() {
            self.databases().delete(NAME, &DeleteParams::default()).await?;
        }
        Ok(())
    }
}

/// One incarnation of the operator, until the story is told.
pub(crate) async fn run(world: Arc<World>, plan: FaultPlan) -> Result<()> {
    let mut options = Options::new("mysql-operator");
    options.namespaces = vec![world.namespace.name().to_owned()];
    options.clock = world.clock.clone();
    options.wire = Some(wire_layer(FaultLayer::new(&plan)));
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(manager(options, world.plane.config().clone()).run(shutdown.clone()));
    while world.chapter.load(Ordering::Acquire) < world.story.chapters() {
        let chapter = world.chapter.load(Ordering::Acquire);
        match world.story {
            Story::Whole => world.tell(chapter).await?,
            other => stories::tell(&world, other, chapter).await?,
        }
        world.chapter.store(chapter + 1, Ordering::Release);
    }
    shutdown.cancel();
    running.await??;
    Ok(())
}

/// What must hold afterwards, and must have held at every moment.
pub(crate) async fn check(world: Arc<World>) -> Result<()> {
    let disks = &world.kubelet.disks;
    let misdeeds = disks.misdeeds();
    ensure!(misdeeds.is_empty(), "{misdeeds:?}");
    if world.story != Story::Whole {
        return stories::check(&world, world.story).await;
    }
    let backups = disks.backups(&world.claim("backup-m-pvc").await?);
    ensure!(
        backups.len() == 3,
        "one that was asked for and two final ones: {backups:?}"
    );
    let rows = disks.newest(&world.claim("backup-m-pvc").await?);
    ensure!(rows == ["row of chapter 0", "row of chapter 3"], "{rows:?}");
    ensure!(
        disks.runs("backup") == 3,
        "{} Pods took three backups",
        disks.runs("backup")
    );
    ensure!(
        disks.runs("restore") == 2,
        "{} Pods filled two folders",
        disks.runs("restore")
    );
    Ok(())
}
