//! Whether EC2 can say that something is gone: in another account nothing of a cluster is there.

use mysql_api::cluster::Launch;

use super::Work;
use crate::{
    cloud::{CloudError, Instances},
    ledger::Ledger,
    outcome::{Verdict, verdict},
    records::Records,
};

impl<I: Instances, R: Records> Work<'_, I, R> {
    /// Whether EC2 can be believed that the instance of a launch does not exist. If not, that is remembered until it is looked
    /// at again.
    pub(super) async fn is_proof(&self, entry: &Launch) -> bool {
        match self.recognise(entry).await {
            Ok(()) => true,
            Err(error) => {
                if verdict(&error) == Verdict::Denied {
                    self.evidence.lock().doubt_account(error.to_string());
                }
                false
            }
        }
    }

    /// Makes sure, before it is believed that nothing is left, that EC2 knows where the cluster's instances were. One whose
    /// launch nobody has ever seen says nothing: its subnet may not be one.
    pub(super) async fn recognise_any(&self, ledger: &Ledger) -> Result<(), CloudError> {
        let mut entries = ledger.entries().iter();
        match entries.find(|entry| entry.instance_id.is_some()) {
            Some(entry) => self.recognise(entry).await,
            None => Ok(()),
        }
    }

    /// That EC2 knows the subnet that an instance was launched in, which cannot go before the instance does.
    async fn recognise(&self, entry: &Launch) -> Result<(), CloudError> {
        let subnet = &entry.subnet_id;
        let cloud = &self.operator.cloud;
        match cloud.subnets(self.region, std::slice::from_ref(subnet)).await {
            Ok(found) if found.iter().any(|found| found.id == *subnet) => Ok(()),
            Err(error) if !error.is_subnet_not_found() => Err(error),
            Ok(_) | Err(_) => Err(CloudError::foreign(subnet)),
        }
    }
}
