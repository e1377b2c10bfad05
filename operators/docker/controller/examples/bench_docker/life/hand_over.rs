//! From a machine's bootstrap data to the begin of kubeadm in its node, and where that time goes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, WatchEvent, WatchParams},
    core::DynamicObject,
};
use parking_lot::Mutex;
use testkit::docker::Docker;

use super::manifests::BEGAN;
use crate::objects::{CORE, Objects};

/// The steps of one machine, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandOver {
    /// From the data until Docker was asked for a container.
    asked: f64,
    /// From there until its first process runs: Docker fills a volume with what the image has below `/var`.
    started: f64,
    /// From there until kubeadm: systemd and containerd come up.
    booted: f64,
}

/// A figure of a machine.
type Part = (&'static str, fn(&HandOver) -> f64);

/// What is told of machines.
pub(super) const PARTS: [Part; 4] = [
    ("data_to_kubeadm", |steps| {
        steps.asked + steps.started + steps.booted
    }),
    ("data_to_container", |steps| steps.asked),
    ("container_to_start", |steps| steps.started),
    ("start_to_kubeadm", |steps| steps.booted),
];

impl HandOver {
    /// Those of a machine whose data was seen at `data`, by what Docker and the node have written down.
    pub(super) async fn of(docker: &Docker, container: &str, data: f64) -> Result<Self> {
        let inspect = [
            "inspect",
            "--format",
            "{{.Created}} {{.State.StartedAt}}",
            container,
        ];
        let printed = docker.run(&inspect).await?;
        let (created, started) = printed.trim().split_once(' ').context("Docker told no times")?;
        let (created, started) = (seconds(created)?, seconds(started)?);
        let began = docker.exec(container, &["cat", BEGAN]).await?;
        let began: f64 = began.trim().parse().context("the node's time cannot be read")?;
        Ok(Self {
            asked: created - data,
            started: started - created,
            booted: began - started,
        })
    }
}

/// A time as Docker writes it, in seconds since 1970.
fn seconds(time: &str) -> Result<f64> {
    let time: Timestamp = time.parse().with_context(|| format!("{time:?} is no time"))?;
    Ok(time.as_duration().as_secs_f64())
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs_f64()
}

/// When each Machine was first seen with its bootstrap data, in seconds since 1970.
pub(super) struct DataSeen {
    times: Arc<Mutex<BTreeMap<String, f64>>>,
    task: tokio::task::JoinHandle<()>,
}

impl DataSeen {
    pub(super) async fn watch(objects: &Objects) -> Result<Self> {
        let machines: Api<DynamicObject> = objects.api(CORE, "Machine");
        let version = machines
            .list(&ListParams::default())
            .await?
            .metadata
            .resource_version;
        let params = WatchParams::default().timeout(290);
        let events = machines.watch(&params, &version.unwrap_or_default()).await?;
        let times: Arc<Mutex<BTreeMap<String, f64>>> = Arc::default();
        let seen = times.clone();
        let task = tokio::spawn(async move {
            let mut events = events.boxed();
            while let Ok(Some(event)) = events.try_next().await {
                let (WatchEvent::Added(machine) | WatchEvent::Modified(machine)) = event else {
                    continue;
                };
                if machine.data.pointer("/spec/bootstrap/dataSecretName").is_some() {
                    seen.lock().entry(machine.name_any()).or_insert_with(now);
                }
            }
        });
        Ok(Self { times, task })
    }

    pub(super) fn of(&self, machine: &str) -> Option<f64> {
        self.times.lock().get(machine).copied()
    }

    /// When the first of all had it.
    pub(super) fn first(&self) -> Option<f64> {
        self.times.lock().values().copied().reduce(f64::min)
    }
}

impl Drop for DataSeen {
    fn drop(&mut self) {
        self.task.abort();
    }
}
