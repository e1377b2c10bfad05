//! What the API server says it was asked: its audit log, parsed, filtered and counted.
//!
//! The server logs each request once, when it is answered, at the level of metadata. Tests use the log to show what
//! a controller did *not* do: no write after convergence, no read per object.
//!
//! # Guarantees
//! - [`AuditLog::settle`] returns once the log holds every request that had been answered before the call, as far
//!   as the server writes them in the order of its answers.
//! - A line that is still being written is not parsed, and is found whole by the next read.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

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

/// One answered request.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When the request came in.
    #[serde(rename = "requestReceivedTimestamp")]
    pub received: Timestamp,
    /// What was asked: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub uri: String,
    /// Who asked.
    pub user: User,
    /// Whom the asker acted for, if it impersonated somebody.
    #[serde(default)]
    pub impersonated_user: Option<User>,
    /// The client's program.
    #[serde(default)]
    pub user_agent: String,
    /// What it was about; nothing for a path outside the resources.
    #[serde(default)]
    pub object_ref: Option<ObjectRef>,
    /// How it was answered.
    #[serde(default)]
    pub response_status: Option<ResponseStatus>,
    /// `ResponseStarted` (a watch began), `ResponseComplete` or `Panic`.
    pub stage: String,
}

/// A user of an [`Event`].
#[derive(Clone, Debug, Default, Deserialize)]
pub struct User {
    /// The name.
    #[serde(default)]
    pub username: String,
    /// The groups.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// The object of an [`Event`]; what does not apply is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// The plural, for instance `pods`.
    pub resource: String,
    /// The API group; empty for the core one.
    pub api_group: String,
    /// The version.
    pub api_version: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// For instance `status`.
    pub subresource: String,
}

/// The answer of an [`Event`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ResponseStatus {
    /// The HTTP status.
    pub code: u16,
}

/// Which events count. Empty by default, which is all of them; each call narrows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    user_agent: Option<String>,
    username: Option<String>,
    verb: Option<String>,
    resource: Option<String>,
    subresource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    writes_only: bool,
    successes_only: bool,
}

impl Filter {
    /// Every event.
    pub fn all() -> Self {
        Self::default()
    }

    /// Every change of an object other than a Lease: what a converged controller must not do.
    pub fn writes() -> Self {
        Self {
            writes_only: true,
            ..Self::default()
        }
    }

    /// By programs whose user agent begins with `prefix`.
    #[must_use]
    pub fn user_agent(mut self, prefix: impl Into<String>) -> Self {
        self.user_agent = Some(prefix.into());
        self
    }

    /// By this user, or by whoever impersonated it.
    #[must_use]
    pub fn username(mut self, name: impl Into<String>) -> Self {
        self.username = Some(name.into());
        self
    }

    /// With this verb.
    #[must_use]
    pub fn verb(mut self, verb: impl Into<String>) -> Self {
        self.verb = Some(verb.into());
        self
    }

    /// On this resource: its plural, any group.
    #[must_use]
    pub fn resource(mut self, plural: impl Into<String>) -> Self {
        self.resource = Some(plural.into());
        self
    }

    /// On this subresource; the empty string stands for the object itself.
    #[must_use]
    pub fn subresource(mut self, name: impl Into<String>) -> Self {
        self.subresource = Some(name.into());
        self
    }

    /// In this namespace.
    #[must_use]
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = Some(name.into());
        self
    }

    /// On the object of this name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only what the server granted (a status below 400).
    #[must_use]
    pub fn successes(mut self) -> Self {
        self.successes_only = true;
        self
    }

    /// Whether `event` counts. A watch counts once, when it begins.
    pub fn matches(&self, event: &Event) -> bool {
        let object = event.object_ref.as_ref();
        let is = |wanted: &Option<String>, field: fn(&ObjectRef) -> &String| {
            wanted
                .as_ref()
                .is_none_or(|wanted| object.is_some_and(|object| field(object) == wanted))
        };
        !(event.verb == "watch" && event.stage == "ResponseComplete")
            && self
                .user_agent
                .as_ref()
                .is_none_or(|prefix| event.user_agent.starts_with(prefix))
            && self
                .username
                .as_ref()
                .is_none_or(|name| event.acting_user() == name)
            && self.verb.as_ref().is_none_or(|verb| event.verb == *verb)
            && is(&self.resource, |object| &object.resource)
            && is(&self.subresource, |object| &object.subresource)
            && is(&self.namespace, |object| &object.namespace)
            && is(&self.name, |object| &object.name)
            && (!self.writes_only || event.is_counted_write())
            && (!self.successes_only || event.code() < 400)
    }
}

impl Event {
    /// The user on whose behalf the request was decided.
    pub fn acting_user(&self) -> &str {
        &self.impersonated_user.as_ref().unwrap_or(&self.user).username
    }

    /// The HTTP status, 0 if none was logged.
    pub fn code(&self) -> u16 {
        self.response_status.as_ref().map_or(0, |status| status.code)
    }

    /// Whether the request asks for a change.
    pub fn is_write(&self) -> bool {
        matches!(
            self.verb.as_str(),
            "create" | "update" | "patch" | "delete" | "deletecollection"
        )
    }

    /// [`Event::is_write`], apart from renewals of Leases and reviews, which are questions.
    fn is_counted_write(&self) -> bool {
        let resource = self
            .object_ref
            .as_ref()
            .map_or("", |object| object.resource.as_str());
        self.is_write() && resource != "leases" && !resource.ends_with("reviews")
    }
}

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

    const WRITE: &str = r#"{"kind":"Event","level":"Metadata","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/a/pods","verb":"create","user":{"username":"admin","groups":["x"]},"impersonatedUser":{"username":"tenant"},"userAgent":"op/1 (linux)","objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":201},"requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z","stageTimestamp":"2026-01-01T00:00:00.100000Z"}"#;

    fn event(verb: &str, resource: &str) -> Event {
        let mut event: Event = serde_json::from_str(WRITE).unwrap();
        event.verb = verb.to_owned();
        event.object_ref.as_mut().unwrap().resource = resource.to_owned();
        event
    }

    #[test]
    fn an_event_is_counted_for_whom_it_was_decided() {
        let event = event("create", "pods");
        assert!(
            Filter::writes()
                .username("tenant")
                .user_agent("op/")
                .namespace("a")
                .name("p")
                .matches(&event)
        );
        assert!(!Filter::writes().username("admin").matches(&event));
        assert!(
            Filter::all()
                .subresource("")
                .verb("create")
                .successes()
                .matches(&event)
        );
        assert!(!Filter::all().subresource("status").matches(&event));
    }

    #[test]
    fn leases_reviews_and_reads_are_no_writes() {
        for (verb, resource, counted) in [
            ("patch", "leases", false),
            ("create", "selfsubjectaccessreviews", false),
            ("get", "pods", false),
            ("patch", "pods", true),
            ("deletecollection", "pods", true),
        ] {
            assert_eq!(
                Filter::writes().matches(&event(verb, resource)),
                counted,
                "{verb} {resource}"
            );
        }
    }

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
