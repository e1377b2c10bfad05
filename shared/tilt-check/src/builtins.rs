//! What each of Tilt's functions does.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    arguments::{Arguments, TAG, own_type, text},
    files,
    image::Image,
    interpreter::{Answer, Call},
    kubernetes::Object,
    live_update, program,
    resource::{self, Options},
    session::Session,
    signature,
};

type Result<T> = std::result::Result<T, String>;

/// Does what the call says.
pub(crate) fn answer(session: &mut Session<'_>, call: &Call) -> Answer {
    let Some(signature) = signature::of(&call.name) else {
        return Answer::Error("a function of Tilt's that is not modelled".to_owned());
    };
    let result = Arguments::bind(signature, &call.args, &call.kwargs)
        .and_then(|arguments| dispatch(session, call, &arguments));
    result.unwrap_or_else(Answer::Error)
}

fn dispatch(session: &mut Session<'_>, call: &Call, arguments: &Arguments) -> Result<Answer> {
    let value = match call.name.as_str() {
        "fail" => {
            return Err(text(arguments.value("msg").unwrap_or(&Value::Null))
                .unwrap_or_default()
                .to_owned());
        }
        "exit" => return Ok(Answer::Stop(true)),
        "include" => return file_to_run(call, arguments, false),
        "load_dynamic" => return file_to_run(call, arguments, true),
        name if name.starts_with("config.") => configuration(session, name, arguments)?,
        name if name.starts_with("os.") => system(session, call, arguments),
        "sync" | "run" | "fall_back_on" | "initial_sync" | "restart_container" => {
            live_update::step(call, arguments, &mut session.unused)
        }
        "docker_build" | "custom_build" | "k8s_yaml" | "k8s_resource" | "local_resource"
        | "v1alpha1.ui_button" | "v1alpha1.cmd" => declaration(session, call, arguments)?,
        "local" | "helm" | "kustomize" => blob(&program::output(session, call, arguments)?),
        "read_file" | "read_json" | "read_yaml" | "read_yaml_stream" | "listdir" => file(call, arguments)?,
        "blob" | "decode_json" | "decode_yaml" | "decode_yaml_stream" | "encode_json" | "encode_yaml"
        | "encode_yaml_stream" | "shlex.quote" => conversion(call, arguments)?,
        "port_forward" | "link" | "probe" | "exec_action" | "http_get_action" | "tcp_socket_action" => {
            own(call, arguments)?
        }
        _ => setting(session, call, arguments)?,
    };
    Ok(Answer::Value(value))
}

fn blob(text: &str) -> Value {
    json!({ TAG: "blob", "value": text })
}

fn file_to_run(call: &Call, arguments: &Arguments, globals: bool) -> Result<Answer> {
    let path = files::absolute(call, &arguments.text("path"));
    if !Path::new(&path).is_file() {
        return Err(format!("cannot execute {path}: no such file"));
    }
    Ok(Answer::Run { run: path, globals })
}

fn configuration(session: &mut Session<'_>, name: &str, arguments: &Arguments) -> Result<Value> {
    match name {
        "config.parse" => {
            let folder = session.folder().to_owned();
            session.configuration.parse(&session.setting.arguments, &folder)
        }
        "config.set_enabled_resources" | "config.clear_enabled_resources" => Ok(Value::Null),
        define => session
            .configuration
            .define(define, arguments)
            .map(|()| Value::Null),
    }
}

fn system(session: &mut Session<'_>, call: &Call, arguments: &Arguments) -> Value {
    let path = arguments.text("path");
    match call.name.as_str() {
        "os.getcwd" => files::folder(call).display().to_string().into(),
        "os.getenv" => match session.environment.get(&arguments.text("key")) {
            Some(value) => value.clone().into(),
            None => arguments.value("default").cloned().unwrap_or(Value::Null),
        },
        "os.putenv" => {
            session
                .environment
                .insert(arguments.text("key"), arguments.text("value"));
            Value::Null
        }
        "os.path.abspath" => files::absolute(call, &path).into(),
        "os.path.exists" => Path::new(&files::absolute(call, &path)).exists().into(),
        "os.path.basename" => path.rsplit('/').next().unwrap_or_default().into(),
        "os.path.dirname" => path.rsplit_once('/').map_or("", |(folder, _)| folder).into(),
        "os.path.join" => {
            let parts = arguments.texts("paths");
            parts
                .iter()
                .fold(Path::new(&path).to_owned(), |all, part| all.join(part))
                .display()
                .to_string()
                .into()
        }
        // os.path.realpath: a path of which nothing is there stays as it is.
        _ => {
            let absolute = files::absolute(call, &path);
            std::fs::canonicalize(&absolute)
                .map_or(absolute, |path| path.display().to_string())
                .into()
        }
    }
}

