//! Bootstraps that go wrong: what is told, and how often it is tried again.

use std::sync::Arc;

use anyhow::{Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use testkit::fault::FaultPlan;

use crate::{
    objects::{is, message_of, reason},
    scene::Scene,
    world::{CONTROL_PLANE, POLL, WORKER, World, check, coverage, full, harness, run, world},
};

/// What a bootstrap says whose command fails.
fn failed() -> Vec<String> {
    [
        "exit 7",
        "[preflight] cannot reach 10.0.0.1",
        "kubeadm join --token abcdef.0123456789abcdef",
    ]
    .map(str::to_owned)
    .into()
}

impl Scene {
    /// Lets the next bootstraps of a machine end so.
    fn let_end(&self, machine: &str, endings: impl IntoIterator<Item = Vec<String>>) {
        let mut daemon = self.world.daemon.lock();
        daemon.endings.entry(machine.into()).or_default().extend(endings);
    }

    /// Waits until the machine's bootstrap is over for good, after `attempts` at most; how often it was started and
    /// bootstrapped until then.
    async fn given_up(&self, machine: &str, attempts: u32) -> Result<(String, u32, u32)> {
        let more = || self.world.daemon.lock().started.get(machine) > Some(&attempts);
        let over = |object: &Value| reason(object, "BootstrapCompleted") == Some("Failed") || more();
        let object = self.wait("DockerMachine", machine, over).await?;
        ensure!(!more(), "more than {attempts} attempts");
        ensure!(reason(&object, "Ready") == Some("Failed"), "{object:#}");
        let message = message_of(&object, "BootstrapCompleted")
            .unwrap_or_default()
            .to_owned();
        let daemon = self.world.daemon.lock();
        Ok((message, daemon.started[machine], daemon.bootstrapped[machine]))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_that_fails_is_told_with_its_last_words_and_left_as_it_is() -> Result<()> {
    let scene = Scene::set().await?;
    scene.let_end(WORKER, [failed()]);
    let operator = scene.start();
    scene.open().await?;
    let (message, started, bootstrapped) = scene.given_up(WORKER, 1).await?;
    ensure!(
        message.contains("failed with status 7; replace the machine"),
        "{message}"
    );
    let note = scene.event("DockerMachine", WORKER, "BootstrapFailed").await?;
    ensure!(note.contains("cannot reach 10.0.0.1"), "{note}");
    ensure!(!note.contains("0123456789abcdef"), "a token was told: {note}");
    ensure!(
        (started, bootstrapped) == (1, 1),
        "tried {started} and {bootstrapped} times"
    );
    operator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_that_hangs_ends_with_its_limit() -> Result<()> {
    let scene = Scene::set().await?;
    scene.let_end(WORKER, [vec!["exit 124".to_owned()]]);
    let limit = json!({"spec": {"bootstrapTimeout": "90s"}});
    scene.objects.patch("DockerMachine", WORKER, &limit).await?;
    let operator = scene.start();
    scene.open().await?;
    let (message, ..) = scene.given_up(WORKER, 1).await?;
    ensure!(message.contains("took longer than 90 s"), "{message}");
    let note = scene.event("DockerMachine", WORKER, "BootstrapFailed").await?;
    ensure!(note.contains("raise spec.bootstrapTimeout"), "{note}");
    operator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_attempts_are_made_than_were_asked_for_each_in_a_fresh_container() -> Result<()> {
    let scene = Scene::set().await?;
    scene.let_end(WORKER, [failed(), failed(), failed(), failed()]);
    let three = json!({"spec": {"bootstrapAttempts": 3}});
    scene.objects.patch("DockerMachine", WORKER, &three).await?;
    let operator = scene.start();
    scene.open().await?;
    let (message, started, bootstrapped) = scene.given_up(WORKER, 3).await?;
    ensure!(
        (started, bootstrapped) == (3, 3),
        "tried {started} and {bootstrapped} times"
    );
    ensure!(message.contains("replace the machine"), "{message}");
    let note = scene.event("DockerMachine", WORKER, "BootstrapFailed").await?;
    ensure!(note.contains("of 3 follows in a fresh container"), "{note}");
    let object = scene
        .objects
        .get("DockerMachine", WORKER)
        .await?
        .unwrap_or_default();
    ensure!(object["status"]["bootstrapAttempt"] == 3, "{object:#}");
    operator.stop().await;
    Ok(())
}

/// It may be a member of etcd already, which its successor could not be.
#[tokio::test(flavor = "multi_thread")]
async fn a_further_control_plane_machine_is_bootstrapped_once_whatever_was_asked_for() -> Result<()> {
    let scene = Scene::set().await?;
    scene.let_end(CONTROL_PLANE, [failed()]);
    let three = json!({"spec": {"bootstrapAttempts": 3}});
    scene
        .objects
        .patch("DockerMachine", CONTROL_PLANE, &three)
        .await?;
    let status = json!({"initialization": {"controlPlaneInitialized": true}});
    scene.objects.status("Cluster", "c1", status).await?;
    let operator = scene.start();
    scene.open().await?;
    let (_, started, bootstrapped) = scene.given_up(CONTROL_PLANE, 1).await?;
    ensure!(
        (started, bootstrapped) == (1, 1),
        "tried {started} and {bootstrapped} times"
    );
    operator.stop().await;
    Ok(())
}

impl Scene {
    /// Neither the worker nor any event says this.
    async fn tells_nowhere(&self, secret: &str) -> Result<()> {
        let object = self.objects.get("DockerMachine", WORKER).await?;
        let events: Api<Event> = Api::namespaced(self.objects.client.clone(), &self.objects.namespace);
        let events = serde_json::to_string(&events.list(&ListParams::default()).await?.items)?;
        let object = object.unwrap_or_default().to_string();
        ensure!(!object.contains(secret), "{object}");
        ensure!(!events.contains(secret), "{events}");
        Ok(())
    }

    /// A machine whose bootstrap has failed, and whose status announces a second attempt, as a manager leaves it that
    /// ended before it made that attempt.
    pub(crate) async fn announced(&self, machine: &str) -> Result<()> {
        self.let_end(machine, [failed()]);
        let operator = self.start();
        self.open().await?;
        self.given_up(machine, 1).await?;
        operator.stop().await;
        let object = self
            .objects
            .get("DockerMachine", machine)
            .await?
            .unwrap_or_default();
        let mut status = object["status"].clone();
        status["bootstrapAttempt"] = json!(2);
        for condition in status["conditions"].as_array_mut().into_iter().flatten() {
            if condition["type"] == "BootstrapCompleted" {
                condition["reason"] = json!("Repeating");
            }
        }
        self.objects.status("DockerMachine", machine, status).await?;
        let two = json!({"spec": {"bootstrapAttempts": 2}});
        self.objects.patch("DockerMachine", machine, &two).await
    }

    /// The announcement is taken back, and the machine stays as it is.
    async fn is_withdrawn(&self, machine: &str) -> Result<()> {
        let operator = self.start();
        let (_, started, bootstrapped) = self.given_up(machine, 1).await?;
        ensure!(
            (started, bootstrapped) == (1, 1),
            "tried {started} and {bootstrapped} times"
        );
        let object = self
            .objects
            .get("DockerMachine", machine)
            .await?
            .unwrap_or_default();
        ensure!(object["status"]["bootstrapAttempt"] == 1, "{object:#}");
        operator.stop().await;
        Ok(())
    }
}

/// kubeadm has joined it, and what came afterwards failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_node_has_registered_is_not_repeated_although_that_was_announced() -> Result<()> {
    let scene = Scene::set().await?;
    scene.announced(WORKER).await?;
    let registered = json!({"nodeRef": {"name": WORKER}});
    scene.objects.status("Machine", WORKER, registered).await?;
    scene.is_withdrawn(WORKER).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_control_plane_machine_is_not_repeated_once_the_control_plane_is_there() -> Result<()> {
    let scene = Scene::set().await?;
    scene.announced(CONTROL_PLANE).await?;
    let status = json!({"initialization": {"controlPlaneInitialized": true}});
    scene.objects.status("Cluster", "c1", status).await?;
    scene.is_withdrawn(CONTROL_PLANE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_that_a_pause_has_interrupted_is_followed_again_at_once_after_it() -> Result<()> {
    let scene = Scene::set().await?;
    scene.world.daemon.lock().holding.insert(WORKER.into());
    let data = "#cloud-config\nntp: {}\nruncmd: [kubeadm join]\n";
    scene.objects.set_data(&json!({"value": data})).await?;
    let operator = scene.start();
    scene.open().await?;
    let begun = |object: &Value| reason(object, "BootstrapCompleted") == Some("Bootstrapping");
    scene.wait("DockerMachine", WORKER, begun).await?;
    let pause = |paused: bool| json!({"spec": {"paused": paused}});
    scene.objects.patch("Cluster", "c1", &pause(true)).await?;
    scene
        .wait("DockerMachine", WORKER, |object| is(object, "Paused", "True"))
        .await?;
    scene.world.daemon.lock().holding.clear();
    scene.objects.patch("Cluster", "c1", &pause(false)).await?;
    // Well before the periodic look at everything, which comes after ten minutes.
    let ready = |object: &Value| is(object, "Ready", "True");
    let object = scene.wait("DockerMachine", WORKER, ready).await?;
    let message = message_of(&object, "BootstrapCompleted").unwrap_or_default();
    ensure!(
        message.ends_with("ignored: ntp"),
        "what was ignored is told by whoever sees the end: {message}"
    );
    operator.stop().await;
    Ok(())
}

/// kubelet registers long before kubeadm is finished.
#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_that_goes_on_is_not_over_because_its_node_has_registered() -> Result<()> {
    let scene = Scene::set().await?;
    scene.world.daemon.lock().holding.insert(WORKER.into());
    scene.let_end(WORKER, [failed()]);
    let operator = scene.start();
    scene.open().await?;
    let ready = |object: &Value| is(object, "Ready", "True");
    scene.wait("DockerMachine", CONTROL_PLANE, ready).await?;
    while !scene.world.daemon.lock().bootstrapped.contains_key(WORKER) {
        tokio::time::sleep(POLL).await;
    }
    operator.stop().await;
    let registered = json!({"nodeRef": {"name": WORKER}});
    scene.objects.status("Machine", WORKER, registered).await?;

    let asked = || scene.plan().sites().get("Docker exec").copied();
    let before = asked();
    let operator = scene.start();
    let looked = |object: &Value| asked() > before || is(object, "BootstrapCompleted", "True");
    let object = scene.wait("DockerMachine", WORKER, looked).await?;
    ensure!(!is(&object, "BootstrapCompleted", "True"), "{object:#}");
    scene.world.daemon.lock().holding.clear();
    let (message, ..) = scene.given_up(WORKER, 1).await?;
    ensure!(message.contains("failed with status 7"), "{message}");
    operator.stop().await;
    Ok(())
}

/// A container that others have made a node of.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_registered_without_a_bootstrap_of_ours_gets_none() -> Result<()> {
    let scene = Scene::set().await?;
    let registered = json!({"nodeRef": {"name": WORKER}});
    scene.objects.status("Machine", WORKER, registered).await?;
    let operator = scene.start();
    scene.open().await?;
    let ready = |object: &Value| is(object, "Ready", "True");
    scene.wait("DockerMachine", WORKER, ready).await?;
    operator.stop().await;
    let daemon = scene.world.daemon.lock();
    ensure!(
        !daemon.bootstrapped.contains_key(WORKER),
        "{:?}",
        daemon.bootstrapped
    );
    Ok(())
}

/// What the bootstrap of the worker says is told as far as its data allow.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_failing_bootstrap_quotes_of_its_data_is_not_told() -> Result<()> {
    const SECRET: &str = "correct-horse-battery";
    let scene = Scene::set().await?;
    let quoting = |status: &str| vec![format!("exit {status}"), format!("cannot log in as {SECRET}")];
    scene.let_end(WORKER, [quoting("7"), quoting("8")]);
    let data = format!(
        "#cloud-config\nwrite_files:\n- {{path: /etc/password, content: {SECRET}}}\nruncmd: [kubeadm join]\n"
    );
    scene.objects.set_data(&json!({"value": data})).await?;
    let two = json!({"spec": {"bootstrapAttempts": 2}});
    scene.objects.patch("DockerMachine", WORKER, &two).await?;
    let operator = scene.start();
    scene.open().await?;
    scene.given_up(WORKER, 2).await?;
    let note = scene.event("DockerMachine", WORKER, "BootstrapFailed").await?;
    ensure!(note.contains("cannot log in as [masked]"), "{note}");
    operator.stop().await;
    scene.tells_nowhere(SECRET).await?;

    // Nobody knows any more what must not be told.
    let status = json!({"conditions": []});
    scene.objects.status("DockerMachine", WORKER, status).await?;
    scene.objects.set_data(&json!({"value": ""})).await?;
    let operator = scene.start();
    scene.given_up(WORKER, 2).await?;
    operator.stop().await;
    scene.tells_nowhere(SECRET).await
}

/// Both machines fail at first: the worker, and the first of the control plane, which the load balancer serves.
async fn failing_at_first(plan: FaultPlan) -> Result<World> {
    let mut world = world(plan).await?;
    let objects = world.objects();
    for machine in [CONTROL_PLANE, WORKER] {
        let two = json!({"spec": {"bootstrapAttempts": 2}});
        objects.patch("DockerMachine", machine, &two).await?;
        let endings = [failed()].into();
        world.daemon.lock().endings.insert(machine.into(), endings);
        world.attempts.insert(machine, 2);
    }
    Ok(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_any_request_a_second_attempt_is_made_once_and_in_a_fresh_container() {
    let stride = if full() { 1 } else { 31 };
    let report = harness("crash at every request of a second attempt")
        .stride(stride)
        .crash_at_every_request(failing_at_first, run, |world: Arc<World>| check(world))
        .await
        .unwrap();
    report.at_least(coverage(8, 20, 6)).unwrap();
}
