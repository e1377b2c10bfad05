//! Files: relative to the folder of the Tiltfile that is being executed.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use serde_json::Value;

use crate::interpreter::Call;

/// The folder of the file that is being executed.
pub(crate) fn folder(call: &Call) -> PathBuf {
    Path::new(&call.file)
        .parent()
        .unwrap_or_else(|| Path::new("/"))
        .to_owned()
}

/// The path, absolute and without `.` and `..`; links are not followed.
pub(crate) fn absolute(call: &Call, path: &str) -> String {
    clean(&folder(call).join(path)).display().to_string()
}

/// Without `.` and `..`.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            part => cleaned.push(part),
        }
    }
    cleaned
}

/// The text of a file, or of `default` if there is no such file and a default was given.
pub(crate) fn read(path: &str, default: Option<&Value>) -> Result<Result<String, Value>, String> {
    match (fs::read_to_string(path), default) {
        (Ok(text), _) => Ok(Ok(text)),
        (Err(error), Some(default)) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(Err(default.clone()))
        }
        (Err(error), _) => Err(format!("{path}: {error}")),
    }
}

/// The files of a folder, absolute and in order, those of inner folders only if asked for.
pub(crate) fn list(folder: &str, recursive: bool) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{folder}: {error}"))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("{folder}: {error}"))?.path();
        let shown = path.display().to_string();
        if !path.is_dir() {
            found.push(shown);
        } else if recursive {
            found.extend(list(&shown, true)?);
        }
    }
    found.sort();
    Ok(found)
}

/// One YAML document.
pub(crate) fn yaml(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

/// All YAML documents that say anything.
pub(crate) fn yaml_stream(text: &str) -> Result<Vec<Value>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    Ok(documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect())
}

/// YAML of values, a document each.
pub(crate) fn to_yaml(values: &[Value]) -> Result<String, String> {
    let documents = values
        .iter()
        .map(|value| serde_saphyr::to_string(value).map_err(|error| error.to_string()));
    Ok(documents.collect::<Result<Vec<_>, _>>()?.join("---\n"))
}
