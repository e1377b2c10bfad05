//! The story of the kind's first document, command by command.

use testkit::progress;
use tokio::time::Instant;

use crate::bed::{Bed, NAME};

const CREATE: &str = "CREATE TABLE test (id smallint unsigned not null auto_increment, name varchar(20) not null, \
    constraint pk_example primary key (id) );";

/// Whatever people can read, Secrets and the object itself apart; and what the operator writes.
async fn readable(bed: &Bed) -> String {
    let kinds =
        "pods,deployments,replicasets,jobs,services,endpointslices,persistentvolumeclaims,configmaps,events";
    let mut all = bed.kubectl(&["get", kinds, "--output=yaml"]).await;
    for pod in bed.names("pods").await {
        let logs = ["logs", &pod, "--all-containers", "--prefix"];
        all += &bed.try_kubectl(&logs, "").await.unwrap_or_default();
    }
    let log = bed.log();
    assert!(!log.is_empty());
    all + &log
        + &bed
            .kubectl(&["get", "mysqls", "--output=jsonpath={.items[*].status}"])
            .await
}

#[tokio::test(flavor = "multi_thread")]
async fn smoke_rows_are_back_when_a_deleted_database_is_made_again() {
    let bed = Bed::new("story").await;
    let began = Instant::now();
    bed.apply().await;
    bed.ready().await;
    progress::line(&format!(
        "from apply to Ready, empty: {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    let pod = bed.pod().await;
    assert_eq!(bed.kubectl(&["exec", &pod, "--", "id", "-u"]).await.trim(), "999");
    bed.sql(CREATE).await;
    bed.sql("INSERT INTO test ( id, name) VALUES ( null, 'some data' );")
        .await;
    bed.sql("INSERT INTO test ( id, name) VALUES ( null, 'some data-2' );")
        .await;
    assert_eq!(
        bed.sql("select * from test;").await,
        "1\tsome data\n2\tsome data-2"
    );
    assert!(!readable(&bed).await.contains("otuspassword"));

    let began = Instant::now();
    bed.kubectl(&["delete", "ms", NAME, "--timeout=240s"]).await;
    progress::line(&format!(
        "from delete to gone: {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    bed.eventually("its children are gone", async || {
        let mut left = Vec::new();
        for kind in [
            "pods --selector=app=mysql-instance",
            "deployments",
            "services",
            "pvc",
        ] {
            let words: Vec<_> = kind.split(' ').collect();
            let names = "--output=jsonpath={.items[*].metadata.name}";
            let found = bed.kubectl(&[&["get"], &words[..], &[names]].concat()).await;
            left.extend(found.split_whitespace().map(str::to_owned));
        }
        left == ["backup-mysql-instance-pvc"]
    })
    .await;
    assert!(
        bed.jobs().await.contains("backup-mysql-instance-job 1/1"),
        "{}",
        bed.jobs().await
    );

    let began = Instant::now();
    bed.apply().await;
    bed.ready().await;
    progress::line(&format!(
        "from apply to Ready, restored: {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    assert_eq!(
        bed.sql("select * from test;").await,
        "1\tsome data\n2\tsome data-2"
    );
    bed.sql("INSERT INTO test ( id, name ) VALUES ( null, 'some data-3' );")
        .await;
    assert_eq!(bed.sql("select count(*) from test;").await, "3");
    let jobs = bed.jobs().await;
    assert!(jobs.contains("restore-mysql-instance-job 1/1"), "{jobs}");
    assert!(!readable(&bed).await.contains("otuspassword"));
    let kept = bed.names("persistentvolumeclaims").await;
    assert_eq!(kept, ["backup-mysql-instance-pvc", "mysql-instance-pvc"]);
}
