//! Deleting the object, whatever it is doing: nothing is lost, and nothing that it ended runs again.

use std::sync::Arc;

use bytes::Bytes;
use dynamodb_api::DdbctlDpJobSpec;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::DeleteParams};
use serde_json::json;
use testkit::{
    dynamodb::faults::Faults,
    fault::{
        Body, FaultPlan,
        plan::Call,
        proxy::{Backend, Options, Protocol, Proxy},
    },
};
use tokio::sync::watch;

use crate::{
    bed::{BYSTANDERS, Bed, DEADLINE, Gate, VICTIM, acknowledged, eventually, server},
    operator::Operator,
};

const ITEMS: u64 = 1200;

/// The note of the event that keeps the totals.
async fn totals_told(bed: &Bed) -> String {
    bed.until_event("x", "DeletedInMidRun").await.note.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_deleted_while_at_rest_leaves_its_totals_in_an_event() {
    let bed = Bed::new(server().await, ITEMS).await;
    let operator = bed.operator();
    let gate = Gate::after(&bed.faults, 300);
    bed.create("x", bed.spec()).await;
    gate.until_held().await;
    bed.patch("x", json!({ "spec": { "suspend": true } })).await;
    bed.until("x", "Unknown", "Running").await;
    gate.open();
    let resting = bed.until_condition("x", "Suspended", "True", "Suspended").await;
    bed.delete("x").await;
    bed.until_gone("x").await;
    let (note, deleted) = (totals_told(&bed).await, ITEMS - bed.count(VICTIM).await);
    assert_eq!(acknowledged(&resting), deleted);
    assert!(
        note.contains(&format!("{deleted} deletions acknowledged")),
        "{note}"
    );
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_deleted_while_no_operator_runs_leaves_its_totals_in_an_event() {
    let bed = Bed::new(server().await, ITEMS).await;
    let operator = bed.operator();
    let gate = Gate::after(&bed.faults, 300);
    bed.create("x", bed.spec()).await;
    gate.until_held().await;
    bed.patch("x", json!({ "spec": { "suspend": true } })).await;
    bed.until("x", "Unknown", "Running").await;
    gate.open();
    bed.until_condition("x", "Suspended", "True", "Suspended").await;
    operator.stop().await;
    bed.delete("x").await;
    let operator = bed.operator();
    bed.until_gone("x").await;
    let (note, deleted) = (totals_told(&bed).await, ITEMS - bed.count(VICTIM).await);
    assert!(
        note.contains(&format!("{deleted} deletions acknowledged")),
        "{note}"
    );
    operator.stop().await;
}

/// Holds the answers to strongly consistent reads of keys, of which the last of a run is the proof.
struct Proofs {
    faults: Arc<Faults>,
    held: watch::Sender<u64>,
    open: watch::Receiver<bool>,
}

impl Protocol for Proofs {
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
    ) -> BoxFuture<'static, Result<Response<Body>, tower::BoxError>> {
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let proof = self.call(&request).site == "DynamoDB Query" && body["ConsistentRead"] == true;
        Box::pin(async move {
            let answer = self.faults.clone().exchange(request, backend).await;
            if proof {
                self.held.send_modify(|held| *held += 1);
                // An error means that the test is over.
                drop(self.open.clone().wait_for(|open| *open).await);
            }
            answer
        })
    }
}

/// A job whose proof is held, on its way through a proxy of its own.
struct Proving {
    bed: Bed,
    proxy: Proxy,
    operator: Operator,
    open: watch::Sender<bool>,
}

impl Proving {
    async fn start() -> Self {
        let bed = Bed::new(server().await, 50).await;
        let (held, open) = (watch::Sender::new(0), watch::Sender::new(false));
        let proofs = Proofs {
            faults: Arc::new(bed.faults.clone()),
            held: held.clone(),
            open: open.subscribe(),
        };
        let options = Options::new(&FaultPlan::default());
        let proxy = Proxy::start(bed.server.address(), proofs, options).unwrap();
        let operator = bed.operator_with(|_, policy| policy.endpoints = proxy.endpoint().parse().unwrap());
        let proving = Self {
            bed,
            proxy,
            operator,
            open,
        };
        proving.bed.create("x", proving.spec()).await;
        let mut held = held.subscribe();
        let proof = held.wait_for(|held| *held > 0);
        tokio::time::timeout(DEADLINE, proof)
            .await
            .expect("nothing is being proven")
            .unwrap();
        proving
    }

    fn spec(&self) -> DdbctlDpJobSpec {
        DdbctlDpJobSpec {
            endpoint_url: Some(self.proxy.endpoint()),
            ..self.bed.spec()
        }
    }

    /// Deletes the job, and lets the proof come when passes of the clean-up come and go.
    async fn end(&self, delete: impl AsyncFnOnce()) {
        let passes = || {
            self.operator
                .counter(&["controller_runtime_reconcile_total", "requeue_after"])
        };
        let seen = passes();
        delete().await;
        eventually("the clean-up waits", async || {
            let done = passes() - seen;
            if done > 1.0 { Ok(()) } else { Err(done.to_string()) }
        })
        .await;
        self.open.send_replace(true);
        self.bed.until_gone("x").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_proof_comes_after_its_deletion_ends_as_ever_and_does_not_run_again() {
    let proving = Proving::start().await;
    let bed = &proving.bed;
    proving.end(async || bed.delete("x").await).await;
    let note = bed.until_event("x", "PartitionEmpty").await.note.unwrap();
    assert!(note.contains("50 deletions acknowledged"), "{note}");

    // As a GitOps tool does; meanwhile there is new data.
    bed.fill(VICTIM, 0..40).await;
    bed.create("x", proving.spec()).await;
    bed.until("x", "False", "AlreadyRan").await;
    assert_eq!(bed.counts().await, (40, BYSTANDERS));
    proving.operator.stop().await;
}

/// Nothing can be created there any more, the record of a run neither.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_in_a_namespace_that_is_being_deleted_does_not_hold_it() {
    let proving = Proving::start().await;
    let bed = &proving.bed;
    let namespaces: Api<Namespace> = Api::all(bed.plane.client());
    let delete = async || {
        let params = DeleteParams::default();
        namespaces.delete(bed.namespace.name(), &params).await.unwrap();
    };
    proving.end(delete).await;
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    proving.operator.stop().await;
}
