//! What is remembered between passes about one cluster. All of it can be lost without harm: it only makes the operator
//! wait longer or ask once more.
//!
//! # Assumptions
//! - Every moment that it is given is of [`reconcile::clock::Clock::steady`], but for [`Evidence::sighted`], which people read:
//!   a step of the wall clock would end the wait for what EC2 has yet to show.

mod consoles;
mod copies;
mod doubts;
mod holds;
mod marks;
mod silence;
mod starts;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

pub use self::{consoles::NoCertificate, holds::Hold, marks::LAG};
use crate::{
    cloud::{Instance, InstanceState},
    gtid::GtidSet,
};

/// An instance may be invisible for so long after its launch: AWS asks clients to allow for up to five minutes.
pub const PROPAGATION: SignedDuration = SignedDuration::from_mins(5);
/// Two looks count as two only with this much time between them.
const BETWEEN_MISSES: SignedDuration = SignedDuration::from_secs(30);
/// How long a subnet counts as without capacity for an instance type.
const EXHAUSTION: SignedDuration = SignedDuration::from_mins(3);
/// How long it is believed that nobody has changed what clients are told, where a watch would have shown it.
const PUBLICATION: SignedDuration = SignedDuration::from_hours(1);
/// How long it is believed of Secrets, which are not watched.
const SECRETS: SignedDuration = SignedDuration::from_mins(5);

/// What is known about an instance whose id is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// It is there.
    Seen {
        /// Its state.
        state: InstanceState,
        /// Why, if something brought the state about.
        reason: Option<String>,
    },
    /// It is there and runs or may run, without the tags by which listings would show it.
    Unmarked,
    /// It is not shown, which proves nothing yet.
    Missing,
    /// It is proven not to exist.
    Gone,
}

