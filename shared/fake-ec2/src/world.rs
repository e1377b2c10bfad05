//! The state of an account: what exists, who may do what, what goes wrong, what was asked.
//!
//! [`World`] is the owner's view. It changes things behind callers' backs, and sees them without lag.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use parking_lot::Mutex;
use reconcile::clock::Clock;
use sha2::{Digest as _, Sha256};

use crate::{
    account::Account,
    audit::Call,
    authority::Authority,
    bucket::Buckets,
    faults::Faults,
    history::Moment,
    instance::{Instance, InstanceView, State, StateReason},
    server::Options,
    storage::{Interface, Volume},
    token::Ledger,
};

/// How long things take, in the clock's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// From the launch to `running`. AWS documents no figure.
    pub boot: Duration,
    /// From `running` to status checks that say `ok`.
    pub checks: Duration,
    /// From `stopping` to `stopped`.
    pub stop: Duration,
    /// From `shutting-down` to `terminated`.
    pub terminate: Duration,
    /// From a change of state to the moment at which the console is posted, for readers that do not ask for the latest.
    /// AWS documents no figure but "shortly after".
    pub post: Duration,
    /// How far a read may lag behind: each call draws its own lag between zero and this. AWS documents no figure and
    /// tells clients to back off for up to five minutes.
    pub lag: Duration,
    /// How long a terminated instance stays visible: about an hour, by the documentation.
    pub retention: Duration,
    /// How long a token outlives its instance; 24 hours by older editions of the documentation.
    pub token_retention: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(20),
            checks: Duration::from_secs(90),
            stop: Duration::from_secs(30),
            terminate: Duration::from_secs(30),
            post: Duration::from_secs(1),
            lag: Duration::from_secs(2),
            retention: Duration::from_hours(1),
            token_retention: Duration::from_hours(24),
        }
    }
}

/// Whether the documented request rates are enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limits {
    /// AWS's token buckets, per region.
    #[default]
    Documented,
    /// None: for tests of something else.
    Unlimited,
}

/// An account and everything in it. Clones are the same one.
#[derive(Clone)]
pub struct World {
    pub(crate) clock: Clock,
    pub(crate) estate: Arc<Mutex<Estate>>,
}

pub(crate) struct Estate {
    pub(crate) account: Account,
    pub(crate) timings: Timings,
    pub(crate) limits: Limits,
    pub(crate) authority: Authority,
    pub(crate) faults: Faults,
    pub(crate) buckets: Buckets,
    pub(crate) ledger: Ledger,
    pub(crate) instances: BTreeMap<String, Instance>,
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) interfaces: BTreeMap<String, Interface>,
    pub(crate) audit: Vec<Call>,
    /// Instances that a zone still has room for, by zone and type; without limit where absent.
    pub(crate) capacity: BTreeMap<(String, String), u32>,
    pub(crate) not_offered: BTreeSet<(String, String)>,
    pub(crate) vcpu_limit: Option<u32>,
    pub(crate) failing_launches: VecDeque<StateReason>,
    seed: u64,
    serial: u64,
}

impl Estate {
    /// A new id: the prefix and 17 hexadecimal digits that follow from the seed.
    pub(crate) fn id(&mut self, prefix: &str) -> String {
        self.serial += 1;
        let digest = self.draw("id", self.serial);
        let number = digest
            .iter()
            .take(9)
            .fold(0u128, |number, byte| (number << 8) | u128::from(*byte));
        // 9 bytes are 18 digits.
        format!("{prefix}-{:017x}", number >> 4)
    }

