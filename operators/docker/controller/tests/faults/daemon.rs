//! A model of a Docker daemon: what it promises, and what must never be asked of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
};

use docker_controller::{
    engine::{Command, Container, ContainerEvent, ContainerPlan, ContainerState, EngineError, Failure},
    identity::{MACHINE_LABEL, ROLE_LABEL},
    load_balancer::config::PATH,
};
use tokio::sync::broadcast;

/// What outlives an operator.
#[derive(Debug)]
pub struct Daemon {
    pub containers: BTreeMap<String, Model>,
    pub networks: BTreeMap<String, (Ipv4Addr, u8)>,
    /// Networks that an operator has made.
    pub ours: BTreeSet<String>,
    /// Networks that assign addresses and refuse those that are asked for.
    pub assigning: BTreeSet<String>,
    /// How often they have refused.
    pub addresses_refused: u32,
    /// How often a container of each machine was started for the first time.
    pub started: BTreeMap<String, u32>,
    /// How often a bootstrap ran on each machine.
    pub bootstrapped: BTreeMap<String, u32>,
    /// How the next bootstraps of a machine end, and what they say; those that follow end well.
    pub endings: BTreeMap<String, VecDeque<Vec<String>>>,
    /// Operations that the daemon refuses, and how.
    pub refusals: BTreeMap<String, EngineError>,
    /// Images that the host does not have.
    pub missing: BTreeSet<String>,
    /// Ports of the host that somebody else has.
    pub taken_ports: BTreeSet<u16>,
    /// Names of containers whose creation gets no answer.
    pub hanging: BTreeSet<String>,
    /// Machines whose bootstrap, once begun, goes on and on.
    pub holding: BTreeSet<String>,
    /// Whether load balancers refuse every configuration.
    pub refuses_configurations: bool,
    /// What must never happen and did.
    pub misdeeds: Vec<String>,
    next: u32,
    pub events: broadcast::Sender<ContainerEvent>,
}

/// A container.
#[derive(Clone, Debug)]
pub struct Model {
    pub id: String,
    pub plan: ContainerPlan,
    pub state: ContainerState,
    /// What it has on its network: what it asked for, or what it was given.
    pub address: Option<Ipv4Addr>,
    pub files: BTreeMap<String, Vec<u8>>,
    /// The configuration that the process has loaded.
    pub loaded: Vec<u8>,
    pub log: Vec<String>,
    /// What its bootstrap said; none that has not begun.
    verdict: Option<Vec<String>>,
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            ours: BTreeSet::new(),
            assigning: BTreeSet::new(),
            addresses_refused: 0,
            started: BTreeMap::new(),
            bootstrapped: BTreeMap::new(),
            endings: BTreeMap::new(),
            refusals: BTreeMap::new(),
            missing: BTreeSet::new(),
            taken_ports: BTreeSet::new(),
            hanging: BTreeSet::new(),
            holding: BTreeSet::new(),
            refuses_configurations: false,
            misdeeds: Vec::new(),
            next: 0,
            events: broadcast::channel(1024).0,
        }
    }
}

pub fn failure(kind: Failure, message: &str) -> EngineError {
    EngineError {
        kind,
        action: "answer".into(),
        message: message.into(),
    }
}

impl Daemon {
    fn tell(&self, model: &Model) {
        let _ = self.events.send(ContainerEvent {
            labels: model.plan.labels.clone(),
            is_gone: !self.containers.contains_key(&model.plan.name),
        });
    }

    pub fn find(&mut self, name: &str) -> Result<&mut Model, EngineError> {
        let found = self
            .containers
            .values_mut()
            .find(|model| model.plan.name == name || model.id == name);
        found.ok_or_else(|| failure(Failure::NotFound, "no such container"))
    }

    pub fn list(&self, labels: &BTreeMap<String, String>) -> Vec<Container> {
        let matches = |model: &&Model| {
            labels.iter().all(|(key, value)| {
                model
                    .plan
                    .labels
                    .get(key)
                    .is_some_and(|found| value.is_empty() || found == value)
            })
        };
        self.containers
            .values()
            .filter(matches)
            .map(Model::seen)
            .collect()
    }

    pub fn create(&mut self, plan: &ContainerPlan) -> Result<(), EngineError> {
        if self.containers.contains_key(&plan.name) {
            return Err(failure(Failure::NameTaken, "the name is already in use"));
        }
        if !self.networks.contains_key(&plan.network) {
            return Err(failure(Failure::NotFound, "no such network"));
        }
        self.next += 1;
        let model = Model {
            id: format!("id-{}", self.next),
            plan: plan.clone(),
            state: ContainerState::Created,
            address: plan.address,
            files: BTreeMap::new(),
            loaded: Vec::new(),
            log: Vec::new(),
            verdict: None,
        };
        self.containers.insert(plan.name.clone(), model);
        Ok(())
    }

