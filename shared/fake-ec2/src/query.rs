//! The parameters of a request: a form whose names spell out lists and structures (`Filter.1.Value.2`).

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use url::form_urlencoded;

use crate::error::ApiError;

/// A request's parameters. It remembers which were read, so that none is silently ignored.
#[derive(Debug, Default)]
pub(crate) struct Params {
    values: BTreeMap<String, String>,
    read: RefCell<BTreeSet<String>>,
}

impl Params {
    pub(crate) fn parse(form: &[u8]) -> Self {
        Self {
            values: form_urlencoded::parse(form).into_owned().collect(),
            read: RefCell::default(),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let value = self.values.get(name)?;
        self.read.borrow_mut().insert(name.to_owned());
        Some(value)
    }

    pub(crate) fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.text(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| ApiError::missing(name))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(ApiError::invalid(name, other, "Expected a boolean.")),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u32>, ApiError> {
        self.text(name)
            .map(|text| {
                text.parse()
                    .map_err(|_| ApiError::invalid(name, text, "Expected a positive integer."))
            })
            .transpose()
    }

    /// `Name.1`, `Name.2`, … in the order of their numbers.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        self.members(name)
            .iter()
            .filter_map(|member| self.text(member))
            .collect()
    }

    /// The names of a list's members: `Name.1`, `Name.2`, … whether texts or structures.
    pub(crate) fn members(&self, name: &str) -> Vec<String> {
        let prefix = format!("{name}.");
        let numbers: BTreeSet<u32> = self
            .values
            .keys()
            .filter_map(|key| key.strip_prefix(&prefix)?.split('.').next()?.parse().ok())
            .collect();
        numbers.iter().map(|number| format!("{prefix}{number}")).collect()
    }

    /// Fails for a parameter that nothing has read.
    pub(crate) fn reject_unknown(&self) -> Result<(), ApiError> {
        let read = self.read.borrow();
        match self.values.keys().find(|name| !read.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(ApiError::new(
                "UnknownParameter",
                format!("The parameter {name} is not recognized"),
            )),
        }
    }

    /// What two requests with one client token must have in common: all but the token itself and `DryRun`.
    pub(crate) fn fingerprint(&self) -> Vec<(String, String)> {
        self.values
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "ClientToken" | "DryRun"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Every parameter, for the audit log.
    pub(crate) fn all(&self) -> &BTreeMap<String, String> {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_in_the_order_of_their_numbers() {
        let params = Params::parse(b"Id.10=c&Id.2=b&Id.1=a&Filter.1.Name=x&Filter.1.Value.1=y");
        assert_eq!(params.list("Id"), ["a", "b", "c"]);
        assert_eq!(params.members("Filter"), ["Filter.1"]);
        assert_eq!(params.list("Filter.1.Value"), ["y"]);
    }

    #[test]
    fn a_parameter_that_nothing_reads_is_refused() {
        let params = Params::parse(b"Action=A&Surprise=1");
        params.text("Action");
        assert_eq!(params.reject_unknown().unwrap_err().code, "UnknownParameter");
    }
}
