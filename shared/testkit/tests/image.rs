//! What the images that are not part of a cluster promise.
#![expect(
    clippy::unwrap_used,
    reason = "tests; the lint's own exception does not reach their helper functions"
)]

use std::{fs, path::Path, time::Duration};

use testkit::{
    docker::{Docker, LABEL},
    image::{Image, Images},
    process::Janitor,
};
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_mins(3);

/// A container that is removed with its volumes when the test ends, however it ends.
struct Container {
    docker: Docker,
    name: String,
    _janitor: Janitor,
}

impl Container {
    async fn run(image: Image, arguments: &[&str], command: &[&str]) -> Self {
        let docker = Docker::connect().await.unwrap();
        let tag = Images::new(&docker).ensure(image).await.unwrap();
        let id = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{LABEL}-{}-{}", image.name(), &id[..8]);
        let program = docker.program().to_string_lossy().into_owned();
        let janitor = Janitor::engage(r#""$1" rm --force --volumes "$2""#, &[program, name.clone()]).unwrap();
        let label = format!("{LABEL}.test=image");
        let begin = ["run", "--detach", "--name", &name, "--label", &label];
        docker
            .run(&[&begin, arguments, &[&tag], command].concat())
            .await
            .unwrap();
        Self {
            docker,
            name,
            _janitor: janitor,
        }
    }

    async fn exec(&self, command: &[&str]) -> String {
        self.docker.exec(&self.name, command).await.unwrap_or_default()
    }

    async fn sql(&self, user: &str, password: &str, statement: &str) -> String {
        let (user, password) = (format!("--user={user}"), format!("--password={password}"));
        let options = ["--host=127.0.0.1", "--batch", "--skip-column-names"];
        self.exec(
            &[
                &["mysql", &user, &password],
                &options[..],
                &["--execute", statement],
            ]
            .concat(),
        )
        .await
    }
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn mount(source: &Path, target: &str) -> String {
    format!("{}:{target}:ro", source.display())
}

#[tokio::test]
#[ignore = "takes minutes: --full"]
async fn smoke_mysql_takes_the_official_images_environment_files_and_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let secret = r#"se"cr'et\"#;
    fs::write(folder.path().join("password"), secret).unwrap();
    let scripts = folder.path().join("scripts");
    fs::create_dir(&scripts).unwrap();
    fs::write(
        scripts.join("1.sql"),
        "CREATE TABLE t (a INT); INSERT INTO t VALUES (7);",
    )
    .unwrap();
    let password = mount(&folder.path().join("password"), "/password");
    let scripts = mount(&scripts, "/docker-entrypoint-initdb.d");
    let environment = [
        "MYSQL_ROOT_PASSWORD_FILE=/password",
        "MYSQL_DATABASE=app",
        "MYSQL_USER=u",
        "MYSQL_PASSWORD=p",
    ];
    let mut arguments: Vec<&str> = environment
        .iter()
        .flat_map(|variable| ["--env", variable])
        .collect();
    arguments.extend(["--volume", &password, "--volume", &scripts]);
    let mysql = Container::run(Image::Mysql, &arguments, &["--server-id=42"]).await;

    let statement = "SELECT a, @@server_id FROM app.t";
    eventually("the user reads what a script wrote", async || {
        mysql.sql("u", "p", statement).await == "7\t42"
    })
    .await;
    assert_eq!(mysql.sql("root", secret, "SELECT 1").await, "1");
    assert_eq!(
        mysql.sql("root", "", "SELECT 1").await,
        "",
        "no way in without the password"
    );
    let zone = "SELECT CONVERT_TZ('2026-07-01 12:00:00', 'UTC', 'Europe/Berlin')";
    assert_eq!(mysql.sql("u", "p", zone).await, "2026-07-01 14:00:00");
    mysql.docker.run(&["restart", &mysql.name]).await.unwrap();
    eventually("the data is there after a restart", async || {
        mysql.sql("u", "p", statement).await == "7\t42"
    })
    .await;
}

#[tokio::test]
#[ignore = "takes minutes: --full"]
async fn smoke_an_instance_runs_its_user_data_once_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("meta-data"),
        "instance-id: i-1\nlocal-hostname: ip-10-0-0-5\n",
    )
    .unwrap();
    fs::write(folder.path().join("user-data"), include_str!("image/user-data")).unwrap();
    let seed = mount(folder.path(), "/var/lib/cloud/seed/nocloud");
    let machine = [
        "--privileged",
        "--cgroupns=private",
        "--tmpfs=/tmp",
        "--tmpfs=/run",
        "--volume",
        &seed,
    ];
    let instance = Container::run(Image::Ec2Instance, &machine, &[]).await;

    let answers = async || {
        instance
            .sql("app", "secret", "SELECT @@server_id, COUNT(*) FROM app.boots")
            .await
    };
    eventually("MySQL answers as the user data says", async || {
        answers().await == "77\t1"
    })
    .await;
    assert_eq!(
        instance.exec(&["cloud-init", "query", "instance_id"]).await,
        "i-1"
    );
    instance.docker.run(&["restart", &instance.name]).await.unwrap();
    eventually(
        "it answers again, and the user data did not run twice",
        async || answers().await == "77\t1",
    )
    .await;
}
