//! Whether a spec is carried out: what speaks against it by itself, or by what the data of a formed cluster were made with.
//!
//! Members may have been launched by an operator that did not record the latter. It is recorded late then, before anything
//! follows from the spec: what is as the spec asks was made with it, and of the others the parameters of their launch may be
//! there yet.

use mysql_api::{
    MySQLCluster,
    cluster::{Launch, LaunchData, LaunchPhase},
};
use reconcile::Pass;

use super::{ClusterError, Clusters, RecordsError, StatusRecords, ledger, topology};
use crate::{
    cloud::Instances,
    desired::{Desired, SpecError},
    ledger::Ledger,
    records::Records as _,
    server::Servers,
};

impl<I: Instances, S: Servers> Clusters<I, S> {
    /// The spec as it is to be carried out, or what speaks against it.
    pub(super) async fn accept(
        &self,
        cluster: &MySQLCluster,
        pass: &Pass<MySQLCluster>,
    ) -> Result<Result<Desired, SpecError>, ClusterError> {
        let desired = match self.desired(cluster) {
            Ok(desired) => desired,
            Err(error) => return Ok(Err(error)),
        };
        let ledger = complete(pass, &desired).await?;
        if topology(cluster).is_none() {
            return Ok(Ok(desired));
        }
        Ok(desired.suit(ledger.entries()).map(|()| desired))
    }
}

/// The ledger, in which is recorded by now what is known of the members' data.
async fn complete(pass: &Pass<MySQLCluster>, desired: &Desired) -> Result<Ledger, RecordsError> {
    let records = StatusRecords { pass };
    let known = ledger(&pass.current());
    let mut completed = known.clone();
    let unknown = |entry: &&Launch| entry.phase == LaunchPhase::Launched && entry.data.is_none();
    for entry in known.entries().iter().filter(unknown) {
        if let Some(data) = made_with(&records, entry, desired).await? {
            completed.know(entry.ordinal, data);
        }
    }
    if completed != known {
        records.write(&completed).await?;
    }
    Ok(completed)
}

/// What the data of a member were made with. Nobody knows what another cluster froze for those that were adopted.
async fn made_with(
    records: &StatusRecords<'_>,
    entry: &Launch,
    desired: &Desired,
) -> Result<Option<LaunchData>, RecordsError> {
    if entry.revision == Some(desired.revision()) {
        return Ok(Some(desired.data()));
    }
    if entry.adopted_from.is_some() {
        return Ok(None);
    }
    let frozen = records.frozen(entry.ordinal, entry.incarnation).await?;
    let frozen = frozen.filter(|frozen| frozen.digest() == entry.params_hash);
    Ok(frozen.map(|frozen| frozen.parameters.data()))
}
