//! What there is to know about the table before anything is planned.

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, OnDemandThroughput,
        PointInTimeRecoveryStatus, ProvisionedThroughputDescription, ScalarAttributeType, TableDescription,
        TableStatus,
    },
};
use dynamodb_api::{AttributeType, IndexSummary, Reason};
use reconcile::Class;

use super::{
    error::{Failure, Kind, Problem, classify},
    key::{Key, MAX_PARTITION_KEY},
    range::SortRange,
    request::Request,
};
use crate::sabotage;

/// A key attribute of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAttribute {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: AttributeType,
}

/// The table as DynamoDB describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its id: another table of the same name has another one. From a server that tells none (DynamoDB Local) the time
    /// of its creation takes the id's place.
    pub id: String,
    /// The partition key.
    pub partition_key: KeyAttribute,
    /// The sort key, if the table has one.
    pub sort_key: Option<KeyAttribute>,
    /// Its indexes.
    pub indexes: Vec<IndexSummary>,
    /// Whether each deletion is also written to a stream.
    pub streams: bool,
    /// Replicas in other regions.
    pub replicas: usize,
    /// Provisioned write capacity; `None` for on-demand tables.
    pub provisioned_wcu: Option<u64>,
    /// Write units per second that the table can take at once, if DynamoDB says.
    pub warm_wcu: Option<u64>,
    /// What bounds the writes besides.
    pub write_limits: Vec<WriteLimit>,
}

/// A bound of the write units per second, other than the table's provisioned capacity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteLimit {
    /// The global index that it holds for; `None` for the maximum of an on-demand table.
    pub index: Option<String>,
    /// Write units per second.
    pub wcu: u64,
}

impl Table {
    /// Whether all items of a partition share one physical partition for ever: so it is with a local index.
    pub fn has_local_index(&self) -> bool {
        self.indexes.iter().any(|index| index.local)
    }
}

/// The table and what the request means on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// The table.
    pub table: Table,
    /// The partition key's value.
    pub partition: Key,
    /// The sort keys to delete.
    pub range: SortRange,
}

/// What servers say to an operation that they do not have.
const UNKNOWN_OPERATION: &str = "UnknownOperationException";

/// Looks at the table and checks the request against it. Reads only.
///
/// # Errors
/// Fails with the reason that the conditions show: `TableNotFound`, `TableReplaced`, `TableUnavailable`,
/// `KeyTypeMismatch`, `PartitionValueInvalid`, `SortKeyInvalid`, `PointInTimeRecoveryDisabled`, or what
/// [`Problem::into_failure`] says.
pub async fn preflight(client: &Client, request: &Request) -> Result<Preflight, Failure> {
    let table = describe(client, &request.table).await?;
    check_pin(&table.name, &table.id, request.table_id.as_deref())?;
    let preflight = resolve(table, request)?;
    if request.require_point_in_time_recovery {
        require_recovery(client, &request.table).await?;
    }
    Ok(preflight)
}

/// Fetches the table's description.
pub(crate) async fn describe(client: &Client, name: &str) -> Result<Table, Failure> {
    let description = fetch(client, name)
        .await
        .map_err(|problem| problem.into_failure(name))?;
    read(name, &description)
}

async fn fetch(client: &Client, name: &str) -> Result<TableDescription, Problem> {
    let answer = client.describe_table().table_name(name).send().await;
    let output = answer.map_err(|error| classify("DescribeTable", &error))?;
    output.table.ok_or_else(|| Problem {
        kind: Kind::Rejected,
        operation: "DescribeTable",
        code: None,
        message: "the answer describes no table".to_owned(),
    })
}

/// What a look at the table shows of it.
#[derive(Clone, Debug)]
pub(crate) struct Sighting {
    id: String,
    usable: Result<(), Failure>,
}

/// Looks at the table.
pub(crate) async fn sight(client: &Client, name: &str) -> Result<Sighting, Problem> {
    let description = fetch(client, name).await?;
    Ok(Sighting {
        id: identity(&description),
        usable: read(name, &description).map(drop),
    })
}

impl Sighting {
    /// Makes sure that the table is the one that the job began with, and usable. A new one is told from the old one also
    /// while it is being made.
    pub(crate) fn confirm(self, name: &str, pinned: &str) -> Result<(), Failure> {
        check_pin(name, &self.id, Some(pinned))?;
        self.usable
    }
}

