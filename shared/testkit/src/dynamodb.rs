//! DynamoDB for tests: a real implementation of the API on a loopback port.
//!
//! [`Server::embedded`] is dynoxide, in this process, in memory, up in milliseconds: the default. [`Server::local`]
//! is Amazon's DynamoDB Local, a Java program, as the second opinion. [`Server::all`] is what a test asks that has
//! to hold on both. [`faults`] makes either throttle, lag and fail, which neither does by itself.
//!
//! # Guarantees
//! - Every server is empty, private to whoever started it, and gone with the last clone of its handle.
//! - A server runs on threads or a process of its own: runtimes may come and go around it.
//!
//! # Caveats
//! Neither checks signatures; both want one. An access key id has to be alphanumeric for DynamoDB Local.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::{
    Client, Config,
    config::{BehaviorVersion, Region, retry::RetryConfig},
};

use crate::fault::proxy::Served;

pub mod faults;
mod items;
mod local;
mod table;
#[cfg(test)]
mod tests;

pub use items::Fill;
pub use table::{KeyType, Table};

/// The access key id of [`client`].
pub const ACCESS_KEY_ID: &str = "TESTKIT";

/// A running DynamoDB. Clones are the same server.
#[derive(Clone, Debug)]
pub struct Server(Arc<Implementation>);

#[derive(Debug)]
enum Implementation {
    Embedded(Served),
    Local(local::Process),
}

impl Server {
    /// Starts dynoxide in this process.
    pub fn embedded() -> anyhow::Result<Self> {
        let database = dynoxide::Database::memory().context("dynoxide cannot open a database in memory")?;
        let served = Served::start("dynoxide", |listener| {
            dynoxide::server::serve_on(listener, database)
        })
        .context("dynoxide cannot be served on a loopback port")?;
        Ok(Self(Arc::new(Implementation::Embedded(served))))
    }

    /// Starts DynamoDB Local, fetching it with Maven the first time.
    pub async fn local() -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Implementation::Local(
            local::Process::start().await?,
        ))))
    }

    /// The servers on which a promise has to hold: dynoxide, and DynamoDB Local if `TESTKIT_DYNAMODB_LOCAL` is 1.
    pub async fn all() -> anyhow::Result<Vec<Self>> {
        let mut servers = vec![Self::embedded()?];
        if std::env::var("TESTKIT_DYNAMODB_LOCAL").is_ok_and(|value| value == "1") {
            servers.push(Self::local().await?);
        }
        Ok(servers)
    }

    /// The implementation's name, for messages of tests.
    pub fn name(&self) -> &'static str {
        match &*self.0 {
            Implementation::Embedded(_) => "dynoxide",
            Implementation::Local(_) => "DynamoDB Local",
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        match &*self.0 {
            Implementation::Embedded(served) => served.address(),
            Implementation::Local(process) => process.address(),
        }
    }

    /// The URL for a client's `endpoint_url`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// A client of this server, with credentials that mean nothing elsewhere.
    pub fn client(&self) -> Client {
        client(&self.endpoint())
    }
}

/// A client of a DynamoDB at this URL, for example a proxy's, as [`ACCESS_KEY_ID`], which retries nothing.
pub fn client(endpoint: &str) -> Client {
    client_as(endpoint, ACCESS_KEY_ID)
}

/// A client that signs with another access key id. It reads neither environment nor files, and retries nothing.
pub fn client_as(endpoint: &str, access_key_id: &str) -> Client {
    let credentials = Credentials::new(access_key_id, "testkit", None, None, "testkit");
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}
