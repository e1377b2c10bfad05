//! A test kind, a reconciler that does what each object's spec says, and an operator around it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, CustomResource, ResourceExt as _, api::PostParams};
use parking_lot::Mutex;
use reconcile::{
    Class, Gate, Kind, Pass, Progress, ReconcileError, Reconciler,
    error::ApiError,
    paused::is_paused_by,
    task::{TaskId, TaskState, Tasks},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use testkit::control_plane::{ControlPlane, TestNamespace};

/// The annotation that pauses a widget.
pub const PAUSED: &str = "test.example.com/paused";
/// The annotation that makes a widget another's.
pub const FOREIGN: &str = "test.example.com/foreign";
pub const FINALIZER: &str = "test.example.com/finalizer";
pub const DEADLINE: Duration = Duration::from_mins(3);

#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default)]
#[kube(group = "test.example.com", version = "v1", kind = "Widget", namespaced)]
#[kube(status = "WidgetStatus", schema = "disabled", derive = "Default")]
#[serde(rename_all = "camelCase")]
pub struct WidgetSpec {
    pub value: i64,
    #[serde(default)]
    pub mode: Mode,
}

/// What the reconciler does with the widget.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Report the value.
    #[default]
    Report,
    /// Panic.
    Panic,
    /// Fail in a way that time may cure.
    Fail,
    /// Run a task until it is stopped.
    Task,
    /// Run a task that fails at once, and fail with it.
    FailingTask,
    /// Record an intent that was planned from an object that somebody has changed since.
    StaleIntent,
    /// As `StaleIntent`, with a report in between whose answer shows the change.
    OvertakenIntent,
    /// Vanish during the pass, and start a task when everybody knows.
    Vanish,
    /// Run a task that does not end when it is told to.
    Stubborn,
    /// Fail with an error that panics when it is asked for its reason.
    BadError,
    /// Reports after another replica has.
    LateReport,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct WidgetStatus {
    pub value: Option<i64>,
    pub intent: Option<i64>,
    /// Nothing that the operator reports.
    pub note: Option<String>,
}

pub fn crd() -> CustomResourceDefinition {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.test.example.com"},
        "spec": {
            "group": "test.example.com",
            "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}},
            }],
        },
    }))
    .unwrap()
}

