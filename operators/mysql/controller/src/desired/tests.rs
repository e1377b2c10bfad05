use mysql_api::cluster::CloudConfig;
use rstest::rstest;

use super::*;

/// The spec of the original's sample with this many members.
pub(crate) fn spec(replicas: i32) -> MySQLClusterSpec {
    MySQLClusterSpec {
        replicas,
        geo_affinity: Some("nairobi".into()),
        aws: Some(Aws {
            ami: "ami-0c02fb55956c7d316".into(),
            instance_type: Some("t3.micro".into()),
            subnet_id: "subnet-12345678".into(),
            security_group_ids: vec!["sg-12345678".into()],
            ..Aws::default()
        }),
        ..MySQLClusterSpec::default()
    }
}

pub(crate) const OWNER: Owner<'_> = Owner {
    namespace: "ns",
    name: "c",
    uid: "uid-1",
};

pub(crate) fn desired(replicas: i32) -> Desired {
    Desired::resolve(OWNER, &spec(replicas), &Settings::default()).unwrap()
}

#[test]
fn the_sample_resolves_with_the_operators_region_and_safe_defaults() {
    let desired = desired(2);
    assert_eq!(desired.region, "us-east-1");
    assert!(desired.template.metadata_tokens_required);
    assert_eq!(desired.template.metadata_hop_limit, 1);
    assert_eq!(
        (
            desired.template.volume.kind.as_str(),
            desired.template.volume.size_gib
        ),
        ("gp3", 20)
    );
    assert!(desired.template.volume.encrypted);
}

#[rstest]
#[case(Some("t3.small"), Some("m5.large"), Some("t3.small"))]
#[case(None, Some("m5.large"), Some("m5.large"))]
#[case(None, None, None)]
fn the_instance_class_is_the_type_of_members_where_aws_names_none(
    #[case] instance_type: Option<&str>,
    #[case] class: Option<&str>,
    #[case] expected: Option<&str>,
) {
    let mut spec = spec(1);
    spec.aws.as_mut().unwrap().instance_type = instance_type.map(str::to_owned);
    spec.cloud_config = Some(CloudConfig {
        instance_class: class.map(str::to_owned),
        ..CloudConfig::default()
    });
    let desired = Desired::resolve(OWNER, &spec, &Settings::default()).ok();
    let resolved = desired.map(|desired| desired.template.instance_type);
    assert_eq!(resolved.as_deref(), expected);
}

#[test]
fn what_means_nothing_on_ec2_is_not_taken_in_silence() {
    for field in ["cpuRequest", "memoryRequest"] {
        let mut spec = spec(1);
        spec.cloud_config = serde_json::from_value(serde_json::json!({field: "4"})).unwrap();
        let error = Desired::resolve(OWNER, &spec, &Settings::default()).unwrap_err();
        assert_eq!(error.reason, Reason::SpecInvalid);
        assert!(error.message.contains(field), "{}", error.message);
    }
}

#[test]
fn a_cluster_without_aws_says_what_to_do() {
    let mut spec = MySQLClusterSpec { aws: None, ..spec(1) };
    for provider in ["aws", "gcp"] {
        spec.cloud_config = Some(CloudConfig {
            provider: Some(provider.into()),
            ..CloudConfig::default()
        });
        let error = Desired::resolve(OWNER, &spec, &Settings::default()).unwrap_err();
        assert_eq!(error.reason, Reason::BackendUnavailable, "{provider}");
    }
}

