//! What users type, and what it means.

use clap::CommandFactory;
use rstest::rstest;

use super::*;

#[derive(Debug, Parser)]
struct Operator {
    #[command(flatten)]
    common: CommonArgs,
    /// A short flag, to see that clusters survive.
    #[arg(short, long)]
    yes: bool,
    /// A flag that makes a list.
    #[arg(long = "place", env = "OPERATOR_PLACES")]
    places: Vec<String>,
}

fn parsed(arguments: &[&str]) -> CommonArgs {
    parse_from::<Operator>(["manager"].iter().chain(arguments))
        .map_err(|error| error.to_string())
        .unwrap()
        .common
}

fn refused(arguments: &[&str]) -> String {
    parse_from::<Operator>(["manager"].iter().chain(arguments))
        .unwrap_err()
        .to_string()
}

#[test]
fn the_flags_are_consistent() {
    Operator::command().debug_assert();
}

#[test]
fn every_flag_that_is_shown_has_an_environment_variable() {
    let command = Operator::command();
    let without = command
        .get_arguments()
        .filter(|flag| flag.get_env().is_none() && !flag.is_hide_set());
    let names: Vec<_> = without.filter_map(clap::Arg::get_long).collect();
    assert_eq!(names, ["yes"]);
}

#[test]
fn the_defaults_are_those_of_cluster_api_and_controller_runtime() {
    let args = parsed(&[]);
    assert!(!args.leader_elect);
    assert_eq!(args.timing(), Timing::DEFAULT);
    assert_eq!(args.metrics_bind_address, BindAddress::Everywhere(8080));
    assert_eq!(args.health_probe_bind_address, BindAddress::Everywhere(8081));
    assert_eq!(args.namespaces(), Vec::<String>::new());
    assert_eq!(args.sync_period, Duration::from_mins(10));
    assert!((args.kube_api_qps - 100.0).abs() < f32::EPSILON);
    assert_eq!(args.kube_api_burst, 200);
    assert_eq!(args.graceful_shutdown_timeout, Duration::from_secs(30));
    assert_eq!(args.log_format(), LogFormat::Json);
    assert_eq!(args.election("operator", "system"), None);
}

#[rstest]
#[case(&["--leader-elect"], true)]
#[case(&["--leader-elect=true"], true)]
#[case(&["-leader-elect=T"], true)]
#[case(&["--leader-elect=false"], false)]
fn booleans_are_read_as_go_reads_them(#[case] arguments: &[&str], #[case] expected: bool) {
    assert_eq!(parsed(arguments).leader_elect, expected);
}

#[test]
fn an_election_is_named_by_its_flags() {
    let args = parsed(&[
        "--leader-elect",
        "--leader-election-id=lease",
        "--leader-election-namespace",
        "ns",
    ]);
    let config = args.election("operator", "system").unwrap();
    assert_eq!(
        (config.lease.as_str(), config.namespace.as_str()),
        ("lease", "ns")
    );
    let config = parsed(&["--leader-elect"])
        .election("operator", "system")
        .unwrap();
    assert_eq!(
        (config.lease.as_str(), config.namespace.as_str()),
        ("operator", "system")
    );
}

#[test]
fn single_durations_override_the_preset() {
    assert_eq!(parsed(&["--leader-elect-preset=fast"]).timing(), Timing::FAST);
    let timing = parsed(&[
        "--leader-elect-preset",
        "tolerant",
        "--leader-elect-retry-period",
        "1m30s",
    ])
    .timing();
    assert_eq!(
        timing,
        Timing {
            retry_period: Duration::from_secs(90),
            ..Timing::TOLERANT
        }
    );
}

#[rstest]
#[case(&["-zap-log-level=debug"], "debug")]
#[case(&["--zap-log-level", "info"], "info")]
#[case(&["-zap-log-level", "panic"], "error")]
#[case(&["--zap-log-level=1"], "debug")]
#[case(&["--zap-log-level=5"], "trace")]
#[case(&["--zap-devel"], "debug")]
#[case(&["--zap-devel", "--log-level=warn"], "warn")]
#[case(&["--log-level=info,kube_client=debug", "--zap-log-level=5"], "info,kube_client=debug")]
fn levels_of_zap_are_mapped_and_ours_win(#[case] arguments: &[&str], #[case] filter: &str) {
    assert_eq!(parsed(arguments).log_filter(), filter);
}

#[rstest]
#[case(&["--zap-encoder=console"], LogFormat::Text)]
#[case(&["-zap-encoder=json"], LogFormat::Json)]
#[case(&["--zap-devel=true"], LogFormat::Text)]
#[case(&["--zap-devel", "--log-format=json"], LogFormat::Json)]
#[case(&["-zap-stacktrace-level=error", "-zap-time-encoding=iso8601"], LogFormat::Json)]
fn encoders_of_zap_are_mapped(#[case] arguments: &[&str], #[case] format: LogFormat) {
    assert_eq!(parsed(arguments).log_format(), format);
}

