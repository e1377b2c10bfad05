use super::*;

#[test]
fn a_low_limit_makes_small_batches() {
    assert_eq!(batch_size(None, 1.0), 25);
    assert_eq!(batch_size(Some(1000), 1.0), 25);
    assert_eq!(batch_size(Some(10), 1.0), 10);
    assert_eq!(batch_size(Some(1), 1.0), 1);
    assert_eq!(batch_size(Some(1), 400.0), 1);
}

#[test]
fn capacity_is_counted_in_thousandths() {
    assert_eq!(milli(0.5), 500);
    assert_eq!(milli(-1.0), 0);
    assert_eq!(milli(f64::INFINITY), 1_000_000_000_000_000);
}
