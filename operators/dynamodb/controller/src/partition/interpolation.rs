//! Where to cut a range of sort keys when nothing is known but its ends and a few of its keys.
//!
//! Numbers are cut linearly. Strings and bytes are read as numbers whose digits are the symbols seen at each place
//! (an [`Alphabet`]): the middle of `item-00…` and `item-99…` is then near `item-49…`, not at a byte that no key
//! contains. A bad guess costs one empty query, never a key: cuts only decide who deletes what.

use std::collections::BTreeSet;

use super::{
    key::Key,
    number::{MAX_DIGITS, Number, Parts},
};

/// Places, counted from the start of the key, whose symbols are remembered.
const PLACES: usize = 64;
/// Symbols remembered per place. More would be noise: the cut is a guess.
const SYMBOLS: usize = 256;

/// The symbols (characters or bytes) that keys have at each place.
#[derive(Clone, Debug, Default)]
pub struct Alphabet {
    places: Vec<BTreeSet<u32>>,
    highest: Option<Key>,
}

impl Alphabet {
    /// Takes note of the symbols of a key. A symbol stands for its class: one digit for all digits.
    pub fn learn(&mut self, key: &Key) {
        if self.highest.as_ref().is_none_or(|highest| highest < key) {
            self.highest = Some(key.clone());
        }
        for (place, symbol) in symbols(key).into_iter().take(PLACES).enumerate() {
            if place == self.places.len() {
                self.places.push(BTreeSet::new());
            }
            let known = &mut self.places[place];
            if known.len() < SYMBOLS && !known.contains(&symbol) {
                known.extend(class(symbol));
            }
        }
    }

    /// The highest key seen.
    pub fn highest(&self) -> Option<&Key> {
        self.highest.as_ref()
    }

    /// A key at about `part/of` of the way from `low` to `high`, strictly between them; `None` if there is none at
    /// hand.
    pub fn between(&self, low: &Key, high: &Key, part: u32, of: u32) -> Option<Key> {
        if low >= high || part == 0 || part >= of {
            return None;
        }
        let cut = match (low, high) {
            (Key::N(low), Key::N(high)) => Key::N(between_numbers(low, high, part, of)?),
            (Key::S(_), Key::S(_)) => {
                let chars = self.between_symbols(&symbols(low), &symbols(high), part, of)?;
                Key::S(
                    chars
                        .into_iter()
                        .map(char::from_u32)
                        .collect::<Option<String>>()?
                        .into(),
                )
            }
            (Key::B(_), Key::B(_)) => {
                let bytes = self.between_symbols(&symbols(low), &symbols(high), part, of)?;
                Key::B(
                    bytes
                        .into_iter()
                        .map(|symbol| u8::try_from(symbol).ok())
                        .collect::<Option<Vec<_>>>()?
                        .into(),
                )
            }
            _ => return None,
        };
        (&cut > low && &cut < high).then_some(cut)
    }

    fn between_symbols(&self, low: &[u32], high: &[u32], part: u32, of: u32) -> Option<Vec<u32>> {
        let shared = low.iter().zip(high).take_while(|(a, b)| a == b).count();
        // Digit 0 of every place is "the key ends here", which sorts before every symbol.
        let mut digits: Vec<Vec<u32>> = Vec::new();
        let mut span: u128 = 1;
        for place in shared..shared + PLACES {
            let mut known = self.places.get(place).cloned().unwrap_or_default();
            known.extend([low.get(place), high.get(place)].into_iter().flatten());
            let radix = u128::try_from(known.len() + 1).ok()?;
            // Room for the multiplication by `of` below.
            match span.checked_mul(radix).filter(|span| *span < 1 << 90) {
                Some(wider) if radix > 1 => span = wider,
                _ => break,
            }
            digits.push(known.into_iter().collect());
        }
        let value = |key: &[u32]| {
            digits.iter().enumerate().fold(0u128, |value, (index, known)| {
                let digit = key
                    .get(shared + index)
                    .map_or(0, |symbol| known.partition_point(|s| s <= symbol));
                value * (known.len() as u128 + 1) + digit as u128
            })
        };
        let (from, to) = (value(low), value(high));
        let cut = from + to.checked_sub(from)? * u128::from(part) / u128::from(of);
        let mut rest = cut;
        let mut picked: Vec<Option<u32>> = Vec::new();
        for known in digits.iter().rev() {
            let radix = known.len() as u128 + 1;
            let digit = usize::try_from(rest % radix).ok()?;
            picked.push(digit.checked_sub(1).and_then(|index| known.get(index).copied()));
            rest /= radix;
        }
        let tail = picked.into_iter().rev().map_while(|symbol| symbol);
        Some(low[..shared].iter().copied().chain(tail).collect())
    }
}

