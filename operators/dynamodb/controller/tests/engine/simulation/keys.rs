//! The sort keys of the simulated partition, and the table that holds them.

use dynoxide::Database;
use serde_json::json;

use super::{Layout, TABLE, TENANT};

/// A sort key that is the item's number.
pub(crate) fn sort_key(number: u64) -> String {
    format!("{number:012}")
}

/// Orders by time, as tables hold them that have all kinds of items, and two items of other kinds.
pub(crate) fn orders(number: u64) -> String {
    match number {
        0 => "METADATA".to_owned(),
        1 => "USER#1".to_owned(),
        _ => format!("ORDER#{}#{:016x}", time(number), scrambled(number)),
    }
}

/// Notifications by ULID, and one item of another kind that sorts far behind.
pub(crate) fn notifications(number: u64) -> String {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    if number == 0 {
        return "settings".to_owned();
    }
    let digit =
        |value: u64, place: u32| char::from(DIGITS[usize::try_from((value >> (5 * place)) % 32).unwrap()]);
    let time = 1_704_067_200_000 + number * 120_000;
    let mut key = "notification#".to_owned();
    key.extend((0..10).rev().map(|place| digit(time, place)));
    key.extend((0..12).map(|place| digit(scrambled(number), place)));
    key
}

/// Readings by time under a long prefix, and one item that sorts just behind its beginning.
pub(crate) fn devices(number: u64) -> String {
    match number {
        0 => "META".to_owned(),
        _ => format!("DEVICE#READING#{}", time(number)),
    }
}

/// Items of two kinds, as many of either.
pub(crate) fn kinds(number: u64) -> String {
    match number % 2 {
        0 => format!("ACCOUNT#{:016x}", scrambled(number)),
        _ => format!("VISIT#{}", time(number)),
    }
}

fn time(number: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(i64::try_from(1_704_067_200 + number * 120).unwrap()).unwrap()
}

/// The same for the same number, and without any order.
fn scrambled(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ (mixed >> 27)
}

/// All keys, as DynamoDB orders them.
pub(super) fn sorted(layout: &Layout) -> Vec<String> {
    let mut keys: Vec<_> = (0..layout.items).map(layout.keys).collect();
    keys.sort_unstable();
    keys
}

/// A table with one partition that has these sort keys.
pub(super) fn create(database: &Database, keys: &[String]) {
    let table = json!({
        "TableName": TABLE, "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "sk", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    });
    database
        .create_table(serde_json::from_value(table).unwrap())
        .unwrap();
    for keys in keys.chunks(25) {
        let put = |key: &String| json!({"PutRequest": {"Item": {"pk": {"S": TENANT}, "sk": {"S": key}}}});
        let puts: Vec<_> = keys.iter().map(put).collect();
        let batch = json!({"RequestItems": {TABLE: puts}});
        database
            .batch_write_item(serde_json::from_value(batch).unwrap())
            .unwrap();
    }
}
