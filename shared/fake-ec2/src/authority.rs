//! Who calls, for which region, and what they may do.

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::error::{ApiError, message_of};

/// What a request's signature says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) access_key: String,
    pub(crate) region: String,
}

impl Caller {
    /// Reads a Signature Version 4 `Authorization` header. The signature itself is not verified.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let failure = || ApiError::new("AuthFailure", message_of("AuthFailure"));
        let header = headers
            .get(http::header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(failure)?;
        let scope = header
            .strip_prefix("AWS4-HMAC-SHA256 ")
            .and_then(|rest| {
                rest.split(',')
                    .map(str::trim)
                    .find_map(|part| part.strip_prefix("Credential="))
            })
            .ok_or_else(failure)?;
        match scope.split('/').collect::<Vec<_>>().as_slice() {
            [key, _date, region, "ec2", "aws4_request"] => Ok(Self {
                access_key: (*key).to_owned(),
                region: (*region).to_owned(),
            }),
            _ => Err(failure()),
        }
    }
}

/// What is denied. Everything else is allowed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authority {
    /// By access key: the error code that answers whatever it signs.
    keys: BTreeMap<String, String>,
    /// By action: the error code that answers it.
    actions: BTreeMap<String, String>,
}

impl Authority {
    /// Answers everything that this key signs with `code`; `None` accepts it again.
    pub(crate) fn set_key(&mut self, access_key: &str, code: Option<&str>) {
        set(&mut self.keys, access_key, code);
    }

    /// Answers `action` with `code`; `None` allows it again.
    pub(crate) fn set_action(&mut self, action: &str, code: Option<&str>) {
        set(&mut self.actions, action, code);
    }

    /// Whether the credentials are accepted at all.
    pub(crate) fn authenticate(&self, caller: &Caller) -> Result<(), ApiError> {
        refuse(self.keys.get(&caller.access_key))
    }

    /// Whether the action is allowed.
    pub(crate) fn authorize(&self, action: &str) -> Result<(), ApiError> {
        refuse(self.actions.get(action))
    }
}

fn set(map: &mut BTreeMap<String, String>, key: &str, code: Option<&str>) {
    match code {
        Some(code) => map.insert(key.to_owned(), code.to_owned()),
        None => map.remove(key),
    };
}

fn refuse(code: Option<&String>) -> Result<(), ApiError> {
    match code {
        None => Ok(()),
        Some(code) => Err(ApiError::new(code.clone(), message_of(code))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> HeaderMap {
        [(http::header::AUTHORIZATION, text.parse().unwrap())]
            .into_iter()
            .collect()
    }

    #[test]
    fn the_region_is_the_one_that_was_signed_for() {
        let text = "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/ec2/aws4_request, SignedHeaders=host, Signature=0";
        let caller = Caller::of(&header(text)).unwrap();
        assert_eq!(
            (caller.access_key.as_str(), caller.region.as_str()),
            ("AKID", "eu-west-1")
        );
    }

    #[test]
    fn an_unsigned_request_is_no_request() {
        assert_eq!(Caller::of(&HeaderMap::new()).unwrap_err().code, "AuthFailure");
        let other = "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/s3/aws4_request";
        assert_eq!(Caller::of(&header(other)).unwrap_err().code, "AuthFailure");
    }
}
