//! Clients for one job's endpoint, region and credentials.
//!
//! # Guarantees
//! - Addresses are checked where the connection is made (see [`crate::endpoint`]); redirects are not followed.
//! - The SDK retries nothing: the engine sees every throttle and decides itself.
//! - One connection pool serves all jobs, and the operator's own identity is looked up once for all of them until it
//!   expires.
//! - The URL is always said, never made up by the SDK: AWS's own too (see [`Endpoint::url_in`]).

use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::{
    Client,
    config::{
        BehaviorVersion, IdentityCache, Region, SharedIdentityCache, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{http::SharedHttpClient, identity::ResolveIdentity as _};
use tokio::sync::OnceCell;

use crate::endpoint::{CheckedResolver, Endpoint, EndpointError, Names};

/// How long one request may take before it counts as lost: 10 s by default. Deleting is idempotent: a lost batch is
/// sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTimeout(pub Duration);

impl Default for RequestTimeout {
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(3);

/// Makes clients. Clones share the connection pool and the operator's own identity.
#[derive(Clone, Debug)]
pub struct Connector {
    http: SharedHttpClient,
    names: Names,
    identity: std::sync::Arc<OnceCell<Option<SharedCredentialsProvider>>>,
    /// The credentials that the own identity stands for now. Without it each client would ask for them anew.
    identity_cache: SharedIdentityCache,
    timeout: RequestTimeout,
}

impl Default for Connector {
    fn default() -> Self {
        Self::new()
    }
}

impl Connector {
    /// A connector with an empty pool, which resolves names as the system does. Nothing is connected to yet.
    pub fn new() -> Self {
        Self::resolving(Names::default(), RequestTimeout::default())
    }

    /// A connector that resolves names by `names`, and whose clients wait for an answer for as long as `timeout`.
    pub fn resolving(names: Names, timeout: RequestTimeout) -> Self {
        let http = Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .build_with_resolver(CheckedResolver(names.clone()));
        Self {
            http,
            names,
            identity: std::sync::Arc::default(),
            identity_cache: IdentityCache::lazy().build(),
            timeout,
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

    /// A client for `endpoint` in `region`, signing with `credentials`. The region must have passed
    /// [`Endpoint::check_region`].
    pub fn client(
        &self,
        endpoint: &Endpoint,
        region: &str,
        credentials: SharedCredentialsProvider,
    ) -> Client {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(self.timeout.0)
            .operation_timeout(self.timeout.0)
            .build();
        let mut config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.http.clone())
            .region(Region::new(region.to_owned()))
            .endpoint_url(endpoint.url_in(region))
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        let own = self.identity.get().and_then(Option::as_ref);
        if own.is_some_and(|own| own.cache_partition() == credentials.cache_partition()) {
            config.set_identity_cache(self.identity_cache.clone());
        }
        // Not by `credentials_provider`, which would make another provider of it, with a place of its own in the cache.
        config.set_credentials_provider(Some(credentials));
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

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
    };

    use aws_credential_types::{Credentials, provider::ProvideCredentials, provider::future};
    use aws_smithy_runtime_api::client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::HttpRequest,
        result::ConnectorError,
    };
    use parking_lot::Mutex;

    use super::*;

    /// Notes URL and signature of each request, and answers none.
    #[derive(Clone, Debug, Default)]
    struct Notes(Arc<Mutex<Vec<(String, String)>>>);

    impl HttpConnector for Notes {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let signature = request.headers().get("authorization").unwrap_or_default();
            self.0
                .lock()
                .push((request.uri().to_owned(), signature.to_owned()));
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            HttpConnectorFuture::ready(Err(ConnectorError::io(refused.into())))
        }
    }

    /// An identity that counts how often it is asked for its credentials.
    #[derive(Debug, Default)]
    struct Counted(Arc<AtomicU64>);

    impl ProvideCredentials for Counted {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            self.0.fetch_add(1, Ordering::SeqCst);
            future::ProvideCredentials::ready(Ok(Credentials::new("OPERATOR", "secret", None, None, "test")))
        }
    }

    #[tokio::test]
    async fn the_own_identity_signs_for_aws_at_the_regions_host_and_is_looked_up_once_for_all_clients() {
        let (notes, asked) = (Notes::default(), Arc::<AtomicU64>::default());
        let own = SharedCredentialsProvider::new(Counted(asked.clone()));
        let connector = Connector {
            http: {
                let notes = notes.clone();
                http_client_fn(move |_, _| SharedHttpConnector::new(notes.clone()))
            },
            identity: Arc::new(OnceCell::new_with(Some(Some(own)))),
            ..Connector::new()
        };
        let other = Credentials::new("JOBSOWN", "secret", None, None, "test");
        for region in ["eu-west-1", "cn-north-1", "us-gov-west-1"] {
            let own = connector.own_identity().await.unwrap();
            for credentials in [own, SharedCredentialsProvider::new(other.clone())] {
                let client = connector.client(&Endpoint::Aws, region, credentials);
                client
                    .describe_table()
                    .table_name("Orders")
                    .send()
                    .await
                    .unwrap_err();
            }
        }
        let seen = notes.0.lock().clone();
        let expected = [
            ("https://dynamodb.eu-west-1.amazonaws.com/", "eu-west-1"),
            ("https://dynamodb.cn-north-1.amazonaws.com.cn/", "cn-north-1"),
            ("https://dynamodb.us-gov-west-1.amazonaws.com/", "us-gov-west-1"),
        ];
        assert_eq!(seen.len(), 2 * expected.len());
        for (pair, (host, region)) in seen.chunks(2).zip(expected) {
            for ((url, signature), id) in pair.iter().zip(["OPERATOR", "JOBSOWN"]) {
                assert_eq!(url, host);
                assert!(signature.contains(&format!("Credential={id}/")), "{signature}");
                let scope = format!("/{region}/dynamodb/");
                assert!(signature.contains(&scope), "{signature}");
            }
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}
