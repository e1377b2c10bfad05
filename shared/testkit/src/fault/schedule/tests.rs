use super::*;

#[test]
fn a_printed_schedule_reads_back_as_itself() {
    let schedule = Schedule::default()
        .crash(12, CrashSite::Lost)
        .crash(1, CrashSite::Before)
        .at("PATCH configmaps/status", Which::Nth(3), Fault::status(409))
        .at("DynamoDB BatchWriteItem", Which::From(2), Fault::throttle(7))
        .at("LIST pods", Which::Every, Fault::StaleList)
        .at("WATCH pods", Which::Every, Fault::DropWatch(2))
        .at("GET a=b", Which::Every, Fault::Delay(Duration::from_millis(50)))
        .at_request(
            7,
            Fault::Status {
                code: 504,
                retry_after: None,
                applied: true,
            },
        )
        .at_request(8, Fault::Lose)
        .at_request(9, Fault::Refuse)
        .at_request(10, Fault::Hang)
        .seeded(5, 250, 10)
        .sparing("PUT leases");
    let line = schedule.to_string();
    assert_eq!(line.lines().count(), 1);
    assert_eq!(line.parse(), Ok(schedule), "{line}");
    assert_eq!("".parse(), Ok(Schedule::default()));
}

#[test]
fn a_clause_that_is_not_understood_is_named() {
    for (line, clause) in [
        ("crash=3@lost; nonsense", "nonsense"),
        ("crash=x@lost", "crash=x@lost"),
        ("crash=3@somewhere", "crash=3@somewhere"),
        ("GET pods=explode", "GET pods=explode"),
        ("GET pods=200", "GET pods=200"),
        ("seed=1,q=2", "seed=1,q=2"),
    ] {
        let error = line.parse::<Schedule>().unwrap_err();
        assert_eq!(error.clause, clause);
    }
}
