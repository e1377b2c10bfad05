//! Ranges of sort keys: what a condition selects, and what remains to be done of it.

use dynamodb_api::{AttributeType, SortKeyPredicate};

use super::key::{Key, KeyError, MAX_SORT_KEY};

/// One end of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// No limit on this side.
    Open,
    /// The key itself belongs to the range.
    Included(Key),
    /// The key itself does not belong to the range.
    Excluded(Key),
}

impl Bound {
    /// The key at this end.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Open => None,
            Self::Included(key) | Self::Excluded(key) => Some(key),
        }
    }
}

/// A contiguous range of sort keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortRange {
    /// The lower end.
    pub low: Bound,
    /// The upper end.
    pub high: Bound,
}

/// Why a sort key condition cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// A value does not fit the sort key.
    #[error("`sortKey.{field}` {source}")]
    Value {
        /// The field that holds the value.
        field: &'static str,
        /// What is wrong with it.
        source: KeyError,
    },
    /// Not exactly one condition.
    #[error("`sortKey` must set exactly one of eq, lt, le, gt, ge, between and beginsWith")]
    NotOne,
    /// `between` runs backwards.
    #[error("`sortKey.between.from` must not be above `sortKey.between.to`")]
    Backwards,
    /// A number has no beginning.
    #[error("`sortKey.beginsWith` must not be used: the sort key is a number; use between")]
    PrefixOfNumber,
}

impl SortRange {
    /// Everything.
    pub const ALL: Self = Self {
        low: Bound::Open,
        high: Bound::Open,
    };

    /// The range that a condition on a sort key of type `kind` selects.
    pub fn from_predicate(predicate: &SortKeyPredicate, kind: AttributeType) -> Result<Self, ConditionError> {
        let parse = |field, text: &str| {
            Key::parse(kind, text, MAX_SORT_KEY).map_err(|source| ConditionError::Value { field, source })
        };
        let SortKeyPredicate {
            eq,
            lt,
            le,
            gt,
            ge,
            between,
            begins_with,
        } = predicate;
        let mut ranges = Vec::new();
        if let Some(text) = eq {
            let key = parse("eq", text)?;
            ranges.push(Self {
                low: Bound::Included(key.clone()),
                high: Bound::Included(key),
            });
        }
        if let Some(text) = lt {
            ranges.push(Self {
                low: Bound::Open,
                high: Bound::Excluded(parse("lt", text)?),
            });
        }
        if let Some(text) = le {
            ranges.push(Self {
                low: Bound::Open,
                high: Bound::Included(parse("le", text)?),
            });
        }
        if let Some(text) = gt {
            ranges.push(Self {
                low: Bound::Excluded(parse("gt", text)?),
                high: Bound::Open,
            });
        }
        if let Some(text) = ge {
            ranges.push(Self {
                low: Bound::Included(parse("ge", text)?),
                high: Bound::Open,
            });
        }
        if let Some(bounds) = between {
            let (from, to) = (
                parse("between.from", &bounds.from)?,
                parse("between.to", &bounds.to)?,
            );
            if from > to {
                return Err(ConditionError::Backwards);
            }
            ranges.push(Self {
                low: Bound::Included(from),
                high: Bound::Included(to),
            });
        }
        if let Some(text) = begins_with {
            ranges.push(Self::prefix(parse("beginsWith", text)?)?);
        }
        match (ranges.pop(), ranges.is_empty()) {
            (Some(range), true) => Ok(range),
            _ => Err(ConditionError::NotOne),
        }
    }

    fn prefix(key: Key) -> Result<Self, ConditionError> {
        let high = match &key {
            Key::N(_) => return Err(ConditionError::PrefixOfNumber),
            // Nothing longer can begin with a key of the greatest length.
            _ if key.size() == MAX_SORT_KEY => Bound::Included(key.clone()),
            Key::S(text) => after_prefix(text.chars().collect(), next_char).map_or(Bound::Open, |chars| {
                Bound::Excluded(Key::S(chars.into_iter().collect::<String>().into()))
            }),
            Key::B(bytes) => after_prefix(bytes.to_vec(), |byte| byte.checked_add(1))
                .map_or(Bound::Open, |bytes| Bound::Excluded(Key::B(bytes.into()))),
        };
        Ok(Self {
            low: Bound::Included(key),
            high,
        })
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &Key) -> bool {
        let above = match &self.low {
            Bound::Open => true,
            Bound::Included(low) => key >= low,
            Bound::Excluded(low) => key > low,
        };
        above && !self.is_below(key)
    }

    /// Whether the range ends below `key`.
    pub fn is_below(&self, key: &Key) -> bool {
        match &self.high {
            Bound::Open => false,
            Bound::Included(high) => key > high,
            Bound::Excluded(high) => key >= high,
        }
    }

    /// The part above `key`, `key` itself left out.
    #[must_use]
    pub fn above(&self, key: &Key) -> Self {
        Self {
            low: Bound::Excluded(key.clone()),
            high: self.high.clone(),
        }
    }

