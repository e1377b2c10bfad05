//! Credentials of a registry, out of a Docker configuration file.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::engine::RegistryCredentials;

/// The registry of images that name none.
const HUB: &str = "docker.io";
/// What daemons know that registry by, where credentials are for it.
const HUB_ADDRESS: &str = "https://index.docker.io/v1/";

/// The credentials in `config` (a `.dockerconfigjson`) for the registry of `image`.
pub fn credentials(config: &[u8], image: &str) -> Option<RegistryCredentials> {
    let config: Value = serde_json::from_slice(config).ok()?;
    let entries = config.get("auths")?.as_object()?;
    let wanted = registry_of(image);
    let entry = entries
        .iter()
        .find(|(name, _)| host_of(name) == wanted)
        .map(|(_, entry)| entry)?;
    let text = |field: &str| entry.get(field).and_then(Value::as_str).map(str::to_owned);
    let for_registry = |username: &str, password: &str| RegistryCredentials {
        registry: if wanted == HUB { HUB_ADDRESS } else { wanted }.to_owned(),
        username: username.to_owned(),
        password: password.to_owned(),
    };
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Some(for_registry(&username, &password));
    }
    let decoded = String::from_utf8(STANDARD.decode(text("auth")?).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some(for_registry(username, password))
}

fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => HUB,
    }
}

/// Keys of the file are hosts, or, of old, addresses with scheme and path.
fn host_of(key: &str) -> &str {
    let host = key
        .split_once("://")
        .map_or(key, |(_, rest)| rest)
        .split('/')
        .next()
        .unwrap_or_default();
    if host == "index.docker.io" { HUB } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_by_the_images_registry_in_every_form() {
        let config = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
            "reg.example.com:5000": {"username": "u", "password": "p:w"}
        }}"#;
        let found = |image: &str| credentials(config, image).map(|found| (found.username, found.registry));
        let told = |username: &str, registry: &str| Some((username.to_owned(), registry.to_owned()));
        assert_eq!(found("kindest/node:v1"), told("hub", HUB_ADDRESS));
        let own = "reg.example.com:5000";
        assert_eq!(found(&format!("{own}/node@sha256:00")), told("u", own));
        assert_eq!(found("other.example.com/node"), None);
        assert!(credentials(b"not json", "a").is_none());
    }

    #[test]
    fn credentials_do_not_show_in_debug_output() {
        let found = credentials(br#"{"auths": {"docker.io": {"auth": "aHViOnNlY3JldA=="}}}"#, "a").unwrap();
        assert!(!format!("{found:?}").contains("secret"));
    }
}
