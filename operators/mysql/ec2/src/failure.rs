//! From the SDK's errors to the operator's.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use mysql_controller::cloud::CloudError;

/// The code of a call that had no credentials to be signed with.
const NO_CREDENTIALS: &str = "CredentialsNotLoaded";

/// Converts an error of `action`. The message holds no request id: it ends up in a condition.
pub(crate) fn failed<E>(action: &'static str) -> impl FnOnce(SdkError<E, HttpResponse>) -> CloudError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    move |error| {
        if let SdkError::ServiceError(answer) = &error {
            let declined = answer.raw().status().is_client_error();
            let answer = answer.err();
            return CloudError {
                action,
                code: answer.code().map(str::to_owned),
                declined,
                message: answer.message().unwrap_or("no message").to_owned(),
            };
        }
        if lacks_credentials(&error) {
            return CloudError {
                action,
                code: Some(NO_CREDENTIALS.to_owned()),
                declined: false,
                message: "no AWS credentials were found in the environment, a profile, a web identity, the container's or the instance's metadata; pods on EC2 reach the latter only with a hop limit of 2".to_owned(),
            };
        }
        let message = match &error {
            SdkError::TimeoutError(_) => "no answer in time",
            SdkError::DispatchFailure(_) => "the connection failed",
            SdkError::ResponseError(_) => "the answer could not be read",
            _ => "the request could not be made",
        };
        CloudError {
            action,
            code: None,
            declined: false,
            message: message.to_owned(),
        }
    }
}

fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<CredentialsError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
