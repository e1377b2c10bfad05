use rstest::rstest;
use serde_json::{Value, json};

use super::*;

const OWNER: Owner<'_> = Owner {
    namespace: "ns",
    name: "m",
    uid: "u",
};

fn with(changes: &Value) -> Result<Desired, SpecError> {
    let mut spec = json!({"image": "mysql:8.4", "database": "shop", "storage_size": "1Gi"});
    for (key, value) in changes.as_object().unwrap() {
        spec[key] = value.clone();
    }
    Desired::resolve(OWNER, &serde_json::from_value(spec).unwrap())
}

#[track_caller]
fn refused(changes: &Value) -> SpecError {
    with(changes).err().expect("must be refused")
}

#[test]
fn the_sample_means_what_it_always_meant() {
    let spec = json!({
        "image": "mysql:5.7", "database": "otus-database", "password": "otuspassword", "storage_size": "1Gi",
    });
    let desired = Desired::resolve(OWNER, &serde_json::from_value(spec).unwrap()).unwrap();
    assert!(desired.password == PasswordSource::Clear("otuspassword".into()));
    assert_eq!(desired.data.bytes, 1 << 30);
    assert_eq!(desired.backups.size, "1Gi");
    assert_eq!(desired.service, ServiceType::Headless);
    assert_eq!(desired.version, Version::V5_7);
    assert_eq!(desired.keep, 3);
    assert!(desired.schedule.is_none());
}

#[rstest]
#[case("shop", true)]
#[case("it's \"quoted\"", true)]
#[case("otus-database", true)]
#[case("a`b", true)]
#[case("--all-databases", true)]
#[case("two\nlines", false)]
#[case("padded ", false)]
#[case("🔑", false)]
#[case("MySQL", false)]
#[case("sys", false)]
#[case("", false)]
fn a_database_is_one_that_can_be_made_dumped_and_loaded(#[case] name: &str, #[case] fits: bool) {
    match with(&json!({"database": name})) {
        Ok(_) => assert!(fits),
        Err(error) => assert!(!fits && error.reason == Reason::DatabaseInvalid, "{error}"),
    }
}

#[rstest]
#[case("0")]
#[case("nonsense")]
#[case("0.0Gi")]
fn a_size_that_is_none_is_refused(#[case] size: &str) {
    let error = refused(&json!({"storage_size": size}));
    assert_eq!(error.reason, Reason::SizeInvalid);
    assert!(error.message.contains(size), "{error}");
    let backup = json!({"backup": {"storage": {"size": size}}});
    assert_eq!(refused(&backup).reason, Reason::SizeInvalid);
}

#[rstest]
#[case("datadir", "/tmp")]
#[case("loose-datadir", "/tmp")]
#[case("skip-networking", "ON")]
#[case("skip_grant_tables", "ON")]
#[case("init-file", "/tmp/x")]
#[case("init_fil", "/tmp/x")]
#[case("port", "3307")]
#[case("max connections", "1")]
#[case("Max_Connections", "1")]
#[case("max_connections", "1\n[client]")]
fn options_that_the_pods_depend_on_are_refused_in_every_spelling(#[case] name: &str, #[case] value: &str) {
    let error = refused(&json!({"config": {name: value}}));
    assert_eq!(error.reason, Reason::OptionsInvalid, "{error}");
}

#[rstest]
#[case("slow_query_log_file", "/var/lib/mysql/slow.log")]
#[case("general-log-file", "/tmp/general.log")]
#[case("log_bin", "/var/lib/mysql/bin")]
#[case("innodb_data_home_dir", "/var/lib/mysql")]
#[case("innodb_undo_directory", "../undo")]
#[case("innodb_data_file_path", "ibdata1:12M;/var/lib/mysql/ibdata2:12M:autoextend")]
#[case("loose_log_bin", "/x")]
#[case("tmpdir", "/var/lib/mysql/tmp")]
#[case("tmpdir", "/tmp/../var/lib/mysql")]
fn a_file_elsewhere_than_in_the_data_folder_is_refused(#[case] name: &str, #[case] value: &str) {
    let error = refused(&json!({"config": {name: value}}));
    assert_eq!(error.reason, Reason::OptionsInvalid, "{error}");
    assert!(
        error.message.contains(name) && error.message.contains("data folder"),
        "{error}"
    );
}

#[rstest]
#[case("slow_query_log_file", "slow.log")]
#[case("innodb_data_file_path", "ibdata1:12M:autoextend")]
#[case("log_bin", "binlog")]
#[case("tmpdir", "/tmp")]
#[case("log_error", "/dev/stderr")]
#[case("init_connect", "SET NAMES utf8mb4 /* x */")]
#[case("default_time_zone", "+00:00")]
fn names_of_files_and_what_passes_are_taken(#[case] name: &str, #[case] value: &str) {
    assert_eq!(
        with(&json!({"config": {name: value}})).unwrap().options[name],
        value
    );
}

#[test]
fn other_options_are_taken_once() {
    let desired =
        with(&json!({"config": {"max-connections": "500", "character_set_server": "utf8mb4"}})).unwrap();
    assert_eq!(desired.options["max_connections"], "500");
    let twice = json!({"config": {"max-connections": "500", "max_connections": "5"}});
    assert_eq!(refused(&twice).reason, Reason::OptionsInvalid);
}

#[test]
fn a_schedule_that_cannot_be_read_stops_nothing_else() {
    let desired = with(&json!({"backup": {"schedule": "every day"}})).unwrap();
    assert!(desired.schedule.unwrap().is_err());
}

#[test]
fn amounts_that_are_none_are_refused() {
    let error = refused(&json!({"resources": {"limits": {"memory": "lots"}}}));
    assert_eq!(error.reason, Reason::SizeInvalid);
    assert!(error.message.contains("resources.limits.memory"), "{error}");
}
