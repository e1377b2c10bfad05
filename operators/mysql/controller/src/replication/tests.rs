use std::collections::BTreeMap;

use proptest::prelude::*;
use rstest::rstest;

mod acknowledging;
mod copying;
mod lag;
mod succession;

use super::*;
use crate::{gtid::GtidSet, server::Replication};

const SOURCE: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const OTHER: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

fn uuid(ordinal: i32) -> String {
    format!("{ordinal:08}-71ca-11e1-9e33-c80aa9429562")
}

/// A server as it boots.
fn fresh(ordinal: i32) -> Survey {
    Survey::fresh(uuid(ordinal))
}

fn goal(replicas: i32) -> Goal {
    Goal {
        replicas,
        durability: Durability::Lossless,
        successors: Vec::new(),
        adopted: BTreeSet::new(),
        absent: BTreeSet::new(),
        resting: BTreeSet::new(),
        led_lately: None,
        serving: BTreeSet::new(),
        led_at: None,
    }
}

fn member(ordinal: i32, survey: Option<Survey>) -> Member {
    let name = format!("c-{ordinal}");
    let address = Address {
        host: format!("10.0.{ordinal}.4"),
        name: name.clone(),
        certificate: "PEM".into(),
    };
    Member {
        ordinal,
        name,
        address: Some(address),
        trouble: survey.is_none().then(|| "no answer".into()),
        survey,
    }
}

/// Servers that do what they are told.
struct Fleet {
    servers: BTreeMap<i32, Survey>,
    topology: Option<Topology>,
    silent: BTreeSet<i32>,
    /// Servers whose instances are stopped.
    stopped: BTreeSet<i32>,
    /// Those that another cluster has launched.
    adopted: BTreeSet<i32>,
    /// Whom the leader is to give its place to.
    successors: Vec<i32>,
}

impl Fleet {
    fn new(count: i32) -> Self {
        Self {
            servers: (0..count).map(|n| (n, fresh(n))).collect(),
            topology: None,
            silent: BTreeSet::new(),
            stopped: BTreeSet::new(),
            adopted: BTreeSet::new(),
            successors: Vec::new(),
        }
    }

    fn members(&self) -> Vec<Member> {
        self.servers
            .iter()
            .filter(|(n, _)| !self.stopped.contains(n))
            .map(|(n, survey)| member(*n, (!self.silent.contains(n)).then(|| survey.clone())))
            .collect()
    }

    /// One pass; says what is lacking.
    fn pass(&mut self, replicas: i32) -> Option<Reason> {
        let goal = Goal {
            successors: self.successors.clone(),
            adopted: self.adopted.clone(),
            absent: self.stopped.clone(),
            serving: self.servers.keys().copied().collect(),
            ..goal(replicas)
        };
        let plan = plan(&goal, self.topology.as_ref(), &self.members());
        if let Some(topology) = plan.elect {
            assert!(
                self.topology.is_none() || self.successors.contains(&topology.primary),
                "a leader was chosen twice"
            );
            self.topology = Some(topology);
            self.successors.clear();
        }
        for (ordinal, change) in plan.changes {
            self.apply(ordinal, change);
        }
        self.connect();
        plan.lacking.map(|(reason, _)| reason)
    }

    fn apply(&mut self, ordinal: i32, change: Change) {
        let server = self.servers.get_mut(&ordinal).unwrap();
        match change {
            Change::CreateAccounts => {
                server.super_read_only = false;
                server.accounts = [REPLICATION, APPLICATION].map(str::to_owned).into();
                server.executed = format!("{}:1-6", server.uuid).parse().unwrap();
            }
            Change::Sync => server.syncs = true,
            Change::Acknowledge(how) => {
                let waited_for = server.acknowledgement.waited_for();
                assert!(
                    server.read_only || !how.enabled || how.replicas <= waited_for.max(server.acknowledging),
                    "commits begin to wait for replicas that are not there: {how:?}"
                );
                server.acknowledgement = how;
            }
            Change::Open => {
                assert!(
                    server.acknowledging >= server.acknowledgement.replicas
                        || !server.acknowledgement.enabled
                );
                (server.read_only, server.super_read_only) = (false, false);
            }
            Change::Close => (server.read_only, server.super_read_only) = (true, true),
            Change::Follow(source) => {
                assert!(server.syncs, "it acknowledges what is not on disk");
                keeps_what_it_received(server);
                server.acknowledges = true;
                server.replication = Some(Replication {
                    source: source.host,
                    receives: true,
                    connected: false,
                    applies: true,
                    received: GtidSet::default(),
                    error: String::new(),
                });
            }
            Change::Apply => {
                let replication = server.replication.as_mut().unwrap();
                replication.applies = true;
                server.executed = replication.received.clone();
            }
            Change::Detach => {
                let replication = server.replication.as_mut().unwrap();
                (replication.receives, replication.connected) = (false, false);
            }
            Change::Lead => {
                keeps_what_it_received(server);
                server.replication = None;
            }
            Change::Resemble(characters) => server.characters = characters,
            Change::Copy(donor) => self.copy(ordinal, &donor),
            Change::Resume(_) => {
                assert!(server.syncs, "it acknowledges what is not on disk");
                server.acknowledges = true;
                let replication = server.replication.as_mut().unwrap();
                (replication.receives, replication.applies) = (true, true);
            }
        }
        let open = self.servers.values().filter(|server| !server.read_only).count();
        assert!(open <= 1, "two servers take writes");
    }

