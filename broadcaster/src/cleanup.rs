//! Removes what earlier runs left behind: media of streams that are no more, files half written,
//! workers whose broadcaster died. Nothing here stops a start: what cannot be removed is told and
//! counted.
//!
//! Called with the data folder's lock held, so nobody else uses what is found. Only what is ours
//! by name is touched, since the folder may hold anything.

use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use common::id::StreamName;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::resource::counts::Counts;
use crate::store::spool;
use crate::streams::store::STREAMS_FILE;
use crate::supervise::standing;

/// The stable code of what could not be removed.
pub const CLEANUP_FAILED: &str = "CLEANUP_FAILED";

/// The variable that names a worker's broadcaster, by its data folder.
pub const WORKER_OF: &str = "SHOAL_WORKER_OF";

/// Endings of files that are written before they take their name.
const UNFINISHED: [&str; 2] = [".new", ".tmp"];

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Streams that are no more, of which there still was media.
    pub streams: u64,
    /// Files half written, and sockets.
    pub files: u64,
    /// Workers without their broadcaster.
    pub workers: u64,
    /// What could not be removed.
    pub failures: u64,
}

impl Removed {
    /// How much was removed.
    pub fn total(&self) -> u64 {
        self.streams + self.files + self.workers
    }
}

/// Removes what earlier runs left in `data`, but nothing of streams that `is_stream` knows.
pub fn at_start(data: &Path, is_stream: impl Fn(&StreamName) -> bool) -> Removed {
    let mut removed = Removed::default();
    if let Some(owner) = owner(data) {
        removed.workers = end_workers(&owner);
    }
    let mut failures = 0;
    let mut note = |what: &str, result: io::Result<u64>, count: &mut u64| match result {
        Ok(n) => *count += n,
        Err(error) => {
            failures += 1;
            tracing::error!(code = CLEANUP_FAILED, "Failed to cleanup {what}: {error}");
        }
    };
    let unfinished = data.join(format!("{STREAMS_FILE}.new"));
    note(STREAMS_FILE, remove_file(&unfinished), &mut removed.files);
    for folder in entries(&data.join("spool")) {
        let path = folder.path();
        let Some(name) = stream_of(&folder) else { continue };
        for file in entries(&path).into_iter().filter(is_unfinished) {
            let name = file.path().display().to_string();
            note(&name, remove_file(&file.path()), &mut removed.files);
        }
        if !is_stream(&name) {
            // Where numbering goes on stays: names that caches keep must not be used again.
            let freed = spool::remove_sessions(&path)
                .and_then(|n| Ok(n + u64::from(standing::forget(&path)?)));
            let what = format!("resources for stream {name}");
            note(&what, freed.map(|n| n.min(1)), &mut removed.streams);
        }
    }
    removed.failures = failures;
    let Removed { streams, files, workers, failures } = removed;
    if removed != Removed::default() {
        tracing::info!(
            streams,
            files,
            workers,
            failures,
            "removed what an earlier run left behind"
        );
    }
    removed
}

/// Notes that something of a stream that is no more could not be removed.
pub fn failed(stream: &StreamName, error: &dyn std::fmt::Display, counts: &Counts) {
    counts.cleanup_failures.add_one();
    tell_failed(stream, error);
}

/// Tells the operator of it.
pub fn tell_failed(stream: &StreamName, error: &dyn std::fmt::Display) {
    tracing::error!(
        code = CLEANUP_FAILED,
        stream = %stream,
        "Failed to cleanup resources for stream {stream}: {error}"
    );
}

/// What names the broadcaster of a data folder, as long as that exists: its lock is never
/// replaced.
pub fn owner(data: &Path) -> Option<String> {
    let lock = fs::metadata(data.join("lock")).ok()?;
    Some(format!("{}-{}", lock.dev(), lock.ino()))
}

/// Kills workers of this owner. Ours are not started yet, so those that run have lost theirs.
fn end_workers(owner: &str) -> u64 {
    let mut ended = 0;
    for process in entries(Path::new("/proc")) {
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
        if !is_worker_of(&process.path(), owner) {
            continue;
        }
        // The number may belong to another process by now: only what the handle holds and still
        // looks like ours is ended.
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if is_worker_of(&process.path(), owner) && pidfd_send_signal(&handle, Signal::KILL).is_ok()
        {
            ended += 1;
        }
    }
    ended
}

fn is_worker_of(process: &Path, owner: &str) -> bool {
    let read = |file| fs::read(process.join(file)).unwrap_or_default();
    let (command, environment) = (read("cmdline"), read("environ"));
    is_worker(&command) && names_owner(&environment, owner)
}

/// Whether a command line is `PROGRAM worker`.
fn is_worker(command: &[u8]) -> bool {
    command.split(|byte| *byte == 0).nth(1) == Some(b"worker")
}

fn names_owner(environment: &[u8], owner: &str) -> bool {
    let wanted = format!("{WORKER_OF}={owner}");
    environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
}

