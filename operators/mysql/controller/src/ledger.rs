//! The ledger of launches: at most one entry per member, its last launch.
//!
//! It lives in the object's status, under the intent's field manager, and every change of it is conditional on the
//! object that it was planned from.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mysql_api::cluster::{Launch, LaunchData, LaunchPhase};

use crate::{identity::Identity, parameters::Frozen};

/// The launches of one cluster, in the order of their members.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger(Vec<Launch>);

impl Ledger {
    /// The ledger as it stands in the status.
    pub fn new(mut launches: Vec<Launch>) -> Self {
        launches.sort_by_key(|launch| launch.ordinal);
        Self(launches)
    }

    /// All entries.
    pub fn entries(&self) -> &[Launch] {
        &self.0
    }

    /// The last launch of a member.
    pub fn get(&self, ordinal: i32) -> Option<&Launch> {
        self.0.iter().find(|launch| launch.ordinal == ordinal)
    }

    /// Enters a launch in place of the member's last one. `now` is of the steady clock, with which its age is measured.
    pub fn decide(&mut self, identity: &Identity, frozen: &Frozen, failures: i32, now: Timestamp) {
        let params_hash = frozen.digest();
        let parameters = &frozen.parameters;
        let launch = Launch {
            ordinal: identity.ordinal,
            incarnation: identity.incarnation,
            token: identity.token(&parameters.subnet, &params_hash),
            subnet_id: parameters.subnet.clone(),
            params_hash,
            decided_at: Time(now),
            phase: LaunchPhase::Launching,
            revision: parameters.revision.clone(),
            data: Some(parameters.data()),
            adopted_from: None,
            failures,
            instance_id: None,
        };
        self.enter(launch);
    }

    /// Enters a launch in place of the member's last one, as it is: one that another cluster made.
    pub fn enter(&mut self, launch: Launch) {
        self.0.retain(|other| other.ordinal != launch.ordinal);
        self.0.push(launch);
        self.0.sort_by_key(|launch| launch.ordinal);
    }

    /// Enters the instance that came of a launch.
    pub fn record(&mut self, ordinal: i32, instance_id: &str) {
        self.change(ordinal, |launch| {
            launch.instance_id = Some(instance_id.to_owned());
            launch.phase = LaunchPhase::Launched;
        });
    }

    /// Enters what the data of a member were made with.
    pub fn know(&mut self, ordinal: i32, data: LaunchData) {
        self.change(ordinal, |launch| launch.data = Some(data));
    }

    /// The member's instance is to go.
    pub fn retire(&mut self, ordinal: i32) {
        self.change(ordinal, |launch| launch.phase = LaunchPhase::Retiring);
    }

    /// The member's launch is over; `failed` if it ended before it ran.
    pub fn conclude(&mut self, ordinal: i32, failed: bool) {
        self.change(ordinal, |launch| {
            launch.phase = LaunchPhase::Over;
            launch.failures = if failed {
                launch.failures.saturating_add(1)
            } else {
                0
            };
        });
    }

    fn change(&mut self, ordinal: i32, change: impl FnOnce(&mut Launch)) {
        if let Some(launch) = self.0.iter_mut().find(|launch| launch.ordinal == ordinal) {
            change(launch);
        }
    }
}
