//! Files that are either whole or not there.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use std::fs::{File, OpenOptions};

/// Writes a file so that a crash at any moment leaves the old content or the new, readable by
/// this user only.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // What is left of a full disk must not stay; the first error is the one that counts.
        let _ = std::fs::remove_file(&temporary);
        return written;
    }
    File::open(dir)?.sync_all()
}
