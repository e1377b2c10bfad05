//! `capdkc`: the Cluster API infrastructure provider whose machines are containers.

use docker_controller::cli::{self, Args};
use reconcile::{cli as common, manager, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    common::install_crypto_provider();
    let args: Args = common::parse();
    telemetry::init(&args.common.log_filter(), args.common.log_format())?;
    let config = args.common.kube_config().await?;
    let options = cli::options(&args, &config);
    cli::manager(&args, options, config)?
        .run(manager::shutdown_signal()?)
        .await?;
    Ok(())
}
