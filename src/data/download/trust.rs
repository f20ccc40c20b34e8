//! Whose certificates are trusted: those of the system's store, to which a company adds its own;
//! else those that the program brings along.

use std::path::PathBuf;
use std::sync::Arc;

use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::environment;
use crate::error::{Error, Result};

/// Certificates that a connection is checked against. `SSL_CERT_FILE` and `SSL_CERT_DIR` replace
/// the system's store, as they do for other programs.
///
/// # Errors
/// If one of these is set, and there is no certificate: an explicit choice is not passed over.
pub(super) fn roots() -> Result<TlsConfig> {
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| environment::value(name).map(PathBuf::from));
    let roots = match &named {
        [None, None] => chosen(load_native_certs()),
        [file, folder] => {
            let found = load_certs_from_paths(file.as_deref(), folder.as_deref());
            let reason = found.errors.first().map_or("none there".to_string(), ToString::to_string);
            let failed =
                || Error::Failed(format!("SSL_CERT_FILE, SSL_CERT_DIR give no certificate: {reason}"));
            Some(chosen(found).ok_or_else(failed)?)
        }
    };
    Ok(TlsConfig::builder().root_certs(roots.unwrap_or(RootCerts::WebPki)).build())
}

/// The certificates that could be read, if any.
fn chosen(found: CertificateResult) -> Option<RootCerts> {
    let certificates = found.certs.iter().map(|der| Certificate::from_der(der).to_owned());
    let certificates: Vec<Certificate<'static>> = certificates.collect();
    (!certificates.is_empty()).then(|| RootCerts::Specific(Arc::new(certificates)))
}
