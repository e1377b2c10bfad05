//! What flows: output of commands, images, events.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard::{
    Docker,
    container::LogOutput,
    errors::Error,
    exec::{StartExecOptions, StartExecResults},
    models::ExecConfig,
    query_parameters::EventsOptionsBuilder,
};
use futures::{Stream, StreamExt as _, stream};
use tokio::io::AsyncWriteExt as _;

use super::{DockerEngine, REQUEST_LIMIT, failure::explain};
use crate::{
    engine::{Command, ContainerEvent, EngineError, Failure},
    identity::NAMESPACE_LABEL,
};

/// How long to wait before listening again after the daemon went away.
const RECONNECT: Duration = Duration::from_secs(1);

/// From how long before a subscription events are asked for: as much as the two clocks may differ at the least.
const OVERLAP: Duration = Duration::from_secs(5);

/// How many events are being settled at a time.
const SETTLING: usize = 64;

/// How long to wait before asking again after a command whose output has ended and which has not.
const ENDING: Duration = Duration::from_millis(100);

/// A command's output and input, and its id.
type Attached = (
    std::pin::Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>,
    std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>,
    String,
);

async fn attach(
    client: &Docker,
    container: &str,
    argv: Vec<String>,
    action: &str,
) -> Result<Attached, EngineError> {
    let config = ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        privileged: Some(true),
        cmd: Some(argv),
        ..ExecConfig::default()
    };
    let exec = client
        .create_exec(container, config)
        .await
        .map_err(|error| explain(action, &error))?;
    match client.start_exec(&exec.id, None::<StartExecOptions>).await {
        Ok(StartExecResults::Attached { output, input }) => Ok((output, input, exec.id)),
        Ok(StartExecResults::Detached) => Err(EngineError {
            kind: Failure::Unavailable,
            action: action.to_owned(),
            message: "the daemon did not attach to it".into(),
        }),
        Err(error) => Err(explain(action, &error)),
    }
}

/// Runs `command` and hands over its output line by line.
pub(super) async fn run(
    client: &Docker,
    container: &str,
    command: Command,
    on_line: &mut (dyn FnMut(String) + Send),
    action: &str,
) -> Result<(), EngineError> {
    let (mut output, mut input, _) = attach(client, container, command.argv, action).await?;
    let write = async {
        // The command says when it has read enough; that it reads no more is no error of ours.
        let _ = input.write_all(&command.stdin).await;
        let _ = input.flush().await;
        input
    };
    let read = async {
        let mut pending = String::new();
        while let Some(part) = output.next().await {
            let part = part.map_err(|error| explain(action, &error))?;
            pending.push_str(&String::from_utf8_lossy(part.as_ref()));
            while let Some(end) = pending.find('\n') {
                on_line(pending[..end].trim_end_matches('\r').to_owned());
                pending.drain(..=end);
            }
        }
        if !pending.is_empty() {
            on_line(pending);
        }
        Ok(())
    };
    // The writing half is kept until the end: closing it early would look like an end of input.
    let (_input, result) = tokio::join!(write, read);
    result
}

/// Streams an image of the host into the runtime of a node.
pub(super) async fn copy_image(
    client: &Docker,
    container: &str,
    image: &str,
    action: &str,
) -> Result<(), EngineError> {
    let argv = ["ctr", "--namespace=k8s.io", "images", "import", "--digests", "-"]
        .map(str::to_owned)
        .to_vec();
    let (mut output, mut input, id) = attach(client, container, argv, action).await?;
    let write = async {
        let mut archive = std::pin::pin!(client.export_image(image));
        while let Some(chunk) = archive.next().await {
            let chunk = chunk.map_err(|error| EngineError {
                kind: Failure::Image,
                ..explain(action, &error)
            })?;
            if input.write_all(&chunk).await.is_err() {
                // The importer ended early; its output says why.
                break;
            }
        }
        let _ = input.shutdown().await;
        Ok::<_, EngineError>(())
    };
    let read = async {
        let mut said = String::new();
        while let Some(part) = output.next().await {
            said.push_str(&part.map_err(|error| explain(action, &error))?.to_string());
        }
        Ok::<_, EngineError>(said)
    };
    let ((), said) = tokio::try_join!(write, read)?;
    let code = exit_code(client, &id, action).await?;
    if code == Some(0) {
        return Ok(());
    }
    let code = code.map_or_else(|| "an unknown status".to_owned(), |code| format!("status {code}"));
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    let message = format!(
        "the import ended with {code}: {}",
        last.unwrap_or("it said nothing").trim()
    );
    Err(EngineError {
        kind: Failure::Import,
        action: action.to_owned(),
        message,
    })
}

