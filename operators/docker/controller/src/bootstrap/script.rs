//! A node's bootstrap as one shell script that runs inside the node, on its own.
//!
//! The controller only hands the script over and looks at what it leaves behind: a crash of the controller, or a
//! move to another management cluster, changes nothing for the node.
//!
//! # Guarantees
//! - **At most once**: creating the directory `started` is the script's first act and the licence to go on. It lies
//!   on the node's own volume, so it outlives a restart of the container.
//! - The outcome lies beside it, in `exit`, written in one piece. No outcome, and the process gone or the container
//!   restarted, means interrupted.
//! - It ends by itself after its time limit, with status 124, whoever watches.
//! - The script, which holds the node's keys, is removed when it starts. Names of steps contain nothing of the user data
//!   but where kubeadm's own configuration lies, and neither contents of files nor hashed passwords are ever arguments of
//!   a process; commands of the user data are run as they stand.

use std::{fmt::Write as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    cloud_config::{CloudConfig, Command, File, User},
    kubeadm, sabotage,
};

/// Where a bootstrap keeps its state in the node: on the volume at `/var`, which survives restarts.
pub const STATE_DIR: &str = "/var/lib/capdkc/bootstrap";

/// Status of a bootstrap that its own time limit ended.
pub const TIMED_OUT: i32 = 124;

/// What a script is made for.
pub struct Parameters<'a> {
    /// The id that the Node must carry.
    pub provider_id: &'a str,
    /// How long it may take, from its start.
    pub time_limit: Duration,
    /// Where the state is kept.
    pub state_dir: &'a str,
}

/// Renders the script.
pub fn render(config: &CloudConfig, parameters: &Parameters) -> String {
    let mut script = Script {
        text: prologue(parameters),
        step: 0,
        steps: count(config),
    };
    script.step("waiting for the node's services");
    script.text.push_str(WAIT_FOR_SERVICES);
    for (index, command) in config.bootcmd.iter().enumerate() {
        script.step(&format!("bootcmd {}", index + 1));
        script.command(command);
    }
    for (index, file) in config.files.iter().enumerate() {
        script.step(&format!("write_files {}{}", index + 1, path_of(file)));
        script.file(file, parameters.provider_id);
    }
    for (index, user) in config.users.iter().enumerate() {
        script.step(&format!("users {}", index + 1));
        script.user(user);
    }
    for (index, command) in config.runcmd.iter().enumerate() {
        script.step(&format!("runcmd {}{}", index + 1, program_of(command)));
        script.command(command);
    }
    script.text.push_str("finish 0\n");
    script.text
}

fn count(config: &CloudConfig) -> usize {
    1 + config.bootcmd.len() + config.files.len() + config.users.len() + config.runcmd.len()
}

/// Where kubeadm's configuration lies is no secret. Other paths may hold one.
fn path_of(file: &File) -> String {
    if is_of_kubeadm(file) {
        format!(" ({})", file.path)
    } else {
        String::new()
    }
}

fn is_of_kubeadm(file: &File) -> bool {
    [kubeadm::INIT_CONFIG, kubeadm::JOIN_CONFIG].contains(&file.path.as_str())
}

/// kubeadm is worth naming: it is what people wait for. Other commands may hold secrets in any word.
fn program_of(command: &Command) -> &'static str {
    let first = match command {
        Command::Shell(line) => line.trim_start(),
        Command::Argv(words) => words.first().map_or("", String::as_str),
    };
    if first.starts_with("kubeadm") {
        " (kubeadm)"
    } else {
        ""
    }
}

fn prologue(parameters: &Parameters) -> String {
    let guard = if sabotage::active(sabotage::REPLAY_BOOTSTRAP) {
        "true"
    } else {
        "exit 0"
    };
    let (dir, limit) = (
        quote(parameters.state_dir),
        parameters.time_limit.as_secs().max(1),
    );
    format!(
        r#"#!/bin/sh
D={dir}
mkdir "$D/started" 2>/dev/null || {guard}
umask 022
rm -f -- "$0"
cut -d' ' -f22 /proc/1/stat > "$D/started/boot"
echo $$ > "$D/started/pid.tmp" && mv "$D/started/pid.tmp" "$D/started/pid"
exec > "$D/log" 2>&1 < /dev/null
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
outcome() {{ [ -e "$D/exit" ] || {{ echo "$1" > "$D/exit.tmp" && mv "$D/exit.tmp" "$D/exit"; }}; }}
(
  trap 'kill "$S" 2>/dev/null; exit 0' TERM
  sleep {limit} & S=$!
  wait "$S"
  outcome {TIMED_OUT}
  trap '' TERM
  kill -TERM 0
  sleep 2
  kill -KILL 0
) &
W=$!
finish() {{ outcome "$1"; kill "$W" 2>/dev/null; exit "$1"; }}
step() {{ echo "$1" > "$D/step.tmp" && mv "$D/step.tmp" "$D/step"; }}
"#
    )
}

