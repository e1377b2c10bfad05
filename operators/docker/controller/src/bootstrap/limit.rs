//! Durations as Go writes them, which is how Cluster API's objects write them.

use std::time::Duration;

/// Reads `5m`, `1h30m`, `90s` or `1.5m`; nothing for anything else.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    (total > Duration::ZERO).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [
            ("5m0s", 300.0),
            ("90s", 90.0),
            ("1h30m", 5400.0),
            ("1.5m", 90.0),
            ("500ms", 0.5),
        ] {
            assert_eq!(parse(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
        let too_long = ["9999999999999999999s"; 2].concat();
        for text in ["", "5", "m", "5x", "0s", "-5m", ".", &too_long] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
