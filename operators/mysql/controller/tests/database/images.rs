//! Images that are mistaken, and the way back.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use crate::bed::{Bed, message, says, spec};

async fn runs(bed: &Bed, name: &str, image: &str) {
    bed.eventually(&format!("{image} is what is to run"), async || {
        let server = bed.api::<Deployment>().get_opt(name).await.unwrap();
        serde_json::to_string(&server.and_then(|server| server.spec))
            .unwrap()
            .contains(image)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_an_image_of_the_next_series_that_never_ran_there_is_a_way_back() {
    let bed = Bed::new().await;
    bed.create("typo", spec(&json!({"image": "mysql:8.0.36"}))).await;
    bed.ready("typo").await;
    bed.kubelet.hold("mysql", "ErrImagePull");
    bed.patch("typo", json!({"spec": {"image": "mysql:8.4.33"}}))
        .await;
    runs(&bed, "typo", "mysql:8.4.33").await;
    bed.until("typo", "it says why", |object| {
        says(object, "ServerReady", "False", "ServerFailing")
            && object.is_some_and(|object| message(object, "ServerReady").contains("ErrImagePull"))
    })
    .await;
    // Two series on from what ran is as far as ever, and nothing is changed for it.
    bed.patch("typo", json!({"spec": {"image": "mysql:9.7"}})).await;
    bed.until("typo", "it is refused", |object| {
        says(object, "UpToDate", "False", "VersionChangeRefused")
    })
    .await;
    runs(&bed, "typo", "mysql:8.4.33").await;
    bed.patch("typo", json!({"spec": {"image": "mysql:8.0.36"}}))
        .await;
    runs(&bed, "typo", "mysql:8.0.36").await;
    bed.kubelet.let_go("mysql");
    let object = bed.ready("typo").await;
    assert!(says(Some(&object), "UpToDate", "True", "Applied"));
    bed.stop().await;
}

/// The data are those of the image that has made them, although no server has answered yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_an_image_that_never_ran_there_is_a_way_back_before_any_server_has_answered() {
    let bed = Bed::new().await;
    bed.kubelet.hold("mysql", "ErrImagePull");
    bed.create("early", spec(&json!({"image": "mysql:8.0.36"}))).await;
    runs(&bed, "early", "mysql:8.0.36").await;
    bed.patch("early", json!({"spec": {"image": "mysql:8.4.33"}}))
        .await;
    runs(&bed, "early", "mysql:8.4.33").await;
    bed.patch("early", json!({"spec": {"image": "mysql:9.7"}})).await;
    bed.until("early", "it is refused", |object| {
        says(object, "UpToDate", "False", "VersionChangeRefused")
    })
    .await;
    bed.patch("early", json!({"spec": {"image": "mysql:8.0.36"}}))
        .await;
    runs(&bed, "early", "mysql:8.0.36").await;
    bed.kubelet.let_go("mysql");
    let object = bed.ready("early").await;
    assert!(says(Some(&object), "UpToDate", "True", "Applied"));
    bed.stop().await;
}
