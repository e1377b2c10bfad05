//! The requests of an operator's process that change something, counted as they pass; the process can be frozen at one.
//!
//! Two proxies stand between the process and the world, one before the API server and one before DynamoDB. The frozen
//! process's request has taken effect, and its answer is on the way.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::Value;
use testkit::{
    dynamodb::faults::Faults,
    fault::{
        Body, FaultPlan, kube as kubernetes,
        plan::{Call, Kind},
        proxy::{Backend, Options, Protocol, Proxy},
    },
};
use tokio::sync::watch;
use tower::BoxError;

use crate::{bed::Bed, replica};

const BATCHES: &str = "DynamoDB BatchWriteItem";

/// What passed so far.
pub struct Steps {
    /// The step to freeze at, from 1; none by default.
    at: Option<usize>,
    process: OnceLock<u32>,
    /// The sites of the steps so far.
    seen: Mutex<Vec<String>>,
    /// The keys of all deletions so far, as sent.
    deleted: Mutex<Vec<String>>,
    frozen: watch::Sender<Option<String>>,
}

impl Steps {
    pub fn new(at: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            at,
            process: OnceLock::new(),
            seen: Mutex::default(),
            deleted: Mutex::default(),
            frozen: watch::Sender::new(None),
        })
    }

    /// Names the process to freeze.
    pub fn of(&self, process: u32) {
        self.process.set(process).unwrap();
    }

    /// The sites of the steps so far, in order.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().clone()
    }

    /// The keys of all deletions so far, sorted.
    pub fn deleted(&self) -> Vec<String> {
        let mut keys = self.deleted.lock().clone();
        keys.sort();
        keys
    }

    /// The step at which the process was frozen, if it was by now.
    pub fn frozen(&self) -> Option<String> {
        self.frozen.borrow().clone()
    }

    fn pass(&self, site: &str) {
        let mut seen = self.seen.lock();
        seen.push(site.to_owned());
        if Some(seen.len()) == self.at {
            let process = *self.process.get().expect("the process is known before it acts");
            assert!(replica::signal(process, "STOP"));
            self.frozen.send_replace(Some(site.to_owned()));
        }
    }

    /// A proxy before the API server that acts for `user` and follows `plan`.
    pub fn before_kubernetes(self: &Arc<Self>, bed: &Bed, user: &str, plan: &FaultPlan) -> Proxy {
        let mut config = bed.plane.config().clone();
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
        let protocol = Kubernetes {
            client: kube::Client::try_from(config).unwrap(),
            steps: self.clone(),
        };
        // Its backend is the client's.
        Proxy::start(bed.server.address(), protocol, Options::new(plan)).unwrap()
    }

    /// A proxy before the bed's DynamoDB that follows `plan`.
    pub fn before_dynamodb(self: &Arc<Self>, bed: &Bed, plan: &FaultPlan) -> Proxy {
        let protocol = Database {
            faults: Arc::new(bed.faults.clone()),
            steps: self.clone(),
        };
        Proxy::start(bed.server.address(), protocol, Options::new(plan)).unwrap()
    }
}

struct Kubernetes {
    client: kube::Client,
    steps: Arc<Steps>,
}

impl Protocol for Kubernetes {
    fn call(&self, request: &Request<Bytes>) -> Call {
        kubernetes::call(request.method(), request.uri())
    }

    fn failure(&self, status: StatusCode, _: Option<u32>) -> Response<Body> {
        let mut response = Response::new(testkit::fault::full(String::new()));
        *response.status_mut() = status;
        response
    }

    fn exchange(
        self: Arc<Self>,
        request: Request<Bytes>,
        _: Backend,
    ) -> BoxFuture<'static, Result<Response<Body>, BoxError>> {
        Box::pin(async move {
            let mut call = self.call(&request);
            if request
                .uri()
                .query()
                .is_some_and(|query| query.contains("-intent"))
            {
                call.site.push_str(" (intent)");
            }
            let response = self.client.send(request.map(Into::into)).await?;
            let acts = matches!(call.kind, Kind::Create | Kind::Update | Kind::Delete);
            // The lease is how a replica learns that it may act; holding it is no effect.
            if acts && !call.site.ends_with("leases") {
                self.steps.pass(&call.site);
            }
            Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
        })
    }
}

struct Database {
    faults: Arc<Faults>,
    steps: Arc<Steps>,
}

impl Protocol for Database {
    fn call(&self, request: &Request<Bytes>) -> Call {
        self.faults.call(request)
    }

    fn failure(&self, status: StatusCode, retry_after: Option<u32>) -> Response<Body> {
        self.faults.failure(status, retry_after)
    }

    fn exchange(
        self: Arc<Self>,
        request: Request<Bytes>,
        backend: Backend,
    ) -> BoxFuture<'static, Result<Response<Body>, BoxError>> {
        Box::pin(async move {
            let (site, body) = (self.call(&request).site, request.body().clone());
            let response = self.faults.clone().exchange(request, backend).await?;
            if site == BATCHES {
                self.steps.deleted.lock().extend(keys(&body));
                self.steps.pass(&site);
            }
            Ok(response)
        })
    }
}

/// The keys that a batch deletes.
fn keys(batch: &Bytes) -> Vec<String> {
    let batch: Value = serde_json::from_slice(batch).unwrap();
    let tables = batch["RequestItems"].as_object().unwrap();
    let requests = tables.values().filter_map(Value::as_array).flatten();
    requests
        .map(|request| request["DeleteRequest"]["Key"].to_string())
        .collect()
}
