//! One reader per region for all clusters: a listing is made at most once per interval, however many ask.
//!
//! # Guarantees
//! - One that failed is not made again for [`RESPITE`], unless somebody needs what is there at this very moment: an outage of
//!   EC2 costs as many requests for a thousand clusters as for one, and whoever asked while it failed waits no longer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use reconcile::clock::Clock;
use tokio::sync::Mutex as AsyncMutex;

use crate::cloud::{CloudError, Instance, Instances};

/// How long a failure stands for the next attempt.
pub const RESPITE: Duration = Duration::from_secs(5);

/// How long a subnet counts as one that EC2 does not know.
pub const UNKNOWN: Duration = Duration::from_mins(10);

/// What is known of a subnet's zone.
enum Zone {
    Known(String),
    /// EC2 did not know it at that moment.
    Unknown(Duration),
}

/// A region's instances at one moment.
#[derive(Debug)]
pub struct Listing {
    /// When it was asked for, on the clock's monotonic scale.
    pub at: Duration,
    /// Instances by the UID of their cluster.
    by_cluster: HashMap<String, Vec<Instance>>,
}

impl Listing {
    /// Every instance that carries a cluster's identity.
    pub fn all(&self) -> impl Iterator<Item = &Instance> {
        self.by_cluster.values().flatten()
    }

    /// The instances of one cluster.
    pub fn of(&self, cluster_uid: &str) -> &[Instance] {
        self.by_cluster.get(cluster_uid).map_or(&[], Vec::as_slice)
    }
}

/// What was last learned of a region.
#[derive(Default)]
struct Shelf {
    listing: Option<Arc<Listing>>,
    /// The last attempt since then failed: when that was known, and how.
    failure: Option<(Duration, CloudError)>,
}

/// The devices of images whose volumes outlive their instances, by region and image.
type Kept = HashMap<(String, String), Vec<String>>;

type Slot = Arc<AsyncMutex<Shelf>>;

/// Shares listings. Clones share them too.
pub struct Reader<I> {
    cloud: Arc<I>,
    operator_id: String,
    clock: Clock,
    regions: Arc<Mutex<HashMap<String, Slot>>>,
    zones: Arc<Mutex<HashMap<String, Zone>>>,
    kept_devices: Arc<Mutex<Kept>>,
}

impl<I> Clone for Reader<I> {
    fn clone(&self) -> Self {
        Self {
            cloud: self.cloud.clone(),
            operator_id: self.operator_id.clone(),
            clock: self.clock.clone(),
            regions: self.regions.clone(),
            zones: self.zones.clone(),
            kept_devices: self.kept_devices.clone(),
        }
    }
}

impl<I: Instances> Reader<I> {
    /// A reader of the instances of one operator.
    pub fn new(cloud: Arc<I>, operator_id: &str, clock: Clock) -> Self {
        Self {
            cloud,
            operator_id: operator_id.to_owned(),
            clock,
            regions: Arc::default(),
            zones: Arc::default(),
            kept_devices: Arc::default(),
        }
    }

    /// The regions that were ever listed.
    pub fn regions(&self) -> Vec<String> {
        self.regions.lock().keys().cloned().collect()
    }

    /// A listing that is at most `age` old. Those who ask at the same time share one request.
    pub async fn listing(&self, region: &str, age: Duration) -> Result<Arc<Listing>, CloudError> {
        let slot = self.regions.lock().entry(region.to_owned()).or_default().clone();
        let asked = self.clock.elapsed();
        let mut slot = slot.lock().await;
        // Whoever waited for the lock while another asked has a listing that is younger than its own question.
        if let Some(listing) = slot.listing.as_ref().filter(|listing| listing.at + age >= asked) {
            return Ok(listing.clone());
        }
        let respite = age.min(RESPITE);
        if let Some((_, error)) = slot.failure.as_ref().filter(|(at, _)| *at + respite > asked) {
            return Err(error.clone());
        }
        let at = self.clock.elapsed();
        let listed = self.cloud.list(region, &self.operator_id).await;
        let listed =
            listed.inspect_err(|error| slot.failure = Some((self.clock.elapsed(), error.clone())))?;
        slot.failure = None;
        let mut by_cluster: HashMap<String, Vec<Instance>> = HashMap::new();
        for instance in listed {
            if let Some(identity) = instance.identity() {
                by_cluster.entry(identity.cluster_uid).or_default().push(instance);
            }
        }
        let listing = Arc::new(Listing { at, by_cluster });
        slot.listing = Some(listing.clone());
        Ok(listing)
    }

    /// The devices of an image whose volumes outlive its instances; an image never changes, so each is asked for once.
    pub async fn kept_devices(&self, region: &str, image: &str) -> Result<Vec<String>, CloudError> {
        let which = (region.to_owned(), image.to_owned());
        if let Some(known) = self.kept_devices.lock().get(&which) {
            return Ok(known.clone());
        }
        let found = self.cloud.kept_devices(region, image).await?;
        self.kept_devices.lock().insert(which, found.clone());
        Ok(found)
    }

    /// The zones of subnets; a zone never changes, so each is asked for once. One that EC2 does not know is left out, and asked
    /// for again after [`UNKNOWN`]: nobody else's zone is asked for with each pass because of it.
    pub async fn zones(&self, region: &str, subnets: &[String]) -> Result<Vec<(String, String)>, CloudError> {
        let now = self.clock.elapsed();
        let unknown: Vec<String> = {
            let zones = self.zones.lock();
            let is_known = |subnet: &String| match zones.get(subnet) {
                Some(Zone::Known(_)) => true,
                Some(Zone::Unknown(since)) => now < *since + UNKNOWN,
                None => false,
            };
            subnets
                .iter()
                .filter(|subnet| !is_known(subnet))
                .cloned()
                .collect()
        };
        if !unknown.is_empty() {
            let found = self.cloud.subnets(region, &unknown).await?;
            let mut zones = self.zones.lock();
            zones.extend(unknown.into_iter().map(|subnet| (subnet, Zone::Unknown(now))));
            zones.extend(
                found
                    .into_iter()
                    .map(|subnet| (subnet.id, Zone::Known(subnet.zone))),
            );
        }
        let zones = self.zones.lock();
        let known = subnets.iter().filter_map(|subnet| match zones.get(subnet)? {
            Zone::Known(zone) => Some((subnet.clone(), zone.clone())),
            Zone::Unknown(_) => None,
        });
        Ok(known.collect())
    }
}
