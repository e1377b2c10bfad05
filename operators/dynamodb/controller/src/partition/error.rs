//! What an error of DynamoDB means for the deletion.
//!
//! Requests are retried here, never in the SDK: a retry that this module does not see would hide throttling from the
//! rate. A [`Problem`] is one failed request; a [`Failure`] is what ends a run.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        batch_write_item::BatchWriteItemError, describe_continuous_backups::DescribeContinuousBackupsError,
        describe_table::DescribeTableError, query::QueryError,
    },
    types::ThrottlingReason,
};
use dynamodb_api::Reason;
use reconcile::Class;

use super::bottleneck::Bottleneck;

/// What a failed request means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Too fast: never a failure, only a reason to slow down.
    Throttled(Option<Bottleneck>),
    /// Passing: 5xx, timeouts, broken connections, conflicts with replication.
    Transient,
    /// The endpoint cannot be reached at all.
    Unreachable,
    /// The credentials are expired, unknown or malformed.
    Credentials,
    /// There are no credentials.
    NoCredentials,
    /// An action is not allowed.
    Denied,
    /// No such table.
    TableMissing,
    /// The table exists and does not serve: archived, encryption key out of reach.
    TableUnavailable,
    /// Refused for a reason that no retry mends.
    Rejected,
}

/// One failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it means.
    pub kind: Kind,
    /// The DynamoDB operation.
    pub operation: &'static str,
    /// The error code of DynamoDB, if it answered.
    pub code: Option<String>,
    /// The error in words, bounded.
    pub message: String,
}

/// Why a run ended without success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What has to happen before another run can help.
    pub class: Class,
    /// The reason for the conditions.
    pub reason: Reason,
    /// Names the object, what is wrong, and what to do.
    pub message: String,
}

impl Failure {
    pub(crate) fn terminal(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            class: Class::Terminal,
            reason,
            message: message.into(),
        }
    }
}

impl Problem {
    /// Whether trying again, later or slower, can help.
    pub fn is_passing(&self) -> bool {
        matches!(
            self.kind,
            Kind::Throttled(_) | Kind::Transient | Kind::Unreachable
        )
    }

    /// Whether DynamoDB only asks for less haste.
    pub fn is_throttle(&self) -> bool {
        matches!(self.kind, Kind::Throttled(_))
    }

    /// Whether the request may have been carried out all the same: its answer is what is missing.
    pub fn leaves_doubt(&self) -> bool {
        matches!(self.kind, Kind::Transient | Kind::Unreachable)
    }

    /// What the problem means for a run on `table`.
    pub fn into_failure(self, table: &str) -> Failure {
        let Self {
            kind,
            operation,
            code,
            message,
        } = self;
        let said = code.map_or_else(|| message.clone(), |code| format!("{code}: {message}"));
        let (class, reason, message) = match kind {
            Kind::Throttled(_) | Kind::Transient => (
                Class::Transient,
                Reason::Retrying,
                format!("{operation} on table '{table}' failed for now ({said}); it will be tried again"),
            ),
            Kind::Unreachable => (
                Class::Transient,
                Reason::EndpointUnreachable,
                format!(
                    "{operation} on table '{table}': the endpoint cannot be reached ({said}); check `endpointURL` and the network"
                ),
            ),
            Kind::Credentials => (
                Class::Denied,
                Reason::CredentialsInvalid,
                format!("{operation} on table '{table}': the credentials were refused ({said}); renew them"),
            ),
            Kind::NoCredentials => (
                Class::Denied,
                Reason::CredentialsMissing,
                format!(
                    "{operation} on table '{table}': there are no AWS credentials ({said}); set `credentials.secretRef`"
                ),
            ),
            Kind::Denied => (
                Class::Denied,
                Reason::AccessDenied,
                format!(
                    "the credentials may not call dynamodb:{operation} on table '{table}' ({said}); allow that action"
                ),
            ),
            Kind::TableMissing => (
                Class::Terminal,
                Reason::TableNotFound,
                format!(
                    "there is no table '{table}' in this region at this endpoint; check `tableName`, `awsRegion` and `endpointURL`"
                ),
            ),
            Kind::TableUnavailable => (
                Class::Waiting,
                Reason::TableUnavailable,
                format!("table '{table}' cannot be used now ({said})"),
            ),
            Kind::Rejected => (
                Class::Terminal,
                Reason::RequestRejected,
                format!("DynamoDB refused {operation} on table '{table}' ({said})"),
            ),
        };
        Failure {
            class,
            reason,
            message,
        }
    }
}

