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

/// The condition of a bounded job, which is False when it has failed.
pub(super) const SUCCEEDED: &str = "Succeeded";

/// Prints a line for each change until the condition `goal` is True. Fails if the job has failed, if `check` fails, or
/// if nothing is decided for 15 minutes.
pub(super) async fn follow(
    client: &Client,
    target: &Target,
    goal: &str,
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
        match verdict(&row.object, goal) {
            Some((true, _)) => return Ok(()),
            Some((false, why)) => bail!("the job has failed: {why}"),
            None if Instant::now() > deadline => {
                bail!(
                    "it was not {goal} within {} s: {}",
                    LIMIT.as_secs(),
                    row.object["status"]["conditions"]
                )
            }
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

/// Whether it ended well, and the message; `None` while it is undecided. All but a job's end may be False on the way.
fn verdict(object: &Value, goal: &str) -> Option<(bool, String)> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == goal)?;
    let text = |key: &str| found[key].as_str().unwrap_or_default();
    let message = format!("{}: {}", text("reason"), text("message"));
    match text("status") {
        "True" => Some((true, message)),
        "False" if goal == SUCCEEDED => Some((false, message)),
        _ => None,
    }
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
        let verdict = |object: &Value| verdict(object, SUCCEEDED);
        assert_eq!(verdict(&json!({})), None);
        assert_eq!(verdict(&object("Unknown")), None);
        assert_eq!(verdict(&object("True")), Some((true, "R: m".to_owned())));
        assert_eq!(verdict(&object("False")), Some((false, "R: m".to_owned())));
    }

    #[test]
    fn what_is_to_be_ready_may_be_unready_on_the_way() {
        let object = |status: &str| {
            json!({"status": {"conditions": [
                {"type": "Succeeded", "status": "False"},
                {"type": "Ready", "status": status, "reason": "R", "message": "m"}]}})
        };
        assert_eq!(verdict(&object("False"), "Ready"), None);
        assert_eq!(verdict(&object("True"), "Ready"), Some((true, "R: m".to_owned())));
        assert_eq!(verdict(&object("True"), "Available"), None);
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
