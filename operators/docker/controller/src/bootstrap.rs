//! The bootstrap of a node, as a supervised task.
//!
//! The node does the work on its own ([`script`]); the task hands over what is to be done, if nothing was handed over
//! yet, and follows. Lost with its process, the next task finds the node where it is.

pub mod limit;
pub mod mask;
pub mod registry;
pub mod script;

use std::time::Duration;

use docker_api::Reason;
use reconcile::task::TaskContext;

use crate::{
    cloud_config,
    digest::fnv1a,
    engine::{Command, Engine, EngineError, Failure},
};
use script::{DRIVER, Parameters, STATE_DIR};

/// How long a bootstrap may take unless the machine says otherwise.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(300);

/// What the node's own time limit is exceeded by before we stop to look.
const GRACE: Duration = Duration::from_secs(60);
/// How long the node's runtime may take to accept images.
const RUNTIME_ATTEMPTS: u32 = 60;
/// Lines of output that an event shows.
const TOLD: usize = 10;

/// What the bootstrap provider delivered.
#[derive(Clone, Default)]
pub struct Data {
    /// The document.
    pub value: String,
    /// Its format; empty for cloud-config.
    pub format: String,
    /// Why it is not to be had, for people; none that is there.
    pub missing: Option<String>,
    /// Why it is not known what it is, for people: the API server did not say.
    pub unread: Option<String>,
}

impl Data {
    /// Tells this data from other data.
    pub fn digest(&self) -> u64 {
        let missing = self.missing.as_ref().map_or(0, |why| fnv1a(why.as_bytes()));
        fnv1a(self.value.as_bytes()) ^ fnv1a(self.format.as_bytes()).rotate_left(1) ^ missing
    }
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Data")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// What is to be bootstrapped.
#[derive(Clone, Debug)]
pub struct Job {
    /// The container.
    pub container: String,
    /// The node's host name.
    pub hostname: String,
    /// The id that the Node must carry.
    pub provider_id: String,
    /// How long it may take.
    pub limit: Duration,
    /// Images to copy into the node first.
    pub images: Vec<String>,
    /// Whether the Node has registered: then a node that has begun nothing here was bootstrapped by others.
    pub registered: bool,
    /// What the bootstrap provider delivered.
    pub data: Data,
}

/// How a bootstrap ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything ran. `ignored` are modules of the cloud-config that are not supported.
    Completed {
        /// Modules that were asked for and are not supported.
        ignored: Vec<String>,
    },
    /// It will not be tried again over the same node.
    Ended {
        /// Why.
        reason: Reason,
        /// For people, without secrets.
        message: String,
        /// The last lines of output, without secrets.
        output: String,
    },
    /// The data cannot be used, and nothing was done with it: to be tried again once it is other data.
    DataInvalid {
        /// For people, without secrets.
        message: String,
        /// [`Data::digest`] of what was tried.
        digest: u64,
    },
    /// Docker failed; to be tried again.
    Retry(EngineError),
    /// The data are needed and could not be read, for people; to be tried again.
    Unread(String),
    /// The task was told to stop.
    Stopped,
}

/// What the driver said.
#[derive(Debug, Default)]
struct Said {
    verdict: Option<String>,
    output: Vec<String>,
}

/// Brings the node from wherever it is to the end of its bootstrap. Progress is the current step.
pub async fn run<E: Engine>(engine: E, job: Job, context: TaskContext<String>) -> Outcome {
    let cancel = context.cancel.clone();
    tokio::select! {
        () = cancel.cancelled() => Outcome::Stopped,
        outcome = follow(&engine, &job, &context) => outcome,
    }
}

async fn follow<E: Engine>(engine: &E, job: &Job, context: &TaskContext<String>) -> Outcome {
    let probed = match drive(engine, job, "", context).await {
        Ok(said) => said,
        Err(error) => return Outcome::Retry(error),
    };
    // Asked of the node, whoever has registered: kubelet does so long before the bootstrap is over.
    if probed.verdict.as_deref() != Some("absent") {
        // What was handed over was these data, by whomever.
        let ignored = understand(job).map_or_else(|_| Vec::new(), |config| config.ignored);
        return conclude(job, &probed, ignored);
    }
    if job.registered {
        return Outcome::Completed { ignored: Vec::new() };
    }
    let config = match understand(job) {
        Ok(config) => config,
        Err(outcome) => return outcome,
    };
    if let Err(error) = copy_images(engine, job, context).await {
        return Outcome::Retry(error);
    }
    let parameters = Parameters {
        provider_id: &job.provider_id,
        time_limit: job.limit,
        state_dir: STATE_DIR,
    };
    let script = script::render(&config, &parameters);
    match drive(engine, job, &script, context).await {
        Ok(said) => conclude(job, &said, config.ignored),
        Err(error) => Outcome::Retry(error),
    }
}

