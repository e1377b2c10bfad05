//! A definition that is deleted while there are objects.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, api::DeleteParams};
use testkit::control_plane::{ControlPlane, Options};

use crate::{
    bed::{Bed, Mode, reports, until},
    operator::Operator,
};

/// It goes when its last object has gone, which nobody lets go but an operator: that of the next installation, say.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_starts_while_its_definition_is_being_deleted_lets_the_objects_go() {
    reconcile::cli::install_crypto_provider();
    // One of its own: others need the definition.
    let plane = Box::leak(Box::new(ControlPlane::start(Options::default()).await.unwrap()));
    let bed = Bed::on(plane).await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    bed.create("x", Mode::Report).await;
    bed.until("x", "reported", reports(1)).await;
    operator.stop().await;

    let definitions: Api<CustomResourceDefinition> = Api::all(bed.plane.client());
    let name = "widgets.test.example.com";
    definitions.delete(name, &DeleteParams::default()).await.unwrap();
    bed.until("x", "deleted with its definition", |widget| {
        widget.is_some_and(|widget| widget.metadata.deletion_timestamp.is_some())
    })
    .await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    until("the definition is gone", async || {
        definitions.get_opt(name).await.unwrap().is_none()
    })
    .await;
    assert_eq!(operator.journal.of("x"), ["cleanup"]);
    let _ = operator.end().await;
}
