//! Pages of a listing.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{error::ApiError, query::Params};

/// What a call asks of its listing.
#[derive(Clone, Debug)]
pub(crate) struct Paging {
    size: Option<usize>,
    after: Option<String>,
}

impl Paging {
    /// Reads `MaxResults` (5 to 1000) and `NextToken`. Neither goes together with a list of ids, which is called
    /// `ids` in the error.
    pub(crate) fn read(params: &Params, has_ids: bool, ids: &str) -> Result<Self, ApiError> {
        let size = params.number("MaxResults")?;
        if size.is_some() && has_ids {
            let message = format!("The parameter {ids} cannot be used with the parameter maxResults");
            return Err(ApiError::combination(&message));
        }
        if let Some(size) = size.filter(|size| !(5..=1000).contains(size)) {
            let bound = if size < 5 {
                "greater than 5"
            } else {
                "smaller than or equal to 1000"
            };
            let message =
                format!("Value ( {size} ) for parameter maxResults is invalid. Expecting a value {bound}.");
            return Err(ApiError::new("InvalidParameterValue", message));
        }
        let after = params.text("NextToken").map(decode).transpose()?;
        Ok(Self {
            size: size.and_then(|size| usize::try_from(size).ok()),
            after,
        })
    }

    /// Cuts a listing, ordered by id, to the page that was asked for; gives the token of the next one.
    pub(crate) fn cut<T>(&self, mut all: Vec<T>, id: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
        if let Some(after) = &self.after {
            all.retain(|item| id(item) > *after);
        }
        let size = self.size.unwrap_or(usize::MAX);
        let more = all.len() > size;
        all.truncate(size);
        let token = all.last().filter(|_| more).map(|last| encode(&id(last)));
        (all, token)
    }
}

fn encode(id: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("after:{id}"))
}

fn decode(token: &str) -> Result<String, ApiError> {
    BASE64_URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.strip_prefix("after:").map(str::to_owned))
        .ok_or_else(|| {
            ApiError::new(
                "InvalidPaginationToken",
                "The specified pagination token is not valid or is expired.",
            )
        })
}
