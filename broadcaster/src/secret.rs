//! The broadcaster's own secrets: made at the first start, kept with mode 0600.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use common::feed::Signer;

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The disk refuses.
    #[error("cannot read or make {path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// What the disk said.
        error: io::Error,
    },
    /// Someone else could read it, or it was damaged.
    #[error("{path} {why}")]
    Unusable {
        /// The file.
        path: String,
        /// What is wrong and what to do.
        why: &'static str,
    },
}

/// The key that signs the feed, in `data/key`.
///
/// # Errors
/// When the file cannot be made or used.
pub fn feed_signer(data: &Path) -> Result<Signer, SecretError> {
    Ok(Signer::from_seed(bytes32(&data.join("key"))?))
}

/// 32 random bytes kept in a file.
///
/// # Errors
/// When the file cannot be made or used.
pub fn bytes32(path: &Path) -> Result<[u8; 32], SecretError> {
    let kept = keep(path, || Ok(random()?.to_vec()))?;
    kept.try_into().map_err(|_| SecretError::Unusable {
        path: path.display().to_string(),
        why: "does not have 32 bytes; restore it from a backup, or remove it to make a new one",
    })
}

/// The operator's token: `from_env` when given, otherwise the one in `data/admin-token`.
///
/// # Errors
/// When the file cannot be made or used.
pub fn admin_token(data: &Path, from_env: Option<String>) -> Result<String, SecretError> {
    if let Some(token) = from_env.filter(|t| !t.is_empty()) {
        return Ok(token);
    }
    let path = data.join("admin-token");
    let hex = || Ok(random()?.iter().map(|b| format!("{b:02x}")).collect::<String>().into_bytes());
    let kept = String::from_utf8(keep(&path, hex)?).unwrap_or_default();
    match kept.trim() {
        token if token.len() >= 16 => Ok(token.to_owned()),
        _ => Err(SecretError::Unusable {
            path: path.display().to_string(),
            why: "is too short for a token; remove it to make a new one",
        }),
    }
}

/// Reads the file, or makes it with what `make` gives.
fn keep(path: &Path, make: impl FnOnce() -> io::Result<Vec<u8>>) -> Result<Vec<u8>, SecretError> {
    let failed = |error| SecretError::Io { path: path.display().to_string(), error };
    match fs::read(path) {
        Ok(bytes) => {
            let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(SecretError::Unusable {
                    path: path.display().to_string(),
                    why: "can be read by others; run: chmod 600 on it",
                });
            }
            Ok(bytes)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes = make().map_err(failed)?;
            let mut options = fs::OpenOptions::new();
            let mut file =
                options.write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
            file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
            Ok(bytes)
        }
        Err(error) => Err(failed(error)),
    }
}

fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().expect("a folder");
        let token = admin_token(dir.path(), None).expect("made");
        assert_eq!(admin_token(dir.path(), None).expect("kept"), token);
        assert_eq!(admin_token(dir.path(), Some("given".into())).expect("given"), "given");
        let path = dir.path().join("admin-token");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(admin_token(dir.path(), None).is_err(), "others could read it");
        let key = feed_signer(dir.path()).expect("made").verifier().to_bytes();
        assert_eq!(feed_signer(dir.path()).expect("kept").verifier().to_bytes(), key);
    }
}
