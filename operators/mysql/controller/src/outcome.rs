//! What an answer of RunInstances means for the launch.
//!
//! The codes are those of *Error codes for the Amazon EC2 API*; the table below is the whole truth about them here,
//! and a test walks through it.

use std::time::Duration;

use mysql_api::Reason;

use crate::cloud::CloudError;

/// What is known of a launch after an attempt that did not return an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may or may not have happened: repeat it with the same token and parameters.
    Unknown,
    /// It did not happen by what EC2 says, with a code that the table does not have: as [`Self::Unknown`] for as long as it is
    /// wanted, and looked for once something else is.
    Unlisted,
    /// It did not happen, because we ask too much too fast: repeat it later.
    Throttled,
    /// It did not and cannot happen in this zone now: another zone, or later.
    NoCapacity,
    /// It did not happen: a quota is exhausted.
    Quota,
    /// It did not happen: credentials or permissions. People repair them elsewhere.
    Denied,
    /// It did not happen: what the spec names is refused.
    Refused,
    /// It did not happen: something that the spec names is not known, perhaps not everywhere yet.
    Young,
    /// The token is in use with other parameters: look for the instance, never take another token.
    Mismatch,
    /// The launch happened and its instance is terminated.
    Spent,
    /// It is not made, because what it is to be made with cannot be kept or read.
    Unrecorded,
    /// It is not made, because the Secret for what it is to be made with is somebody else's.
    Foreign,
}

impl Verdict {
    /// Whether this attempt launched nothing, for certain. That says nothing about attempts before it.
    pub fn is_certain(self) -> bool {
        matches!(
            self,
            Self::Throttled | Self::NoCapacity | Self::Quota | Self::Denied | Self::Refused | Self::Young
        )
    }

    /// How long to wait before the next attempt.
    pub fn retry_after(self) -> Duration {
        match self {
            Self::Unknown | Self::Unlisted | Self::Mismatch | Self::Spent => Duration::from_secs(2),
            Self::Throttled | Self::Young | Self::Unrecorded => Duration::from_secs(5),
            Self::Foreign => Duration::from_mins(1),
            Self::NoCapacity | Self::Denied => Duration::from_mins(5),
            Self::Quota => Duration::from_mins(10),
            Self::Refused => Duration::from_mins(30),
        }
    }

    /// The reason that a condition gives.
    pub fn reason(self) -> Reason {
        match self {
            Self::Unknown | Self::Unlisted => Reason::AWSAPIError,
            Self::Throttled => Reason::Throttled,
            Self::NoCapacity => Reason::InsufficientCapacity,
            Self::Quota => Reason::QuotaExceeded,
            Self::Denied => Reason::CredentialsInvalid,
            Self::Refused | Self::Young => Reason::LaunchRefused,
            Self::Mismatch => Reason::TokenTaken,
            Self::Spent => Reason::Replacing,
            Self::Unrecorded => Reason::LaunchUnrecorded,
            Self::Foreign => Reason::NameConflict,
        }
    }
}

/// The verdict on an attempt that failed like this.
pub fn verdict(error: &CloudError) -> Verdict {
    let Some(code) = error.code.as_deref() else {
        return Verdict::Unknown;
    };
    match code {
        "RequestLimitExceeded"
        | "EC2ThrottledException"
        | "Throttling"
        | "ThrottlingException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "SlowDown" => Verdict::Throttled,
        "InsufficientInstanceCapacity"
        | "InsufficientCapacity"
        | "InsufficientHostCapacity"
        | "InsufficientReservedInstanceCapacity"
        | "InsufficientFreeAddressesInSubnet"
        | "Unsupported"
        | "VolumeTypeNotAvailableInZone" => Verdict::NoCapacity,
        "VcpuLimitExceeded"
        | "InstanceLimitExceeded"
        | "MaxSpotInstanceCountExceeded"
        | "VolumeLimitExceeded"
        | "PendingVerification"
        | "MaxIOPSLimitExceeded"
        | "SecurityGroupsPerInstanceLimitExceeded"
        | "SecurityGroupsPerInterfaceLimitExceeded" => Verdict::Quota,
        "UnauthorizedOperation"
        | "AuthFailure"
        | "AccessDenied"
        | "AccessDeniedException"
        | "OptInRequired"
        | "Blocked"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "RequestExpired"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException"
        | "MissingAuthenticationToken"
        | "CredentialsNotLoaded"
        | "AnotherAccount" => Verdict::Denied,
        "IdempotentParameterMismatch" => Verdict::Mismatch,
        "IdempotentInstanceTerminated" => Verdict::Spent,
        "InvalidBlockDeviceMapping"
        | "UnsupportedOperation"
        | "InvalidUserData.Malformed"
        | "MissingParameter"
        | "TagPolicyViolation"
        | "MissingInput"
        | "VPCIdNotSpecified"
        | "UnknownParameter" => Verdict::Refused,
        _ if is_unknown(code, &error.message) => Verdict::Young,
        _ if is_refusal(code) => Verdict::Refused,
        // Whatever EC2 adds one day, and its own errors: repeating a launch with its token is always safe.
        _ if error.declined => Verdict::Unlisted,
        _ => Verdict::Unknown,
    }
}

