//! An EC2 for `MySQLCluster`: the simulated one, whose instances are containers with a real MySQL where there is Docker.

use std::{process::Command, time::Duration};

use anyhow::{Context, bail, ensure};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use testkit::{
    docker::Docker,
    image::{Image, Images},
    process::{Janitor, Supervised},
    progress::line,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use super::{
    operator::Settings,
    session::{Session, unique},
};

/// The simulated EC2's program, and what it prints once it serves.
const PROGRAM: &str = "fake-ec2";
const GREETING: &str = "EC2 at ";
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a row may take to every replica.
const REPLICATION: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// The example's name, its members, and the region that they are in.
const NAME: &str = "orders";
const MEMBERS: usize = 3;
const REGION: &str = "us-east-1";
/// Any are accepted.
const CREDENTIAL: &str = "up";

/// What removes the machines, whoever made them. `$1` is Docker, `$2` the network.
const SWEEP: &str = r#""$1" ps --all --quiet --filter label=operators-testbed.ec2="$2" | xargs -r "$1" rm --force --volumes
"$1" network rm "$2""#;

/// The simulated EC2. It ends before its machines are removed.
pub(super) struct World {
    server: Supervised,
    address: String,
    machines: Option<Machines>,
}

struct Machines {
    docker: Docker,
    network: String,
    _janitor: Janitor,
}

impl World {
    /// Starts it. Without Docker its instances boot nothing.
    pub(super) async fn start(session: &Session) -> anyhow::Result<Self> {
        let program = session.programs.join(PROGRAM);
        ensure!(
            program.is_file(),
            "{} is not built: `cargo xtask up` builds it",
            program.display()
        );
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0", "--seed", "1"]);
        let machines = match Docker::connect().await {
            Ok(docker) => Some(Machines::prepare(docker, &mut command).await?),
            Err(error) => {
                line(&format!(
                    "instances will run no MySQL, since there is no Docker: {error}"
                ));
                None
            }
        };
        let server = Supervised::spawn(PROGRAM, &command, &session.log(PROGRAM))?;
        let mut world = Self {
            server,
            address: String::new(),
            machines,
        };
        world.wait(session).await?;
        Ok(world)
    }

    async fn wait(&mut self, session: &Session) -> anyhow::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let said = std::fs::read_to_string(session.log(PROGRAM)).unwrap_or_default();
            let endpoint = said.lines().find_map(|line| line.strip_prefix(GREETING));
            if let Some(address) = endpoint.and_then(|endpoint| endpoint.strip_prefix("http://")) {
                address.trim_end_matches('/').clone_into(&mut self.address);
                return Ok(());
            }
            self.server.check()?;
            ensure!(Instant::now() < deadline, "{PROGRAM} does not serve: {said}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// What the operator must be told of it.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            arguments: vec![
                "--aws-endpoint-url".to_owned(),
                format!("http://{}", self.address),
            ],
            environment: [
                ("AWS_ACCESS_KEY_ID", CREDENTIAL),
                ("AWS_SECRET_ACCESS_KEY", CREDENTIAL),
                ("AWS_EC2_METADATA_DISABLED", "true"),
                ("AWS_REGION", REGION),
            ]
            .map(|(name, value)| (name, value.to_owned()))
            .to_vec(),
        }
    }

    /// Where machines run MySQL all of it can be ready; elsewhere instances are all there is.
    pub(super) fn goal(&self) -> &'static str {
        match self.machines {
            Some(_) => "Ready",
            None => "Provisioned",
        }
    }

    /// What there is, in a few words.
    pub(super) fn describe(&self) -> String {
        let what = match self.machines {
            Some(_) => "whose instances boot as containers",
            None => "whose instances boot nothing",
        };
        format!("simulated EC2 at http://{}, {what}", self.address)
    }

    /// Counts the instances at EC2; where they run MySQL, reads from every replica what was written through the writer.
    pub(super) async fn verify(&self, client: &Client) -> anyhow::Result<String> {
        let running = self.running().await?;
        ensure!(
            running == MEMBERS,
            "EC2 has {running} running instances in place of {MEMBERS}"
        );
        let Some(machines) = &self.machines else {
            return Ok(format!("asked EC2 itself: {running} instances run"));
        };
        let replicas = machines.replicate(client).await?;
        Ok(format!(
            "asked EC2 and MySQL themselves: {running} instances run, and a row that was written through the writer \
             came to {replicas} replicas"
        ))
    }

    async fn running(&self) -> anyhow::Result<usize> {
        let body = "Action=DescribeInstances&Version=2016-11-15";
        let request = format!(
            "POST / HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={CREDENTIAL}/20260101/{REGION}/ec2/aws4_request\r\n\
             Content-Length: {length}\r\n\r\n{body}",
            address = self.address,
            length = body.len()
        );
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(
            answer.contains(" 200 "),
            "EC2 does not list its instances: {answer}"
        );
        Ok(answer.matches("<name>running</name>").count())
    }

    /// What a person may try next.
    pub(super) fn hints(&self) -> String {
        let machines = self.machines.iter();
        let machines =
            machines.map(|machines| format!("\n  docker ps --filter network={}", machines.network));
        format!(
            "  kubectl get mysqlclusters -o wide\n  kubectl scale mysqlcluster {NAME} --replicas 5{}",
            machines.collect::<String>()
        )
    }
}

