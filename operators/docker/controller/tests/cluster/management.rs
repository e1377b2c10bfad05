//! A management cluster: a control plane, Cluster API and the provider installed by clusterctl, and the managers as
//! processes. Ours runs with the rights that its manifests give it, and no others.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Secret, ServiceAccount},
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

/// Its folder in a repository of clusterctl's.
const PROVIDER: &str = "infrastructure-capdkc";
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));
/// A later release of the same series.
const LATER: &str = "v0.1.999";
/// Where the provider is installed.
const NAMESPACE: &str = "capdkc-system";
const ACCOUNT: &str = "capdkc-controller-manager";

/// What the provider has for the whole cluster, and how many of each at least.
const PARTS: [(&str, usize); 4] = [
    ("ClusterRole", 1),
    ("ClusterRoleBinding", 1),
    ("ValidatingAdmissionPolicy", 2),
    ("ValidatingAdmissionPolicyBinding", 2),
];

/// The release, as users get it, in `folder`: made from the sources, or copied from the repository that `CAPDKC_RELEASE`
/// names.
pub fn release(folder: &Path) -> Infrastructure {
    match std::env::var_os("CAPDKC_RELEASE") {
        Some(given) => copy(&Path::new(&given).join(PROVIDER), &folder.join(PROVIDER)),
        None => make_release(folder),
    }
    Infrastructure {
        name: "capdkc".into(),
        components: folder
            .join(PROVIDER)
            .join(VERSION)
            .join("infrastructure-components.yaml"),
    }
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn make_release(folder: &Path) {
    let status = Command::new(env!("CARGO"))
        .args([
            "xtask",
            "release",
            "--provider-only",
            "--version",
            VERSION,
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

    /// No line of bootstrap data that is long enough to be one's own stands in the manager's log, in a
    /// DockerMachine or in an event.
    pub async fn has_told_no_bootstrap_data(&self, namespace: &str) {
        let secrets: Api<Secret> = Api::namespaced(self.plane.client(), namespace);
        let data = ListParams::default().fields("type=cluster.x-k8s.io/secret");
        let mut told = std::fs::read_to_string(self.log()).unwrap();
        for (version, kind) in [
            ("infrastructure.cluster.x-k8s.io/v1beta2", "DockerMachine"),
            ("events.k8s.io/v1", "Event"),
        ] {
            let api = self.api(version, kind, namespace);
            for object in api.list(&ListParams::default()).await.unwrap().items {
                told.push_str(&object.data.to_string());
            }
        }
        let mut lines = 0;
        for secret in secrets.list(&data).await.unwrap().items {
            let value = secret.data.and_then(|mut data| data.remove("value"));
            let value = String::from_utf8(value.unwrap_or_default().0).unwrap();
            for line in value.lines().map(str::trim).filter(|line| line.len() >= 40) {
                assert!(!told.contains(line), "told: {line}");
                lines += 1;
            }
        }
        assert!(lines > 100, "only {lines} lines of bootstrap data were found");
    }

    /// `clusterctl upgrade` brings the provider to another release: its kinds stay, its policies and rights are there.
    pub async fn is_upgraded(&self, release: &Path) {
        let provider = release.join(PROVIDER);
        copy(&provider.join(VERSION), &provider.join(LATER));
        let to = format!("{NAMESPACE}/capdkc:{LATER}");
        self.clusterctl
            .run(&["upgrade", "apply", "--infrastructure", &to], &[])
            .await
            .unwrap();
        let providers = self.api("clusterctl.cluster.x-k8s.io/v1alpha3", "Provider", NAMESPACE);
        let provider = providers.get(PROVIDER).await.unwrap();
        assert_eq!(provider.data["version"], LATER);
        for (kind, least) in PARTS {
            assert!(self.parts(kind).await.len() >= least, "{kind} after the upgrade");
        }
    }

    /// The names of the provider's cluster-wide objects of a kind.
    async fn parts(&self, kind: &str) -> Vec<String> {
        let group = if kind.starts_with("Validating") {
            "admissionregistration.k8s.io"
        } else {
            "rbac.authorization.k8s.io"
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let api: Api<DynamicObject> = Api::all_with(self.plane.client(), &resource);
        let ours = ListParams::default().labels("cluster.x-k8s.io/provider=infrastructure-capdkc");
        let listed = api.list(&ours).await.unwrap().items;
        listed.iter().map(ResourceExt::name_any).collect()
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
        for (kind, _) in PARTS {
            assert_eq!(self.parts(kind).await, Vec::<String>::new(), "{kind}");
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