#[derive(Debug, thiserror::Error)]
pub enum WidgetError {
    #[error("told to fail")]
    Told,
    #[error("told to fail badly")]
    Bad,
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl ReconcileError for WidgetError {
    fn class(&self) -> Class {
        match self {
            Self::Told | Self::Bad => Class::Transient,
            Self::Api(error) => error.class(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Told => "ToldToFail",
            #[expect(clippy::panic, reason = "what a bad error does is what is tested")]
            Self::Bad => panic!("told to panic"),
            Self::Api(error) => error.reason(),
        }
    }
}

/// What happened, by object name.
#[derive(Default)]
pub struct Journal {
    lines: Mutex<HashMap<String, Vec<String>>>,
}

impl Journal {
    fn write(&self, name: &str, line: impl Into<String>) {
        self.lines
            .lock()
            .entry(name.to_owned())
            .or_default()
            .push(line.into());
    }

    pub fn of(&self, name: &str) -> Vec<String> {
        self.lines.lock().get(name).cloned().unwrap_or_default()
    }
}

pub struct Widgets {
    pub journal: Arc<Journal>,
    pub tasks: Tasks<u32, ()>,
}

impl Reconciler for Widgets {
    type Kind = Widget;
    type Error = WidgetError;
    const NAME: &'static str = "widget";
    const FINALIZER: Option<&'static str> = Some(FINALIZER);
    const INTENT_FIELDS: &'static [&'static str] = &["intent"];

    fn gate(&self, widget: &Widget) -> Gate {
        if widget.annotations().contains_key(FOREIGN) {
            if widget.metadata.deletion_timestamp.is_some() {
                self.journal.write(&widget.name_any(), "left");
            }
            Gate::Foreign
        } else if is_paused_by(widget, PAUSED) {
            Gate::Paused
        } else {
            Gate::Manage
        }
    }

    async fn apply(&self, widget: Arc<Widget>, pass: &Pass<Widget>) -> Result<Progress, WidgetError> {
        let name = widget.name_any();
        assert!(
            widget.finalizers().iter().any(|f| f == FINALIZER),
            "applied without its finalizer"
        );
        self.journal.write(&name, format!("apply {}", widget.spec.value));
        match widget.spec.mode {
            Mode::Report => {}
            #[expect(clippy::panic, reason = "the panic guard is what is tested")]
            Mode::Panic => panic!("told to panic"),
            Mode::Fail => return Err(WidgetError::Told),
            Mode::Task => {
                let (journal, task) = (self.journal.clone(), name.clone());
                self.tasks.start(&id(pass), |context| async move {
                    context.cancel.cancelled().await;
                    // What it has in flight: who does not wait for that is found out.
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    journal.write(&task, "task ended");
                });
            }
            Mode::FailingTask => {
                let uid = pass.uid();
                if matches!(self.tasks.state(&uid), Some(TaskState::Finished(..))) {
                    self.tasks.clear(&uid);
                    self.journal.write(&name, "task failed");
                    return Err(WidgetError::Told);
                }
                self.tasks.start(&id(pass), |_| std::future::ready(()));
            }
            Mode::Stubborn => {
                self.tasks.start(&id(pass), |_| std::future::pending());
            }
            Mode::BadError => return Err(WidgetError::Bad),
            Mode::Vanish => {
                let api: Api<Widget> = Api::namespaced(pass.client().clone(), &pass.key().namespace);
                let released = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
                api.patch(&name, &kube::api::PatchParams::default(), &released)
                    .await
                    .unwrap();
                api.delete(&name, &kube::api::DeleteParams::default())
                    .await
                    .unwrap();
                let forgotten = format!("forgot {}", pass.uid());
                let told = async {
                    while !self.journal.of("*").contains(&forgotten) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::time::timeout(DEADLINE, told).await.unwrap();
                let (journal, task) = (self.journal.clone(), name.clone());
                self.tasks.start(&id(pass), |context| async move {
                    context.cancel.cancelled().await;
                    journal.write(&task, "task ended");
                });
                return Ok(Progress::Settled);
            }
            Mode::StaleIntent | Mode::OvertakenIntent => {
                let api: Api<Widget> = Api::namespaced(pass.client().clone(), &pass.key().namespace);
                let touch = kube::api::Patch::Merge(
                    json!({"metadata": {"labels": {"touched": format!("t{}", self.journal.of(&name).len())}}}),
                );
                api.patch(&name, &kube::api::PatchParams::default(), &touch)
                    .await
                    .unwrap();
                if widget.spec.mode == Mode::OvertakenIntent {
                    let status = WidgetStatus {
                        value: Some(i64::try_from(self.journal.of(&name).len()).unwrap()),
                        ..WidgetStatus::default()
                    };
                    pass.write_status(&status).await?;
                }
                let outcome = pass.write_intent(&json!({"intent": widget.spec.value})).await;
                self.journal.write(
                    &name,
                    format!("intent {:?}", outcome.as_ref().map_err(ReconcileError::class)),
                );
                outcome?;
            }
            Mode::LateReport => {
                successor_reports(&name, pass).await;
                let late = WidgetStatus {
                    value: Some(widget.spec.value),
                    ..WidgetStatus::default()
                };
                let outcome = pass.write_status(&late).await;
                let told = outcome.map_err(|error| error.class());
                self.journal.write(&name, format!("report {told:?}"));
                return Ok(Progress::Settled);
            }
        }
        pass.write_status(&WidgetStatus {
            value: Some(widget.spec.value),
            ..WidgetStatus::default()
        })
        .await?;
        Ok(Progress::Settled)
    }

    async fn cleanup(&self, widget: Arc<Widget>, pass: &Pass<Widget>) -> Result<Progress, WidgetError> {
        if self.tasks.stop(&pass.uid())
            || matches!(self.tasks.state(&pass.uid()), Some(TaskState::Stopping(_)))
        {
            return Ok(Progress::waiting(Duration::from_secs(5)));
        }
        let line = if widget.annotations().contains_key(FOREIGN) {
            "cleanup of another's"
        } else {
            "cleanup"
        };
        self.journal.write(&widget.name_any(), line);
        Ok(Progress::Settled)
    }

    fn forget(&self, uid: &str) {
        self.journal.write("*", format!("forgot {uid}"));
    }
}

/// Writes 99, as the replica does that has taken over while this pass believes to lead.
async fn successor_reports(name: &str, pass: &Pass<Widget>) {
    let api: Api<Widget> = Api::namespaced(pass.client().clone(), &pass.key().namespace);
    let report = json!({
        "apiVersion": "test.example.com/v1", "kind": "Widget", "metadata": {"name": name}, "status": {"value": 99},
    });
    let params = kube::api::PatchParams::apply(Widgets::NAME).force();
    api.patch_status(name, &params, &kube::api::Patch::Apply(report))
        .await
        .unwrap();
}

fn id(pass: &Pass<Widget>) -> TaskId {
    TaskId {
        uid: pass.uid(),
        key: pass.key().clone(),
        spec_hash: 0,
    }
}

pub struct Bed {
    pub plane: &'static ControlPlane,
    pub namespace: TestNamespace,
    pub widgets: Api<Widget>,
}

impl Bed {
    pub async fn new() -> Self {
        reconcile::cli::install_crypto_provider();
        Self::on(ControlPlane::shared().await.unwrap()).await
    }

    /// With what is on this control plane.
    pub async fn on(plane: &'static ControlPlane) -> Self {
        plane.apply_crds(&[crd()]).await.unwrap();
        let namespace = plane.namespace().await.unwrap();
        let widgets = Api::namespaced(plane.client(), namespace.name());
        Self {
            plane,
            namespace,
            widgets,
        }
    }

    pub async fn create(&self, name: &str, mode: Mode) -> Widget {
        let widget = Widget::new(name, WidgetSpec { value: 1, mode });
        self.widgets
            .create(&PostParams::default(), &widget)
            .await
            .unwrap()
    }

    pub async fn patch(&self, name: &str, patch: serde_json::Value) {
        let patch = kube::api::Patch::Merge(patch);
        self.widgets
            .patch(name, &kube::api::PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Waits until the object satisfies `holds`.
    pub async fn until(&self, name: &str, what: &str, holds: impl Fn(Option<&Widget>) -> bool) {
        until(what, async || {
            holds(self.widgets.get_opt(name).await.unwrap().as_ref())
        })
        .await;
    }
}

/// Waits until `holds` says so.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !holds().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within {DEADLINE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Has the reported value.
pub fn reports(value: i64) -> impl Fn(Option<&Widget>) -> bool {
    move |widget| widget.and_then(|w| w.status.as_ref()).and_then(|s| s.value) == Some(value)
}

/// A compile-time reminder that widgets are kinds of the framework.
pub const fn is_kind<K: Kind>() {}
const _: () = is_kind::<Widget>();