    pub fn start(&mut self, name: &str) -> Result<(), EngineError> {
        let model = self.find(name)?.clone();
        let network = &model.plan.network;
        if !self.networks.contains_key(network) {
            return Err(failure(Failure::NotFound, "network not found"));
        }
        if model.plan.address.is_some() && self.assigning.contains(network) {
            self.addresses_refused += 1;
            let says = "user specified IP address is supported only when connecting to networks with user configured subnets";
            return Err(failure(Failure::AddressRefused, says));
        }
        let ports = model.plan.ports.iter().filter_map(|port| port.host_port);
        if let Some(port) = ports.into_iter().find(|port| self.taken_ports.contains(port)) {
            let says = format!("Bind for 127.0.0.1:{port} failed: port is already allocated");
            return Err(failure(Failure::PortTaken, &says));
        }
        let in_use = self.addresses_on(network, &model.id);
        if model
            .plan
            .address
            .is_some_and(|address| in_use.contains(&address))
        {
            return Err(failure(Failure::AddressTaken, "Address already in use"));
        }
        let base = self.networks.get(network).map_or(0, |(base, _)| u32::from(*base));
        let assigned = (2..).map(|last| Ipv4Addr::from(base + last));
        let address = model
            .plan
            .address
            .or_else(|| assigned.into_iter().find(|address| !in_use.contains(address)));
        if let (Some(machine), ContainerState::Created) = (model.plan.labels.get(MACHINE_LABEL), model.state)
        {
            *self.started.entry(machine.clone()).or_default() += 1;
        }
        let model = self.find(name)?;
        model.state = ContainerState::Running;
        model.address = address;
        model.load();
        let model = model.clone();
        self.tell(&model);
        Ok(())
    }

    /// The addresses of the running containers on a network, less that of the container `id`.
    pub fn addresses_on(&self, network: &str, id: &str) -> Vec<Ipv4Addr> {
        let running = self.containers.values().filter(|model| {
            model.state == ContainerState::Running && model.plan.network == network && model.id != id
        });
        running.filter_map(|model| model.address).collect()
    }

    pub fn remove(&mut self, id: &str) -> Result<(), EngineError> {
        let model = self.find(id)?.clone();
        let serves = |other: &&Model| {
            other
                .plan
                .labels
                .get(ROLE_LABEL)
                .is_some_and(|role| role == "load-balancer")
                && String::from_utf8_lossy(&other.loaded).contains(&format!("server {} ", model.plan.name))
        };
        if model.state == ContainerState::Running && self.containers.values().any(|other| serves(&other)) {
            self.misdeeds.push(format!(
                "{} was removed while the load balancer still sent to it",
                model.plan.name
            ));
        }
        self.containers.remove(&model.plan.name);
        self.tell(&model);
        Ok(())
    }

    pub fn create_network(&mut self, name: &str, subnet: (Ipv4Addr, u8)) -> Result<(), EngineError> {
        if self.networks.contains_key(name) {
            return Err(failure(Failure::NameTaken, "already exists"));
        }
        self.networks.insert(name.to_owned(), subnet);
        self.ours.insert(name.to_owned());
        Ok(())
    }

    pub fn remove_network(&mut self, name: &str) {
        if self.networks.remove(name).is_none() {
            return;
        }
        if !self.ours.remove(name) {
            self.misdeeds
                .push(format!("network {name} was removed, which others made"));
        }
        let on_it = self
            .containers
            .values()
            .filter(|model| model.plan.network == name);
        let left: Vec<_> = on_it.map(|model| &model.plan.name).collect();
        if !left.is_empty() {
            self.misdeeds
                .push(format!("network {name} was removed with {left:?} on it"));
        }
    }

    /// Whether a bootstrap that has begun in this container goes on and on.
    pub fn holds(&mut self, container: &str) -> bool {
        let machine = self
            .find(container)
            .ok()
            .and_then(|model| model.plan.labels.get(MACHINE_LABEL).cloned());
        machine.is_some_and(|machine| self.holding.contains(&machine))
    }

    pub fn run(&mut self, container: &str, command: &Command) -> Result<Vec<String>, EngineError> {
        let length: usize = command.argv[5].parse().unwrap();
        let model = self.find(container)?;
        if model.state != ContainerState::Running {
            return Err(failure(Failure::Unavailable, "the container is not running"));
        }
        if length > 0 {
            assert_eq!(command.stdin.len(), length, "the script is handed over in whole");
            if model.verdict.is_none() {
                let machine = model.plan.labels[MACHINE_LABEL].clone();
                let ending = self.endings.get_mut(&machine).and_then(VecDeque::pop_front);
                self.find(container)?.verdict = Some(ending.unwrap_or_else(|| vec!["exit 0".into()]));
                *self.bootstrapped.entry(machine).or_default() += 1;
            }
        }
        let verdict = self.find(container)?.verdict.clone();
        Ok(verdict.unwrap_or_else(|| vec!["absent".into()]))
    }
}

impl Model {
    /// Says that it does not take its configuration.
    pub fn refuse(&mut self) {
        self.log
            .push(format!("{:09} [ALERT] (1) : cannot take it", self.log.len()));
    }

    pub fn load(&mut self) {
        self.loaded = self.files.get(PATH).cloned().unwrap_or_default();
        self.log
            .push(format!("{:09} [NOTICE] New worker forked", self.log.len()));
    }

    pub fn seen(&self) -> Container {
        let network = &self.plan.network;
        let address = self.address.map(|address| (network.clone(), address));
        let kept = self.plan.address.map(|_| network.clone());
        let ports = self
            .plan
            .ports
            .iter()
            .filter_map(|port| Some((port.container_port, port.host_port?)));
        Container {
            id: self.id.clone(),
            name: self.plan.name.clone(),
            labels: self.plan.labels.clone(),
            state: self.state,
            networks: [network.clone()].into(),
            addresses: address.into_iter().collect(),
            kept: kept.into_iter().collect(),
            ports: ports.collect(),
        }
    }
}
