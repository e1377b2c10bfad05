//! Other installations of the same operator: of those that would act on the same objects, one acts.
//!
//! A Lease keeps the replicas of one installation apart. It does nothing about a second installation with a Lease of its
//! own: another release of the chart, a manifest beside a release, another tool that brought the operator once more.
//!
//! # What happens
//! 1. Whoever holds the Lease of its installation says in it of which operator it is, and what it serves ([`Territory`]).
//! 2. Before it acts it lists the Leases of that operator in all namespaces. Does another one act on some of what it
//!    serves, it waits: [`Installation::settle`] does not return, the replica is not ready and says which one it is.
//! 3. Does none, it notes in its Lease that it acts, and lists once more. Each of two that come at the same time writes
//!    before it looks, so at least one of them sees the other, and takes its note back.
//! 4. It takes over once the other has not acted for the longer of their lease durations: a hand-over between the replicas
//!    of the other does not move the work.
//! 5. Who acts looks again now and then. Should another act after all (a Lease was deleted, rights came late), it says so in
//!    its log and by an event, again and again. It does not end: a Lease is no reason to, which others may write.
//!
//! # Guarantees
//! - Who acts goes on acting, whoever comes later.
//! - Of two installations that can both list, never two begin. Hosts may disagree about the time: whether another is alive
//!   is judged by whether its Lease changes. A renewal that is hours old by this host's clock only makes the wait for a change
//!   shorter.
//! - A list that is not allowed (rights of an older manifest) is said once in the log and stops nobody.
//!
//! # Assumptions
//! The operator may `list` `leases` in all namespaces. Who may write Leases in a namespace where they count, which is any by
//! default, is not out to keep an operator from beginning.
//!
//! # Caveats
//! Without leader election there is no Lease, and so nothing here: such a process neither sees others nor is it seen. The
//! same holds for releases that do not say yet what they serve.

mod sightings;
mod territory;

use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::ObjectReference};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, PostParams},
};
use tokio::time::sleep;

pub(crate) use self::{sightings::Sightings, territory::Territory};
use crate::{
    clock::Clock,
    events::{EventKind, EventRecorder, Notice},
    fence::BootTime,
    leader::LeaderConfig,
    sabotage,
    server::Gate,
};

/// The label of a Lease that names the operator whose installation holds it.
const OPERATOR: &str = "reconcile.dev/operator";
/// The annotation of a Lease with the identity of the holder that acts.
const ACTING: &str = "reconcile.dev/acting";
/// Retry periods between two looks of one that waits; a little more by chance.
const WAIT: u32 = 2;
/// Lease durations between two looks of one that acts.
const WATCH: u32 = 4;

/// Marks the Lease of an election as that of an installation of `operator` that serves `territory`.
pub(crate) fn declare(config: &mut LeaderConfig, operator: &str, territory: &Territory) {
    config.labels.insert(OPERATOR.to_owned(), operator.to_owned());
    config.annotations.extend(territory.annotations());
}

/// This installation, as its leader sees it among the others.
pub(crate) struct Installation {
    config: LeaderConfig,
    everywhere: Api<Lease>,
    own: Api<Lease>,
    recorder: EventRecorder,
    /// Closed while another acts.
    gate: Gate,
    sightings: Sightings,
    /// The uid of the own Lease, for events.
    uid: Option<String>,
    /// Whom it waits for.
    waiting_for: Option<String>,
    /// The own Lease may say that this process acts.
    noted: bool,
    /// The list is not allowed.
    blind: bool,
}

impl Installation {
    /// That of the process which holds the Lease of `config`, after [`declare`].
    pub(crate) fn new(config: LeaderConfig, client: Client, gate: Gate, sightings: Sightings) -> Self {
        let operator = config.labels.get(OPERATOR).cloned().unwrap_or_default();
        let recorder = EventRecorder::new(client.clone(), Clock::system(), &operator, &config.identity);
        let own = Api::namespaced(client.clone(), &config.namespace);
        Self {
            sightings,
            config,
            everywhere: Api::all(client),
            own,
            recorder,
            gate,
            uid: None,
            waiting_for: None,
            noted: false,
            blind: false,
        }
    }

    /// Returns when this process may act: no other does, and the Lease says that this one does.
    pub(crate) async fn settle(&mut self) {
        while !self.begins().await {
            let pause = self.config.timing.retry_period * WAIT;
            sleep(pause.mul_f64(rand::random::<f64>().mul_add(0.5, 1.0))).await;
        }
        if self.waiting_for.take().is_some() {
            tracing::info!("No other installation acts any more; this one does from now on");
        }
        self.gate.open();
    }

    /// One attempt of [`Self::settle`].
    async fn begins(&mut self) -> bool {
        match self.attempt().await {
            Ok(begun) => begun,
            Err(error) => {
                tracing::warn!(%error, "Failed to look for other installations of this operator; trying again before anything is done");
                false
            }
        }
    }

