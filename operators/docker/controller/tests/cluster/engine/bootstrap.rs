//! What a node makes of its bootstrap data.

use docker_controller::{
    bootstrap::script::{DRIVER, Parameters, STATE_DIR, render},
    cloud_config,
};

use super::*;

const DATA: &str = r"#cloud-config
write_files:
- {path: /etc/app/token-of-ours, content: hunter2, owner: nobody, permissions: '0600'}
- {path: /etc/app/shared, content: x, owner: 'nobody:games'}
users:
- name: alice
  gecos: Alice, with a comma
  primary_group: people
  groups: [wheel, adm]
  homedir: /srv/alice
  shell: /bin/sh
  passwd: $6$salt$hashed
  lock_passwd: false
  sudo: ALL=(ALL) NOPASSWD:ALL
  ssh_authorized_keys: [ssh-rsa AAAA one, ssh-rsa BBBB two]
- {name: bob, groups: 'bob, wheel', passwd: $6$salt$locked}
- {name: carol, inactive: true}
- {name: dave, inactive: 30}
- {name: nobody, passwd: $6$salt$other}
";

/// cloud-init makes groups that are missing, and so must who stands in for it.
#[tokio::test(flavor = "multi_thread")]
async fn smoke_users_and_owners_of_the_bootstrap_data_are_there_afterwards() {
    let bed = Bed::start(Image::Node).await;
    let mut plan = bed.plan("users");
    plan.entrypoint = Some(["containerd"].map(str::to_owned).into());
    plan.machine = Some(MachinePlan::default());
    bed.engine.create(&plan).await.unwrap();
    bed.engine.start(&plan.name).await.unwrap();
    let parameters = Parameters {
        provider_id: "docker:////users",
        time_limit: RUNTIME_LIMIT,
        state_dir: STATE_DIR,
    };
    let script = render(&cloud_config::parse(DATA, "users").unwrap(), &parameters);
    let length = script.len().to_string();
    let argv = ["/bin/sh", "-c", DRIVER, "capdkc", STATE_DIR, &length];
    let command = Command {
        argv: argv.map(str::to_owned).into(),
        stdin: script.into_bytes(),
        limit: RUNTIME_LIMIT,
    };
    let mut said = Vec::new();
    let mut on_line = |line: String| said.push(line);
    bed.engine.run(&plan.name, command, &mut on_line).await.unwrap();
    let said = said.join("\n");
    assert!(said.ends_with("exit 0"), "{said}");
    for told in ["token-of-ours", "hunter2", "alice", "$6$"] {
        assert!(!said.contains(told), "{told} is told: {said}");
    }
    for (command, expected) in [
        ("stat -c '%U:%G %a' /etc/app/token-of-ours", "nobody:root 600"),
        ("stat -c %U:%G /etc/app/shared", "nobody:games"),
        ("id -gn alice", "people"),
        ("id -Gn alice", "people adm wheel"),
        (
            "getent passwd alice | cut -d: -f5-",
            "Alice, with a comma:/srv/alice:/bin/sh",
        ),
        ("getent shadow alice | cut -d: -f2", "$6$salt$hashed"),
        ("cat /etc/sudoers.d/90-alice", "alice ALL=(ALL) NOPASSWD:ALL"),
        ("stat -c %U:%a /srv/alice/.ssh", "alice:700"),
        (
            "sort -r /srv/alice/.ssh/authorized_keys | tail -n 1",
            "ssh-rsa AAAA one",
        ),
        ("id -gn bob", "bob"),
        ("id -Gn bob", "bob wheel"),
        ("getent shadow bob | cut -d: -f2", "!$6$salt$locked"),
        ("getent shadow carol | cut -d: -f7-8", ":1"),
        ("getent shadow dave | cut -d: -f7-8", "30:"),
        ("getent shadow nobody | grep -c other || true", "0"),
    ] {
        assert_eq!(bed.shell(&plan.name, command).await, [expected], "{command}");
    }
}
