//! What a chart gives its program is understood there, also where `extraArgs` say it once more.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use testkit::helm::Helm;

use crate::{
    VALUES,
    rendering::{Chart, only},
};

/// The program of each chart, and values that bring the arguments which are not there by default.
const PROGRAMS: [(&str, &str, &[&str]); 3] = [
    ("capdkc", "capdkc", &["watchFilter=red"]),
    (
        "dynamoctl-dp-operator",
        "dynamoctl",
        &["allowedTables={orders-*,x}"],
    ),
    (
        "nairobi-mysql",
        "mysql-operator",
        &["places.london=eu-west-2", "storageClasses.fast=io2"],
    ),
];

/// The arguments of the manager in what the chart renders.
async fn arguments(helm: &Helm, chart: &Chart, values: &[&str]) -> Result<Vec<String>> {
    let rendered = chart.rendered(helm, "default", values).await?;
    let container = &only(&rendered, "Deployment")?.data["spec"]["template"]["spec"]["containers"][0];
    Ok(serde_json::from_value(container["args"].clone())?)
}

/// What the program says against these arguments. `--help` behind them keeps it from starting, and is reached when all
/// before it are understood.
fn complaint(program: &Path, arguments: &[String]) -> Result<Option<String>> {
    let output = Command::new(program)
        .args(arguments)
        .arg("--help")
        .env_clear()
        .output()
        .with_context(|| format!("{}: build the workspace first", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((!output.status.success()).then_some(said))
}

#[tokio::test]
async fn a_program_understands_what_its_chart_gives_it_and_what_overrides_that() -> Result<()> {
    let helm = Helm::new().await?;
    ensure!(
        Chart::all()?.len() == PROGRAMS.len(),
        "a chart has no program here"
    );
    for (name, program, own) in PROGRAMS {
        let chart = Chart::named(name);
        // Built with the tests, beside the test bed's own.
        let program = Path::new(env!("CARGO_BIN_EXE_testkit")).with_file_name(program);
        let durations = [
            "leaderElection.leaseDuration=30s",
            "leaderElection.renewDeadline=20s",
            "leaderElection.retryPeriod=3s",
        ];
        for values in [&[][..], &durations, VALUES[1], VALUES[2], own] {
            let given = arguments(&helm, &chart, values).await?;
            ensure!(given.len() > 10, "{name}: {given:?}");
            let flags = given.iter().filter(|argument| argument.starts_with('-'));
            let twice: Vec<_> = given.iter().chain(flags).cloned().collect();
            if let Some(said) = complaint(&program, &twice)? {
                anyhow::bail!("{name} with {values:?}: {said}");
            }
        }
        // What is not understood is seen that way.
        let given = arguments(&helm, &chart, &["extraArgs={--sync-period=never}"]).await?;
        let said = complaint(&program, &given)?;
        ensure!(
            said.as_deref().is_some_and(|said| said.contains("--sync-period")),
            "{name}: {said:?}"
        );
    }
    Ok(())
}
