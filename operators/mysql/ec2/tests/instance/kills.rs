//! Operator, backup and restore are killed at random moments: there is always an end, and every row is there.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use testkit::progress;

use crate::bed::{Bed, NAME};

const ROWS: &str =
    "CREATE TABLE t (a INT PRIMARY KEY, b BLOB); INSERT INTO t VALUES (1, RANDOM_BYTES(1000)), (2, '');";
const DOUBLE: &str = "INSERT INTO t SELECT (SELECT MAX(a) FROM t AS u) + a, RANDOM_BYTES(1000) FROM t;";
const SUM: &str = "SELECT COUNT(*), SUM(CRC32(b)) FROM t";

/// What is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Operator,
    Backup,
    Restore,
}

/// The Job of a victim.
fn job(victim: Victim) -> Option<String> {
    match victim {
        Victim::Operator => None,
        Victim::Backup => Some(format!("backup-{NAME}-job")),
        Victim::Restore => Some(format!("restore-{NAME}-job")),
    }
}

/// Waits until a Pod of the Job runs, or until what it is there for has come to its end without having been seen.
async fn runs(bed: &Bed, victim: Victim, job: &str) {
    let selector = format!("--selector=batch.kubernetes.io/job-name={job}");
    let running = [
        "get",
        "pods",
        &selector,
        "--field-selector=status.phase=Running",
        "--output=name",
    ];
    bed.eventually("a Pod to kill runs", async || {
        let seen = bed
            .try_kubectl(&running, "")
            .await
            .is_ok_and(|found| !found.is_empty());
        seen || match victim {
            Victim::Restore => bed.is_ready().await,
            _ => bed.is_gone().await,
        }
    })
    .await;
}

/// Kills what runs of `victim`, up to `later` after it was seen to run; says whether that hit.
async fn kill(bed: &mut Bed, victim: Victim, later: Duration) -> bool {
    let Some(job) = job(victim) else {
        tokio::time::sleep(later).await;
        bed.kill_operator();
        return true;
    };
    runs(bed, victim, &job).await;
    tokio::time::sleep(later).await;
    let selector = format!("--selector=batch.kubernetes.io/job-name={job}");
    let delete = [
        "delete",
        "pods",
        &selector,
        "--field-selector=status.phase=Running",
        "--grace-period=0",
        "--force",
    ];
    // One that has ended by itself meanwhile is no hit.
    let deleted = bed.try_kubectl(&delete, "").await;
    deleted.is_ok_and(|printed| printed.contains("deleted"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: --full"]
async fn smoke_no_row_is_lost_whatever_is_killed_while_a_database_goes_and_comes_again() {
    let full = std::env::var_os("TESTKIT_FULL").is_some();
    let seed = std::env::var("REPLAY").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    progress::line(&format!("REPLAY='{seed}'"));
    let mut random = StdRng::seed_from_u64(seed);
    let mut moment = |longest: u64| Duration::from_millis(random.random_range(0..longest));
    let mut bed = Bed::new("kills").await;
    bed.apply().await;
    bed.ready().await;
    bed.sql(&format!("{ROWS}{}", DOUBLE.repeat(14))).await;
    let sum = bed.sql(SUM).await;
    let (mut backups, mut restores) = (0, 0);
    let wanted = if full { 8 } else { 1 };
    for round in 0..wanted + 5 {
        // A Pod that is quick may end before it is hit: then once more.
        if round >= wanted && backups > 0 && restores > 0 {
            break;
        }
        bed.kubectl(&["delete", "ms", NAME, "--wait=false"]).await;
        for victim in [Victim::Operator, Victim::Backup, Victim::Operator] {
            let longest = if matches!(victim, Victim::Operator) {
                2_000
            } else {
                300
            };
            let hit = kill(&mut bed, victim, moment(longest)).await;
            backups += usize::from(hit && matches!(victim, Victim::Backup));
        }
        bed.eventually("it is gone", async || bed.is_gone().await).await;
        bed.apply().await;
        for victim in [Victim::Operator, Victim::Restore, Victim::Operator] {
            let longest = if matches!(victim, Victim::Operator) {
                3_000
            } else {
                2_000
            };
            let hit = kill(&mut bed, victim, moment(longest)).await;
            restores += usize::from(hit && matches!(victim, Victim::Restore));
        }
        bed.eventually("it is ready", async || bed.is_ready().await).await;
        assert_eq!(bed.sql(SUM).await, sum);
    }
    progress::line(&format!(
        "killed {backups} backups and {restores} restores while they ran"
    ));
    assert!(
        backups > 0 && restores > 0,
        "nothing was hit: {backups} backups, {restores} restores"
    );
}

/// The server, which the backup may have closed, comes again open.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: --full"]
async fn smoke_a_node_that_starts_again_in_the_midst_of_the_last_backup_loses_no_row() {
    let bed = Bed::new("node").await;
    bed.apply().await;
    bed.ready().await;
    bed.sql(&format!("{ROWS}{}", DOUBLE.repeat(15))).await;
    let sum = bed.sql(SUM).await;
    bed.kubectl(&["delete", "ms", NAME, "--wait=false"]).await;
    runs(&bed, Victim::Backup, &format!("backup-{NAME}-job")).await;
    bed.restart_nodes().await;
    bed.eventually("it is gone", async || bed.is_gone().await).await;
    bed.apply().await;
    bed.eventually("it is ready", async || bed.is_ready().await).await;
    assert_eq!(bed.sql(SUM).await, sum);
}
