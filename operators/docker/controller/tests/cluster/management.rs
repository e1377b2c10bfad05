//! A management cluster: a control plane, Cluster API and the provider installed by clusterctl, and the managers as
//! processes. Ours runs with the rights that its manifests give it, and no others.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use testkit::{
    capi::{ClusterApi, Clusterctl, Infrastructure},
    control_plane::{ControlPlane, Options},
    process::{ScratchFolder, Supervised, free_port, tail},
};

/// Where the provider is installed.
const NAMESPACE: &str = "capdkc-system";
const ACCOUNT: &str = "capdkc-controller-manager";

/// The release, as users get it: made in `folder`, or the one in the repository that `CAPDKC_RELEASE` names.
pub fn release(folder: &Path) -> Infrastructure {
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    let given = std::env::var_os("CAPDKC_RELEASE").map(PathBuf::from);
    if given.is_none() {
        make_release(folder, version);
    }
    let file = format!("infrastructure-capdkc/{version}/infrastructure-components.yaml");
    Infrastructure {
        name: "capdkc".into(),
        components: given.as_deref().unwrap_or(folder).join(file),
    }
}

fn make_release(folder: &Path, version: &str) {
    let status = Command::new(env!("CARGO"))
        .args([
            "xtask",
            "release",
            "--provider-only",
            "--version",
            version,
            "--output",
        ])
        .arg(folder)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(status.success(), "cargo xtask release ended with {status}");
}

pub struct Management {
    manager: Mutex<Option<Supervised>>,
    capi: ClusterApi,
    pub clusterctl: Clusterctl,
    folder: ScratchFolder,
    kubeconfig: PathBuf,
    arguments: Vec<String>,
    pub plane: ControlPlane,
}

impl Management {
    /// With everything running; `arguments` are for our manager.
    pub async fn start(infrastructure: &Infrastructure, arguments: &[&str]) -> Self {
        let plane = ControlPlane::start(Options::default()).await.unwrap();
        let (capi, clusterctl) = ClusterApi::init(&plane, infrastructure).await.unwrap();
        let folder = ScratchFolder::create("capdkc-test").unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        write_kubeconfig(&plane, &kubeconfig).await;
        let started = Self {
            manager: Mutex::default(),
            capi,
            clusterctl,
            folder,
            kubeconfig,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            plane,
        };
        started.start_manager();
        started
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("capdkc.log")
    }

    /// Starts the shipped binary.
    pub fn start_manager(&self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_capdkc"));
        let probes = format!("127.0.0.1:{}", free_port().unwrap());
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--leader-elect", "--leader-elect-preset=fast"])
            .args(["--leader-election-namespace", NAMESPACE])
            .args([
                "--metrics-bind-address",
                "0",
                "--health-probe-bind-address",
                &probes,
            ])
            .args(&self.arguments);
        *self.manager.lock() = Some(Supervised::spawn("capdkc", &command, &self.log()).unwrap());
    }

    /// SIGKILL.
    pub fn kill_manager(&self) {
        if let Some(mut manager) = self.manager.lock().take() {
            manager.kill();
        }
    }

    /// What everybody said last, for the message of a test that failed.
    pub fn last_words(&self) -> String {
        format!(
            "--- capdkc\n{}\n{}",
            tail(&self.log(), 25),
            self.capi.last_words()
        )
    }

    /// `clusterctl delete` takes the provider away with its kinds, policies and rights.
    pub async fn leaves_nothing_when_it_is_uninstalled(&self) {
        self.kill_manager();
        let arguments = [
            "delete",
            "--infrastructure",
            "capdkc",
            "--include-crd",
            "--include-namespace",
        ];
        self.clusterctl.run(&arguments, &[]).await.unwrap();
        let ours = ListParams::default().labels("cluster.x-k8s.io/provider=infrastructure-capdkc");
        for (version, kind) in [
            ("rbac.authorization.k8s.io/v1", "ClusterRole"),
            ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
            ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
            (
                "admissionregistration.k8s.io/v1",
                "ValidatingAdmissionPolicyBinding",
            ),
        ] {
            let (group, version) = version.split_once('/').unwrap();
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = Api::all_with(self.plane.client(), &resource);
            let left = api.list(&ours).await.unwrap().items;
            let names: Vec<_> = left.iter().map(ResourceExt::name_any).collect();
            assert_eq!(names, Vec::<String>::new(), "{kind}");
        }
    }

    /// Objects of a kind, in `namespace`.
    pub fn api(&self, version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.plane.client(), namespace, &resource)
    }
}

/// A kubeconfig with the rights of the manager's account.
async fn write_kubeconfig(plane: &ControlPlane, path: &Path) {
    let accounts: Api<ServiceAccount> = Api::namespaced(plane.client(), NAMESPACE);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: Some(7200),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let token = accounts
        .create_token_request(ACCOUNT, &PostParams::default(), &request)
        .await
        .unwrap();
    let text = std::fs::read_to_string(plane.kubeconfig_path()).unwrap();
    let mut kubeconfig: Value = serde_saphyr::from_str(&text).unwrap();
    kubeconfig["users"][0]["user"] = json!({"token": token.status.unwrap().token});
    std::fs::write(path, kubeconfig.to_string()).unwrap();
}
