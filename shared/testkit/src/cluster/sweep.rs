//! Removes clusters that nobody can want any more: ephemeral ones whose holder is gone.

use std::{collections::BTreeMap, fs::File, time::Duration};

use jiff::Timestamp;

use super::{ClusterError, layout::Layout, remove};
use crate::{
    docker::{Docker, LABEL},
    progress,
};

/// How old an ephemeral cluster may get, even with a holder that seems alive.
const OLDEST: Duration = Duration::from_hours(12);
/// How long a cluster is left alone whose holder cannot be seen: its lock may be about to be taken.
const GRACE: Duration = Duration::from_secs(30);

/// Removes abandoned ephemeral clusters and returns their names. Others are never touched.
pub async fn sweep(docker: &Docker) -> Result<Vec<String>, ClusterError> {
    let mut removed = Vec::new();
    for (name, created) in ephemeral(docker).await? {
        let Ok(layout) = Layout::new(&name) else { continue };
        let age = Timestamp::now().duration_since(created).unsigned_abs();
        if is_abandoned(age, is_held(&layout)) {
            progress::line(&format!(
                "removing cluster {name}, which a run that ended {age:.0?} ago at most left"
            ));
            remove(docker, &layout).await?;
            // Nobody else will ever want this name. That it is gone already is as good.
            std::fs::remove_file(layout.lock()?).ok();
            removed.push(name);
        }
    }
    Ok(removed)
}

fn is_abandoned(age: Duration, held: bool) -> bool {
    age > OLDEST || (age > GRACE && !held)
}

/// Whether a process holds the cluster's lock.
fn is_held(layout: &Layout) -> bool {
    let Ok(path) = layout.lock() else { return false };
    File::open(path).is_ok_and(|file| file.try_lock().is_err())
}

/// The ephemeral clusters of which anything exists, and when the oldest part of each was made.
async fn ephemeral(docker: &Docker) -> Result<BTreeMap<String, Timestamp>, ClusterError> {
    let filter = format!("label={LABEL}.ephemeral");
    let format = format!(r#"{{{{.Label "{LABEL}.cluster"}}}} {{{{.Label "{LABEL}.created"}}}}"#);
    let mut found = BTreeMap::new();
    for listing in [["ps", "--all"].as_slice(), &["volume", "ls"], &["network", "ls"]] {
        let arguments = [listing, &["--filter", &filter, "--format", &format]].concat();
        for (name, created) in docker.run(&arguments).await?.lines().filter_map(parse) {
            let oldest = found.entry(name).or_insert(created);
            *oldest = created.min(*oldest);
        }
    }
    Ok(found)
}

fn parse(line: &str) -> Option<(String, Timestamp)> {
    let (name, created) = line.split_once(' ')?;
    Some((
        name.to_owned(),
        Timestamp::from_second(created.trim().parse().ok()?).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cluster_without_holder_or_very_old_is_abandoned() {
        let minute = Duration::from_mins(1);
        assert!(!is_abandoned(minute, true));
        assert!(is_abandoned(minute, false));
        assert!(!is_abandoned(GRACE, false));
        assert!(is_abandoned(OLDEST + minute, true));
    }

    #[test]
    fn a_listing_without_labels_names_no_cluster() {
        assert_eq!(parse(" "), None);
        assert_eq!(parse("dev 100").unwrap().0, "dev");
    }
}
