//! What the suites share: a server, a table with three tenants, and runs against it.

use std::time::Duration;

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use dynamodb_controller::{
    connection::Connector,
    credentials,
    endpoint::Endpoint,
    partition::{Control, Engine, Failure, Finished, Request},
};
use reconcile::clock::Clock;
use testkit::{
    dynamodb::{
        Fill, KeyType, Server, Table,
        faults::{Faults, Settings},
    },
    fault::{
        FaultPlan, Schedule,
        proxy::{Options, Proxy},
    },
};

/// The variable that makes DynamoDB Local the server of all tests.
pub(crate) const SECOND_OPINION: &str = "TESTKIT_SECOND_OPINION";

/// How much faster than real time the runs' clock is: pauses between retries cost nothing.
pub(crate) const SPEED: u32 = 20;

/// The tenant whose partition is deleted.
pub(crate) const TENANT: u64 = 7;
/// Tenants whose partitions must stay untouched, with as many items each.
const OTHERS: [u64; 2] = [6, 8];
const OTHER_ITEMS: u64 = 40;

/// A server with one table, in which three tenants have items.
pub(crate) struct Bed {
    pub(crate) server: Server,
    pub(crate) table: Table,
    pub(crate) key_type: KeyType,
    pub(crate) clock: Clock,
}

/// A bed whose client goes through the fault proxy.
pub(crate) struct Faulty {
    pub(crate) bed: Bed,
    pub(crate) faults: Faults,
    pub(crate) proxy: Proxy,
}

impl Bed {
    /// `items` items of the tenant in `table`, and some of others.
    pub(crate) async fn new(table: Table, key_type: KeyType, items: u64) -> Self {
        let bed = Self {
            server: server().await,
            table,
            key_type,
            clock: Clock::accelerated(SPEED),
        };
        bed.server.create_table(&bed.table).await.unwrap();
        for tenant in OTHERS {
            bed.fill(tenant, OTHER_ITEMS).await;
        }
        bed.fill(TENANT, items).await;
        bed
    }

    /// A table without a sort key: each tenant has one item.
    pub(crate) async fn unsorted() -> Self {
        let (server, key_type) = (server().await, KeyType::N);
        let bed = Self {
            server,
            table: Table::new("Tenants", "pk", key_type),
            key_type,
            clock: Clock::accelerated(SPEED),
        };
        bed.server.create_table(&bed.table).await.unwrap();
        for tenant in [TENANT, OTHERS[0], OTHERS[1]] {
            bed.fill(tenant, 1).await;
        }
        bed
    }

    /// The usual table: string partition key, string sort key.
    pub(crate) async fn orders(items: u64) -> Self {
        Self::new(
            Table::new("Orders", "pk", KeyType::S).sorted_by("sk", KeyType::S),
            KeyType::S,
            items,
        )
        .await
    }

    pub(crate) async fn fill(&self, tenant: u64, items: u64) {
        self.server
            .fill(&self.table, &Fill::new(self.key_type.value(tenant), 0..items))
            .await
            .unwrap();
    }

    pub(crate) fn request(&self) -> Request {
        let value = match self.key_type.value(TENANT) {
            AttributeValue::S(text) | AttributeValue::N(text) => text,
            AttributeValue::B(blob) => STANDARD.encode(blob.as_ref()),
            other => unreachable!("{other:?} is no key"),
        };
        Request::new(self.table.name(), value)
    }

    pub(crate) fn control(&self) -> Control {
        Control::unattended(self.clock.clone())
    }

    pub(crate) fn client(&self) -> Client {
        client(&self.server.endpoint())
    }

    pub(crate) async fn run(&self, request: Request) -> Result<Finished, Failure> {
        Engine::default()
            .delete_partition(&self.client(), request, self.control())
            .await
    }

    /// The id of the table as it is now, as a run pins it.
    pub(crate) async fn table_id(&self) -> String {
        let (engine, client) = (Engine::default(), self.client());
        let prepared = engine.prepare(&client, self.request(), self.control());
        prepared.await.unwrap().table().id.clone()
    }

    /// Items left in the tenant's partition, as another client counts them.
    pub(crate) async fn left(&self) -> u64 {
        self.server
            .count_partition(&self.table, self.key_type.value(TENANT))
            .await
            .unwrap()
    }

    /// Fails if an item of another tenant is gone.
    pub(crate) async fn others_are_untouched(&self) {
        for tenant in OTHERS {
            let count = self
                .server
                .count_partition(&self.table, self.key_type.value(tenant))
                .await
                .unwrap();
            assert_eq!(count, OTHER_ITEMS, "items of tenant {tenant}");
        }
    }

    /// Puts the fault proxy between the runs and the server.
    pub(crate) fn faulty(self, schedule: Schedule, change: impl FnOnce(&mut Settings)) -> Faulty {
        self.delayed(Duration::ZERO, schedule, change)
    }

    pub(crate) fn delayed(
        self,
        latency: Duration,
        schedule: Schedule,
        change: impl FnOnce(&mut Settings),
    ) -> Faulty {
        let faults = Faults::new(self.clock.clone()).with(change);
        let plan = FaultPlan::clocked(schedule, self.clock.clone());
        let options = Options::new(&plan).latency(latency);
        let proxy = Proxy::start(self.server.address(), faults.clone(), options).unwrap();
        Faulty {
            bed: self,
            faults,
            proxy,
        }
    }
}

impl Faulty {
    pub(crate) fn client(&self) -> Client {
        client(&self.proxy.endpoint())
    }

    pub(crate) async fn run(&self, request: Request) -> Result<Finished, Failure> {
        Engine::default()
            .delete_partition(&self.client(), request, self.bed.control())
            .await
    }
}

/// The server of a test, of its own: in this process, or DynamoDB Local where the suite is run as the second opinion.
async fn server() -> Server {
    if std::env::var(SECOND_OPINION).is_ok_and(|value| value == "1") {
        Server::local().await.unwrap()
    } else {
        Server::embedded().unwrap()
    }
}

/// A client as the operator makes them.
fn client(endpoint: &str) -> Client {
    let endpoint = Endpoint::parse(endpoint).unwrap();
    Connector::new().client(&endpoint, "us-east-1", credentials::placeholder())
}
