//! Containers and volumes as Pods would have them.

use std::{fs, time::Duration};

use k8s_openapi::api::core::v1::EnvVar;
use mysql_controller::{
    database::program::{
        self, BACKUP, BACKUP_FOLDER, Backup, BackupMade, CLIENT_FOLDER, DATA_FOLDER, Failure, GUARD, Origin,
        Outcome, Policy, RESTORE, Reason, Restore,
    },
    version::Version,
};
use tempfile::TempDir;
use testkit::{
    docker::{Docker, LABEL},
    image::{Image, Images},
    process::Janitor,
};
use tokio::time::Instant;

pub(crate) const LIMIT: Duration = Duration::from_mins(3);
/// What the image is.
pub(crate) const VERSION: Version = Version::V9;
/// Everything that has a meaning to a shell, to SQL or to files of options.
pub(crate) const PASSWORD: &str = "p'a\"s\\s`w$(id)o #r;d\n\r\t%&*🔑ä";
/// The same for a name.
pub(crate) const DATABASE: &str = "-otus'da`ta\"b$(id)\\a;s e";
const SWEEP: &str = r#"docker=$1; label=$2
"$docker" ps --all --quiet --filter "label=$label" | xargs -r "$docker" rm --force --volumes
"$docker" volume ls --quiet --filter "label=$label" | xargs -r "$docker" volume rm"#;

/// The volumes, the Secret and the containers of one database, gone when the test ends, however it ends.
pub(crate) struct Site {
    pub(crate) docker: Docker,
    image: String,
    name: String,
    secret: TempDir,
    _janitor: Janitor,
}

/// How a container ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) output: String,
}

impl Ended {
    pub(crate) fn outcome(&self) -> Outcome {
        Outcome::parse(&self.output)
    }

    pub(crate) fn failure(&self) -> Failure {
        match self.outcome() {
            Outcome::Failed(failure) => {
                let hopeless = self.status == program::HOPELESS;
                assert_eq!(failure.reason.is_hopeless(), hopeless, "{self:?}");
                failure
            }
            other => panic!("{other:?} is no failure: {self:?}"),
        }
    }

    pub(crate) fn reason(&self) -> Reason {
        self.failure().reason
    }

    pub(crate) fn backup(&self) -> BackupMade {
        match self.outcome() {
            Outcome::BackedUp(backup) if self.status == 0 => backup,
            _ => panic!("no backup: {self:?}"),
        }
    }

    pub(crate) fn origin(&self) -> Origin {
        match self.outcome() {
            Outcome::Filled(origin) if self.status == 0 => origin,
            _ => panic!("not filled: {self:?}"),
        }
    }
}

impl Site {
    pub(crate) async fn new() -> Self {
        let docker = Docker::connect().await.unwrap();
        let image = Images::new(&docker).ensure(Image::Mysql).await.unwrap();
        let id: u64 = rand::random();
        let name = format!("{LABEL}-program-{id:016x}");
        let label = format!("{LABEL}.program-test={name}");
        let program = docker.program().to_string_lossy().into_owned();
        let janitor = Janitor::engage(SWEEP, &[program, label]).unwrap();
        let site = Self {
            docker,
            image,
            name,
            secret: tempfile::tempdir().unwrap(),
            _janitor: janitor,
        };
        site.set_password(PASSWORD);
        for volume in ["data", "backup"] {
            site.make_volume(volume, &[]).await;
        }
        site
    }

    pub(crate) fn set_password(&self, password: &str) {
        self.set_secret(DATABASE, password);
    }

    pub(crate) fn set_secret(&self, database: &str, password: &str) {
        for (key, text) in program::secret_files(database, password, VERSION) {
            fs::write(self.secret.path().join(key), text).unwrap();
        }
    }

    fn label(&self) -> String {
        format!("{LABEL}.program-test={}", self.name)
    }

