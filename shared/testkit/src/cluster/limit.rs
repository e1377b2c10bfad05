//! The kernel's limit on inotify instances, which nodes of one machine share.
//!
//! systemd, containerd, kubelet and the pods of a node hold some 25 of them. Linux gives a user 128 by default, and
//! what does not get one fails with "too many open files", far from the cause.

use std::{fs, io, path::Path};

use crate::progress;

const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";
/// What a node may need: twice what one was seen to hold.
const PER_NODE: u32 = 50;
/// What the rest of the machine may need.
const ELSEWHERE: u32 = 64;

/// Raises the limit for so many nodes if it is lower and we may; otherwise says which command does.
pub(super) fn raise_inotify_instances(nodes: u16) {
    if let Some(message) = raise(Path::new(LIMIT), nodes) {
        progress::line(&message);
    }
}

/// What there is to say, if anything.
fn raise(limit: &Path, nodes: u16) -> Option<String> {
    let wanted = ELSEWHERE + PER_NODE * u32::from(nodes);
    // No such file: another system, where Docker's own machine has the limit.
    let current: u32 = fs::read_to_string(limit).ok()?.trim().parse().ok()?;
    if current >= wanted {
        return None;
    }
    let written = fs::write(limit, wanted.to_string());
    Some(message(current, wanted, nodes, written))
}

fn message(current: u32, wanted: u32, nodes: u16, written: io::Result<()>) -> String {
    let lacking = format!("fs.inotify.max_user_instances is {current}, {nodes} nodes may need {wanted}");
    match written {
        Ok(()) => format!("{lacking}: raised until the machine is restarted"),
        Err(error) => format!(
            "{lacking}, and it cannot be raised ({error}); if nodes do not become ready: \
             `sudo sysctl fs.inotify.max_user_instances={wanted}`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(value: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("max_user_instances");
        fs::write(&path, value).unwrap();
        (folder, path)
    }

    #[test]
    fn a_limit_that_suffices_is_left_alone() {
        let (_folder, path) = limit("1024\n");
        assert_eq!(raise(&path, 3), None);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1024\n");
    }

    #[test]
    fn a_limit_that_is_too_low_for_the_nodes_is_raised_and_named() {
        let (_folder, path) = limit("128\n");
        assert_eq!(raise(&path, 1), None);
        let said = raise(&path, 3).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "214");
        assert!(said.contains("is 128") && said.contains("raised"), "{said}");
    }

    #[test]
    fn whoever_may_not_raise_it_is_told_the_command() {
        let refused = Err(io::ErrorKind::PermissionDenied.into());
        let said = message(128, 214, 3, refused);
        assert!(
            said.contains("`sudo sysctl fs.inotify.max_user_instances=214`"),
            "{said}"
        );
    }

    #[test]
    fn where_there_is_no_such_limit_nothing_is_said() {
        let (folder, _) = limit("128");
        assert_eq!(raise(&folder.path().join("absent"), 20), None);
    }
}
