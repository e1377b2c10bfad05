//! EC2's protocol for the fault proxy, with an inspector at each launch.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, header};
use kube::{Api, Client, Config};
use mysql_api::MySQLCluster;
use parking_lot::Mutex;
use testkit::fault::{
    Body, full,
    plan::{Call, Kind},
    proxy::{Backend, Protocol},
};

/// What went against the promises.
pub(crate) type Misdeeds = Arc<Mutex<Vec<String>>>;

/// Names EC2's actions, words its errors, and looks up each launch in the ledger before it passes.
pub(crate) struct Ec2Protocol {
    pub(crate) plane: Config,
    pub(crate) namespace: String,
    pub(crate) misdeeds: Misdeeds,
}

impl Protocol for Ec2Protocol {
    fn call(&self, request: &Request<Bytes>) -> Call {
        let action = form(request.body()).remove("Action").unwrap_or_default();
        Call {
            site: format!("EC2 {action}"),
            kind: Kind::Call,
            list: None,
        }
    }

    fn failure(&self, status: StatusCode, _: Option<u32>) -> Response<Body> {
        let code = match status.as_u16() {
            503 | 429 => "RequestLimitExceeded",
            _ => "InternalError",
        };
        let text = format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>injected fault</Message></Error></Errors><RequestID>1</RequestID></Response>"
        );
        let mut response = Response::new(full(text));
        *response.status_mut() = status;
        let xml = http::HeaderValue::from_static("text/xml");
        response.headers_mut().insert(header::CONTENT_TYPE, xml);
        response
    }

    fn exchange(
        self: Arc<Self>,
        request: Request<Bytes>,
        backend: Backend,
    ) -> BoxFuture<'static, Result<Response<Body>, tower::BoxError>> {
        Box::pin(async move {
            let params = form(request.body());
            if params
                .get("Action")
                .is_some_and(|action| action == "RunInstances")
            {
                self.inspect(params.get("ClientToken").cloned().unwrap_or_default())
                    .await?;
            }
            backend.send(request).await
        })
    }
}

impl Ec2Protocol {
    /// A launch must stand in the ledger of its cluster when it is made.
    async fn inspect(&self, token: String) -> Result<(), tower::BoxError> {
        let client = Client::try_from(self.plane.clone())?;
        let clusters: Api<MySQLCluster> = Api::namespaced(client, &self.namespace);
        let listed = clusters.list(&kube::api::ListParams::default()).await?;
        let recorded = listed
            .into_iter()
            .filter_map(|cluster| cluster.status)
            .any(|status| status.launches.iter().any(|launch| launch.token == token));
        if !recorded {
            self.misdeeds
                .lock()
                .push(format!("a launch that no ledger holds: token {token:?}"));
        }
        Ok(())
    }
}

fn form(body: &[u8]) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(body).into_owned().collect()
}
