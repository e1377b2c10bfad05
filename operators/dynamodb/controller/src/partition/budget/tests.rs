use proptest::prelude::*;

use super::*;

fn key(table: &str) -> TableKey {
    TableKey {
        table: table.into(),
        ..TableKey::default()
    }
}

#[test]
fn a_limit_binds_its_job_only_and_follows_changes() {
    let budgets = Budgets::default();
    let (limited, free) = (
        budgets.join(key("T"), Duration::ZERO),
        budgets.join(key("T"), Duration::ZERO),
    );
    assert_eq!(limited.try_reserve(Some(10), 20.0, Duration::ZERO), Ok(()));
    assert_eq!(
        limited.try_reserve(Some(10), 1.0, Duration::ZERO),
        Err(Duration::from_secs(2))
    );
    assert_eq!(free.try_reserve(None, 1000.0, Duration::ZERO), Ok(()));
    assert_eq!(
        limited.try_reserve(Some(100), 1.0, Duration::ZERO),
        Err(Duration::from_millis(200))
    );
    limited.give_back(20.0);
    assert_eq!(limited.try_reserve(Some(100), 1.0, Duration::ZERO), Ok(()));
}

#[test]
fn many_ranges_of_a_job_do_not_start_on_one_token() {
    let budgets = Budgets::default();
    let share = budgets.join(key("T"), Duration::ZERO);
    let mut taken = 0.0;
    for tick in 0..1000 {
        // Thirty-two ranges ask at each moment.
        for _ in 0..32 {
            if share
                .try_reserve(Some(100), 25.0, Duration::from_millis(tick * 10))
                .is_ok()
            {
                taken += 25.0;
            }
        }
    }
    assert!(
        (975.0..=1050.0).contains(&taken),
        "{taken} WCU in 10 s at 100 per second"
    );
}

/// WCU that a table grants in a tenth of a second.
const GRANTED: f64 = 400.0;

#[test]
fn jobs_with_nothing_to_send_leave_the_table_to_those_that_have() {
    let budgets = Budgets::default();
    let jobs: Vec<_> = (0..100).map(|_| budgets.join(key("T"), Duration::ZERO)).collect();
    // Each sends all that it gets, one after the other, until the table refuses.
    let consumed = |asking: usize, ticks: std::ops::Range<u64>| {
        let mut total = 0.0;
        for tick in ticks {
            let (now, mut left) = (Duration::from_millis(tick * 100), GRANTED);
            for job in &jobs[..asking] {
                let _ = job.try_reserve(None, 0.0, now);
                let sent = job.rate().unwrap_or(100.0) / 10.0;
                let taken = sent.min(left);
                left -= taken;
                total += taken;
                job.settle(sent, taken, (taken < sent).then_some(Refusal::Table), now);
            }
        }
        total
    };
    consumed(100, 1..100);
    consumed(1, 100..400);
    let alone = consumed(1, 400..700) / (300.0 * GRANTED);
    assert!(alone > 0.5, "{alone} of the table's capacity");
    // Who comes back has a share with its first question.
    let _ = jobs[1].try_reserve(None, 0.0, Duration::from_secs(70));
    assert!(jobs[1].rate().unwrap() >= TABLE_STEP / 4.0);
}

#[test]
fn jobs_on_a_throttled_table_get_even_shares() {
    let budgets = Budgets::default();
    let jobs = [
        budgets.join(key("T"), Duration::ZERO),
        budgets.join(key("T"), Duration::ZERO),
    ];
    let other = budgets.join(key("other"), Duration::ZERO);
    // One job has been taking three times as much as the other.
    for tick in 1..=20 {
        let now = Duration::from_millis(tick * 100);
        jobs[0].settle(75.0, 75.0, None, now);
        jobs[1].settle(25.0, 25.0, None, now);
    }
    let now = Duration::from_millis(2100);
    jobs[0].settle(75.0, 0.0, Some(Refusal::Table), now);
    for job in &jobs {
        let _ = job.try_reserve(None, 0.0, now);
    }
    let rates: Vec<f64> = jobs.iter().filter_map(Share::rate).collect();
    assert_eq!(rates.len(), 2);
    assert!(rates[0] < 750.0 && rates[0] <= rates[1] * 2.5, "{rates:?}");
    assert_eq!(other.try_reserve(None, 25.0, now), Ok(()));
    assert_eq!(other.rate(), None);
}

#[test]
fn a_job_that_ends_leaves_its_share() {
    let budgets = Budgets::default();
    let (stays, leaves) = (
        budgets.join(key("T"), Duration::ZERO),
        budgets.join(key("T"), Duration::ZERO),
    );
    for tick in 1..=20 {
        let now = Duration::from_millis(tick * 100);
        stays.settle(100.0, 100.0, None, now);
        leaves.settle(100.0, 100.0, None, now);
    }
    let now = Duration::from_millis(2100);
    stays.settle(25.0, 0.0, Some(Refusal::Table), now);
    let _ = stays.try_reserve(None, 0.0, now);
    let before = stays.rate().unwrap();
    drop(leaves);
    let _ = stays.try_reserve(None, 0.0, now);
    assert!(
        stays.rate().unwrap() > before * 1.2,
        "{:?} after {before}",
        stays.rate()
    );
}

proptest! {
    #[test]
    fn shares_are_fair_and_use_everything_wanted(total in 1.0f64..10_000.0, wants in proptest::collection::vec(0.0f64..5_000.0, 1..20)) {
        let shares = fair_shares(total, &wants);
        let sum: f64 = shares.iter().sum();
        let wanted: f64 = wants.iter().sum();
        prop_assert!((sum - total.min(wanted)).abs() < 1e-6);
        for (share, want) in shares.iter().zip(&wants) {
            prop_assert!(share <= want);
            // Who is denied something gets at least as much as anybody else.
            if share + 1e-9 < *want {
                prop_assert!(shares.iter().all(|other| *other <= share + 1e-6));
            }
        }
    }
}

#[test]
fn refusals_without_a_reason_teach_the_table_if_they_hit_nearly_all_that_is_sent() {
    // What two jobs send per tenth of a second, and whether each is refused: does the table get a rate?
    for (sent, refused, table_wide) in [
        ([100.0, 3.0], [true, true], true),
        // One that trickles is served anyhow, and says nothing about the other.
        ([100.0, 3.0], [true, false], true),
        // A hot physical partition under one job; the other writes elsewhere.
        ([100.0, 100.0], [true, false], false),
        ([100.0, 100.0], [false, false], false),
    ] {
        let budgets = Budgets::default();
        let jobs = [(); 2].map(|()| budgets.join(key("T"), Duration::ZERO));
        for tick in 1..=20 {
            let now = Duration::from_millis(tick * 100);
            for ((job, sent), refused) in jobs.iter().zip(sent).zip(refused) {
                job.settle(sent, sent / 2.0, refused.then_some(Refusal::Unnamed), now);
                let _ = job.try_reserve(None, 0.0, now);
            }
        }
        assert_eq!(jobs[0].rate().is_some(), table_wide, "{sent:?} {refused:?}");
    }
}

#[test]
fn one_job_alone_is_left_to_the_paces_of_its_ranges() {
    let budgets = Budgets::default();
    let job = budgets.join(key("T"), Duration::ZERO);
    for tick in 1..=20 {
        let now = Duration::from_millis(tick * 100);
        job.settle(100.0, 50.0, Some(Refusal::Unnamed), now);
        let _ = job.try_reserve(None, 0.0, now);
    }
    assert_eq!(job.rate(), None);
}
