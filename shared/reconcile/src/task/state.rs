//! What became of a task.

use std::sync::Arc;

/// What is known of an object's task.
#[derive(Clone, Debug)]
pub enum TaskState<P, O> {
    /// It runs; this was its last progress.
    Running(P),
    /// It was told to stop and has not ended yet; this was its last progress.
    Stopping(P),
    /// It ended, with this as its last progress.
    Finished(P, Ended<O>),
}

/// How a task ended.
#[derive(Debug)]
pub enum Ended<O> {
    /// It returned.
    Returned(Arc<O>),
    /// It panicked, with this message.
    Panicked(String),
}

impl<O> Clone for Ended<O> {
    fn clone(&self) -> Self {
        match self {
            Self::Returned(output) => Self::Returned(output.clone()),
            Self::Panicked(message) => Self::Panicked(message.clone()),
        }
    }
}
