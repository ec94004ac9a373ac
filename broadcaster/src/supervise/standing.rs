//! Whether a stream is meant to be on, kept over restarts of the broadcaster.

use std::fs;
use std::io;
use std::path::Path;

use super::machine::Standing;

const FILE: &str = "standing.json";

/// What was kept; `None` when nothing was, or nothing that can be read.
pub fn read(dir: &Path) -> Option<Standing> {
    serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()
}

/// Keeps it no more. Gives whether there was something.
///
/// # Errors
/// When the disk refuses.
pub fn forget(dir: &Path) -> io::Result<bool> {
    match fs::remove_file(dir.join(FILE)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Keeps it. Nothing is written when it is the same.
///
/// # Errors
/// When the disk refuses.
pub fn write(dir: &Path, standing: Standing) -> io::Result<()> {
    if read(dir) == Some(standing) {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    let temporary = dir.join("standing.json.new");
    fs::write(&temporary, serde_json::to_vec(&standing)?)?;
    fs::rename(temporary, dir.join(FILE))
}
