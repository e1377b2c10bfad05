//! What slows a deletion down, in words that say what can be done about it.

use aws_sdk_dynamodb::types::ThrottlingReason;
use dynamodb_api::Reason;

/// The resource whose capacity is the limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bottleneck {
    /// The table's own write capacity.
    Table,
    /// The on-demand maximum that somebody set on the table.
    TableMaximum,
    /// A global secondary index, by name.
    Index(String),
    /// One physical partition (1,000 WCU per second).
    KeyRange,
    /// A quota of the account.
    Account,
}

impl Bottleneck {
    /// Reads a reason of DynamoDB; `None` if it names nothing known.
    pub(crate) fn from_reason(reason: &ThrottlingReason) -> Option<Self> {
        let name = reason.reason()?;
        if let Some(rest) = name.strip_prefix("Index") {
            let index = reason
                .resource()
                .and_then(|arn| arn.split_once("/index/"))
                .map_or("?", |(_, index)| index);
            return if rest.contains("AccountLimit") {
                Some(Self::Account)
            } else {
                Some(Self::Index(index.chars().take(255).collect()))
            };
        }
        let rest = name.strip_prefix("Table")?;
        let rest = rest.strip_prefix("Write").or_else(|| rest.strip_prefix("Read"))?;
        match rest {
            "ProvisionedThroughputExceeded" => Some(Self::Table),
            "MaxOnDemandThroughputExceeded" => Some(Self::TableMaximum),
            "KeyRangeThroughputExceeded" => Some(Self::KeyRange),
            "AccountLimitExceeded" => Some(Self::Account),
            _ => None,
        }
    }

    /// Whether all writes to the table are concerned, not only those of one key range.
    pub(crate) fn is_table_wide(&self) -> bool {
        !matches!(self, Self::KeyRange)
    }

    /// The reason for the `Throttled` condition.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Table | Self::TableMaximum => Reason::TableThrottled,
            Self::Index(_) => Reason::IndexThrottled,
            Self::KeyRange => Reason::KeyRangeThrottled,
            Self::Account => Reason::AccountThrottled,
        }
    }

    /// The bottleneck and what can be done about it, for the condition's message.
    pub fn advice(&self) -> String {
        match self {
            Self::Table => "the table's write capacity is the bottleneck: raise it, or wait".to_owned(),
            Self::TableMaximum => {
                "the table's MaxWriteRequestUnits is the bottleneck: raise it, or wait".to_owned()
            }
            Self::Index(name) => format!("GSI {name} is the bottleneck: raise its write capacity, or wait"),
            Self::KeyRange => {
                "a physical partition's 1,000 write units per second are the bottleneck: nothing to do but wait".to_owned()
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
    fn all_sixteen_reasons_are_understood() {
        for resource in ["Table", "Index"] {
            for direction in ["Read", "Write"] {
                for limit in [
                    "ProvisionedThroughput",
                    "AccountLimit",
                    "KeyRangeThroughput",
                    "MaxOnDemandThroughput",
                ] {
                    let name = format!("{resource}{direction}{limit}Exceeded");
                    assert!(
                        read(&name, "arn:aws:dynamodb:r:1:table/T/index/I").is_some(),
                        "{name}"
                    );
                }
            }
        }
        assert_eq!(read("SomethingElse", ""), None);
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
