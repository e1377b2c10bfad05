//! The order of key values, as the service sorts them.

use std::cmp::Ordering;

use base64::Engine as _;
use serde_json::Value;

/// Compares two typed key values; `None` if they differ in type or are no keys.
pub(super) fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    let (one, other) = (one.as_object()?.iter().next()?, other.as_object()?.iter().next()?);
    let (kind, one, other) = (one.0, one.1.as_str()?, (other.0, other.1.as_str()?));
    if kind != other.0 {
        return None;
    }
    match kind.as_str() {
        "S" => Some(one.as_bytes().cmp(other.1.as_bytes())),
        "N" => Some(Decimal::read(one)?.cmp(&Decimal::read(other.1)?)),
        "B" => Some(bytes(one)?.cmp(&bytes(other.1)?)),
        _ => None,
    }
}

/// Whether a typed string or binary begins with another.
pub(super) fn begins_with(value: &Value, prefix: &Value) -> Option<bool> {
    match (value["S"].as_str(), prefix["S"].as_str()) {
        (Some(value), Some(prefix)) => Some(value.starts_with(prefix)),
        _ => Some(bytes(value["B"].as_str()?)?.starts_with(&bytes(prefix["B"].as_str()?)?)),
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// A number to its last digit: sign, position of the first digit, digits without zeros at either end.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    magnitude: i64,
    digits: String,
}

impl Decimal {
    fn read(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let negative = mantissa.starts_with('-');
        let unsigned = mantissa.trim_start_matches(['-', '+']);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let all = format!("{whole}{fraction}");
        if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let leading = all.len() - all.trim_start_matches('0').len();
        let digits = all.trim_matches('0').to_owned();
        let magnitude = i64::try_from(whole.len()).ok()? - i64::try_from(leading).ok()? + exponent;
        let zero = digits.is_empty();
        Some(Self {
            negative: negative && !zero,
            magnitude: if zero { i64::MIN } else { magnitude },
            digits,
        })
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let size = (self.magnitude, &self.digits).cmp(&(other.magnitude, &other.digits));
        match (self.negative, other.negative) {
            (false, false) => size,
            (true, true) => size.reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_compare_to_their_last_digit() {
        let ascending = [
            "-1e3",
            "-10.5",
            "-10",
            "-0.001",
            "0",
            "0.0009",
            "0.001",
            "1",
            "1.0000000000000000000000000000000000001",
            "9",
            "10",
            "99999999999999999999999999999999999998",
            "99999999999999999999999999999999999999",
        ];
        for pair in ascending.windows(2) {
            let (less, more) = (json!({ "N": pair[0] }), json!({ "N": pair[1] }));
            assert_eq!(compare(&less, &more), Some(Ordering::Less), "{pair:?}");
            assert_eq!(compare(&more, &less), Some(Ordering::Greater), "{pair:?}");
        }
        for (one, same) in [("1", "1.0"), ("100", "1e2"), ("-0", "0"), ("0.10", "1E-1")] {
            assert_eq!(
                compare(&json!({ "N": one }), &json!({ "N": same })),
                Some(Ordering::Equal),
                "{one} {same}"
            );
        }
    }

    #[test]
    fn binary_keys_compare_by_their_bytes_not_their_text() {
        // 0x00 is "AA==" and 0xff is "/w==", which sorts first as text.
        let (low, high) = (json!({ "B": "AA==" }), json!({ "B": "/w==" }));
        assert_eq!(compare(&low, &high), Some(Ordering::Less));
        assert_eq!(compare(&low, &json!({ "S": "a" })), None);
    }
}
