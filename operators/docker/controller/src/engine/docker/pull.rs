//! Pulls, beside the passes: a registry that is slow holds no worker for longer than [`PATIENCE`].
//!
//! # Guarantees
//! - One pull at a time for an image with the same credentials, however many machines ask for it.
//! - Whoever asks while it goes on gets [`Failure::Pulling`], and asks again; whoever asks first after its end, and soon,
//!   gets its outcome.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::DockerEngine;
use crate::{
    digest::fnv1a,
    engine::{EngineError, Failure, RegistryCredentials},
};

/// How long a pass waits for a pull: most are over by then.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an outcome stands for the image: later it may be another one.
const FRESH: Duration = Duration::from_secs(60);

/// The end of a pull; none as long as it goes on.
type Outcome = Option<(Instant, Result<(), EngineError>)>;

/// The pulls under way, and those that nobody has asked after since they ended.
#[derive(Default)]
pub(super) struct Pulls {
    flights: Mutex<HashMap<(String, u64), watch::Receiver<Outcome>>>,
}

impl DockerEngine {
    /// Pulls `image`, or joins whoever does.
    pub(super) async fn pull(
        &self,
        image: &str,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<(), EngineError> {
        let secret = credentials.map(|known| format!("{}:{}", known.username, known.password));
        let key = (
            image.to_owned(),
            secret.map_or(0, |secret| fnv1a(secret.as_bytes())),
        );
        let mut flight = self.flight(&key, credentials);
        let ended = timeout(PATIENCE, flight.wait_for(Option::is_some)).await;
        let ended = ended.map(|seen| seen.ok()?.as_ref().map(|(_, result)| result.clone()));
        let failed = |kind, message: &str| EngineError {
            kind,
            action: format!("pull image {image}"),
            message: message.to_owned(),
        };
        let Ok(outcome) = ended else {
            return Err(failed(Failure::Pulling, "the registry is still sending it"));
        };
        let mut flights = self.shared.pulls.flights.lock();
        if flights.get(&key).is_some_and(|known| known.same_channel(&flight)) {
            flights.remove(&key);
        }
        outcome.unwrap_or_else(|| Err(failed(Failure::Unavailable, "the pull was cut off")))
    }

    /// The pull of this image that is under way or has just ended, or else a new one.
    fn flight(
        &self,
        key: &(String, u64),
        credentials: Option<&RegistryCredentials>,
    ) -> watch::Receiver<Outcome> {
        let mut flights = self.shared.pulls.flights.lock();
        let stale = |known: &watch::Receiver<Outcome>| {
            let ended = known.borrow().as_ref().map(|(ended, _)| *ended);
            ended.map_or_else(|| known.has_changed().is_err(), |ended| ended.elapsed() > FRESH)
        };
        if let Some(known) = flights.get(key).filter(|known| !stale(known)) {
            return known.clone();
        }
        let (sender, flight) = watch::channel(None);
        let (engine, image, credentials) = (self.clone(), key.0.clone(), credentials.cloned());
        tokio::spawn(async move {
            let result = engine.transfer(&image, credentials.as_ref()).await;
            sender.send_replace(Some((Instant::now(), result)));
        });
        flights.insert(key.clone(), flight.clone());
        flight
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use axum::{
        Router,
        body::Body,
        extract::Request,
        http::{Response, StatusCode},
    };
    use base64::{Engine as _, engine::general_purpose::URL_SAFE};
    use docker_api::ImagePullPolicy;
    use reconcile::error::{Class, ReconcileError as _};
    use serde_json::Value;
    use tokio::{net::TcpListener, sync::Semaphore};

    use super::*;
    use crate::engine::Engine as _;

    /// A daemon on a processor of x86-64, behind a registry that sends nothing until it is let.
    struct Daemon {
        /// The architecture of the one image that it has; none that it has none.
        image: Option<&'static str>,
        pulls: AtomicUsize,
        lets: Semaphore,
        /// The credentials of the last pull, as a daemon reads them.
        credentials: Mutex<Value>,
    }

    impl Daemon {
        async fn answer(self: Arc<Self>, request: Request) -> Response<Body> {
            let path = request.uri().path();
            let (status, body) = if path.ends_with("/images/create") {
                let header = request.headers().get("x-registry-auth");
                let decoded = header.and_then(|header| URL_SAFE.decode(header).ok());
                let read = decoded.and_then(|text| serde_json::from_slice(&text).ok());
                *self.credentials.lock() = read.unwrap_or_default();
                self.pulls.fetch_add(1, Ordering::SeqCst);
                let _let = self.lets.acquire().await.unwrap();
                (StatusCode::OK, r#"{"status": "done"}"#.to_owned())
            } else if path.ends_with("/info") {
                (StatusCode::OK, r#"{"Architecture": "x86_64"}"#.to_owned())
            } else if let Some(architecture) = self.image.filter(|_| path.ends_with("/images/node:1/json")) {
                (
                    StatusCode::OK,
                    format!(r#"{{"Id": "sha256:00", "Architecture": "{architecture}"}}"#),
                )
            } else if path.ends_with("/version") {
                (
                    StatusCode::OK,
                    r#"{"ApiVersion": "1.41", "MinAPIVersion": "1.12"}"#.to_owned(),
                )
            } else {
                (
                    StatusCode::NOT_FOUND,
                    r#"{"message": "No such image"}"#.to_owned(),
                )
            };
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = status;
            response
        }
    }

    /// A daemon without images whose registry lets that many pulls through, and its engine.
    async fn daemon(lets: usize) -> (Arc<Daemon>, DockerEngine) {
        daemon_with(None, lets).await
    }

    async fn daemon_with(image: Option<&'static str>, lets: usize) -> (Arc<Daemon>, DockerEngine) {
        let daemon = Arc::new(Daemon {
            image,
            pulls: AtomicUsize::new(0),
            lets: Semaphore::new(lets),
            credentials: Mutex::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let engine = DockerEngine::new(format!("tcp://{}", listener.local_addr().unwrap()));
        let serving = daemon.clone();
        let router = Router::new().fallback(move |request| serving.clone().answer(request));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (daemon, engine)
    }

    /// Daemons ignore what they cannot read, and some send credentials to no registry but the one that they are for.
    #[tokio::test(flavor = "multi_thread")]
    async fn credentials_arrive_in_the_form_that_daemons_read_and_with_their_registry() {
        for password in ["plain", "???>>>~~~", "пароль"] {
            let (daemon, engine) = daemon(1).await;
            let credentials = RegistryCredentials {
                registry: "registry.example.com:5000".into(),
                username: "somebody".into(),
                password: password.into(),
            };
            let pull = async {
                while let Err(error) = engine.pull("node:1", Some(&credentials)).await {
                    assert_eq!(error.kind, Failure::Pulling, "{error}");
                }
            };
            timeout(Duration::from_mins(2), pull).await.unwrap();
            let read = daemon.credentials.lock().clone();
            assert_eq!(read["password"], password, "{read}");
            assert_eq!(read["username"], "somebody");
            assert_eq!(read["serveraddress"], "registry.example.com:5000");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_slow_registry_holds_nobody_and_is_asked_once_for_all() {
        let (daemon, engine) = daemon(0).await;
        let ask = || engine.ensure_image("node:1", ImagePullPolicy::IfNotPresent, None);
        let (one, other) = tokio::join!(ask(), ask());
        for error in [one.unwrap_err(), other.unwrap_err()] {
            assert_eq!(
                (error.kind, error.class()),
                (Failure::Pulling, Class::Waiting),
                "{error}"
            );
            assert_eq!(error.reason(), "ImageUnavailable");
        }
        daemon.lets.add_permits(1);
        let ended = async {
            while let Err(error) = engine.pull("node:1", None).await {
                assert_eq!(error.kind, Failure::Pulling, "{error}");
            }
        };
        timeout(Duration::from_mins(2), ended).await.unwrap();
        assert_eq!(daemon.pulls.load(Ordering::SeqCst), 1);
    }
    #[tokio::test(flavor = "multi_thread")]
    async fn an_image_of_another_architecture_is_refused_with_both_names() {
        let (daemon, engine) = daemon_with(Some("arm64"), 1).await;
        for policy in [
            ImagePullPolicy::IfNotPresent,
            ImagePullPolicy::Never,
            ImagePullPolicy::Always,
        ] {
            let error = loop {
                match engine.ensure_image("node:1", policy, None).await {
                    Err(error) if error.kind == Failure::Pulling => {}
                    other => break other.unwrap_err(),
                }
            };
            assert_eq!(error.kind, Failure::Image, "{error}");
            let says = "it is made for arm64, and the host is amd64; name an image for amd64";
            assert_eq!(error.message, says);
        }
        let pulls = daemon.pulls.load(Ordering::SeqCst);
        assert_eq!(
            pulls, 1,
            "the registry may have one that fits, if it is to be asked"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_image_that_is_there_is_pulled_where_it_always_is_to_be() {
        let (daemon, engine) = daemon_with(Some("amd64"), 1).await;
        for (policy, pulls) in [
            (ImagePullPolicy::Never, 0),
            (ImagePullPolicy::IfNotPresent, 0),
            (ImagePullPolicy::Always, 1),
        ] {
            let provided = async {
                while let Err(error) = engine.ensure_image("node:1", policy, None).await {
                    assert_eq!(error.kind, Failure::Pulling, "{error}");
                }
            };
            timeout(Duration::from_mins(2), provided).await.unwrap();
            assert_eq!(daemon.pulls.load(Ordering::SeqCst), pulls, "{policy:?}");
        }
    }
}