fn understand(job: &Job) -> Result<cloud_config::CloudConfig, Outcome> {
    let invalid = |message: String| Outcome::DataInvalid {
        message,
        digest: job.data.digest(),
    };
    if let Some(why) = &job.data.unread {
        return Err(Outcome::Unread(why.clone()));
    }
    if let Some(why) = &job.data.missing {
        return Err(invalid(why.clone()));
    }
    if !["", "cloud-config"].contains(&job.data.format.as_str()) {
        return Err(invalid(format!(
            "the bootstrap data has format {:?}; only cloud-config is supported",
            job.data.format
        )));
    }
    if job.data.value.trim().is_empty() {
        return Err(invalid(
            "the bootstrap data is empty, and the node was not bootstrapped before".into(),
        ));
    }
    cloud_config::parse(&job.data.value, &job.hostname).map_err(|error| invalid(error.to_string()))
}

async fn copy_images<E: Engine>(
    engine: &E,
    job: &Job,
    context: &TaskContext<String>,
) -> Result<(), EngineError> {
    // All of them before any step is told: one that is missing is for people to bring.
    for image in &job.images {
        if !engine.has_image(image).await? {
            return Err(EngineError {
                kind: Failure::Image,
                action: format!("copy image {image} into container {}", job.container),
                message: "it is not on the Docker host; pull it there, since spec.preLoadImages names it"
                    .into(),
            });
        }
    }
    for image in &job.images {
        context.report(format!("copying image {image}"));
        let mut attempt = 0;
        // The node's runtime takes a moment to come up.
        while let Err(error) = engine.copy_image(&job.container, image).await {
            attempt += 1;
            if attempt >= RUNTIME_ATTEMPTS || matches!(error.kind, Failure::NotFound | Failure::Image) {
                return Err(error);
            }
            context.clock.sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}

async fn drive<E: Engine>(
    engine: &E,
    job: &Job,
    script: &str,
    context: &TaskContext<String>,
) -> Result<Said, EngineError> {
    let mut said = Said::default();
    let length = script.len().to_string();
    let argv = ["/bin/sh", "-c", DRIVER, "capdkc", STATE_DIR, &length]
        .map(str::to_owned)
        .to_vec();
    let command = Command {
        argv,
        stdin: script.as_bytes().to_vec(),
        limit: job.limit + GRACE,
    };
    let mut on_line = |line: String| match (&said.verdict, line.strip_prefix("step ")) {
        (Some(_), _) => said.output.push(line),
        (None, Some(step)) => context.report(step.to_owned()),
        (None, None) => said.verdict = Some(line),
    };
    engine.run(&job.container, command, &mut on_line).await?;
    Ok(said)
}

fn conclude(job: &Job, said: &Said, ignored: Vec<String>) -> Outcome {
    // Without the data nobody knows what of the output must not be told.
    let output = if job.data.value.trim().is_empty() {
        String::new()
    } else {
        mask::tail(&said.output, &job.data.value, TOLD)
    };
    let ended = |reason, message: String| Outcome::Ended {
        reason,
        message,
        output: output.clone(),
    };
    let code = said
        .verdict
        .as_deref()
        .and_then(|verdict| verdict.strip_prefix("exit "));
    match (
        said.verdict.as_deref(),
        code.and_then(|code| code.trim().parse::<i32>().ok()),
    ) {
        (_, Some(0)) => Outcome::Completed { ignored },
        (_, Some(script::TIMED_OUT)) => {
            let limit = job.limit.as_secs();
            ended(
                Reason::Failed,
                format!(
                    "the bootstrap took longer than {limit} s and was ended; replace the machine, or raise spec.bootstrapTimeout"
                ),
            )
        }
        (_, Some(code)) => ended(
            Reason::Failed,
            format!("the bootstrap failed with status {code}; replace the machine"),
        ),
        (Some("interrupted"), None) => ended(
            Reason::Interrupted,
            "the node was restarted during its bootstrap; it cannot be trusted, replace the machine".into(),
        ),
        (verdict, None) => Outcome::Retry(EngineError {
            kind: Failure::Unavailable,
            action: format!("follow the bootstrap of container {}", job.container),
            message: format!("the connection ended early ({})", verdict.unwrap_or("no answer")),
        }),
    }
}
