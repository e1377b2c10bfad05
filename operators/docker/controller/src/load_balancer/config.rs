//! HAProxy's configuration, rendered.
//!
//! # Guarantees
//! - The same servers give the same text, in whatever order they are listed.
//! - A server that is draining gets no new connections (weight 0), unless no other has joined the cluster: then it keeps
//!   its weight, for an endpoint that answers badly is better than none.
//! - The number of connections fits a container's usual limit of open files. Where it does not, HAProxy would refuse
//!   every reload without anybody noticing.

use std::{fmt::Write as _, net::Ipv4Addr};

use crate::sabotage;

/// Where the configuration is in the container.
pub const PATH: &str = "/usr/local/etc/haproxy/haproxy.cfg";

/// Two descriptors per connection, and some for itself, stay below 1,024 × 4 − the lowest hard limit met in the wild.
const MAX_CONNECTIONS: u32 = 1_900;

const WEIGHT: u8 = 100;

/// A server of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// Name of its container.
    pub name: String,
    /// Address.
    pub address: Ipv4Addr,
    /// About to go: no new connections.
    pub draining: bool,
    /// Whether its machine is a Node of the cluster, and can take over.
    pub joined: bool,
}

/// The configuration for a control plane of `servers`, reached on `port`.
pub fn render(port: u16, servers: &[Server]) -> String {
    let mut servers = servers.to_vec();
    servers.sort();
    let can_take_over = servers.iter().any(|server| server.joined && !server.draining);
    let mut text = format!(
        "global
    maxconn {MAX_CONNECTIONS}
defaults
    mode tcp
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    timeout tunnel 1h
    timeout check 3s
    retries 3
    option redispatch 1
frontend control-plane
    bind *:{port}
    default_backend kube-apiservers
backend kube-apiservers
    option httpchk GET /healthz
    default-server check check-ssl verify none inter 1s downinter 500ms fall 3 rise 1
"
    );
    for server in &servers {
        let weight = if server.draining && can_take_over && !sabotage::active(sabotage::SERVE_DRAINING) {
            0
        } else {
            WEIGHT
        };
        let _ = writeln!(
            text,
            "    server {} {}:6443 weight {weight}",
            server.name, server.address
        );
    }
    text
}

/// How a reload went, told from the master process's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// A new worker serves.
    Took,
    /// The configuration was refused; the old one still serves.
    Failed,
    /// Nothing has been said yet.
    Pending,
}

/// Whether the master process (the container's first) complains, as it does of a configuration that it refuses. Its
/// workers' alerts are about servers that do not answer, which is no fault of the configuration.
pub fn is_refusal(line: &str) -> bool {
    let by_master = line
        .split_once("[ALERT]")
        .is_some_and(|(_, rest)| rest.trim_start().starts_with("(1)"));
    by_master || line.contains("wait mode") || line.contains("waitpid mode")
}

/// What the lines after `since` (a time stamp as the log has it) say of the last reload.
pub fn reload_result(log: &[String], since: Option<&str>) -> Reload {
    let newer = |line: &&String| stamp(line) > since;
    let mut result = Reload::Pending;
    for line in log.iter().filter(newer) {
        if is_refusal(line) {
            return Reload::Failed;
        }
        if line.contains("forked") || line.contains("Loading success") {
            result = Reload::Took;
        }
    }
    result
}

/// The time stamp of a line.
pub fn stamp(line: &str) -> Option<&str> {
    line.split_once(' ').map(|(stamp, _)| stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, last: u8, draining: bool) -> Server {
        Server {
            name: name.into(),
            address: Ipv4Addr::new(172, 30, 128, last),
            draining,
            joined: true,
        }
    }

    /// The only one that answers is on its way out, and the other has not joined yet.
    #[test]
    fn nobody_gives_way_to_a_server_that_cannot_take_over() {
        let (leaving, coming) = (server("a.ns", 1, true), server("b.ns", 2, false));
        let coming = Server {
            joined: false,
            ..coming
        };
        assert!(!render(6443, &[leaving, coming]).contains("weight 0"));
    }

    #[test]
    fn order_makes_no_difference_and_a_draining_server_gets_nothing_new() {
        let (a, b) = (server("a.ns", 1, false), server("b.ns", 2, true));
        let text = render(6443, &[a.clone(), b.clone()]);
        assert_eq!(text, render(6443, &[b, a]));
        assert!(
            text.contains("server a.ns 172.30.128.1:6443 weight 100\n"),
            "{text}"
        );
        assert!(
            text.contains("server b.ns 172.30.128.2:6443 weight 0\n"),
            "{text}"
        );
    }

    #[test]
    fn the_last_server_serves_to_the_end() {
        assert!(render(6443, &[server("a.ns", 1, true)]).contains("weight 100"));
        assert!(render(6443, &[]).ends_with("rise 1\n"));
    }

    #[test]
    fn a_reload_is_told_from_what_the_master_says_afterwards() {
        let log = |lines: &[&str]| lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
        let before = log(&["2026-01-01T00:00:01.5Z [NOTICE]   (1) : New worker (8) forked"]);
        let since = stamp(&before[0]);
        assert_eq!(reload_result(&before, None), Reload::Took);
        assert_eq!(reload_result(&before, since), Reload::Pending);
        let mut took = before.clone();
        took.push("2026-01-01T00:00:02.1Z [NOTICE]   (1) : New worker (9) forked".into());
        assert_eq!(reload_result(&took, since), Reload::Took);
        let mut failed = before.clone();
        failed.push("2026-01-01T00:00:02.1Z [ALERT]    (1) : Cannot raise FD limit".into());
        assert_eq!(reload_result(&failed, since), Reload::Failed);
    }

    #[test]
    fn a_server_that_does_not_answer_yet_is_no_refusal() {
        let log = [
            "2026-01-01T00:00:02.1Z [NOTICE]   (1) : Reloading HAProxy",
            "2026-01-01T00:00:02.2Z [NOTICE]   (1) : New worker (72) forked",
            "2026-01-01T00:00:02.2Z [NOTICE]   (1) : Loading success.",
            "2026-01-01T00:00:02.2Z [ALERT]    (72) : backend 'kube-apiservers' has no server available!",
        ];
        for end in 2..=log.len() {
            let log: Vec<_> = log[..end].iter().map(|&line| line.to_owned()).collect();
            assert_eq!(reload_result(&log, None), Reload::Took, "{log:?}");
        }
    }
}
