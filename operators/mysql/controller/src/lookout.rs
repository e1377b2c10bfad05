//! Looks every second at instances that are on their way, for all clusters together, and wakes a cluster when something
//! of its has changed.
//!
//! Clusters that have settled are not its business: they look once a minute, at a listing that they share.
//!
//! # Guarantees
//! - A look is one listing of a region, whatever the number of clusters: one request for each thousand instances.
//! - With no cluster to look for there are no requests.
//! - Where listings take long, looks are rarer: they take a third of the time at the most.
//! - A cluster of which nothing has changed for [`PATIENCE`] is no longer looked for. Nothing depends on being woken:
//!   whoever waits for something looks by itself as well, more seldom.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use futures::{
    StreamExt as _,
    channel::mpsc::{self, UnboundedReceiver, UnboundedSender},
    stream::BoxStream,
};
use parking_lot::Mutex;
use reconcile::{ObjectKey, clock::Clock};
use tokio::sync::Notify;

use crate::{
    cloud::{Instance, Instances},
    reader::{Listing, Reader},
};

/// Time between two looks.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How long a cluster is looked for of which nothing changes.
pub const PATIENCE: Duration = Duration::from_mins(5);
/// What a look took, times this, is the least time to the next.
const REST: u32 = 2;
/// So many intervals pass after a look that failed.
const AFTER_FAILURE: u32 = 10;

/// A cluster whose instances are on their way.
#[derive(Clone, Debug)]
struct Watch {
    key: ObjectKey,
    region: String,
    /// What was shown of it last.
    shown: u64,
    /// Since when.
    since: Duration,
}

#[derive(Default)]
struct Watches {
    clusters: Mutex<HashMap<String, Watch>>,
    /// There is a cluster to look for.
    some: Notify,
}

/// Looks for clusters. Clones do it together.
pub struct Lookout<I> {
    reader: Reader<I>,
    clock: Clock,
    interval: Duration,
    watches: Arc<Watches>,
    changed: UnboundedSender<ObjectKey>,
}

impl<I> Clone for Lookout<I> {
    fn clone(&self) -> Self {
        Self {
            reader: self.reader.clone(),
            clock: self.clock.clone(),
            interval: self.interval,
            watches: self.watches.clone(),
            changed: self.changed.clone(),
        }
    }
}

impl<I: Instances> Lookout<I> {
    /// Looks through `reader`, every `interval` ([`INTERVAL`] in what ships). The stream yields the clusters of which
    /// something has changed: it is what wakes them.
    pub fn new(
        reader: &Reader<I>,
        clock: &Clock,
        interval: Duration,
    ) -> (Self, BoxStream<'static, ObjectKey>) {
        let (changed, changes): (_, UnboundedReceiver<_>) = mpsc::unbounded();
        let lookout = Self {
            reader: reader.clone(),
            clock: clock.clone(),
            interval,
            watches: Arc::default(),
            changed,
        };
        (lookout, changes.boxed())
    }

    /// A cluster has instances on their way, and knows of them what `shown` says.
    pub fn watch(&self, uid: &str, (key, region): (&ObjectKey, &str), shown: &[Instance]) {
        let watch = Watch {
            key: key.clone(),
            region: region.to_owned(),
            shown: digest(shown),
            since: self.clock.elapsed(),
        };
        let mut clusters = self.watches.clusters.lock();
        let same = clusters.get(uid).is_some_and(|last| last.shown == watch.shown);
        if !same {
            clusters.insert(uid.to_owned(), watch);
            self.watches.some.notify_one();
        }
    }

    /// A cluster has nothing on its way.
    pub fn leave(&self, uid: &str) {
        self.watches.clusters.lock().remove(uid);
    }

    /// Looks, for ever.
    pub async fn run(self) {
        loop {
            let regions = self.regions();
            if regions.is_empty() {
                self.watches.some.notified().await;
                continue;
            }
            let began = self.clock.elapsed();
            let mut pause = self.interval;
            for region in regions {
                // Half an interval old is as good as new.
                match self.reader.listing(&region, self.interval / 2).await {
                    Ok(listing) => self.compare(&region, &listing),
                    Err(error) => {
                        tracing::debug!(region, %error, "Cannot look at instances that are on their way");
                        pause = self.interval * AFTER_FAILURE;
                    }
                }
            }
            let took = self.clock.elapsed().saturating_sub(began);
            self.clock.sleep(pause.max(took * REST)).await;
        }
    }

    /// The regions that have clusters to look for. One of which nothing has changed for long stays known, so that its
    /// time does not begin anew.
    fn regions(&self) -> BTreeSet<String> {
        let now = self.clock.elapsed();
        let clusters = self.watches.clusters.lock();
        let young = clusters
            .values()
            .filter(|watch| now.saturating_sub(watch.since) < PATIENCE);
        young.map(|watch| watch.region.clone()).collect()
    }

    fn compare(&self, region: &str, listing: &Listing) {
        let now = self.clock.elapsed();
        let mut clusters = self.watches.clusters.lock();
        for (uid, watch) in clusters.iter_mut().filter(|(_, watch)| watch.region == region) {
            let shown = digest(listing.of(uid));
            if shown != watch.shown {
                (watch.shown, watch.since) = (shown, now);
                // Nobody listens any more when the process ends.
                self.changed.unbounded_send(watch.key.clone()).ok();
            }
        }
    }
}

/// What of instances a cluster waits for: that they are shown, their states and their addresses.
fn digest(instances: &[Instance]) -> u64 {
    let mut sorted: Vec<_> = instances
        .iter()
        .map(|one| (&one.id, one.state, &one.private_ip))
        .collect();
    sorted.sort_by_key(|(id, ..)| *id);
    let mut hasher = DefaultHasher::new();
    sorted.hash(&mut hasher);
    hasher.finish()
}
