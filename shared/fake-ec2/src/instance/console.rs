//! The console of an instance: what was posted of it after its last change of state, and what it shows now.
//!
//! By the documentation of GetConsoleOutput the output is "posted shortly after an instance transition state (start,
//! stop, reboot, or terminate)" and not updated afterwards; `Latest` shows it as it is, on Nitro only.

use std::time::Duration;

use super::Instance;
use crate::history::Moment;

/// Families that are not built on the Nitro System, by the list in the documentation of instance types. Their bare
/// metal sizes are.
const WITHOUT_NITRO: &[&str] = &[
    "c1", "c3", "c4", "cc2", "d2", "f1", "g2", "g3", "g3s", "h1", "i2", "i3", "m1", "m2", "m3", "m4", "p2",
    "p3", "r3", "r4", "t1", "t2", "x1", "x1e",
];

/// A text, and since when the console shows it.
type Shown = (Moment, String);

/// What a machine printed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Console {
    latest: Option<Shown>,
    posted: Option<Shown>,
}

impl Instance {
    /// The console shows this from now on.
    pub(crate) fn print(&mut self, now: Moment, post: Duration, text: &str) {
        let closes = self.phases.since(now) + post;
        let latest = self.console.latest.replace((now, text.to_owned()));
        if now > closes
            && let Some(last) = latest.filter(|(at, _)| *at <= closes)
        {
            self.console.posted = Some(last);
        }
    }

    /// What a reader of `view` is shown who asks for the latest.
    pub(crate) fn console(&self, view: Moment) -> Option<&Shown> {
        self.console.latest.as_ref().filter(|(at, _)| *at <= view)
    }

    /// What one is shown who does not.
    pub(crate) fn posted_console(&self, view: Moment, post: Duration) -> Option<&Shown> {
        let closes = self.phases.since(view) + post;
        if view < closes {
            return self.console.posted.as_ref();
        }
        let unchanged = self.console.latest.as_ref().filter(|(at, _)| *at <= closes);
        unchanged.or(self.console.posted.as_ref())
    }

    /// Whether its console can be read as it is.
    pub(crate) fn is_nitro(&self) -> bool {
        let (family, size) = self.shape.kind.split_once('.').unwrap_or((&self.shape.kind, ""));
        size == "metal" || !WITHOUT_NITRO.contains(&family)
    }
}
