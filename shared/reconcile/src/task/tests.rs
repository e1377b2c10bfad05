use super::*;
use crate::metrics::Metrics;

struct Bed {
    tasks: Tasks<u32, &'static str>,
    queue: Queue,
}

fn bed() -> Bed {
    let clock = Clock::system();
    let tasks = Tasks::new(clock.clone(), Duration::from_secs(5));
    let queue = Queue::new(clock, Metrics::new().controller("test", 1));
    tasks.attach(queue.clone());
    Bed { tasks, queue }
}

fn id(spec_hash: u64) -> TaskId {
    TaskId {
        uid: "u".into(),
        key: ObjectKey::new("ns", "x"),
        spec_hash,
    }
}

impl Bed {
    /// Waits until the object is woken, and says after how many seconds.
    async fn woken(&self) -> u64 {
        let before = tokio::time::Instant::now();
        let key = tokio::time::timeout(Duration::from_secs(60), self.queue.next())
            .await
            .unwrap();
        self.queue.done(&key);
        before.elapsed().as_secs()
    }

    fn start_until_cancelled(&self, spec_hash: u64) -> Started {
        self.tasks.start(&id(spec_hash), |context| async move {
            context.report(1);
            context.cancel.cancelled().await;
            "stopped"
        })
    }
}

#[tokio::test(start_paused = true)]
async fn progress_wakes_once_per_interval_and_the_end_wakes_at_once() {
    let bed = bed();
    let (finish, finished) = tokio::sync::oneshot::channel::<()>();
    let started = bed.tasks.start(&id(1), |context| async move {
        for n in 0..100 {
            context.report(n);
        }
        let _ = finished.await;
        "done"
    });
    assert_eq!(started, Started::Started);
    assert_eq!(bed.woken().await, 5);
    assert!(matches!(bed.tasks.state("u"), Some(TaskState::Running(99))));
    finish.send(()).unwrap();
    assert_eq!(bed.woken().await, 0);
    let Some(TaskState::Finished(99, Ended::Returned(output))) = bed.tasks.state("u") else {
        panic!("not finished")
    };
    assert_eq!(*output, "done");
    assert_eq!(
        bed.start_until_cancelled(1),
        Started::Present,
        "a result is looked at before it is replaced"
    );
    bed.tasks.clear("u");
    assert_eq!(bed.start_until_cancelled(1), Started::Started);
}

#[tokio::test(start_paused = true)]
async fn another_spec_waits_for_the_old_task_to_end() {
    let bed = bed();
    assert_eq!(bed.start_until_cancelled(1), Started::Started);
    assert_eq!(bed.start_until_cancelled(1), Started::Present);
    assert_eq!(bed.start_until_cancelled(2), Started::Replacing);
    assert!(matches!(bed.tasks.state("u"), Some(TaskState::Stopping(_))));
    bed.woken().await;
    assert_eq!(bed.start_until_cancelled(2), Started::Started);
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_the_task_and_nothing_else() {
    let bed = bed();
    bed.tasks.start(&id(1), |_| async { panic!("boom") });
    assert_eq!(bed.woken().await, 0);
    let state = bed.tasks.state("u");
    assert!(
        matches!(&state, Some(TaskState::Finished(_, Ended::Panicked(m))) if m == "boom"),
        "{state:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_task_is_stopped_and_leaves_nothing() {
    let bed = bed();
    bed.start_until_cancelled(1);
    bed.tasks.abandon("u");
    while bed.tasks.running() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(bed.tasks.state("u").is_none());
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_every_task_and_starts_no_more() {
    let bed = bed();
    bed.start_until_cancelled(1);
    Supervise::drain(&bed.tasks).await;
    assert_eq!(bed.tasks.running(), 0);
    assert_eq!(bed.start_until_cancelled(2), Started::Draining);
}

#[tokio::test(start_paused = true)]
async fn draining_names_the_object_of_a_task_that_ended_before_anybody_looked() {
    let bed = bed();
    bed.tasks.start(&id(1), |_| async { "done" });
    assert_eq!(bed.woken().await, 0);
    // Another task of the same object: one pass looks at both.
    let beside = TaskId {
        uid: "u/beside".into(),
        ..id(1)
    };
    bed.tasks.start(&beside, |_| async { "done" });
    assert_eq!(Supervise::drain(&bed.tasks).await, HashSet::from([id(1).key]));
}

#[tokio::test(start_paused = true)]
async fn progress_comes_after_what_somebody_has_changed() {
    let bed = bed();
    bed.start_until_cancelled(1);
    // Until the progress is due, and beyond.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let changed = ObjectKey::new("ns", "changed");
    bed.queue.add(changed.clone(), Priority::User);
    for expected in [changed, id(1).key] {
        let key = bed.queue.next().await;
        assert_eq!(key, expected);
        bed.queue.done(&key);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_making_the_task_is_one_of_the_task() {
    let bed = bed();
    bed.tasks.start(&id(1), |context| {
        assert!(context.cancel.is_cancelled(), "boom");
        async { "never" }
    });
    assert_eq!(bed.woken().await, 0);
    assert!(matches!(
        bed.tasks.state("u"),
        Some(TaskState::Finished(_, Ended::Panicked(_)))
    ));
}
