//! The data volume on a real disk: what user data does with one that is new, one that it has seen before, and one that is
//! somebody's. The disk is a loop device, the machine a container; systemd and mysqld are stand-ins here, for they have
//! tests of their own, while the disk, its file systems and its mounts are real.

use mysql_controller::{
    bootstrap::user_data,
    desired::{Desired, Owner, Settings},
};
use serde_json::Value;
use testkit::{
    docker::Docker,
    image::{Image, Images},
    process::Janitor,
};

use crate::bed::sample;

/// Makes the machine: users, stand-ins, and nodes for whichever loop device is free.
const MACHINE: &str = r#"
useradd --system mysql 2> /dev/null || true
cat > /usr/local/sbin/systemctl << 'END'
#!/bin/sh
[ "$1" = cat ] || echo "$*" >> /run/asked
# Busy at first, as machines are that have just booted.
[ "$1" != restart ] || [ -e /run/at-rest ] || { touch /run/at-rest; exit 1; }
[ "$1" != cat ]
END
cat > /usr/local/sbin/mysqld << 'END'
#!/bin/sh
case " $* " in
  *" --print-defaults "*)
    folder=$(sed -n 's/^!includedir //p' /etc/my.cnf)
    [ -z "$folder" ] || sed -n 's/^\([a-z_]*=.*\)/--\1/p' "$folder"/*.cnf | tr '\n' ' ' ;;
  *" --validate-config "*)
    option=$(grep -h no_such /etc/mysql/mysql.conf.d/zz-cluster.cnf) || exit 0
    echo "2026-01-01T00:00:00Z 0 [ERROR] [MY-000067] [Server] unknown variable '$option'." >&2
    exit 1 ;;
  *" --initialize-insecure "*) echo made >> /var/lib/mysql/ibdata1 ;;
esac
END
chmod +x /usr/local/sbin/systemctl /usr/local/sbin/mysqld
for n in $(seq 0 31); do [ -b /dev/loop$n ] || mknod /dev/loop$n b 7 $n || true; done
mkdir -p /var/lib/mysql /etc/my.cnf.d
# As Oracle's RPMs have it.
printf '[mysqld]\ndatadir=/var/lib/mysql\nlog-error=/var/log/mysqld.log' > /etc/my.cnf
: > /etc/fstab
"#;

/// Puts a new disk of 64 MiB in the place of the data volume's.
const INSERT: &str = r#"
umount /var/lib/mysql 2> /dev/null || true
[ ! -e /loop ] || losetup --detach "$(cat /loop)"
rm -f /disk; truncate --size 64M /disk
losetup --find --show /disk > /loop
ln -sf "$(cat /loop)" /dev/sdf
: > /etc/fstab
"#;

/// A container that is taken for a machine on EC2 with one disk beside its root's.
struct Machine {
    docker: Docker,
    name: String,
    _janitor: Janitor,
}

impl Machine {
    async fn boot() -> Self {
        let docker = Docker::connect().await.unwrap();
        let image = Images::new(&docker).ensure(Image::Toolbox).await.unwrap();
        let name = format!("data-volume-{}", std::process::id());
        let script = r#"docker=$1; name=$2
            "$docker" exec "$name" sh -c 'umount /var/lib/mysql; losetup --detach "$(cat /loop)"'
            "$docker" rm --force --volumes "$name""#;
        let program = docker.program().to_string_lossy().into_owned();
        let janitor = Janitor::engage(script, &[program, name.clone()]).unwrap();
        let run = ["run", "--detach", "--tty", "--privileged", "--network=none"];
        let label = format!("--label=operators-testbed.disk={name}");
        let rest = ["--name", &name, "--entrypoint", "sleep", &image, "infinity"];
        docker
            .run(&[&run[..], &[label.as_str()], &rest[..]].concat())
            .await
            .unwrap();
        let machine = Self {
            docker,
            name,
            _janitor: janitor,
        };
        machine.sh(MACHINE).await.unwrap();
        machine.write_files(&sample(1)).await;
        machine
    }

    async fn sh(&self, script: &str) -> Result<String, testkit::docker::DockerError> {
        self.docker
            .exec_with(&self.name, &["sh", "-eu"], script.as_bytes())
            .await
    }

    /// What cloud-init does with the files of a member's user data.
    async fn write_files(&self, spec: &Value) {
        let owner = Owner {
            namespace: "ns",
            name: "c",
            uid: "uid-1",
        };
        let spec = serde_json::from_value(spec.clone()).unwrap();
        let desired = Desired::resolve(owner, &spec, &Settings::default()).unwrap();
        let document: Value = serde_saphyr::from_str(&user_data(&desired, 0)).unwrap();
        for file in document["write_files"].as_array().unwrap() {
            let (path, mode) = (
                file["path"].as_str().unwrap(),
                file["permissions"].as_str().unwrap(),
            );
            let write = format!("mkdir -p $(dirname {path}); cat > {path}; chmod {mode} {path}");
            let content = file["content"].as_str().unwrap_or_default();
            self.docker
                .exec_with(&self.name, &["sh", "-euc", &write], content.as_bytes())
                .await
                .unwrap();
        }
    }

    async fn set_up(&self) -> Result<String, testkit::docker::DockerError> {
        self.sh("/usr/local/sbin/mysql-member-setup < /dev/null").await
    }

    /// What its unit runs at each boot; says what systemd was asked for meanwhile.
    async fn boots(&self) -> String {
        let script = "rm -f /run/asked; /usr/local/sbin/mysql-member-setup boot < /dev/null; touch /run/asked; cat /run/asked";
        self.sh(script).await.unwrap()
    }

    /// Waits until the console has said this.
    async fn says(&self, words: &str) {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_mins(3);
        loop {
            let console = self.console().await;
            if console.contains(words) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{console}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    /// What it has printed on its console since it booted.
    async fn console(&self) -> String {
        self.docker.run(&["logs", &self.name]).await.unwrap()
    }

    /// What identifies the mounted disk and what is in it.
    async fn mounted(&self) -> String {
        self.sh("findmnt -no UUID,FSTYPE /var/lib/mysql; cat /var/lib/mysql/ibdata1; grep -c . /etc/fstab")
            .await
            .unwrap()
    }
}

/// A server that would start without any of the member's options.
async fn refuses_to_start_without_options(machine: &Machine) {
    machine.sh(INSERT).await.unwrap();
    machine
        .sh("rm /etc/my.cnf; ln -s /dev/null /etc/my.cnf")
        .await
        .unwrap();
    machine.set_up().await.unwrap_err();
    machine
        .says(
            "mysql-member: mysqld does not read /etc/mysql/mysql.conf.d: its my.cnf must include that folder",
        )
        .await;
    machine.sh("rm /etc/my.cnf").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_a_blank_disk_becomes_the_data_volume_once_and_a_disk_with_data_is_never_written_to() {
    let machine = Machine::boot().await;
    machine.sh(INSERT).await.unwrap();
    machine.set_up().await.unwrap();
    let first = machine.mounted().await;
    let lines: Vec<_> = first.lines().collect();
    assert!(
        lines[0].ends_with("ext4") && lines[1..] == ["made", "1"],
        "a new disk gets a file system, a server and one line in fstab: {first}"
    );

    let configured = "cat /etc/my.cnf";
    let read = machine.sh(configured).await.unwrap();
    assert!(
        read.ends_with("\nlog-error=/var/log/mysqld.log\n!includedir /etc/mysql/mysql.conf.d"),
        "mysqld is told where the member's options are: {read}"
    );

    // Again while it is mounted, after a reboot, and after one that has not mounted it.
    machine.set_up().await.unwrap();
    assert_eq!(machine.mounted().await, first);
    machine
        .sh("umount /var/lib/mysql; mount --all --fstab /etc/fstab")
        .await
        .unwrap();
    machine.set_up().await.unwrap();
    assert_eq!(machine.mounted().await, first);
    machine.sh("umount /var/lib/mysql").await.unwrap();
    machine.set_up().await.unwrap();
    assert_eq!(machine.mounted().await, first, "it is found by what is on it");
    assert_eq!(machine.sh(configured).await.unwrap(), read, "it was told once");
    // An initialization that was cut off is made anew, on the same file system.
    machine.sh("rm /var/lib/mysql/.member-initialized").await.unwrap();
    machine.set_up().await.unwrap();
    assert_eq!(machine.mounted().await, first);

    // Data that no file system frames.
    machine.sh(INSERT).await.unwrap();
    let sum = "printf somebodys | dd of=/disk bs=1 seek=1000000 conv=notrunc status=none; sync /disk; sha256sum < /disk";
    let before = machine.sh(sum).await.unwrap();
    machine.set_up().await.unwrap_err();
    assert_eq!(machine.sh("sync /disk; sha256sum < /disk").await.unwrap(), before);
    machine
        .says("mysql-member: /dev/sdf has data and no file system: it is left alone")
        .await;

    // Somebody else's file system.
    machine.sh(INSERT).await.unwrap();
    let theirs = "mkfs.ext4 -q /disk; mount /dev/sdf /mnt; echo precious > /mnt/theirs; umount /mnt";
    machine.sh(theirs).await.unwrap();
    machine.set_up().await.unwrap_err();
    let kept = machine
        .sh("cat /var/lib/mysql/theirs; ls /var/lib/mysql")
        .await
        .unwrap();
    assert!(
        kept.starts_with("precious") && !kept.contains("ibdata1"),
        "{kept}"
    );
    machine
        .says("mysql-member: /var/lib/mysql holds data of another server: it is left alone")
        .await;

    // An option that only mysqld knows to be none.
    machine.sh(INSERT).await.unwrap();
    let mut spec = sample(1);
    spec["mySQLOptions"] = serde_json::json!({"no_such_option": "1"});
    machine.write_files(&spec).await;
    machine.set_up().await.unwrap_err();
    machine
        .says("mysql-member: mysqld refuses its options: unknown variable 'no_such_option=1'.")
        .await;

    refuses_to_start_without_options(&machine).await;

    // What was cut off goes on at the next boot, which cloud-init's part in it does not.
    machine.sh(INSERT).await.unwrap();
    machine
        .sh("rm -f /etc/mysql/member/done /run/asked")
        .await
        .unwrap();
    machine.set_up().await.unwrap_err();
    let asked = machine.sh("cat /run/asked").await.unwrap();
    assert!(asked.contains("enable mysql-member.service"), "{asked}");
    machine.write_files(&sample(1)).await;
    let asked = machine.boots().await;
    assert!(asked.contains("restart mysql"), "{asked}");
    assert!(machine.mounted().await.contains("made"), "it is a member now");
    assert_eq!(machine.boots().await, "", "one that is done is left as it runs");
    // Seven tenths of its memory are InnoDB's, of a small machine less; another type of machine is another size.
    for (kib, pool, asked) in [
        (8_000_000, "5600000K", "restart mysql"),
        (8_000_000, "5600000K", ""),
        (2_000_000, "1000000K", "restart mysql"),
        (900_000, "128M", "restart mysql"),
    ] {
        let memory = format!("echo 'MemTotal: {kib} kB' > /meminfo; mount --bind /meminfo /proc/meminfo");
        machine.sh(&memory).await.unwrap();
        assert_eq!(machine.boots().await, asked, "{kib}");
        let found = machine
            .sh("cat /etc/mysql/mysql.conf.d/zy-memory.cnf")
            .await
            .unwrap();
        assert_eq!(found, format!("[mysqld]\ninnodb_buffer_pool_size={pool}"));
    }
    let drop_in = machine
        .sh("cat /etc/systemd/system/mysql*.service.d/member.conf")
        .await
        .unwrap();
    assert!(drop_in.contains("RequiresMountsFor=/var/lib/mysql"), "{drop_in}");
}