/// Errors that may say which resource is throttled.
pub(crate) trait ThrottlingReasons {
    /// The reasons, if the error is a throttle that names any.
    fn reasons(&self) -> &[ThrottlingReason] {
        &[]
    }
}

macro_rules! reasons_of {
    ($($error:ident),+) => {$(
        impl ThrottlingReasons for $error {
            fn reasons(&self) -> &[ThrottlingReason] {
                match self {
                    Self::ProvisionedThroughputExceededException(inner) => inner.throttling_reasons(),
                    Self::ThrottlingException(inner) => inner.throttling_reasons(),
                    Self::RequestLimitExceeded(inner) => inner.throttling_reasons(),
                    _ => &[],
                }
            }
        }
    )+};
}
reasons_of!(BatchWriteItemError, QueryError);
impl ThrottlingReasons for DescribeTableError {}
impl ThrottlingReasons for DescribeContinuousBackupsError {}

/// Classifies what the SDK returned for `operation`.
pub(crate) fn classify<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Problem
where
    E: ProvideErrorMetadata + ThrottlingReasons + std::error::Error + 'static,
{
    let code = error.code().map(str::to_owned);
    let kind = match error {
        SdkError::ServiceError(service) => by_answer(
            code.as_deref(),
            service.raw().status().as_u16(),
            service.err().reasons(),
        ),
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => Kind::Transient,
        _ if caused_by::<CredentialsError>(error) => Kind::NoCredentials,
        SdkError::DispatchFailure(dispatch) if dispatch.is_io() || dispatch.is_other() => Kind::Unreachable,
        SdkError::DispatchFailure(_) => Kind::Transient,
        _ => Kind::Rejected,
    };
    let message = match (error.message(), error) {
        (Some(said), _) => said.to_owned(),
        // The chain would end with the debugging form of a struct.
        (None, SdkError::ServiceError(service)) => {
            format!(
                "HTTP status {}, without a message",
                service.raw().status().as_u16()
            )
        }
        (None, error) => reconcile::error::chain(error),
    };
    Problem {
        kind,
        operation,
        code,
        message: bounded(&message),
    }
}

/// By the error's code where it is known, else by the status of HTTP: codes are added without notice, and what stands
/// between here and DynamoDB has codes of its own.
fn by_answer(code: Option<&str>, status: u16, reasons: &[ThrottlingReason]) -> Kind {
    let throttled = || Kind::Throttled(reasons.iter().find_map(Bottleneck::from_reason));
    // No code at all: a proxy or a server in distress answered, not DynamoDB.
    let Some(code) = code else {
        return if status == 429 {
            throttled()
        } else {
            Kind::Transient
        };
    };
    match code {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "Throttling"
        | "TooManyRequestsException" => throttled(),
        "ResourceNotFoundException" => Kind::TableMissing,
        "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" => Kind::Denied,
        "ExpiredTokenException"
        | "ExpiredToken"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "RequestExpired" => Kind::Credentials,
        "InaccessibleEncryptionCredentialsException"
        | "KMSAccessDeniedException"
        | "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSNotFoundException"
        | "TableInUseException" => Kind::TableUnavailable,
        "InternalServerError"
        | "InternalFailure"
        | "InternalServerErrorException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "ReplicatedWriteConflictException"
        | "TransactionConflictException"
        | "RequestTimeout"
        | "RequestTimeoutException" => Kind::Transient,
        _ if status == 429 => throttled(),
        _ if status >= 500 => Kind::Transient,
        _ => Kind::Rejected,
    }
}

