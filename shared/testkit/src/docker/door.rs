//! A door to this machine's Docker for whoever has a certificate, as a daemon with `--tlsverify` has one.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::{Docker, LABEL};
use crate::{
    image::{Image, Images},
    process::{Janitor, ScratchFolder},
};

/// The port inside the container that is the door.
const PORT: &str = "2376";

/// Lets through whoever has a certificate of the authority. Requests may take long: a container that is attached to.
const CONFIGURATION: &str = "\
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen docker
  bind :2376 ssl crt /tls/server.pem ca-file /tls/ca.pem verify required
  server docker /var/run/docker.sock
";

/// An open door. It closes when the value is dropped, and soon after its process has ended in any other way.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    /// `ca.pem`, `cert.pem` and `key.pem` of a client that is let through.
    pub client: [(&'static str, String); 3],
    // In this order: the container goes before what it has mounted.
    _janitor: Janitor,
    _folder: ScratchFolder,
}

impl Door {
    /// Opens one on `host`, an address of this machine.
    pub async fn open(docker: &Docker, host: IpAddr) -> Result<Self> {
        let folder = ScratchFolder::create("testkit-door")?;
        let client = certificates(folder.path(), host)?;
        let image = Images::new(docker).ensure(Image::Haproxy).await?;
        let name = format!("testkit-door-{}", uuid::Uuid::new_v4().simple());
        let program = docker.program().to_string_lossy().into_owned();
        let janitor = Janitor::engage(r#""$1" rm --force "$2""#, &[program, name.clone()])?;
        let (published, mounted) = (
            format!("{host}::{PORT}"),
            format!("{}:/tls:ro", folder.path().display()),
        );
        let label = format!("{LABEL}.door={name}");
        let run = [
            "run",
            "--detach",
            "--name",
            &name,
            "--label",
            &label,
            "--publish",
            &published,
            "--volume",
            "/var/run/docker.sock:/var/run/docker.sock",
            "--volume",
            &mounted,
            &image,
            "-W",
            "-db",
            "-f",
            "/tls/haproxy.cfg",
        ];
        docker.run(&run).await?;
        let printed = docker.run(&["port", &name, PORT]).await?;
        let address = printed.lines().next().unwrap_or_default().trim();
        Ok(Self {
            address: address
                .parse()
                .with_context(|| format!("Docker published {address:?}"))?,
            client,
            _janitor: janitor,
            _folder: folder,
        })
    }

    /// Where it is, for `DOCKER_HOST`.
    pub fn url(&self) -> String {
        format!("tcp://{}", self.address)
    }
}

/// Writes what the door needs into `folder`; returns what a client needs.
fn certificates(folder: &Path, host: IpAddr) -> Result<[(&'static str, String); 3]> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "testkit-door-authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let sign = |usage, name: &str| -> Result<(String, String)> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.push(SanType::IpAddress(host));
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
    };
    let (certificate, key) = sign(ExtendedKeyUsagePurpose::ServerAuth, "door")?;
    fs::write(folder.join("server.pem"), certificate + &key)?;
    fs::write(folder.join("ca.pem"), &authority)?;
    fs::write(folder.join("haproxy.cfg"), CONFIGURATION)?;
    let (certificate, key) = sign(ExtendedKeyUsagePurpose::ClientAuth, "client")?;
    Ok([("ca.pem", authority), ("cert.pem", certificate), ("key.pem", key)])
}