fn symbols(key: &Key) -> Vec<u32> {
    match key {
        Key::S(text) => text.chars().map(u32::from).collect(),
        Key::B(bytes) => bytes.iter().map(|byte| u32::from(*byte)).collect(),
        Key::N(_) => Vec::new(),
    }
}

/// The symbols that are likely where `symbol` was seen.
fn class(symbol: u32) -> Vec<u32> {
    let range = |from: u8, to: u8| (u32::from(from)..=u32::from(to)).collect();
    match u8::try_from(symbol) {
        Ok(b'0'..=b'9') => range(b'0', b'9'),
        Ok(b'a'..=b'f') => range(b'a', b'f'),
        Ok(b'A'..=b'F') => range(b'A', b'F'),
        Ok(b'a'..=b'z') => range(b'a', b'z'),
        Ok(b'A'..=b'Z') => range(b'A', b'Z'),
        _ => vec![symbol],
    }
}

fn between_numbers(low: &Number, high: &Number, part: u32, of: u32) -> Option<Number> {
    let (low, high) = (low.parts(), high.parts());
    // Two places more than the longer operand, so that there is something between neighbours.
    let lowest = |parts: &Parts| parts.exponent - i64::try_from(parts.digits.len()).unwrap_or(0);
    let scale = lowest(&low).min(lowest(&high)) - 2;
    let (a, b) = (Decimal::aligned(&low, scale), Decimal::aligned(&high, scale));
    let (negative, magnitude) = match (low.negative, high.negative) {
        (false, false) => (false, a.plus(&b.minus(&a).scaled(part, of))),
        (true, true) => (true, a.minus(&a.minus(&b).scaled(part, of))),
        (true, false) => {
            let step = a.plus(&b).scaled(part, of);
            if step.cmp(&a).is_lt() {
                (true, a.minus(&step))
            } else {
                (false, step.minus(&a))
            }
        }
        (false, true) => return None,
    };
    let length = i64::try_from(magnitude.0.len()).ok()?;
    let mut digits = magnitude.0;
    let leading = digits.iter().take_while(|digit| **digit == 0).count();
    digits.truncate(leading + MAX_DIGITS);
    Number::parse(Number::from_parts(&Parts::trimmed(negative, digits, length + scale)).as_str()).ok()
}

/// A non-negative whole number, most significant digit first.
struct Decimal(Vec<u8>);

impl Decimal {
    /// `parts` without its sign, counted in units of `10^scale`.
    fn aligned(parts: &Parts, scale: i64) -> Self {
        let length = if parts.digits.is_empty() {
            0
        } else {
            usize::try_from(parts.exponent - scale).unwrap_or(0)
        };
        let mut digits = parts.digits.clone();
        digits.resize(length, 0);
        Self(digits)
    }

    fn digit(&self, from_right: usize) -> u8 {
        self.0
            .len()
            .checked_sub(from_right + 1)
            .map_or(0, |index| self.0[index])
    }

    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let length = self.0.len().max(other.0.len());
        (0..length)
            .rev()
            .map(|place| self.digit(place).cmp(&other.digit(place)))
            .find(|o| o.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    }

    fn plus(&self, other: &Self) -> Self {
        let mut carry = 0;
        let mut digits: Vec<u8> = (0..=self.0.len().max(other.0.len()))
            .map(|place| {
                let sum = self.digit(place) + other.digit(place) + carry;
                carry = sum / 10;
                sum % 10
            })
            .collect();
        digits.reverse();
        Self(digits)
    }

    /// `self - other`, which must not be larger.
    fn minus(&self, other: &Self) -> Self {
        let mut borrow = 0;
        let mut digits: Vec<u8> = (0..self.0.len())
            .map(|place| {
                let taken = other.digit(place) + borrow;
                borrow = u8::from(self.digit(place) < taken);
                self.digit(place) + 10 * borrow - taken
            })
            .collect();
        digits.reverse();
        Self(digits)
    }