fn declaration(session: &mut Session<'_>, call: &Call, arguments: &Arguments) -> Result<Value> {
    match call.name.as_str() {
        "docker_build" | "custom_build" => {
            let image = match call.name.as_str() {
                "docker_build" => Image::docker(call, arguments, &mut session.unused)?,
                _ => Image::custom(call, arguments, &mut session.unused)?,
            };
            if session
                .images
                .iter()
                .any(|other| other.reference == image.reference)
            {
                return Err(format!(
                    "Image for ref {:?} has already been defined",
                    image.reference
                ));
            }
            session.images.push(image);
        }
        "k8s_yaml" => objects(session, call, arguments)?,
        "k8s_resource" => {
            let options = Options::parse(call, arguments, session.manual)?;
            session.options.push(options);
        }
        "local_resource" => {
            let (name, local) = resource::local(call, arguments, session.manual, &mut session.warnings)?;
            if session.locals.iter().any(|(other, _)| *other == name) {
                return Err(format!("Local resource {name:?} has already been defined"));
            }
            session.locals.push((name, local));
        }
        "v1alpha1.ui_button" => {
            if arguments
                .value("location")
                .and_then(|place| place.get("component_id"))
                .is_none()
            {
                return Err("a button needs a location with component_type and component_id".to_owned());
            }
            add_object(&mut session.buttons, call)?;
        }
        _ => {
            if arguments.texts("args").is_empty() {
                return Err("args: must have length at least 1".to_owned());
            }
            add_object(&mut session.commands, call)?;
        }
    }
    Ok(Value::Null)
}

/// Objects of Tilt's own API are made by name alone.
fn add_object(list: &mut Vec<Value>, call: &Call) -> Result<()> {
    let name = call.kwargs.get("name").filter(|name| name.is_string());
    let name = name.ok_or("want everything by name: name=…")?;
    if list.iter().any(|other| other["name"] == *name) {
        return Err(format!("{name} already registered"));
    }
    list.push(Value::Object(call.kwargs.clone()));
    Ok(())
}

fn objects(session: &mut Session<'_>, call: &Call, arguments: &Arguments) -> Result<()> {
    for source in arguments.list("yaml") {
        let content = match (own_type(&source), source.as_str()) {
            (Some("blob"), _) => text(&source).unwrap_or_default().to_owned(),
            (_, Some(path)) => files::read(&files::absolute(call, path), None)?.unwrap_or_default(),
            _ => return Err(format!("for parameter yaml: want paths or blobs, got {source}")),
        };
        for document in files::yaml_stream(&content)? {
            let object = Object::parse(&document)?;
            let known = session
                .objects
                .iter()
                .position(|other| other.identity() == object.identity());
            match known {
                Some(_) if !arguments.truth("allow_duplicates", false) => {
                    return Err(format!("Duplicate YAML: {} is already defined", object.shown()));
                }
                Some(index) => session.objects[index] = object,
                None => session.objects.push(object),
            }
        }
    }
    Ok(())
}

fn file(call: &Call, arguments: &Arguments) -> Result<Value> {
    if call.name == "listdir" {
        let folder = files::absolute(call, &arguments.text("directory"));
        return Ok(files::list(&folder, arguments.truth("recursive", false))?.into());
    }
    let name = if call.name == "read_file" {
        "file_path"
    } else {
        "path"
    };
    let path = files::absolute(call, &arguments.text(name));
    let text = match files::read(&path, arguments.value("default"))? {
        Ok(text) => text,
        Err(default) if call.name == "read_file" => {
            return Ok(blob(text(&default).unwrap_or_default()));
        }
        Err(default) => return Ok(default),
    };
    let named = |why: String| format!("{path}: {why}");
    match call.name.as_str() {
        "read_file" => Ok(blob(&text)),
        "read_json" => serde_json::from_str(&text).map_err(|error| named(error.to_string())),
        "read_yaml" => files::yaml(&text).map_err(named),
        _ => files::yaml_stream(&text).map(Value::Array).map_err(named),
    }
}

