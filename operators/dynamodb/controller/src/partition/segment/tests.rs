use super::*;

#[test]
fn pauses_stay_within_their_bounds() {
    for attempt in 0..40 {
        assert!(pause(attempt) <= PAUSE.1);
    }
}