/// The status with which a command has ended whose output is over.
async fn exit_code(client: &Docker, id: &str, action: &str) -> Result<Option<i64>, EngineError> {
    loop {
        let seen = client.inspect_exec(id).await;
        let seen = seen.map_err(|error| explain(action, &error))?;
        if seen.running != Some(true) {
            return Ok(seen.exit_code);
        }
        tokio::time::sleep(ENDING).await;
    }
}

/// The lines of a piece of a log.
pub(super) fn lines_of(part: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(part)
        .lines()
        .map(|line| line.trim_end().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// Events for ever: a broken connection is made anew, and announced by an event without labels, since some may have
/// been missed. Nothing is announced while the daemon does not answer: everybody would try it, past all patience.
pub(super) fn events(engine: DockerEngine) -> impl Stream<Item = ContainerEvent> {
    stream::unfold(engine, |engine| async move {
        let pause = stream::once(tokio::time::sleep(RECONNECT)).filter_map(|()| async { None });
        let batch = match reach(&engine).await {
            Ok(client) => {
                // What happens between the announcement and the subscription is told by the latter.
                let since = SystemTime::now() - OVERLAP;
                let announcement = stream::iter([ContainerEvent::default()]);
                let heard = connection(client, since).take_until(silence(engine.clone()));
                announcement.chain(heard).chain(pause).boxed()
            }
            Err(error) => {
                tracing::warn!(error = error.to_string(), "Cannot listen to Docker's events");
                pause.boxed()
            }
        };
        Some((batch, engine))
    })
    .flatten()
}

/// The client of a daemon that answers.
async fn reach(engine: &DockerEngine) -> Result<Docker, EngineError> {
    let action = "listen to events";
    let ping = async {
        let client = engine.client().await?;
        match client.ping().await {
            // A proxy before the daemon may let this through to nobody; it answers.
            Err(Error::DockerResponseServerError { status_code, .. }) if status_code < 500 => {}
            answer => drop(answer.map_err(|error| explain(action, &error))?),
        }
        Ok(client.clone())
    };
    engine.bounded(action, ping).await
}

/// Ends when a remote daemon answers no more: a connection to a host that has lost its power says nothing, for ever.
async fn silence(engine: DockerEngine) {
    if !engine.is_remote() {
        std::future::pending::<()>().await;
    }
    loop {
        tokio::time::sleep(REQUEST_LIMIT).await;
        if let Err(error) = reach(&engine).await {
            tracing::warn!(error = error.to_string(), "Docker tells of no events any more");
            return;
        }
    }
}

/// Events from `since` on until the connection breaks.
fn connection(client: Docker, since: SystemTime) -> impl Stream<Item = ContainerEvent> {
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let options = EventsOptionsBuilder::default()
        .filters(&event_filters())
        .since(&since.to_string())
        .build();
    let events = client.events(Some(options)).boxed();
    events
        .take_while(|event| std::future::ready(event.is_ok()))
        .map(move |event| {
            let client = client.clone();
            async move {
                let event = event.ok()?;
                let actor = event.actor?;
                if event.action.as_deref() == Some("die") {
                    settle(&client, actor.id.as_deref().unwrap_or_default()).await;
                }
                let labels = actor.attributes?.into_iter().collect();
                let is_gone = event.action.as_deref() == Some("destroy");
                Some(ContainerEvent { labels, is_gone })
            }
        })
        .buffer_unordered(SETTLING)
        .filter_map(std::future::ready)
}

/// The events that can change what a pass decides.
const EVENTS: [&str; 6] = ["start", "die", "destroy", "oom", "pause", "unpause"];

/// What the daemon is asked to report.
fn event_filters() -> HashMap<&'static str, Vec<String>> {
    [
        ("type", vec!["container".to_owned()]),
        ("label", vec![NAMESPACE_LABEL.to_owned()]),
        ("event", EVENTS.map(str::to_owned).to_vec()),
    ]
    .into()
}

/// The daemon tells of a container's end before its own list shows it. An inspection, unlike the list, waits for the
/// container's lock, which is held until the list is right; what it says is of no interest.
async fn settle(client: &Docker, container: &str) {
    let options = None::<bollard::query_parameters::InspectContainerOptions>;
    let _ = tokio::time::timeout(REQUEST_LIMIT, client.inspect_container(container, options)).await;
}