    /// Whoever follows catches up.
    fn connect(&mut self) {
        let hosts: BTreeMap<String, i32> = self.servers.keys().map(|n| (format!("10.0.{n}.4"), *n)).collect();
        let sources: BTreeMap<i32, (GtidSet, BTreeSet<String>)> = self
            .servers
            .iter()
            .map(|(n, s)| (*n, (s.executed.clone(), s.accounts.clone())))
            .collect();
        let mut clients: BTreeMap<i32, u32> = BTreeMap::new();
        for (n, server) in &mut self.servers {
            if let Some(replication) = server
                .replication
                .as_mut()
                .filter(|replication| replication.receives)
            {
                let source = hosts[&replication.source];
                let answers = |n: &i32| !self.silent.contains(n) && !self.stopped.contains(n);
                replication.connected = answers(&source) && answers(n);
                // Of who has come in its source's place a replica gets nothing.
                let has_all = |(executed, _): &&(GtidSet, _)| server.executed.is_within(executed);
                if let Some(from) = Some(&sources[&source])
                    .filter(|_| replication.connected)
                    .filter(has_all)
                {
                    (replication.received, server.accounts) = from.clone();
                    if replication.applies {
                        server.executed = replication.received.clone();
                    }
                    *clients.entry(source).or_default() += 1;
                }
            }
        }
        for (n, server) in &mut self.servers {
            server.acknowledging = clients.get(n).copied().unwrap_or_default();
        }
    }

    /// A server restarts: what was set is forgotten, what was written stays.
    fn restart(&mut self, ordinal: i32) {
        let old = self.servers[&ordinal].clone();
        let mut new = Survey {
            executed: old.executed,
            accounts: old.accounts,
            ..fresh(ordinal)
        };
        new.replication = old.replication.map(|replication| Replication {
            receives: false,
            connected: false,
            applies: false,
            ..replication
        });
        self.servers.insert(ordinal, new);
        self.connect();
    }

    /// A person writes down another leader.
    fn record(&mut self, ordinal: i32) {
        self.topology = Some(Topology {
            primary: ordinal,
            server_uuid: uuid(ordinal),
        });
    }

    fn settle(&mut self, replicas: i32) -> Option<Reason> {
        for _ in 0..20 {
            self.pass(replicas)?;
        }
        self.pass(replicas)
    }
}

/// Its relay log is about to be thrown away.
fn keeps_what_it_received(server: &Survey) {
    let replication = server.replication.as_ref();
    assert!(
        replication.is_none_or(|replication| replication.received.is_within(&server.executed)),
        "what was acknowledged is thrown away: {server:?}"
    );
}

#[rstest]
fn fresh_servers_become_one_cluster_and_then_nothing_is_changed(#[values(1, 2, 3, 5, 9)] replicas: i32) {
    let mut fleet = Fleet::new(replicas);
    assert_eq!(fleet.settle(replicas), None);
    let last = plan(&goal(replicas), fleet.topology.as_ref(), &fleet.members());
    assert_eq!((last.changes, last.lacking), (Vec::new(), None));
    assert_eq!(last.standings[0], (0, Standing::Leads));
    assert!(
        last.standings[1..]
            .iter()
            .all(|(_, standing)| *standing == Standing::Follows)
    );
}

#[test]
fn nobody_is_chosen_before_everybody_is_there() {
    let mut fleet = Fleet::new(3);
    fleet.silent.insert(2);
    assert_eq!(fleet.settle(3), Some(Reason::Forming));
    assert_eq!(fleet.topology, None);
}

