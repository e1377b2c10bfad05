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

/// Kills what is there of `victim`.
async fn kill(bed: &mut Bed, victim: Victim) {
    let job = match victim {
        Victim::Operator => return bed.kill_operator(),
        Victim::Backup => format!("--selector=batch.kubernetes.io/job-name=backup-{NAME}-job"),
        Victim::Restore => format!("--selector=batch.kubernetes.io/job-name=restore-{NAME}-job"),
    };
    let delete = [
        "delete",
        "pods",
        &job,
        "--field-selector=status.phase=Running",
        "--grace-period=0",
        "--force",
    ];
    // One that ends by itself meanwhile is no concern.
    bed.try_kubectl(&delete, "").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
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
    for _ in 0..if full { 8 } else { 1 } {
        bed.kubectl(&["delete", "ms", NAME, "--wait=false"]).await;
        for victim in [Victim::Operator, Victim::Backup, Victim::Operator] {
            tokio::time::sleep(moment(3_000)).await;
            kill(&mut bed, victim).await;
        }
        bed.eventually("it is gone", async || bed.is_gone().await).await;
        bed.apply().await;
        for victim in [Victim::Operator, Victim::Restore, Victim::Operator] {
            tokio::time::sleep(moment(4_000)).await;
            kill(&mut bed, victim).await;
        }
        bed.eventually("it is ready", async || bed.is_ready().await).await;
        assert_eq!(bed.sql(SUM).await, sum);
    }
}
