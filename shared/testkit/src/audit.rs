//! What the API server says it was asked: its audit log, parsed, filtered and counted.
//!
//! The server logs each request once, when it is answered, at the level of metadata. Tests use the log to show what
//! a controller did *not* do: no write after convergence, no read per object.
//!
//! # Guarantees
//! - [`AuditLog::settle`] returns once the log holds every request that had been answered before the call, as far
//!   as the server writes them in the order of its answers.
//! - A line that is still being written is not parsed, and is found whole by the next read.

mod event;
mod filter;
mod rights;

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

pub use event::{Event, ObjectRef, ResponseStatus, User};
pub use filter::Filter;
pub use rights::Rights;

/// How long [`AuditLog::settle`] waits for its own request to appear.
const SETTLE_DEADLINE: Duration = Duration::from_secs(10);

/// Why the log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be read.
    #[error("audit log {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A line is not an audit event.
    #[error("audit log {}: a line is no event ({source}): {line}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line.
        line: String,
        /// The reason.
        source: serde_json::Error,
    },
    /// The marker of [`AuditLog::settle`] could not be sent.
    #[error("audit log: the request that marks its end failed: {0}")]
    Mark(Box<kube::Error>),
    /// The marker did not appear.
    #[error("audit log {}: a request answered 10 s ago is not in it; is it the log of this API server?", .0.display())]
    Unsettled(PathBuf),
}

/// The audit log of one API server.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
}

/// A place in the log: what was logged before it is not read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position(u64);

impl AuditLog {
    /// The log in the file `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The end of the log now.
    pub fn position(&self) -> Result<Position, AuditError> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) => Ok(Position(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Position::default()),
            Err(source) => Err(self.unreadable(source)),
        }
    }

    /// Waits until everything that has been answered is in the log, and returns its end then. `client` must speak
    /// to the server whose log this is.
    pub async fn settle(&self, client: &kube::Client) -> Result<Position, AuditError> {
        // A request is answered a moment before it is in the log, and on a busy machine the next one may overtake it there.
        self.mark(client).await?;
        self.mark(client).await
    }

    /// Waits until a request that is made now is in the log, and returns its end then.
    async fn mark(&self, client: &kube::Client) -> Result<Position, AuditError> {
        let before = self.position()?;
        let marker = format!("/version?settle={}", uuid::Uuid::new_v4().simple());
        let request = http::Request::get(&marker).body(Vec::new());
        let request = request.map_err(|error| AuditError::Mark(Box::new(kube::Error::HttpError(error))))?;
        client
            .request_text(request)
            .await
            .map_err(|error| AuditError::Mark(Box::new(error)))?;
        let deadline = Instant::now() + SETTLE_DEADLINE;
        while Instant::now() < deadline {
            if self.since(before)?.iter().any(|event| event.uri == marker) {
                return self.position();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(AuditError::Unsettled(self.path.clone()))
    }

    /// What was logged after `position`.
    pub fn since(&self, position: Position) -> Result<Vec<Event>, AuditError> {
        let mut text = Vec::new();
        match File::open(&self.path) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(position.0))
                    .map_err(|source| self.unreadable(source))?;
                file.read_to_end(&mut text)
                    .map_err(|source| self.unreadable(source))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(self.unreadable(source)),
        }
        let whole = text
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        String::from_utf8_lossy(&text[..whole])
            .lines()
            .map(|line| self.parse(line))
            .collect()
    }

    /// Settles the log, then returns what was logged after `position` and passes `filter`.
    pub async fn query(
        &self,
        client: &kube::Client,
        position: Position,
        filter: &Filter,
    ) -> Result<Vec<Event>, AuditError> {
        self.settle(client).await?;
        let mut events = self.since(position)?;
        events.retain(|event| filter.matches(event));
        Ok(events)
    }

    fn parse(&self, line: &str) -> Result<Event, AuditError> {
        serde_json::from_str(line).map_err(|source| AuditError::Parse {
            path: self.path.clone(),
            line: line.to_owned(),
            source,
        })
    }

    fn unreadable(&self, source: io::Error) -> AuditError {
        AuditError::Read {
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const WRITE: &str = r#"{"kind":"Event","level":"Metadata","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/a/pods","verb":"create","user":{"username":"admin","groups":["x"]},"impersonatedUser":{"username":"tenant"},"userAgent":"op/1 (linux)","objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":201},"requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z","stageTimestamp":"2026-01-01T00:00:00.100000Z"}"#;

    #[test]
    fn a_line_still_being_written_is_left_for_the_next_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = AuditLog::at(file.path());
        std::fs::write(file.path(), format!("{WRITE}\n{}", &WRITE[..40])).unwrap();
        assert_eq!(log.since(Position::default()).unwrap().len(), 1);
        assert!(log.since(log.position().unwrap()).unwrap().is_empty());
        std::fs::write(file.path(), format!("{WRITE}\n{WRITE}\n")).unwrap();
        assert_eq!(log.since(Position::default()).unwrap().len(), 2);
    }
}