/// Whether a subnet, a group or a profile is not known. One that was made a moment ago need not be known everywhere yet:
/// *Eventual consistency in the Amazon EC2 API*.
fn is_unknown(code: &str, message: &str) -> bool {
    match code {
        "InvalidSubnetID.NotFound" | "InvalidGroup.NotFound" | "InvalidSecurityGroupID.NotFound" => true,
        "InvalidParameterValue" => message.contains("Invalid IAM Instance Profile"),
        _ => false,
    }
}

fn is_refusal(code: &str) -> bool {
    [
        "InvalidAMIID.",
        "InvalidSubnetID.",
        "InvalidSubnet",
        "InvalidGroup",
        "InvalidSecurityGroup",
        "InvalidKeyPair.",
    ]
    .iter()
    .any(|prefix| code.starts_with(prefix))
        || code.starts_with("InvalidParameter")
        || code.starts_with("InvalidIPAddress")
        || code.starts_with("InvalidTag")
        || code == "TagLimitExceeded"
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&["InternalError", "Unavailable", "ServiceUnavailable", "InternalFailure", "SomethingNew"], Verdict::Unknown)]
    #[case(&["RequestLimitExceeded", "Throttling", "EC2ThrottledException"], Verdict::Throttled)]
    #[case(&["InsufficientInstanceCapacity", "InsufficientFreeAddressesInSubnet", "Unsupported", "VolumeTypeNotAvailableInZone"], Verdict::NoCapacity)]
    #[case(&["VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded", "VolumeLimitExceeded", "PendingVerification", "SecurityGroupsPerInstanceLimitExceeded", "SecurityGroupsPerInterfaceLimitExceeded"], Verdict::Quota)]
    #[case(&["UnauthorizedOperation", "AuthFailure", "AccessDenied", "OptInRequired", "Blocked", "ExpiredToken", "InvalidClientTokenId", "RequestExpired", "AnotherAccount"], Verdict::Denied)]
    #[case(&["InvalidAMIID.Malformed", "InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidSubnetID.Malformed", "InvalidGroup.Duplicate", "InvalidKeyPair.NotFound", "InvalidParameterValue", "InvalidParameterCombination", "InvalidBlockDeviceMapping", "UnsupportedOperation", "InvalidUserData.Malformed", "MissingParameter", "TagPolicyViolation"], Verdict::Refused)]
    #[case(&["InvalidSubnetID.NotFound", "InvalidGroup.NotFound", "InvalidSecurityGroupID.NotFound"], Verdict::Young)]
    #[case(&["IdempotentParameterMismatch"], Verdict::Mismatch)]
    #[case(&["IdempotentInstanceTerminated"], Verdict::Spent)]
    fn each_code_has_its_verdict(#[case] codes: &[&str], #[case] expected: Verdict) {
        for code in codes {
            let error = CloudError {
                action: "RunInstances",
                code: Some((*code).to_owned()),
                declined: false,
                message: String::new(),
            };
            assert_eq!(verdict(&error), expected, "{code}");
        }
    }

    #[rstest]
    #[case(
        "Value (mysql) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
        Verdict::Young
    )]
    #[case(
        "Value (mysql) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN",
        Verdict::Young
    )]
    #[case("Value (t0.huge) for parameter instanceType is invalid.", Verdict::Refused)]
    fn of_values_that_are_refused_only_a_profile_may_be_young(
        #[case] message: &str,
        #[case] expected: Verdict,
    ) {
        let error = CloudError {
            action: "RunInstances",
            code: Some("InvalidParameterValue".into()),
            declined: true,
            message: message.into(),
        };
        assert_eq!(verdict(&error), expected);
    }

    #[test]
    fn no_answer_is_no_verdict() {
        let error = CloudError {
            action: "RunInstances",
            code: None,
            declined: false,
            message: "connection reset".into(),
        };
        assert_eq!(verdict(&error), Verdict::Unknown);
        assert!(!Verdict::Unknown.is_certain());
    }
}
