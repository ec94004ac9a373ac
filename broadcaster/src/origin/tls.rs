//! TLS from PEM files, read again when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Certificate and key in use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cert: PathBuf,
    key: PathBuf,
    config: ArcSwap<ServerConfig>,
    reload_failures: AtomicU64,
}

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--tls-cert {cert} and --tls-key {key} cannot be used: {why}")]
pub struct TlsError {
    cert: String,
    key: String,
    why: String,
}

/// When certificate and key changed last.
type ChangedAt = [Option<SystemTime>; 2];

impl Tls {
    /// Reads certificate chain and private key.
    ///
    /// # Errors
    /// When a file cannot be read or the two do not belong together.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let config = ArcSwap::new(read(cert, key)?);
        let reload_failures = AtomicU64::new(0);
        let (cert, key) = (cert.into(), key.into());
        Ok(Self(Arc::new(Shared { cert, key, config, reload_failures })))
    }

    /// Greets a client.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn accept(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.0.config.load_full()).accept(socket).await
    }

    /// Takes up renewed files for as long as it is polled. Files that do not fit each other, as
    /// in the middle of a renewal, change nothing.
    pub async fn follow_files(&self) {
        let mut seen = self.changed_at();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look(&mut seen);
        }
    }

    /// How often changed files could not be used, each look counted: while it rises, the
    /// certificate in use runs out.
    pub fn reload_failures(&self) -> u64 {
        self.0.reload_failures.load(Ordering::Relaxed)
    }

    fn look(&self, seen: &mut ChangedAt) {
        let now = self.changed_at();
        if now == *seen {
            return;
        }
        match read(&self.0.cert, &self.0.key) {
            Ok(config) => {
                self.0.config.store(config);
                *seen = now;
                tracing::info!("the renewed certificate is in use");
            }
            Err(error) => {
                self.0.reload_failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("{error}; the old certificate stays in use");
            }
        }
    }

    fn changed_at(&self) -> ChangedAt {
        [&self.0.cert, &self.0.key].map(|path| path.metadata().and_then(|m| m.modified()).ok())
    }
}

fn read(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |why: String| TlsError {
        cert: cert.display().to_string(),
        key: key.display().to_string(),
        why,
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| failed(format!("certificate: {e}")))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| failed(format!("key: {e}")))?;
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| failed(e.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|e| failed(e.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::write_certificate;

    #[test]
    fn a_renewal_that_cannot_be_used_is_counted_until_it_can() {
        let dir = tempfile::tempdir().expect("a folder");
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let [one, other] = ["one", "other"].map(|name| write_certificate(dir.path(), name));
        let mut time = SystemTime::UNIX_EPOCH;
        let mut put = |from: &Path, to: &Path| {
            std::fs::copy(from, to).expect("copied");
            time += Duration::from_secs(1);
            // Two changes could fall into one tick of the disk's clock.
            let file = std::fs::File::options().append(true).open(to).expect("there");
            file.set_modified(time).expect("set");
        };
        put(&one.0, &cert);
        put(&one.1, &key);
        let tls = Tls::load(&cert, &key).expect("they fit");
        let mut seen = tls.changed_at();
        let first = tls.0.config.load_full();
        put(&other.1, &key);
        tls.look(&mut seen);
        tls.look(&mut seen);
        assert_eq!(tls.reload_failures(), 2);
        assert!(Arc::ptr_eq(&first, &tls.0.config.load_full()), "the old one stays in use");
        put(&other.0, &cert);
        tls.look(&mut seen);
        tls.look(&mut seen);
        assert_eq!(tls.reload_failures(), 2);
        assert!(!Arc::ptr_eq(&first, &tls.0.config.load_full()), "the new one is in use");
    }
}
