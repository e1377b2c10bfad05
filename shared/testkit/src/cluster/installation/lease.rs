//! Who has the lease, and how it goes from one pod to another.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, ResourceExt, api::ListParams};

use super::{Installation, LIMIT};

/// How often the lease is looked at while it changes hands.
const GLANCE: Duration = Duration::from_millis(20);

/// How the lease went from one pod to another.
#[derive(Clone, Debug)]
pub struct Handover {
    /// The pod that had it.
    pub from: String,
    /// The pod that has it.
    pub to: String,
    /// From the request or crash until the other pod had it.
    pub took: Duration,
}

impl Installation {
    /// The pod that has the lease.
    async fn holder(&self) -> Result<Option<String>> {
        let leases: Api<Lease> = Api::namespaced(self.cluster.client(), &self.name);
        let lease = leases.get_opt(&self.name).await?;
        let holder = lease.and_then(|lease| lease.spec?.holder_identity);
        // The pod's name and what tells its processes apart.
        Ok(holder
            .and_then(|identity| Some(identity.rsplit_once('_')?.0.to_owned()))
            .filter(|pod| !pod.is_empty()))
    }

    /// The pod that acts.
    pub async fn leader(&self) -> Result<String> {
        let mut found = None;
        self.eventually("a replica has the lease", async || {
            found = self.holder().await?;
            Ok(found.is_some())
        })
        .await?;
        found.context("nobody has the lease")
    }

    /// Kills the process that acts as a crash would, without a word of good-bye, and then its pod; returns when
    /// another pod has the lease.
    pub async fn kill_leader(&self) -> Result<Handover> {
        let from = self.leader().await?;
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), &self.name);
        let pod = pods.get(&from).await?;
        let node = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .context("the leader is on no node")?;
        let statuses = pod.status.and_then(|status| status.container_statuses);
        let container = statuses.and_then(|mut all| all.pop()?.container_id);
        let container = container.context("the leader has no container")?;
        let container = container.trim_start_matches("containerd://");
        let kill = [
            "exec",
            &node,
            "ctr",
            "-n",
            "k8s.io",
            "tasks",
            "kill",
            "--signal=SIGKILL",
            container,
        ];
        let began = Instant::now();
        self.cluster.docker().run(&kill).await?;
        let delete = [
            "delete",
            "pod",
            &from,
            "--grace-period=0",
            "--force",
            "--wait=false",
        ];
        self.kubectl(&delete, "").await?;
        self.taken_over(from, began).await
    }

    async fn taken_over(&self, from: String, began: Instant) -> Result<Handover> {
        while began.elapsed() < LIMIT {
            match self.holder().await? {
                Some(to) if to != from => {
                    let took = began.elapsed();
                    return Ok(Handover { from, to, took });
                }
                _ => tokio::time::sleep(GLANCE).await,
            }
        }
        bail!("nobody takes over from {from}\n{}", self.state().await)
    }

    /// Replaces every pod, as an update does; returns for how long at a time nobody had the lease.
    pub async fn roll(&self) -> Result<Duration> {
        let before = self.pods().await?;
        let deployment = self.deployment();
        self.kubectl(&["rollout", "restart", &deployment], "").await?;
        let mut rolling = pin!(self.rolled_out());
        let mut is_rolled = false;
        let (began, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
        while began.elapsed() < LIMIT {
            tokio::select! {
                rolled = &mut rolling, if !is_rolled => {
                    rolled?;
                    is_rolled = true;
                }
                () = tokio::time::sleep(GLANCE) => {}
            }
            if let Some(pod) = self.holder().await? {
                longest = longest.max(last.elapsed());
                last = Instant::now();
                if is_rolled && !before.contains(&pod) {
                    return Ok(longest);
                }
            }
        }
        bail!("no new pod takes the lease\n{}", self.state().await)
    }

    /// The operator's pods.
    pub async fn pods(&self) -> Result<Vec<String>> {
        let api: Api<Pod> = Api::namespaced(self.cluster.client(), &self.name);
        let params = ListParams::default().labels("app.kubernetes.io/component=controller-manager");
        let found = api.list(&params).await?;
        Ok(found.iter().map(ResourceExt::name_any).collect())
    }
}
