//! A small operator against a small ledger, over real HTTP: it makes each of three entries unless it is there.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use axum::{
    Router,
    extract::{Path, State},
    routing::get,
};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use super::*;
use crate::fault::{
    proxy::{Options, Plain, Proxy, Served},
    report::Coverage,
};

type Entries = Arc<Mutex<BTreeMap<String, u32>>>;

struct World {
    entries: Entries,
    proxy: Proxy,
    _server: Served,
}

async fn world(plan: FaultPlan) -> anyhow::Result<World> {
    let entries = Entries::default();
    let read = async |State(entries): State<Entries>, Path(key): Path<String>| {
        entries.lock().get(&key).copied().unwrap_or(0).to_string()
    };
    let add = async |State(entries): State<Entries>, Path(key): Path<String>| {
        *entries.lock().entry(key).or_default() += 1;
    };
    let router = Router::new()
        .route("/{key}", get(read).post(add))
        .with_state(Arc::clone(&entries));
    let server = Served::start("ledger", |listener| async move {
        axum::serve(listener, router).await.ok();
    })?;
    let proxy = Proxy::start(server.address(), Plain, Options::new(&plan))?;
    Ok(World {
        entries,
        proxy,
        _server: server,
    })
}

async fn send(world: &World, method: &str, key: &str) -> anyhow::Result<String> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = Request::builder()
        .method(method)
        .uri(format!("{}/{key}", world.proxy.endpoint()))
        .body(Full::default())?;
    let response = client.request(request).await?;
    ensure!(response.status().is_success(), "{}", response.status());
    Ok(String::from_utf8(
        response.into_body().collect().await?.to_bytes().to_vec(),
    )?)
}

async fn careful(world: Arc<World>, _: FaultPlan) -> anyhow::Result<()> {
    for key in ["a", "b", "c"] {
        loop {
            match send(&world, "GET", key).await.as_deref() {
                Ok("1") => break,
                Ok("0") => drop(send(&world, "POST", key).await),
                Ok(other) => bail!("{key} is {other}"),
                // Not seen is not absent.
                Err(_) => {}
            }
        }
    }
    Ok(())
}

/// Forgets to look before it leaps: a crash after the POST doubles an entry.
async fn careless(world: Arc<World>, _: FaultPlan) -> anyhow::Result<()> {
    for key in ["a", "b", "c"] {
        send(&world, "POST", key).await?;
    }
    Ok(())
}

async fn once_each(world: Arc<World>) -> anyhow::Result<()> {
    let entries = world.entries.lock().clone();
    ensure!(
        entries.len() == 3 && entries.values().all(|count| *count == 1),
        "{entries:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_careful_operator_survives_a_crash_at_every_request() {
    let report = Harness::new("careful")
        .crash_at_every_request(world, careful, once_each)
        .await
        .unwrap();
    // GET, POST, GET for each of three keys; three crash sites each; one run without faults and three beyond.
    report
        .at_least(Coverage {
            plans: 9 * 3 + 4,
            sites: 6,
            crash_sites: 6 * 3,
        })
        .unwrap();
}

#[tokio::test]
async fn a_careful_operator_survives_a_refused_connection_at_every_request() {
    let harness = Harness::new("refused");
    let report = harness
        .fault_at_every_request(Fault::Refuse, world, careful, once_each)
        .await
        .unwrap();
    report
        .at_least(Coverage {
            plans: 11,
            sites: 6,
            crash_sites: 0,
        })
        .unwrap();
}

#[tokio::test]
async fn a_careless_operator_is_caught_with_a_line_that_replays_it() {
    let error = Harness::new("careless")
        .crash_at_every_request(world, careless, once_each)
        .await
        .unwrap_err()
        .to_string();
    let line = error
        .split("REPLAY='")
        .nth(1)
        .and_then(|rest| rest.split('\'').next())
        .unwrap();
    let schedule: Schedule = line.parse().unwrap();
    let replayed = Harness::new("replayed")
        .schedules([schedule], world, careless, once_each)
        .await;
    assert!(replayed.is_err(), "{line} did not replay");
}

#[tokio::test]
async fn a_crash_takes_every_task_of_the_incarnation_with_it() {
    let held = Arc::new(AtomicU32::new(0));
    let harness = Harness::new("tasks").base(Schedule::default().crash(1, CrashSite::After));
    let run = {
        let held = Arc::clone(&held);
        move |world: Arc<World>, _: FaultPlan| {
            let held = Arc::clone(&held);
            async move {
                assert_eq!(
                    held.fetch_add(1, Ordering::SeqCst),
                    0,
                    "a task of the incarnation before is alive"
                );
                let guard = Release(held);
                tokio::spawn(async move {
                    let _guard = guard;
                    std::future::pending::<()>().await;
                });
                careful(world, FaultPlan::default()).await
            }
        }
    };
    let report = harness
        .schedules([harness.base.clone()], world, run, once_each)
        .await
        .unwrap();
    assert_eq!(report.crash_sites.len(), 1);
    assert_eq!(held.load(Ordering::SeqCst), 0);
}

struct Release(Arc<AtomicU32>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_scenario_that_never_converges_fails_at_its_deadline() {
    let harness = Harness::new("stuck").deadline(Duration::from_millis(100));
    let stuck = async |_: Arc<World>, _: FaultPlan| std::future::pending().await;
    let error = harness
        .schedules([Schedule::default()], world, stuck, once_each)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("did not converge within 100ms"),
        "{error}"
    );
}
