//! The processes of a control plane of our own, and the files that they read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use super::{
    ADMIN, ControlPlaneError, Options,
    error::during,
    kubeconfig,
    pki::Pki,
    servers::{self, Ports},
};
use crate::process::{ProcessError, ScratchFolder, Supervised, free_port};

/// The processes, in the order in which they are to end.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) controller_manager: Mutex<Option<Supervised>>,
    pub(super) apiserver: Mutex<Supervised>,
    pub(super) etcd: Mutex<Supervised>,
    pub(super) programs: Programs,
    pub(super) ports: Ports,
    pub(super) apiserver_args: Vec<String>,
    pub(super) folder: ScratchFolder,
}

#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) etcd: PathBuf,
    pub(super) apiserver: PathBuf,
    pub(super) controller_manager: PathBuf,
}

impl Owned {
    pub(super) fn spawn(
        programs: &Programs,
        options: &Options,
        folder: ScratchFolder,
        ports: Ports,
    ) -> Result<Self, ControlPlaneError> {
        let etcd_command = servers::etcd(&programs.etcd, folder.path(), ports);
        let etcd = Supervised::spawn("etcd", &etcd_command, &folder.path().join("etcd.log"))?;
        let apiserver = spawn_apiserver(&programs.apiserver, folder.path(), ports, &options.apiserver_args)?;
        Ok(Self {
            controller_manager: Mutex::new(None),
            apiserver: Mutex::new(apiserver),
            etcd: Mutex::new(etcd),
            programs: programs.clone(),
            ports,
            apiserver_args: options.apiserver_args.clone(),
            folder,
        })
    }

    /// Fails if one of the processes has ended.
    pub(super) fn check(&self) -> Result<(), ProcessError> {
        self.etcd.lock().check()?;
        self.apiserver.lock().check()?;
        self.controller_manager
            .lock()
            .as_mut()
            .map_or(Ok(()), Supervised::check)
    }

    pub(super) fn spawn_apiserver(&self) -> Result<Supervised, ProcessError> {
        spawn_apiserver(
            &self.programs.apiserver,
            self.folder.path(),
            self.ports,
            &self.apiserver_args,
        )
    }
}

fn spawn_apiserver(
    program: &Path,
    folder: &Path,
    ports: Ports,
    extra: &[String],
) -> Result<Supervised, ProcessError> {
    let command = servers::apiserver(program, folder, ports, extra);
    Supervised::spawn("kube-apiserver", &command, &folder.join("kube-apiserver.log"))
}

/// Writes everything that the processes read; returns the administrator's kubeconfig.
pub(super) fn write_files(folder: &Path, ports: Ports) -> Result<PathBuf, ControlPlaneError> {
    let pki = Pki::create(&folder.join("pki"))?;
    let server = format!("https://127.0.0.1:{}", ports.apiserver);
    let write = |name: &str, content: String| {
        let path = folder.join(name);
        fs::write(&path, content).map_err(during("write a file"))?;
        Ok::<_, ControlPlaneError>(path)
    };
    write("audit-policy.json", servers::AUDIT_POLICY.to_owned())?;
    let controllers = pki.client("kube-controller-manager", "system:masters")?;
    write(
        "controller-manager.kubeconfig",
        kubeconfig::render(&server, pki.authority(), &controllers),
    )?;
    let admin = pki.client(ADMIN, "system:masters")?;
    write("kubeconfig", kubeconfig::render(&server, pki.authority(), &admin))
}

pub(super) fn port() -> Result<u16, ControlPlaneError> {
    free_port().map_err(during("find a free port on 127.0.0.1"))
}
