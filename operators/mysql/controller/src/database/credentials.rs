//! The password of root: where it comes from, and the Secrets that hold it.
//!
//! # Guarantees
//! Neither `Debug` nor an error shows a password, and no object but the two Secrets holds it.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::ObjectMeta;

use super::{names::Names, program};
use crate::version::Version;

/// Key of the password alone, for people.
pub const PASSWORD: &str = "password";
/// Key of a mark that changes with the password and says nothing about it.
const REVISION: &str = "revision";

/// The password of root.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    password: String,
    revision: String,
}

impl fmt::Debug for Credentials {
    /// Without its secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// A password that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// It has no characters.
    #[error("it is empty")]
    Empty,
    /// A line break, a tab or the like.
    #[error("it holds a line break or another control character")]
    ControlCharacter,
    /// MySQL's clients read lines of limited length.
    #[error("it has more than 256 characters")]
    TooLong,
}

impl Credentials {
    /// What a Secret of ours holds; nothing if it does not hold all of it.
    pub fn read(secret: &Secret) -> Option<Self> {
        let text = |key| String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok();
        Some(Self {
            password: text(PASSWORD).filter(|password| check(password).is_ok())?,
            revision: text(REVISION).filter(|mark| !mark.is_empty())?,
        })
    }

    /// With a password that nobody knows: 128 random bits.
    pub fn generate() -> Self {
        Self {
            password: random(),
            revision: random(),
        }
    }

    /// With this password; `known` unchanged if it is the same.
    pub fn with(password: &str, known: Option<Self>) -> Result<Self, PasswordError> {
        check(password)?;
        Ok(match known {
            Some(known) if known.password == password => known,
            _ => Self {
                password: password.to_owned(),
                revision: random(),
            },
        })
    }

    /// Changes when the password does, and says nothing about it.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The Secret that Pods mount, for a server of this version with this database.
    pub fn secret(&self, names: &Names, database: &str, version: Version) -> Secret {
        let own = [
            (PASSWORD, self.password.clone()),
            (REVISION, self.revision.clone()),
        ];
        let files = program::secret_files(database, &self.password, version);
        secret(names.credentials(), names, "Opaque", own.into_iter().chain(files))
    }

    /// The Secret for clients, as servicebinding.io describes it.
    pub fn binding(&self, names: &Names, namespace: &str, database: &str) -> Secret {
        let host = format!("{}.{namespace}.svc", names.name());
        let uri = format!(
            "mysql://root:{}@{host}:3306/{}",
            encoded(&self.password),
            encoded(database)
        );
        let data = [
            ("type", "mysql".to_owned()),
            ("provider", "mysql-operator".to_owned()),
            ("host", host),
            ("port", "3306".to_owned()),
            ("username", "root".to_owned()),
            ("password", self.password.clone()),
            ("database", database.to_owned()),
            ("uri", uri),
        ];
        secret(
            names.binding(),
            names,
            "servicebinding.io/mysql",
            data.into_iter(),
        )
    }
}

fn check(password: &str) -> Result<(), PasswordError> {
    if password.is_empty() {
        Err(PasswordError::Empty)
    } else if password.chars().any(char::is_control) {
        Err(PasswordError::ControlCharacter)
    } else if password.chars().count() > 256 {
        Err(PasswordError::TooLong)
    } else {
        Ok(())
    }
}

fn secret<'a>(
    name: String,
    names: &Names,
    type_: &str,
    data: impl Iterator<Item = (&'a str, String)>,
) -> Secret {
    let data: BTreeMap<_, _> = data
        .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
        .collect();
    Secret {
        metadata: ObjectMeta {
            name: Some(name),
            labels: Some(names.labels()),
            ..ObjectMeta::default()
        },
        type_: Some(type_.to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

/// As it may stand in a URI.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for nibble in [byte >> 4, byte & 15] {
                encoded.extend(char::from_digit(nibble.into(), 16).map(|digit| digit.to_ascii_uppercase()));
            }
        }
        encoded
    })
}

fn random() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn names() -> Names {
        Names::new("m").unwrap()
    }

    fn text(secret: &Secret, key: &str) -> String {
        String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap()
    }

    #[test]
    fn a_secret_gives_back_what_was_put_in_and_nothing_is_shown() {
        let made = Credentials::generate();
        assert_ne!(made, Credentials::generate());
        let secret = made.secret(&names(), "d", Version::V9);
        assert_eq!(Credentials::read(&secret), Some(made.clone()));
        assert!(!format!("{made:?}").contains(&made.password));
    }

    #[test]
    fn the_mark_changes_with_the_password_and_only_then() {
        let first = Credentials::with("one", None).unwrap();
        let same = Credentials::with("one", Some(first.clone())).unwrap();
        assert_eq!(same.revision(), first.revision());
        let other = Credentials::with("two", Some(first.clone())).unwrap();
        assert_ne!(other.revision(), first.revision());
    }

    #[test]
    fn every_quoting_hazard_stands_in_the_binding_as_it_is_and_in_its_uri_encoded() {
        let hazard = r#"a"b'c\d#e$f`g;h i%j&k<l>m|n=o[p]"#;
        let credentials = Credentials::with(hazard, None).unwrap();
        let binding = credentials.binding(&names(), "ns", "d`b");
        assert_eq!(text(&binding, "password"), hazard);
        let uri = text(&binding, "uri");
        assert!(
            uri.starts_with("mysql://root:a%22b%27c%5Cd%23e%24f%60g%3Bh%20i%25j"),
            "{uri}"
        );
        assert!(uri.ends_with("@m.ns.svc:3306/d%60b"), "{uri}");
    }

    #[rstest]
    #[case("", PasswordError::Empty)]
    #[case("two\nlines", PasswordError::ControlCharacter)]
    #[case(&"p".repeat(257), PasswordError::TooLong)]
    fn a_password_that_no_file_can_carry_is_refused(#[case] password: &str, #[case] why: PasswordError) {
        assert_eq!(Credentials::with(password, None), Err(why));
    }
}
