//! Credentials of a registry, out of a Docker configuration file.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::engine::RegistryCredentials;

/// The registry of images that name none.
const HUB: &str = "docker.io";

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
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Some(RegistryCredentials { username, password });
    }
    let decoded = String::from_utf8(STANDARD.decode(text("auth")?).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some(RegistryCredentials {
        username: username.to_owned(),
        password: password.to_owned(),
    })
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
        let name = |image: &str| credentials(config, image).map(|found| found.username);
        assert_eq!(name("kindest/node:v1").as_deref(), Some("hub"));
        assert_eq!(name("reg.example.com:5000/node@sha256:00").as_deref(), Some("u"));
        assert_eq!(name("other.example.com/node"), None);
        assert!(credentials(b"not json", "a").is_none());
    }

    #[test]
    fn credentials_do_not_show_in_debug_output() {
        let found = credentials(br#"{"auths": {"docker.io": {"auth": "aHViOnNlY3JldA=="}}}"#, "a").unwrap();
        assert!(!format!("{found:?}").contains("secret"));
    }
}