    pub(crate) fn volume(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// A volume in memory, which is there for as long as somebody holds it: what a program does is told apart from how
    /// long a disk takes. With Docker's `options`, one of another kind.
    async fn make_volume(&self, name: &str, options: &[&str]) {
        let memory = ["--opt=type=tmpfs", "--opt=device=tmpfs"];
        let options = if options.is_empty() { &memory } else { options };
        let (label, name) = (self.label(), self.volume(name));
        let create = ["volume", "create", "--label", &label];
        self.docker
            .run(&[&create, options, &[&name]].concat())
            .await
            .unwrap();
        let (holder, mount) = (holder(&name), format!("{name}:/held"));
        let hold = ["run", "--detach", "--name", &holder, "--label", &label];
        let idle = ["--network=none", "--entrypoint=sleep", &self.image, "infinity"];
        self.docker
            .run(&[&hold[..], &["--volume", &mount], &idle].concat())
            .await
            .unwrap();
    }

    /// Another, empty volume in its place.
    pub(crate) async fn lose_volume(&self, name: &str) {
        self.replace_volume(name, &[]).await;
    }

    pub(crate) async fn replace_volume(&self, name: &str, options: &[&str]) {
        let volume = self.volume(name);
        self.remove(&holder(&volume)).await;
        self.docker.run(&["volume", "rm", &volume]).await.unwrap();
        self.make_volume(name, options).await;
    }

    /// Starts a container with the volumes and the Secret where Pods have them, and with `more` of Docker's options.
    pub(crate) async fn start(&self, name: &str, more: &[&str], command: &[String]) -> String {
        let (container, label) = (self.volume(name), self.label());
        let mounts = [
            format!("{}:{DATA_FOLDER}", self.volume("data")),
            format!("{}:{BACKUP_FOLDER}", self.volume("backup")),
            format!("{}:{CLIENT_FOLDER}:ro", self.secret.path().display()),
        ];
        let mut arguments = vec!["run", "--detach", "--name", &container, "--label", &label];
        for mount in &mounts {
            arguments.extend(["--volume", mount]);
        }
        arguments.extend(more);
        arguments.push(&self.image);
        arguments.extend(command.iter().map(String::as_str));
        self.docker.run(&arguments).await.unwrap();
        container
    }

    /// Waits for the end of a container and removes it.
    pub(crate) async fn end(&self, container: &str) -> Ended {
        let status = self.docker.run(&["wait", container]).await.unwrap();
        let output = self.docker.run(&["logs", container]).await.unwrap();
        self.remove(container).await;
        Ended {
            status: status.trim().parse().unwrap(),
            output,
        }
    }

    pub(crate) async fn remove(&self, container: &str) {
        self.docker.run(&["rm", "--force", container]).await.unwrap();
    }

    /// Starts a program with this environment.
    pub(crate) async fn begin(&self, program: &str, environment: &[EnvVar], more: &[&str]) -> String {
        // As Kubernetes reads it.
        let environment: Vec<_> = environment
            .iter()
            .map(|variable| {
                let value = variable.value.as_deref().unwrap_or_default().replace("$$", "$");
                format!("{}={value}", variable.name)
            })
            .collect();
        let mut arguments: Vec<&str> = environment.iter().flat_map(|one| ["--env", one]).collect();
        arguments.extend(more);
        let command = program::command(program);
        arguments.extend(["--entrypoint", &command[0]]);
        let id: u32 = rand::random();
        self.start(&format!("{id:08x}"), &arguments, &command[1..]).await
    }

    pub(crate) async fn run(&self, program: &str, environment: &[EnvVar], more: &[&str]) -> Ended {
        let container = self.begin(program, environment, more).await;
        self.end(&container).await
    }

    pub(crate) async fn guard(&self) -> Ended {
        self.run(GUARD, &[], &["--network=none"]).await
    }

    pub(crate) async fn restore(&self, policy: Policy, from: Option<&str>) -> Ended {
        self.run(RESTORE, &restore(policy, from), &["--network=none"])
            .await
    }

    /// Takes a backup of the server, whose network it shares: the host is the same.
    pub(crate) async fn backup(&self, order: &Backup<'_>, server: &Server<'_>, more: &[&str]) -> Ended {
        let network = format!("--network=container:{}", server.container);
        self.run(
            BACKUP,
            &order.environment(),
            &[&[network.as_str()], more].concat(),
        )
        .await
    }

    /// Runs a script with the volumes.
    pub(crate) async fn shell(&self, script: &str) -> String {
        let ended = self.run(script, &[], &["--network=none"]).await;
        assert_eq!(ended.status, 0, "{script}: {ended:?}");
        ended.output
    }

    /// Starts the server as its Pod does, and waits until it is ready.
    pub(crate) async fn server(&self, more: &[&str]) -> Server<'_> {
        assert_eq!(self.guard().await.origin(), Origin::Existing);
        let mut arguments = program::server_arguments(VERSION);
        // A small machine.
        arguments.extend(["--performance-schema=OFF".to_owned()]);
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let container = self.start("server", &[], &arguments).await;
        let server = Server {
            site: self,
            container,
        };
        server.ready().await;
        server
    }
}

