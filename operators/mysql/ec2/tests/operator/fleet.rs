//! MySQL servers as far as the operator can tell: what runs on the instances of a simulated EC2, and what they print.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use fake_ec2::{InstanceView, State, World};
use mysql_controller::{
    authority::{APPLICATION, Authority, REPLICATION},
    gtid::GtidSet,
    identity::ORDINAL,
    server::{Address, Change, Replication, ServerError, Servers, Survey},
};
use parking_lot::Mutex;

/// How often new instances are looked for, in real time.
const BEAT: Duration = Duration::from_millis(20);

/// The servers of an account. Clones are the same.
#[derive(Clone)]
pub(crate) struct Fleet {
    world: World,
    /// By address: the instance that the server is on, and the server.
    servers: Arc<Mutex<BTreeMap<String, (String, Survey)>>>,
    /// Instances whose servers answer nobody.
    silent: Arc<Mutex<BTreeSet<String>>>,
    /// Whether no server becomes a copy, and how many were told to.
    copies: Arc<Mutex<(bool, usize)>>,
    /// How often each server was looked at, by its identity.
    looks: Arc<Mutex<BTreeMap<String, usize>>>,
    /// Whether no machine prints anything.
    mute: Arc<AtomicBool>,
    /// What servers that boot from now on are built for.
    platform: Arc<Mutex<&'static str>>,
    _printing: Arc<Printing>,
}

/// Fills consoles until it is dropped.
struct Printing(tokio::task::JoinHandle<()>);

impl Drop for Printing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Fleet {
    /// Servers on the instances of `world`; their consoles are filled as long as it exists.
    pub(crate) fn new(world: &World) -> Self {
        let account = world.clone();
        let mute = Arc::<AtomicBool>::default();
        let is_mute = mute.clone();
        let printing = tokio::spawn(async move {
            loop {
                for instance in account.instances() {
                    let tag = |key: &str| instance.tags.get(key).cloned().unwrap_or_default();
                    let member = format!("{}-{}", tag("Name").trim_start_matches("mysql-"), tag(ORDINAL));
                    if instance.state == State::Running && !is_mute.load(Ordering::Relaxed) {
                        let text = complaint(&instance).unwrap_or_else(|| console(&member, &instance.id));
                        account.set_console(&instance.id, &text);
                    }
                }
                tokio::time::sleep(BEAT).await;
            }
        });
        Self {
            world: world.clone(),
            servers: Arc::default(),
            silent: Arc::default(),
            copies: Arc::default(),
            looks: Arc::default(),
            mute,
            platform: Arc::new(Mutex::new("Linux x86_64")),
            _printing: Arc::new(Printing(printing)),
        }
    }

    /// Somebody writes so many transactions to the server of an instance.
    pub(crate) fn write(&self, instance: &str, transactions: u64) {
        let mut servers = self.servers.lock();
        let found = servers.values_mut().find(|(id, _)| id == instance);
        let (_, server) = found.unwrap();
        assert!(!server.read_only, "it takes no writes");
        server.executed = format!("{}:1-{transactions}", server.uuid).parse().unwrap();
    }

    /// The server of an instance cannot give its transactions to others any more.
    pub(crate) fn purge(&self, instance: &str) {
        let mut servers = self.servers.lock();
        let found = servers.values_mut().find(|(id, _)| id == instance);
        let (_, server) = found.unwrap();
        server.purged = server.executed.clone();
    }

    /// What servers that boot from now on are built for.
    pub(crate) fn build_for(&self, platform: &'static str) {
        *self.platform.lock() = platform;
    }

    /// From now on machines print nothing, like those of an image without MySQL.
    pub(crate) fn mute(&self) {
        self.mute.store(true, Ordering::Relaxed);
    }

    /// Whether every server that is told to become a copy fails from now on.
    pub(crate) fn refuse_copies(&self, refuse: bool) {
        self.copies.lock().0 = refuse;
    }

    /// How many times a server was told to become a copy.
    pub(crate) fn copies(&self) -> usize {
        self.copies.lock().1
    }

    /// Whether the server of an instance answers nobody from now on.
    pub(crate) fn silence(&self, instance: &str, silent: bool) {
        let mut all = self.silent.lock();
        if silent {
            all.insert(instance.to_owned());
        } else {
            all.remove(instance);
        }
    }

    /// The server of an instance is started anew: it takes no writes, and follows nobody until it is told to.
    pub(crate) fn reboot(&self, instance: &str) {
        let mut servers = self.servers.lock();
        let found = servers.values_mut().find(|(id, _)| id == instance);
        let (_, server) = found.unwrap();
        (server.read_only, server.super_read_only) = (true, true);
        (server.acknowledges, server.syncs, server.acknowledgement.enabled) = (false, false, false);
        if let Some(replication) = &mut server.replication {
            (replication.receives, replication.applies) = (false, false);
        }
    }

