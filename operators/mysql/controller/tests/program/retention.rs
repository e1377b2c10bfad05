//! Which backups stay, so that there is a way back to them.

use mysql_controller::database::program::{Backup, Origin, Policy};

use crate::site::{Server, Site, order};

async fn filled(site: &Site) -> Server<'_> {
    site.restore(Policy::Never, None).await.origin();
    let server = site.server(&[]).await;
    server.sql("CREATE TABLE t (a INT)").await;
    server
}

const THERE: &str = "cd /backup && ls | tr '\\n' ' '";

/// Backups of this object and the next ones of its name, each under a UID of its own, which begins the backup's id.
async fn take(site: &Site, server: &Server<'_>, id: &str, change: impl FnOnce(Backup<'_>) -> Backup<'_>) {
    let uid = id.get(..1).unwrap();
    let asked = Backup {
        data_uid: uid,
        ..order(id)
    };
    assert_eq!(site.backup(&change(asked), server, &[]).await.backup().id, id);
}

fn pinned(mut order: Backup<'_>) -> Backup<'_> {
    order.from = Some("a1");
    order
}

fn fresh(mut order: Backup<'_>) -> Backup<'_> {
    order.is_fresh = true;
    order
}

fn last(mut order: Backup<'_>) -> Backup<'_> {
    order.is_final = true;
    order
}

/// Only a new server is restored: who wants an older backup deletes the object, which takes one more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_a_last_backup_takes_no_older_ones_place() {
    let site = Site::new().await;
    let server = filled(&site).await;
    for id in ["a1", "a2"] {
        take(&site, &server, id, |order| order).await;
    }
    server.sql("INSERT INTO t VALUES (3)").await;
    take(&site, &server, "a3", last).await;
    assert_eq!(site.shell(THERE).await, "a1 a2 a3 ");
    // Taken again, since the server was open meanwhile, it is no other one.
    server.restart().await;
    take(&site, &server, "a3", last).await;
    assert_eq!(site.shell(THERE).await, "a1 a2 a3 ");
    server.stop().await;
    site.lose_volume("data").await;
    let Origin::Backup(backup) = site.restore(Policy::Required, Some("a1")).await.origin() else {
        panic!("not restored")
    };
    assert_eq!(backup.id, "a1");
    let server = site.server(&[]).await;
    assert_eq!(server.sql("SELECT COUNT(*) FROM t").await, "0");
    // The one that the spec names stays, however many there are after it.
    take(&site, &server, "b1", pinned).await;
    assert_eq!(site.shell(THERE).await, "a1 a3 b1 ");
    take(&site, &server, "b2", |order| last(pinned(order))).await;
    assert_eq!(site.shell(THERE).await, "a1 a3 b1 b2 ");
    server.restart().await;
    take(&site, &server, "c1", |order| order).await;
    assert_eq!(site.shell(THERE).await, "b2 c1 ");
}

/// What an object that was told to begin with nothing has backed up does not follow on what was there before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_a_server_that_began_empty_removes_no_backup_of_what_it_has_not() {
    let site = Site::new().await;
    let server = filled(&site).await;
    for id in ["a1", "a2"] {
        take(&site, &server, id, |order| order).await;
    }
    // As manifests were before they said whose they are.
    site.shell("sed -i '/dataUid/d' /backup/a1/manifest.json").await;
    for id in ["b1", "b2", "b3"] {
        take(&site, &server, id, fresh).await;
    }
    assert_eq!(site.shell(THERE).await, "a1 a2 b2 b3 ");
    // But the volume does not fill up for ever.
    take(&site, &server, "c1", fresh).await;
    assert_eq!(site.shell(THERE).await, "b2 b3 c1 ");
    take(&site, &server, "c2", |order| order).await;
    assert_eq!(site.shell(THERE).await, "c1 c2 ");
}
