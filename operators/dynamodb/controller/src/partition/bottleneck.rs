//! What slows a deletion down, in words that say what can be done about it.

use aws_sdk_dynamodb::types::ThrottlingReason;
use dynamodb_api::Reason;

/// Which capacity is used up: a deletion needs both, reads to find the keys and writes to delete them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capacity {
    /// That for reads.
    Read,
    /// That for writes.
    Write,
}

/// The resource whose capacity is the limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bottleneck {
    /// The table's own capacity.
    Table(Capacity),
    /// The on-demand maximum that somebody set on the table.
    TableMaximum(Capacity),
    /// The write capacity of a global secondary index, by name. Indexes are never read.
    Index(String),
    /// One physical partition (1,000 WCU or 3,000 RCU per second).
    KeyRange(Capacity),
    /// A quota of the account.
    Account,
}

impl Bottleneck {
    /// Reads a reason of DynamoDB; `None` if it names nothing that a deletion uses.
    pub(crate) fn from_reason(reason: &ThrottlingReason) -> Option<Self> {
        let name = reason.reason()?;
        let (of_index, rest) = match name.strip_prefix("Index") {
            Some(rest) => (true, rest),
            None => (false, name.strip_prefix("Table")?),
        };
        let (capacity, limit) = match rest.strip_prefix("Write") {
            Some(limit) => (Capacity::Write, limit),
            None => (Capacity::Read, rest.strip_prefix("Read")?),
        };
        match limit {
            "AccountLimitExceeded" => Some(Self::Account),
            _ if of_index && capacity == Capacity::Write => {
                let index = reason
                    .resource()
                    .and_then(|arn| arn.split_once("/index/"))
                    .map_or("?", |(_, index)| index);
                Some(Self::Index(index.chars().take(255).collect()))
            }
            _ if of_index => None,
            "ProvisionedThroughputExceeded" => Some(Self::Table(capacity)),
            "MaxOnDemandThroughputExceeded" => Some(Self::TableMaximum(capacity)),
            "KeyRangeThroughputExceeded" => Some(Self::KeyRange(capacity)),
            _ => None,
        }
    }

    /// Whether all requests to the table are concerned, not only those of one key range.
    pub(crate) fn is_table_wide(&self) -> bool {
        !matches!(self, Self::KeyRange(_))
    }

    /// The reason for the `Throttled` condition.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Table(_) | Self::TableMaximum(_) => Reason::TableThrottled,
            Self::Index(_) => Reason::IndexThrottled,
            Self::KeyRange(_) => Reason::KeyRangeThrottled,
            Self::Account => Reason::AccountThrottled,
        }
    }

    /// The bottleneck and what can be done about it, for the condition's message.
    pub fn advice(&self) -> String {
        match self {
            Self::Table(Capacity::Write) => "the table's write capacity is the bottleneck: raise it, or wait".to_owned(),
            Self::Table(Capacity::Read) => "the table's read capacity is the bottleneck: raise it, or wait".to_owned(),
            Self::TableMaximum(Capacity::Write) => {
                "the table's MaxWriteRequestUnits is the bottleneck: raise it, or wait".to_owned()
            }
            Self::TableMaximum(Capacity::Read) => {
                "the table's MaxReadRequestUnits is the bottleneck: raise it, or wait".to_owned()
            }
            Self::Index(name) => format!("GSI {name} is the bottleneck: raise its write capacity, or wait"),
            Self::KeyRange(Capacity::Write) => {
                "a physical partition's 1,000 write units per second are the bottleneck: nothing to do but wait".to_owned()
            }
            Self::KeyRange(Capacity::Read) => {
                "a physical partition's 3,000 read units per second are the bottleneck: nothing to do but wait".to_owned()
            }
            Self::Account => "a quota of the AWS account is the bottleneck: ask AWS to raise it, or wait".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reason: &str, resource: &str) -> Option<Bottleneck> {
        Bottleneck::from_reason(
            &ThrottlingReason::builder()
                .reason(reason)
                .resource(resource)
                .build(),
        )
    }

    #[test]
    fn each_of_the_sixteen_reasons_leads_to_the_capacity_that_is_missing() {
        use Bottleneck::{Account, Index, KeyRange, Table, TableMaximum};
        use Capacity::{Read, Write};
        let index = || Some(Index("I".into()));
        for (name, expected) in [
            ("TableWriteProvisionedThroughputExceeded", Some(Table(Write))),
            ("TableReadProvisionedThroughputExceeded", Some(Table(Read))),
            (
                "TableWriteMaxOnDemandThroughputExceeded",
                Some(TableMaximum(Write)),
            ),
            ("TableReadMaxOnDemandThroughputExceeded", Some(TableMaximum(Read))),
            ("TableWriteKeyRangeThroughputExceeded", Some(KeyRange(Write))),
            ("TableReadKeyRangeThroughputExceeded", Some(KeyRange(Read))),
            ("TableWriteAccountLimitExceeded", Some(Account)),
            ("TableReadAccountLimitExceeded", Some(Account)),
            ("IndexWriteProvisionedThroughputExceeded", index()),
            ("IndexWriteMaxOnDemandThroughputExceeded", index()),
            ("IndexWriteKeyRangeThroughputExceeded", index()),
            ("IndexWriteAccountLimitExceeded", Some(Account)),
            ("IndexReadAccountLimitExceeded", Some(Account)),
            ("IndexReadProvisionedThroughputExceeded", None),
            ("IndexReadMaxOnDemandThroughputExceeded", None),
            ("IndexReadKeyRangeThroughputExceeded", None),
            ("SomethingElse", None),
        ] {
            let found = read(name, "arn:aws:dynamodb:r:1:table/T/index/I");
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn advice_never_sends_to_the_wrong_capacity() {
        use Bottleneck::{KeyRange, Table, TableMaximum};
        for of in [Table, TableMaximum, KeyRange] {
            let (read, write) = (
                of(Capacity::Read).advice().to_lowercase(),
                of(Capacity::Write).advice().to_lowercase(),
            );
            assert!(read.contains("read") && !read.contains("write"), "{read}");
            assert!(write.contains("write") && !write.contains("read"), "{write}");
        }
    }

    #[test]
    fn an_index_is_named_to_the_user() {
        let index = read(
            "IndexWriteKeyRangeThroughputExceeded",
            "arn:aws:dynamodb:r:1:table/T/index/byStatus",
        )
        .unwrap();
        assert!(index.advice().starts_with("GSI byStatus is the bottleneck"));
        assert_eq!(index.reason(), Reason::IndexThrottled);
    }
}
