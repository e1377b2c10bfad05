//! Tilt's rules, each kept by a small Tiltfile and broken by another.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use tilt_check::{Outcome, evaluate};

use crate::setting;

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: team}
spec:
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: team}
spec: {selector: {app: web}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web, namespace: team}
";

/// A folder with this Tiltfile, a Deployment with its Service in `web.yaml`, a Dockerfile and a source.
fn folder(tiltfile: &str) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for (name, text) in [
        ("Tiltfile", tiltfile),
        ("web.yaml", DEPLOYMENT),
        ("Dockerfile", "FROM scratch AS dev\n"),
        ("main.rs", ""),
        ("values.yaml", "a: 1\n"),
        (
            "other.tilt",
            "name = 'other'\ndef make(): local_resource(name, 'true')\n",
        ),
    ] {
        fs::write(folder.path().join(name), text)?;
    }
    Ok(folder)
}

async fn run(tiltfile: &str) -> Result<Outcome> {
    let folder = folder(tiltfile)?;
    Ok(evaluate(&setting().await?, &folder.path().join("Tiltfile"))?)
}

/// Runs each Tiltfile and finds the words in why it is refused.
async fn refused(cases: &[(&str, &str)]) -> Result<()> {
    for (tiltfile, why) in cases {
        let refused = run(tiltfile)
            .await
            .err()
            .with_context(|| format!("accepted: {tiltfile}"))?;
        ensure!(refused.to_string().contains(why), "{tiltfile}: {refused}");
    }
    Ok(())
}

/// Runs each Tiltfile and finds the words in what is said of it.
async fn warned(cases: &[(&str, &str)]) -> Result<()> {
    for (tiltfile, what) in cases {
        let outcome = run(tiltfile).await.with_context(|| (*tiltfile).to_owned())?;
        let found = outcome.warnings.iter().any(|warning| warning.contains(what));
        ensure!(found, "{tiltfile}: {:?}", outcome.warnings);
    }
    Ok(())
}

#[tokio::test]
async fn a_workload_brings_its_services_and_takes_what_it_is_given() -> Result<()> {
    let outcome = run("docker_build('web', '.')\nk8s_yaml('web.yaml')\n\
                       k8s_resource('web', new_name = 'site', objects = ['web:configmap'], port_forwards = '8000:80')")
        .await?;
    let site = &outcome.resources["site"];
    assert_eq!(
        site.objects,
        ["web:Deployment:team", "web:Service:team", "web:ConfigMap:team"]
    );
    assert_eq!(site.images, ["web"]);
    assert_eq!(site.port_forwards, ["8000:80"]);
    ensure!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
    Ok(())
}

#[tokio::test]
async fn the_language_is_that_of_tilt() -> Result<()> {
    let outcome = run("n = 0\nwhile n < 3:\n    n += 1\nif n == 3:\n    n = 'three'\nprint(n, set([1]) | set([2]))\n\
                       load('./other.tilt', 'make')\nmake()\n\
                       print(str(local('printf %s $X', env = {'X': 'y'}, quiet = True)), read_yaml('values.yaml')['a'])\n\
                       print(struct(a = 1).a, __name__, os.path.basename(__file__), type(blob('x')))")
    .await?;
    assert_eq!(
        outcome.printed,
        ["three set([1, 2])", "y 1", "1 __main__ Tiltfile blob"]
    );
    assert_eq!(outcome.resources.keys().collect::<Vec<_>>(), ["other"]);
    Ok(())
}

#[tokio::test]
async fn calls_that_tilt_does_not_know_are_refused() -> Result<()> {
    refused(&[
        (
            "local_resource('a', 'true', dependencies = ['x'])",
            "unexpected keyword argument \"dependencies\"",
        ),
        ("local_resource('a', 'true', deps = 3)", "for parameter deps"),
        ("docker_build('web')", "missing argument for context"),
        ("k8s_yml('web.yaml')", "undefined: k8s_yml"),
        ("os.path.isdir('x')", "isdir"),
        ("docker_compose('x.yaml')", "not modelled"),
        (
            "load('ext://restart_process', 'docker_build_with_restart')",
            "comes from the network",
        ),
        ("load('./missing.tilt', 'x')", "no such file"),
        ("load('./other.tilt', 'missing')", "missing"),
        ("x = 1 +", "want primary expression"),
        ("fail('told so')", "told so"),
        ("while True: pass", "too many steps"),
    ])
    .await
}

