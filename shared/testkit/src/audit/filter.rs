//! Which events a test counts.

use super::event::{Event, ObjectRef};

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

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &str = super::super::tests::WRITE;

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
}
