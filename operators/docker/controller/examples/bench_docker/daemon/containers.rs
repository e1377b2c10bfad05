//! The containers of the stand-in.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use docker_controller::archive;
use serde_json::{Value, json};

use super::{Asked, Daemon, filters, refused};

/// By name. Each is what the list says of it.
#[derive(Default)]
pub(super) struct Containers {
    all: BTreeMap<String, Container>,
    made: u64,
}

struct Container {
    summary: Value,
    files: BTreeMap<String, Vec<u8>>,
    log: Vec<String>,
}

impl Containers {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Addresses of those that run, by name.
    pub(super) fn addresses(&self) -> BTreeMap<String, String> {
        let running = self
            .all
            .iter()
            .filter(|(_, container)| container.summary["State"] == "running");
        running
            .filter_map(|(name, container)| Some((name.clone(), address(&container.summary)?.to_owned())))
            .collect()
    }

    /// By name or id.
    fn find(&mut self, key: &str) -> Option<&mut Container> {
        if self.all.contains_key(key) {
            return self.all.get_mut(key);
        }
        self.all
            .values_mut()
            .find(|container| container.summary["Id"] == key)
    }

    /// The name of the container that `key` means.
    pub(super) fn name(&mut self, key: &str) -> Option<String> {
        let container = self.find(key)?;
        let name = container.summary["Names"][0].as_str()?;
        Some(name.trim_start_matches('/').to_owned())
    }

    fn create(&mut self, name: &str, wanted: &Value) -> Option<Value> {
        if self.all.contains_key(name) {
            return None;
        }
        self.made += 1;
        let endpoints = &wanted["NetworkingConfig"]["EndpointsConfig"];
        let ports = wanted["HostConfig"]["PortBindings"].as_object();
        let ports: Vec<_> = ports.into_iter().flatten().filter_map(published).collect();
        let id = format!("{:064x}", self.made);
        let summary = json!({
            "Id": id, "Names": [format!("/{name}")], "Labels": wanted["Labels"], "State": "created",
            "NetworkSettings": {"Networks": endpoints}, "Ports": ports,
        });
        let container = Container {
            summary,
            files: BTreeMap::new(),
            log: Vec::new(),
        };
        self.all.insert(name.to_owned(), container);
        Some(json!({"Id": id, "Warnings": []}))
    }
}

impl Container {
    /// The process has read its configuration.
    fn load(&mut self) {
        let line = format!(
            "2026-01-01T00:00:00.{:09}Z [NOTICE] (1) : New worker (2) forked",
            self.log.len()
        );
        self.log.push(line);
    }
}

fn address(summary: &Value) -> Option<&str> {
    let networks = summary.pointer("/NetworkSettings/Networks")?.as_object()?;
    networks
        .values()
        .find_map(|endpoint| endpoint["IPAMConfig"]["IPv4Address"].as_str())
}

/// `6443/tcp` with its first binding, as a list says it.
fn published((port, bindings): (&String, &Value)) -> Option<Value> {
    let private: u16 = port.split('/').next()?.parse().ok()?;
    let public: u16 = bindings[0]["HostPort"].as_str()?.parse().ok()?;
    Some(json!({"PrivatePort": private, "PublicPort": public, "Type": "tcp"}))
}

fn matches(summary: &Value, filters: &BTreeMap<String, Vec<String>>) -> bool {
    let labels = filters.get("label").into_iter().flatten().all(|wanted| {
        let (key, value) = wanted.split_once('=').unwrap_or((wanted, ""));
        let found = summary["Labels"].get(key).and_then(Value::as_str);
        found.is_some_and(|found| value.is_empty() || found == value)
    });
    let plain = |pattern: &String| {
        pattern
            .trim_start_matches("^/?")
            .trim_end_matches('$')
            .replace('\\', "")
    };
    let mut names = filters.get("name").into_iter().flatten();
    let name = summary["Names"][0].as_str().unwrap_or_default();
    labels && names.all(|pattern| name.trim_start_matches('/') == plain(pattern))
}

