//! Commands in the containers of the stand-in: the driver of a bootstrap, which finds the node as it is.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Asked, Daemon, containers::framed, refused};

pub(super) fn create(daemon: &Daemon, asked: &Asked, body: &Bytes) -> Response {
    let config: Value = serde_json::from_slice(body).unwrap_or_default();
    let argv: Vec<String> = serde_json::from_value(config["Cmd"].clone()).unwrap_or_default();
    let Some(name) = daemon.containers.lock().name(asked.path[1]) else {
        return refused(StatusCode::NOT_FOUND, "No such container");
    };
    let mut commands = daemon.commands.lock();
    commands.push((name, argv));
    let id = (commands.len() - 1).to_string();
    (StatusCode::CREATED, axum::Json(json!({"Id": id}))).into_response()
}

/// Switches to the command's raw streams, and plays the node.
pub(super) fn start(daemon: &Arc<Daemon>, id: &str, request: &mut Request) -> Response {
    let command = id
        .parse()
        .ok()
        .and_then(|index: usize| daemon.commands.lock().get(index).cloned());
    let Some((name, argv)) = command else {
        return refused(StatusCode::NOT_FOUND, "No such exec instance");
    };
    // `sh -c DRIVER capdkc FOLDER LENGTH`
    let length = argv.get(5).and_then(|length| length.parse().ok()).unwrap_or(0);
    let upgraded = hyper::upgrade::on(request);
    let daemon = daemon.clone();
    tokio::spawn(async move {
        // A client that went away needs no answer.
        if let Ok(upgraded) = upgraded.await {
            let _ = play(&daemon, &mut TokioIo::new(upgraded), name, length).await;
        }
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "tcp")
        .body(Body::empty());
    response.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn play(
    daemon: &Daemon,
    stream: &mut TokioIo<hyper::upgrade::Upgraded>,
    name: String,
    length: usize,
) -> std::io::Result<()> {
    let mut script = vec![0; length];
    stream.read_exact(&mut script).await?;
    let known = {
        let mut begun = daemon.begun.lock();
        if length > 0 {
            begun.insert(name.clone());
        }
        begun.contains(&name)
    };
    let said = if known { "exit 0\n" } else { "absent\n" };
    stream.write_all(&framed(said)).await?;
    stream.shutdown().await
}
