//! A life as this operator leads it.

use std::time::Instant;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use mysql_api::MySQL;
use reconcile::conditions;
use serde_json::json;

use crate::{
    Life,
    site::{DATABASE, PASSWORD, POLL, Site},
};

/// Creates, fills, deletes and creates again a database of this name.
pub(crate) async fn live(site: &Site, name: &str, mib: usize) -> Result<Life> {
    let databases: Api<MySQL> = site.api();
    let spec =
        json!({"image": site.image, "database": DATABASE, "password": PASSWORD, "storage_size": "4Gi"});
    let object = MySQL::new(name, serde_json::from_value(spec)?);
    let create = async || -> Result<f64> {
        let began = Instant::now();
        databases.create(&PostParams::default(), &object).await?;
        site.until("the database is ready", POLL, async || {
            let status = databases.get(name).await?.status.unwrap_or_default();
            Ok(conditions::find(&status.conditions, "Ready").is_some_and(|ready| ready.status == "True"))
        })
        .await?;
        Ok(began.elapsed().as_secs_f64())
    };
    let ready = create().await?;
    let sum = site.fill(name, mib).await?;
    let began = Instant::now();
    databases.delete(name, &DeleteParams::default()).await?;
    site.until("the object is gone", POLL, async || {
        Ok(databases.get_opt(name).await?.is_none())
    })
    .await?;
    let gone = began.elapsed().as_secs_f64();
    is_swept(site, name).await?;
    let back = create().await?;
    let restored = site.sum(name).await?;
    ensure!(restored == sum, "{name} has {restored} rows back, not {sum}");
    site.kubectl(&[
        "patch",
        "mysqls",
        name,
        "--type=merge",
        r#"--patch={"spec":{"backup":{"onDelete":"Never"}}}"#,
    ])
    .await?;
    databases.delete(name, &DeleteParams::default()).await?;
    is_swept(site, name).await?;
    Ok(Life { ready, gone, back })
}

/// Waits until neither the server's Pod nor its data volume is there.
pub(crate) async fn is_swept(site: &Site, name: &str) -> Result<()> {
    let (pods, claims) = (site.api::<Pod>(), site.api::<PersistentVolumeClaim>());
    let of = ListParams::default().labels(&format!("app={name}"));
    let claim = format!("{name}-pvc");
    site.until("what it was made of is gone", POLL, async || {
        Ok(pods.list(&of).await?.items.is_empty() && claims.get_opt(&claim).await?.is_none())
    })
    .await
}
