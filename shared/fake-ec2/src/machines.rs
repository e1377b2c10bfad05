//! Machines behind the instances: a container for each, booted from an image with systemd and cloud-init.
//!
//! # Guarantees
//! - A container has the private address that DescribeInstances reports, and boots with the instance's own user data.
//! - Stopping, starting and terminating an instance does it to its container; the volume at `/var/lib/mysql`, which
//!   stands for the data volume, survives the first and goes with the last.
//! - What a machine prints on its console is what GetConsoleOutput returns to who asks for the latest: its last 64 KB.
//! - Dropping [`Machines`] removes the containers and the network.
//!
//! # Caveats
//! - Containers are privileged, as systemd needs it: run nobody else's user data.
//! - Whoever is killed cannot clean up: containers and the network carry the label `operators-testbed.ec2=<network>`,
//!   by which they can be found and removed.
//! - The third number of every subnet's addresses has to be within the network's range.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use crate::{
    instance::{InstanceView, State},
    world::World,
};

/// The label of everything made here; its value is the network's name.
pub const LABEL: &str = "operators-testbed.ec2";
/// How often the account is compared with the containers, in real time.
const BEAT: Duration = Duration::from_millis(250);
/// Consoles are read at every so many beats.
const CONSOLE_BEATS: u32 = 4;
/// What EC2 keeps of a console.
const CONSOLE: usize = 64 << 10;

/// What a machine is to see of its memory: little, for several run on one host.
const MEMORY: &str = "MemTotal:         980000 kB\n";

/// How machines are made.
#[derive(Clone, Debug)]
pub struct MachineOptions {
    /// Docker's command line.
    pub docker: PathBuf,
    /// The image that they boot.
    pub image: String,
    /// Name of the network to make for them; their names begin with it.
    pub network: String,
    /// Its range, such as `10.200.0.0/16`: that of the account's subnets.
    pub range: String,
}

/// Docker did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// It could not be run.
    #[error("cannot run docker: {0}")]
    Run(#[from] io::Error),
    /// It refused.
    #[error("docker {command} failed: {output}")]
    Refused {
        /// What it was asked.
        command: String,
        /// What it said.
        output: String,
    },
}

/// The machines of one world. They end when dropped.
#[derive(Debug)]
pub struct Machines {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Machines {
    /// Makes the network, and from now on a container for each instance of `world`.
    pub fn start(world: &World, options: MachineOptions) -> Result<Self, MachineError> {
        let rack = Rack {
            options,
            containers: BTreeMap::new(),
        };
        let label = format!("{LABEL}={}", rack.options.network);
        let network = [
            "network",
            "create",
            "--subnet",
            &rack.options.range,
            "--label",
            &label,
            &rack.options.network,
        ];
        rack.docker(&network)?;
        let (stop, stopped) = mpsc::channel();
        let world = world.clone();
        let thread = thread::Builder::new()
            .name("machines".into())
            .spawn(move || rack.serve(&world, &stopped))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of its was printed already.
            thread.join().ok();
        }
    }
}

/// Whether a container is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    Off,
    /// It could not be made; its console says why.
    Broken,
}

struct Rack {
    options: MachineOptions,
    /// By the id of the instance.
    containers: BTreeMap<String, Power>,
}

