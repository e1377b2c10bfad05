//! The command line.

/// Chooses aws-lc-rs as this process's TLS provider, unless one is chosen already.
///
/// With more than one provider compiled in, rustls cannot choose and panics at its first use; so call this first in
/// `main`. Calling it again does nothing.
pub fn install_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Lost only to another thread that installed one at the same moment.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}