fn conversion(call: &Call, arguments: &Arguments) -> Result<Value> {
    let object = || arguments.value("obj").cloned().unwrap_or(Value::Null);
    Ok(match call.name.as_str() {
        "blob" => blob(&arguments.text("contents")),
        "decode_json" => serde_json::from_str(&arguments.text("json")).map_err(|error| error.to_string())?,
        "decode_yaml" => files::yaml(&arguments.text("yaml"))?,
        "decode_yaml_stream" => Value::Array(files::yaml_stream(&arguments.text("yaml"))?),
        "encode_json" => blob(&object().to_string()),
        "encode_yaml" => blob(&files::to_yaml(&[object()])?),
        "encode_yaml_stream" => blob(&files::to_yaml(&arguments.list("objs"))?),
        _ => format!("'{}'", arguments.text("s").replace('\'', "'\\''")).into(),
    })
}

/// Values of Tilt's own types that are looked at elsewhere.
fn own(call: &Call, arguments: &Arguments) -> Result<Value> {
    let (kind, value) = match call.name.as_str() {
        "port_forward" => {
            let ports =
                json!({"local": arguments.int("local_port"), "container": arguments.int("container_port")});
            ("PortForward", ports)
        }
        "link" => {
            let url = arguments.text("url");
            if !url.contains("://") {
                return Err(format!("url must have a scheme: {url:?}"));
            }
            ("Link", url.into())
        }
        "probe" => {
            let actions = ["exec", "http_get", "tcp_socket"];
            let given = actions
                .iter()
                .filter(|name| arguments.value(name).is_some())
                .count();
            if given != 1 {
                return Err("exactly one of exec, http_get, or tcp_socket must be specified".to_owned());
            }
            ("Probe", Value::Null)
        }
        name => (name, Value::Null),
    };
    Ok(json!({ TAG: kind, "value": value }))
}

/// What holds for the whole run.
fn setting(session: &mut Session<'_>, call: &Call, arguments: &Arguments) -> Result<Value> {
    let positive = |name: &str| match arguments.int(name) {
        Some(..=0) => Err(format!("{name} must be a positive number")),
        _ => Ok(()),
    };
    match call.name.as_str() {
        "k8s_context" => return Ok(session.setting.context.clone().into()),
        "k8s_namespace" => return Ok("default".into()),
        "allow_k8s_contexts" => session.allowed.extend(arguments.texts("contexts")),
        "trigger_mode" => {
            session.manual = arguments
                .value("trigger_mode")
                .is_some_and(|mode| mode["value"] == "TRIGGER_MODE_MANUAL");
        }
        "default_registry" => {
            let before = session.registry.replace(arguments.text("host"));
            return match before {
                Some(_) => Err("default registry already defined".to_owned()),
                None => Ok(Value::Null),
            };
        }
        "update_settings" => {
            positive("max_parallel_updates")?;
            positive("k8s_upsert_timeout_secs")?;
            session
                .unused_images
                .extend(arguments.texts("suppress_unused_image_warnings"));
        }
        "ci_settings" => {
            for name in ["k8s_grace_period", "timeout", "readiness_timeout"] {
                ensure_duration(&arguments.text(name))?;
            }
        }
        "warn" => session.warnings.push(arguments.text("msg")),
        "watch_file" => drop(files::absolute(call, &arguments.text("file_path"))),
        _ => {}
    }
    Ok(Value::Null)
}

/// A duration as Go writes it, of one or more numbers with their units.
fn ensure_duration(duration: &str) -> Result<()> {
    let mut rest = duration;
    while !rest.is_empty() {
        let digits = rest.trim_start_matches(|at: char| at.is_ascii_digit() || at == '.');
        let unit = ["ms", "h", "m", "s"]
            .iter()
            .find_map(|unit| digits.strip_prefix(unit));
        match unit {
            Some(after) if digits.len() < rest.len() => rest = after,
            _ => return Err(format!("invalid duration {duration:?}, want for instance 30m")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for good in ["", "30m", "1h30m", "1.5s", "100ms"] {
            ensure_duration(good).unwrap();
        }
        for bad in ["30", "m", "30 m", "1d"] {
            ensure_duration(bad).unwrap_err();
        }
    }
}
