//! Tables, described as briefly as tests want to.

use anyhow::Context as _;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement,
    KeyType as KeyRole, LocalSecondaryIndex, Projection, ProjectionType, ScalarAttributeType,
};
use aws_sdk_dynamodb::{error::BuildError, primitives::Blob};

use super::Server;

/// The type of a key attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// A string.
    S,
    /// A number.
    N,
    /// Bytes.
    B,
}

impl KeyType {
    /// The `n`-th key of this type: keys sort as their numbers do.
    pub fn value(self, n: u64) -> AttributeValue {
        match self {
            Self::S => AttributeValue::S(format!("{n:012}")),
            Self::N => AttributeValue::N(n.to_string()),
            Self::B => AttributeValue::B(Blob::new(n.to_be_bytes())),
        }
    }

    fn scalar(self) -> ScalarAttributeType {
        match self {
            Self::S => ScalarAttributeType::S,
            Self::N => ScalarAttributeType::N,
            Self::B => ScalarAttributeType::B,
        }
    }
}

/// A key attribute: its name and type.
pub(super) type Key = (String, KeyType);

/// An on-demand table to be made.
#[derive(Clone, Debug)]
pub struct Table {
    pub(super) name: String,
    pub(super) partition: Key,
    pub(super) sort: Option<Key>,
    pub(super) local: Vec<(String, Key)>,
    pub(super) global: Vec<(String, Key)>,
}

impl Table {
    /// A table of this name with a partition key and no sort key.
    pub fn new(name: &str, partition: &str, key_type: KeyType) -> Self {
        let partition = (partition.to_owned(), key_type);
        Self {
            name: name.to_owned(),
            partition,
            sort: None,
            local: Vec::new(),
            global: Vec::new(),
        }
    }

    /// Adds a sort key.
    #[must_use]
    pub fn sorted_by(mut self, attribute: &str, key_type: KeyType) -> Self {
        self.sort = Some((attribute.to_owned(), key_type));
        self
    }

    /// Adds a keys-only local index. Its name is its attribute's with `-index`.
    #[must_use]
    pub fn local_index(mut self, attribute: &str, key_type: KeyType) -> Self {
        self.local
            .push((format!("{attribute}-index"), (attribute.to_owned(), key_type)));
        self
    }

    /// Adds a keys-only global index over one attribute. Its name is its attribute's with `-index`.
    #[must_use]
    pub fn global_index(mut self, attribute: &str, key_type: KeyType) -> Self {
        self.global
            .push((format!("{attribute}-index"), (attribute.to_owned(), key_type)));
        self
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn definitions(&self) -> Result<Vec<AttributeDefinition>, BuildError> {
        let indexed = self.local.iter().chain(&self.global).map(|(_, key)| key);
        let mut keys: Vec<&Key> = std::iter::once(&self.partition)
            .chain(self.sort.as_ref())
            .chain(indexed)
            .collect();
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        keys.dedup();
        let define = |(name, key_type): &Key| {
            AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(key_type.scalar())
                .build()
        };
        keys.into_iter().map(define).collect()
    }
}

fn schema(partition: &Key, sort: Option<&Key>) -> Result<Vec<KeySchemaElement>, BuildError> {
    let element = |key: &Key, role| {
        KeySchemaElement::builder()
            .attribute_name(&key.0)
            .key_type(role)
            .build()
    };
    let partition = std::iter::once(element(partition, KeyRole::Hash));
    partition
        .chain(sort.map(|sort| element(sort, KeyRole::Range)))
        .collect()
}

impl Server {
    /// Makes a table.
    pub async fn create_table(&self, table: &Table) -> anyhow::Result<()> {
        let keys_only = Projection::builder()
            .projection_type(ProjectionType::KeysOnly)
            .build();
        let mut request = self
            .client()
            .create_table()
            .table_name(&table.name)
            .billing_mode(BillingMode::PayPerRequest)
            .set_attribute_definitions(Some(table.definitions()?))
            .set_key_schema(Some(schema(&table.partition, table.sort.as_ref())?));
        for (index, key) in &table.local {
            request = request.local_secondary_indexes(
                LocalSecondaryIndex::builder()
                    .index_name(index)
                    .set_key_schema(Some(schema(&table.partition, Some(key))?))
                    .projection(keys_only.clone())
                    .build()?,
            );
        }
        for (index, key) in &table.global {
            request = request.global_secondary_indexes(
                GlobalSecondaryIndex::builder()
                    .index_name(index)
                    .set_key_schema(Some(schema(key, None)?))
                    .projection(keys_only.clone())
                    .build()?,
            );
        }
        request
            .send()
            .await
            .with_context(|| format!("{} refuses table {}", self.name(), table.name))?;
        Ok(())
    }

    /// Removes a table and makes it anew under the same name, empty and with another id.
    pub async fn recreate_table(&self, table: &Table) -> anyhow::Result<()> {
        let removed = self.client().delete_table().table_name(&table.name).send().await;
        removed.with_context(|| format!("{} keeps table {}", self.name(), table.name))?;
        self.create_table(table).await
    }
}
