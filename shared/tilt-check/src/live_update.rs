//! What a change of a file does to a running container, in Tilt's order: an initial sync, files that need a new image,
//! files that are copied, commands.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use crate::{
    arguments::{Arguments, TAG, own_type},
    files,
    interpreter::Call,
};

/// Steps that were made and belong to no live update yet, by where they were made.
pub(crate) type Unused = BTreeMap<String, String>;

/// The steps of one image.
#[derive(Clone, Debug, Default)]
pub(crate) struct LiveUpdate {
    pub(crate) stops: Vec<String>,
    pub(crate) syncs: Vec<(String, String)>,
    pub(crate) runs: Vec<String>,
}

/// Makes a step.
pub(crate) fn step(call: &Call, arguments: &Arguments, unused: &mut Unused) -> Value {
    let mut step = json!({ "at": call.at });
    match call.name.as_str() {
        "sync" => {
            step["from"] = files::absolute(call, &arguments.text("local_path")).into();
            step["to"] = arguments.text("remote_path").into();
        }
        "run" => step["command"] = arguments.texts("cmd").join(" ").into(),
        "fall_back_on" => {
            let paths = arguments.texts("paths");
            let paths: Vec<_> = paths.iter().map(|path| files::absolute(call, path)).collect();
            step["paths"] = paths.into();
        }
        _ => {}
    }
    unused.insert(call.at.clone(), call.name.clone());
    json!({ TAG: format!("live_update_{}_step", call.name), "value": step })
}

impl LiveUpdate {
    /// Takes the steps in, or says which stands in the wrong place.
    pub(crate) fn from_steps(steps: &[Value], unused: &mut Unused) -> Result<Self, String> {
        let mut update = Self::default();
        // How far the list has come: initial sync, fall back, sync, run, restart.
        let mut reached = 0;
        for step in steps {
            let value = &step["value"];
            let kind = own_type(step).unwrap_or_default();
            let at = |place: u8, why: &str| {
                if place < reached {
                    Err(why.to_owned())
                } else {
                    Ok(place)
                }
            };
            reached = match kind {
                "live_update_initial_sync_step" => {
                    at(
                        0,
                        "initial_sync must appear at most once, at the start of the list",
                    )?;
                    1
                }
                "live_update_fall_back_on_step" => {
                    update.stops.extend(strings(&value["paths"]));
                    at(1, "fall_back_on steps must appear at the start of the list")?
                }
                "live_update_sync_step" => {
                    let [from, to] =
                        [&value["from"], &value["to"]].map(|text| text.as_str().unwrap_or_default());
                    if !to.starts_with('/') {
                        return Err(format!("sync: the remote path {to:?} is not absolute"));
                    }
                    update.syncs.push((from.to_owned(), to.to_owned()));
                    at(2, "all sync steps must precede all run steps")?
                }
                "live_update_run_step" => {
                    update
                        .runs
                        .push(value["command"].as_str().unwrap_or_default().to_owned());
                    at(3, "restart container is only valid as the last step")?
                }
                "live_update_restart_container_step" => {
                    return Err("restart_container is deprecated for Kubernetes resources".to_owned());
                }
                _ => return Err(format!("'steps' must be a list of live update steps, got {step}")),
            };
            unused.remove(value["at"].as_str().unwrap_or_default());
        }
        Ok(update)
    }

    /// Whether what it watches is watched for the image at all.
    pub(crate) fn within(&self, watched: &[String]) -> Result<(), String> {
        let outside = |path: &str| !watched.iter().any(|folder| Path::new(path).starts_with(folder));
        for (source, _) in &self.syncs {
            if outside(source) {
                return Err(format!(
                    "sync step source {source:?} is not a child of any watched path ({})",
                    watched.join(", ")
                ));
            }
        }
        match self.stops.iter().find(|path| outside(path)) {
            Some(path) => Err(format!(
                "fall_back_on path {path:?} is not a child of any watched path"
            )),
            None => Ok(()),
        }
    }
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}
