//! DynamoDB Local as a process.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::{net::TcpStream, process::Command, time::Instant};

use crate::process::free_address;

/// The last version of its Maven group, and the newest of which everything can be had.
const VERSION: &str = "2.6.1";

const MAIN: &str = "com.amazonaws.services.dynamodbv2.local.main.ServerRunner";

/// How long the server may take to listen.
const STARTUP: Duration = Duration::from_mins(3);

/// How many ports are tried, should somebody else take one first.
const ATTEMPTS: u32 = 3;

/// Kills the server as soon as the pipe to its standard input closes, however the process at the other end died.
const KEEPER: &str = r#""$@" </dev/null >/dev/null 2>&1 & server=$!; read -r _; kill -9 "$server""#;

/// A DynamoDB Local that dies with this process, or earlier with this value.
#[derive(Debug)]
pub(super) struct Process {
    address: SocketAddr,
    // Its standard input is the pipe that the keeper waits on.
    _keeper: std::process::ChildStdin,
}

impl Process {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let jars = installed().await?;
        for _ in 0..ATTEMPTS {
            let address = free_address()?;
            let keeper = spawn(&jars, address)?;
            if listens(address).await {
                return Ok(Self {
                    address,
                    _keeper: keeper,
                });
            }
        }
        bail!(
            "DynamoDB Local does not listen; run it by hand to see why: java -cp '{}/*' {MAIN} -inMemory",
            jars.display()
        )
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn spawn(jars: &Path, address: SocketAddr) -> anyhow::Result<std::process::ChildStdin> {
    let mut keeper = std::process::Command::new("sh")
        .args(["-c", KEEPER, "keeper", "java", "-Xmx512m", "-cp"])
        .arg(jars.join("*"))
        .args([
            MAIN,
            "-inMemory",
            "-sharedDb",
            "-disableTelemetry",
            "-port",
            &address.port().to_string(),
        ])
        .env("DDB_LOCAL_TELEMETRY", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run `sh` to start DynamoDB Local")?;
    let pipe = keeper
        .stdin
        .take()
        .context("the keeper of DynamoDB Local has no standard input")?;
    // Reaped when it ends, which is when the pipe closes.
    std::thread::spawn(move || keeper.wait());
    Ok(pipe)
}

async fn listens(address: SocketAddr) -> bool {
    let deadline = Instant::now() + STARTUP;
    while Instant::now() < deadline {
        if TcpStream::connect(address).await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

/// The folder with the program's jars, filled if it is not there.
async fn installed() -> anyhow::Result<PathBuf> {
    need("java", "apt-get install -y default-jre-headless").await?;
    let cache = cache()?;
    let folder = cache.join(format!("dynamodb-local-{VERSION}"));
    if folder.join("lib").is_dir() {
        return Ok(folder.join("lib"));
    }
    std::fs::create_dir_all(&cache)?;
    let lock = File::create(cache.join("dynamodb-local.lock"))?;
    // Held until the folder is whole: whoever else wants it waits.
    let _lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
    if !folder.join("lib").is_dir() {
        install(&folder).await?;
    }
    Ok(folder.join("lib"))
}

/// Fetches the jars beside the folder and renames it into place: it is whole or not there.
async fn install(folder: &Path) -> anyhow::Result<()> {
    need("mvn", "apt-get install -y maven").await?;
    let parent = folder.parent().context("the cache folder has no parent")?;
    let building = tempfile::Builder::new()
        .prefix("dynamodb-local-")
        .tempdir_in(parent)?;
    std::fs::write(building.path().join("pom.xml"), pom())?;
    eprintln!("fetching DynamoDB Local {VERSION} (51 MB)");
    let fetched = Command::new("mvn")
        .args([
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DoutputDirectory=lib",
        ])
        .current_dir(building.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(
        fetched.status.success(),
        "Maven cannot fetch com.amazonaws:DynamoDBLocal:{VERSION}: {}",
        String::from_utf8_lossy(&fetched.stdout)
    );
    match std::fs::rename(building.path(), folder) {
        Err(error) if !folder.join("lib").is_dir() => {
            Err(error).with_context(|| format!("cannot move DynamoDB Local to {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn pom() -> String {
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>testkit</groupId><artifactId>dynamodb-local</artifactId><version>1</version>\
         <packaging>pom</packaging><dependencies><dependency><groupId>com.amazonaws</groupId>\
         <artifactId>DynamoDBLocal</artifactId><version>{VERSION}</version></dependency></dependencies></project>"
    )
}

async fn need(program: &str, installation: &str) -> anyhow::Result<()> {
    let found = Command::new(program)
        .arg("-version")
        .stdin(Stdio::null())
        .output()
        .await;
    found.map(drop).with_context(|| {
        format!("DynamoDB Local needs `{program}`, which is not installed; install it: {installation}")
    })
}

fn cache() -> anyhow::Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => std::env::home_dir()
            .context("there is no home folder; set XDG_CACHE_HOME")?
            .join(".cache"),
    };
    Ok(base.join("operators-testbed"))
}