    /// `self × part / of`, rounded down.
    fn scaled(&self, part: u32, of: u32) -> Self {
        let (part, of) = (u64::from(part), u64::from(of));
        let mut carry = 0;
        let mut product: Vec<u8> = Vec::new();
        let mut place = 0;
        while place < self.0.len() || carry > 0 {
            let value = u64::from(self.digit(place)) * part + carry;
            product.push(u8::try_from(value % 10).unwrap_or(0));
            carry = value / 10;
            place += 1;
        }
        let mut rest = 0;
        let quotient = product.into_iter().rev().map(|digit| {
            let value = rest * 10 + u64::from(digit);
            rest = value % of;
            u8::try_from(value / of).unwrap_or(0)
        });
        Self(quotient.collect())
    }
}

#[cfg(test)]
mod tests {
    use dynamodb_api::AttributeType;
    use proptest::prelude::*;

    use super::*;

    fn n(text: &str) -> Key {
        Key::parse(AttributeType::N, text, 999).unwrap()
    }

    fn s(text: &str) -> Key {
        Key::S(text.into())
    }

    fn middle(low: &Key, high: &Key) -> Option<Key> {
        let mut alphabet = Alphabet::default();
        alphabet.learn(low);
        alphabet.learn(high);
        alphabet.between(low, high, 1, 2)
    }

    #[test]
    fn numbers_are_cut_in_the_middle() {
        for (low, high, expected) in [
            ("0", "100", "50"),
            ("-100", "100", "0"),
            ("-100", "-50", "-75"),
            ("1", "2", "1.5"),
            (
                "1700000000000000001",
                "1700000000000000003",
                "1700000000000000002",
            ),
            ("-3", "1", "-1"),
            ("-1", "3", "1"),
        ] {
            assert_eq!(middle(&n(low), &n(high)), Some(n(expected)), "{low}..{high}");
        }
        assert!(middle(&n("1E-130"), &n("9E125")).is_some());
        assert_eq!(middle(&n("5"), &n("5")), None);
    }

    #[test]
    fn strings_are_cut_where_keys_are() {
        let cut = middle(&s("item-00000"), &s("item-99999")).unwrap();
        assert!(cut > s("item-40") && cut < s("item-60"), "{cut:?}");
        let cut = middle(&s("0a3f"), &s("f2c1")).unwrap();
        assert!(cut > s("5") && cut < s("a"), "hexadecimal is cut as such");
    }

    #[test]
    fn many_cuts_of_padded_decimals_are_even() {
        let (low, high) = (s("k000000"), s("k099999"));
        let mut alphabet = Alphabet::default();
        alphabet.learn(&low);
        alphabet.learn(&high);
        for part in 1..16 {
            let Some(Key::S(cut)) = alphabet.between(&low, &high, part, 16) else {
                panic!("no cut {part}")
            };
            let digits: String = format!("{cut:0<7}").chars().skip(1).take(6).collect();
            let (found, ideal) = (digits.parse::<i64>().unwrap(), i64::from(part) * 100_000 / 16);
            assert!(
                (found - ideal).abs() < 12_000,
                "cut {part} at {found}, ideal {ideal}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_cut_of_strings_lies_strictly_between(a in "\\PC{0,8}", b in "\\PC{0,8}", part in 1u32..8) {
            let (low, high) = if a < b { (s(&a), s(&b)) } else { (s(&b), s(&a)) };
            let mut alphabet = Alphabet::default();
            alphabet.learn(&low);
            if let Some(cut) = alphabet.between(&low, &high, part, 8) {
                prop_assert!(low < cut && cut < high);
            }
        }

        #[test]
        fn a_cut_of_bytes_lies_strictly_between(a in proptest::collection::vec(any::<u8>(), 0..6), b in proptest::collection::vec(any::<u8>(), 0..6)) {
            let (low, high) = (Key::B(a.clone().min(b.clone()).into()), Key::B(a.max(b).into()));
            if let Some(cut) = middle(&low, &high) {
                prop_assert!(low < cut && cut < high);
            }
        }

        #[test]
        fn a_cut_of_numbers_is_as_far_as_asked(a in -1_000_000_000i64..1_000_000_000, width in 1i64..1_000_000_000, part in 1u32..16) {
            let (low, high) = (n(&a.to_string()), n(&(a + width).to_string()));
            let cut = Alphabet::default().between(&low, &high, part, 16).unwrap();
            prop_assert!(low < cut && cut < high);
            let Key::N(cut) = cut else { unreachable!() };
            let exact = f64::from(part) / 16.0 * width as f64 + a as f64;
            prop_assert!((cut.as_str().parse::<f64>().unwrap() - exact).abs() <= 1.0);
        }
    }
}