    /// The server of an instance is started anew when it has received so many transactions of this one, and has not applied
    /// the last of them.
    pub(crate) fn reboot_behind(&self, instance: &str, of: &str, transactions: u64) {
        self.reboot(instance);
        let mut servers = self.servers.lock();
        let found = servers.values_mut().find(|(id, _)| id == instance);
        let replication = found.and_then(|(_, server)| server.replication.as_mut());
        replication.unwrap().received = format!("{of}:1-{transactions}").parse().unwrap();
    }

    /// The identity of the server of an instance.
    pub(crate) fn uuid(&self, instance: &str) -> String {
        let servers = self.servers.lock();
        let (_, server) = servers.values().find(|(id, _)| id == instance).unwrap();
        server.uuid.clone()
    }

    /// How often the server of an instance was looked at.
    pub(crate) fn looks(&self, instance: &str) -> usize {
        let uuid = self.uuid(instance);
        self.looks.lock().get(&uuid).copied().unwrap_or_default()
    }

    /// Whether the server of an instance takes writes.
    pub(crate) fn is_open(&self, instance: &str) -> bool {
        let servers = self.servers.lock();
        let found = servers.values().find(|(id, _)| id == instance);
        found.is_some_and(|(_, server)| !server.read_only)
    }

    /// For how many replicas a commit waits on the server of an instance, and for how many milliseconds.
    pub(crate) fn acknowledgement(&self, instance: &str) -> (u32, u64) {
        let servers = self.servers.lock();
        let (_, server) = servers.values().find(|(id, _)| id == instance).unwrap();
        (server.acknowledgement.replicas, server.acknowledgement.timeout)
    }

    /// Whether the server of an instance follows another.
    pub(crate) fn is_following(&self, instance: &str) -> bool {
        let servers = self.servers.lock();
        let found = servers.values().find(|(id, _)| id == instance);
        let replication = found.and_then(|(_, server)| server.replication.as_ref());
        replication.is_some_and(|replication| replication.receives && replication.applies)
    }

    /// How many transactions the server of an instance has.
    pub(crate) fn transactions(&self, instance: &str) -> u64 {
        let servers = self.servers.lock();
        let found = servers.values().find(|(id, _)| id == instance);
        found.map_or(0, |(_, server)| server.executed.count())
    }

    /// Works on the server at an address, if an instance with that certificate runs there.
    fn with<T>(&self, at: &Address, work: impl FnOnce(&mut Survey) -> T) -> Result<T, ServerError> {
        let failed = |message: &str| ServerError {
            server: at.name.clone(),
            message: message.to_owned(),
        };
        let all = self.world.instances();
        let running = all
            .iter()
            .find(|instance| instance.address == at.host && instance.state == State::Running);
        let instance = running.ok_or_else(|| failed("connection failed: nobody is there"))?;
        if !at
            .certificate
            .replace('\n', "")
            .contains(&certificate(&instance.id))
        {
            return Err(failed("connection failed: another certificate"));
        }
        // The names in a certificate follow from what the instance was launched with.
        let user_data = instance.user_data.as_deref().unwrap_or_default();
        if !String::from_utf8_lossy(user_data).contains(&at.name) {
            return Err(failed("connection failed: the certificate is for another name"));
        }
        if self.silent.lock().contains(&instance.id) {
            return Err(failed("no answer within 8 s"));
        }
        let platform = *self.platform.lock();
        let mut servers = self.servers.lock();
        let server = servers
            .entry(at.host.clone())
            .or_insert_with(|| (instance.id.clone(), fresh(instance, platform)));
        if server.0 != instance.id {
            *server = (instance.id.clone(), fresh(instance, platform));
        }
        Ok(work(&mut server.1))
    }

    /// Whoever follows catches up and acknowledges.
    fn connect(&self) {
        let mut servers = self.servers.lock();
        let sources: BTreeMap<String, (GtidSet, BTreeSet<String>)> = servers
            .iter()
            .map(|(host, (_, s))| (host.clone(), (s.executed.clone(), s.accounts.clone())))
            .collect();
        let mut clients: BTreeMap<String, u32> = BTreeMap::new();
        for (_, server) in servers.values_mut() {
            let Some(replication) = server.replication.as_mut() else {
                continue;
            };
            if let Some((executed, accounts)) =
                sources.get(&replication.source).filter(|_| replication.receives)
            {
                replication.connected = true;
                (replication.received, server.accounts) = (executed.clone(), accounts.clone());
                if replication.applies {
                    server.executed = executed.clone();
                }
                *clients.entry(replication.source.clone()).or_default() += 1;
            }
        }
        for (host, (_, server)) in servers.iter_mut() {
            server.acknowledging = clients.get(host).copied().unwrap_or_default();
        }
    }
}