/// Everything below `/containers` but commands.
pub(super) fn answer(daemon: &Daemon, asked: &Asked, body: &Bytes) -> Response {
    match (asked.method.as_str(), asked.path.as_slice()) {
        ("GET", [_, "json"]) => list(daemon, asked),
        ("POST", [_, "create"]) => create(daemon, asked, body),
        (_, [_, key]) => remove(daemon, key),
        ("POST", [_, key, "start"]) => start(daemon, key),
        (method, [_, key, what]) => on_one(daemon, asked, (method, key, what), body),
        _ => refused(StatusCode::NOT_FOUND, "page not found"),
    }
}

fn list(daemon: &Daemon, asked: &Asked) -> Response {
    let filters = match filters(asked) {
        Ok(filters) => filters,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let containers = daemon.containers.lock();
    let all = containers.all.values().map(|container| &container.summary);
    let found: Vec<_> = all.filter(|summary| matches(summary, &filters)).collect();
    axum::Json(json!(found)).into_response()
}

fn create(daemon: &Daemon, asked: &Asked, body: &Bytes) -> Response {
    let wanted: Value = serde_json::from_slice(body).unwrap_or_default();
    let name = asked.query.get("name").cloned().unwrap_or_default();
    match daemon.containers.lock().create(&name, &wanted) {
        Some(made) => (StatusCode::CREATED, axum::Json(made)).into_response(),
        None => refused(
            StatusCode::CONFLICT,
            &format!("The container name {name} is already in use"),
        ),
    }
}

fn start(daemon: &Daemon, key: &str) -> Response {
    let mut containers = daemon.containers.lock();
    let mine = containers
        .find(key)
        .and_then(|container| address(&container.summary).map(str::to_owned));
    let taken = mine.is_some_and(|mine| containers.addresses().into_values().any(|other| other == mine));
    if taken {
        return refused(StatusCode::FORBIDDEN, "Address already in use");
    }
    let Some(container) = containers.find(key) else {
        return refused(StatusCode::NOT_FOUND, "No such container");
    };
    container.summary["State"] = json!("running");
    container.load();
    daemon.tell("start", &container.summary);
    StatusCode::NO_CONTENT.into_response()
}

fn remove(daemon: &Daemon, key: &str) -> Response {
    let mut containers = daemon.containers.lock();
    let removed = containers.name(key).and_then(|name| containers.all.remove(&name));
    let Some(removed) = removed else {
        return refused(StatusCode::NOT_FOUND, "No such container");
    };
    daemon.tell("destroy", &removed.summary);
    StatusCode::NO_CONTENT.into_response()
}

fn on_one(daemon: &Daemon, asked: &Asked, (method, key, what): (&str, &str, &str), body: &Bytes) -> Response {
    let mut containers = daemon.containers.lock();
    let Some(container) = containers.find(key) else {
        return refused(StatusCode::NOT_FOUND, "No such container");
    };
    let path = asked.query.get("path").cloned().unwrap_or_default();
    match (method, what) {
        ("GET", "json") => axum::Json(container.summary.clone()).into_response(),
        // The provider writes one file only, and reads it back by its path.
        ("PUT", "archive") => {
            let content = archive::unpack(body).unwrap_or_default();
            container.files.insert(String::new(), content);
            StatusCode::OK.into_response()
        }
        ("GET", "archive") => match container.files.get("") {
            Some(content) => archive::pack(&path, 0o644, content).into_response(),
            None => refused(StatusCode::NOT_FOUND, "Could not find the file"),
        },
        ("POST", "kill") => {
            container.load();
            StatusCode::NO_CONTENT.into_response()
        }
        ("GET", "logs") => framed(&format!("{}\n", container.log.join("\n"))).into_response(),
        _ => refused(StatusCode::NOT_FOUND, "page not found"),
    }
}

/// A piece of standard output, as Docker multiplexes it.
pub(super) fn framed(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let mut frame = vec![1, 0, 0, 0];
    frame.extend(length.to_be_bytes());
    frame.extend(text.as_bytes());
    frame
}
