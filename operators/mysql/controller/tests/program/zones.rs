//! Time zones by name.

use std::fs;

use mysql_controller::database::program::{Policy, RESTORE};

use crate::site::{Site, order, restore};

/// As every server of the official image has them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_servers_new_and_restored_know_time_zones_by_their_names() {
    let site = Site::new().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("zone.cnf"),
        "[mysqld]\ndefault_time_zone=Europe/Berlin\n",
    )
    .unwrap();
    let zone = format!("{}:/etc/mysql/conf.d:ro", folder.path().display());
    let run = ["--network=none", "--volume", &zone];
    let converted = "SELECT CONVERT_TZ('2026-07-01 12:00:00', 'UTC', 'America/New_York'), @@GLOBAL.time_zone";
    let options = ["--default-time-zone=Europe/Berlin"];
    site.run(RESTORE, &restore(Policy::Never, None), &run)
        .await
        .origin();
    let server = site.server(&options).await;
    let known = "2026-07-01 08:00:00\tEurope/Berlin";
    assert_eq!(server.sql(converted).await, known);
    // A dump sets the zone in which an event was made.
    let event = "CREATE EVENT later ON SCHEDULE AT '2099-07-01 12:00:00' DO SELECT 1";
    server
        .sql(&format!("SET time_zone = 'Asia/Tokyo'; {event}"))
        .await;
    site.backup(&order("b1"), &server, &[]).await.backup();
    server.stop().await;
    site.lose_volume("data").await;
    site.run(RESTORE, &restore(Policy::Required, None), &run)
        .await
        .origin();
    let server = site.server(&options).await;
    assert_eq!(server.sql(converted).await, known);
    let zone = "SELECT time_zone FROM information_schema.events WHERE event_name = 'later'";
    assert_eq!(server.sql(zone).await, "Asia/Tokyo");
}