    /// How far behind the call with this serial number reads.
    pub(crate) fn lag(&mut self) -> Duration {
        self.serial += 1;
        let digest = self.draw("lag", self.serial);
        let [a, b, c, d, ..] = digest;
        let drawn = f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX);
        self.timings.lag.mul_f64(drawn)
    }

    fn draw(&self, purpose: &str, serial: u64) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_be_bytes());
        hash.update(purpose);
        hash.update(serial.to_be_bytes());
        hash.finalize().into()
    }

    /// Whether an instance can be seen by a reader of `view` at all.
    pub(crate) fn is_visible(&self, instance: &Instance, view: Moment, now: Moment) -> bool {
        let forgotten = instance
            .terminated_at()
            .is_some_and(|at| at + self.timings.retention <= now);
        instance.launched <= view && !forgotten
    }

    /// Ends an instance now; says whether that changed anything.
    pub(crate) fn terminate(&mut self, id: &str, now: Moment, reason: &StateReason) -> bool {
        let took = self.timings.terminate;
        let Some(instance) = self.instances.get_mut(id) else {
            return false;
        };
        if !instance.state(now).is_live() {
            return false;
        }
        // A stopped machine has nothing to shut down.
        let after = if instance.state(now) == State::Stopped {
            Duration::ZERO
        } else {
            took
        };
        instance.transit(now, State::ShuttingDown, after, State::Terminated, reason);
        let slot = (instance.shape.zone.clone(), instance.shape.kind.clone());
        if let Some(left) = self.capacity.get_mut(&slot) {
            *left += 1;
        }
        true
    }

    /// Stops an instance now; says whether that changed anything.
    pub(crate) fn stop(&mut self, id: &str, now: Moment, reason: &StateReason) -> bool {
        let took = self.timings.stop;
        match self.instances.get_mut(id) {
            Some(instance) if instance.state(now) == State::Running => {
                instance.transit(now, State::Stopping, took, State::Stopped, reason);
                true
            }
            _ => false,
        }
    }
}

impl World {
    /// A world of its own, without a server: for simulations that ask it directly ([`World::ask`]) and want no
    /// sockets. With the clock of a paused runtime such a simulation is deterministic.
    pub fn new(options: &Options) -> Self {
        let estate = Estate {
            account: options.account.clone(),
            timings: options.timings,
            limits: options.limits,
            authority: Authority::default(),
            faults: options.faults.clone(),
            buckets: Buckets::default(),
            ledger: Ledger::default(),
            instances: BTreeMap::new(),
            volumes: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            audit: Vec::new(),
            capacity: BTreeMap::new(),
            not_offered: BTreeSet::new(),
            vcpu_limit: None,
            failing_launches: VecDeque::new(),
            seed: options.seed,
            serial: 0,
        };
        Self {
            clock: options.clock.clone(),
            estate: Arc::new(Mutex::new(estate)),
        }
    }

    /// The clock that everything here goes by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Every call so far.
    pub fn audit(&self) -> Vec<Call> {
        self.estate.lock().audit.clone()
    }

    /// Every instance that ever was, in the order of their launches.
    pub fn instances(&self) -> Vec<InstanceView> {
        let now = self.clock.elapsed();
        let estate = self.estate.lock();
        let mut all: Vec<_> = estate
            .instances
            .values()
            .map(|instance| instance.view(now))
            .collect();
        all.sort_by(|a, b| (a.launched, &a.id).cmp(&(b.launched, &b.id)));
        all
    }

    /// The instances that carry this tag and are neither terminated nor about to be.
    pub fn live(&self, key: &str, value: &str) -> Vec<InstanceView> {
        let mut all = self.instances();
        all.retain(|instance| {
            instance.state.is_live() && instance.tags.get(key).is_some_and(|found| found == value)
        });
        all
    }

    /// Ids of the volumes that exist.
    pub fn volumes(&self) -> Vec<String> {
        let now = self.clock.elapsed();
        let estate = self.estate.lock();
        let existing = estate
            .volumes
            .values()
            .filter(|volume| volume.state(&estate.instances, now).is_some());
        existing.map(|volume| volume.id.clone()).collect()
    }

    /// Ids of the network interfaces that exist.
    pub fn interfaces(&self) -> Vec<String> {
        let now = self.clock.elapsed();
        let estate = self.estate.lock();
        let existing = estate
            .interfaces
            .values()
            .filter(|interface| interface.state(&estate.instances, now).is_some());
        existing.map(|interface| interface.id.clone()).collect()
    }

