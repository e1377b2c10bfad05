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
        ("KMSDisabledException", Reason::TableUnavailable, Class::Denied),
        (
            "InaccessibleEncryptionCredentialsException",
            Reason::TableUnavailable,
            Class::Denied,
        ),
        ("TableInUseException", Reason::TableUnavailable, Class::Waiting),
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

#[test]
fn a_source_of_credentials_that_fails_for_now_is_not_taken_for_missing_credentials() {
    let of = |error: CredentialsError| {
        let error = SdkError::<QueryError, HttpResponse>::construction_failure(error);
        classify("Query", &error)
    };
    let sts = || std::io::Error::other("STS: 503 Service Unavailable");
    for failing in [
        CredentialsError::provider_error(sts()),
        CredentialsError::provider_timed_out(std::time::Duration::from_secs(5)),
        CredentialsError::unhandled(sts()),
    ] {
        let problem = of(failing);
        assert_eq!(problem.kind, Kind::CredentialSource);
        assert!(!problem.is_passing(), "rounds would count it against the job");
        let failure = problem.into_failure("Orders");
        assert_eq!(
            (failure.class, failure.reason),
            (Class::Transient, Reason::Retrying)
        );
        assert!(!failure.message.contains("there are no"), "{}", failure.message);
    }
    for missing in [
        CredentialsError::not_loaded_no_source(),
        CredentialsError::invalid_configuration(sts()),
    ] {
        assert_eq!(of(missing).kind, Kind::NoCredentials);
    }
}
