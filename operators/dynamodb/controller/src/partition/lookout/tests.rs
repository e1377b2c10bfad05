use std::sync::atomic::{AtomicU64, Ordering};

use futures::{future::join_all, poll};
use tokio::time::{Instant, sleep};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A server that takes a second to answer, and counts.
#[derive(Clone, Default)]
struct Server(Arc<AtomicU64>);

impl Server {
    fn asked(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Asks it; the answer tells how often it had been asked when it arrived there.
    fn sight(&self) -> BoxFuture<'static, Outcome> {
        let server = self.clone();
        async move {
            let asked = server.0.fetch_add(1, Ordering::SeqCst) + 1;
            sleep(SECOND).await;
            Err(unseen(asked.to_string()))
        }
        .boxed()
    }
}

/// Which answer a look brought.
fn answer(look: Look) -> String {
    look.outcome.unwrap_err().message
}

#[tokio::test(start_paused = true)]
async fn what_a_thousand_ask_at_once_is_asked_twice_at_most() {
    let (lookout, server) = (Lookout::default(), Server::default());
    let looks = join_all((0..1000).map(|_| lookout.look(|| server.sight()))).await;
    let answers: Vec<_> = looks.into_iter().map(answer).collect();
    // The first one's look had begun when the others asked what holds from now on.
    assert!(answers[0] == "1" && answers[1..].iter().all(|answer| answer == "2"));
    let glances = join_all((0..1000).map(|_| lookout.glance(SECOND, || server.sight()))).await;
    assert!(glances.into_iter().all(|look| answer(look) == "2"));
    sleep(SECOND).await;
    let again = join_all((0..1000).map(|_| lookout.glance(SECOND, || server.sight()))).await;
    assert!(again.into_iter().all(|look| answer(look) == "3"));
    assert_eq!(server.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_had_begun_before_is_no_answer_to_who_asks_what_holds_now() {
    let (lookout, server) = (Lookout::default(), Server::default());
    let late = async {
        sleep(SECOND / 2).await;
        let asked = Moment::now();
        let looks = join_all((0..10).map(|_| lookout.look(|| server.sight()))).await;
        assert!(looks.iter().all(|look| !asked.is_after(look.began)));
        assert!(looks.into_iter().all(|look| answer(look) == "2"));
    };
    let (early, ()) = tokio::join!(lookout.look(|| server.sight()), late);
    assert_eq!(answer(early), "1");
    assert_eq!(server.asked(), 2, "ten that ask together are one");
}

#[tokio::test(start_paused = true)]
async fn a_look_goes_on_when_the_run_that_began_it_ends_or_stands_still() {
    let (lookout, server) = (Lookout::default(), Server::default());
    for stands_still in [false, true] {
        let before = server.asked();
        let mut first = Box::pin(lookout.look(|| server.sight()));
        assert!(poll!(&mut first).is_pending());
        let second = lookout.glance(Duration::ZERO, || server.sight());
        tokio::pin!(second);
        assert!(poll!(&mut second).is_pending());
        let held = stands_still.then_some(first);
        let began = Instant::now();
        assert_eq!(answer(second.await), (before + 1).to_string());
        assert_eq!(began.elapsed(), SECOND);
        assert_eq!(server.asked(), before + 1, "the same look");
        // Nor does one who has not come for the answer keep others from asking again.
        let third = lookout.look(|| server.sight());
        assert_eq!(answer(third.await), (before + 2).to_string());
        drop(held);
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_that_nobody_waits_for_any_more_is_given_up() {
    let (lookout, server) = (Lookout::default(), Server::default());
    let mut alone = Box::pin(lookout.look(|| server.sight()));
    assert!(poll!(&mut alone).is_pending());
    drop(alone);
    assert_eq!(answer(lookout.glance(SECOND, || server.sight()).await), "2");
}

#[tokio::test(start_paused = true)]
async fn a_look_that_hangs_fails_for_all_in_time() {
    let lookout = Lookout::default();
    let hanging = || futures::future::pending().boxed();
    let began = Instant::now();
    let looks = join_all((0..10).map(|_| lookout.look(hanging))).await;
    assert_eq!(
        began.elapsed(),
        2 * LOOK,
        "the one under way, and one from then on"
    );
    for look in looks {
        let problem = look.outcome.unwrap_err();
        assert!(problem.is_passing() && problem.message.contains("no answer within 2s"));
    }
}

#[test]
fn only_who_sees_the_same_shares_a_lookout() {
    let lookouts = Lookouts::default();
    let key = |credentials: &str| {
        Some(TableKey {
            credentials: credentials.into(),
            table: "Orders".into(),
            ..TableKey::default()
        })
    };
    let one = lookouts.join(key("a"));
    assert!(Arc::ptr_eq(&one, &lookouts.join(key("a"))));
    assert!(!Arc::ptr_eq(&one, &lookouts.join(key("b"))));
    assert!(!Arc::ptr_eq(&lookouts.join(None), &lookouts.join(None)));
    drop(one);
    drop(lookouts.join(key("c")));
    assert_eq!(lookouts.0.lock().len(), 1, "what nobody uses is forgotten");
}
