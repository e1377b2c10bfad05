//! The certificates and keys of one control plane, made anew for each.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

/// Why no certificates could be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The generator refused.
    #[error("control plane: cannot make a certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("control plane: cannot write {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS#8).
    pub key: String,
}

/// The authority of one control plane, and what it has issued.
#[derive(Debug)]
pub(super) struct Pki {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    authority: String,
}

impl Pki {
    /// Makes the authority, the API server's serving certificate and the key of service accounts, and writes them
    /// to `folder`.
    pub(super) fn create(folder: &Path) -> Result<Self, PkiError> {
        fs::create_dir_all(folder).map_err(|source| PkiError::Write {
            path: folder.to_owned(),
            source,
        })?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name("test-bed", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?.pem();
        let pki = Self {
            folder: folder.to_owned(),
            issuer: Issuer::new(params, key),
            authority,
        };
        pki.write("ca.crt", &pki.authority)?;
        let serving = pki.serving(&["localhost", "kubernetes", "kubernetes.default.svc"])?;
        pki.write("apiserver.crt", &serving.certificate)?;
        pki.write("apiserver.key", &serving.key)?;
        let accounts = KeyPair::generate()?;
        pki.write("sa.key", &accounts.serialize_pem())?;
        pki.write("sa.pub", &accounts.public_key_pem())?;
        Ok(pki)
    }

    /// The authority's certificate, as PEM.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// A serving certificate for `names` and 127.0.0.1.
    pub(super) fn serving(&self, names: &[&str]) -> Result<Pair, PkiError> {
        let mut params =
            CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
        params
            .subject_alt_names
            .push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        params
            .subject_alt_names
            .push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))));
        params.distinguished_name = name(names.first().copied().unwrap_or("localhost"), None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A client certificate for a user in a group.
    pub(super) fn client(&self, user: &str, group: &str) -> Result<Pair, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(user, Some(group));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Pair, PkiError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair {
            certificate,
            key: key.serialize_pem(),
        })
    }

    fn write(&self, file: &str, content: &str) -> Result<(), PkiError> {
        let path = self.folder.join(file);
        fs::write(&path, content).map_err(|source| PkiError::Write { path, source })
    }
}

fn name(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common);
    name
}
