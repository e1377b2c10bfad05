//! The server: its Deployment, its Service, its options.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy},
        core::v1::{
            ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, ExecAction,
            PersistentVolumeClaimVolumeSource, Pod, PodCondition, PodSpec, PodTemplateSpec, Probe,
            SecretVolumeSource, Service, ServicePort, ServiceSpec, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::{ResourceExt as _, api::ObjectMeta};
use mysql_api::database::ServiceType;
use sha2::{Digest as _, Sha256};

use super::{confinement, desired::Desired, names::APP, program};
use crate::sabotage;

/// Name of the server's container.
pub const CONTAINER: &str = "mysql";
/// Where the options are mounted; the official images read the files there.
const CONFIG_FOLDER: &str = "/etc/mysql/conf.d";
/// Their file.
const CONFIG_FILE: &str = "mysql-operator.cnf";
/// What has mysqld read that file where an image does not have it read the folder. It has to be the first argument.
const CONFIG_ARGUMENT: &str = "--defaults-extra-file=/etc/mysql/conf.d/mysql-operator.cnf";
/// Annotation on the Pod: a mark of the password, so that another one restarts the server.
const REVISION: &str = "otus.homework/credentials-revision";
/// Annotation on the Pod: a digest of the options.
const OPTIONS: &str = "otus.homework/config-digest";
/// How often a server may not answer when it starts: for a day, each second. After a crash a large one takes hours.
const PATIENCE: i32 = 24 * 60 * 60;
/// How long a server may take to end in good order, in seconds.
const GRACE: i64 = 120;

/// The ConfigMap with the options.
pub fn config(desired: &Desired) -> ConfigMap {
    ConfigMap {
        metadata: named(desired.names.config(), desired),
        data: Some([(CONFIG_FILE.to_owned(), options_file(desired))].into()),
        ..ConfigMap::default()
    }
}

fn options_file(desired: &Desired) -> String {
    let lines = desired.options.iter().map(|(name, value)| {
        if value.is_empty() {
            format!("{name}\n")
        } else {
            format!(
                "{name}=\"{}\"\n",
                value.replace('\\', "\\\\").replace('"', "\\\"")
            )
        }
    });
    std::iter::once("[mysqld]\n".to_owned()).chain(lines).collect()
}

/// The argument by which mysqld reads the options, where it would not without: the images that Oracle publishes itself have
/// no file that includes the folder.
pub(super) fn config_argument(desired: &Desired) -> Option<&'static str> {
    let is_unread = !desired.options.is_empty() && confinement::is_oracles(&desired.image);
    is_unread.then_some(CONFIG_ARGUMENT)
}

