use rstest::rstest;

use super::*;

#[test]
fn a_kubeadm_bootstrap_is_understood_in_full() {
    let config = parse(
        r"## template: jinja
#cloud-config

write_files:
-   path: /etc/kubernetes/pki/ca.key
    owner: root:root
    permissions: '0600'
    content: |
      -----BEGIN KEY-----
      secret
      -----END KEY-----

-   path: run/kubeadm/kubeadm.yaml
    permissions: '0640'
    append: true
    encoding: gzip+base64
    content: |
      ---
      name: '{{ ds.meta_data.local_hostname }}'
runcmd:
  - 'kubeadm init --config /run/kubeadm/kubeadm.yaml  && echo success'
  - [ echo, 1, two words ]
ntp:
  enabled: true
users:
  - default
  - name: admin
    groups: [wheel, adm]
    sudo: ALL=(ALL) NOPASSWD:ALL
    ssh_authorized_keys: [ssh-rsa AAA]
",
        "node-1",
    )
    .unwrap();
    assert_eq!(
        config.files[0].content,
        "-----BEGIN KEY-----\nsecret\n-----END KEY-----\n"
    );
    assert_eq!(config.files[0].permissions, "0600");
    let second = &config.files[1];
    assert_eq!(second.path, "/run/kubeadm/kubeadm.yaml");
    assert_eq!(second.content, "---\nname: 'node-1'\n");
    assert!(second.append && second.encoding.gzip && second.encoding.base64);
    assert_eq!(
        config.runcmd,
        [
            Command::Shell("kubeadm init --config /run/kubeadm/kubeadm.yaml  && echo success".into()),
            Command::Argv(["echo", "1", "two words"].map(str::to_owned).into()),
        ]
    );
    assert_eq!(config.ignored, ["ntp"]);
    assert_eq!(config.users.len(), 1);
    assert_eq!(config.users[0].groups, ["wheel", "adm"]);
}

/// Every key that kubeadm's bootstrap provider writes, as it writes them.
#[test]
fn a_user_of_kubeadms_bootstrap_provider_is_understood_in_full() {
    let text = "users:
  - name: alice
    gecos: Alice
    groups: wheel, adm
    homedir: /srv/alice
    inactive: true
    lock_passwd: false
    passwd: $6$hash
    primary_group: people
    shell: /bin/sh
    sudo: ALL=(ALL) NOPASSWD:ALL
    ssh_authorized_keys:
      - ssh-rsa AAA
";
    let config = parse(text, "h").unwrap();
    let some = |text: &str| Some(text.to_owned());
    let expected = User {
        name: "alice".into(),
        gecos: some("Alice"),
        primary_group: some("people"),
        groups: ["wheel", "adm"].map(str::to_owned).into(),
        homedir: some("/srv/alice"),
        shell: some("/bin/sh"),
        passwd: some("$6$hash"),
        may_use_password: true,
        inactive: some("true"),
        sudo: vec!["ALL=(ALL) NOPASSWD:ALL".into()],
        ssh_authorized_keys: vec!["ssh-rsa AAA".into()],
    };
    assert_eq!(config.users, [expected]);
    assert_eq!(config.ignored, Vec::<String>::new());
    let plain = parse(
        "users: [{name: bob, inactive: false, sudo: false, gecos: ''}]",
        "h",
    )
    .unwrap();
    let expected = User {
        name: "bob".into(),
        ..User::default()
    };
    assert_eq!(plain.users, [expected]);
}

#[test]
fn keys_that_are_not_supported_are_named_with_their_place_and_without_their_value() {
    let text = "users: [default, {name: a, uid: 7}, {name: b, plain_text_passwd: hunter2}]
write_files: [{path: /a, content: x}, {path: /b, defer: true, source: {uri: hunter2}}]
ntp: {}
";
    let mut ignored = parse(text, "h").unwrap().ignored;
    ignored.sort();
    assert_eq!(
        ignored,
        [
            "ntp",
            "users[1].uid",
            "users[2].plain_text_passwd",
            "write_files[1].defer",
            "write_files[1].source",
        ]
    );
}

#[rstest]
#[case("", Encoding { base64: false, gzip: false })]
#[case("b64", Encoding { base64: true, gzip: false })]
#[case("base64", Encoding { base64: true, gzip: false })]
#[case("gz", Encoding { base64: true, gzip: true })]
#[case("gz+b64", Encoding { base64: true, gzip: true })]
#[case("gzip+base64", Encoding { base64: true, gzip: true })]
fn encodings_are_named_as_cloud_init_names_them(#[case] name: &str, #[case] expected: Encoding) {
    assert_eq!(encoding(name), Some(expected));
}

#[rstest]
#[case("permissions: '0640'", "0640")]
#[case("permissions: \"755\"", "755")]
#[case("permissions: 0640", "640")]
#[case("permissions: 0o640", "640")]
#[case("owner: x", "0644")]
fn permissions_are_octal(#[case] field: &str, #[case] expected: &str) {
    let config = parse(&format!("write_files:\n- path: /a\n  {field}\n"), "h").unwrap();
    assert_eq!(config.files[0].permissions, expected);
}

#[rstest]
#[case("a: [", "not a YAML mapping")]
#[case("- just\n- a list", "not a YAML mapping")]
#[case("", "not a YAML mapping")]
#[case(
    "{\"ignition\": {\"version\": \"3.4.0\"}, \"systemd\": {}}",
    "no cloud-config"
)]
#[case("version: v1alpha1\nmachine: {token: hunter2}", "no cloud-config")]
#[case("runcmd: kubeadm", "module runcmd")]
#[case("runcmd:\n- {a: b}", "runcmd[0]")]
#[case("write_files:\n- path: /ok\n- content: hunter2", "write_files[1]")]
#[case("write_files:\n- path: /a\n  permissions: rwx hunter2", "write_files[0]")]
#[case("write_files:\n- path: /a\n  encoding: hunter2", "write_files[0]")]
#[case("key: hunter2\n  bad: [hunter2", "not a YAML mapping")]
fn what_cannot_be_used_is_named_and_never_quoted(#[case] text: &str, #[case] words: &str) {
    let error = parse(text, "h").unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_cloud_config_without_any_module_that_is_supported_is_one() {
    let config = parse("## template: jinja\n#cloud-config\nntp: {enabled: true}\n", "h").unwrap();
    assert_eq!(config.ignored, ["ntp"]);
    assert!(parse("#cloud-config\n{}\n", "h").unwrap().ignored.is_empty());
    let config = parse("write_files:\n- {path: /a, defer: true}\n", "h").unwrap();
    assert_eq!((config.files.len(), config.ignored.len()), (1, 1));
}