/// The stream whose folder this is. A link leads to what is not ours, whatever its name.
fn stream_of(folder: &DirEntry) -> Option<StreamName> {
    let is_dir = folder.file_type().is_ok_and(|kind| kind.is_dir());
    folder.file_name().to_str().filter(|_| is_dir)?.parse().ok()
}

fn is_unfinished(entry: &DirEntry) -> bool {
    let kind = entry.file_type();
    let name = entry.file_name();
    let name = name.to_str().unwrap_or_default();
    kind.is_ok_and(|kind| {
        kind.is_socket() || (kind.is_file() && UNFINISHED.iter().any(|end| name.ends_with(end)))
    })
}

/// What is in a folder; nothing when it cannot be read.
fn entries(folder: &Path) -> Vec<DirEntry> {
    fs::read_dir(folder).map(|found| found.flatten().collect()).unwrap_or_default()
}

fn remove_file(path: &Path) -> io::Result<u64> {
    match fs::remove_file(path) {
        Ok(()) => Ok(1),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, b"x").expect("written");
    }

    #[test]
    fn media_of_streams_that_are_no_more_goes_and_where_their_numbering_goes_on_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let spool = dir.path().join("spool");
        for stream in ["gone", "kept"] {
            for file in ["1/480p/7.m4s", "2/records-0.log", "numbers.json", "standing.json"] {
                write(&spool.join(stream).join(file));
            }
            write(&spool.join(stream).join("numbers.json.new"));
        }
        write(&spool.join("Not A Stream!/1/480p/7.m4s"));
        write(&dir.path().join("streams.json.new"));
        write(&dir.path().join("a-file-of-someone.new"));
        let removed = at_start(dir.path(), |name| name.as_str() == "kept");
        let there = |path: &str| dir.path().join(path).exists();
        assert!(there("spool/gone/numbers.json") && !there("spool/gone/1"));
        assert!(!there("spool/gone/2") && !there("spool/gone/standing.json"));
        assert!(there("spool/kept/1/480p/7.m4s") && there("spool/kept/standing.json"));
        assert!(!there("spool/kept/numbers.json.new") && !there("streams.json.new"));
        assert!(there("spool/Not A Stream!/1/480p/7.m4s") && there("a-file-of-someone.new"));
        assert_eq!(removed, Removed { streams: 1, files: 3, workers: 0, failures: 0 });
        let again = at_start(dir.path(), |name| name.as_str() == "kept");
        assert_eq!(again, Removed::default(), "a second look finds nothing");
    }

    #[test]
    fn a_folder_that_is_no_streams_and_one_behind_a_link_stay_untouched() {
        let dir = tempfile::tempdir().expect("a folder");
        let (spool, elsewhere) = (dir.path().join("spool"), dir.path().join("elsewhere"));
        let inside = ["1/480p/7.m4s", "standing.json", "draft.new", "draft.tmp"];
        for file in inside {
            write(&spool.join("Someone's Folder").join(file));
            write(&elsewhere.join(file));
        }
        std::os::unix::fs::symlink(&elsewhere, spool.join("linked")).expect("linked");
        write(&spool.join("a-file"));
        assert_eq!(at_start(dir.path(), |_| false), Removed::default());
        for file in inside {
            assert!(spool.join("Someone's Folder").join(file).exists(), "{file}");
            assert!(elsewhere.join(file).exists(), "{file}");
        }
        assert!(spool.join("linked").is_symlink() && spool.join("a-file").exists());
    }

    #[test]
    fn a_sockets_file_that_nobody_listens_on_goes() {
        let dir = tempfile::tempdir().expect("a folder");
        let stream = dir.path().join("spool/show");
        fs::create_dir_all(&stream).expect("made");
        let socket = stream.join("socket");
        drop(std::os::unix::net::UnixListener::bind(&socket).expect("bound"));
        assert_eq!(at_start(dir.path(), |_| true).files, 1);
        assert!(!socket.exists());
    }

    #[test]
    fn only_workers_of_this_folder_are_ended() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("lock"), b"").expect("written");
        let ours = owner(dir.path()).expect("a lock");
        let run = |argument: &str, owner: &str| {
            let mut command = std::process::Command::new("sh");
            // `sh worker` runs the file of that name, which waits for ever.
            command.arg(argument).current_dir(dir.path()).env(WORKER_OF, owner);
            command.spawn().expect("started")
        };
        for name in ["worker", "other"] {
            fs::write(dir.path().join(name), b"while :; do sleep 5; done").expect("written");
        }
        let (mut left, mut other_folder, mut other_command) =
            (run("worker", &ours), run("worker", "1-1"), run("other", &ours));
        let removed = at_start(dir.path(), |_| true);
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(left.wait().expect("reaped").signal(), Some(9));
        assert_eq!(removed.workers, 1);
        for stays in [&mut other_folder, &mut other_command] {
            assert!(stays.try_wait().expect("asked").is_none(), "not ours to end");
            stays.kill().expect("killed");
            stays.wait().expect("reaped");
        }
    }
}