#[rstest]
#[case("15s", Duration::from_secs(15))]
#[case("500ms", Duration::from_millis(500))]
#[case("1m30s", Duration::from_secs(90))]
#[case("1.5h", Duration::from_mins(90))]
#[case("10us", Duration::from_micros(10))]
#[case("7ns", Duration::from_nanos(7))]
#[case("0", Duration::ZERO)]
fn durations_are_read_as_go_reads_them(#[case] text: &str, #[case] expected: Duration) {
    assert_eq!(go::parse_duration(text), Ok(expected));
}

#[rstest]
fn nonsensical_durations_are_refused(
    #[values("", "15", "-1s", "s", "1d", "1..5s", "10s5", "9e99s")] text: &str,
) {
    assert!(go::parse_duration(text).unwrap_err().contains("1m30s"));
}

#[rstest]
#[case(&["--enable-http2"], "HTTP/2 is not served")]
#[case(&["--metrics-bind-address=8080"], "write `:8080`")]
#[case(&["--sync-period=10"], "1m30s")]
#[case(&["--kube-api-burst=0"], "0 is not in 1..")]
#[case(&["--log-level=loud"], "is not understood")]
#[case(&["--zap-log-level=loud"], "verbosity")]
#[case(&["--namespace=A B"], "\"A B\" is no name of a namespace")]
#[case(&["--namespace=a,b c"], "separate several by commas")]
#[case(&["--namespace=*"], "leave it out for all")]
#[case(&["--namespace=-a"], "is no name")]
fn what_cannot_work_is_refused_with_what_to_write(#[case] arguments: &[&str], #[case] message: &str) {
    let error = refused(arguments);
    assert!(error.contains(message), "{error}");
}

#[test]
fn namespaces_are_separated_by_commas() {
    assert_eq!(parsed(&["--namespace=a, b,"]).namespaces(), ["a", "b"]);
    assert_eq!(parsed(&["--namespace="]).namespaces(), Vec::<String>::new());
}

#[test]
fn of_a_flag_that_is_given_twice_the_last_counts_and_lists_are_added_up() {
    let given = [
        "manager",
        "--leader-elect",
        "--sync-period=10m",
        "--namespace=a",
        "--log-level=info",
        "--place=a",
        "-yes",
        // What a chart's `extraArgs` add.
        "--leader-elect=false",
        "-sync-period=1h",
        "--namespace",
        "b,c",
        "--log-level=debug",
        "--place=b",
        "-y",
    ];
    let Operator { common, yes, places } = parse_from(given).map_err(|error| error.to_string()).unwrap();
    assert!(!common.leader_elect);
    assert_eq!(common.sync_period, Duration::from_hours(1));
    assert_eq!(common.namespaces(), ["b", "c"]);
    assert_eq!(common.log_filter(), "debug");
    assert_eq!(places, ["a", "b"]);
    assert!(yes);
}

#[derive(Debug, Parser)]
struct Tool {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Manager(Box<Operator>),
    Delete {
        #[arg(long)]
        partition: String,
    },
}

#[test]
fn a_command_for_people_refuses_what_is_given_twice_beside_an_operator_that_takes_it() {
    let parse = |line: &str| parse_from::<Tool>(line.split(' '));
    let operator = parse("tool manager --sync-period=1h --sync-period=2h")
        .unwrap()
        .command;
    assert!(matches!(operator, Command::Manager(of) if of.common.sync_period == Duration::from_hours(2)));
    let refused = parse("tool delete --partition=a --partition=b").unwrap_err();
    assert_eq!(
        refused.kind(),
        clap::error::ErrorKind::ArgumentConflict,
        "{refused}"
    );
    assert!(matches!(
        parse("tool delete --partition=b").unwrap().command,
        Command::Delete { partition } if partition == "b"
    ));
}

#[test]
fn only_names_of_flags_get_a_second_dash() {
    let doubled = |arguments: &[&str]| {
        go::double_dashed(&Operator::command(), arguments.iter().map(OsString::from))
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        doubled(&["-namespace=a", "-y", "-x", "a-b"]),
        ["--namespace=a", "-y", "-x", "a-b"]
    );
    assert_eq!(doubled(&["--", "-namespace=a"]), ["--", "-namespace=a"]);
}

#[tokio::test]
async fn a_missing_kubeconfig_is_named() {
    let error = parsed(&["--kubeconfig=/nonexistent/config"])
        .kube_config()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/nonexistent/config"), "{error}");
}