/// Fits an object of the example to small machines on a small host.
pub(super) fn adapt(object: &mut Value) {
    if object["kind"] == "MySQLCluster" {
        object["spec"]["mySQLOptions"]["performance_schema"] = json!("OFF");
        object["spec"]["mySQLOptions"]["innodb_buffer_pool_size"] = json!("67108864");
    }
}

impl Machines {
    async fn prepare(docker: Docker, command: &mut Command) -> anyhow::Result<Self> {
        let image = Images::new(&docker).ensure(Image::Ec2Instance).await?;
        let network = format!("ec2-{}", unique());
        let program = docker.program().to_string_lossy().into_owned();
        let janitor = Janitor::engage(SWEEP, &[program, network.clone()])?;
        // Another run beside this one has another, most likely.
        let range = (128 + std::process::id() % 128).to_string();
        command.args([
            "--machine-image",
            &image,
            "--machine-network",
            &network,
            "--range",
            &range,
        ]);
        Ok(Self {
            docker,
            network,
            _janitor: janitor,
        })
    }

    /// Writes a row through the writer and reads it from every replica; returns how many they are.
    async fn replicate(&self, client: &Client) -> anyhow::Result<usize> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("mysql.alx.ke", "v1", "MySQLCluster"));
        let clusters: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &kind);
        let cluster = clusters.get(NAME).await?;
        let members = cluster.data.pointer("/status/members").and_then(Value::as_array);
        let members = members.context("the cluster has no members")?;
        let of_role = |role: &'static str| {
            let of_role = move |member: &&Value| member["role"] == role;
            members
                .iter()
                .filter(of_role)
                .map(Member::of)
                .collect::<Option<Vec<_>>>()
        };
        let (primaries, replicas) = of_role("Primary")
            .zip(of_role("Replica"))
            .context("a member of the cluster has no address")?;
        let [primary] = primaries.as_slice() else {
            bail!("the cluster has {} primaries", primaries.len());
        };
        let account = Account::of(client).await?;
        let written = "CREATE TABLE up (id INT PRIMARY KEY); INSERT INTO up VALUES (42);";
        self.sql(primary, &account, written).await?;
        let deadline = Instant::now() + REPLICATION;
        for replica in &replicas {
            loop {
                // The table may not be there yet.
                let read = self.sql(replica, &account, "SELECT id FROM up").await;
                if read.as_deref().is_ok_and(|row| row == "42") {
                    break;
                }
                ensure!(
                    Instant::now() < deadline,
                    "{} has not the row: {read:?}",
                    replica.instance
                );
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(replicas.len())
    }

    async fn sql(&self, member: &Member, account: &Account, statement: &str) -> anyhow::Result<String> {
        let container = format!("{}-{}", self.network, member.instance);
        let host = format!("--host={}", member.address);
        let (user, password) = (
            format!("--user={}", account.user),
            format!("--password={}", account.password),
        );
        let command = [
            "mysql",
            &host,
            &user,
            &password,
            "--ssl-mode=REQUIRED",
            "--batch",
            "--skip-column-names",
            &account.database,
        ];
        let printed = self
            .docker
            .exec_with(&container, &command, statement.as_bytes())
            .await?;
        Ok(printed)
    }
}

/// Where a member is.
struct Member {
    instance: String,
    address: String,
}

impl Member {
    fn of(member: &Value) -> Option<Self> {
        let text = |key: &str| member[key].as_str().map(str::to_owned);
        Some(Self {
            instance: text("instanceId")?,
            address: text("privateIP")?,
        })
    }
}

/// What the binding gives to applications.
struct Account {
    user: String,
    password: String,
    database: String,
}

impl Account {
    async fn of(client: &Client) -> anyhow::Result<Self> {
        let secrets: Api<Secret> = Api::default_namespaced(client.clone());
        let data = secrets
            .get(&format!("{NAME}-binding"))
            .await?
            .data
            .unwrap_or_default();
        let text = |key: &str| {
            let ByteString(bytes) = data
                .get(key)
                .with_context(|| format!("the binding has no {key}"))?;
            String::from_utf8(bytes.clone()).with_context(|| format!("{key} of the binding is no text"))
        };
        Ok(Self {
            user: text("username")?,
            password: text("password")?,
            database: text("database")?,
        })
    }
}