fn caused_by<T: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(error) = source {
        if error.is::<T>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// One line, at most 400 characters: what a server says ends up in conditions and events.
fn bounded(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .take(400)
        .collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::error::ErrorMetadata;
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    #[test]
    fn every_documented_error_has_its_class() {
        for (code, reason, class) in [
            (
                "ResourceNotFoundException",
                Reason::TableNotFound,
                Class::Terminal,
            ),
            ("ValidationException", Reason::RequestRejected, Class::Terminal),
            ("AccessDeniedException", Reason::AccessDenied, Class::Denied),
            ("ExpiredTokenException", Reason::CredentialsInvalid, Class::Denied),
            (
                "UnrecognizedClientException",
                Reason::CredentialsInvalid,
                Class::Denied,
            ),
            (
                "InvalidSignatureException",
                Reason::CredentialsInvalid,
                Class::Denied,
            ),
            ("InternalServerError", Reason::Retrying, Class::Transient),
            (
                "ReplicatedWriteConflictException",
                Reason::Retrying,
                Class::Transient,
            ),
            ("ThrottlingException", Reason::Retrying, Class::Transient),
            ("KMSDisabledException", Reason::TableUnavailable, Class::Waiting),
        ] {
            let problem = Problem {
                kind: by_answer(Some(code), 400, &[]),
                operation: "Query",
                code: None,
                message: String::new(),
            };
            let failure = problem.into_failure("Orders");
            assert_eq!((failure.reason, failure.class), (reason, class), "{code}");
            assert!(failure.message.contains("Orders"), "{}", failure.message);
        }
        assert_eq!(by_answer(None, 502, &[]), Kind::Transient);
    }

    #[test]
    fn an_answer_with_a_code_that_nobody_knows_is_judged_by_its_status() {
        let answered = |status: u16| {
            let error = QueryError::generic(ErrorMetadata::builder().code("NewlyInvented").build());
            let status = StatusCode::try_from(status).unwrap();
            let error = SdkError::service_error(error, HttpResponse::new(status, SdkBody::empty()));
            classify("Query", &error).kind
        };
        for status in [500, 502, 503, 504] {
            assert_eq!(answered(status), Kind::Transient, "{status}");
        }
        assert_eq!(answered(429), Kind::Throttled(None));
        assert_eq!(answered(400), Kind::Rejected);
    }

    #[test]
    fn an_answer_without_words_is_told_by_its_status() {
        let error = QueryError::generic(ErrorMetadata::builder().code("NewlyInvented").build());
        let status = StatusCode::try_from(400).unwrap();
        let error = SdkError::service_error(error, HttpResponse::new(status, SdkBody::empty()));
        let message = classify("Query", &error).into_failure("Orders").message;
        assert!(
            message.contains("(NewlyInvented: HTTP status 400, without a message)"),
            "{message}"
        );
    }

    #[test]
    fn a_throttle_names_its_bottleneck() {
        let reason = ThrottlingReason::builder()
            .reason("IndexWriteProvisionedThroughputExceeded")
            .resource("arn:aws:dynamodb:us-east-1:123456789012:table/Orders/index/byStatus")
            .build();
        let kind = by_answer(Some("ProvisionedThroughputExceededException"), 400, &[reason]);
        assert_eq!(
            kind,
            Kind::Throttled(Some(Bottleneck::Index("byStatus".to_owned())))
        );
    }

    #[test]
    fn what_a_server_says_is_kept_to_one_bounded_line() {
        let text = bounded(&format!("a\nb{}", "x".repeat(1000)));
        assert!(text.starts_with("a b") && text.len() == 400);
    }
}
