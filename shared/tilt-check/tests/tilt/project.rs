//! What `tilt up` does in this repository.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use tilt_check::{Kind, Outcome, evaluate};

use crate::{copy, setting};

const OPERATORS: [&str; 3] = ["capdkc", "dynamoctl-dp-operator", "nairobi-mysql"];

async fn up(arguments: &[&str]) -> Result<Outcome> {
    let folder = copy()?;
    let mut setting = setting().await?;
    setting.arguments = arguments.iter().map(|&word| word.to_owned()).collect();
    Ok(evaluate(&setting, &folder.path().join("Tiltfile"))?)
}

#[tokio::test]
async fn all_operators_come_up_with_their_backends_from_one_build() -> Result<()> {
    let outcome = up(&[]).await?;
    ensure!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
    let names: Vec<_> = outcome.resources.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "binaries",
            "capdkc",
            "cluster-api",
            "dynamoctl-dp-operator",
            "dynamodb-local",
            "fake-ec2",
            "nairobi-mysql"
        ]
    );
    let binaries = &outcome.resources["binaries"];
    for program in ["dynamoctl", "mysql-operator", "capdkc", "fake-ec2"] {
        ensure!(binaries.command.contains(program), "{}", binaries.command);
    }
    for name in OPERATORS {
        let operator = &outcome.resources[name];
        assert_eq!(operator.images, [name]);
        ensure!(operator.resource_deps.contains(&"binaries".to_owned()), "{name}");
        ensure!(operator.auto_init && !operator.manual, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn every_object_and_every_resource_is_in_a_group() -> Result<()> {
    let outcome = up(&[]).await?;
    for (name, resource) in &outcome.resources {
        ensure!(!resource.labels.is_empty(), "{name} has no label");
    }
    for name in OPERATORS {
        let objects = &outcome.resources[name].objects;
        for kind in [
            "Namespace",
            "CustomResourceDefinition",
            "Deployment",
            "Service",
            "ClusterRole",
        ] {
            let kind = format!(":{kind}:");
            ensure!(
                objects.iter().any(|object| object.contains(&kind)),
                "{name} has no {kind} {objects:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_new_build_replaces_the_program_in_its_container() -> Result<()> {
    let outcome = up(&[]).await?;
    assert_eq!(outcome.images.len(), 4);
    for image in &outcome.images {
        let [(from, to)] = image.syncs.as_slice() else {
            anyhow::bail!("{image:?}");
        };
        ensure!(
            from.contains("/.tiltbuild/") && from.ends_with("/manager"),
            "{from}"
        );
        assert_eq!(to, "/tilt/manager");
        assert_eq!(image.runs, ["sh /tilt/restart"]);
    }
    Ok(())
}

#[tokio::test]
async fn each_example_has_a_button_at_its_operator() -> Result<()> {
    let outcome = up(&[]).await?;
    let mut applied = BTreeSet::new();
    for button in &outcome.buttons {
        let file = button.command.last().context("no command")?;
        ensure!(
            button
                .command
                .starts_with(&["kubectl".to_owned(), "apply".to_owned()]),
            "{button:?}"
        );
        applied.insert(file.rsplit("/examples/").next().unwrap_or_default().to_owned());
    }
    let examples = crate::root().join("examples");
    for folder in ["database", "docker", "dynamodb", "mysql", "seeds"] {
        for entry in fs::read_dir(examples.join(folder))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            ensure!(
                name.ends_with("-server.yaml") || applied.contains(&format!("{folder}/{name}")),
                "{folder}/{name} has no button"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn one_operator_brings_only_what_it_needs() -> Result<()> {
    let outcome = up(&["dynamodb"]).await?;
    let names: Vec<_> = outcome.resources.keys().map(String::as_str).collect();
    assert_eq!(names, ["binaries", "dynamoctl-dp-operator", "dynamodb-local"]);
    ensure!(
        outcome
            .resources
            .values()
            .filter(|of| of.kind == Kind::Local)
            .count()
            == 1
    );
    Ok(())
}

#[tokio::test]
async fn ci_waits_for_nobody_and_runs_what_up_runs() -> Result<()> {
    let folder = copy()?;
    let mut setting = setting().await?;
    setting.subcommand = "ci".to_owned();
    let ci = evaluate(&setting, &folder.path().join("Tiltfile"))?;
    for (name, resource) in &ci.resources {
        ensure!(
            resource.auto_init && !resource.manual,
            "{name} waits for a person"
        );
    }
    let up = up(&[]).await?;
    assert_eq!(
        ci.resources.keys().collect::<Vec<_>>(),
        up.resources.keys().collect::<Vec<_>>()
    );
    Ok(())
}

/// `tilt up -- dynamodb` with these settings, and what it deploys of the operator, as YAML.
async fn dynamodb(settings: &str) -> Result<(Outcome, String)> {
    let folder = copy()?;
    fs::write(folder.path().join("tilt-settings.yaml"), settings)?;
    // What is deployed is seen where the Tiltfile hands it over.
    let tiltfile = folder.path().join("Tiltfile");
    let text = fs::read_to_string(&tiltfile)?;
    fs::write(
        &tiltfile,
        text.replace(
            "    k8s_yaml(encode_yaml_stream(objects))",
            "    print(encode_yaml_stream(objects))\n    k8s_yaml(encode_yaml_stream(objects))",
        ),
    )?;
    let mut setting = setting().await?;
    setting.arguments = vec!["dynamodb".to_owned()];
    let outcome = evaluate(&setting, &tiltfile)?;
    let deployed = outcome.printed.join("\n");
    Ok((outcome, deployed))
}

#[tokio::test]
async fn a_debugged_operator_is_reached_on_port_30000_and_nothing_probes_it() -> Result<()> {
    let settings = "debug: {dynamodb: {port: 30001, continue: true}}\nextra_args: {dynamodb: [--log-level=debug, \"--namespace=a,b\"]}\n";
    let (outcome, deployed) = dynamodb(settings).await?;
    assert_eq!(
        outcome.resources["dynamoctl-dp-operator"].port_forwards,
        ["30001:30000"]
    );
    for present in [
        "/tilt/dlv",
        "--listen=:30000",
        "--continue",
        "SYS_PTRACE",
        "--log-level=debug",
        "--namespace=a,b",
    ] {
        ensure!(deployed.contains(present), "{present} is missing in {deployed}");
    }
    for absent in ["livenessProbe", "readinessProbe"] {
        ensure!(!deployed.contains(absent), "{absent}");
    }
    Ok(())
}

#[tokio::test]
async fn a_debugged_operator_stands_at_a_breakpoint_with_no_lease_to_lose_and_no_second_beside_it()
-> Result<()> {
    let several = "extra_args: {dynamodb: [--leader-elect-preset=fast]}\n";
    let (_, deployed) = dynamodb(several).await?;
    ensure!(deployed.contains("--leader-election-id="), "{deployed}");
    let (_, deployed) = dynamodb(&format!("debug: {{dynamodb: {{port: 30000}}}}\n{several}")).await?;
    let mut words = deployed.split_whitespace();
    let left = words.find(|word| {
        word.trim_start_matches(['-', '"', '\''])
            .starts_with("leader-elect")
    });
    ensure!(left.is_none(), "{left:?} in {deployed}");
    for present in ["replicas: 1", "type: Recreate"] {
        ensure!(deployed.contains(present), "{present} is missing in {deployed}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_debugged_is_not_replaced_under_its_debug_server() -> Result<()> {
    let (outcome, _) = dynamodb("debug: {dynamodb: {port: 30000}}\n").await?;
    let debugged: Vec<_> = outcome
        .images
        .iter()
        .filter(|image| image.target == "debug")
        .collect();
    let [image] = debugged.as_slice() else {
        anyhow::bail!("{:?}", outcome.images);
    };
    ensure!(image.syncs.is_empty() && image.runs.is_empty(), "{image:?}");
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_might_be_production_has_to_be_named() -> Result<()> {
    let folder = copy()?;
    let tiltfile = folder.path().join("Tiltfile");
    let mut setting = setting().await?;
    setting.arguments = vec!["dynamodb".to_owned()];
    setting.context = "prod".to_owned();
    let refused = evaluate(&setting, &tiltfile)
        .err()
        .context("deployed to production")?;
    ensure!(
        refused.to_string().contains("prod might be production"),
        "{refused}"
    );
    fs::write(
        folder.path().join("tilt-settings.json"),
        r#"{"allowed_contexts": ["prod"]}"#,
    )?;
    evaluate(&setting, &tiltfile)?;
    Ok(())
}

#[tokio::test]
async fn settings_and_operators_that_nobody_knows_are_refused() -> Result<()> {
    let folder = copy()?;
    let tiltfile = folder.path().join("Tiltfile");
    let mut setting = setting().await?;
    setting.arguments = vec!["postgres".to_owned()];
    let refused = evaluate(&setting, &tiltfile)
        .err()
        .context("there is no postgres")?;
    ensure!(
        refused.to_string().contains("there is no operator postgres"),
        "{refused}"
    );
    setting.arguments.clear();
    fs::write(
        folder.path().join("tilt-settings.yaml"),
        "allowed_context: prod\n",
    )?;
    let refused = evaluate(&setting, &tiltfile)
        .err()
        .context("a misspelt setting")?;
    ensure!(refused.to_string().contains("allowed_context"), "{refused}");
    Ok(())
}
