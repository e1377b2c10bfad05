//! Clients for one job's endpoint, region and credentials.
//!
//! # Guarantees
//! - Addresses are checked where the connection is made (see [`crate::endpoint`]); redirects are not followed.
//! - The SDK retries nothing: the engine sees every throttle and decides itself.
//! - One connection pool serves all jobs.

use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use tokio::sync::OnceCell;

use crate::endpoint::{CheckedResolver, Endpoint, EndpointError, Names};

/// How long one request may take before it counts as lost. Deleting is idempotent: a lost batch is sent again.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(3);

/// Makes clients. Clones share the connection pool and the operator's own identity.
#[derive(Clone, Debug)]
pub struct Connector {
    http: SharedHttpClient,
    names: Names,
    identity: std::sync::Arc<OnceCell<Option<SharedCredentialsProvider>>>,
}

impl Default for Connector {
    fn default() -> Self {
        Self::new()
    }
}

impl Connector {
    /// A connector with an empty pool, which resolves names as the system does. Nothing is connected to yet.
    pub fn new() -> Self {
        Self::resolving(Names::default())
    }

    /// A connector that resolves names by `names`.
    pub fn resolving(names: Names) -> Self {
        let http = Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .build_with_resolver(CheckedResolver(names.clone()));
        Self {
            http,
            names,
            identity: std::sync::Arc::default(),
        }
    }

    /// Refuses an endpoint whose name leads nowhere but to forbidden addresses. Connections would fail all the same;
    /// this tells why. A name that is not resolved in the time that connecting may take is let through.
    ///
    /// # Errors
    /// [`EndpointError::ForbiddenAddress`].
    pub async fn check(&self, endpoint: &Endpoint) -> Result<(), EndpointError> {
        let checked = tokio::time::timeout(CONNECT, self.names.check(endpoint)).await;
        checked.unwrap_or(Ok(()))
    }

    /// A client for `endpoint` in `region`, signing with `credentials`.
    pub fn client(
        &self,
        endpoint: &Endpoint,
        region: &str,
        credentials: SharedCredentialsProvider,
    ) -> Client {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(ATTEMPT)
            .operation_timeout(ATTEMPT)
            .build();
        let mut config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.http.clone())
            .region(Region::new(region.to_owned()))
            .credentials_provider(credentials)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        config.set_endpoint_url(endpoint.url());
        Client::from_conf(config.build())
    }

    /// The operator's own identity: environment, web identity (IRSA), Pod Identity, or the instance's role. Looked up
    /// once; `None` if there is none.
    pub async fn own_identity(&self) -> Option<SharedCredentialsProvider> {
        let find = || async {
            // Its requests go to AWS's own services on link-local addresses, past the resolver above.
            aws_config::defaults(BehaviorVersion::latest())
                .load()
                .await
                .credentials_provider()
        };
        self.identity.get_or_init(find).await.clone()
    }
}
