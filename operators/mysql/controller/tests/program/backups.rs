//! What becomes of backups.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use mysql_controller::database::program::{Backup, Origin, Policy, RESTORE, Reason};
use tokio::time::Instant;

use crate::site::{LIMIT, Server, Site, knowing, order};

async fn filled(site: &Site) -> Server<'_> {
    site.restore(Policy::Never, None).await.origin();
    let server = site.server(&[]).await;
    server
        .sql("CREATE TABLE t (a INT PRIMARY KEY, b LONGBLOB); INSERT INTO t VALUES (1, RANDOM_BYTES(1000))")
        .await;
    server
}

/// A program to mount in the place of another.
fn stand_in(folder: &Path, name: &str, script: Option<&str>) -> String {
    let path = folder.join(name);
    fs::write(&path, script.unwrap_or_default()).unwrap();
    let mode = if script.is_some() { 0o755 } else { 0o644 };
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    format!("{}:/usr/bin/mysqldump:ro", path.display())
}

const LISTING: &str = "cd /backup && find . -type f | sort | xargs sha256sum; ls";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_a_backup_that_fails_says_why_and_touches_no_other() {
    let site = Site::new().await;
    let server = filled(&site).await;
    site.backup(&order("good"), &server, &[]).await.backup();
    let before = site.shell(LISTING).await;
    let folder = tempfile::tempdir().unwrap();
    let cut = stand_in(folder.path(), "cut", Some("#!/bin/sh\necho '-- half a dump'\n"));
    let killed = stand_in(
        folder.path(),
        "killed",
        Some("#!/bin/bash\necho '-- half'\nkill -KILL $$\n"),
    );
    let none = stand_in(folder.path(), "none", None);
    let bad = folder.path().join("client.cnf");
    fs::write(&bad, "[client]\nuser=root\npassword=wrong\n").unwrap();
    let bad = format!("{}:/etc/mysql-client/client.cnf:ro", bad.display());
    let next = order("next");
    let elsewhere = Backup {
        host: "no-such-host.invalid",
        ..next.clone()
    };
    let lost = Backup {
        database: "nonesuch",
        is_final: true,
        ..next.clone()
    };
    let odd = Backup {
        id: "../next",
        ..next.clone()
    };
    let cases: [(&Backup<'_>, &[&str], Reason); 7] = [
        (&next, &["--volume", &cut], Reason::DumpTruncated),
        (&next, &["--volume", &killed], Reason::DumpFailed),
        (&next, &["--volume", &none], Reason::ImageLacksProgram),
        (&next, &["--volume", &bad], Reason::AccessDenied),
        (&elsewhere, &["--env", "PATIENCE=1"], Reason::ServerUnreachable),
        (&lost, &[], Reason::DatabaseMissing),
        (&odd, &[], Reason::Misused),
    ];
    for (order, more, reason) in cases {
        let ended = site.backup(order, &server, more).await;
        assert_eq!(ended.reason(), reason, "{ended:?}");
    }
    assert_eq!(site.shell(LISTING).await, before);
    server.sql("INSERT INTO t VALUES (2, '')").await;
    assert_eq!(site.backup(&next, &server, &[]).await.backup().id, "next");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_a_full_volume_is_told_and_keeps_the_backups_that_it_has() {
    let site = Site::new().await;
    let small = ["--opt=type=tmpfs", "--opt=device=tmpfs", "--opt=o=size=1m"];
    site.replace_volume("backup", &small).await;
    let server = filled(&site).await;
    site.backup(&order("good"), &server, &[]).await.backup();
    let before = site.shell(LISTING).await;
    let double = "INSERT INTO t SELECT (SELECT MAX(a) FROM t AS u) + a, RANDOM_BYTES(1000) FROM t;";
    server.sql(&double.repeat(11)).await;
    let ended = site.backup(&order("next"), &server, &[]).await;
    assert_eq!(ended.reason(), Reason::VolumeFull, "{ended:?}");
    assert_eq!(site.shell(LISTING).await, before);
    // Two of some 400 KB leave no room for a third, unless fewer are to be kept; but none goes for one that is damaged.
    server.sql("DELETE FROM t WHERE a > 380").await;
    for id in ["b1", "b2"] {
        site.backup(&order(id), &server, &[]).await.backup();
    }
    let third = order("b3");
    assert_eq!(
        site.backup(&third, &server, &[]).await.reason(),
        Reason::VolumeFull
    );
    let fewer = Backup { keep: 1, ..third };
    site.shell("echo >> /backup/b2/manifest.json").await;
    assert_eq!(
        site.backup(&fewer, &server, &[]).await.reason(),
        Reason::VolumeFull
    );
    assert_eq!(site.shell("ls /backup").await, "b1\nb2");
    site.shell("sed -i '$d' /backup/b2/manifest.json").await;
    site.backup(&fewer, &server, &[]).await.backup();
    assert_eq!(site.shell("ls /backup").await, "b3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_the_newest_backups_stay_and_half_ones_go() {
    let site = Site::new().await;
    let server = filled(&site).await;
    for (number, id) in ["b1", "b2", "b3", "b4"].into_iter().enumerate() {
        site.backup(&order(id), &server, &[]).await.backup();
        // Ids are the operator's; what is newest is told by the time. And the clock of another node may go wrong.
        let time = format!("2026-01-0{}T00:00:00Z", number + 1);
        site.shell(&format!(
            "sed -i 's/\"time\": .*/\"time\": \"{time}\",/' /backup/{id}/manifest.json"
        ))
        .await;
        site.shell("mkdir -p /backup/zz.pod-1.partial && echo x > /backup/zz.pod-1.partial/dump.sql.gz")
            .await;
    }
    assert_eq!(site.shell("ls /backup").await, "b3\nb4\nzz.pod-1.partial");
    let newest = site.backup(&order("a0"), &server, &[]).await;
    assert_eq!(newest.backup().id, "a0");
    assert_eq!(site.shell("ls /backup").await, "a0\nb4");
    // What the operator knows of as the newest may go before it has heard of the next.
    let one = Backup {
        keep: 1,
        ..order("a1")
    };
    for _ in 0..2 {
        site.backup(&one, &server, &[]).await.backup();
        assert_eq!(site.shell("ls /backup").await, "a1");
    }
    server.stop().await;
    site.lose_volume("data").await;
    site.shell("touch /backup/orders-dump.sql").await;
    let restored = async |known: &str| site.run(RESTORE, &knowing(known), &["--network=none"]).await;
    let missed = restored("b4").await.failure();
    assert_eq!(missed.reason, Reason::BackupMissing);
    assert!(missed.error.contains("(there are: a1 original )"), "{missed:?}");
    let Origin::Backup(backup) = restored("a0").await.origin() else {
        panic!("not restored")
    };
    assert_eq!(backup.id, "a1");
}

/// Nodes' clocks go wrong, and one that goes ahead would have its backup be the newest for years.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: --full"]
async fn smoke_a_backup_is_newer_than_those_before_it_whatever_the_clocks_say() {
    let site = Site::new().await;
    let server = filled(&site).await;
    site.backup(&order("ahead"), &server, &[]).await.backup();
    site.shell(
        "sed -i 's/\"time\": .*/\"time\": \"2099-12-31T23:59:59.999Z\",/' /backup/ahead/manifest.json",
    )
    .await;
    server.sql("INSERT INTO t VALUES (2, '')").await;
    let one = Backup {
        keep: 1,
        ..order("last")
    };
    let last = site.backup(&one, &server, &[]).await.backup();
    assert_eq!(last.time.to_string(), "2100-01-01T00:00:00Z");
    assert_eq!(site.shell("ls /backup").await, "last", "the older one goes");
    assert_eq!(rows_after_a_loss(&site, server).await, "2");
}

/// How many rows there are once the data volume is lost and made again from the newest backup.
async fn rows_after_a_loss(site: &Site, server: Server<'_>) -> String {
    server.stop().await;
    site.lose_volume("data").await;
    site.restore(Policy::Required, None).await.origin();
    site.server(&[]).await.sql("SELECT COUNT(*) FROM t").await
}

/// What runs under `FINAL` may be killed at any moment, and be run again under the same name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_a_last_backup_that_fails_leaves_the_server_as_open_as_it_was() {
    let site = Site::new().await;
    let server = filled(&site).await;
    let last = Backup {
        is_final: true,
        ..order("last")
    };
    let folder = tempfile::tempdir().unwrap();
    let cut = stand_in(folder.path(), "cut", Some("#!/bin/sh\necho '-- half a dump'\n"));
    let state = "SELECT @@GLOBAL.read_only, @@GLOBAL.super_read_only";
    // Killed while the server was closed: the next run finds it so.
    let stays = stand_in(folder.path(), "stays", Some("#!/bin/sh\nexec sleep 1000\n"));
    let network = format!("--network=container:{}", server.container);
    let run = [network.as_str(), "--volume", &stays];
    let container = site
        .begin(
            mysql_controller::database::program::BACKUP,
            &last.environment(),
            &run,
        )
        .await;
    let deadline = Instant::now() + LIMIT;
    while server.sql(state).await != "1\t1" {
        assert!(Instant::now() < deadline, "it is not closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    site.remove(&container).await;
    assert_eq!(server.sql(state).await, "1\t1", "nobody opened it");
    let ended = site.backup(&last, &server, &["--volume", &cut]).await;
    assert_eq!(ended.reason(), Reason::DumpTruncated, "{ended:?}");
    assert_eq!(server.sql(state).await, "0\t0");
    // A server that its owner keeps closed to all but root stays that.
    server.sql("SET GLOBAL read_only = ON").await;
    site.backup(&last, &server, &["--volume", &cut]).await.reason();
    assert_eq!(server.sql(state).await, "1\t0");
    assert_eq!(site.shell("ls -A /backup").await, "", "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: --full"]
async fn smoke_a_last_backup_is_taken_again_if_the_server_was_open_since() {
    let site = Site::new().await;
    let server = filled(&site).await;
    let last = Backup {
        is_final: true,
        ..order("last")
    };
    let first = site.backup(&last, &server, &[]).await.backup();
    let told = site.backup(&last, &server, &[]).await.backup();
    assert_eq!(told, first, "it was closed all the time");
    server.restart().await;
    server.sql("INSERT INTO t VALUES (2, '')").await;
    let again = site.backup(&last, &server, &[]).await.backup();
    assert!(again.time > first.time);
    assert_eq!(site.shell("ls -A /backup").await, "last");
    assert_eq!(rows_after_a_loss(&site, server).await, "2");
}

/// Deletion ends a server while clients write: what they were told is stored is in its last backup.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_the_last_backup_has_every_row_that_a_client_was_told_is_stored() {
    let site = Site::new().await;
    let server = filled(&site).await;
    let client = r#"n=100
while mysql --defaults-file=/etc/mysql-client/client.cnf --batch --database="$DATABASE" --execute="INSERT INTO t VALUES ($n, '')"
do n=$((n + 1)); echo $n > /tmp/next; done"#;
    let database = format!("DATABASE={}", crate::site::DATABASE);
    let write = [
        "exec",
        "--detach",
        "--env",
        &database,
        &server.container,
        "/bin/sh",
        "-c",
        client,
    ];
    site.docker.run(&write).await.unwrap();
    let deadline = Instant::now() + LIMIT;
    while server.sql("SELECT COUNT(*) > 3 FROM t").await != "1" {
        assert!(Instant::now() < deadline, "nobody writes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let last = Backup {
        is_final: true,
        ..order("last")
    };
    site.backup(&last, &server, &[]).await.backup();
    let refused = server
        .sql_as(crate::site::PASSWORD, "INSERT INTO t VALUES (1000000, '')")
        .await;
    assert!(refused.unwrap_err().contains("super-read-only"));
    let next = site
        .docker
        .exec(&server.container, &["cat", "/tmp/next"])
        .await
        .unwrap();
    let told = next.trim().parse::<u64>().unwrap() - 100;
    server.stop().await;
    site.lose_volume("data").await;
    assert!(matches!(
        site.restore(Policy::Required, None).await.origin(),
        Origin::Backup(_)
    ));
    let server = site.server(&[]).await;
    let stored: u64 = server
        .sql("SELECT COUNT(*) FROM t WHERE a >= 100")
        .await
        .parse()
        .unwrap();
    assert_eq!(stored, told);
    server.sql("INSERT INTO t VALUES (1000000, '')").await;
}

/// A last backup is taken again, and takes the place of the one before: between the two names neither has its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_a_backup_that_was_to_be_replaced_by_one_that_never_came_has_its_name_again() {
    let site = Site::new().await;
    let server = filled(&site).await;
    site.backup(&order("last"), &server, &[]).await.backup();
    site.shell("cd /backup && mv last replaced.partial && cp -r replaced.partial last.other.partial")
        .await;
    // Whatever else fails.
    let nowhere = Backup {
        host: "nowhere.invalid",
        ..order("more")
    };
    let failed = site.backup(&nowhere, &server, &["--env=PATIENCE=1"]).await;
    assert_eq!(failed.reason(), Reason::ServerUnreachable, "{failed:?}");
    assert_eq!(site.shell("ls -A /backup").await, "last");
    // One that is there already, or is not whole, is nobody's.
    for harm in ["true", "rm -r last && echo short > replaced.partial/dump.sql.gz"] {
        site.shell(&format!("cd /backup && cp -r last replaced.partial && {harm}"))
            .await;
        site.backup(&order("more"), &server, &[]).await.backup();
        let there = site.shell("ls -A /backup").await;
        assert_eq!(there.contains("last"), harm == "true", "{there}");
        assert!(!there.contains("partial"), "{there}");
    }
}
