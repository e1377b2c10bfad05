//! DynamoDB's numbers: decimal, at most 38 significant digits, magnitudes from 1E-130 to 9.99…E+125.
//!
//! A [`Number`] is held in the plain notation in which DynamoDB returns it (no exponent, no superfluous zeros), so
//! that equal numbers are equal values, and compared by value.

use std::cmp::Ordering;

/// Significant digits that DynamoDB keeps.
pub const MAX_DIGITS: usize = 38;
const MAX_EXPONENT: i64 = 126;
const MIN_EXPONENT: i64 = -129;

/// A number in its normal form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Number(Box<str>);

/// Why a text is not a number that can be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Not decimal notation.
    #[error(
        "is not a decimal number: write digits with an optional sign, decimal point and exponent, such as -12.5 or 1E3"
    )]
    Grammar,
    /// More than 38 significant digits.
    #[error("has {0} significant digits, DynamoDB keeps at most {MAX_DIGITS}")]
    TooManyDigits(usize),
    /// Beyond the magnitudes that DynamoDB stores.
    #[error("is beyond DynamoDB's range of numbers (1E-130 to 9.99E+125)")]
    Magnitude,
}

/// Sign, digits without leading and trailing zeros, and exponent: the value is `0.d1d2d3… × 10^exponent`. No digits
/// means zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) negative: bool,
    pub(super) digits: Vec<u8>,
    pub(super) exponent: i64,
}

impl Number {
    /// Parses decimal notation and normalises it.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        let parts = Parts::parse(text)?;
        if parts.digits.len() > MAX_DIGITS {
            return Err(NumberError::TooManyDigits(parts.digits.len()));
        }
        if !parts.digits.is_empty() && !(MIN_EXPONENT..=MAX_EXPONENT).contains(&parts.exponent) {
            return Err(NumberError::Magnitude);
        }
        Ok(Self(parts.plain().into()))
    }

    /// The number in plain decimal notation.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn parts(&self) -> Parts {
        Parts::parse(&self.0).unwrap_or(Parts {
            negative: false,
            digits: Vec::new(),
            exponent: 0,
        })
    }

    pub(super) fn from_parts(parts: &Parts) -> Self {
        Self(parts.plain().into())
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let split = |number: &Self| number.0.starts_with('-');
        match (split(self), split(other)) {
            (false, false) => magnitude(&self.0, &other.0),
            (true, true) => magnitude(&other.0[1..], &self.0[1..]),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares two plain notations without sign: the longer whole part is the larger, then digit by digit.
fn magnitude(a: &str, b: &str) -> Ordering {
    let (a_whole, a_fraction) = a.split_once('.').unwrap_or((a, ""));
    let (b_whole, b_fraction) = b.split_once('.').unwrap_or((b, ""));
    a_whole
        .len()
        .cmp(&b_whole.len())
        .then_with(|| a_whole.cmp(b_whole))
        .then_with(|| a_fraction.cmp(b_fraction))
}

impl Parts {
    fn parse(text: &str) -> Result<Self, NumberError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, power) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, parse_power(power)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
            return Err(NumberError::Grammar);
        }
        let digits: Vec<u8> = whole
            .bytes()
            .chain(fraction.bytes())
            .map(|byte| byte - b'0')
            .collect();
        let whole_digits = i64::try_from(whole.len()).map_err(|_| NumberError::Magnitude)?;
        Ok(Self::trimmed(
            negative,
            digits,
            whole_digits.saturating_add(power),
        ))
    }

    /// Removes superfluous zeros; `exponent` is the place of the decimal point, counted from the first digit.
    pub(super) fn trimmed(negative: bool, mut digits: Vec<u8>, exponent: i64) -> Self {
        while digits.last() == Some(&0) {
            digits.pop();
        }
        let leading = digits.iter().take_while(|digit| **digit == 0).count();
        digits.drain(..leading);
        if digits.is_empty() {
            return Self {
                negative: false,
                digits,
                exponent: 0,
            };
        }
        let exponent = exponent.saturating_sub(i64::try_from(leading).unwrap_or(i64::MAX));
        Self {
            negative,
            digits,
            exponent,
        }
    }

    fn plain(&self) -> String {
        if self.digits.is_empty() {
            return "0".to_owned();
        }
        let mut text = String::new();
        if self.negative {
            text.push('-');
        }
        let digit = |index: usize| {
            self.digits
                .get(index)
                .map_or('0', |digit| char::from(b'0' + digit))
        };
        let point = usize::try_from(self.exponent).unwrap_or(0);
        if point == 0 {
            text.push('0');
        }
        text.extend((0..point).map(digit));
        if self.digits.len() > point {
            text.push('.');
            let zeros = usize::try_from(-self.exponent).unwrap_or(0);
            text.extend(std::iter::repeat_n('0', zeros));
            text.extend((point..self.digits.len()).map(digit));
        }
        text
    }
}

fn parse_power(text: &str) -> Result<i64, NumberError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NumberError::Grammar);
    }
    text.parse().map_err(|_| NumberError::Magnitude)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(text: &str) -> String {
        Number::parse(text).unwrap().as_str().to_owned()
    }

    #[test]
    fn equal_numbers_have_one_notation() {
        for (given, expected) in [
            ("1", "1"),
            ("+1.0", "1"),
            ("001", "1"),
            ("1E3", "1000"),
            ("1.5e+2", "150"),
            ("-0", "0"),
            ("0.000", "0"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-12.50", "-12.5"),
            ("1E-3", "0.001"),
            (
                "12345678901234567890123456789012345678",
                "12345678901234567890123456789012345678",
            ),
            ("0.1E-3", "0.0001"),
        ] {
            assert_eq!(normal(given), expected, "{given}");
        }
        assert_eq!(normal("1E125").len(), 126);
        assert_eq!(normal("1E-130").len(), 132);
    }

    #[test]
    fn what_dynamodb_refuses_is_refused_before_any_request() {
        for text in [
            "", "-", ".", "abc", "1,5", "0x1F", "1E", "1E+", "--1", "1 ", " 1", "NaN", "1_000", "١",
        ] {
            assert_eq!(Number::parse(text), Err(NumberError::Grammar), "{text:?}");
        }
        let digits39 = "1".repeat(39);
        assert_eq!(Number::parse(&digits39), Err(NumberError::TooManyDigits(39)));
        assert!(
            Number::parse(&format!("{}0", "1".repeat(38))).is_ok(),
            "a trailing zero is no significant digit"
        );
        assert_eq!(Number::parse("1E126"), Err(NumberError::Magnitude));
        assert_eq!(Number::parse("1E-131"), Err(NumberError::Magnitude));
        assert_eq!(
            Number::parse("1E99999999999999999999"),
            Err(NumberError::Magnitude)
        );
    }

    proptest! {
        #[test]
        fn numbers_order_by_value(a in -1_000_000i64..1_000_000, b in -1_000_000i64..1_000_000, scale in 0i32..6) {
            let number = |value: i64| Number::parse(&format!("{value}E-{scale}")).unwrap();
            prop_assert_eq!(number(a).cmp(&number(b)), a.cmp(&b));
        }

        #[test]
        fn normalising_is_idempotent(mantissa in "[+-]?[0-9]{1,19}(\\.[0-9]{0,18})?", power in -60i32..60) {
            let once = Number::parse(&format!("{mantissa}e{power}")).unwrap();
            let twice = Number::parse(once.as_str()).unwrap();
            prop_assert_eq!(&once, &twice);
            prop_assert_eq!(Number::from_parts(&once.parts()), once);
        }
    }
}
