//! Tags: key-value pairs on instances, volumes and interfaces, and their limits.

use std::collections::BTreeMap;

use crate::{
    error::ApiError,
    history::{History, Moment},
    query::Params,
};

/// Tags by key.
pub(crate) type Tags = BTreeMap<String, String>;

/// The most tags that one resource may have.
const MOST: usize = 50;

/// A resource's tags in time.
#[derive(Clone, Debug)]
pub(crate) struct TagLog(History<Tags>);

impl TagLog {
    pub(crate) fn new(at: Moment, tags: Tags) -> Self {
        Self(History::new(at, tags))
    }

    pub(crate) fn at(&self, moment: Moment) -> &Tags {
        self.0.at(moment)
    }

    /// Changes the tags now; says whether anything changed.
    pub(crate) fn change(&mut self, now: Moment, change: impl FnOnce(&mut Tags)) -> bool {
        let before = self.0.at(now);
        let mut after = before.clone();
        change(&mut after);
        let changed = *before != after;
        if changed {
            self.0.push(now, after);
        }
        changed
    }
}

/// Reads `<name>.N.Key` and `<name>.N.Value`.
pub(crate) fn read(params: &Params, name: &str) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for member in params.members(name) {
        let key = params.required(&format!("{member}.Key"))?.to_owned();
        let value = params
            .text(&format!("{member}.Value"))
            .unwrap_or_default()
            .to_owned();
        if tags.insert(key.clone(), value).is_some() {
            let message = format!("Duplicate tag key '{key}' specified.");
            return Err(ApiError::new("InvalidParameterValue", message));
        }
    }
    validate(&tags)?;
    Ok(tags)
}

/// Keys of 1 to 127 characters, values of at most 255, nothing that begins with `aws:`, at most 50.
pub(crate) fn validate(tags: &Tags) -> Result<(), ApiError> {
    for (key, value) in tags {
        if key.to_ascii_lowercase().starts_with("aws:") {
            let why = "Tag keys starting with 'aws:' are reserved for internal use";
            return Err(ApiError::new("InvalidParameterValue", why));
        }
        if key.chars().count() > 127 {
            let why = "Tag key exceeds the maximum length of 127 characters";
            return Err(ApiError::new("InvalidParameterValue", why));
        }
        if value.chars().count() > 255 {
            let why = "Tag value exceeds the maximum length of 255 characters";
            return Err(ApiError::new("InvalidParameterValue", why));
        }
    }
    if tags.len() > MOST {
        let why = format!("More than {MOST} tags specified");
        return Err(ApiError::new("TagLimitExceeded", why));
    }
    Ok(())
}

/// The tags that `TagSpecification.N` gives to resources of this type.
pub(crate) fn specified(params: &Params, resource: &str) -> Result<Tags, ApiError> {
    let mut found = Tags::new();
    for member in params.members("TagSpecification") {
        let kind = params.required(&format!("{member}.ResourceType"))?;
        if !["instance", "volume", "network-interface"].contains(&kind) {
            let why = "is not a valid taggable resource type for this operation.";
            return Err(ApiError::new("InvalidParameterValue", format!("'{kind}' {why}")));
        }
        let tags = read(params, &format!("{member}.Tag"))?;
        if kind == resource {
            found = tags;
        }
    }
    Ok(found)
}
