//! `requirePointInTimeRecovery`: nothing is deleted that could not be restored.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use serde_json::json;
use testkit::{
    dynamodb::{Server, faults::Faults},
    fault::{
        Body, FaultPlan, full,
        plan::Call,
        proxy::{Backend, Options, Protocol, Proxy},
    },
};

use crate::{
    bed::{BYSTANDERS, Bed, message, server, servers},
    manifests::{apply, table_for},
};

const OPERATION: &str = "DynamoDB DescribeContinuousBackups";

/// Answers for the emulators, which know no backups; all else goes its usual way.
struct Backups {
    faults: Arc<Faults>,
    /// As in the API: `ENABLED` or `DISABLED`; without it the question goes its usual way too.
    recovery: Option<&'static str>,
}

impl Backups {
    /// A proxy before the bed's server.
    fn start(bed: &Bed, recovery: Option<&'static str>) -> Proxy {
        let backups = Self {
            faults: Arc::new(bed.faults.clone()),
            recovery,
        };
        Proxy::start(bed.server.address(), backups, Options::new(&FaultPlan::default())).unwrap()
    }
}

impl Protocol for Backups {
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
        let asked = self.call(&request).site == OPERATION;
        let Some(recovery) = self.recovery.filter(|_| asked) else {
            return self.faults.clone().exchange(request, backend);
        };
        let description = json!({ "ContinuousBackupsDescription": {
            "ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": { "PointInTimeRecoveryStatus": recovery },
        } });
        Box::pin(std::future::ready(Ok(Response::new(full(
            description.to_string(),
        )))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guarded_example_deletes_from_a_table_that_can_be_restored_and_from_no_other() {
    for (recovery, status, reason, left) in [
        ("ENABLED", "True", "PartitionEmpty", 0),
        ("DISABLED", "False", "PointInTimeRecoveryDisabled", 5),
    ] {
        // Its table has a fixed name: a server of its own.
        let bed = Bed::new(Server::embedded().unwrap(), 0).await;
        let table = table_for(&bed.server, "Orders", "tenant-42").await;
        let proxy = Backups::start(&bed, Some(recovery));
        let operator = bed.operator_with(|_, policy| policy.endpoints = proxy.endpoint().parse().unwrap());
        let name = apply(&bed, "dynamodb/guarded.yaml", |job| {
            assert_eq!(job["spec"]["requirePointInTimeRecovery"], true);
            job["spec"]["endpointURL"] = proxy.endpoint().into();
            // The test is to hold after the date that the example names, too.
            job["spec"]["notAfter"] = "2999-12-31T00:00:00Z".into();
        })
        .await;
        let done = bed.until(&name, status, reason).await;
        assert_eq!(bed.server.count_table(&table).await.unwrap(), left);
        assert_eq!(proxy.audit().count("DynamoDB BatchWriteItem") == 0, left > 0);
        if left > 0 {
            let told = message(&done);
            assert!(told.contains("Orders") && told.contains("enable it"), "{told}");
            bed.until_event(&name, reason).await;
        }
        operator.stop().await;
    }
}

/// The emulators have no such operation.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_knows_no_recovery_is_told_as_that_and_nothing_is_deleted() {
    for server in servers().await {
        let bed = Bed::new(server, 50).await;
        let operator = bed.operator();
        let mut spec = bed.spec();
        spec.require_point_in_time_recovery = true;
        bed.create("x", spec).await;
        let status = bed.until("x", "False", "PointInTimeRecoveryDisabled").await;
        let told = message(&status);
        assert!(
            told.contains("requirePointInTimeRecovery") && told.contains("create the job without it"),
            "{told}"
        );
        bed.until_event("x", "PointInTimeRecoveryDisabled").await;
        assert_eq!(bed.counts().await, (50, BYSTANDERS));
        operator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_table_can_be_restored_must_be_known_if_it_matters_and_is_not_asked_otherwise() {
    let bed = Bed::new(server().await, 50).await;
    let proxy = Backups::start(&bed, None);
    bed.faults
        .set(|settings| settings.denied = vec!["DescribeContinuousBackups".to_owned()]);
    let operator = bed.operator_with(|options, policy| {
        options.clock = reconcile::clock::Clock::accelerated(1000);
        policy.endpoints = proxy.endpoint().parse().unwrap();
    });
    let mut spec = bed.spec();
    spec.endpoint_url = Some(proxy.endpoint());
    spec.require_point_in_time_recovery = true;
    bed.create("guarded", spec.clone()).await;
    let status = bed.until("guarded", "Unknown", "AccessDenied").await;
    let told = message(&status);
    assert!(told.contains("dynamodb:DescribeContinuousBackups"), "{told}");
    assert_eq!(bed.counts().await, (50, BYSTANDERS));
    bed.delete("guarded").await;
    bed.until_gone("guarded").await;

    let asked = proxy.audit().count(OPERATION);
    assert!(asked > 0);
    spec.require_point_in_time_recovery = false;
    bed.create("unguarded", spec).await;
    bed.until("unguarded", "True", "PartitionEmpty").await;
    assert_eq!(proxy.audit().count(OPERATION), asked);
    operator.stop().await;
}