impl Rack {
    fn serve(mut self, world: &World, stopped: &mpsc::Receiver<()>) {
        let mut beat = 0u32;
        while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
            beat = beat.wrapping_add(1);
            for instance in world.instances() {
                if let Err(error) = self.follow(&instance) {
                    world.set_console(&instance.id, &format!("the machine cannot be run: {error}\n"));
                    self.containers.insert(instance.id.clone(), Power::Broken);
                }
            }
            if beat.is_multiple_of(CONSOLE_BEATS) {
                self.read_consoles(world);
            }
        }
        for id in self.containers.keys().cloned().collect::<Vec<_>>() {
            self.remove(&id).ok();
        }
        self.docker(&["network", "rm", &self.options.network]).ok();
    }

    /// Brings the container of an instance to the instance's state.
    fn follow(&mut self, instance: &InstanceView) -> Result<(), MachineError> {
        let power = self.containers.get(&instance.id).copied();
        let next = match (instance.state, power) {
            (_, Some(Power::Broken)) | (State::ShuttingDown | State::Terminated, None) => return Ok(()),
            (State::ShuttingDown | State::Terminated, Some(_)) => {
                self.remove(&instance.id)?;
                self.containers.remove(&instance.id);
                return Ok(());
            }
            (State::Pending | State::Running, None) => {
                self.create(instance)?;
                Power::On
            }
            (State::Pending | State::Running, Some(Power::Off)) => {
                self.docker(&["start", &self.name(&instance.id)])?;
                Power::On
            }
            (State::Stopping | State::Stopped, Some(Power::On)) => {
                self.docker(&["stop", "--time", "20", &self.name(&instance.id)])?;
                Power::Off
            }
            (State::Pending | State::Running, Some(Power::On)) | (State::Stopping | State::Stopped, _) => {
                return Ok(());
            }
        };
        self.containers.insert(instance.id.clone(), next);
        Ok(())
    }

    fn name(&self, id: &str) -> String {
        format!("{}-{id}", self.options.network)
    }

    fn create(&self, instance: &InstanceView) -> Result<(), MachineError> {
        let (name, label) = (
            self.name(&instance.id),
            format!("{LABEL}={}", self.options.network),
        );
        let create = [
            "create",
            "--tty",
            "--privileged",
            "--cgroupns=private",
            "--tmpfs=/tmp",
            "--tmpfs=/run",
            "--name",
            &name,
            "--label",
            &label,
            "--network",
            &self.options.network,
            "--ip",
            &instance.address,
            "--mount",
            "type=volume,target=/var/lib/mysql,volume-nocopy",
            &self.options.image,
        ];
        self.docker(&create)?;
        let seed = std::env::temp_dir().join(&name);
        let copied = self.seed(instance, &seed, &name);
        fs::remove_dir_all(&seed).ok();
        copied?;
        self.docker(&["start", &name]).map(drop)
    }

    /// Gives a container what cloud-init looks for.
    fn seed(&self, instance: &InstanceView, folder: &Path, container: &str) -> Result<(), MachineError> {
        // The whole path from the root: what is copied brings the folders above it.
        let inside = folder.join("var/lib/cloud/seed/nocloud");
        fs::create_dir_all(&inside)?;
        let host = instance.address.replace('.', "-");
        let meta = format!("instance-id: {}\nlocal-hostname: ip-{host}\n", instance.id);
        fs::write(inside.join("meta-data"), meta)?;
        fs::create_dir_all(folder.join("etc"))?;
        fs::write(folder.join("etc/meminfo"), MEMORY)?;
        fs::write(
            inside.join("user-data"),
            instance.user_data.as_deref().unwrap_or_default(),
        )?;
        let from = format!("{}/.", folder.display());
        self.docker(&["cp", &from, &format!("{container}:/")]).map(drop)
    }

    fn remove(&self, id: &str) -> Result<(), MachineError> {
        self.docker(&["rm", "--force", "--volumes", &self.name(id)])
            .map(drop)
    }

    fn read_consoles(&self, world: &World) {
        for (id, power) in &self.containers {
            if *power != Power::On {
                continue;
            }
            if let Ok(text) = self.docker(&["logs", "--tail", "600", &self.name(id)]) {
                let from = text.len().saturating_sub(CONSOLE);
                let from = (from..=text.len())
                    .find(|at| text.is_char_boundary(*at))
                    .unwrap_or_default();
                world.set_console(id, &text[from..]);
            }
        }
    }

    fn docker(&self, arguments: &[&str]) -> Result<String, MachineError> {
        let output = Command::new(&self.options.docker)
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(MachineError::Refused {
            command: arguments.join(" "),
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}