#[rstest]
#[case("gp3", "50Gi", None, Some(("gp3", 50)))]
#[case("nairobi-local-fast", "1Ti", None, Some(("gp3", 1024)))]
#[case("io2", "50Gi", Some(1000), Some(("io2", 50)))]
#[case("io2", "50Gi", None, None)]
#[case("gp2", "50Gi", Some(1000), None)]
#[case("fast", "50Gi", None, None)]
#[case("gp3", "65Ti", None, None)]
#[case("gp3", "9999999999Ti", None, None)]
fn a_volume_is_what_ebs_has(
    #[case] class: &str,
    #[case] size: &str,
    #[case] iops: Option<i64>,
    #[case] expected: Option<(&str, i32)>,
) {
    let storage = Storage {
        size: size.into(),
        storage_class: Some(class.into()),
        iops,
        encrypted: true,
    };
    let volume = volume(Some(&storage), &Settings::default()).ok();
    assert_eq!(
        volume
            .as_ref()
            .map(|volume| (volume.kind.as_str(), volume.size_gib)),
        expected
    );
}

#[rstest]
#[case("max_connections", true)]
#[case("max-connections", true)]
#[case("loose_something", true)]
#[case("server_id", false)]
#[case("server-id", false)]
#[case("loose-server-id", false)]
#[case("loose_skip_log_bin", false)]
#[case("skip-log-bin", false)]
#[case("super_read", false)]
#[case("rpl_semi_sync_source_wait_no_replica", false)]
#[case("loose-rpl-semi-sync-source-enabled", false)]
#[case("replicate-wild-ignore-table", false)]
#[case("binlog_ignore_db", false)]
#[case("skip_grant_tables", false)]
#[case("skip-slave-start", false)]
#[case("innodb_data_home_dir", false)]
#[case("relay_log", false)]
#[case("relay-log-index", false)]
#[case("relay_log_space_limit", true)]
#[case("innodb_log_file_size", true)]
#[case("Server_id", false)]
#[case("x\n[client]", false)]
fn locked_options_are_refused_in_every_spelling(#[case] name: &str, #[case] accepted: bool) {
    let given = BTreeMap::from([(name.to_owned(), "1".to_owned())]);
    assert_eq!(options(&given, Durability::Available).is_ok(), accepted, "{name}");
}

#[rstest]
#[case("sync_relay_log", "10000", false)]
#[case("loose-sync-relay-log", "0", false)]
#[case("sync_relay_log", "1", true)]
#[case("sync_relay_log_info", "10000", true)]
fn nothing_is_acknowledged_that_is_not_on_disk_where_nothing_may_be_lost(
    #[case] name: &str,
    #[case] value: &str,
    #[case] accepted: bool,
) {
    let given = BTreeMap::from([(name.to_owned(), value.to_owned())]);
    assert_eq!(options(&given, Durability::Lossless).is_ok(), accepted, "{name}");
    assert!(options(&given, Durability::Available).is_ok());
}

#[test]
fn a_value_cannot_smuggle_a_line_in() {
    // YAML ends a line at these, too.
    for end in [
        "\n", "\r", "\u{85}", "\u{2028}", "\u{2029}", "\u{feff}", "\u{ffff}",
    ] {
        let given = BTreeMap::from([("max_connections".to_owned(), format!("1{end}runcmd: [x]"))]);
        assert!(options(&given, Durability::Available).is_err(), "{end:?}");
    }
    let given = BTreeMap::from([("max_connections".to_owned(), "1\nserver_id=7".to_owned())]);
    assert_eq!(
        options(&given, Durability::Available).unwrap_err().reason,
        Reason::OptionsInvalid
    );
}

#[test]
fn an_unknown_place_names_the_known_ones() {
    let spec = MySQLClusterSpec {
        geo_affinity: Some("atlantis".into()),
        ..spec(1)
    };
    let error = Desired::resolve(OWNER, &spec, &Settings::default()).unwrap_err();
    assert!(error.message.contains("nairobi"), "{error}");
}

#[test]
fn options_that_user_data_has_no_room_for_are_refused() {
    let given = (0..40)
        .map(|n| (format!("option_{n}"), "v".repeat(100)))
        .collect();
    assert_eq!(
        options(&given, Durability::Available).unwrap_err().reason,
        Reason::OptionsInvalid
    );
}
