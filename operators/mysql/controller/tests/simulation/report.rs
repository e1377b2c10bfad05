//! What was exercised.

use std::fmt;

/// What a life, or many, exercised.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) lives: u64,
    pub(crate) requests: u64,
    pub(crate) crashes: u64,
    pub(crate) lost: u64,
    /// Requests that were answered that they were too many.
    pub(crate) throttled: u64,
    /// Launches that were answered that there is no room in the zone.
    pub(crate) crowded: u64,
    /// How many lives had an EC2 that shows late what has happened.
    pub(crate) late: u64,
    pub(crate) kills: u64,
    pub(crate) retags: u64,
    /// Volumes and interfaces that were told to stay when their instance goes.
    pub(crate) keeps: u64,
    /// How often the spec was changed.
    pub(crate) edits: u64,
    pub(crate) launches: u64,
    pub(crate) instances: u64,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Self) {
        self.lives += other.lives;
        self.requests += other.requests;
        self.crashes += other.crashes;
        self.lost += other.lost;
        self.throttled += other.throttled;
        self.crowded += other.crowded;
        self.late += other.late;
        self.kills += other.kills;
        self.retags += other.retags;
        self.keeps += other.keeps;
        self.edits += other.edits;
        self.launches += other.launches;
        self.instances += other.instances;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "schedules {} requests {} crashes {} lost-answers {} throttled {} no-capacity {} late-listings {} kills {} retags {} kept-parts {} edits {} RunInstances {} instances {}",
            self.lives,
            self.requests,
            self.crashes,
            self.lost,
            self.throttled,
            self.crowded,
            self.late,
            self.kills,
            self.retags,
            self.keeps,
            self.edits,
            self.launches,
            self.instances
        )
    }
}
