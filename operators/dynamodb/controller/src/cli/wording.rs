//! The words of a job's messages, for a person at a terminal: flags instead of the fields of a spec.

/// Fields, as messages write them, and what a person at a terminal sets instead.
const INSTEAD: &[(&str, &str)] = &[
    (
        "set `credentials.secretRef`",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    ),
    ("`tableName`", "--table"),
    ("`partitionValue`", "--partition"),
    ("`keyType`", "--key-type"),
    ("`awsRegion`", "--region"),
    ("`endpointURL`", "--endpoint-url"),
    ("create another DdbctlDpJob if", "run the command again if"),
    ("then create the job again", "then run the command again"),
    (
        "then create another DdbctlDpJob for what is left",
        "then run the command again",
    ),
    ("since the job began", "since the command began"),
    ("`backoffLimit` is", "the limit is"),
    // Nobody does: the process ends.
    ("; it will be tried again", "; run the command again"),
    ("; it will be asked again", "; run the command again"),
];

/// `error` in the words of the command line.
pub(super) fn at_a_terminal(error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    let text = INSTEAD.iter().fold(format!("{error:#}"), |text, (field, flag)| {
        text.replace(field, flag)
    });
    anyhow::Error::msg(text)
}

#[cfg(test)]
mod tests {
    use crate::{
        endpoint::Endpoint,
        partition::{Kind, Problem},
    };

    use super::*;

    #[test]
    fn flags_are_named_instead_of_fields() {
        let failed = |kind| {
            Problem {
                kind,
                operation: "Query",
                code: None,
                message: "no".into(),
            }
            .into_failure("Orders")
            .to_string()
        };
        for (text, flag) in [
            (
                failed(Kind::TableMissing),
                "check --table, --region and --endpoint-url",
            ),
            (failed(Kind::Unreachable), "check --endpoint-url"),
            (failed(Kind::NoCredentials), "AWS_PROFILE"),
            (failed(Kind::Transient), "run the command again"),
            (failed(Kind::CredentialSource), "run the command again"),
            (
                Endpoint::parse("http://x/y").unwrap_err().to_string(),
                "--endpoint-url",
            ),
            (
                Endpoint::parse("http://169.254.169.254").unwrap_err().to_string(),
                "--endpoint-url",
            ),
        ] {
            let told = at_a_terminal(anyhow::Error::msg(text)).to_string();
            let fields = ["endpointURL", "tableName", "awsRegion", "secretRef", "it will be"];
            assert!(
                told.contains(flag) && !fields.iter().any(|field| told.contains(field)),
                "{told}"
            );
        }
    }
}
