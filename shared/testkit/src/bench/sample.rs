//! Order statistics.

/// The value below which this part (0 to 1) of the samples lies, interpolated between neighbours; not a number
/// without any sample.
pub fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    #[expect(clippy::cast_precision_loss, reason = "sample counts are far below 2^52")]
    let at = last as f64 * part.clamp(0.0, 1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the last index"
    )]
    let (lower, upper) = (at.floor() as usize, at.ceil() as usize);
    let share = at - at.floor();
    sorted[lower].mul_add(1.0 - share, sorted[upper] * share)
}

/// The middle of the samples.
pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_where_they_belong() {
        let samples = [4.0, 1.0, 3.0, 2.0];
        let close = |part: f64, expected: f64| (quantile(&samples, part) - expected).abs() < 1e-9;
        assert!(close(0.0, 1.0) && close(0.5, 2.5) && close(1.0, 4.0) && close(0.9, 3.7));
        assert!((median(&[7.0]) - 7.0).abs() < 1e-9);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
