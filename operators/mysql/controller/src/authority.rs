//! How the operator proves to a cluster's members who it is, and the passwords that it gives out.
//!
//! Each cluster has a certificate authority whose key is thrown away after it has signed one client certificate. The
//! authority's certificate goes to the members in their user data, where anybody may read it; the client certificate
//! and its key, which open every member, stay in a Secret.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::ObjectMeta;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

/// The operator's account on every member; it has no password and needs the client certificate.
pub const OPERATOR: &str = "operator";
/// The account that replicas follow their source with.
pub const REPLICATION: &str = "replication";
/// The account of applications.
pub const APPLICATION: &str = "app";
/// The database of applications.
pub const DATABASE: &str = "app";
/// The subject of the client certificate, as `CREATE USER … REQUIRE SUBJECT` spells it.
pub const SUBJECT: &str = "/CN=mysql-operator";
/// The common name in it.
const COMMON_NAME: &str = "mysql-operator";

/// What one cluster trusts the operator by.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// The authority's certificate, as PEM.
    pub certificate: String,
    /// The operator's client certificate, as PEM.
    pub client_certificate: String,
    /// Its key, as PEM.
    pub client_key: String,
    /// Password of [`REPLICATION`].
    pub replication_password: String,
    /// Password of [`APPLICATION`].
    pub application_password: String,
}

impl std::fmt::Debug for Authority {
    /// Without its secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A Secret does not hold what was put in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it lacks the key {0:?}")]
pub struct Incomplete(&'static str);

const AUTHORITY: &str = "ca.crt";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const REPLICATION_PASSWORD: &str = "replication-password";
const APPLICATION_PASSWORD: &str = "app-password";

impl Authority {
    /// A new one.
    pub fn generate() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("mysql-operator-authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let mut params = CertificateParams::default();
        params.distinguished_name = named(COMMON_NAME);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client_key = KeyPair::generate()?;
        let client_certificate = params.signed_by(&client_key, &issuer)?.pem();
        Ok(Self {
            certificate,
            client_certificate,
            client_key: client_key.serialize_pem(),
            replication_password: password(),
            application_password: password(),
        })
    }

    /// What a Secret holds.
    pub fn read(secret: &Secret) -> Result<Self, Incomplete> {
        let data = secret.data.as_ref();
        let text = |key: &'static str| {
            let value = data.and_then(|data| data.get(key)).ok_or(Incomplete(key))?;
            String::from_utf8(value.0.clone())
                .ok()
                .filter(|text| !text.is_empty())
                .ok_or(Incomplete(key))
        };
        Ok(Self {
            certificate: text(AUTHORITY)?,
            client_certificate: text(CERTIFICATE)?,
            client_key: text(KEY)?,
            replication_password: text(REPLICATION_PASSWORD)?,
            application_password: text(APPLICATION_PASSWORD)?,
        })
    }

    /// The Secret of this name that holds it. It never changes.
    pub fn secret(&self, name: &str) -> Secret {
        let entries = [
            (AUTHORITY, &self.certificate),
            (CERTIFICATE, &self.client_certificate),
            (KEY, &self.client_key),
            (REPLICATION_PASSWORD, &self.replication_password),
            (APPLICATION_PASSWORD, &self.application_password),
        ];
        let data = entries.map(|(key, value)| (key.to_owned(), ByteString(value.clone().into_bytes())));
        Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            immutable: Some(true),
            type_: Some("mysql.alx.ke/operator".to_owned()),
            data: Some(BTreeMap::from(data)),
            ..Secret::default()
        }
    }
}

fn named(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// 128 random bits; replication takes at most 32 characters.
fn password() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_gives_back_what_was_put_in() {
        let authority = Authority::generate().unwrap();
        assert_eq!(Authority::read(&authority.secret("c-operator")), Ok(authority));
    }

    #[test]
    fn a_secret_that_lacks_something_is_named() {
        let mut secret = Authority::generate().unwrap().secret("c-operator");
        secret.data.as_mut().unwrap().remove(KEY);
        assert_eq!(Authority::read(&secret), Err(Incomplete("tls.key")));
    }

    #[test]
    fn no_two_clusters_share_anything_and_nothing_is_shown() {
        let (one, other) = (Authority::generate().unwrap(), Authority::generate().unwrap());
        assert_ne!(one.replication_password, other.replication_password);
        assert_ne!(one.replication_password, one.application_password);
        assert_ne!(one.certificate, other.certificate);
        assert!(one.replication_password.len() <= 32);
        assert!(!format!("{one:?}").contains(&one.application_password));
    }
}
