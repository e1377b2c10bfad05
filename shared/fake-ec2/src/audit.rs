//! What was asked, and what became of it.

use std::collections::BTreeMap;

use crate::history::Moment;

/// How a call ended, as its caller saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// It was refused with this error code.
    Refused(String),
    /// The connection broke; it had no effect.
    Broken,
    /// It took effect, and the answer was lost.
    Lost,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When it was received.
    pub at: Moment,
    /// The action, such as `RunInstances`.
    pub action: String,
    /// The region that the request was signed for.
    pub region: String,
    /// The access key that signed it.
    pub access_key: String,
    /// Every parameter but `Action` and `Version`.
    pub params: BTreeMap<String, String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it changed the world. A repeated launch with the same token, or a second termination, does not.
    pub effective: bool,
}
