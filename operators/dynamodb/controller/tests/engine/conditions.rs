//! Conditions on sort keys that an implementation may order or compare otherwise than DynamoDB does.
//!
//! The order of the keys is written down here by hand, and what is left is read without any condition.

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use dynamodb_api::{SortKeyBounds, SortKeyPredicate};
use dynamodb_controller::partition::{End, Request};
use testkit::dynamodb::{KeyType, Table};

use crate::bed::{Bed, TENANT};

/// Around the ends of what UTF-8 writes in one, two, three and four bytes, and of what UTF-16 writes in one unit.
const STRINGS: &[&str] = &[
    "\u{7F}",
    "\u{7F}\u{7F}",
    "\u{80}",
    "\u{7FF}",
    "\u{800}",
    "\u{D7FF}",
    "\u{D7FF}\u{E000}",
    "\u{E000}",
    "\u{FFFF}",
    "\u{10000}",
];
/// Both ends of the range, signs, exponents, and as many digits as there may be.
const NUMBERS: &[&str] = &[
    "-1E125",
    "-12345678901234567890123456789012345678",
    "-10",
    "-9",
    "-0.5",
    "-0.05",
    "0",
    "1E-130",
    "9",
    "10",
    "12345678901234567890123456789012345678",
];
const BYTES: &[&[u8]] = &[
    &[0x00],
    &[0x00, 0x00],
    &[0x7F],
    &[0x80],
    &[0xFF],
    &[0xFF, 0x00],
    &[0xFF, 0xFF],
    &[0xFF, 0xFF, 0x01],
];

/// Sort keys in their order.
struct Keys {
    kind: KeyType,
    values: Vec<AttributeValue>,
    /// As the author of a job writes them.
    written: Vec<String>,
}

impl Keys {
    fn all() -> [Self; 3] {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let bytes = BYTES.iter().map(|&bytes| AttributeValue::B(Blob::new(bytes)));
        [
            Self {
                kind: KeyType::S,
                values: texts(STRINGS).into_iter().map(AttributeValue::S).collect(),
                written: texts(STRINGS),
            },
            Self {
                kind: KeyType::N,
                values: texts(NUMBERS).into_iter().map(AttributeValue::N).collect(),
                written: texts(NUMBERS),
            },
            Self {
                kind: KeyType::B,
                values: bytes.collect(),
                written: BYTES.iter().map(|bytes| STANDARD.encode(bytes)).collect(),
            },
        ]
    }

    /// Whether one key begins with another; numbers begin with nothing.
    fn begins_with(&self, key: usize, prefix: usize) -> bool {
        match self.kind {
            KeyType::S => STRINGS[key].starts_with(STRINGS[prefix]),
            KeyType::B => BYTES[key].starts_with(BYTES[prefix]),
            KeyType::N => false,
        }
    }

    /// Every condition with the key of this number, and the numbers of the keys that it selects.
    fn conditions(&self, at: usize) -> Vec<(SortKeyPredicate, Vec<usize>)> {
        let all = 0..self.values.len();
        let key = || Some(self.written[at].clone());
        let none = SortKeyPredicate::default;
        let to = (at + 2).min(all.end - 1);
        let bounds = SortKeyBounds {
            from: self.written[at].clone(),
            to: self.written[to].clone(),
        };
        let mut conditions = vec![
            (SortKeyPredicate { eq: key(), ..none() }, vec![at]),
            (SortKeyPredicate { lt: key(), ..none() }, (0..at).collect()),
            (SortKeyPredicate { le: key(), ..none() }, (0..=at).collect()),
            (
                SortKeyPredicate { gt: key(), ..none() },
                (at + 1..all.end).collect(),
            ),
            (SortKeyPredicate { ge: key(), ..none() }, (at..all.end).collect()),
            (
                SortKeyPredicate {
                    between: Some(bounds),
                    ..none()
                },
                (at..=to).collect(),
            ),
        ];
        if self.kind != KeyType::N {
            let begins_with = SortKeyPredicate {
                begins_with: key(),
                ..none()
            };
            conditions.push((
                begins_with,
                all.filter(|other| self.begins_with(*other, at)).collect(),
            ));
        }
        conditions
    }

    /// Puts an item under every key.
    async fn fill(&self, bed: &Bed) {
        let client = bed.server.client();
        for (number, key) in self.values.iter().enumerate() {
            let put = client.put_item().table_name(bed.table.name());
            let put = put.item("pk", bed.key_type.value(TENANT)).item("sk", key.clone());
            let put = put.item("number", AttributeValue::N(number.to_string()));
            put.send().await.unwrap();
        }
    }
}

/// The numbers of the items that are there, in the server's order.
async fn numbers(bed: &Bed) -> Vec<usize> {
    let query = bed.server.client().query().table_name(bed.table.name());
    let query = query
        .key_condition_expression("pk = :p")
        .expression_attribute_values(":p", bed.key_type.value(TENANT))
        .consistent_read(true);
    let found = query.send().await.unwrap();
    let number =
        |item: &std::collections::HashMap<_, AttributeValue>| item["number"].as_n().unwrap().parse().unwrap();
    found.items().iter().map(number).collect()
}

#[tokio::test]
async fn a_condition_selects_the_same_keys_as_their_order_does_whatever_they_look_like() {
    for keys in Keys::all() {
        let table = Table::new("Things", "pk", KeyType::S).sorted_by("sk", keys.kind);
        let bed = Bed::new(table, KeyType::S, 0).await;
        let all = 0..keys.values.len();
        keys.fill(&bed).await;
        assert_eq!(
            numbers(&bed).await,
            all.clone().collect::<Vec<_>>(),
            "the order itself"
        );
        for (condition, selected) in all.clone().flat_map(|at| keys.conditions(at)) {
            keys.fill(&bed).await;
            let request = Request {
                sort_key: Some(condition.clone()),
                ..bed.request()
            };
            let finished = bed.run(request).await.unwrap();
            assert_eq!(
                (finished.end, finished.totals.keys_acknowledged),
                (End::Empty, selected.len() as u64),
                "{condition:?}"
            );
            let left: Vec<_> = all.clone().filter(|number| !selected.contains(number)).collect();
            assert_eq!(numbers(&bed).await, left, "{condition:?}");
        }
        bed.others_are_untouched().await;
    }
}
