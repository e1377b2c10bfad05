//! One line of the audit log.

use jiff::Timestamp;
use serde::Deserialize;

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
    pub(super) fn is_counted_write(&self) -> bool {
        let resource = self
            .object_ref
            .as_ref()
            .map_or("", |object| object.resource.as_str());
        self.is_write() && resource != "leases" && !resource.ends_with("reviews")
    }
}
