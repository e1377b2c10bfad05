//! EC2's errors: a code that programs compare, a message for people, an HTTP status.

use std::borrow::Cow;

use crate::xml::Xml;

/// An error as EC2 answers it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// EC2's error code, such as `InvalidInstanceID.NotFound`.
    pub code: Cow<'static, str>,
    /// The message.
    pub message: String,
}

impl ApiError {
    /// An error with this code and message.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }

    /// The HTTP status that EC2 sends with this code: 5xx for what its documentation lists as server errors.
    pub fn status(&self) -> u16 {
        match &*self.code {
            "RequestLimitExceeded" | "Unavailable" | "ServiceUnavailable" => 503,
            "InternalError" | "InternalFailure" | "InsufficientInstanceCapacity" | "InsufficientCapacity" => {
                500
            }
            "AuthFailure" => 401,
            "UnauthorizedOperation" => 403,
            "DryRunOperation" => 412,
            _ => 400,
        }
    }

    /// The answer's body.
    pub(crate) fn body(&self, request_id: &str) -> String {
        let mut xml = Xml::document();
        xml.group("Response", |xml| {
            xml.group("Errors", |xml| {
                xml.group("Error", |xml| {
                    xml.element("Code", &self.code);
                    xml.element("Message", &self.message);
                });
            });
            xml.element("RequestID", request_id);
        });
        xml.finish()
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        Self::new(
            "MissingParameter",
            format!("The request must contain the parameter {parameter}"),
        )
    }

    pub(crate) fn invalid(parameter: &str, value: &str, why: &str) -> Self {
        Self::new(
            "InvalidParameterValue",
            format!("Value ({value}) for parameter {parameter} is invalid. {why}"),
        )
    }

    pub(crate) fn combination(message: &str) -> Self {
        Self::new("InvalidParameterCombination", message)
    }

    pub(crate) fn throttled() -> Self {
        Self::new("RequestLimitExceeded", "Request limit exceeded.")
    }

    pub(crate) fn dry_run() -> Self {
        Self::new(
            "DryRunOperation",
            "Request would have succeeded, but DryRun flag is set.",
        )
    }
}

/// A default message for an error that a script asks for by its code alone.
pub(crate) fn message_of(code: &str) -> &'static str {
    match code {
        "RequestLimitExceeded" => "Request limit exceeded.",
        "InternalError" => "An internal error has occurred",
        "Unavailable" | "ServiceUnavailable" => "The server is overloaded and can't handle the request.",
        "InsufficientInstanceCapacity" => {
            "We currently do not have sufficient capacity in the Availability Zone you requested. Our system will be working on provisioning additional capacity."
        }
        "UnauthorizedOperation" => "You are not authorized to perform this operation.",
        "AuthFailure" => "AWS was not able to validate the provided access credentials",
        "RequestExpired" => "Request has expired.",
        "OptInRequired" => {
            "You are not subscribed to this service. Please go to http://aws.amazon.com to subscribe."
        }
        "Blocked" => "This account is currently blocked. If you have questions, please contact AWS Support.",
        "PendingVerification" => {
            "Your account is currently being verified. Verification normally takes less than 2 hours."
        }
        _ => "The request was refused.",
    }
}