fn identity(description: &TableDescription) -> String {
    let created = || {
        description
            .creation_date_time()
            .map(|at| format!("created-{}", at.as_nanos()))
    };
    description
        .table_id()
        .map(str::to_owned)
        .or_else(created)
        .unwrap_or_default()
}

/// Refuses another table than the one that the job began with.
fn check_pin(table: &str, id: &str, pinned: Option<&str>) -> Result<(), Failure> {
    match pinned {
        Some(pinned) if pinned != id && !sabotage::active(sabotage::FORGET_TABLE_ID_PIN) => {
            Err(Failure::terminal(
                Reason::TableReplaced,
                format!(
                    "table '{table}' was dropped and created again since the job began (its id was {pinned}, now it is {id}); nothing is deleted from the new one: create another DdbctlDpJob if that is wanted"
                ),
            ))
        }
        _ => Ok(()),
    }
}

fn resolve(table: Table, request: &Request) -> Result<Preflight, Failure> {
    let kind = table.partition_key.kind;
    if let Some(asserted) = request.key_type.filter(|asserted| *asserted != kind) {
        return Err(Failure::terminal(
            Reason::KeyTypeMismatch,
            format!(
                "the partition key '{}' of table '{}' has type {}, `keyType` says {}",
                table.partition_key.name,
                table.name,
                kind.as_str(),
                asserted.as_str()
            ),
        ));
    }
    let partition = Key::parse(kind, &request.partition_value, MAX_PARTITION_KEY).map_err(|error| {
        Failure::terminal(
            Reason::PartitionValueInvalid,
            format!(
                "`partitionValue` {error} (the partition key '{}' of table '{}' has type {})",
                table.partition_key.name,
                table.name,
                kind.as_str()
            ),
        )
    })?;
    let range = match (&request.sort_key, &table.sort_key) {
        (None, _) => SortRange::ALL,
        (Some(_), None) => {
            return Err(Failure::terminal(
                Reason::SortKeyInvalid,
                format!("table '{}' has no sort key: remove `sortKey`", table.name),
            ));
        }
        (Some(predicate), Some(attribute)) => {
            SortRange::from_predicate(predicate, attribute.kind).map_err(|error| {
                Failure::terminal(
                    Reason::SortKeyInvalid,
                    format!(
                        "{error} (the sort key '{}' of table '{}' has type {})",
                        attribute.name,
                        table.name,
                        attribute.kind.as_str()
                    ),
                )
            })?
        }
    };
    Ok(Preflight {
        table,
        partition,
        range,
    })
}

async fn require_recovery(client: &Client, name: &str) -> Result<(), Failure> {
    let disabled = |what: &str, then: &str| {
        let message = format!(
            "{what} has no point-in-time recovery and `requirePointInTimeRecovery` asks for it: {then}"
        );
        Failure::terminal(Reason::PointInTimeRecoveryDisabled, message)
    };
    let answer = client.describe_continuous_backups().table_name(name).send().await;
    let output = answer.map_err(|error| {
        let problem = classify("DescribeContinuousBackups", &error);
        if problem.code.as_deref() == Some(UNKNOWN_OPERATION) {
            let server = format!("the server of table '{name}'");
            disabled(&server, "create the job without it, if nothing need be restored")
        } else {
            problem.into_failure(name)
        }
    })?;
    let enabled = output
        .continuous_backups_description()
        .and_then(|backups| backups.point_in_time_recovery_description())
        .and_then(|recovery| recovery.point_in_time_recovery_status())
        .is_some_and(|status| *status == PointInTimeRecoveryStatus::Enabled);
    if enabled {
        return Ok(());
    }
    Err(disabled(
        &format!("table '{name}'"),
        "enable it on the table, then create the job again",
    ))
}

