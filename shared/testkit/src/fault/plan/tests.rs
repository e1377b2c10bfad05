use super::*;

fn call(site: &str, kind: Kind) -> Call {
    Call {
        site: site.to_owned(),
        kind,
        list: None,
    }
}

fn verdicts(plan: &FaultPlan, site: &str, kind: Kind, count: usize) -> Vec<String> {
    (0..count)
        .map(|_| format!("{:?}", plan.admit(0, &call(site, kind))))
        .collect()
}

#[test]
fn a_seed_means_the_same_whatever_the_order_of_arrival() {
    let schedule = Schedule::default().seeded(7, 400, 3);
    let (one, other) = (FaultPlan::new(schedule.clone()), FaultPlan::new(schedule));
    let pods = verdicts(&one, "GET pods", Kind::Read, 200);
    let jobs = verdicts(&one, "POST jobs", Kind::Create, 200);
    let (mut interleaved_pods, mut interleaved_jobs) = (vec![], vec![]);
    for _ in 0..200 {
        interleaved_jobs.extend(verdicts(&other, "POST jobs", Kind::Create, 1));
        interleaved_pods.extend(verdicts(&other, "GET pods", Kind::Read, 1));
    }
    assert_eq!((pods, jobs), (interleaved_pods, interleaved_jobs));
}

#[test]
fn a_seed_fails_about_as_often_as_asked_and_never_more_in_a_row() {
    let plan = FaultPlan::new(Schedule::default().seeded(1, 250, 10));
    let failed = verdicts(&plan, "GET pods", Kind::Read, 4000)
        .iter()
        .filter(|v| *v != "Pass")
        .count();
    assert!((800..1200).contains(&failed), "{failed} of 4000");

    let plan = FaultPlan::new(Schedule::default().seeded(1, 1000, 2));
    let row = verdicts(&plan, "GET pods", Kind::Read, 9);
    let passed: Vec<_> = row.iter().map(|v| v == "Pass").collect();
    assert_eq!(
        passed,
        [false, false, true, false, false, true, false, false, true]
    );
}

#[test]
fn rules_count_by_site_or_by_run() {
    let plan = FaultPlan::new(
        Schedule::default()
            .at("GET pods", Which::Nth(2), Fault::Refuse)
            .at_request(4, Fault::Lose)
            .sparing("PUT leases"),
    );
    for site in [
        "GET pods",
        "PUT leases",
        "GET jobs",
        "GET pods",
        "GET jobs",
        "GET jobs",
    ] {
        plan.admit(0, &call(site, Kind::Read));
    }
    let injected: Vec<_> = plan
        .injected()
        .iter()
        .map(|i| (i.request, i.what.clone()))
        .collect();
    assert_eq!(injected, [(3, "refuse".to_owned()), (4, "lose".to_owned())]);
    assert_eq!(plan.requests(), 5);
    assert!(!plan.sites().contains_key("PUT leases"));
}

#[tokio::test]
async fn each_incarnation_dies_at_its_own_point_and_stays_dead() {
    let plan = FaultPlan::new(
        Schedule::default()
            .crash(2, CrashSite::Before)
            .crash(1, CrashSite::Before),
    );
    let get = call("GET pods", Kind::Read);
    assert!(matches!(plan.admit(0, &get), Verdict::Pass));
    assert!(matches!(plan.admit(0, &get), Verdict::Crash(CrashSite::Before)));
    plan.crashed().await;
    assert!(matches!(plan.admit(0, &get), Verdict::Dead));
    plan.next_incarnation();
    assert!(
        matches!(plan.admit(0, &get), Verdict::Dead),
        "the first incarnation came back to life"
    );
    assert!(matches!(plan.admit(1, &get), Verdict::Crash(CrashSite::Before)));
    plan.next_incarnation();
    assert!(matches!(plan.admit(2, &get), Verdict::Pass));
    assert!(!plan.has_crashed());
    assert_eq!(plan.crashes().len(), 2);
}
