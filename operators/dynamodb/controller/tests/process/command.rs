//! `dynamoctl delete-partition`, the shipped program, against a DynamoDB implementation: what it does, prints, and its exit
//! codes.

mod place;

use std::{
    io::Write as _,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use reconcile::clock::Clock;
use testkit::{
    dynamodb::{
        Fill, KeyType, Server, Table,
        faults::{Faults, Hook},
    },
    fault::{
        FaultPlan,
        proxy::{Options, Proxy},
    },
};

use crate::{
    bed::{BYSTANDER, BYSTANDERS, Gate, VICTIM, eventually, written},
    replica::signal,
};

/// A table behind a proxy, and nothing of Kubernetes.
struct World {
    server: Server,
    table: Table,
    faults: Faults,
    proxy: Proxy,
    home: tempfile::TempDir,
}

impl World {
    async fn new(items: u64) -> Self {
        reconcile::cli::install_crypto_provider();
        let server = Server::embedded().unwrap();
        let table = Table::new("Orders", "pk", KeyType::S).sorted_by("sk", KeyType::N);
        server.create_table(&table).await.unwrap();
        for (partition, items) in [(VICTIM, items), (BYSTANDER, BYSTANDERS)] {
            let fill = Fill::new(KeyType::S.value(partition), 0..items);
            server.fill(&table, &fill).await.unwrap();
        }
        let faults = Faults::new(Clock::system());
        let options = Options::new(&FaultPlan::default());
        let proxy = Proxy::start(server.address(), faults.clone(), options).unwrap();
        Self {
            server,
            table,
            faults,
            proxy,
            home: tempfile::tempdir().unwrap(),
        }
    }

    /// Items of the victim and of the bystander.
    async fn counts(&self) -> (u64, u64) {
        let count = async |partition| {
            let value = KeyType::S.value(partition);
            self.server.count_partition(&self.table, value).await.unwrap()
        };
        (count(VICTIM).await, count(BYSTANDER).await)
    }

    /// Makes the faults count the deleted keys.
    fn count_deleted(&self) {
        let never: Hook = Arc::new(|| Box::pin(async {}));
        self.faults
            .set(|settings| settings.hooks = vec![(u64::MAX, never)]);
    }

    /// The command with these flags, in an environment without AWS, and without a terminal.
    fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dynamoctl"));
        command
            .arg("delete-partition")
            .args(flags)
            .env_clear()
            .env("HOME", self.home.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The flags that name the victim, and some more.
    fn victim(&self, more: &[&str]) -> Command {
        let (url, value) = (self.proxy.endpoint(), written(KeyType::S, VICTIM));
        let flags = ["--table", "Orders", "--partition", &value, "--endpoint-url", &url];
        self.command(&[&flags[..], more].concat())
    }
}

/// What a command that ended said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

impl Said {
    /// The number before `words`.
    fn figure(&self, words: &str) -> u64 {
        let (before, _) = self.out.split_once(words).unwrap_or_else(|| panic!("{self:?}"));
        before.trim_end().rsplit(' ').next().unwrap().parse().unwrap()
    }
}

async fn run(mut command: Command) -> Said {
    let ended = tokio::task::spawn_blocking(move || command.output());
    ended.await.unwrap().unwrap().into()
}

/// A command under way; it is killed if the test fails.
struct Running(Option<Child>);

impl Running {
    fn start(mut command: Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    fn interrupt(&self) {
        let child = self.0.as_ref().unwrap();
        assert!(signal(child.id(), "INT"));
    }

    fn has_ended(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    async fn ended(mut self) -> Said {
        let child = self.0.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output());
        ended.await.unwrap().unwrap().into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_measures_then_deletes_proves_and_exits_with_0_also_by_the_originals_flags() {
    let world = World::new(120).await;
    let dry = run(world.victim(&["--dry-run"])).await;
    assert_eq!(dry.code, 0, "{dry:?}");
    assert_eq!(dry.figure("items ("), 120);
    assert_eq!(world.counts().await, (120, BYSTANDERS));

    let (url, value) = (world.proxy.endpoint(), written(KeyType::S, VICTIM));
    let flags = ["-t", "Orders", "-p", &value, "-e", &url, "-r", "eu-west-1", "-s"];
    let done = run(world.command(&flags)).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.figure("deletions acknowledged"), 120);
    assert!(
        done.out.contains("A strongly consistent read found nothing left"),
        "{done:?}"
    );
    assert_eq!(world.counts().await, (0, BYSTANDERS));

    let again = run(world.victim(&["--skip-confirmation", "--key-type", "S"])).await;
    assert_eq!(
        (again.code, again.figure("deletions acknowledged")),
        (0, 0),
        "{again:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_by_naming_the_flag_and_nothing_is_deleted() {
    let world = World::new(50).await;
    let (url, value) = (world.proxy.endpoint(), written(KeyType::S, VICTIM));
    let at = |table: &str, more: &[&str]| {
        let flags = ["-t", table, "-p", &value, "-e", &url];
        world.command(&[&flags[..], more].concat())
    };
    let long = "t".repeat(300);
    let metadata = ["-t", "Orders", "-p", "x", "-e", "http://169.254.169.254", "-s"];
    let empty = ["-t", "Orders", "-p", "", "-e", &url, "-s"];
    let aws = ["-t", "Orders", "-p", "x", "-s", "-r", "us-east-1"];
    for (command, code, words) in [
        (at("", &["-s"]), 1, "--table"),
        (at("a/b", &["-s"]), 1, "--table"),
        (at(&long, &["-s"]), 1, "--table"),
        (
            at("Nowhere", &["-s"]),
            1,
            "check --table, --region and --endpoint-url",
        ),
        (at("Orders", &["-s", "--key-type", "N"]), 1, "--key-type"),
        (at("Orders", &["-s", "-r", "evil/#"]), 1, "--region"),
        (world.command(&metadata), 1, "--endpoint-url"),
        (world.command(&empty), 1, "--partition"),
        // Nobody is there to be asked.
        (at("Orders", &[]), 1, "--yes"),
        (at("Orders", &["-s", "--max-wcu", "0"]), 2, "--max-wcu"),
        (at("Orders", &["-s", "--key-type", "X"]), 2, "--key-type"),
        (world.command(&["-t", "Orders"]), 2, "--partition"),
        // Where is not guessed when nobody is asked.
        (
            world.command(&["-t", "Orders", "-p", "x", "-s"]),
            1,
            "nothing says where",
        ),
        // AWS, and nobody's credentials.
        (world.command(&aws), 1, "profile \"default\""),
    ] {
        let said = run(command).await;
        assert_eq!(said.code, code, "{said:?}");
        assert!(said.err.contains(words), "{words}: {said:?}");
        let fields = [
            "tableName",
            "endpointURL",
            "awsRegion",
            "keyType",
            "secretRef",
            "DdbctlDpJob",
        ];
        assert!(!fields.iter().any(|field| said.err.contains(field)), "{said:?}");
    }
    let mut named = world.command(&aws);
    named.env("AWS_PROFILE", "nightly");
    let said = run(named).await;
    assert!(
        said.code == 1 && said.err.contains("profile \"nightly\""),
        "{said:?}"
    );
    assert_eq!(world.counts().await, (50, BYSTANDERS));
}

/// `script` gives the program a terminal.
#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_it_asks_and_only_a_yes_deletes() {
    let world = World::new(50).await;
    for (answer, code, left) in [("n\n", 3, 50), ("\n", 3, 50), ("y\n", 0, 0)] {
        let asked = world.victim(&[]);
        let words = std::iter::once(asked.get_program()).chain(asked.get_args());
        let line: Vec<_> = words
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        let mut command = Command::new("script");
        command
            .args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"])
            .env("HOME", world.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A terminal keeps what is typed before it is asked for.
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let said = Running(Some(child)).ended().await;
        assert_eq!(said.code, code, "{answer:?}: {said:?}");
        let asked = format!(
            "Delete these 50 items from Orders at {} (region us-east-1)? This cannot be undone. [y/N]",
            world.proxy.endpoint().trim_end_matches('/')
        );
        assert!(said.out.contains(&asked), "{asked}: {said:?}");
        assert_eq!(world.counts().await, (left, BYSTANDERS));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_in_mid_run_awaits_what_is_in_flight_and_says_what_was_deleted() {
    let world = World::new(2000).await;
    world.count_deleted();
    // Minutes, if nobody interrupts it.
    let running = Running::start(world.victim(&["--yes", "--max-wcu", "10"]));
    eventually("deletions go on", async || match world.faults.deleted() {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    })
    .await;
    running.interrupt();
    let said = running.ended().await;
    assert_eq!(said.code, 3, "{said:?}");
    let (left, bystanders) = world.counts().await;
    assert!(left > 0 && left < 2000 && bystanders == BYSTANDERS, "{left}");
    assert_eq!(said.figure("deletions acknowledged"), 2000 - left, "{said:?}");
    assert!(said.out.contains("run the command again to go on"), "{said:?}");

    let done = run(world.victim(&["--yes"])).await;
    assert_eq!(
        (done.code, done.figure("deletions acknowledged")),
        (0, left),
        "{done:?}"
    );
    assert_eq!(world.counts().await, (0, BYSTANDERS));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_before_anything_is_known_is_no_failure() {
    let world = World::new(0).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let running = Running::start(world.command(&["-t", "Orders", "-p", "x", "-e", &url, "--yes"]));
    // Nobody answers it.
    let _asked = listener.accept().await.unwrap();
    running.interrupt();
    let said = running.ended().await;
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.out.contains("nothing was deleted"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_interrupt_ends_it_at_once() {
    let world = World::new(2000).await;
    let gate = Gate::after(&world.faults, 300);
    let mut running = Running::start(world.victim(&["--yes"]));
    gate.until_held().await;
    // Two that come together are one: they are sent until it has had enough.
    eventually("it still runs", async || {
        if running.has_ended() {
            return Ok(());
        }
        running.interrupt();
        Err(String::new())
    })
    .await;
    let said = running.ended().await;
    assert_eq!(said.code, 130, "{said:?}");
    assert!(world.counts().await.0 > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_is_said_also_when_the_run_fails() {
    let world = World::new(2000).await;
    let faults = world.faults.clone();
    let deny: Hook = Arc::new(move || {
        let faults = faults.clone();
        Box::pin(async move {
            faults.set(|settings| settings.denied = vec!["BatchWriteItem".to_owned()]);
        })
    });
    world.faults.set(|settings| settings.hooks = vec![(300, deny)]);
    let said = run(world.victim(&["--yes", "--max-wcu", "100"])).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("dynamodb:BatchWriteItem"), "{said:?}");
    let (left, bystanders) = world.counts().await;
    assert!(left > 0 && bystanders == BYSTANDERS, "{left}");
    assert_eq!(said.figure("deletions acknowledged"), 2000 - left, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_write_capacity_is_kept() {
    const ITEMS: u64 = 1000;
    const WCU: u64 = 200;
    /// What may be in flight at once comes on top.
    const IN_FLIGHT: u64 = 16 * 25;
    let world = World::new(ITEMS).await;
    let began = Instant::now();
    let said = run(world.victim(&["--yes", "--max-wcu", &WCU.to_string()])).await;
    assert_eq!(said.code, 0, "{said:?}");
    let least = Duration::from_secs((ITEMS - IN_FLIGHT) / WCU);
    assert!(
        began.elapsed() >= least,
        "{:?} instead of {least:?}",
        began.elapsed()
    );
    assert_eq!(world.counts().await, (0, BYSTANDERS));
}