/// What stands for a certificate: the beginning of an ASN.1 sequence, and the instance's id.
fn certificate(id: &str) -> String {
    let mut der = vec![0x30, 0x81, u8::try_from(id.len()).unwrap()];
    der.extend_from_slice(id.as_bytes());
    BASE64_STANDARD.encode(der)
}

fn console(member: &str, id: &str) -> String {
    format!(
        "[ OK ] boot\r\nMEMBER-CERTIFICATE-BEGIN {member} {} MEMBER-CERTIFICATE-END\r\n",
        certificate(id)
    )
}

/// What a machine prints whose mysqld knows an option not: the setup's own words.
fn complaint(instance: &InstanceView) -> Option<String> {
    let user_data = String::from_utf8_lossy(instance.user_data.as_deref()?);
    let line = user_data.lines().find(|line| line.contains("no_such_option="))?;
    let line = line.trim();
    Some(format!(
        "[ OK ] boot\r\nmysql-member: mysqld refuses its options: unknown variable '{line}'.\r\nmysql-member: the setup failed with status 1\r\n"
    ))
}

/// A server as it boots, on such a machine, with the collation of its options.
fn fresh(instance: &InstanceView, platform: &str) -> Survey {
    let id = &instance.id;
    let mut server = Survey::fresh(format!("{:0>8}-0000-4000-8000-000000000000", &id[id.len() - 8..]));
    let user_data = String::from_utf8_lossy(instance.user_data.as_deref().unwrap_or_default());
    let mut lines = user_data.lines();
    if let Some(collation) = lines.find_map(|line| line.trim().strip_prefix("collation_server=")) {
        collation.clone_into(&mut server.characters.collation);
    }
    platform.clone_into(&mut server.platform);
    server
}

fn change_survey(server: &mut Survey, change: &Change) {
    if let (Change::Lead | Change::Follow(_), Some(replication)) = (change, &server.replication) {
        let all_applied = replication.received.is_within(&server.executed);
        assert!(all_applied, "what was acknowledged is thrown away: {server:?}");
    }
    match change {
        Change::CreateAccounts => {
            server.super_read_only = false;
            server.accounts = [REPLICATION, APPLICATION].map(str::to_owned).into();
            server.executed = format!("{}:1-6", server.uuid).parse().unwrap();
        }
        Change::Sync => server.syncs = true,
        Change::Acknowledge(how) => server.acknowledgement = *how,
        Change::Open => (server.read_only, server.super_read_only) = (false, false),
        Change::Close => (server.read_only, server.super_read_only) = (true, true),
        Change::Follow(source) => {
            server.acknowledges = true;
            server.replication = Some(Replication {
                source: source.host.clone(),
                receives: true,
                connected: false,
                applies: true,
                received: GtidSet::default(),
                error: String::new(),
            });
        }
        Change::Resume(_) => {
            server.acknowledges = true;
            if let Some(replication) = &mut server.replication {
                (replication.receives, replication.applies) = (true, true);
            }
        }
        Change::Apply => {
            if let Some(replication) = &mut server.replication {
                replication.applies = true;
                server.executed = replication.received.clone();
            }
        }
        Change::Detach => {
            if let Some(replication) = &mut server.replication {
                (replication.receives, replication.connected) = (false, false);
            }
        }
        Change::Lead => server.replication = None,
        Change::Resemble(characters) => server.characters = characters.clone(),
        Change::Copy(_) => {}
    }
}

impl Servers for Fleet {
    async fn survey(&self, _: &Authority, at: &Address) -> Result<Survey, ServerError> {
        self.connect();
        let surveyed = self.with(at, |server| server.clone())?;
        *self.looks.lock().entry(surveyed.uuid.clone()).or_default() += 1;
        Ok(surveyed)
    }

    async fn change(&self, _: &Authority, at: &Address, change: &Change) -> Result<(), ServerError> {
        if matches!(change, Change::Copy(_)) {
            let mut copies = self.copies.lock();
            copies.1 += 1;
            if copies.0 {
                let refused = Some("MySQL error 3862 (HY000)".to_owned());
                return self.with(at, |server| server.copy_refused = refused);
            }
        }
        let copied = match change {
            Change::Copy(donor) => Some(self.with(donor, |donor| donor.clone())?),
            _ => None,
        };
        self.with(at, |server| {
            change_survey(server, change);
            if let Some(donor) = copied {
                assert!(server.executed.is_empty(), "data is overwritten");
                if (&donor.platform, &donor.characters) != (&server.platform, &server.characters) {
                    server.copy_refused = Some("MySQL error 3868 (HY000)".to_owned());
                    return;
                }
                server.copy_refused = None;
                server.purged = donor.executed.clone();
                (server.executed, server.accounts) = (donor.executed, donor.accounts);
            }
        })?;
        self.connect();
        Ok(())
    }
}
