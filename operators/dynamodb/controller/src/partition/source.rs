//! Reading keys: one page of one range per call.

use std::{collections::HashMap, sync::Arc};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, ReturnConsumedCapacity, Select},
};

use super::{
    error::{Kind, Problem, classify},
    key::Key,
    range::{Bound, SortRange},
    table::{Preflight, Table},
};

/// Reads the partition. Attribute names are always aliased: any name that DynamoDB accepts works.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    client: Client,
    table: Arc<Table>,
    partition: Key,
}

/// One page to read.
#[derive(Clone, Debug)]
pub(crate) struct PageQuery {
    /// The range, of which only keys inside are returned.
    pub(crate) range: SortRange,
    /// Continue behind this key.
    pub(crate) after: Option<Key>,
    /// Keys at most; `None` for as many as a page holds (1 MB of items).
    pub(crate) limit: Option<usize>,
    /// Strongly consistent.
    pub(crate) consistent: bool,
    /// From the highest key down.
    pub(crate) backwards: bool,
    /// Only count.
    pub(crate) count_only: bool,
}

impl PageQuery {
    pub(crate) fn of(range: SortRange) -> Self {
        Self {
            range,
            after: None,
            limit: None,
            consistent: false,
            backwards: false,
            count_only: false,
        }
    }
}

/// One page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// The keys inside the range, in order.
    pub(crate) keys: Vec<Key>,
    /// How many items there were, also when only counting.
    pub(crate) count: u64,
    /// Where to continue; `None` at the end.
    pub(crate) next: Option<Key>,
    /// Read units consumed.
    pub(crate) rcu: f64,
}

impl Source {
    pub(crate) fn new(client: Client, preflight: &Preflight) -> Self {
        Self {
            client,
            table: Arc::new(preflight.table.clone()),
            partition: preflight.partition.clone(),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// The attribute in which items of the partition differ: the sort key, or the partition key if there is none.
    fn distinguishing(&self) -> &str {
        self.table
            .sort_key
            .as_ref()
            .map_or(self.table.partition_key.name.as_str(), |key| key.name.as_str())
    }

    /// The primary key of an item.
    pub(crate) fn primary_key(&self, key: &Key) -> HashMap<String, AttributeValue> {
        let mut primary = HashMap::with_capacity(2);
        primary.insert(
            self.table.partition_key.name.clone(),
            self.partition.to_attribute(),
        );
        if let Some(sort_key) = &self.table.sort_key {
            primary.insert(sort_key.name.clone(), key.to_attribute());
        }
        primary
    }

    /// What [`Source::primary_key`] was made from.
    pub(crate) fn read_key(&self, item: &HashMap<String, AttributeValue>) -> Option<Key> {
        item.get(self.distinguishing()).and_then(Key::from_attribute)
    }

    /// Reads one page.
    pub(crate) async fn page(&self, query: &PageQuery) -> Result<Page, Problem> {
        let condition = Condition::of(&query.range);
        let mut request = self
            .client
            .query()
            .table_name(&self.table.name)
            .key_condition_expression(condition.expression)
            .expression_attribute_names("#p", &self.table.partition_key.name)
            .expression_attribute_values(":p", self.partition.to_attribute())
            .consistent_read(query.consistent)
            .scan_index_forward(!query.backwards)
            .set_limit(query.limit.and_then(|limit| i32::try_from(limit).ok()))
            .set_exclusive_start_key(self.start(query).map(|key| self.primary_key(key)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        for (name, key) in condition.values {
            request = request.expression_attribute_values(name, key.to_attribute());
        }
        if let Some(sort_key) = self
            .table
            .sort_key
            .as_ref()
            .filter(|_| condition.names_sort_key || !query.count_only)
        {
            request = request.expression_attribute_names("#s", &sort_key.name);
        }
        request = if query.count_only {
            request.select(Select::Count)
        } else {
            request.projection_expression(if self.table.sort_key.is_some() { "#s" } else { "#p" })
        };
        let output = request.send().await.map_err(|error| classify("Query", &error))?;
        let mut keys = Vec::with_capacity(output.items().len());
        for item in output.items() {
            keys.push(self.read_key(item).ok_or_else(malformed)?);
        }
        keys.retain(|key| self.table.sort_key.is_none() || query.range.contains(key));
        let next = output
            .last_evaluated_key()
            .map(|key| self.read_key(key).ok_or_else(malformed))
            .transpose()?;
        Ok(Page {
            count: u64::try_from(output.count()).unwrap_or(0),
            keys,
            next,
            rcu: output
                .consumed_capacity()
                .and_then(aws_sdk_dynamodb::types::ConsumedCapacity::capacity_units)
                .unwrap_or(0.0),
        })
    }

    /// An excluded lower end is a start key: a range whose both ends are keys has no other notation.
    fn start<'a>(&self, query: &'a PageQuery) -> Option<&'a Key> {
        let excluded = match &query.range.low {
            Bound::Excluded(key) if !query.backwards && query.range.high.key().is_some() => Some(key),
            _ => None,
        };
        query
            .after
            .as_ref()
            .or(excluded)
            .filter(|_| self.table.sort_key.is_some())
    }
}

fn malformed() -> Problem {
    Problem {
        kind: Kind::Rejected,
        operation: "Query",
        code: None,
        message: "the answer holds an item without a usable key".to_owned(),
    }
}

/// A key condition, with its values.
struct Condition<'a> {
    expression: &'static str,
    values: Vec<(&'static str, &'a Key)>,
    names_sort_key: bool,
}

impl<'a> Condition<'a> {
    fn of(range: &'a SortRange) -> Self {
        let (expression, values) = match (&range.low, &range.high) {
            (Bound::Open, Bound::Open) => ("#p = :p", Vec::new()),
            (Bound::Open, Bound::Included(high)) => ("#p = :p AND #s <= :h", vec![(":h", high)]),
            (Bound::Open, Bound::Excluded(high)) => ("#p = :p AND #s < :h", vec![(":h", high)]),
            (Bound::Included(low), Bound::Open) => ("#p = :p AND #s >= :l", vec![(":l", low)]),
            (Bound::Excluded(low), Bound::Open) => ("#p = :p AND #s > :l", vec![(":l", low)]),
            (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => (
                "#p = :p AND #s BETWEEN :l AND :h",
                vec![(":l", low), (":h", high)],
            ),
        };
        Self {
            expression,
            names_sort_key: !values.is_empty(),
            values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_has_a_key_condition() {
        let key = |text: &str| Key::S(text.into());
        for (low, high, expected) in [
            (Bound::Open, Bound::Open, "#p = :p"),
            (Bound::Included(key("a")), Bound::Open, "#p = :p AND #s >= :l"),
            (Bound::Excluded(key("a")), Bound::Open, "#p = :p AND #s > :l"),
            (Bound::Open, Bound::Included(key("b")), "#p = :p AND #s <= :h"),
            (Bound::Open, Bound::Excluded(key("b")), "#p = :p AND #s < :h"),
            (
                Bound::Excluded(key("a")),
                Bound::Excluded(key("b")),
                "#p = :p AND #s BETWEEN :l AND :h",
            ),
        ] {
            let range = SortRange { low, high };
            let condition = Condition::of(&range);
            assert_eq!(condition.expression, expected);
            assert_eq!(condition.names_sort_key, expected.contains("#s"));
        }
    }
}
