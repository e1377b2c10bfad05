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
        if self.open.swap(false, Ordering::AcqRel) {
            tracing::warn!(check = %self.name, "No longer ready");
        }
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

    fn outcomes(&self) -> Vec<(Arc<str>, bool)> {
        let checks = self.checks.read();
        let gates = checks.iter().map(|gate| (Arc::clone(&gate.name), gate.is_open()));
        std::iter::once((PING.into(), true)).chain(gates).collect()
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
        Some((_, true)) => text(StatusCode::OK, "ok".to_owned()),
        Some((_, false)) => text(StatusCode::INTERNAL_SERVER_ERROR, failure(&name)),
        None => text(StatusCode::NOT_FOUND, format!("{path} has no check {name}\n")),
    };
    Router::new()
        .route(path, get(all))
        .route(&format!("{path}/{{check}}"), get(one))
}

fn answer_all(path: &str, outcomes: &[(Arc<str>, bool)], query: &str) -> Response {
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
    for (name, open) in outcomes {
        // Writing to a string cannot fail.
        let _ = if excluded.contains(&&**name) {
            writeln!(body, "[+]{name} excluded: ok")
        } else if *open {
            writeln!(body, "[+]{name} ok")
        } else {
            well = false;
            body.push_str(&failure(name));
            Ok(())
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

fn failure(check: &str) -> String {
    format!("[-]{check} failed: reason withheld\n")
}

fn text(status: StatusCode, body: String) -> Response {
    let headers: [(HeaderName, &str); 2] = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, body).into_response()
}
