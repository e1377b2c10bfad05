use docker_api::NodeResources;
use rstest::rstest;

use super::*;

fn machine(cluster: &ClusterId) -> Machine<'_> {
    Machine {
        cluster,
        name: "c1-abc",
        role: Role::ControlPlane,
        version: Some("v1.34.4"),
        failure_domain: Some("fd1"),
        attempt: 1,
    }
}

fn make(spec: &DockerMachineSpec) -> Result<ContainerPlan, Error> {
    let cluster = ClusterId::new("ns", "c1");
    plan(
        &machine(&cluster),
        spec,
        "kind",
        Some(Ipv4Addr::new(172, 30, 128, 1)),
    )
}

/// An upgrade makes machines of the new version from the same template.
#[test]
fn the_flavors_leave_the_image_to_the_version_of_each_machine() {
    for flavor in [
        include_str!("../../../config/cluster-template.yaml"),
        include_str!("../../../config/cluster-template-ha.yaml"),
    ] {
        let images = flavor
            .lines()
            .filter_map(|line| line.trim().strip_prefix("customImage: "));
        let images: Vec<_> = images.collect();
        assert_eq!(images, [r#"${CAPDKC_NODE_IMAGE:=""}"#; 2]);
    }
    let spec = DockerMachineSpec {
        custom_image: Some(String::new()),
        ..DockerMachineSpec::default()
    };
    assert_eq!(image(&spec, Some("v1.35.0")).unwrap(), "kindest/node:v1.35.0");
}

#[test]
fn a_plain_machine_is_named_labelled_and_placed() {
    let plan = make(&DockerMachineSpec::default()).unwrap();
    assert_eq!(plan.name, "c1-abc.ns");
    assert_eq!(plan.hostname, "c1-abc");
    assert_eq!(plan.image, "kindest/node:v1.34.4");
    assert_eq!(plan.labels[identity::FAILURE_DOMAIN_LABEL], "fd1");
    assert_eq!(plan.labels[identity::ROLE_LABEL], "control-plane");
    assert_eq!(plan.labels.get(identity::ATTEMPT_LABEL), None);
    assert!(
        plan.environment
            .contains(&"KUBECONFIG=/etc/kubernetes/admin.conf".to_owned())
    );
    assert!(
        plan.machine.unwrap().mounts.is_empty(),
        "no socket, no host path unless asked for"
    );
}

#[rstest]
#[case(Some("reg/img@sha256:00"), Some("v1"), Ok("reg/img@sha256:00"))]
#[case(None, Some("1.34.4"), Ok("kindest/node:v1.34.4"))]
#[case(None, Some("v1.34.4+build.1"), Ok("kindest/node:v1.34.4_build.1"))]
#[case(Some(""), Some("v1.34.4"), Ok("kindest/node:v1.34.4"))]
#[case(None, None, Err(Error::NoImage))]
fn an_image_is_the_one_asked_for_or_the_versions(
    #[case] custom: Option<&str>,
    #[case] version: Option<&str>,
    #[case] expected: Result<&str, Error>,
) {
    let spec = DockerMachineSpec {
        custom_image: custom.map(str::to_owned),
        ..DockerMachineSpec::default()
    };
    assert_eq!(image(&spec, version), expected.map(str::to_owned));
}

#[rstest]
#[case("2", 1_000_000_000, Some(2_000_000_000))]
#[case("1500m", 1_000_000_000, Some(1_500_000_000))]
#[case("0.5", 1_000_000_000, Some(500_000_000))]
#[case("4Gi", 1, Some(4 << 30))]
#[case("1.5Gi", 1, Some(3 << 29))]
#[case("500M", 1, Some(500_000_000))]
#[case("", 1, None)]
#[case(".", 1, None)]
#[case("4GB", 1, None)]
#[case("-1", 1, None)]
#[case("1e3", 1, None)]
fn quantities_are_read_as_kubernetes_writes_them(
    #[case] text: &str,
    #[case] scale: i128,
    #[case] value: Option<i128>,
) {
    assert_eq!(scaled(text, scale), value);
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let mount = |host: Option<&str>, container: Option<&str>| DockerMachineSpec {
        extra_mounts: vec![Mount {
            host_path: host.map(str::to_owned),
            container_path: container.map(str::to_owned),
            read_only: None,
        }],
        ..DockerMachineSpec::default()
    };
    let error = |spec: &DockerMachineSpec| make(spec).unwrap_err().to_string();
    assert!(error(&mount(None, Some("/b"))).contains("extraMounts[0].hostPath"));
    assert!(error(&mount(Some("/a"), Some("b"))).contains("extraMounts[0].containerPath"));
    let zero = DockerMachineSpec {
        resources: Some(NodeResources {
            cpus: Some(Quantity("0".into())),
            ..NodeResources::default()
        }),
        ..DockerMachineSpec::default()
    };
    assert!(error(&zero).contains("resources.cpus"));
    let stolen = DockerMachineSpec {
        labels: [(identity::ROLE_LABEL.to_owned(), "x".to_owned())].into(),
        ..DockerMachineSpec::default()
    };
    assert!(error(&stolen).contains("belongs to the controller"));
}

#[test]
fn mounts_are_made_in_either_spelling() {
    let asked = vec![Mount {
        host_path: Some("/a".into()),
        container_path: Some("/b".into()),
        read_only: Some(true),
    }];
    let older = DockerMachineSpec {
        mounts: asked.clone(),
        ..DockerMachineSpec::default()
    };
    let newer = DockerMachineSpec {
        extra_mounts: asked,
        ..DockerMachineSpec::default()
    };
    let expected = [HostMount {
        host_path: "/a".into(),
        container_path: "/b".into(),
        read_only: true,
    }];
    for spec in [older, newer] {
        let made = make(&spec).unwrap().machine.unwrap().mounts;
        assert_eq!(made, expected);
    }
}

#[test]
fn proxies_are_handed_on_under_both_spellings() {
    let environment = proxy_environment(|name| match name {
        "https_proxy" => Some("http://p:1".into()),
        "NO_PROXY" => Some("10.0.0.0/8".into()),
        _ => None,
    });
    assert_eq!(
        environment,
        [
            "HTTPS_PROXY=http://p:1",
            "https_proxy=http://p:1",
            "NO_PROXY=10.0.0.0/8",
            "no_proxy=10.0.0.0/8",
        ]
    );
}

#[test]
fn neighbours_and_services_go_through_no_proxy_where_there_is_one() {
    let subnet = Some(([172, 30, 0, 0].into(), 16));
    let kept = |environment: &[&str]| {
        let mut plan = ContainerPlan {
            hostname: "m".into(),
            environment: environment.iter().map(|entry| (*entry).to_owned()).collect(),
            ..ContainerPlan::default()
        };
        keep_from_proxies(&mut plan, subnet);
        plan.environment
    };
    assert_eq!(kept(&["KUBECONFIG=/k"]), ["KUBECONFIG=/k"]);
    assert_eq!(
        kept(&["HTTP_PROXY=http://p:1", "http_proxy=http://p:1"])[2..],
        [
            "NO_PROXY=172.30.0.0/16,m,.svc,.svc.cluster,.svc.cluster.local",
            "no_proxy=172.30.0.0/16,m,.svc,.svc.cluster,.svc.cluster.local",
        ]
    );
    assert_eq!(
        kept(&["NO_PROXY=a", "no_proxy=a", "KUBECONFIG=/k"]),
        [
            "KUBECONFIG=/k",
            "NO_PROXY=172.30.0.0/16,a,m,.svc,.svc.cluster,.svc.cluster.local",
            "no_proxy=172.30.0.0/16,a,m,.svc,.svc.cluster,.svc.cluster.local",
        ]
    );
}
