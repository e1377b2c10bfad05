//! The ledger of client tokens.
//!
//! Idempotency is zonal where a launch names its zone, by a subnet for instance, and regional otherwise: the same
//! token in another zone launches another instance (*Ensuring idempotency in Amazon EC2 API requests*). A repeated
//! token with other parameters is a mismatch; with its instance terminated it is an error of its own, since January
//! 2025. The documentation gives no lifetime any more; older editions promised at least 24 hours after termination,
//! which is when entries are dropped here.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::{error::ApiError, history::Moment};

/// A launch that was accepted.
#[derive(Clone, Debug)]
struct Entry {
    fingerprint: [u8; 32],
    reservation: String,
}

/// Accepted launches by scope and token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    entries: BTreeMap<(String, String), Entry>,
}

impl Ledger {
    /// The reservation that this token stands for, if the request is a repetition.
    pub(crate) fn find(
        &self,
        scope: &str,
        token: &str,
        parameters: &[(String, String)],
    ) -> Result<Option<&str>, ApiError> {
        let Some(entry) = self.entries.get(&(scope.to_owned(), token.to_owned())) else {
            return Ok(None);
        };
        if entry.fingerprint == fingerprint(parameters) {
            return Ok(Some(&entry.reservation));
        }
        Err(ApiError::new(
            "IdempotentParameterMismatch",
            "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
        ))
    }

    pub(crate) fn record(
        &mut self,
        scope: &str,
        token: &str,
        parameters: &[(String, String)],
        reservation: &str,
    ) {
        let entry = Entry {
            fingerprint: fingerprint(parameters),
            reservation: reservation.to_owned(),
        };
        self.entries.insert((scope.to_owned(), token.to_owned()), entry);
    }

    /// Forgets tokens whose reservation ended before `limit`.
    pub(crate) fn forget(&mut self, limit: Moment, ended: impl Fn(&str) -> Option<Moment>) {
        self.entries
            .retain(|_, entry| ended(&entry.reservation).is_none_or(|at| at > limit));
    }
}

pub(crate) fn terminated() -> ApiError {
    ApiError::new(
        "IdempotentInstanceTerminated",
        "The client token you have provided is associated with a terminated instance. Please use a different client token.",
    )
}

/// Tokens are at most 64 ASCII characters.
pub(crate) fn validate(token: &str) -> Result<(), ApiError> {
    if token.len() <= 64 && token.is_ascii() {
        return Ok(());
    }
    Err(ApiError::invalid(
        "clientToken",
        token,
        "A client token must be at most 64 ASCII characters.",
    ))
}

fn fingerprint(parameters: &[(String, String)]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
        hash.update(text.len().to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}
