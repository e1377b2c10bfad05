//! How long each pass takes, by the clock on the wall and on the processor, seen from outside: by the span that the
//! framework opens around it.
//!
//! A pass begins when its span is made, right after the queue handed its key out, and ends when the span is closed,
//! after its log line. Its processor time is what the thread used between each entry into the span and the exit.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tracing::{Subscriber, span};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// One pass.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct PassTime {
    /// When it ended, in microseconds since 1970.
    pub(crate) ended_us: u64,
    /// How long it took.
    pub(crate) wall_ns: u64,
    /// How much of that it was running.
    pub(crate) cpu_ns: u64,
}

/// The passes since they were last asked for. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct PassTimes(Arc<Mutex<Vec<PassTime>>>);

impl PassTimes {
    /// The passes that ended since the last call.
    pub(crate) fn take(&self) -> Vec<PassTime> {
        std::mem::take(&mut *self.0.lock())
    }
}

struct Running {
    began: Instant,
    entered: Option<Duration>,
    cpu: Duration,
}

impl<S> Layer<S> for PassTimes
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if let Some(span) = context
            .span(id)
            .filter(|_| attributes.metadata().name() == "reconcile")
        {
            let running = Running {
                began: Instant::now(),
                entered: None,
                cpu: Duration::ZERO,
            };
            span.extensions_mut().insert(running);
        }
    }

    fn on_enter(&self, id: &span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(running) = span.extensions_mut().get_mut::<Running>()
        {
            running.entered = Some(thread_time());
        }
    }

    fn on_exit(&self, id: &span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(running) = span.extensions_mut().get_mut::<Running>()
            && let Some(entered) = running.entered.take()
        {
            running.cpu += thread_time().saturating_sub(entered);
        }
    }

    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(&id)
            && let Some(running) = span.extensions().get::<Running>()
        {
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            self.0.lock().push(PassTime {
                ended_us: u64::try_from(now.as_micros()).unwrap_or(u64::MAX),
                wall_ns: nanoseconds(running.began.elapsed()),
                cpu_ns: nanoseconds(running.cpu),
            });
        }
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