    /// Terminates an instance behind everybody's back; says whether it was there to be terminated.
    pub fn terminate(&self, id: &str, reason: &StateReason) -> bool {
        let now = self.clock.elapsed();
        self.estate.lock().terminate(id, now, reason)
    }

    /// Stops a running instance behind everybody's back; says whether it was running.
    pub fn stop(&self, id: &str) -> bool {
        let now = self.clock.elapsed();
        self.estate.lock().stop(id, now, &StateReason::by_user())
    }

    /// Sets (`Some`) or removes (`None`) a tag of an instance behind everybody's back; says whether that changed it.
    pub fn retag(&self, id: &str, key: &str, value: Option<&str>) -> bool {
        let now = self.clock.elapsed();
        let mut estate = self.estate.lock();
        let Some(instance) = estate.instances.get_mut(id) else {
            return false;
        };
        instance.tags.change(now, |tags| {
            match value {
                Some(value) => tags.insert(key.to_owned(), value.to_owned()),
                None => tags.remove(key),
            };
        })
    }

    /// Makes the status checks of an instance fail, or pass again.
    pub fn impair(&self, id: &str, impaired: bool) {
        if let Some(instance) = self.estate.lock().instances.get_mut(id) {
            instance.impaired = impaired;
        }
    }

    /// What the console of an instance shows from now on.
    pub fn set_console(&self, id: &str, text: &str) {
        let now = self.clock.elapsed();
        let mut estate = self.estate.lock();
        let post = estate.timings.post;
        if let Some(instance) = estate.instances.get_mut(id) {
            instance.print(now, post, text);
        }
    }

    /// How many more instances of a type a zone has room for; `None` for any number.
    pub fn set_capacity(&self, zone: &str, kind: &str, left: Option<u32>) {
        let slot = (zone.to_owned(), kind.to_owned());
        let mut estate = self.estate.lock();
        match left {
            Some(left) => estate.capacity.insert(slot, left),
            None => estate.capacity.remove(&slot),
        };
    }

    /// Whether a zone offers a type at all; all do unless told otherwise.
    pub fn set_offered(&self, zone: &str, kind: &str, offered: bool) {
        let slot = (zone.to_owned(), kind.to_owned());
        let mut estate = self.estate.lock();
        if offered {
            estate.not_offered.remove(&slot);
        } else {
            estate.not_offered.insert(slot);
        }
    }

    /// The vCPUs that may run at once in a region; `None` for any number.
    pub fn set_vcpu_limit(&self, limit: Option<u32>) {
        self.estate.lock().vcpu_limit = limit;
    }

    /// The next launch is accepted and then fails: `pending`, then `terminated` with this reason.
    pub fn fail_next_launch(&self, reason: StateReason) {
        self.estate.lock().failing_launches.push_back(reason);
    }

    /// Answers `action` with this error code, `UnauthorizedOperation` say; `None` allows it again.
    pub fn deny(&self, action: &str, code: Option<&str>) {
        self.estate.lock().authority.set_action(action, code);
    }

    /// Answers whatever this access key signs with an error code, `AuthFailure` or `RequestExpired` say; `None`
    /// accepts it again.
    pub fn reject_key(&self, access_key: &str, code: Option<&str>) {
        self.estate.lock().authority.set_key(access_key, code);
    }

    /// Replaces the script of faults; it counts calls from now.
    pub fn set_faults(&self, faults: Faults) {
        self.estate.lock().faults = faults;
    }

    /// Changes how far reads may lag from now on.
    pub fn set_lag(&self, lag: Duration) {
        self.estate.lock().timings.lag = lag;
    }

    /// Changes the account: a subnet appears, an image is deregistered.
    pub fn change_account(&self, change: impl FnOnce(&mut Account)) {
        change(&mut self.estate.lock().account);
    }

    /// A moment as EC2 writes it.
    pub(crate) fn wall(&self, moment: Moment) -> String {
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        let ago = SignedDuration::try_from(elapsed.saturating_sub(moment)).unwrap_or_default();
        let at = now.checked_sub(ago).unwrap_or(now);
        at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
    }
}
