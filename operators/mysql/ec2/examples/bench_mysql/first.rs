//! A life as the kind's first operator leads it, step by step, with its pauses, and without what cannot work here.
//!
//! Left out or changed: `--ignore-db-dir`, with which no server since 8.0 starts; its own image (5.7) for the restore,
//! which is the server's here; `[[ ]]`, which this image's shell does not know and takes for "no backup found"; static
//! volumes, for the document that shows it at work has provisioned ones. Its process is this one.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Service},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use reconcile::reconciler::Kind;
use serde_json::{Value, json};

use crate::{
    Life,
    ours::is_swept,
    site::{DATABASE, PASSWORD, POLL, Site},
};

/// How often it asks whether the server is available.
const SERVER_POLL: Duration = Duration::from_secs(10);
/// How often it asks whether the backup is taken.
const BACKUP_POLL: Duration = Duration::from_secs(1);

/// Creates, fills, deletes and creates again a database of this name.
pub(crate) async fn live(site: &Site, name: &str, mib: usize) -> Result<Life> {
    let began = Instant::now();
    create(site, name).await?;
    let ready = began.elapsed().as_secs_f64();
    succeeded(site, &restore_job(name), POLL).await?;
    let sum = site.fill(name, mib).await?;
    let began = Instant::now();
    delete(site, name).await?;
    let gone = began.elapsed().as_secs_f64();
    is_swept(site, name).await?;
    let began = Instant::now();
    create(site, name).await?;
    // It does not wait for the restore itself; who wants the rows does.
    succeeded(site, &restore_job(name), POLL).await?;
    let back = began.elapsed().as_secs_f64();
    let restored = site.sum(name).await?;
    ensure!(restored == sum, "{name} has {restored} rows back, not {sum}");
    delete(site, name).await?;
    is_swept(site, name).await?;
    Ok(Life { ready, gone, back })
}

/// What happens when an object is created.
async fn create(site: &Site, name: &str) -> Result<()> {
    make::<PersistentVolumeClaim>(site, claim(&format!("{name}-pvc"), "4Gi")).await?;
    make::<Service>(site, service(name)).await?;
    // That of the backups is there from before, the second time: the error is swallowed.
    let backups = claim(&format!("backup-{name}-pvc"), "1Gi");
    drop(make::<PersistentVolumeClaim>(site, backups).await);
    make::<Deployment>(site, deployment(site, name)).await?;
    let servers: Api<Deployment> = site.api();
    site.until("the server is available", SERVER_POLL, async || {
        let status = servers.get(name).await?.status.unwrap_or_default();
        Ok(status.available_replicas == Some(1))
    })
    .await?;
    let restore = format!(
        "sleep 5; if [ -f /backup/{name}-dump.sql ]; then mysql -u root -h {name} -p{PASSWORD} {DATABASE} < \
         /backup/{name}-dump.sql; else echo no backup found; fi"
    );
    make::<Job>(site, job(site, name, &restore_job(name), &restore)).await
}

/// What happens when an object is deleted.
async fn delete(site: &Site, name: &str) -> Result<()> {
    let jobs: Api<Job> = site.api();
    for ended in [restore_job(name), backup_job(name)] {
        remove(&jobs, &ended).await?;
    }
    let dump = format!("mysqldump -u root -h {name} -p{PASSWORD} {DATABASE} > /backup/{name}-dump.sql");
    // A Job of the same name may still be going.
    site.until("the Job can be made", POLL, async || {
        Ok(jobs.get_opt(&backup_job(name)).await?.is_none())
    })
    .await?;
    make::<Job>(site, job(site, name, &backup_job(name), &dump)).await?;
    succeeded(site, &backup_job(name), BACKUP_POLL).await?;
    remove(&site.api::<Deployment>(), name).await?;
    remove(&site.api::<Service>(), name).await?;
    remove(&site.api::<PersistentVolumeClaim>(), &format!("{name}-pvc")).await
}

fn restore_job(name: &str) -> String {
    format!("restore-{name}-job")
}

fn backup_job(name: &str) -> String {
    format!("backup-{name}-job")
}

async fn make<K: Kind>(site: &Site, object: Value) -> Result<()> {
    let object: K = serde_json::from_value(object)?;
    site.api().create(&PostParams::default(), &object).await?;
    Ok(())
}

async fn remove<K: Kind>(api: &Api<K>, name: &str) -> Result<()> {
    if let Some(found) = api.get_opt(name).await? {
        api.delete(&found.name_any(), &DeleteParams::background()).await?;
    }
    Ok(())
}

async fn succeeded(site: &Site, name: &str, pause: Duration) -> Result<()> {
    let jobs: Api<Job> = site.api();
    site.until("the Job has succeeded", pause, async || {
        Ok(jobs.get(name).await?.status.unwrap_or_default().succeeded == Some(1))
    })
    .await
}

fn claim(name: &str, size: &str) -> Value {
    json!({"metadata": {"name": name},
           "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}})
}

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name},
           "spec": {"clusterIP": "None", "ports": [{"port": 3306}], "selector": {"app": name}}})
}

fn deployment(site: &Site, name: &str) -> Value {
    let probe = json!({
        "exec": {"command": ["mysql", "-u", "root", format!("-p{PASSWORD}"), "-e", "SELECT 1"]},
        "failureThreshold": 12, "initialDelaySeconds": 5, "periodSeconds": 5, "timeoutSeconds": 5,
    });
    let container = json!({
        "name": "mysql", "image": site.image,
        "env": [{"name": "MYSQL_ROOT_PASSWORD", "value": PASSWORD}, {"name": "MYSQL_DATABASE", "value": DATABASE}],
        "ports": [{"containerPort": 3306}], "readinessProbe": probe,
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/mysql"}],
    });
    let pod = json!({"containers": [container], "volumes": [volume("data", &format!("{name}-pvc"))]});
    json!({"metadata": {"name": name, "labels": {"app": name}},
           "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}},
                    "template": {"metadata": {"labels": {"app": name}}, "spec": pod}}})
}

fn job(site: &Site, name: &str, job: &str, command: &str) -> Value {
    let container = json!({
        "name": "mysql", "image": site.image, "command": ["/bin/sh", "-c", command],
        "volumeMounts": [{"name": "backup", "mountPath": "/backup"}],
    });
    let volumes = json!([volume("backup", &format!("backup-{name}-pvc"))]);
    let pod = json!({"restartPolicy": "OnFailure", "containers": [container], "volumes": volumes});
    json!({"metadata": {"name": job}, "spec": {"backoffLimit": 2, "template": {"spec": pod}}})
}

fn volume(name: &str, claim: &str) -> Value {
    json!({"name": name, "persistentVolumeClaim": {"claimName": claim}})
}
