//! The host's certificate: made on first start, kept, and pinned by clients that want more than the shared key.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

/// A certificate and its key.
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Clone for Certificate {
    fn clone(&self) -> Self {
        Self { der: self.der.clone(), key: self.key.clone_key() }
    }
}

impl Certificate {
    /// Reads `certificate.pem` and `certificate.key` of `directory`, or makes them there if neither exists.
    pub(crate) fn load_or_make(directory: &Path) -> io::Result<Self> {
        let (der, key) = (directory.join("certificate.pem"), directory.join("certificate.key"));
        if !der.exists() && !key.exists() {
            let made = Self::make()?;
            write_private(&key, &made.1)?;
            write_private(&der, &made.0)?;
        }
        let named = |path: &Path, error: rustls::pki_types::pem::Error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
        };
        Ok(Self {
            der: CertificateDer::from_pem_file(&der).map_err(|error| named(&der, error))?,
            key: PrivateKeyDer::from_pem_file(&key).map_err(|error| named(&key, error))?,
        })
    }

    /// A certificate for this run only.
    pub(crate) fn ephemeral() -> io::Result<Self> {
        let (der, key) = Self::make()?;
        Ok(Self {
            der: CertificateDer::from_pem_slice(der.as_bytes()).map_err(io::Error::other)?,
            key: PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(io::Error::other)?,
        })
    }

    fn make() -> io::Result<(String, String)> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "steward".to_owned()]);
        let made = made.map_err(io::Error::other)?;
        Ok((made.cert.pem(), made.signing_key.serialize_pem()))
    }

    /// What clients pin: SHA-256 of the certificate.
    pub(crate) fn pin(&self) -> String {
        let digest = Sha256::digest(&self.der);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }
}

/// Writes a file that only this user may read, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let _ = std::fs::remove_file(&beside);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}
