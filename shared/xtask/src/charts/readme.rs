//! A chart's README: what it is, how it is installed, and a table of its values from their comments.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

/// What marks the comment that describes the value below it.
const MARK: &str = "# -- ";

/// The README of the chart with this `Chart.yaml` and `values.yaml`, which needs these values to be set, and whose operator
/// leaves this in the cluster beside the Lease.
pub(super) fn text(chart: &str, values: &str, needs: &[&str], leaves: &str) -> Result<String> {
    let chart: Value = serde_saphyr::from_str(chart).context("cannot read Chart.yaml")?;
    let defaults: Value = serde_saphyr::from_str(values).context("cannot read values.yaml")?;
    let (name, about) = (text_of(&chart["name"]), text_of(&chart["description"]));
    let mut set = String::new();
    for value in needs {
        // Writing to a String cannot fail.
        let _ = write!(set, " \\\n  --set {value}");
    }
    let mut text = format!(
        "# {name}\n\n{about}.\n\n```sh\nhelm install {name} charts/{name} --namespace {name}-system --create-namespace \\\n  \
         --set global.imageRegistry=registry.example.com --set leaderElect=true --set replicaCount=2{set}\n```\n\nNo image is \
         published yet: `cargo xtask images --push registry.example.com` makes them, and puts them there.\nThe chart stands alone: no dependency is fetched.\n\nAn \
         uninstall leaves the definitions (`crds.keep`) with the objects of these kinds and all that was made for them, and what\nthe \
         operator keeps for itself: its Lease{leaves}.\nHow the rest goes too is in docs/install.md.\n\n| value | default | meaning |\n|---|---|---|\n"
    );
    for (path, meaning) in described(values) {
        let default = path.iter().fold(&defaults, |value, key| &value[key.as_str()]);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{}` | `{default}` | {meaning} |", path.join("."));
    }
    Ok(text)
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The values that have a comment, as paths, with it.
fn described(values: &str) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut comment = None;
    for line in values.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if let Some(text) = trimmed.strip_prefix(MARK) {
            comment = Some(text.replace('|', "\\|"));
            continue;
        }
        let Some((key, _)) = trimmed
            .split_once(':')
            .filter(|_| !trimmed.starts_with(['#', '-']))
        else {
            continue;
        };
        while path.last().is_some_and(|(depth, _)| *depth >= indent) {
            path.pop();
        }
        path.push((indent, key.to_owned()));
        if let Some(text) = comment.take() {
            found.push((path.iter().map(|(_, key)| key.clone()).collect(), text));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_describe_the_value_below_them() {
        let values = "# no\na:\n  # -- The first.\n  b: 1\n  c: 2\n# -- A | B.\nd: []\n";
        let expected = [
            (vec!["a".to_owned(), "b".to_owned()], "The first.".to_owned()),
            (vec!["d".to_owned()], "A \\| B.".to_owned()),
        ];
        assert_eq!(described(values), expected);
    }

    #[test]
    fn the_table_has_the_defaults() {
        let readme = text(
            "name: x\ndescription: Does things",
            "a:\n  # -- The first.\n  b: [1]\n",
            &["c=d"],
            ", and a note",
        )
        .unwrap();
        assert!(readme.contains("replicaCount=2 \\\n  --set c=d\n```"), "{readme}");
        assert!(readme.contains("its Lease, and a note."), "{readme}");
        assert!(readme.ends_with("| `a.b` | `[1]` | The first. |\n"), "{readme}");
    }
}
