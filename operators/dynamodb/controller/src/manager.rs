//! The operator's process: flags, and the controllers that they configure.

use clap::Args;
use reconcile::{
    Controller, Manager,
    cli::CommonArgs,
    clock::Clock,
    manager::{Options, shutdown_signal},
    task::Tasks,
    telemetry,
};

use crate::{
    connection::Connector,
    controllers::ddbctldpjob::{Jobs, PROGRESS_INTERVAL, Runner},
    credentials::IdentityNamespaces,
    endpoint::AllowedEndpoints,
    policy::{Policy, TablePatterns},
};

/// The operator's name: user agent, and default name of its lease.
pub const NAME: &str = "dynamoctl-dp-operator";
/// The CRD that it waits for.
pub const CRD: &str = "ddbctldpjobs.dynamoctl.dp.operators.sanjivmadhavan.io";

/// Flags of the operator.
#[derive(Args, Clone, Debug)]
pub struct ManagerArgs {
    /// Flags of every operator.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Endpoints that jobs may name, separated by commas: `aws`, or `scheme://host[:port]`, where the host may begin
    /// with `*.`.
    #[arg(
        long,
        env = "OPERATOR_ALLOWED_ENDPOINTS",
        value_name = "ENDPOINTS",
        default_value = "aws"
    )]
    pub allowed_endpoints: AllowedEndpoints,

    /// Namespaces whose jobs may use the operator's own AWS identity, separated by commas; `*` for all, empty for none.
    #[arg(
        long,
        env = "OPERATOR_AWS_IDENTITY_NAMESPACES",
        value_name = "NAMESPACES",
        default_value = "*"
    )]
    pub aws_identity_namespaces: IdentityNamespaces,

    /// Tables that the operator's own AWS identity may touch, separated by commas; `*` stands for any characters.
    #[arg(
        long,
        env = "OPERATOR_ALLOWED_TABLES",
        value_name = "TABLES",
        default_value = "*"
    )]
    pub allowed_tables: TablePatterns,

    /// How many jobs are looked at at once. Deletions do not count: they run beside the passes.
    #[arg(
        long,
        env = "OPERATOR_DDBCTLDPJOB_CONCURRENCY",
        value_name = "NUMBER",
        default_value_t = 10
    )]
    pub ddbctldpjob_concurrency: usize,
}

impl ManagerArgs {
    /// What administrators allow.
    pub fn policy(&self) -> Policy {
        Policy {
            endpoints: self.allowed_endpoints.clone(),
            identity: self.aws_identity_namespaces.clone(),
            tables: self.allowed_tables.clone(),
            ..Policy::default()
        }
    }
}

/// Runs the operator until it is told to stop.
///
/// # Errors
/// Whatever keeps it from running; the process must end then.
pub async fn run(args: ManagerArgs) -> anyhow::Result<()> {
    telemetry::init(&args.common.log_filter(), args.common.log_format())?;
    let config = args.common.kube_config().await?;
    let options = Options::from_args(NAME, &args.common, &config);
    let manager = assemble(options, config, args.policy(), args.ddbctldpjob_concurrency);
    Ok(manager.run(shutdown_signal()?).await?)
}

/// The manager with its one controller.
pub fn assemble(mut options: Options, config: kube::Config, policy: Policy, concurrency: usize) -> Manager {
    options.crds = vec![CRD.to_owned()];
    let clock: Clock = options.clock.clone();
    let manager = Manager::new(options, config);
    let tasks = Tasks::new(clock.clone(), PROGRESS_INTERVAL);
    let runner = Runner::new(
        Connector::resolving(policy.names.clone(), policy.request_timeout),
        clock,
        manager.metrics(),
    );
    let jobs = Jobs::new(policy, runner, tasks.clone());
    manager.register(Controller::new(jobs).concurrency(concurrency).supervise(&tasks))
}
