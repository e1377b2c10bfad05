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
    /// Where the credentials come from (STS, the instance, the pod's agent) gives none now.
    CredentialSource,
    /// An action is not allowed.
    Denied,
    /// No such table.
    TableMissing,
    /// The table exists and does not serve: it is being changed.
    TableUnavailable,
    /// The table exists and does not serve until somebody gives it its encryption key back.
    KeyInaccessible,
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
    /// Nobody wants `operation` any more: it was not begun.
    pub(crate) fn unwanted(operation: &'static str) -> Self {
        Self {
            kind: Kind::Transient,
            operation,
            code: None,
            message: "the run was told to end".to_owned(),
        }
    }

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
            // Not one of the problems that a run tries again by itself: how long it lasts is not for rounds to count.
            Kind::CredentialSource => (
                Class::Transient,
                Reason::Retrying,
                format!(
                    "{operation} on table '{table}': where the operator's AWS credentials come from gives none now ({said}); it will be asked again"
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
            Kind::KeyInaccessible => (
                Class::Denied,
                Reason::TableUnavailable,
                format!(
                    "DynamoDB cannot use the encryption key of table '{table}' ({said}); enable the key, or allow its use again"
                ),
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
        _ if let Some(cause) = cause::<CredentialsError>(error) => by_provider(cause),
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
        | "KMSNotFoundException" => Kind::KeyInaccessible,
        "TableInUseException" => Kind::TableUnavailable,
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

/// Whether there are no credentials, or those who have them cannot be asked.
fn by_provider(error: &CredentialsError) -> Kind {
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            Kind::NoCredentials
        }
        _ => Kind::CredentialSource,
    }
}

/// The cause of this type in the chain of `error`.
fn cause<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref::<T>())
}

/// One line, at most 400 characters: what a server says ends up in conditions and events.
fn bounded(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .take(400)
        .collect()
}

#[cfg(test)]
mod tests;
