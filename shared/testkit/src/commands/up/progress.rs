//! What `kubectl get -w` would show of one object, until its job has ended.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use kube::Client;
use serde::Deserialize;
use serde_json::Value;
use testkit::progress::line;

use super::operator::Target;

/// How often the object is looked at.
const INTERVAL: Duration = Duration::from_millis(250);

/// When a job that has not ended counts as stuck.
const LIMIT: Duration = Duration::from_mins(15);

/// What the API server makes of an object for a person, by the printer columns of its CRD.
const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    column_definitions: Vec<Column>,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    priority: i32,
}

#[derive(Deserialize)]
struct Row {
    cells: Vec<Value>,
    object: Value,
}

/// Prints a line for each change until the condition `Succeeded` (of a bounded job) or `Ready` is decided. Fails if
/// it is decided badly, if `check` fails, or if nothing is decided for 15 minutes.
pub(super) async fn follow(
    client: &Client,
    target: &Target,
    mut check: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut shown = None;
    loop {
        check()?;
        let table = read(client, target).await?;
        let row = table
            .rows
            .first()
            .context("the API server shows no row for the object")?;
        let cells = visible(&table.column_definitions, row);
        let changing: Vec<_> = cells.iter().filter(|(name, _)| name != "Age").cloned().collect();
        if shown.as_ref() != Some(&changing) {
            if shown.is_none() {
                line(&columns(cells.iter().map(|(name, _)| name.to_uppercase())));
            }
            line(&columns(cells.into_iter().map(|(_, cell)| cell)));
            shown = Some(changing);
        }
        match verdict(&row.object) {
            Some((true, _)) => return Ok(()),
            Some((false, why)) => bail!("the job has failed: {why}"),
            None if Instant::now() > deadline => bail!("the job has not ended within {} s", LIMIT.as_secs()),
            None => tokio::time::sleep(INTERVAL).await,
        }
    }
}

async fn read(client: &Client, target: &Target) -> anyhow::Result<Table> {
    let request = http::Request::get(format!("{}?includeObject=Object", target.path))
        .header(http::header::ACCEPT, AS_TABLE)
        .body(Vec::new())
        .context("not a valid request")?;
    client
        .request(request)
        .await
        .with_context(|| format!("cannot read {}", target.path))
}

fn visible(definitions: &[Column], row: &Row) -> Vec<(String, String)> {
    let text = |cell: &Value| match cell {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let columns = definitions
        .iter()
        .zip(&row.cells)
        .filter(|(column, _)| column.priority == 0);
    columns
        .map(|(column, cell)| (column.name.clone(), text(cell)))
        .collect()
}

fn columns(cells: impl Iterator<Item = String>) -> String {
    let padded: Vec<_> = cells.map(|cell| format!("{cell:<14}")).collect();
    padded.join(" ").trim_end().to_owned()
}

/// Whether the job ended well, and the message; `None` while it is undecided. `Ready` may be False on the way.
fn verdict(object: &Value) -> Option<(bool, String)> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let find = |kind: &str| conditions.iter().find(|condition| condition["type"] == kind);
    let message = |condition: &Value| {
        let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", text("reason"), text("message"))
    };
    if let Some(succeeded) = find("Succeeded") {
        return match succeeded["status"].as_str() {
            Some("True") => Some((true, message(succeeded))),
            Some("False") => Some((false, message(succeeded))),
            _ => None,
        };
    }
    find("Ready")
        .filter(|ready| ready["status"] == "True")
        .map(|ready| (true, message(ready)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_is_undecided_until_succeeded_is_true_or_false() {
        let object = |status: &str| {
            json!({"status": {"conditions": [
                {"type": "Succeeded", "status": status, "reason": "R", "message": "m"}]}})
        };
        assert_eq!(verdict(&json!({})), None);
        assert_eq!(verdict(&object("Unknown")), None);
        assert_eq!(verdict(&object("True")), Some((true, "R: m".to_owned())));
        assert_eq!(verdict(&object("False")), Some((false, "R: m".to_owned())));
    }

    #[test]
    fn only_the_columns_of_a_plain_get_are_shown() {
        let definitions = [
            Column {
                name: "Name".to_owned(),
                priority: 0,
            },
            Column {
                name: "Message".to_owned(),
                priority: 1,
            },
            Column {
                name: "Deleted".to_owned(),
                priority: 0,
            },
        ];
        let row = Row {
            cells: vec![json!("a"), json!("long"), json!(5)],
            object: json!({}),
        };
        let expected = [("Name", "a"), ("Deleted", "5")];
        assert_eq!(
            visible(&definitions, &row),
            expected.map(|(name, cell)| (name.to_owned(), cell.to_owned()))
        );
    }
}