fn read(name: &str, description: &TableDescription) -> Result<Table, Failure> {
    match description.table_status() {
        None | Some(TableStatus::Active | TableStatus::Updating) => {}
        Some(status) => return Err(unusable(name, status)),
    }
    let key = |wanted| {
        key_attribute(
            description.key_schema(),
            description.attribute_definitions(),
            &wanted,
        )
    };
    let partition_key = key(KeyType::Hash).ok_or_else(|| {
        Failure::terminal(
            Reason::RequestRejected,
            format!("the description of table '{name}' names no partition key"),
        )
    })?;
    let on_demand = description
        .billing_mode_summary()
        .is_some_and(|billing| billing.billing_mode() == Some(&BillingMode::PayPerRequest));
    let provisioned = description
        .provisioned_throughput()
        .and_then(ProvisionedThroughputDescription::write_capacity_units);
    let units = |units: i64| u64::try_from(units).ok().filter(|units| *units > 0);
    let streams = description
        .stream_specification()
        .is_some_and(aws_sdk_dynamodb::types::StreamSpecification::stream_enabled);
    Ok(Table {
        name: name.to_owned(),
        id: identity(description),
        partition_key,
        sort_key: key(KeyType::Range),
        indexes: indexes(description),
        streams,
        replicas: description.replicas().len(),
        provisioned_wcu: provisioned.and_then(units).filter(|_| !on_demand),
        warm_wcu: description
            .warm_throughput()
            .and_then(aws_sdk_dynamodb::types::TableWarmThroughputDescription::write_units_per_second)
            .and_then(units),
        write_limits: write_limits(description, on_demand),
    })
}

/// An on-demand table or index may have a maximum; each index of another table has a capacity of its own.
fn write_limits(description: &TableDescription, on_demand: bool) -> Vec<WriteLimit> {
    let limit = |index: Option<&str>, units: Option<i64>| {
        let wcu = units.and_then(|units| u64::try_from(units).ok());
        wcu.filter(|wcu| *wcu > 0).map(|wcu| WriteLimit {
            index: index.map(str::to_owned),
            wcu,
        })
    };
    let table = description.on_demand_throughput();
    let table = table.and_then(OnDemandThroughput::max_write_request_units);
    let indexes = description.global_secondary_indexes().iter().filter_map(|index| {
        let most = index.on_demand_throughput();
        let most = most.and_then(OnDemandThroughput::max_write_request_units);
        let provisioned = index
            .provisioned_throughput()
            .and_then(ProvisionedThroughputDescription::write_capacity_units);
        limit(
            Some(index.index_name()?),
            if on_demand { most } else { provisioned },
        )
    });
    limit(None, table.filter(|_| on_demand))
        .into_iter()
        .chain(indexes)
        .collect()
}

/// A table that is being made, or deleted, is so for seconds. From the other states only a person brings it back.
fn unusable(name: &str, status: &TableStatus) -> Failure {
    let (class, advice) = match status {
        TableStatus::Archiving | TableStatus::Archived => (
            Class::Denied,
            "; DynamoDB archives a table whose encryption key it cannot use: restore it from the backup of that time",
        ),
        TableStatus::InaccessibleEncryptionCredentials => (
            Class::Denied,
            "; enable the table's encryption key, or allow its use again",
        ),
        _ => (Class::Waiting, ""),
    };
    Failure {
        class,
        reason: Reason::TableUnavailable,
        message: format!("table '{name}' is {status}: it must be ACTIVE{advice}"),
    }
}

fn indexes(description: &TableDescription) -> Vec<IndexSummary> {
    let summary = |name: Option<&str>, local| {
        name.map(|name| IndexSummary {
            name: name.to_owned(),
            local,
        })
    };
    let local = description
        .local_secondary_indexes()
        .iter()
        .filter_map(|index| summary(index.index_name(), true));
    let global = description
        .global_secondary_indexes()
        .iter()
        .filter_map(|index| summary(index.index_name(), false));
    local.chain(global).collect()
}

fn key_attribute(
    schema: &[KeySchemaElement],
    definitions: &[AttributeDefinition],
    wanted: &KeyType,
) -> Option<KeyAttribute> {
    let element = schema.iter().find(|element| element.key_type() == wanted)?;
    let name = element.attribute_name();
    let definition = definitions
        .iter()
        .find(|definition| definition.attribute_name() == name)?;
    let kind = match definition.attribute_type() {
        ScalarAttributeType::S => AttributeType::S,
        ScalarAttributeType::N => AttributeType::N,
        ScalarAttributeType::B => AttributeType::B,
        _ => return None,
    };
    Some(KeyAttribute {
        name: name.to_owned(),
        kind,
    })
}

#[cfg(test)]
mod tests;