/// The Service, by which clients and backups reach the server.
pub fn service(desired: &Desired) -> Service {
    let type_ = match desired.service {
        ServiceType::Headless | ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let headless = desired.service == ServiceType::Headless;
    Service {
        metadata: named(desired.names.name().to_owned(), desired),
        spec: Some(ServiceSpec {
            type_: Some(type_.to_owned()),
            cluster_ip: headless.then(|| "None".to_owned()),
            selector: Some(desired.names.selector()),
            ports: Some(vec![ServicePort {
                name: Some("mysql".to_owned()),
                port: i32::from(program::PORT),
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::Int(i32::from(program::PORT))),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Whether a Service has to be made anew to become `wanted`: one with an address never loses it, nor gains one.
pub fn is_other_service(live: &Service, wanted: ServiceType) -> bool {
    let address = live.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    (address == Some("None")) != (wanted == ServiceType::Headless)
}

/// The Deployment, with the mark of the password that its server was given.
pub fn deployment(desired: &Desired, revision: &str) -> Deployment {
    let mut labels = desired.names.labels();
    labels.insert(APP.to_owned(), desired.names.name().to_owned());
    let digest = Sha256::digest(options_file(desired));
    let digest = digest
        .iter()
        .take(8)
        .fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    let annotations = [
        (REVISION.to_owned(), revision.to_owned()),
        (OPTIONS.to_owned(), format!("{digest:016x}")),
    ];
    Deployment {
        metadata: named(desired.names.name().to_owned(), desired),
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            revision_history_limit: Some(1),
            selector: LabelSelector {
                match_labels: Some(desired.names.selector()),
                ..LabelSelector::default()
            },
            // Two servers on one data folder destroy it.
            strategy: Some(DeploymentStrategy {
                type_: Some("Recreate".to_owned()),
                ..DeploymentStrategy::default()
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    annotations: Some(annotations.into()),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(desired)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn pod(desired: &Desired) -> PodSpec {
    let data = mount("data", program::DATA_FOLDER, false);
    let guard = Container {
        name: "guard".to_owned(),
        image: Some(desired.image.clone()),
        command: Some(program::command(program::GUARD)),
        volume_mounts: Some(vec![data.clone(), mount("tmp", "/tmp", false)]),
        resources: desired.resources.requirements(),
        ..Container::default()
    };
    let mut arguments = program::server_arguments(desired.version);
    arguments.splice(..0, config_argument(desired).map(str::to_owned));
    let mut server = Container {
        name: CONTAINER.to_owned(),
        image: Some(desired.image.clone()),
        args: Some(arguments),
        ports: Some(vec![ContainerPort {
            name: Some("mysql".to_owned()),
            container_port: i32::from(program::PORT),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        startup_probe: Some(probe(1, PATIENCE)),
        readiness_probe: Some(probe(5, 3)),
        // What mysqld says before it gives up is in its log alone.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        resources: desired.resources.requirements(),
        volume_mounts: Some(
            [data]
                .into_iter()
                .chain(client_mounts())
                .chain([mount("tmp", "/tmp", false)])
                .collect(),
        ),
        ..Container::default()
    };
    if sabotage::active(sabotage::PASSWORD_IN_CLEAR)
        && let super::desired::PasswordSource::Clear(password) = &desired.password
    {
        let variable = serde_json::json!({"name": "MYSQL_ROOT_PASSWORD", "value": password});
        server.env = serde_json::from_value(serde_json::json!([variable])).ok();
    }
    let mut pod = PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        init_containers: Some(vec![guard]),
        containers: vec![server],
        termination_grace_period_seconds: Some(GRACE),
        volumes: Some(
            [claimed("data", &desired.names.data_claim()), scratch("tmp")]
                .into_iter()
                .chain(client_volumes(desired))
                .collect(),
        ),
        ..PodSpec::default()
    };
    confinement::add_run_folder(&mut pod, CONTAINER);
    desired.identity.confine(&mut pod);
    pod
}

/// Asks the server so often, in seconds, until it has not answered so many times in a row.
fn probe(period: i32, failures: i32) -> Probe {
    Probe {
        exec: Some(ExecAction {
            command: Some(program::server_probe()),
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(10),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn named(name: String, desired: &Desired) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        labels: Some(desired.names.labels()),
        ..ObjectMeta::default()
    }
}

/// A mount of the volume with this name.
pub(super) fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// Mounts of the Secret and of the options.
pub(super) fn client_mounts() -> [VolumeMount; 2] {
    [
        mount("credentials", program::CLIENT_FOLDER, true),
        mount("config", CONFIG_FOLDER, true),
    ]
}

/// The volumes behind [`client_mounts`].
pub(super) fn client_volumes(desired: &Desired) -> [Volume; 2] {
    [
        Volume {
            name: "credentials".to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(desired.names.credentials()),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: "config".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: desired.names.config(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
    ]
}

/// A volume of a claim.
pub(super) fn claimed(name: &str, claim: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.to_owned(),
            ..PersistentVolumeClaimVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A volume that ends with its Pod.
pub(super) fn scratch(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(k8s_openapi::api::core::v1::EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

/// Whether the Deployment's one Pod is ready, and is as the Deployment now says.
pub fn is_serving(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else {
        return false;
    };
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas.unwrap_or_default() == 1
        && status.available_replicas.unwrap_or_default() == 1
}

/// The image that a Deployment's server runs.
pub fn image_of(deployment: &Deployment) -> Option<&str> {
    image_in(deployment.spec.as_ref()?.template.spec.as_ref()?)
}

/// The image that the server in a Pod runs, or else its first container.
pub fn image_in(pod: &PodSpec) -> Option<&str> {
    container_in(pod)?.image.as_deref()
}

/// The container of a Pod that is the server's, or else its first one.
pub(super) fn container_in(pod: &PodSpec) -> Option<&Container> {
    let server = pod
        .containers
        .iter()
        .find(|container| container.name == CONTAINER);
    server.or_else(|| pod.containers.first())
}

/// What says of a Pod that no node takes it.
pub fn unplaced(pod: &Pod) -> Option<&PodCondition> {
    let mut all = pod.status.as_ref()?.conditions.iter().flatten();
    all.find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
}

/// Why a Pod does not come up, if that can be seen: in words that stay the same while the cause does.
pub fn trouble(pod: &Pod) -> Option<String> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    if let Some(condition) = unplaced(pod) {
        let why = condition.message.as_deref().unwrap_or("no node takes it");
        return Some(format!("Pod {name} is on no node: {why}"));
    }
    let containers = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses);
    containers.flatten().find_map(|container| {
        let last = [&container.state, &container.last_state]
            .into_iter()
            .flatten()
            .find_map(|state| state.terminated.as_ref())
            .filter(|ended| ended.exit_code != 0);
        if let Some(ended) = last {
            let words = ended.message.as_deref().unwrap_or_default().trim();
            let words = match program::Outcome::parse(words) {
                program::Outcome::Failed(failure) if failure.reason != program::Reason::Unexplained => {
                    failure.error
                }
                _ => words.lines().next_back().unwrap_or_default().to_owned(),
            };
            let (container, code) = (&container.name, ended.exit_code);
            // Of these two the status says as much.
            let plain = |reason: &&str| matches!(*reason, "Error" | "Completed");
            let reason = ended.reason.as_deref().filter(|reason| !plain(reason));
            let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            return Some(format!(
                "Pod {name}, container {container}: ended with status {code}{reason}: {words}"
            ));
        }
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        // Two names for one trouble, in turn.
        let reason = match waiting.reason.as_deref()? {
            "ImagePullBackOff" => "ErrImagePull",
            other => other,
        };
        // These two pass by themselves.
        (!matches!(reason, "ContainerCreating" | "PodInitializing"))
            .then(|| format!("Pod {name}, container {}: {reason}", container.name))
    })
}

#[cfg(test)]
mod tests;
