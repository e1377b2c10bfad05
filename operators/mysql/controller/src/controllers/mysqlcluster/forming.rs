//! Makes one replicated MySQL of instances that run: pins certificates, looks at servers, changes them, and tells
//! clients where they are.

mod goal;
mod publishing;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures::future::join_all;
use mysql_api::{
    MySQLCluster, Reason,
    cluster::{Launch, LaunchPhase, Role, Topology},
};
use parking_lot::Mutex;
use reconcile::{Pass, apply::ApplyError};
use serde_json::json;

use super::ClusterError;
use crate::{
    act::Operator,
    authority::Authority,
    bootstrap::tls_name,
    certificate::{self, Complaint},
    cloud::{Instance, InstanceState, Instances},
    desired::{Desired, Group},
    evidence::{Evidence, NoCertificate},
    identity::member_name,
    ledger::Ledger,
    plan::Seen,
    replication::{self, Member, Standing},
    server::{Address, Change, Servers, Survey},
};

/// Who is asked for so long, in real time, and does not answer, twice, is not asked again for a while.
const IN_VAIN: Duration = Duration::from_secs(1);

/// What came of it, for the report.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an observation of its own")]
pub struct Formed {
    /// Certificates that are known, by member.
    pub certificates: BTreeMap<i32, String>,
    /// What members do.
    pub standings: BTreeMap<i32, Standing>,
    /// Why the cluster does not serve in full.
    pub lacking: Option<(Reason, String)>,
    /// Whether clients can be told where to connect.
    pub bound: bool,
    /// Whether something was changed, so that another look is due.
    pub changed: bool,
    /// Whether every replica has now what the leader had at the last look.
    pub caught_up: bool,
    /// Whether no server that answers has any data.
    pub blank: bool,
    /// The members whose servers have none, follow nobody and are not becoming copies.
    pub empty: BTreeSet<i32>,
    /// How many replicas acknowledge to the leader, if it answered.
    pub acknowledging: Option<u32>,
    /// The leader that clients are still sent to although it did not answer: nothing shows that it does not lead.
    pub kept: Option<i32>,
}

/// One pass over the servers of a cluster.
pub(super) struct Forming<'a, I, S> {
    pub(super) pass: &'a Pass<MySQLCluster>,
    pub(super) operator: &'a Operator<I>,
    pub(super) servers: &'a S,
    pub(super) group: &'a Group,
    /// The whole spec, where it can be carried out and EC2 shows the instances as they are. If not, the one that leads keeps
    /// its place.
    pub(super) desired: Option<&'a Desired>,
    pub(super) authority: &'a Authority,
    pub(super) evidence: &'a Mutex<Evidence>,
    /// Members whose mysqld refuses its options, and what it says.
    pub(super) refusals: Mutex<BTreeMap<String, String>>,
}

