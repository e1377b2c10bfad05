//! Killed at any moment.

use std::time::Duration;

use mysql_controller::database::program::{BACKUP, Origin, Policy, RESTORE, Reason};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;

use crate::site::{Site, order, restore};

/// A moment that surely is in the middle of the work, however the machine's load changes, and then moments up to
/// `whole`, and beyond it a little.
fn moments(few: usize, many: usize, whole: Duration) -> Vec<Duration> {
    let full = std::env::var_os("TESTKIT_FULL").is_some();
    let seed = std::env::var("REPLAY").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    testkit::progress::line(&format!("REPLAY='{seed}'"));
    let mut random = StdRng::seed_from_u64(seed);
    let longest = whole.as_millis() * 11 / 10;
    let others = (0..if full { many } else { few })
        .map(|_| Duration::from_millis(random.random_range(0..u64::try_from(longest).unwrap())));
    std::iter::once(whole / 4).chain(others).collect()
}

/// Lets a container run for so long, kills it if it still runs, and removes it.
async fn kill_after(site: &Site, container: &str, moment: Duration) {
    tokio::time::sleep(moment).await;
    site.docker.run(&["kill", container]).await.ok();
    site.docker.run(&["wait", container]).await.unwrap();
    site.remove(container).await;
}

const ROWS: &str = "CREATE TABLE t (a INT PRIMARY KEY, b BLOB);
INSERT INTO t VALUES (1, RANDOM_BYTES(500)), (2, RANDOM_BYTES(500)), (3, RANDOM_BYTES(500)), (4, RANDOM_BYTES(500));";
const DOUBLE: &str = "INSERT INTO t SELECT (SELECT MAX(a) FROM t AS u) + a, RANDOM_BYTES(500) FROM t;";
const SUM: &str = "SELECT COUNT(*), SUM(a), SUM(CRC32(CONCAT(a, b))) FROM t";

/// Some megabytes in a server, and what tells that they are the same.
async fn with_data(site: &Site) -> String {
    site.restore(Policy::Never, None).await.origin();
    let server = site.server(&[]).await;
    server.sql(&format!("{ROWS}{}", DOUBLE.repeat(13))).await;
    let sum = server.sql(SUM).await;
    site.backup(&order("good"), &server, &[]).await.backup();
    server.stop().await;
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: --full"]
async fn smoke_killed_at_any_moment_a_restore_leaves_nothing_or_everything_and_ends() {
    let site = Site::new().await;
    let sum = with_data(&site).await;
    site.lose_volume("data").await;
    let began = Instant::now();
    site.restore(Policy::Required, None).await.origin();
    let whole = began.elapsed();
    site.lose_volume("data").await;
    let mut unfinished = 0;
    for moment in moments(2, 80, whole) {
        let container = site
            .begin(RESTORE, &restore(Policy::Required, None), &["--network=none"])
            .await;
        kill_after(&site, &container, moment).await;
        let guard = site.guard().await;
        if guard.status == 0 {
            // It had done its work: begin anew.
            site.restore(Policy::Required, None).await.origin();
            site.lose_volume("data").await;
        } else {
            assert_eq!(guard.reason(), Reason::DataFolderNotPrepared);
            unfinished += 1;
        }
    }
    assert!(unfinished > 0, "no restore was killed in {whole:?}");
    let Origin::Backup(backup) = site.restore(Policy::Required, None).await.origin() else {
        panic!("not restored")
    };
    assert_eq!(backup.id, "good");
    let server = site.server(&[]).await;
    assert_eq!(server.sql(SUM).await, sum);
    assert_eq!(
        site.shell("ls -A /var/lib/mysql | grep -c '^.mysql-operator$' || true")
            .await,
        "0"
    );
}

/// While what is whole is moved to its place, where few moments of a whole restore fall.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_a_restore_that_was_killed_while_it_moved_its_work_goes_on_with_it() {
    let site = Site::new().await;
    site.restore(Policy::Never, None).await.origin();
    let all = site.shell("cd /var/lib/mysql && ls -A | sort").await;
    let entries: Vec<&str> = all
        .lines()
        .filter(|name| *name != ".mysql-operator.json")
        .collect();
    let mark = site.shell("cat /var/lib/mysql/ibdata1 | sha256sum").await;
    for moved in [0, 1, entries.len() / 2, entries.len(), entries.len() + 1] {
        let back = entries
            .iter()
            .skip(moved)
            .map(|name| format!("mv '{name}' .mysql-operator/whole/"));
        let back: Vec<_> = back.collect();
        let note = if moved > entries.len() {
            "true"
        } else {
            "mv .mysql-operator.json .mysql-operator/whole/"
        };
        site.shell(&format!(
            "cd /var/lib/mysql && mkdir -p .mysql-operator/whole && {{ {note}\n{}\n}}",
            back.join("\n")
        ))
        .await;
        assert_eq!(
            site.guard().await.reason(),
            Reason::DataFolderNotPrepared,
            "{moved} moved"
        );
        assert_eq!(
            site.restore(Policy::Never, None).await.origin(),
            Origin::Empty,
            "{moved} moved"
        );
        assert_eq!(site.guard().await.origin(), Origin::Existing);
        assert_eq!(
            site.shell("cd /var/lib/mysql && ls -A | sort").await,
            all,
            "{moved} moved"
        );
    }
    assert_eq!(site.shell("cat /var/lib/mysql/ibdata1 | sha256sum").await, mark);
    site.server(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: --full"]
async fn smoke_killed_at_any_moment_a_backup_is_whole_or_absent_and_the_last_good_one_stays() {
    let site = Site::new().await;
    with_data(&site).await;
    let server = site.server(&[]).await;
    let network = format!("--network=container:{}", server.container);
    let began = Instant::now();
    site.backup(&order("first"), &server, &[]).await.backup();
    let whole = began.elapsed();
    // Every folder that is called a backup is one.
    let check = r#"cd /backup && for m in */manifest.json; do d=${m%/*}; case $d in *.partial) continue ;; esac
      [ "$(sha256sum < $d/dump.sql.gz | cut -d ' ' -f 1)" = "$(sed -n 's/.*"sha256": "\(.*\)",/\1/p' $m)" ] || exit 1
      gzip -dc $d/dump.sql.gz | tail -n 1 | grep -q '^-- Dump completed' || exit 2; echo $d; done"#;
    let mut unfinished = 0;
    for (number, moment) in moments(2, 80, whole).into_iter().enumerate() {
        let id = format!("k{number}");
        let container = site.begin(BACKUP, &order(&id).environment(), &[&network]).await;
        kill_after(&site, &container, moment).await;
        let there = site.shell(check).await;
        assert!(there.lines().count() >= 2, "{there}");
        unfinished += usize::from(!there.lines().any(|name| name == id));
    }
    assert!(unfinished > 0, "no backup was killed in {whole:?}");
    site.backup(&order("last"), &server, &[]).await.backup();
    let there = site.shell("ls /backup").await;
    assert!(there.lines().count() == 2 && there.contains("last"), "{there}");
}