impl Sighting {
    /// What a listing shows of an instance.
    pub fn of(instance: &Instance) -> Self {
        Self::Seen {
            state: instance.state,
            reason: instance.reason.clone(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Misses {
    first: Timestamp,
    last: Timestamp,
}

/// What is remembered about one cluster.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    misses: HashMap<String, Misses>,
    last: HashMap<String, Instance>,
    exhausted: BTreeMap<(String, String), Timestamp>,
    holds: BTreeMap<i32, Hold>,
    leaving_since: Option<Timestamp>,
    clearing_since: Option<Timestamp>,
    entombed: BTreeSet<String>,
    withdrawn: BTreeSet<String>,
    led: Option<GtidSet>,
    published: Option<(u64, Timestamp)>,
    secrets: Option<Timestamp>,
    due: Option<Timestamp>,
    /// Until when all is as it is to be, as far as nobody changes it.
    settled: Option<Timestamp>,
    sighted: Option<Timestamp>,
    /// Why EC2 is not believed that something is gone.
    account: Option<String>,
    tagged: BTreeMap<String, (BTreeMap<String, String>, Timestamp)>,
    untagged: Option<(String, Timestamp)>,
    /// Tokens of launches of which every attempt was refused.
    refused: BTreeMap<i32, String>,
    /// Tokens of launches that were refused after an attempt of which nobody knows what came, and when that was.
    doubts: BTreeMap<i32, (String, Timestamp)>,
    copies: BTreeMap<i32, copies::Copies>,
    consoles: HashMap<String, consoles::Console>,
    marks: marks::Marks,
    starts: HashMap<String, starts::Starts>,
    /// What was told that nothing is done about.
    told: Option<String>,
    /// By certificate.
    silent: HashMap<String, silence::Silence>,
}

impl Evidence {
    /// Since when the cluster is known to be leaving: the moment of the first pass of its deletion. The API server's
    /// time of deletion is another clock's.
    pub fn leaving(&mut self, now: Timestamp) -> Timestamp {
        if self.leaving_since.is_none() {
            // What a launch was held for says nothing about a termination.
            self.holds.clear();
        }
        *self.leaving_since.get_or_insert(now)
    }

    /// Since when it is known that no instance is left, and looked whether something else is.
    pub fn clearing(&mut self, now: Timestamp) -> Timestamp {
        *self.clearing_since.get_or_insert(now)
    }

    /// What the cluster had made under this name is not there any more.
    pub fn withdraw(&mut self, object: String) {
        self.withdrawn.insert(object);
    }

    /// Whether that is so. A cluster that is being deleted makes nothing any more.
    pub fn is_withdrawn(&self, object: &str) -> bool {
        self.withdrawn.contains(object)
    }

    /// The instance got its tombstone.
    pub fn entomb(&mut self, id: &str) {
        self.entombed.insert(id.to_owned());
    }

    /// Whether the instance got its tombstone from this process. A listing may not show it yet.
    pub fn is_entombed(&self, id: &str) -> bool {
        self.entombed.contains(id)
    }

    /// The leader has these transactions now; returns those that it had at the last look, if there was one.
    pub fn leads_with(&mut self, executed: GtidSet) -> Option<GtidSet> {
        self.led.replace(executed)
    }

    /// What clients are told was brought to the state of this digest.
    pub fn published(&mut self, digest: u64, now: Timestamp) {
        self.published = Some((digest, now));
    }

    /// Whether it was lately, so that it need not be looked at again.
    pub fn is_published(&self, digest: u64, now: Timestamp) -> bool {
        self.published
            .is_some_and(|(last, at)| last == digest && now.duration_since(at) < PUBLICATION)
    }

    /// The Secrets were found as they are to be, or brought there.
    pub fn saw_secrets(&mut self, now: Timestamp) {
        self.secrets = Some(now);
    }

    /// Whether they were lately, so that they need not be looked at again.
    pub fn knows_secrets(&self, now: Timestamp) -> bool {
        self.secrets.is_some_and(|at| now.duration_since(at) < SECRETS)
    }

    /// When the next pass was asked for.
    pub fn expect(&mut self, at: Timestamp) {
        self.due = Some(at);
    }

    /// A pass begins. One that comes before it was asked for has a cause, as one has of which that is known: somebody may have
    /// changed what clients are told.
    pub fn begin(&mut self, caused: bool, now: Timestamp) {
        if caused || self.due.is_some_and(|due| now < due) {
            self.published = None;
        }
    }

    /// All is as it is to be, and is looked at again then; none if it is not.
    pub fn settle_until(&mut self, until: Option<Timestamp>) {
        self.settled = until;
    }

    /// Until when all of it need not be looked at, in a pass that comes as it was asked for and has no other cause.
    pub fn settled_until(&self, caused: bool, now: Timestamp) -> Option<Timestamp> {
        let is_expected = !caused && self.due.is_some_and(|due| now >= due);
        self.settled.filter(|until| is_expected && now < *until)
    }

    /// EC2 showed the cluster's instances, as they were then.
    pub fn sighted(&mut self, at: Timestamp) {
        self.sighted = Some(at);
    }

    /// When EC2 showed them last; where that is not known, when they were first looked for in vain.
    pub fn sighted_last(&mut self, now: Timestamp) -> Timestamp {
        *self.sighted.get_or_insert(now)
    }

    /// EC2 is not believed that an instance is gone, and why: it may be the EC2 of another account.
    pub fn doubt_account(&mut self, why: String) {
        self.account = Some(why);
    }

    /// EC2 is about to be looked at anew.
    pub fn trust_account(&mut self) {
        self.account = None;
    }

    /// Why EC2 was not believed at the last look that an instance is gone.
    pub fn account_doubt(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// An instance was given these tags. A listing may not show them yet.
    pub fn tagged(&mut self, id: &str, tags: BTreeMap<String, String>, now: Timestamp) {
        self.untagged = None;
        self.tagged.insert(id.to_owned(), (tags, now));
    }

    /// Whether it was given these tags so lately that listings may not show them.
    pub fn is_tagged(&self, id: &str, tags: &BTreeMap<String, String>, now: Timestamp) -> bool {
        self.tagged
            .get(id)
            .is_some_and(|(given, at)| given == tags && now.duration_since(*at) < PROPAGATION)
    }

    /// The cloud refused to give tags, and why.
    pub fn refuse_tags(&mut self, message: String, now: Timestamp) {
        self.untagged = Some((message, now));
    }

    /// Why the cloud lately refused to give tags, if it did: until then they are not tried again.
    pub fn tags_refused(&self, now: Timestamp) -> Option<&str> {
        let (message, at) = self.untagged.as_ref()?;
        (now.duration_since(*at) < PROPAGATION).then_some(message.as_str())
    }

    /// Why the cloud refused to give tags, if that was its last word.
    pub fn tag_refusal(&self) -> Option<&str> {
        self.untagged.as_ref().map(|(message, _)| message.as_str())
    }

    /// Whether this was not told last, which it is now.
    pub fn tells(&mut self, note: &str) -> bool {
        let is_new = self.told.as_deref() != Some(note);
        self.told = Some(note.to_owned());
        is_new
    }

    /// An instance was shown.
    pub fn seen(&mut self, instance: &Instance) {
        self.misses.remove(&instance.id);
        if instance.is_live() {
            self.last.insert(instance.id.clone(), instance.clone());
        } else {
            self.last.remove(&instance.id);
        }
    }

    /// An instance as it was when it was shown last, if it was not on its way out.
    pub fn last(&self, id: &str) -> Option<&Instance> {
        self.last.get(id)
    }

    /// An instance was not shown by a look at `now`.
    pub fn missed(&mut self, id: &str, now: Timestamp) {
        let misses = self.misses.entry(id.to_owned()).or_insert(Misses {
            first: now,
            last: now,
        });
        misses.last = now;
    }

    /// Whether an instance was not shown by two looks, so that it is asked for by its id.
    pub fn is_missing(&self, id: &str) -> bool {
        self.misses
            .get(id)
            .is_some_and(|misses| misses.last.duration_since(misses.first) >= BETWEEN_MISSES)
    }

    /// Whether EC2 is to be believed that an instance does not exist. Its id has been known since the first look that did
    /// not show it, and so it was launched before; when it was decided to launch it says nothing about that, for a launch
    /// may be repeated for hours until it is made.
    pub fn is_long_missing(&self, id: &str, now: Timestamp) -> bool {
        self.misses
            .get(id)
            .is_some_and(|misses| now.duration_since(misses.first) > PROPAGATION)
    }

    /// A subnet has no room for an instance type.
    pub fn exhaust(&mut self, instance_type: &str, subnet: &str, now: Timestamp) {
        let until = now.checked_add(EXHAUSTION).unwrap_or(now);
        self.exhausted
            .insert((instance_type.to_owned(), subnet.to_owned()), until);
    }

    /// Whether a subnet had no room for an instance type lately.
    pub fn is_exhausted(&self, instance_type: &str, subnet: &str, now: Timestamp) -> bool {
        self.exhausted
            .get(&(instance_type.to_owned(), subnet.to_owned()))
            .is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_are_told_is_looked_at_when_a_pass_comes_that_nobody_asked_for() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let mut evidence = Evidence::default();
        evidence.published(7, at(0));
        evidence.expect(at(60));
        evidence.begin(false, at(60));
        assert!(evidence.is_published(7, at(60)), "as it was asked for");
        assert!(!evidence.is_published(8, at(60)), "something else is to be told");
        evidence.begin(true, at(60));
        assert!(!evidence.is_published(7, at(60)), "something has caused it");
        evidence.published(7, at(0));
        evidence.begin(false, at(59));
        assert!(!evidence.is_published(7, at(59)), "nobody has asked for it");
        evidence.published(7, at(60));
        assert!(
            !evidence.is_published(7, at(3660)),
            "and now and then all the same"
        );
        evidence.saw_secrets(at(60));
        assert!(evidence.knows_secrets(at(359)) && !evidence.knows_secrets(at(360)));
    }

    #[test]
    fn what_has_settled_is_looked_at_whole_when_that_is_due_or_something_has_caused_it() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let mut evidence = Evidence::default();
        evidence.expect(at(10));
        assert_eq!(evidence.settled_until(false, at(10)), None, "nothing is known");
        evidence.settle_until(Some(at(60)));
        assert_eq!(evidence.settled_until(false, at(10)), Some(at(60)));
        assert_eq!(
            evidence.settled_until(false, at(9)),
            None,
            "it comes before it was asked for"
        );
        assert_eq!(
            evidence.settled_until(true, at(10)),
            None,
            "something has happened besides"
        );
        assert_eq!(evidence.settled_until(false, at(60)), None);
        evidence.settle_until(None);
        assert_eq!(evidence.settled_until(false, at(10)), None);
    }

    #[test]
    fn absence_is_believed_only_five_minutes_after_the_id_was_known() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let shown = Instance {
            id: "i-1".into(),
            state: InstanceState::Running,
            reason: None,
            tags: BTreeMap::new(),
            client_token: None,
            zone: None,
            private_ip: None,
            subnet: None,
            launched_at: None,
        };
        let mut evidence = Evidence::default();
        evidence.missed("i-1", at(0));
        assert!(!evidence.is_missing("i-1"), "one look is none");
        evidence.missed("i-1", at(30));
        assert!(evidence.is_missing("i-1"), "it is asked for");
        assert!(
            !evidence.is_long_missing("i-1", at(300)),
            "and may still be younger than EC2 knows"
        );
        assert!(evidence.is_long_missing("i-1", at(301)));
        evidence.seen(&shown);
        assert!(!evidence.is_long_missing("i-1", at(301)));
    }
}