impl<I: Instances, S: Servers> Forming<'_, I, S> {
    pub(super) async fn run(&self, ledger: &Ledger, seen: &Seen) -> Result<Formed, ClusterError> {
        let instances = self.instances(ledger, seen);
        let members = join_all(
            instances
                .iter()
                .map(|&(ordinal, instance)| self.look(ordinal, instance, ledger)),
        )
        .await;
        let mut topology = self.topology();
        let mut goal = self.goal(topology.as_ref(), ledger, &members);
        let mut plan = replication::plan(&goal, topology.as_ref(), &members);
        if let Some(elected) = plan.elect.take() {
            self.record(&elected).await?;
            goal.successors.clear();
            plan = replication::plan(&goal, Some(&elected), &members);
            topology = Some(elected);
        }
        let trouble = self.carry_out(&plan.changes, &members).await?;
        let mut formed = Formed {
            certificates: BTreeMap::new(),
            standings: plan.standings.iter().copied().collect(),
            lacking: trouble.map(|trouble| (Reason::Forming, trouble)).or(plan.lacking),
            bound: false,
            changed: !plan.changes.is_empty(),
            blank: is_blank(&members),
            empty: empty(&members),
            acknowledging: topology.as_ref().and_then(|topology| {
                let leader = members.iter().find(|member| member.ordinal == topology.primary)?;
                Some(leader.survey.as_ref()?.acknowledging)
            }),
            kept: topology
                .as_ref()
                .and_then(|topology| self.kept(topology.primary, &members, &instances)),
            caught_up: topology.is_some_and(|topology| self.caught_up(topology.primary, &members)),
        };
        formed.lacking = self.refusal().or(formed.lacking);
        for member in &members {
            if let Some(address) = &member.address {
                formed
                    .certificates
                    .insert(member.ordinal, address.certificate.clone());
            }
        }
        match self.publish(&formed, &instances, &members).await {
            Ok(trouble) => {
                formed.bound = true;
                formed.lacking = trouble.or(formed.lacking);
            }
            Err(error @ ApplyError::NameConflict { .. }) => {
                formed.lacking = Some((Reason::NameConflict, error.to_string()));
            }
            Err(ApplyError::Api(error)) => return Err(error.into()),
        }
        Ok(formed)
    }

    /// The leader, if it did not answer and is where clients were last told to write. A look that failed shows nothing:
    /// only that its instance does not run any more, that its server is closed or another one, or that another leads,
    /// takes it away from them.
    fn kept(&self, leader: i32, members: &[Member], instances: &[(i32, &Instance)]) -> Option<i32> {
        let silent = |member: &&Member| member.ordinal == leader && member.survey.is_none();
        members.iter().find(silent)?;
        let (_, instance) = instances.iter().find(|(ordinal, _)| *ordinal == leader)?;
        let current = self.pass.current();
        let mut last = current.status.iter().flat_map(|status| &status.members);
        let written_to = last.any(|member| {
            member.instance_id.as_deref() == Some(&instance.id) && member.role == Some(Role::Primary)
        });
        written_to.then_some(leader)
    }

    /// Whether every member has now what the leader had at the last look: while there are writes, nobody ever has what
    /// it has at this moment.
    fn caught_up(&self, leader: i32, members: &[Member]) -> bool {
        let surveys = || members.iter().filter_map(|member| member.survey.as_ref());
        let leading = members.iter().find(|member| member.ordinal == leader);
        let Some(survey) = leading.and_then(|leader| leader.survey.as_ref()) else {
            return false;
        };
        let before = self.evidence.lock().leads_with(survey.executed.clone());
        before.is_some_and(|before| surveys().all(|survey| before.is_within(&survey.executed)))
    }

    /// What a member's mysqld says against its options: that is more than that it does not answer.
    fn refusal(&self) -> Option<(Reason, String)> {
        let refusals = self.refusals.lock();
        let (member, refusal) = refusals.first_key_value()?;
        let message = format!("mySQLOptions: mysqld on {member} refuses them: {refusal}; correct them");
        Some((Reason::OptionsInvalid, message))
    }

    /// The instances that run, by member.
    fn instances<'b>(&self, ledger: &'b Ledger, seen: &'b Seen) -> Vec<(i32, &'b Instance)> {
        // The leader is one for as long as it leads, also when it is to be removed.
        let leader = self.topology().map(|topology| topology.primary);
        let wanted = |entry: &&Launch| {
            // Until one leads, any that was adopted may be the one that led, or have what no other has.
            let may_lead = leader.is_none() && entry.adopted_from.is_some();
            let is_member = (0..self.group.replicas).contains(&entry.ordinal);
            entry.phase == LaunchPhase::Launched && (is_member || may_lead || leader == Some(entry.ordinal))
        };
        let launched = ledger.entries().iter().filter(wanted);
        let running = launched.filter_map(|entry| {
            let id = entry.instance_id.as_deref()?;
            let instance = seen.instance(id)?;
            (instance.state == InstanceState::Running).then_some((entry.ordinal, instance))
        });
        running.collect()
    }

    fn topology(&self) -> Option<Topology> {
        super::topology(&self.pass.current())
    }

    /// Looks at one member: its certificate, then its server.
    async fn look(&self, ordinal: i32, instance: &Instance, ledger: &Ledger) -> Member {
        let mut member = Member {
            ordinal,
            name: member_name(&self.group.name, ordinal),
            address: None,
            survey: None,
            trouble: None,
        };
        let Some(host) = instance.private_ip.clone() else {
            member.trouble = Some("its instance has no address".into());
            return member;
        };
        let certificate = match self.certificate(&member.name, instance).await {
            Ok(certificate) => certificate,
            Err(trouble) => {
                member.trouble = Some(trouble);
                return member;
            }
        };
        let adopted = ledger
            .get(ordinal)
            .and_then(|entry| entry.adopted_from.as_deref());
        let uid = adopted.unwrap_or(&self.group.uid);
        let address = Address {
            host,
            name: tls_name(uid, ordinal),
            certificate,
        };
        match self.survey(ordinal, &address).await {
            Ok(survey) => member.survey = Some(survey),
            Err(trouble) => member.trouble = Some(trouble),
        }
        member.address = Some(address);
        member
    }

    /// Looks at a server. One that was waited for in vain lately is not waited for once more, unless it is the leader, or
    /// nobody leads yet: a zone that is gone would keep everybody waiting with each pass over each cluster.
    async fn survey(&self, ordinal: i32, address: &Address) -> Result<Survey, String> {
        let is_replica = self
            .topology()
            .is_some_and(|topology| topology.primary != ordinal);
        let server = &address.certificate;
        let clock = self.pass.clock();
        if is_replica && let Some(trouble) = self.evidence.lock().silence(server, clock.steady()) {
            return Err(trouble.to_owned());
        }
        let began = Instant::now();
        let surveyed = self.servers.survey(self.authority, address).await;
        if surveyed.is_ok() {
            self.evidence.lock().heard(server);
        }
        surveyed.map_err(|error| {
            if began.elapsed() >= IN_VAIN {
                let trouble = error.message.clone();
                self.evidence.lock().silent(server, trouble, clock.steady());
            }
            error.message
        })
    }

    /// The certificate that is pinned for an instance, else the one that it has printed.
    async fn certificate(&self, member: &str, instance: &Instance) -> Result<String, String> {
        let current = self.pass.current();
        let pinned = current.status.as_ref().and_then(|status| {
            let of = status
                .members
                .iter()
                .find(|member| member.instance_id.as_deref() == Some(&instance.id))?;
            of.certificate.clone()
        });
        if let Some(pinned) = pinned {
            return Ok(pinned);
        }
        let now = self.pass.clock().steady();
        let known = self.evidence.lock().console(&instance.id, now).cloned();
        let shown = match known {
            Some(known) => known,
            None => match self.read_console(member, instance).await {
                Ok(certificate) => return Ok(certificate),
                Err(shown) => {
                    self.evidence
                        .lock()
                        .console_read(&instance.id, shown.clone(), now);
                    shown
                }
            },
        };
        if let Some(refusal) = shown.refusal {
            self.refusals.lock().insert(member.to_owned(), refusal);
        }
        Err(shown.trouble)
    }

    /// The certificate that an instance has printed.
    async fn read_console(&self, member: &str, instance: &Instance) -> Result<String, NoCertificate> {
        let region = &self.group.region;
        let console = self.operator.cloud.console(region, &instance.id).await;
        let none = |trouble: String| NoCertificate {
            trouble,
            refusal: None,
            is_final: false,
        };
        let console = console
            .map_err(|error| none(error.to_string()))?
            .unwrap_or_default();
        certificate::on_console(&console, member).ok_or_else(|| match certificate::complaint(&console) {
            Some(Complaint::Options(refusal)) => NoCertificate {
                refusal: Some(refusal.clone()),
                is_final: true,
                ..none(format!("mysqld refuses its options: {refusal}"))
            },
            Some(Complaint::Setup(complaint)) => NoCertificate {
                is_final: true,
                ..none(format!("its setup has ended: {complaint}"))
            },
            None => none("its console shows no certificate yet".to_owned()),
        })
    }

    /// Records who leads, before anything follows from it.
    async fn record(&self, topology: &Topology) -> Result<(), ClusterError> {
        let current = self.pass.current();
        let launches = current
            .status
            .as_ref()
            .map(|status| status.launches.clone())
            .unwrap_or_default();
        let intent = json!({ "launches": launches, "topology": topology });
        self.pass.write_intent(&intent).await.map_err(Into::into)
    }

    /// Makes changes in order. The first trouble with a member ends its changes and is returned; others go on.
    async fn carry_out(
        &self,
        changes: &[(i32, Change)],
        members: &[Member],
    ) -> Result<Option<String>, ClusterError> {
        let mut trouble: BTreeMap<i32, String> = BTreeMap::new();
        for (ordinal, change) in changes {
            let member = members.iter().find(|member| member.ordinal == *ordinal);
            let Some(address) = member.and_then(|member| member.address.as_ref()) else {
                continue;
            };
            if trouble.contains_key(ordinal) {
                continue;
            }
            self.pass.fence().check()?;
            if matches!(change, Change::Copy(_)) {
                let now = self.pass.clock().steady();
                self.evidence.lock().copies(*ordinal, &address.certificate, now);
            }
            if let Err(error) = self.servers.change(self.authority, address, change).await {
                let name = member_name(&self.group.name, *ordinal);
                trouble.insert(*ordinal, format!("{name}: {}", error.message));
            }
        }
        Ok(trouble.into_values().next())
    }
}

fn empty(members: &[Member]) -> BTreeSet<i32> {
    let is_empty =
        |survey: &Survey| survey.executed.is_empty() && survey.replication.is_none() && !survey.copying;
    let empty = members
        .iter()
        .filter(|member| member.survey.as_ref().is_some_and(is_empty));
    empty.map(|member| member.ordinal).collect()
}

fn is_blank(members: &[Member]) -> bool {
    let mut surveys = members.iter().filter_map(|member| member.survey.as_ref());
    surveys.all(|survey| survey.executed.is_empty())
}