#[tokio::test]
async fn a_tiltfile_that_exits_keeps_what_it_has_said() -> Result<()> {
    let outcome = run("local_resource('a', 'true')\nexit('enough')\nfail('went on')").await?;
    assert_eq!(outcome.resources.len(), 1);
    Ok(())
}

#[tokio::test]
async fn images_have_a_dockerfile_a_name_and_one_definition() -> Result<()> {
    refused(&[
        ("docker_build('web', 'none')", "error reading dockerfile"),
        (
            "docker_build('web', '.', dockerfile = 'none')",
            "error reading dockerfile",
        ),
        (
            "docker_build('web', '.', dockerfile = 'Dockerfile', dockerfile_contents = 'FROM x')",
            "Cannot specify both",
        ),
        ("docker_build('web', '.', target = 'prod')", "no stage \"prod\""),
        ("docker_build('web', '.', only = ['*.rs'])", "file globs"),
        ("docker_build('Web', '.')", "can't parse"),
        (
            "docker_build('web', '.')\ndocker_build('web', '.')",
            "already been defined",
        ),
        ("custom_build('web', 'make', [])", "deps) can't be empty"),
    ])
    .await?;
    warned(&[
        (
            "docker_build('web', '.')",
            "Image not used in any Kubernetes config: web",
        ),
        (
            "docker_build('web:v2', '.')\nk8s_yaml('web.yaml')",
            "Image not used",
        ),
    ])
    .await?;
    let base = "docker_build('base', '.')\n\
                docker_build('web', '.', dockerfile_contents = 'FROM base')\nk8s_yaml('web.yaml')";
    ensure!(run(base).await?.warnings.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_steps_of_a_live_update_stand_in_order_and_are_used() -> Result<()> {
    let with =
        |steps: &str| format!("docker_build('web', '.', live_update = [{steps}])\nk8s_yaml('web.yaml')");
    run(&with(
        "initial_sync(), fall_back_on('Dockerfile'), sync('main.rs', '/main.rs'), run('x')",
    ))
    .await?;
    for (steps, why) in [
        (
            "run('x'), sync('main.rs', '/m')",
            "all sync steps must precede all run steps",
        ),
        (
            "sync('main.rs', '/m'), fall_back_on('Dockerfile')",
            "fall_back_on steps must appear at the start",
        ),
        (
            "sync('main.rs', '/m'), initial_sync()",
            "initial_sync must appear",
        ),
        ("initial_sync(), initial_sync()", "initial_sync must appear"),
        ("sync('/etc/passwd', '/m')", "is not a child of any watched path"),
        (
            "fall_back_on('/etc/passwd'), sync('main.rs', '/m')",
            "is not a child of any watched path",
        ),
        ("sync('main.rs', 'm')", "is not absolute"),
        ("sync('main.rs', '/m'), restart_container()", "deprecated"),
        ("'x'", "must be a list of live update steps"),
    ] {
        refused(&[(&with(steps), why)]).await?;
    }
    refused(&[("sync('main.rs', '/m')", "created but not used")]).await
}

#[tokio::test]
async fn resources_exist_once_and_have_valid_settings() -> Result<()> {
    refused(&[
        (
            "local_resource('a', 'true')\nlocal_resource('a', 'true')",
            "already been defined",
        ),
        ("local_resource('a')", "both were empty"),
        (
            "local_resource('a', 'true', labels = ['no spaces'])",
            "Invalid label",
        ),
        (
            "local_resource('a', 'true', trigger_mode = 'manual')",
            "TRIGGER_MODE_MANUAL",
        ),
        ("local_resource('a', 'true', readiness_probe = 'x')", "no probe()"),
        (
            "local_resource('a', 'true', readiness_probe = probe())",
            "exactly one of",
        ),
        (
            "local_resource('web', 'true')\nk8s_yaml('web.yaml')",
            "duplicate resource name",
        ),
        ("update_settings(max_parallel_updates = 0)", "positive"),
        ("ci_settings(timeout = '30')", "invalid duration"),
        ("default_registry('a')\ndefault_registry('b')", "already defined"),
    ])
    .await?;
    warned(&[
        (
            "local_resource('a', 'true', resource_deps = ['b'])",
            "depends on \"b\"",
        ),
        (
            "local_resource('a', 'true', deps = ['none.rs'])",
            "which does not exist",
        ),
        (
            "k8s_yaml('web.yaml')\nk8s_resource('web', resource_deps = ['db'])",
            "depends on \"db\"",
        ),
    ])
    .await
}

#[tokio::test]
async fn what_is_said_of_objects_has_to_mean_one() -> Result<()> {
    let with = |rest: &str| format!("k8s_yaml('web.yaml')\n{rest}");
    for (rest, why) in [
        ("k8s_resource('wep')", "could not find any workload named \"wep\""),
        ("k8s_resource('web', objects = ['web:secret'])", "could be found"),
        (
            "k8s_resource('web', objects = ['web:service'])",
            "belongs to a resource already",
        ),
        (
            "k8s_resource(objects = ['web:configmap'])",
            "objects and a new_name",
        ),
        ("k8s_resource('web', port_forwards = 70000)", "no valid port"),
        ("k8s_resource('web', pod_readiness = 'maybe')", "Invalid value"),
        ("k8s_yaml('web.yaml')", "Duplicate YAML"),
        ("k8s_yaml('none.yaml')", "none.yaml"),
        ("k8s_yaml(blob('kind: Pod'))", "no apiVersion"),
    ] {
        refused(&[(&with(rest), why)]).await?;
    }
    run(&with("k8s_yaml('web.yaml', allow_duplicates = True)")).await?;
    Ok(())
}

#[tokio::test]
async fn buttons_start_something_and_belong_somewhere() -> Result<()> {
    let place = "location = {'component_type': 'Resource', 'component_id': 'a'}";
    let button = format!("v1alpha1.ui_button(name = 'go', text = 'Go', {place})\n");
    let command = "v1alpha1.cmd(name = 'c', args = ['true'], start_on = {'ui_buttons': ['go']})\n";
    let outcome = run(&format!("local_resource('a', 'true')\n{button}{command}")).await?;
    assert_eq!(outcome.buttons[0].command, ["true"]);
    ensure!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
    warned(&[
        (&button, "starts nothing"),
        (
            &format!("{button}{command}"),
            "belongs to \"a\", which does not exist",
        ),
    ])
    .await?;
    refused(&[
        ("v1alpha1.ui_button(name = 'go', text = 'Go')", "needs a location"),
        ("v1alpha1.cmd(name = 'c')", "must have length at least 1"),
        (&format!("{button}{button}"), "already registered"),
    ])
    .await
}

#[tokio::test]
async fn only_local_clusters_are_deployed_to_without_being_named() -> Result<()> {
    let folder = folder("k8s_yaml('web.yaml')")?;
    let tiltfile = folder.path().join("Tiltfile");
    let mut setting = setting().await?;
    setting.context = "prod".to_owned();
    let refused = evaluate(&setting, &tiltfile)
        .err()
        .context("deployed to production")?;
    ensure!(
        refused.to_string().contains("Stop! prod might be production"),
        "{refused}"
    );
    fs::write(&tiltfile, "allow_k8s_contexts('prod')\nk8s_yaml('web.yaml')")?;
    evaluate(&setting, &tiltfile)?;
    // What deploys nothing may look at any cluster.
    fs::write(&tiltfile, "local_resource('a', 'true')")?;
    evaluate(&setting, &tiltfile)?;
    Ok(())
}

#[tokio::test]
async fn without_a_tiltfile_or_an_interpreter_nothing_is_evaluated() -> Result<()> {
    let mut setting = setting().await?;
    let none = evaluate(&setting, Path::new("/none/Tiltfile"))
        .err()
        .context("no Tiltfile")?;
    ensure!(
        none.to_string().contains("No Tiltfile found at /none/Tiltfile"),
        "{none}"
    );
    let folder = folder("")?;
    setting.interpreter = "/none/starlark".into();
    let none = evaluate(&setting, &folder.path().join("Tiltfile"))
        .err()
        .context("no interpreter")?;
    ensure!(none.to_string().contains("/none/starlark"), "{none}");
    Ok(())
}
