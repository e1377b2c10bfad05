//! Filters of Describe calls. Values of one filter are alternatives, filters are conjunctive, `*` and `?` are
//! wildcards and `\` takes that from them.

use crate::{error::ApiError, query::Params, tag::Tags};

/// The most values that all filters of a call may have together.
const MOST_VALUES: usize = 200;

#[derive(Clone, Debug)]
struct Filter {
    name: String,
    values: Vec<String>,
}

/// The filters of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters(Vec<Filter>);

impl Filters {
    /// Reads `Filter.N.Name` and `Filter.N.Value.M`. `known` are the names beside the `tag:` ones.
    pub(crate) fn read(params: &Params, known: &[&str]) -> Result<Self, ApiError> {
        let mut filters = Vec::new();
        for member in params.members("Filter") {
            let name = params.required(&format!("{member}.Name"))?.to_owned();
            let values: Vec<String> = params
                .list(&format!("{member}.Value"))
                .into_iter()
                .map(str::to_owned)
                .collect();
            if !known.contains(&name.as_str()) && name != "tag-key" && !name.starts_with("tag:") {
                let message = format!("The filter '{name}' is invalid");
                return Err(ApiError::new("InvalidParameterValue", message));
            }
            if values.is_empty() {
                let message = "The filter 'null' is invalid";
                return Err(ApiError::new("InvalidParameterValue", message));
            }
            filters.push(Filter { name, values });
        }
        if filters.iter().map(|filter| filter.values.len()).sum::<usize>() > MOST_VALUES {
            let message = "The maximum number of filter values specified on a single call is 200";
            return Err(ApiError::new("FilterLimitExceeded", message));
        }
        Ok(Self(filters))
    }

    /// Whether a resource passes; `field` gives its values for a filter's name.
    pub(crate) fn pass(&self, tags: &Tags, field: impl Fn(&str) -> Vec<String>) -> bool {
        self.0.iter().all(|filter| {
            let actual = if filter.name == "tag-key" {
                tags.keys().cloned().collect()
            } else if let Some(key) = filter.name.strip_prefix("tag:") {
                tags.get(key).cloned().into_iter().collect()
            } else {
                field(&filter.name)
            };
            filter.values.iter().any(|pattern| {
                actual
                    .iter()
                    .any(|text| matches(pattern.as_bytes(), text.as_bytes()))
            })
        })
    }
}

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        [b'?', rest @ ..] => !text.is_empty() && matches(rest, &text[1..]),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
            text.first() == Some(literal) && matches(rest, &text[1..])
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("mysql-*", "mysql-a", true)]
    #[case("mysql-?", "mysql-ab", false)]
    #[case("*", "", true)]
    #[case(r"a\*", "a*", true)]
    #[case(r"a\*", "ab", false)]
    #[case("a", "A", false)]
    fn wildcards_are_wild_unless_escaped(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected);
    }

    #[test]
    fn an_unknown_filter_is_refused_by_name() {
        let params = Params::parse(b"Filter.1.Name=colour&Filter.1.Value.1=red");
        let error = Filters::read(&params, &["instance-id"]).unwrap_err();
        assert_eq!(error.message, "The filter 'colour' is invalid");
    }
}
