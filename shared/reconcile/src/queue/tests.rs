use proptest::prelude::*;

use super::*;
use crate::metrics::Metrics;

fn queue(clock: &Clock) -> Queue {
    Queue::new(clock.clone(), Metrics::new().controller("test", 1))
}

fn key(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::new(namespace, name)
}

async fn drain(queue: &Queue) -> Vec<String> {
    let mut taken = Vec::new();
    while let Ok(key) = tokio::time::timeout(Duration::from_millis(1), queue.next()).await {
        taken.push(key.to_string());
        queue.done(&key);
    }
    taken
}

#[tokio::test(start_paused = true)]
async fn a_key_added_often_is_handed_out_once() {
    let queue = queue(&Clock::system());
    for _ in 0..10 {
        queue.add(key("a", "x"), Priority::Background);
        queue.add(key("a", "x"), Priority::User);
    }
    assert_eq!(drain(&queue).await, ["a/x"]);
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_key_in_work_is_not_handed_out_again_until_done_and_then_once() {
    let queue = queue(&Clock::system());
    queue.add(key("a", "x"), Priority::User);
    let taken = queue.next().await;
    queue.add(taken.clone(), Priority::User);
    queue.add(taken.clone(), Priority::User);
    assert!(
        tokio::time::timeout(Duration::from_secs(60), queue.next())
            .await
            .is_err()
    );
    queue.done(&taken);
    assert_eq!(drain(&queue).await, ["a/x"]);
}

#[tokio::test(start_paused = true)]
async fn what_only_time_brings_is_told_from_what_something_has_caused() {
    let queue = queue(&Clock::system());
    let (x, y) = (key("a", "x"), key("a", "y"));
    let delay = Duration::from_secs(10);
    let later = |keys: &[&ObjectKey]| {
        for key in keys {
            queue.again_after(key, delay);
            queue.done(key);
        }
    };
    queue.add(x.clone(), Priority::User);
    assert_eq!(queue.next().await, x);
    assert!(queue.is_caused(&x), "it was added");
    later(&[&x]);
    assert_eq!(queue.next().await, x);
    assert!(!queue.is_caused(&x), "only its time has come");
    later(&[&x]);
    // Its time has come, and something has happened besides.
    tokio::time::advance(2 * delay).await;
    queue.add(x.clone(), Priority::Background);
    assert_eq!(queue.next().await, x);
    assert!(queue.is_caused(&x));
    // While it is worked on, and while it waits for its turn.
    queue.add(x.clone(), Priority::User);
    later(&[&x]);
    assert_eq!(queue.next().await, x);
    assert!(queue.is_caused(&x));
    queue.add(y.clone(), Priority::User);
    assert_eq!(queue.next().await, y);
    later(&[&x, &y]);
    let first = queue.next().await;
    let second = if first == x { &y } else { &x };
    queue.add(second.clone(), Priority::Background);
    assert_eq!(queue.next().await, *second);
    assert!(queue.is_caused(second) && !queue.is_caused(&first));
}

#[tokio::test(start_paused = true)]
async fn a_users_change_overtakes_ten_thousand_resyncs() {
    let queue = queue(&Clock::system());
    for n in 0..10_000 {
        queue.add(key("a", &n.to_string()), Priority::Background);
    }
    queue.add(key("a", "5000"), Priority::User);
    assert_eq!(queue.next().await, key("a", "5000"));
    queue.done(&key("a", "5000"));
    assert_eq!(drain(&queue).await.len(), 9_999);
}

#[tokio::test(start_paused = true)]
async fn namespaces_take_turns() {
    let queue = queue(&Clock::system());
    for name in ["1", "2", "3"] {
        queue.add(key("loud", name), Priority::User);
    }
    queue.add(key("quiet", "1"), Priority::User);
    assert_eq!(drain(&queue).await, ["loud/1", "quiet/1", "loud/2", "loud/3"]);
}

#[tokio::test(start_paused = true)]
async fn delayed_keys_come_when_due_and_the_earliest_time_counts() {
    let clock = Clock::system();
    let queue = queue(&clock);
    queue.add_after(key("a", "x"), Duration::from_secs(60), Priority::User);
    queue.add_after(key("a", "x"), Duration::from_secs(5), Priority::User);
    queue.add_after(key("a", "x"), Duration::from_secs(30), Priority::User);
    let taken = queue.next().await;
    assert_eq!(clock.elapsed().as_secs(), 5);
    queue.done(&taken);
    assert!(
        tokio::time::timeout(Duration::from_secs(120), queue.next())
            .await
            .is_err()
    );
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_key_that_has_to_wait_first_counts_as_a_retry() {
    let metrics = Metrics::new();
    let queue = Queue::new(Clock::system(), metrics.controller("test", 1));
    queue.add(key("a", "now"), Priority::User);
    queue.add_after(key("a", "now too"), Duration::ZERO, Priority::User);
    queue.add_after(key("a", "x"), Duration::from_secs(60), Priority::User);
    // It comes no sooner for that.
    queue.add_after(key("a", "x"), Duration::from_secs(90), Priority::User);
    let taken = queue.next().await;
    queue.again_after(&taken, Duration::from_secs(1));
    let text = metrics.encode();
    let line = text
        .lines()
        .find(|line| line.starts_with("workqueue_retries_total"));
    assert!(line.is_some_and(|line| line.ends_with(" 2")), "{line:?}");
}

#[tokio::test(start_paused = true)]
async fn an_immediate_add_supersedes_the_delayed_one() {
    let queue = queue(&Clock::system());
    queue.add_after(key("a", "x"), Duration::from_secs(60), Priority::User);
    queue.add(key("a", "x"), Priority::User);
    assert_eq!(drain(&queue).await, ["a/x"]);
    assert!(
        tokio::time::timeout(Duration::from_secs(120), queue.next())
            .await
            .is_err()
    );
}

proptest! {
    /// Whatever the order of adds, takes and dones: no overlap, and in the end every added key was handed out.
    #[test]
    fn no_add_is_lost_and_no_key_overlaps(steps in prop::collection::vec((0..4u8, 0..6u8, any::<bool>()), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let queue = queue(&Clock::system());
            let mut in_work: Vec<ObjectKey> = Vec::new();
            let mut owed: std::collections::HashSet<ObjectKey> = std::collections::HashSet::new();
            let now_or_never = async |in_work: &mut Vec<ObjectKey>, owed: &mut std::collections::HashSet<ObjectKey>| {
                if let Ok(k) = tokio::time::timeout(Duration::from_millis(1), queue.next()).await {
                    assert!(!in_work.contains(&k), "{k} overlaps");
                    owed.remove(&k);
                    in_work.push(k);
                }
            };
            for (step, n, user) in steps {
                let k = key(if n % 2 == 0 { "even" } else { "odd" }, &n.to_string());
                let priority = if user { Priority::User } else { Priority::Background };
                match step {
                    0 => { queue.add(k.clone(), priority); owed.insert(k); }
                    1 => { queue.add_after(k.clone(), Duration::from_secs(u64::from(n)), priority); owed.insert(k); }
                    2 => now_or_never(&mut in_work, &mut owed).await,
                    _ => if let Some(k) = in_work.pop() { queue.done(&k) },
                }
            }
            for k in in_work.drain(..) { queue.done(&k) }
            tokio::time::sleep(Duration::from_secs(10)).await;
            for _ in 0..20 {
                now_or_never(&mut in_work, &mut owed).await;
                for k in in_work.drain(..) { queue.done(&k) }
            }
            assert!(owed.is_empty(), "never handed out: {owed:?}");
            assert!(queue.is_empty());
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_resync_does_not_put_a_retry_that_somebody_waits_for_behind_the_others() {
    let queue = queue(&Clock::system());
    queue.add_after(key("a", "awaited"), Duration::from_secs(60), Priority::User);
    for n in 0..100 {
        queue.add(key("a", &n.to_string()), Priority::Background);
    }
    queue.add(key("a", "awaited"), Priority::Background);
    assert_eq!(queue.next().await, key("a", "awaited"));
}

#[tokio::test(start_paused = true)]
async fn a_delayed_wake_up_raises_a_key_that_waits_among_the_resyncs() {
    let clock = Clock::system();
    let queue = queue(&clock);
    for n in 0..100 {
        queue.add(key("a", &n.to_string()), Priority::Background);
    }
    queue.add_after(key("a", "99"), Duration::from_secs(1), Priority::User);
    assert_eq!(queue.next().await, key("a", "0"));
    clock.sleep(Duration::from_secs(1)).await;
    assert_eq!(queue.next().await, key("a", "99"));
}

#[tokio::test(start_paused = true)]
async fn a_key_put_off_again_and_again_leaves_no_heap_of_entries() {
    let queue = queue(&Clock::system());
    for n in 0..100_000_u64 {
        queue.add_after(
            key("a", "x"),
            Duration::from_secs(86_400 - n / 10),
            Priority::User,
        );
        queue.add(key("a", "x"), Priority::User);
        queue.done(&queue.next().await);
    }
    assert!(queue.shared.state.lock().delayed.len() <= KEPT + 1);
}

#[tokio::test(start_paused = true)]
async fn adds_and_depth_are_counted_as_client_go_does() {
    let metrics = Metrics::new();
    let queue = Queue::new(Clock::system(), metrics.controller("test", 1));
    queue.add(key("a", "x"), Priority::User);
    queue.add(key("a", "x"), Priority::User);
    queue.add_after(key("a", "y"), Duration::from_secs(1), Priority::User);
    let x = queue.next().await;
    queue.add(x.clone(), Priority::User);
    queue.observe();
    let value = |name: &str| {
        let text = metrics.encode();
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .to_owned();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(
        value("workqueue_adds_total"),
        2,
        "a key that waits already is not added"
    );
    assert_eq!(
        value(r#"workqueue_depth{controller="test",name="test",priority="0"}"#),
        0,
        "one in work waits only when it is done"
    );
    queue.done(&x);
    queue.observe();
    assert_eq!(
        value(r#"workqueue_depth{controller="test",name="test",priority="0"}"#),
        1
    );
    queue.done(&queue.next().await);
    queue.done(&queue.next().await);
    assert_eq!(value("workqueue_adds_total"), 3, "one that is due is added then");
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_by_itself_waits_where_it_was_taken_from() {
    let queue = queue(&Clock::system());
    queue.add(key("a", "listed"), Priority::Background);
    queue.add(key("b", "edited"), Priority::User);
    for expected in ["b/edited", "a/listed"] {
        let taken = queue.next().await;
        assert_eq!(taken.to_string(), expected);
        queue.again_after(&taken, Duration::from_secs(1));
        queue.done(&taken);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Both are due; what a person has just changed goes before the one that failed in the first list.
    queue.add(key("c", "changed"), Priority::User);
    let order = drain(&queue).await;
    assert_eq!(order.last().map(String::as_str), Some("a/listed"), "{order:?}");
    assert_eq!(order.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_pass_is_not_put_off_by_the_passes_own_return() {
    let queue = queue(&Clock::system());
    queue.add(key("a", "x"), Priority::Background);
    let taken = queue.next().await;
    queue.add(key("a", "x"), Priority::User);
    queue.again_after(&taken, Duration::from_mins(5));
    queue.done(&taken);
    queue.add(key("a", "resynced"), Priority::Background);
    assert_eq!(drain(&queue).await, ["a/x", "a/resynced"]);
}