/// The container that does nothing but hold a volume.
fn holder(volume: &str) -> String {
    format!("{volume}-holder")
}

/// What a restore is asked for.
pub(crate) fn restore(policy: Policy, from: Option<&str>) -> Vec<EnvVar> {
    let order = Restore {
        database: DATABASE,
        owner: "shop/orders",
        policy,
        from,
        expected: None,
        config: None,
        version: VERSION,
    };
    order.environment()
}

/// What a restore is asked for that knows of this backup.
pub(crate) fn knowing(id: &str) -> Vec<EnvVar> {
    let order = Restore {
        database: DATABASE,
        owner: "shop/orders",
        policy: Policy::IfBackupExists,
        from: None,
        expected: Some(id),
        config: None,
        version: VERSION,
    };
    order.environment()
}

/// What a backup of this id is asked for.
pub(crate) fn order(id: &str) -> Backup<'_> {
    Backup {
        id,
        database: DATABASE,
        owner: "shop/orders",
        data_uid: "a",
        host: "127.0.0.1",
        keep: 2,
        from: None,
        is_fresh: false,
        is_final: false,
        version: VERSION,
    }
}

/// A running server.
pub(crate) struct Server<'a> {
    site: &'a Site,
    pub(crate) container: String,
}

impl Server<'_> {
    async fn ready(&self) {
        let probe = program::server_probe();
        let probe: Vec<_> = probe.iter().map(String::as_str).collect();
        let deadline = Instant::now() + LIMIT;
        while let Err(error) = self.site.docker.exec(&self.container, &probe).await {
            if Instant::now() > deadline {
                let said = self.site.docker.run(&["logs", &self.container]).await;
                panic!("the server is not ready: {error}: {said:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What a person's client gets who gives the password as the seed's commands do.
    pub(crate) async fn sql_as(&self, password: &str, statements: &str) -> Result<String, String> {
        let password = format!("-p{password}");
        let options = ["mysql", "-u", "root", &password, "--skip-column-names", "--batch"];
        let database = format!("--database={DATABASE}");
        let command = [&options[..], &[&database]].concat();
        let exec = self
            .site
            .docker
            .exec_with(&self.container, &command, statements.as_bytes())
            .await;
        exec.map_err(|error| error.to_string())
    }

    pub(crate) async fn sql(&self, statements: &str) -> String {
        self.sql_as(PASSWORD, statements).await.unwrap()
    }

    /// Ends it in good order and removes it.
    pub(crate) async fn stop(self) {
        self.site
            .docker
            .run(&["stop", "--time=60", &self.container])
            .await
            .unwrap();
        self.site.remove(&self.container).await;
    }

    pub(crate) async fn restart(&self) {
        self.site.docker.run(&["restart", &self.container]).await.unwrap();
        self.ready().await;
    }
}
