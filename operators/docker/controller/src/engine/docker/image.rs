//! Images of the host.

use bollard::{BollardRequest, auth::DockerCredentials, query_parameters::CreateImageOptionsBuilder};
use docker_api::ImagePullPolicy;
use futures::TryStreamExt as _;

use super::{DockerEngine, TRANSFER_LIMIT, failure::explain};
use crate::engine::{Engine as _, EngineError, Failure, RegistryCredentials};

impl DockerEngine {
    /// Sees to it that an image is there, as `policy` says.
    pub(super) async fn provide_image(
        &self,
        image: &str,
        policy: ImagePullPolicy,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<(), EngineError> {
        if policy == ImagePullPolicy::Always {
            // Whatever is there now: it may be of another architecture than what the registry has.
            self.pull(image, credentials).await?;
            return self.finds_image(image).await.map(|_| ());
        }
        match policy {
            _ if self.finds_image(image).await? => Ok(()),
            ImagePullPolicy::Never => Err(EngineError {
                kind: Failure::Image,
                action: format!("use image {image}"),
                message: "it is not on the Docker host, and imagePullPolicy is Never".into(),
            }),
            _ => {
                self.pull(image, credentials).await?;
                self.finds_image(image).await.map(|_| ())
            }
        }
    }

    /// One pull, from its beginning to its end.
    pub(super) async fn transfer(
        &self,
        image: &str,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<(), EngineError> {
        let action = format!("pull image {image}");
        let client = self.bounded(&action, self.acting(&action)).await?;
        let (name, tag) = split_reference(image);
        let mut options = CreateImageOptionsBuilder::default().from_image(name);
        if let Some(tag) = tag {
            options = options.tag(tag);
        }
        let sent = credentials.map(|known| DockerCredentials {
            username: Some(known.username.clone()),
            password: Some(known.password.clone()),
            serveraddress: Some(known.registry.clone()),
            ..DockerCredentials::default()
        });
        let pull = client
            .create_image(Some(options.build()), None, sent)
            .try_for_each(|_| async { Ok(()) });
        let failed = |message: String| EngineError {
            kind: Failure::Image,
            action: action.clone(),
            message,
        };
        match tokio::time::timeout(TRANSFER_LIMIT, pull).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let said = explain(&action, &error).message;
                let advice = advice(&said, credentials.is_some());
                Err(failed(said + advice))
            }
            Err(_) => Err(failed(format!(
                "it took longer than {} s",
                TRANSFER_LIMIT.as_secs()
            ))),
        }
    }

    /// Whether the image is on the host, and fits it.
    pub(super) async fn finds_image(&self, image: &str) -> Result<bool, EngineError> {
        let action = format!("look at image {image}");
        let inspect = async {
            let found = self.client().await?.inspect_image(image).await;
            match found.map_err(|error| explain(&action, &error)) {
                Err(error) if matches!(error.kind, Failure::NotFound | Failure::Image) => Ok(None),
                other => other.map(Some),
            }
        };
        let Some(found) = self.bounded(&action, inspect).await? else {
            return Ok(false);
        };
        let (ours, its) = (
            self.host().await?.architecture,
            found.architecture.unwrap_or_default(),
        );
        if its.is_empty() || its == ours {
            return Ok(true);
        }
        let message = format!("it is made for {its}, and the host is {ours}; name an image for {ours}");
        Err(EngineError {
            kind: Failure::Image,
            action: format!("use image {image}"),
            message,
        })
    }
}

/// The header in which credentials travel.
const CREDENTIALS_HEADER: &str = "x-registry-auth";

/// Daemons read this header as URL-safe base64, and without a word ignore one that is not. The client library writes the
/// other alphabet, which differs in two characters: where a password brings them about, it would not be used.
pub(super) fn with_readable_credentials(mut request: BollardRequest) -> BollardRequest {
    if let Some(header) = request.headers_mut().get_mut(CREDENTIALS_HEADER)
        && let Ok(written) = header.to_str()
        && let Ok(readable) = written.replace('+', "-").replace('/', "_").parse()
    {
        *header = readable;
        header.set_sensitive(true);
    }
    request
}

/// What to do where a registry wants to know who asks. Daemons tell it by words only.
fn advice(said: &str, has_credentials: bool) -> &'static str {
    let said = said.to_ascii_lowercase();
    let refuses = [
        "unauthorized",
        "no basic auth credentials",
        "authentication required",
        "access denied",
        "access forbidden",
    ];
    match (refuses.iter().any(|words| said.contains(words)), has_credentials) {
        (false, _) => "",
        (true, true) => {
            "; the registry refuses the user of spec.imagePullSecret: correct its name and password"
        }
        (true, false) => {
            "; where the registry wants a user, name a Secret with its password in the machine's spec.imagePullSecret, or pull \
             the image on the Docker host"
        }
    }
}

/// Name and tag (or digest) of an image.
fn split_reference(image: &str) -> (&str, Option<&str>) {
    if image.contains('@') {
        return (image, None);
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (image, Some("latest")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_refused_by_a_registry_is_told_what_to_do() {
        for said in [
            "unauthorized: authentication required",
            "Head \"http://127.0.0.1:5000/v2/a/manifests/1\": no basic auth credentials",
            "pull access denied for a, repository does not exist or may require 'docker login'",
            "failed to resolve reference: pulling from host x failed with status code: 401 Unauthorized",
        ] {
            assert!(advice(said, true).contains("correct its name"), "{said}");
            assert!(advice(said, false).contains("name a Secret"), "{said}");
        }
        assert_eq!(advice("manifest unknown", true), "");
    }

    #[test]
    fn references_are_split_at_the_tag_and_nowhere_else() {
        assert_eq!(split_reference("a/b:1"), ("a/b", Some("1")));
        assert_eq!(split_reference("host:5000/b"), ("host:5000/b", Some("latest")));
        assert_eq!(split_reference("a@sha256:00"), ("a@sha256:00", None));
    }
}
