//! Sets of transactions, as MySQL writes them: `uuid:1-5:7,uuid:tag:1-3`.
//!
//! # Guarantees
//! - What is no set is refused: an answer that cannot be read is never an empty set.

use std::{collections::BTreeMap, fmt, str::FromStr};

/// A set of global transaction identifiers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GtidSet {
    /// Intervals, both ends included, ordered and apart, by source (`uuid` or `uuid:tag`).
    sources: BTreeMap<String, Vec<(u64, u64)>>,
}

/// A text is no set of transactions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no set of transactions")]
pub struct NoGtidSet(String);

impl GtidSet {
    /// Whether it holds no transaction.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// How many transactions it holds.
    pub fn count(&self) -> u64 {
        let intervals = self.sources.values().flatten();
        intervals.fold(0, |sum, (from, to)| {
            sum.saturating_add(to.saturating_sub(*from).saturating_add(1))
        })
    }

    /// Whether all of its transactions are in `other` as well.
    pub fn is_within(&self, other: &Self) -> bool {
        self.sources.iter().all(|(source, intervals)| {
            let theirs = other.sources.get(source).map_or(&[][..], Vec::as_slice);
            let covered =
                |&(from, to): &(u64, u64)| theirs.iter().any(|&(low, high)| low <= from && to <= high);
            intervals.iter().all(covered)
        })
    }

    fn add(&mut self, source: &str, interval: (u64, u64)) {
        let intervals = self.sources.entry(source.to_owned()).or_default();
        intervals.push(interval);
        intervals.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(intervals.len());
        for &(from, to) in intervals.iter() {
            match joined.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        *intervals = joined;
    }
}

impl FromStr for GtidSet {
    type Err = NoGtidSet;

    fn from_str(text: &str) -> Result<Self, NoGtidSet> {
        let refused = || NoGtidSet(text.chars().take(200).collect());
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut fields = part.split(':').map(str::trim);
            let uuid = fields
                .next()
                .filter(|uuid| is_uuid(uuid))
                .ok_or_else(refused)?
                .to_lowercase();
            let (mut source, mut intervals) = (uuid.clone(), 0);
            for field in fields {
                if field.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    source = format!("{uuid}:{}", field.to_lowercase());
                    continue;
                }
                set.add(&source, interval(field).ok_or_else(refused)?);
                intervals += 1;
            }
            if intervals == 0 {
                return Err(refused());
            }
        }
        Ok(set)
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn interval(text: &str) -> Option<(u64, u64)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (1 <= from && from <= to).then_some((from, to))
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (source, intervals) in &self.sources {
            write!(f, "{separator}{source}")?;
            for (from, to) in intervals {
                if from == to {
                    write!(f, ":{from}")?;
                } else {
                    write!(f, ":{from}-{to}")?;
                }
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        text.parse().unwrap()
    }

    #[rstest]
    #[case("", "")]
    #[case(
        "3E11FA47-71CA-11E1-9E33-C80AA9429562:1-5:6:9",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-6:9"
    )]
    #[case(
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:backup:1-2,\n4e11fa47-71ca-11e1-9e33-c80aa9429562:1",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,3e11fa47-71ca-11e1-9e33-c80aa9429562:backup:1-2,4e11fa47-71ca-11e1-9e33-c80aa9429562:1"
    )]
    fn what_servers_write_is_read(#[case] text: &str, #[case] shown: &str) {
        assert_eq!(set(text).to_string(), shown);
    }

    #[rstest]
    #[case("nonsense")]
    #[case("3e11fa47-71ca-11e1-9e33-c80aa9429562")]
    #[case("3e11fa47-71ca-11e1-9e33-c80aa9429562:5-1")]
    #[case("3e11fa47-71ca-11e1-9e33-c80aa9429562:0")]
    #[case("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-x")]
    fn what_is_no_set_is_refused(#[case] text: &str) {
        assert!(text.parse::<GtidSet>().is_err());
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_set_of_numbers(a in prop::collection::btree_set(1u64..40, 0..30), b in prop::collection::btree_set(1u64..40, 0..30)) {
            let text = |numbers: &BTreeSet<u64>| numbers.iter().map(|n| format!("{A}:{n}")).collect::<Vec<_>>().join(",");
            let (left, right) = (set(&text(&a)), set(&text(&b)));
            prop_assert_eq!(left.is_within(&right), a.is_subset(&b));
            prop_assert_eq!(left.is_empty(), a.is_empty());
            prop_assert_eq!(left.count(), u64::try_from(a.len()).unwrap());
            prop_assert_eq!(set(&left.to_string()), left);
        }
    }
}
