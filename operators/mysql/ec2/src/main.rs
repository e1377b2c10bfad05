//! `mysql-operator`: the process.

use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use mysql_controller::{
    act::Operator,
    controllers::{
        mysql,
        mysqlcluster::{self, Clusters},
    },
    desired::{Named, Settings},
    limiter::Limited,
    lookout::{self, Lookout},
    metrics::ClusterMetrics,
    orphans::{Policy, Sweeper},
    reader::Reader,
    sql::Sql,
};
use mysql_ec2::Ec2;
use reconcile::{
    Manager,
    cli::{self, CommonArgs},
    manager::{self, Options},
    telemetry,
};

/// Runs MySQL for Kubernetes: clusters of servers on EC2
#[derive(Parser)]
#[command(name = "mysql-operator", version)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// Region of clusters that name none, by themselves or by their place
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    aws_region: String,
    /// A place that `spec.geoAffinity` may name, with its region, as `london=eu-west-2`; may be repeated. `nairobi` is
    /// there from the beginning, and is in the operator's own region
    #[arg(long = "place", value_name = "NAME=REGION", value_parser = Named::place)]
    places: Vec<Named>,
    /// A name that `spec.storage.storageClass` may have on EC2, with its EBS volume type, as `fast=io2`; may be
    /// repeated. `nairobi-local-fast`, which is gp3, is there from the beginning. Members of clusters that use a name
    /// are replaced, one at a time, when it comes to stand for another type
    #[arg(long = "storage-class", value_name = "NAME=TYPE", value_parser = Named::storage_class)]
    storage_classes: Vec<Named>,
    /// Address of the EC2 API in place of AWS's own, for tests
    #[arg(long, env = "AWS_ENDPOINT_URL_EC2")]
    aws_endpoint_url: Option<String>,
    /// Name of this operator in its instances' tags: two operators in one account need two
    #[arg(long, env = "OPERATOR_ID", default_value = "mysql-operator")]
    operator_id: String,
    /// What to do about instances of this operator whose MySQLCluster does not exist: report them, or also terminate
    /// those that were to end with their cluster
    #[arg(long, value_enum, default_value_t)]
    gc_orphans: Orphans,
    /// How many clusters are worked on at a time
    #[arg(long, default_value_t = 32)]
    mysqlcluster_concurrency: usize,
    /// How many MySQLs are worked on at a time
    #[arg(long, default_value_t = 4)]
    mysql_concurrency: usize,
}

/// What to do about orphans.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Orphans {
    #[default]
    Report,
    Delete,
}

impl From<Orphans> for Policy {
    fn from(orphans: Orphans) -> Self {
        match orphans {
            Orphans::Report => Self::Report,
            Orphans::Delete => Self::Delete,
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    cli::install_crypto_provider();
    let args: Args = cli::parse();
    telemetry::init(&args.common.log_filter(), args.common.log_format())?;
    let config = args
        .common
        .kube_config()
        .await
        .context("failed to find the cluster")?;
    let mut options = Options::from_args("mysql-operator", &args.common, &config);
    options.crds = vec![
        "mysqlclusters.mysql.alx.ke".to_owned(),
        "mysqls.otus.homework".to_owned(),
    ];
    let settings = Settings {
        operator_id: args.operator_id,
        region: args.aws_region,
        ..Settings::default()
    }
    .with(args.places, args.storage_classes);
    let ec2 = Ec2::from_environment(args.aws_endpoint_url.as_deref(), &settings.region).await;
    let cloud = Arc::new(Limited::new(ec2, options.clock.clone()));
    let operator = Operator {
        reader: Reader::new(cloud.clone(), &settings.operator_id, options.clock.clone()),
        cloud,
        operator_id: settings.operator_id.clone(),
        clock: options.clock.clone(),
    };
    let manager = Manager::new(options, config);
    let metrics = ClusterMetrics::new(manager.metrics().registry())?;
    let sweeper = Sweeper::new(
        &operator,
        settings.regions(),
        args.gc_orphans.into(),
        metrics.clone(),
    );
    let (lookout, changes) = Lookout::new(&operator.reader, &operator.clock, lookout::INTERVAL);
    let clusters = Clusters::new(operator, lookout.clone(), Sql::default(), settings, metrics);
    let clusters = mysqlcluster::controller(clusters)
        .wakes(changes)
        .concurrency(args.mysqlcluster_concurrency);
    let (databases, former) = mysql::controllers(args.mysql_concurrency);
    manager
        .register(clusters)
        .register(databases)
        .register(former)
        .background("orphans", |given| sweeper.run(given))
        .background("lookout", |_| lookout.run())
        .run(manager::shutdown_signal()?)
        .await?;
    Ok(())
}
