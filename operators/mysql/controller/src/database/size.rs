//! Sizes of volumes: Kubernetes quantities that can be compared.

/// Bytes that `text` stands for, rounded up; nothing if it is no quantity.
///
/// Understands what the API server does: decimals, the suffixes n, u, m, k, M, G, T, P, E, those with i, and exponents.
pub fn bytes(text: &str) -> Option<u128> {
    times(text, 1)
}

/// Thousandths that `text` stands for, rounded up; nothing if it is no quantity. CPU is given in such.
pub fn thousandths(text: &str) -> Option<u128> {
    times(text, 1000)
}

fn times(text: &str, by: u128) -> Option<u128> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() || part.contains('.') {
        return None;
    }
    let digits: u128 = format!("{whole}{part}").parse().ok()?;
    let (times, divided) = factor(suffix)?;
    let times = times.checked_mul(by)?;
    let divided = divided.checked_mul(10_u128.checked_pow(u32::try_from(part.len()).ok()?)?)?;
    Some(digits.checked_mul(times)?.div_ceil(divided))
}

/// What a suffix multiplies with and divides by.
fn factor(suffix: &str) -> Option<(u128, u128)> {
    let decimal = |power: u32| 10_u128.checked_pow(power);
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, decimal(9)?),
        "u" => (1, decimal(6)?),
        "m" => (1, decimal(3)?),
        "k" => (decimal(3)?, 1),
        "M" => (decimal(6)?, 1),
        "G" => (decimal(9)?, 1),
        "T" => (decimal(12)?, 1),
        "P" => (decimal(15)?, 1),
        "E" => (decimal(18)?, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        other => {
            let power: i32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            let value = decimal(power.unsigned_abs())?;
            if power < 0 { (1, value) } else { (value, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1Gi", Some(1 << 30))]
    #[case("1024Mi", Some(1 << 30))]
    #[case("1.5Gi", Some(3 << 29))]
    #[case("1G", Some(1_000_000_000))]
    #[case("1e9", Some(1_000_000_000))]
    #[case("1500m", Some(2))]
    #[case("5", Some(5))]
    #[case("0", Some(0))]
    #[case("", None)]
    #[case("Gi", None)]
    #[case("1.2.3", None)]
    #[case("much", None)]
    #[case("1Gb", None)]
    #[case("-1Gi", None)]
    #[case("99999999999999999999999999999999999999999", None)]
    fn quantities_are_read_as_the_api_server_reads_them(#[case] text: &str, #[case] value: Option<u128>) {
        assert_eq!(bytes(text), value);
    }

    #[test]
    fn parts_of_a_processor_are_told_apart() {
        let parts = ["50m", "0.1", "100m", "2"].map(|text| thousandths(text).unwrap());
        assert_eq!(parts, [50, 100, 100, 2000]);
    }
}