#[test]
fn data_without_a_record_of_a_leader_is_not_guessed_about() {
    let mut fleet = Fleet::new(3);
    fleet.servers.get_mut(&1).unwrap().executed = format!("{SOURCE}:1").parse().unwrap();
    assert_eq!(fleet.settle(3), Some(Reason::Ambiguous));
    assert_eq!(fleet.topology, None);
}

#[test]
fn an_empty_server_in_the_leaders_place_does_not_lead() {
    let mut fleet = Fleet::new(3);
    assert_eq!(fleet.settle(3), None);
    fleet.servers.insert(
        0,
        Survey {
            uuid: OTHER.into(),
            ..fresh(0)
        },
    );
    assert_eq!(fleet.settle(3), Some(Reason::PrimaryLost));
    assert!(fleet.servers.values().all(|server| server.read_only));
    assert!(fleet.servers[&0].accounts.is_empty(), "nothing was written to it");
}

#[test]
fn a_replaced_replica_follows_and_catches_up() {
    let mut fleet = Fleet::new(3);
    assert_eq!(fleet.settle(3), None);
    fleet.servers.insert(
        2,
        Survey {
            uuid: OTHER.into(),
            ..fresh(2)
        },
    );
    fleet.connect();
    assert_eq!(fleet.settle(3), None);
    assert_eq!(fleet.servers[&2].executed, fleet.servers[&0].executed);
}

#[test]
fn a_replica_with_foreign_transactions_is_left_alone() {
    let mut fleet = Fleet::new(3);
    assert_eq!(fleet.settle(3), None);
    let strange = Survey {
        executed: format!("{OTHER}:1-3").parse().unwrap(),
        ..fresh(2)
    };
    fleet.servers.insert(2, strange);
    fleet.connect();
    assert_eq!(fleet.settle(3), Some(Reason::Diverged));
    assert_eq!(fleet.servers[&2].replication, None);
}

#[test]
fn a_replica_with_data_that_lacks_what_was_purged_is_left_alone() {
    let mut fleet = Fleet::new(2);
    assert_eq!(fleet.settle(2), None);
    let leader = fleet.servers.get_mut(&0).unwrap();
    leader.purged = leader.executed.clone();
    let behind = Survey {
        executed: format!("{}:1", uuid(0)).parse().unwrap(),
        ..fresh(1)
    };
    fleet.servers.insert(1, behind);
    fleet.connect();
    assert_eq!(fleet.settle(2), Some(Reason::Diverged));
    assert_eq!(fleet.servers[&1].replication, None);
}

#[test]
fn a_replica_stopped_by_an_error_is_reported_and_not_pushed() {
    let mut fleet = Fleet::new(3);
    assert_eq!(fleet.settle(3), None);
    let broken = fleet.servers.get_mut(&1).unwrap().replication.as_mut().unwrap();
    (broken.applies, broken.error) = (false, "applying fails with MySQL error 1062".into());
    let plan = plan(&goal(3), fleet.topology.as_ref(), &fleet.members());
    assert_eq!(plan.lacking.unwrap().0, Reason::ReplicationBroken);
    assert!(plan.changes.is_empty());
}

#[test]
fn a_member_that_takes_writes_without_leading_is_closed() {
    let mut fleet = Fleet::new(3);
    assert_eq!(fleet.settle(3), None);
    fleet.servers.get_mut(&2).unwrap().super_read_only = false;
    fleet.pass(3);
    assert!(fleet.servers[&2].super_read_only);
}

proptest! {
    /// Restarts and silences at any time: never two that take writes, never another leader, and all is well in the end.
    #[test]
    fn whatever_restarts_one_leads_and_the_rest_follows(events in prop::collection::vec((0i32..3, 0u8..4), 0..40)) {
        let mut fleet = Fleet::new(3);
        for (ordinal, event) in events {
            match event {
                0 => fleet.restart(ordinal),
                1 => { fleet.silent.insert(ordinal); }
                2 => { fleet.silent.remove(&ordinal); }
                _ => {}
            }
            fleet.connect();
            fleet.pass(3);
        }
        fleet.silent.clear();
        fleet.connect();
        prop_assert_eq!(fleet.settle(3), None);
        let leader = fleet.topology.clone().unwrap();
        prop_assert_eq!(leader, Topology { primary: 0, server_uuid: uuid(0) });
    }
}