    /// Splits at `key`, which goes to the lower part. `None` if one of the parts would be empty.
    pub fn split_at(&self, key: &Key) -> Option<(Self, Self)> {
        let upper = self.above(key);
        let empty_above = match &self.high {
            Bound::Open => false,
            Bound::Included(high) | Bound::Excluded(high) => key >= high,
        };
        if !self.contains(key) || empty_above {
            return None;
        }
        Some((
            Self {
                low: self.low.clone(),
                high: Bound::Included(key.clone()),
            },
            upper,
        ))
    }
}

/// The least sequence above everything that begins with `symbols`.
fn after_prefix<T: Copy>(mut symbols: Vec<T>, next: impl Fn(T) -> Option<T>) -> Option<Vec<T>> {
    while let Some(last) = symbols.pop() {
        if let Some(next) = next(last) {
            symbols.push(next);
            return Some(symbols);
        }
    }
    None
}

fn next_char(char: char) -> Option<char> {
    // The code points between are surrogates, which no text contains.
    if char == '\u{D7FF}' {
        Some('\u{E000}')
    } else {
        char::from_u32(u32::from(char) + 1)
    }
}

#[cfg(test)]
mod tests {
    use dynamodb_api::SortKeyBounds;
    use proptest::prelude::*;

    use super::*;

    fn s(text: &str) -> Key {
        Key::S(text.into())
    }

    fn predicate(set: impl FnOnce(&mut SortKeyPredicate)) -> SortKeyPredicate {
        let mut predicate = SortKeyPredicate::default();
        set(&mut predicate);
        predicate
    }

    fn selected(predicate: &SortKeyPredicate) -> Vec<&'static str> {
        let range = SortRange::from_predicate(predicate, AttributeType::S).unwrap();
        ["a", "b", "ba", "bz", "c", "d"]
            .into_iter()
            .filter(|key| range.contains(&s(key)))
            .collect()
    }

    #[test]
    fn each_condition_selects_what_it_says() {
        assert_eq!(selected(&predicate(|p| p.eq = Some("b".into()))), ["b"]);
        assert_eq!(selected(&predicate(|p| p.lt = Some("b".into()))), ["a"]);
        assert_eq!(selected(&predicate(|p| p.le = Some("b".into()))), ["a", "b"]);
        assert_eq!(selected(&predicate(|p| p.gt = Some("c".into()))), ["d"]);
        assert_eq!(selected(&predicate(|p| p.ge = Some("c".into()))), ["c", "d"]);
        assert_eq!(
            selected(&predicate(|p| p.begins_with = Some("b".into()))),
            ["b", "ba", "bz"]
        );
        let bounds = SortKeyBounds {
            from: "b".into(),
            to: "c".into(),
        };
        assert_eq!(
            selected(&predicate(|p| p.between = Some(bounds))),
            ["b", "ba", "bz", "c"]
        );
    }

    #[test]
    fn conditions_that_mean_nothing_are_refused() {
        let refuse = |p: &SortKeyPredicate, kind| SortRange::from_predicate(p, kind).unwrap_err();
        assert_eq!(
            refuse(&SortKeyPredicate::default(), AttributeType::S),
            ConditionError::NotOne
        );
        let prefix = predicate(|p| p.begins_with = Some("1".into()));
        assert_eq!(refuse(&prefix, AttributeType::N), ConditionError::PrefixOfNumber);
        let backwards = predicate(|p| {
            p.between = Some(SortKeyBounds {
                from: "10".into(),
                to: "9".into(),
            });
        });
        assert_eq!(refuse(&backwards, AttributeType::N), ConditionError::Backwards);
        assert!(
            SortRange::from_predicate(&backwards, AttributeType::S).is_ok(),
            "as text, 10 is below 9"
        );
        let bad = predicate(|p| p.ge = Some("x".into()));
        assert!(
            refuse(&bad, AttributeType::N)
                .to_string()
                .starts_with("`sortKey.ge` is not a decimal number")
        );
    }

    proptest! {
        #[test]
        fn a_prefix_range_holds_exactly_what_begins_with_it(prefix in "\\PC{1,4}", other in "\\PC{0,6}", tail in "\\PC{0,3}") {
            let range = SortRange::prefix(s(&prefix)).unwrap();
            let extended = format!("{prefix}{tail}");
            prop_assert!(range.contains(&s(&extended)));
            prop_assert_eq!(range.contains(&s(&other)), other.starts_with(&prefix));
        }

        #[test]
        fn a_split_loses_and_doubles_nothing(keys in proptest::collection::vec(-50i32..50, 3), probe in -60i32..60) {
            let mut keys = keys;
            keys.sort_unstable();
            let n = |value: i32| Key::parse(AttributeType::N, &value.to_string(), 99).unwrap();
            let range = SortRange { low: Bound::Included(n(keys[0])), high: Bound::Included(n(keys[2])) };
            if let Some((lower, upper)) = range.split_at(&n(keys[1])) {
                let parts = [&lower, &upper].iter().filter(|part| part.contains(&n(probe))).count();
                prop_assert_eq!(parts, usize::from(range.contains(&n(probe))));
            } else {
                prop_assert_eq!(keys[1], keys[2]);
            }
        }
    }
}