/// The runtime is the last of the services that a bootstrap needs: once it listens, systemd is up.
const WAIT_FOR_SERVICES: &str = r"if command -v containerd >/dev/null 2>&1; then
  until [ -S /run/containerd/containerd.sock ]; do sleep 0.1; done
fi
";

struct Script {
    text: String,
    step: usize,
    steps: usize,
}

impl Script {
    fn step(&mut self, name: &str) {
        self.step += 1;
        let line = format!("{} of {}: {name}", self.step, self.steps);
        let _ = writeln!(self.text, "step {}", quote(&line));
    }

    fn command(&mut self, command: &Command) {
        let words: Vec<_> = match command {
            Command::Shell(line) => ["sh", "-c", line].map(quote).into(),
            Command::Argv(words) => words.iter().map(|word| quote(word)).collect(),
        };
        let _ = writeln!(self.text, "{} || finish $?", words.join(" "));
    }

    fn file(&mut self, file: &File, provider_id: &str) {
        let path = quote(&file.path);
        let _ = writeln!(self.text, "mkdir -p -- \"$(dirname -- {path})\" || finish $?");
        let adapted =
            !file.append && file.encoding == crate::cloud_config::Encoding::default() && is_of_kubeadm(file);
        // Whatever its encoding, the content travels as base64: no byte of it can end the here-document.
        let content = if adapted {
            STANDARD.encode(kubeadm::adapt(&file.content, provider_id))
        } else if file.encoding.base64 {
            file.content.split_whitespace().collect()
        } else {
            STANDARD.encode(&file.content)
        };
        let unzip = if file.encoding.gzip { " | gzip -dc" } else { "" };
        let redirect = if file.append { ">>" } else { ">" };
        // Private until its permissions are set: a key must not be readable in between.
        let _ = writeln!(
            self.text,
            "( umask 077; base64 -d <<'CONTENT'{unzip} {redirect} {path}\n{}\nCONTENT\n) || finish $?",
            wrap(&content)
        );
        let _ = writeln!(self.text, "chmod {} -- {path} || finish $?", file.permissions);
        if !["root", "root:root"].contains(&file.owner.as_str()) {
            let _ = writeln!(self.text, "chown {} -- {path} || finish $?", quote(&file.owner));
        }
    }

    fn user(&mut self, user: &User) {
        let name = quote(&user.name);
        // As cloud-init does, and useradd does not.
        for group in user.groups.iter().chain(&user.primary_group) {
            let group = quote(group);
            let _ = writeln!(
                self.text,
                "getent group {group} >/dev/null || groupadd -- {group} || finish $?"
            );
        }
        // useradd makes a user's own group, and refuses to if that is there by now.
        let own = user.groups.contains(&user.name).then_some(&user.name);
        let groups = Some(user.groups.join(",")).filter(|groups| !groups.is_empty());
        let inactive = user.inactive.as_deref();
        let mut add = String::from("useradd -m");
        for (flag, value) in [
            ("-c", user.gecos.as_deref()),
            ("-g", user.primary_group.as_ref().or(own).map(String::as_str)),
            ("-G", groups.as_deref()),
            ("-d", user.homedir.as_deref()),
            ("-s", user.shell.as_deref()),
            // The second day of all time: the account has ended.
            (
                "-e",
                inactive.filter(|days| *days == "true").map(|_| "1970-01-02"),
            ),
            ("-f", inactive.filter(|days| *days != "true")),
        ] {
            if let Some(value) = value {
                let _ = write!(add, " {flag} {}", quote(value));
            }
        }
        let _ = writeln!(
            self.text,
            "if ! id {name} >/dev/null 2>&1; then\n{add} -- {name} || finish $?"
        );
        if let Some(hash) = &user.passwd {
            let line = STANDARD.encode(format!("{}:{hash}\n", user.name));
            let _ = writeln!(
                self.text,
                "base64 -d <<'CONTENT' | chpasswd -e || finish $?\n{}\nCONTENT",
                wrap(&line)
            );
        }
        self.text.push_str("fi\n");
        if !user.may_use_password {
            let _ = writeln!(self.text, "usermod -L -- {name} || finish $?");
        }
        self.rights(user, &name);
    }

