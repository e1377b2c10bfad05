//! A process's time in office: it stands by, is elected, acts, leaves.

use std::time::Duration;

use kube::{Client, Config};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{ManagerError, Options};
use crate::{
    client::ClientOptions,
    fence::{Fence, LeaseLost},
    installation::{self, Installation, Sightings, Territory},
    leader::{LeaderConfig, LeaderElector, Leadership},
    server::{Gate, Readiness},
};

/// The check that fails while another installation acts.
const ALONE: &str = "no-other-installation";

/// See the module. Without an election the process is in office from the start.
pub(super) struct Term {
    election: Option<Election>,
    readiness: Readiness,
}

struct Election {
    leadership: Leadership,
    config: LeaderConfig,
    territory: Territory,
    /// Where leases of other installations count; everywhere if empty.
    trusted: Vec<String>,
    alone: Gate,
}

impl Term {
    /// Joins the election that `options` name, not yet as a candidate.
    pub(super) async fn stand_by(
        options: &Options,
        config: &Config,
        client: ClientOptions,
        readiness: &Readiness,
    ) -> Result<Self, ManagerError> {
        let mut election = None;
        if let Some(mut lease) = options.leader_election.clone() {
            let territory = Territory::new(&options.namespaces, options.shard.as_deref());
            installation::declare(&mut lease, options.name, &territory);
            let alone = readiness.gate(ALONE);
            alone.open();
            election = Some(Election {
                leadership: LeaderElector::stand_by(lease.clone(), config.clone(), client).await?,
                config: lease,
                territory,
                trusted: options.installations_in.clone(),
                alone,
            });
        }
        Ok(Self {
            election,
            readiness: readiness.clone(),
        })
    }

    /// The fence that is open while the lease is held.
    pub(super) fn fence(&self) -> Fence {
        let leadership = self.election.as_ref().map(|election| &election.leadership);
        leadership.map_or_else(Fence::open, Leadership::fence)
    }

    /// Lets the controllers act once the lease is ours and nobody else acts; returns when the shutdown begins.
    pub(super) async fn watch_over(
        &self,
        client: &Client,
        running: &mut JoinSet<&'static str>,
        elected: &CancellationToken,
        shutdown: &CancellationToken,
    ) -> Result<(), ManagerError> {
        let mut installation = self
            .election
            .as_ref()
            .map(|election| election.installation(client));
        if let (Some(election), Some(installation)) = (&self.election, &mut installation) {
            let acquired = async {
                self.readiness.ready().await;
                election.leadership.campaign();
                election.leadership.acquired().await?;
                info!("Acquired the lease");
                installation.settle().await;
                // Alerts ask for one that acts: a lease that waits for another installation does no work.
                election.leadership.acts();
                Ok::<_, LeaseLost>(())
            };
            tokio::select! {
                acquired = acquired => acquired?,
                lost = self.lost() => return Err(lost.into()),
                () = shutdown.cancelled() => return Ok(()),
                died = running.join_next(), if !running.is_empty() => return Err(died_error(died)),
            }
        }
        elected.cancel();
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            lost = self.lost() => Err(lost.into()),
            () = look_out(installation.as_mut()) => Ok(()),
            died = running.join_next(), if !running.is_empty() => Err(died_error(died)),
        }
    }

    /// Waits until everything has ended, for as long as `limit`, and then gives the lease away.
    pub(super) async fn wind_up(
        self,
        mut running: JoinSet<&'static str>,
        limit: Duration,
    ) -> Result<(), ManagerError> {
        tokio::select! {
            drained = tokio::time::timeout(limit, drain(&mut running)) => if drained.is_err() {
                // The lease is left to expire: something of ours may still be acting.
                return Err(ManagerError::DrainTimeout(limit));
            },
            lost = self.lost() => return Err(lost.into()),
        }
        self.finish().await
    }

    /// Gives the lease away, if there is one.
    pub(super) async fn finish(self) -> Result<(), ManagerError> {
        if let Some(election) = self.election {
            election.leadership.release().await;
        }
        Ok(())
    }

    /// Ends when the lease was ours and is so no more; never without an election.
    async fn lost(&self) -> LeaseLost {
        match &self.election {
            Some(election) => election.leadership.lost().await,
            None => std::future::pending().await,
        }
    }
}

impl Election {
    fn installation(&self, client: &Client) -> Installation {
        Installation::new(
            self.config.clone(),
            client.clone(),
            self.alone.clone(),
            Sightings::new(self.territory.clone(), &self.config, self.trusted.clone()),
        )
    }
}

/// Says so if another installation acts as well. Never ends.
async fn look_out(installation: Option<&mut Installation>) {
    match installation {
        Some(installation) => installation.look_out().await,
        None => std::future::pending().await,
    }
}

fn died_error(died: Option<Result<&'static str, tokio::task::JoinError>>) -> ManagerError {
    match died {
        Some(Ok(name)) => ManagerError::ControllerDied(name.to_owned()),
        Some(Err(error)) => ManagerError::ControllerDied(error.to_string()),
        None => ManagerError::ControllerDied("none".to_owned()),
    }
}

async fn drain(running: &mut JoinSet<&'static str>) {
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            warn!(%error, "A controller failed while draining");
        }
    }
}
