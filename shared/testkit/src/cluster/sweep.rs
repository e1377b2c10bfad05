//! Removes clusters that nobody can want any more: ephemeral ones whose holder is gone.

use std::{collections::BTreeMap, fs::File, time::Duration};

use jiff::Timestamp;

use super::{ClusterError, layout::Layout, remove, setup::holder};
use crate::{
    docker::{Docker, LABEL},
    progress,
};

/// How old an ephemeral cluster may get, even with a holder that seems alive.
const OLDEST: Duration = Duration::from_hours(12);
/// How long making an image may take.
const BUILD: Duration = Duration::from_hours(1);
/// How long a cluster is left alone whose holder cannot be seen: its lock may be about to be taken.
const GRACE: Duration = Duration::from_secs(30);

/// Removes abandoned ephemeral clusters and returns their names. Others are never touched.
pub async fn sweep(docker: &Docker) -> Result<Vec<String>, ClusterError> {
    let mut removed = Vec::new();
    remove_builds(docker).await?;
    for (name, found) in ephemeral(docker).await? {
        let Ok(layout) = Layout::new(&name) else { continue };
        let age = Timestamp::now().duration_since(found.created).unsigned_abs();
        if is_abandoned(age, found.holder != holder(&layout) || is_held(&layout)) {
            progress::line(&format!(
                "removing cluster {name}, which a run that ended {age:.0?} ago at most left"
            ));
            remove(docker, &layout, "0").await?;
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

/// Removes the containers in which an image was being made, of builds that have not ended and that nobody waits for.
async fn remove_builds(docker: &Docker) -> Result<(), ClusterError> {
    // By name, too: an image that is committed has its container's labels, and so has whatever runs it.
    let (label, name) = (format!("label={LABEL}.build"), format!("name=^{LABEL}-making-"));
    let format = format!(r#"{{{{.ID}}}} {{{{.Label "{LABEL}.created"}}}}"#);
    let list = [
        "ps", "--all", "--filter", &label, "--filter", &name, "--format", &format,
    ];
    for line in docker.run(&list).await?.lines() {
        let Some((id, created)) = line.split_once(' ') else {
            continue;
        };
        let created = created
            .trim()
            .parse()
            .ok()
            .and_then(|s| Timestamp::from_second(s).ok());
        if created.is_none_or(|created| Timestamp::now().duration_since(created).unsigned_abs() > BUILD) {
            // Somebody else may sweep at the same time.
            docker.run(&["rm", "--force", "--volumes", id]).await.ok();
        }
    }
    Ok(())
}

/// Whether a process holds the cluster's lock.
fn is_held(layout: &Layout) -> bool {
    let Ok(path) = layout.lock() else { return false };
    File::open(path).is_ok_and(|file| file.try_lock().is_err())
}

/// An ephemeral cluster of which anything exists.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// When its oldest part was made.
    created: Timestamp,
    /// Where its lock is.
    holder: String,
}

async fn ephemeral(docker: &Docker) -> Result<BTreeMap<String, Found>, ClusterError> {
    let filter = format!("label={LABEL}.ephemeral");
    let format = format!(
        r#"{{{{.Label "{LABEL}.cluster"}}}} {{{{.Label "{LABEL}.created"}}}} {{{{.Label "{LABEL}.holder"}}}}"#
    );
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for listing in [["ps", "--all"].as_slice(), &["volume", "ls"], &["network", "ls"]] {
        let arguments = [listing, &["--filter", &filter, "--format", &format]].concat();
        for (name, part) in docker.run(&arguments).await?.lines().filter_map(parse) {
            let created = part.created;
            let whole = found.entry(name).or_insert(part);
            whole.created = created.min(whole.created);
        }
    }
    Ok(found)
}

fn parse(line: &str) -> Option<(String, Found)> {
    let mut words = line.splitn(3, ' ');
    let (name, created) = (words.next()?, words.next()?);
    let found = Found {
        created: Timestamp::from_second(created.trim().parse().ok()?).ok()?,
        holder: words.next().unwrap_or_default().to_owned(),
    };
    Some((name.to_owned(), found))
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
        let (name, found) = parse("dev 100 here:/a file").unwrap();
        assert_eq!((name.as_str(), found.holder.as_str()), ("dev", "here:/a file"));
    }
}
