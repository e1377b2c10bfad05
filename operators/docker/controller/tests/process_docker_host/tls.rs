//! TLS before a daemon, as `dockerd --tlsverify` has it: whoever shows no certificate of the authority is turned away.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// Certificates of the daemon and of two clients, one of which the daemon does not know.
pub struct Certificates {
    authority: String,
    roots: RootCertStore,
    server: (CertificateDer<'static>, KeyPair),
    client: (String, String),
    stranger: (String, String),
}

fn authority(name: &str) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    (params, KeyPair::generate().unwrap())
}

fn issued(issuer: &Issuer<'_, KeyPair>, purpose: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap(), key)
}

impl Certificates {
    pub fn make() -> Self {
        let (params, key) = authority("docker");
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let ours = Issuer::new(params, key);
        let (params, key) = authority("somebody else");
        let theirs = Issuer::new(params, key);
        let (server, server_key) = issued(&ours, ExtendedKeyUsagePurpose::ServerAuth);
        let client = |issuer| {
            let (certificate, key) = issued(issuer, ExtendedKeyUsagePurpose::ClientAuth);
            (certificate.pem(), key.serialize_pem())
        };
        Self {
            authority: certificate.pem(),
            roots,
            server: (server.der().clone(), server_key),
            client: client(&ours),
            stranger: client(&theirs),
        }
    }

    /// Writes what `DOCKER_CERT_PATH` leads to.
    pub fn write(&self, folder: &Path, of_stranger: bool) {
        let (certificate, key) = if of_stranger { &self.stranger } else { &self.client };
        std::fs::create_dir(folder).unwrap();
        for (name, content) in [
            ("ca.pem", &self.authority),
            ("cert.pem", certificate),
            ("key.pem", key),
        ] {
            std::fs::write(folder.join(name), content).unwrap();
        }
    }
}

/// Stands before the daemon at `target`; returns where.
pub async fn guard(target: SocketAddr, certificates: &Certificates) -> SocketAddr {
    let verifier = WebPkiClientVerifier::builder(Arc::new(certificates.roots.clone()))
        .build()
        .unwrap();
    let (certificate, key) = &certificates.server;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Whoever is turned away, or hangs up, is none of the others' concern.
                let Ok(mut client) = acceptor.accept(stream).await else {
                    return;
                };
                if let Ok(mut server) = TcpStream::connect(target).await {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    address
}
