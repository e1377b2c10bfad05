//! Faults, rates and the audit.

use std::time::Duration;

use fake_ec2::{Limits, Options, Outcome};

use crate::bed::{Bed, options, with_defaults};

fn faulty(line: &str) -> Bed {
    Bed::new(&Options {
        faults: line.parse().unwrap(),
        ..options(1)
    })
}

#[tokio::test]
async fn a_lost_answer_leaves_an_instance_that_its_token_finds_again() {
    let bed = faulty("RunInstances#1=lose");
    let params = with_defaults(&[("ClientToken", "t")]);
    assert!(bed.try_ask("us-east-1", "RunInstances", &params).await.is_err());
    let [only] = bed.ec2.world().instances().try_into().unwrap();
    assert_eq!(bed.launched(&[("ClientToken", "t")]).await, only.id);
    assert_eq!(bed.ec2.world().audit()[0].outcome, Outcome::Lost);
}

#[tokio::test]
async fn a_refused_connection_has_no_effect() {
    let bed = faulty("RunInstances#1=refuse");
    assert!(
        bed.try_ask("us-east-1", "RunInstances", &with_defaults(&[]))
            .await
            .is_err()
    );
    assert!(bed.ec2.world().instances().is_empty());
    assert_eq!(bed.ec2.world().audit()[0].outcome, Outcome::Broken);
}

#[tokio::test]
async fn a_scripted_error_is_answered_with_and_without_effect() {
    let bed = faulty("RunInstances#1=InternalError; RunInstances#2=InternalError+applied");
    for expected in [0, 1] {
        let answer = bed.launch(&[]).await;
        assert_eq!((answer.status, answer.code()), (500, "InternalError"));
        assert_eq!(bed.ec2.world().instances().len(), expected);
    }
}

#[tokio::test]
async fn a_call_that_hangs_ends_with_its_callers_patience() {
    let bed = faulty("DescribeInstances=hang");
    let asked = bed.try_ask("us-east-1", "DescribeInstances", &[]);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), asked)
            .await
            .is_err()
    );
    assert_eq!(bed.ask("DescribeSubnets", &[]).await.status, 200);
}

#[tokio::test]
async fn the_documented_rates_hold() {
    let bed = Bed::new(&Options {
        limits: Limits::Documented,
        ..options(1)
    });
    let started = std::time::Instant::now();
    let mut answered = 0;
    let mut throttled = 0;
    for _ in 0..8 {
        let answer = bed.launch(&[]).await;
        match answer.code() {
            "RequestLimitExceeded" => {
                assert_eq!(answer.status, 503);
                throttled += 1;
            }
            _ => answered += 1,
        }
    }
    // Two more for each second that this took.
    let most = 5.0 + 2.0 * started.elapsed().as_secs_f64();
    assert!(
        (5.0..=most).contains(&f64::from(answered)),
        "{answered} answered, of at most {most}"
    );
    assert_eq!(i32::try_from(bed.ec2.world().instances().len()), Ok(answered));
    assert_eq!(answered + throttled, 8);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_ids() {
    let [one, two] = [Bed::new(&options(1)), Bed::new(&options(1))];
    assert_eq!(one.launched(&[]).await, two.launched(&[]).await);
}

#[tokio::test]
async fn the_audit_holds_who_asked_for_what() {
    let bed = Bed::new(&options(1));
    bed.launched(&[("ClientToken", "t")]).await;
    let [call] = bed.ec2.world().audit().try_into().unwrap();
    assert_eq!(
        (call.action.as_str(), call.region.as_str()),
        ("RunInstances", "us-east-1")
    );
    assert_eq!(call.access_key, "AKID");
    assert_eq!(call.params.get("ClientToken").map(String::as_str), Some("t"));
    assert_eq!(call.outcome, Outcome::Answered);
}
