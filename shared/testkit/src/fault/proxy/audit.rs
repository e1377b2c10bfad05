//! What was asked of a backend, by whom, and how often.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, header::AUTHORIZATION};
use jiff::Timestamp;
use parking_lot::Mutex;

/// How many entries are kept; counters go on beyond it.
const KEPT: usize = 65_536;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it reached the proxy.
    pub at: Timestamp,
    /// Its operation: the site of its call.
    pub operation: Arc<str>,
    /// The access key id that signed it (AWS signature version 4), if it was signed.
    pub key_id: Option<Arc<str>>,
    /// The size of its body in bytes.
    pub size: usize,
}

#[derive(Debug, Default)]
struct State {
    total: u64,
    counts: BTreeMap<Arc<str>, u64>,
    keys: BTreeMap<Arc<str>, u64>,
    entries: VecDeque<Entry>,
}

/// A log of the last 65,536 requests, and counters of all.
#[derive(Debug, Default)]
pub struct Audit(Mutex<State>);

impl Audit {
    /// How many requests arrived so far. A mark for [`Audit::since`].
    pub fn total(&self) -> u64 {
        self.0.lock().total
    }

    /// How many requests of an operation arrived so far.
    pub fn count(&self, operation: &str) -> u64 {
        self.0.lock().counts.get(operation).copied().unwrap_or(0)
    }

    /// How many requests of each operation arrived so far.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.0
            .lock()
            .counts
            .iter()
            .map(|(operation, count)| (operation.to_string(), *count))
            .collect()
    }

    /// How many requests each access key id signed so far.
    pub fn signers(&self) -> BTreeMap<String, u64> {
        self.0
            .lock()
            .keys
            .iter()
            .map(|(key, count)| (key.to_string(), *count))
            .collect()
    }

    /// The requests after the first `total` ones, of those that are kept.
    pub fn since(&self, total: u64) -> Vec<Entry> {
        let state = self.0.lock();
        let wanted = usize::try_from(state.total.saturating_sub(total)).unwrap_or(usize::MAX);
        let skipped = state.entries.len().saturating_sub(wanted);
        state.entries.iter().skip(skipped).cloned().collect()
    }

    pub(super) fn record(&self, operation: &str, request: &Request<Bytes>) {
        let key_id = key_id(request);
        let mut state = self.0.lock();
        state.total += 1;
        let operation = count(&mut state.counts, operation);
        let key_id = key_id.map(|key_id| count(&mut state.keys, key_id));
        if state.entries.len() == KEPT {
            state.entries.pop_front();
        }
        let size = request.body().len();
        state.entries.push_back(Entry {
            at: Timestamp::now(),
            operation,
            key_id,
            size,
        });
    }
}

/// Counts a name and returns its shared form: most requests repeat a name that is already there.
fn count(counts: &mut BTreeMap<Arc<str>, u64>, name: &str) -> Arc<str> {
    let shared = counts
        .get_key_value(name)
        .map_or_else(|| Arc::from(name), |(shared, _)| Arc::clone(shared));
    *counts.entry(Arc::clone(&shared)).or_default() += 1;
    shared
}

/// The access key id in `AWS4-HMAC-SHA256 Credential=ID/date/region/service/aws4_request, …`.
pub(crate) fn key_id(request: &Request<Bytes>) -> Option<&str> {
    let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let credential = header.split_once("Credential=")?.1;
    credential.split(['/', ',']).next().filter(|id| !id.is_empty())
}