    fn rights(&mut self, user: &User, name: &str) {
        if !user.sudo.is_empty() {
            let rules = user.sudo.iter().map(|rule| format!("{} {rule}", user.name));
            let rules = quote(&rules.collect::<Vec<_>>().join("\n"));
            let file = quote(&format!(
                "/etc/sudoers.d/90-{}",
                user.name.replace(['/', '.'], "_")
            ));
            let _ = writeln!(
                self.text,
                "mkdir -p /etc/sudoers.d && printf '%s\\n' {rules} > {file} && chmod 0440 {file} || finish $?"
            );
        }
        if !user.ssh_authorized_keys.is_empty() {
            let keys = quote(&user.ssh_authorized_keys.join("\n"));
            let _ = writeln!(
                self.text,
                "H=$(getent passwd {name} | cut -d: -f6) && mkdir -p \"$H/.ssh\" && printf '%s\\n' {keys} >> \"$H/.ssh/authorized_keys\" && chmod 0700 \"$H/.ssh\" && chown -R {name} \"$H/.ssh\" || finish $?"
            );
        }
    }
}

/// Lines of at most 1,024 characters: some shells keep a line of a here-document in a small buffer.
fn wrap(content: &str) -> String {
    content
        .as_bytes()
        .chunks(1024)
        .map(String::from_utf8_lossy)
        .collect::<Vec<_>>()
        .join("\n")
}

/// `text` as one word of a POSIX shell.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Reads the script from standard input (so that it appears in no process list), starts it detached, and follows it.
/// `$1` is the state directory, `$2` the script's length in bytes; nothing is read when it is 0.
///
/// Prints `step …` on each new step, then one of `exit N`, `interrupted` and `absent`, and after it the end of the log.
pub const DRIVER: &str = r#"D=$1
umask 077
if [ "$2" -gt 0 ]; then
  mkdir -p "$D" || exit 70
  head -c "$2" > "$D/run.$$"
  if [ "$(wc -c < "$D/run.$$")" -ne "$2" ]; then rm -f "$D/run.$$"; echo truncated; exit 0; fi
  # If it was started before, its first act ends it.
  setsid sh "$D/run.$$" >/dev/null 2>&1 </dev/null &
  n=0; until [ -e "$D/started/pid" ] || [ $n -ge 100 ]; do sleep 0.05; n=$((n+1)); done
  rm -f "$D/run.$$"
fi
if [ ! -e "$D/started" ]; then echo absent; exit 0; fi
# It may have begun this moment, and not have said yet which process it is.
n=0; until [ -e "$D/started/pid" ] || [ -e "$D/exit" ] || [ $n -ge 100 ]; do sleep 0.05; n=$((n+1)); done
last=
while :; do
  s=; [ -e "$D/step" ] && read -r s < "$D/step"
  [ "$s" = "$last" ] || { echo "step $s"; last=$s; }
  [ -e "$D/exit" ] && break
  p=; b=; [ -e "$D/started/pid" ] && read -r p < "$D/started/pid" && read -r b < "$D/started/boot"
  if [ -z "$p" ] || [ "$b" != "$(cut -d' ' -f22 /proc/1/stat)" ] || ! kill -0 "$p" 2>/dev/null; then
    sleep 0.2
    [ -e "$D/exit" ] || { echo interrupted; tail -n 30 "$D/log" 2>/dev/null; exit 0; }
    break
  fi
  sleep 0.1
done
echo "exit $(cat "$D/exit")"
tail -n 30 "$D/log" 2>/dev/null
"#;

#[cfg(test)]
#[path = "script/tests.rs"]
mod tests;
