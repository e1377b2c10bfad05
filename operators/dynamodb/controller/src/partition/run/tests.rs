use super::*;

#[test]
fn capacity_is_counted_in_thousandths() {
    assert_eq!(milli(0.5), 500);
    assert_eq!(milli(-1.0), 0);
    assert_eq!(milli(f64::INFINITY), 1_000_000_000_000_000);
}
