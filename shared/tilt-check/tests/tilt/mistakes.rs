//! Mistakes in the project's own files for Tilt, each of which is found: the checks check something.

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use tilt_check::{Setting, evaluate};

use crate::{copy, setting};

/// A file, what stands there, what is written instead, and what is said about it.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    (
        "Tiltfile",
        "chart + \"-controller-manager\"",
        "chart + \"-manager\"",
        "could not find any workload",
    ),
    (
        "Tiltfile",
        "\"charts/\" + chart",
        "\"chart/\" + chart",
        "is no chart",
    ),
    (
        "Tiltfile",
        "image.repository=\" + chart",
        "image.repository=operator\"",
        "Image not used",
    ),
    (
        "Tiltfile",
        "[\"binaries\"] + of[\"needs\"]",
        "[\"binary\"] + of[\"needs\"]",
        "which does not exist",
    ),
    (
        "Tiltfile",
        "\"needs\": [\"dynamodb-local\"]",
        "\"needs\": [\"dynamodb\"]",
        "which does not exist",
    ),
    (
        "Tiltfile",
        "in-cluster-server.yaml",
        "in-cluster-servers.yaml",
        "in-cluster-servers.yaml",
    ),
    (
        "Tiltfile",
        "\"component_id\": resource",
        "\"component_id\": name",
        "which does not exist",
    ),
    (
        "Tiltfile",
        "logging.format=text",
        "logging.format=words",
        "logging.format",
    ),
    ("Tiltfile", "\"image.tag=dev\"", "\"image.tags=dev\"", "tags"),
    (
        "Tiltfile",
        "timeout = \"40m\"",
        "timeout = \"40\"",
        "invalid duration",
    ),
    (
        "tilt/programs.tilt",
        "/tilt/Dockerfile",
        "/tilt/Dockerfiles",
        "error reading dockerfile",
    ),
    (
        "tilt/programs.tilt",
        "sync(context + \"/manager\"",
        "sync(root + \"/manager\"",
        "is not a child",
    ),
    (
        "tilt/programs.tilt",
        "else \"dev\"",
        "else \"development\"",
        "has no stage",
    ),
    (
        "tilt/programs.tilt",
        "deps = [root",
        "dependencies = [root",
        "unexpected keyword argument",
    ),
    (
        "tilt/programs.tilt",
        "\"shared/reconcile\"",
        "\"shared/reconciler\"",
        "which does not exist",
    ),
    (
        "tilt/programs.tilt",
        "\"dynamodb\": \"dynamoctl\"",
        "\"dynamodb\": \"dynamoctrl\"",
        "does not exist",
    ),
    ("tilt/Dockerfile", "AS dev", "AS development", "has no stage"),
    (
        "examples/dynamodb/in-cluster-server.yaml",
        "kind: Deployment",
        "kind: Deploy",
        "could not find any workload",
    ),
];

fn said(setting: &Setting, tiltfile: &Path) -> String {
    match evaluate(setting, tiltfile) {
        Ok(outcome) => outcome.warnings.join("\n"),
        Err(refused) => refused.to_string(),
    }
}

#[tokio::test]
async fn every_mistake_is_found_and_named() -> Result<()> {
    let mut setting = setting().await?;
    setting.arguments = vec!["dynamodb".to_owned()];
    let folder = copy()?;
    let tiltfile = folder.path().join("Tiltfile");
    let before = said(&setting, &tiltfile);
    ensure!(before.is_empty(), "before any mistake: {before}");
    for (file, right, wrong, why) in MISTAKES {
        let path = folder.path().join(file);
        let text = fs::read_to_string(&path)?;
        ensure!(
            text.contains(right),
            "{file} has no {right:?} to make a mistake in"
        );
        fs::write(&path, text.replacen(right, wrong, 1))?;
        let said = said(&setting, &tiltfile);
        ensure!(
            !said.is_empty() && said.contains(why),
            "{file}: {wrong:?} is not found: {said}"
        );
        fs::write(&path, text)?;
    }
    Ok(())
}