    async fn attempt(&mut self) -> kube::Result<bool> {
        self.look().await?;
        if self.gives_way().await {
            self.note(false).await?;
            return Ok(false);
        }
        self.note(true).await?;
        self.look().await?;
        if self.gives_way().await {
            self.note(false).await?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether another acts; says so.
    async fn gives_way(&mut self) -> bool {
        let Some(other) = self.sightings.acting(BootTime::now()) else {
            return false;
        };
        if sabotage::active(sabotage::ACT_BESIDE_ANOTHER) {
            return false;
        }
        if self.waiting_for.as_ref() == Some(&other.name) {
            return true;
        }
        let note = format!(
            "waiting for {}: that installation of the same operator acts on {}, of which this one serves some; uninstall one of the two, or give them namespaces that are disjoint (--namespace, watchNamespaces)",
            other.name, other.territory
        );
        self.waiting_for = Some(other.name.clone());
        self.gate.close_because(&note);
        tracing::warn!(lease = self.config.full_name(), "{note}");
        self.tell(note).await;
        true
    }

    /// Says so, while this installation acts, when another one does as well. Never ends.
    pub(crate) async fn look_out(&mut self) {
        let timing = self.config.timing;
        let mut suspect = None;
        for turn in 1_u32.. {
            if suspect.is_some() {
                sleep(timing.retry_period * WAIT).await;
            } else {
                sleep(timing.lease_duration / 2).await;
            }
            // More often than others lose patience: who deletes the Lease deletes the note, which the election does not know.
            if let Err(error) = self.note(true).await {
                tracing::warn!(%error, "Failed to note in the lease that this installation acts");
            }
            if suspect.is_none() && !turn.is_multiple_of(2 * WATCH) {
                continue;
            }
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "Failed to look for other installations of this operator");
                continue;
            }
            let Some(other) = self.sightings.at_work() else {
                suspect = None;
                continue;
            };
            // One that has only looked whether it may act says so for a moment.
            if suspect.as_ref() != Some(&other.name) || !other.is_proven {
                suspect = Some(other.name);
                continue;
            }
            suspect = None;
            let note = format!(
                "{} acts on {}, which this installation of the same operator serves as well: both act on the same objects; uninstall one of the two, or give them namespaces that are disjoint (--namespace, watchNamespaces)",
                other.name, other.territory
            );
            tracing::error!(lease = self.config.full_name(), "{note}");
            self.tell(note).await;
        }
    }

    /// Lists the Leases of this operator's installations.
    async fn look(&mut self) -> kube::Result<()> {
        let label = self.config.labels.get(OPERATOR).map_or("", String::as_str);
        let ours = ListParams::default().labels(&format!("{OPERATOR}={label}"));
        let listed = match self.everywhere.list(&ours).await {
            Ok(listed) => listed.items,
            Err(kube::Error::Api(status)) if status.code == 403 => {
                if !std::mem::replace(&mut self.blind, true) {
                    tracing::warn!(
                        error = status.message,
                        "Not allowed to list leases in all namespaces, so another installation of this operator for the same namespaces would not be noticed: grant list of leases in coordination.k8s.io by a ClusterRole"
                    );
                }
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let own = listed.iter().find(|lease| self.sightings.is_own(lease));
        self.uid = own.and_then(kube::ResourceExt::uid).or_else(|| self.uid.take());
        self.sightings.see(&listed, BootTime::now(), Timestamp::now());
        Ok(())
    }

    /// Notes in the own Lease whether this process acts, unless it is there already.
    async fn note(&mut self, acting: bool) -> kube::Result<()> {
        if !acting && !self.noted {
            return Ok(());
        }
        let mut lease = self.own.get(&self.config.lease).await?;
        let identity = Some(&self.config.identity);
        if lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()) != identity {
            // It is lost, which is not found out here: the process ends soon.
            std::future::pending::<()>().await;
        }
        self.noted = true;
        if (lease.annotations().get(ACTING) == identity) != acting {
            if acting {
                let identity = self.config.identity.clone();
                lease.annotations_mut().insert(ACTING.to_owned(), identity);
            } else {
                lease.annotations_mut().remove(ACTING);
            }
            let params = PostParams::default();
            self.own.replace(&self.config.lease, &params, &lease).await?;
        }
        self.noted = acting;
        Ok(())
    }

    async fn tell(&self, note: String) {
        let regarding = ObjectReference {
            api_version: Some("coordination.k8s.io/v1".to_owned()),
            kind: Some("Lease".to_owned()),
            namespace: Some(self.config.namespace.clone()),
            name: Some(self.config.lease.clone()),
            uid: self.uid.clone(),
            ..ObjectReference::default()
        };
        let notice = Notice {
            kind: EventKind::Warning,
            reason: "NamespacesOverlap",
            action: "LeaderElection",
            note,
        };
        self.recorder.publish(&regarding, notice).await;
    }
}

#[cfg(test)]
mod tests;
