use rstest::rstest;

use super::*;

#[rstest]
#[case::the_seeds_garbage("http://aws-dynamhttp://dynamodb.local:8000")]
#[case::user_info("http://me:secret@dynamodb.local:8000")]
#[case::a_path("http://dynamodb.local:8000/shell")]
#[case::a_query("http://dynamodb.local:8000?x=1")]
#[case::another_scheme("file:///etc/passwd")]
#[case::no_scheme("dynamodb.local:8000")]
#[case::aws_in_clear("http://dynamodb.us-east-1.amazonaws.com")]
fn what_is_not_a_plain_url_is_invalid(#[case] text: &str) {
    let error = Endpoint::parse(text).unwrap_err();
    assert!(matches!(error, EndpointError::Invalid { .. }), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[rstest]
#[case("http://169.254.169.254")]
#[case("http://[fd00:ec2::254]:80")]
#[case("http://[fd00:ec2::23]")]
#[case("http://168.63.129.16")]
#[case("http://0xa9fea9fe")]
#[case("http://2852039166")]
#[case("http://[::ffff:169.254.169.254]")]
#[case("http://0.0.0.0:8000")]
fn metadata_addresses_are_refused_in_every_spelling(#[case] text: &str) {
    let error = Endpoint::parse(text).unwrap_err();
    assert!(matches!(error, EndpointError::ForbiddenAddress { .. }), "{error}");
}

#[test]
fn only_aws_is_allowed_unless_the_administrator_says_so() {
    let default = AllowedEndpoints::default();
    let local = Endpoint::parse("http://dynamodb.local:8000").unwrap();
    assert!(default.check(&Endpoint::Aws, "us-east-1").is_ok());
    assert!(
        default
            .check(
                &Endpoint::parse("https://dynamodb.eu-west-1.amazonaws.com").unwrap(),
                "eu-west-1"
            )
            .is_ok()
    );
    let refusal = default.check(&local, "us-east-1").unwrap_err().to_string();
    assert!(
        refusal.contains(FLAG) && refusal.contains(CHART_VALUE),
        "{refusal}"
    );
    let allowed: AllowedEndpoints = "http://dynamodb.local:8000, http://*.svc.cluster.local:8000"
        .parse()
        .unwrap();
    assert!(allowed.check(&local, "us-east-1").is_ok());
    assert!(
        allowed.check(&Endpoint::Aws, "us-east-1").is_err(),
        "a list without `aws` forbids it"
    );
    let permits = |url: &str| allowed.check(&Endpoint::parse(url).unwrap(), "us-east-1").is_ok();
    assert!(permits("http://db.default.svc.cluster.local:8000"));
    assert!(!permits("http://svc.cluster.local:8000") && !permits("http://evilsvc.cluster.local:8000"));
    assert!(!permits("http://dynamodb.local:8001") && !permits("https://dynamodb.local:8000"));
}

#[test]
fn a_lookalike_of_aws_is_not_aws() {
    for url in [
        "https://dynamodb.amazonaws.com.evil.example",
        "https://evilamazonaws.com",
        "https://abc123.execute-api.us-east-1.amazonaws.com",
        "https://dynamodb.s3.us-east-1.amazonaws.com",
        "https://dynamodb.s3.amazonaws.com",
        "https://dynamodb-fips.s3.amazonaws.com",
        "https://dynamodb.s3-website-us-east-1.amazonaws.com",
        "https://123456789012.ddb.s3.amazonaws.com",
        "https://vpce-1.dynamodb.s3.vpce.amazonaws.com",
        "https://vpce-1.vpce-svc-2.us-east-1.vpce.amazonaws.com",
    ] {
        assert!(!Endpoint::parse(url).unwrap().is_aws(), "{url}");
    }
}

#[test]
fn bad_patterns_are_refused() {
    for text in ["dynamodb.local", "http://", "http://a/b", "ftp://a"] {
        assert!(text.parse::<AllowedEndpoints>().is_err(), "{text}");
    }
}

#[test]
fn aws_in_a_region_is_a_host_of_that_region_and_never_what_the_region_says() {
    for (region, url) in [
        ("us-east-1", "https://dynamodb.us-east-1.amazonaws.com"),
        ("cn-north-1", "https://dynamodb.cn-north-1.amazonaws.com.cn"),
        ("eusc-de-east-1", "https://dynamodb.eusc-de-east-1.amazonaws.eu"),
    ] {
        Endpoint::Aws.check_region(region).unwrap();
        assert_eq!(Endpoint::Aws.url_in(region), url);
        assert!(Endpoint::parse(url).unwrap().is_aws(), "{url}");
    }
    let by_url = Endpoint::parse("https://dynamodb.us-east-1.amazonaws.com").unwrap();
    for region in ["local", "localhost", "s3", "evil.example/#"] {
        assert!(Endpoint::Aws.check_region(region).is_err(), "{region}");
        assert!(by_url.check_region(region).is_err(), "{region}");
    }
    let local = Endpoint::parse("http://dynamodb.local:8000").unwrap();
    local.check_region("local").unwrap();
    assert_eq!(local.url_in("local"), "http://dynamodb.local:8000");
    local.check_region("evil.example/#").unwrap_err();
}

#[test]
fn a_list_of_hosts_of_aws_allows_these_and_jobs_without_a_url_in_their_regions() {
    let allowed: AllowedEndpoints = "https://dynamodb.eu-west-1.amazonaws.com".parse().unwrap();
    let url = |region: &str| Endpoint::parse(&Endpoint::Aws.url_in(region)).unwrap();
    for endpoint in [Endpoint::Aws, url("eu-west-1")] {
        allowed.check(&endpoint, "eu-west-1").unwrap();
    }
    for endpoint in [Endpoint::Aws, url("us-east-1")] {
        let refusal = allowed.check(&endpoint, "us-east-1").unwrap_err().to_string();
        assert!(refusal.contains("dynamodb.us-east-1.amazonaws.com"), "{refusal}");
    }
}
