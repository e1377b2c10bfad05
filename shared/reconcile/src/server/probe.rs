//! Named checks behind `/healthz` and `/readyz`.

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::{Path, RawQuery},
    http::{
        HeaderName, StatusCode,
        header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use parking_lot::RwLock;
use tokio::sync::Notify;

/// The check that every probe has: it holds whenever somebody is there to answer.
const PING: &str = "ping";

/// A set of named checks; all must hold. Clones share the set.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    checks: Arc<RwLock<Vec<Gate>>>,
    opened: Arc<Notify>,
}

/// One check: a gate that fails until it is opened. Clones share its state.
#[derive(Clone, Debug)]
pub struct Gate {
    name: Arc<str>,
    open: Arc<AtomicBool>,
    opened: Arc<Notify>,
    /// Why it is closed, if that is for everybody to know.
    reason: Arc<RwLock<Option<String>>>,
}

impl Gate {
    /// The check holds from now on.
    pub fn open(&self) {
        if !self.open.swap(true, Ordering::AcqRel) {
            tracing::debug!(check = %self.name, "Ready");
            self.opened.notify_waiters();
        }
    }

    /// The check fails from now on.
    pub fn close(&self) {
        *self.reason.write() = None;
        self.shut();
    }

    fn shut(&self) {
        if self.open.swap(false, Ordering::AcqRel) {
            tracing::warn!(check = %self.name, "No longer ready");
        }
    }

    /// The check fails from now on, and the probe says why: nothing that is not for everybody who can reach it.
    pub fn close_because(&self, reason: &str) {
        *self.reason.write() = Some(reason.to_owned());
        self.shut();
    }

    /// What the probe says of a check that fails.
    fn failure(&self) -> String {
        let reason = self.reason.read();
        let reason = reason.as_deref().unwrap_or("reason withheld");
        format!("[-]{} failed: {reason}\n", self.name)
    }

    /// Whether the check holds.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }
}

impl Readiness {
    /// No checks but `ping`: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// The check `name`, closed at first. Asking twice for one name yields the same gate.
    pub fn gate(&self, name: &str) -> Gate {
        let mut checks = self.checks.write();
        if let Some(gate) = checks.iter().find(|gate| *gate.name == *name) {
            return gate.clone();
        }
        let gate = Gate {
            name: name.into(),
            open: Arc::default(),
            opened: self.opened.clone(),
            reason: Arc::default(),
        };
        checks.push(gate.clone());
        gate
    }

    /// Whether every check holds.
    pub fn is_ready(&self) -> bool {
        self.checks.read().iter().all(Gate::is_open)
    }

    /// Returns when every check holds.
    pub async fn ready(&self) {
        loop {
            let opened = self.opened.notified();
            tokio::pin!(opened);
            // Before the look, or the last gate could open unseen between the two.
            opened.as_mut().enable();
            if self.is_ready() {
                return;
            }
            opened.await;
        }
    }

    /// Each check, with what is to be said if it fails.
    fn outcomes(&self) -> Vec<(Arc<str>, Option<String>)> {
        let checks = self.checks.read();
        let gates = checks.iter().map(|gate| {
            let failure = (!gate.is_open()).then(|| gate.failure());
            (Arc::clone(&gate.name), failure)
        });
        std::iter::once((PING.into(), None)).chain(gates).collect()
    }
}

/// The routes of the probe at `path`.
pub(super) fn routes(path: &'static str, checks: Readiness) -> Router {
    let single = checks.clone();
    let all = async move |RawQuery(query): RawQuery| {
        answer_all(path, &checks.outcomes(), &query.unwrap_or_default())
    };
    let one = async move |Path(name): Path<String>| match single
        .outcomes()
        .iter()
        .find(|(check, _)| **check == *name)
    {
        Some((_, None)) => text(StatusCode::OK, "ok".to_owned()),
        Some((_, Some(failure))) => text(StatusCode::INTERNAL_SERVER_ERROR, failure.clone()),
        None => text(StatusCode::NOT_FOUND, format!("{path} has no check {name}\n")),
    };
    Router::new()
        .route(path, get(all))
        .route(&format!("{path}/{{check}}"), get(one))
}

fn answer_all(path: &str, outcomes: &[(Arc<str>, Option<String>)], query: &str) -> Response {
    let parameters = || {
        query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    };
    let excluded: Vec<&str> = parameters()
        .filter(|(name, _)| *name == "exclude")
        .map(|(_, check)| check)
        .collect();
    let verbose = parameters().any(|(name, _)| name == "verbose");

    let mut body = String::new();
    let mut well = true;
    for (name, failure) in outcomes {
        // Writing to a string cannot fail.
        let _ = if excluded.contains(&&**name) {
            writeln!(body, "[+]{name} excluded: ok")
        } else if let Some(failure) = failure {
            well = false;
            body.push_str(failure);
            Ok(())
        } else {
            writeln!(body, "[+]{name} ok")
        };
    }
    let unknown = excluded
        .iter()
        .filter(|check| !outcomes.iter().any(|(name, _)| **name == ***check));
    for check in unknown {
        let _ = writeln!(body, "warn: there is no check {check:?} to exclude");
    }
    let probe = path.trim_start_matches('/');
    match (well, verbose) {
        (true, false) => text(StatusCode::OK, "ok".to_owned()),
        (true, true) => text(StatusCode::OK, format!("{body}{probe} check passed\n")),
        (false, _) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{body}{probe} check failed\n"),
        ),
    }
}

fn text(status: StatusCode, body: String) -> Response {
    let headers: [(HeaderName, &str); 2] = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, body).into_response()
}
