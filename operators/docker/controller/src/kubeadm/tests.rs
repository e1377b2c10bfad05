use super::*;

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&adapt(text, "docker:////m.ns")).unwrap()
}

#[test]
fn an_open_setting_is_filled_in_and_a_given_one_stays() {
    let docs = documents(
        "---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nnodeRegistration:\n  kubeletExtraArgs:\n  - name: eviction-hard\n    value: mine\n  ignorePreflightErrors: [Swap]\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\napiServer:\n  certSANs: [localhost, example.com]\n",
    );
    let flags = docs[0]["nodeRegistration"]["kubeletExtraArgs"]
        .as_array()
        .unwrap();
    let value = |name: &str| {
        flags
            .iter()
            .filter(|f| f["name"] == name)
            .map(|f| f["value"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(value("eviction-hard"), ["mine"]);
    assert_eq!(value("provider-id"), ["docker:////m.ns"]);
    assert_eq!(value("fail-swap-on"), ["false"]);
    let checks = docs[0]["nodeRegistration"]["ignorePreflightErrors"]
        .as_array()
        .unwrap();
    assert_eq!(checks.len(), 3, "{checks:?}");
    assert_eq!(docs[0]["nodeRegistration"]["criSocket"], CRI_SOCKET);
    assert_eq!(
        docs[1]["apiServer"]["certSANs"],
        json!(["localhost", "example.com", "127.0.0.1"])
    );
    assert_eq!(docs[2]["conntrack"]["maxPerCore"], 0);
}

#[test]
fn older_configurations_keep_their_form_and_join_gets_no_proxy() {
    let docs = documents(
        "apiVersion: kubeadm.k8s.io/v1beta3\nkind: JoinConfiguration\nnodeRegistration:\n  criSocket: unix:///other.sock\n",
    );
    assert_eq!(docs.len(), 1);
    assert_eq!(
        docs[0]["nodeRegistration"]["kubeletExtraArgs"]["provider-id"],
        "docker:////m.ns"
    );
    assert_eq!(docs[0]["nodeRegistration"]["criSocket"], "unix:///other.sock");
}

#[test]
fn all_checks_ignored_stays_all() {
    let docs = documents(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\nnodeRegistration: {ignorePreflightErrors: [all]}\n",
    );
    assert_eq!(
        docs[0]["nodeRegistration"]["ignorePreflightErrors"],
        json!(["all"])
    );
}

#[test]
fn what_is_not_yaml_is_left_alone() {
    assert_eq!(adapt("a: [", "x"), "a: [");
}
