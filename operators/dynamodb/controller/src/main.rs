//! `dynamoctl`: the operator (as `/manager`, or `dynamoctl manager`) and the command line, in one binary.

use std::process::ExitCode;

use dynamodb_controller::cli;

fn main() -> ExitCode {
    reconcile::cli::install_crypto_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::fail(&anyhow::Error::new(error).context("failed to start the runtime")),
    };
    let code = runtime.block_on(cli::run(cli::arguments(std::env::args_os())));
    // Whatever still runs belongs to a process that has nothing more to say: a lost lease must not linger.
    runtime.shutdown_background();
    code
}
