//! Where a stream's media comes from, and which files may be one.
//!
//! A file is named by its absolute path, never by a URL: what plays must be on this machine. Only
//! the administrator makes streams, with the admin token or in the data folder, and may name any
//! file.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest source text, in bytes: Linux's longest path and `file:`.
const SOURCE_BYTES_MAX: usize = 4096 + 5;

/// A stream's source as its owner wrote it: `rtmp`, `test` or `file:PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SourceSpec {
    /// An encoder that publishes with the stream's key.
    Rtmp,
    /// The built-in test picture and tone.
    Test,
    /// A media file.
    File(PathBuf),
}

/// Why a source cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Not one of the three forms.
    #[error("a source is \"rtmp\", \"test\" or \"file:PATH\", not {0:?}")]
    Form(String),
    /// A URL where a path belongs.
    #[error("a file source is a path on this machine, not a URL")]
    Url,
    /// An empty path, or one with control characters or `..`.
    #[error("the path of a file source has no '..', no control characters and is not empty")]
    Path,
    /// A relative path, which the broadcaster could only read from where it happens to run.
    #[error("{0} is not an absolute path: give its absolute path")]
    Relative(PathBuf),
    /// Not a regular file, or not reachable.
    #[error("{0} is not a file that can be read")]
    NotAFile(PathBuf),
}

impl SourceSpec {
    /// Whether it can be used now: a file must be there. A worker finds out again at each start,
    /// since files come and go.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check(&self) -> Result<(), SourceError> {
        let Self::File(path) = self else { return Ok(()) };
        if !path.is_absolute() {
            return Err(SourceError::Relative(path.clone()));
        }
        // A pipe or a device could hang the worker or never end.
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => Ok(()),
            _ => Err(SourceError::NotAFile(path.clone())),
        }
    }
}

impl FromStr for SourceSpec {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        match text {
            "rtmp" => return Ok(Self::Rtmp),
            "test" => return Ok(Self::Test),
            _ => {}
        }
        let form = || SourceError::Form(text.chars().take(80).collect());
        let path = text.strip_prefix("file:").ok_or_else(form)?;
        if path.contains("://") || path.starts_with("//") {
            return Err(SourceError::Url);
        }
        let leaves = Path::new(path).components().any(|part| part == Component::ParentDir);
        let control = path.chars().any(char::is_control);
        if path.is_empty() || leaves || control || text.len() > SOURCE_BYTES_MAX {
            return Err(SourceError::Path);
        }
        Ok(Self::File(path.into()))
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtmp => f.write_str("rtmp"),
            Self::Test => f.write_str("test"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl TryFrom<String> for SourceSpec {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, SourceError> {
        text.parse()
    }
}

impl From<SourceSpec> for String {
    fn from(source: SourceSpec) -> Self {
        source.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_paths_that_climb_are_refused() {
        for bad in ["file:http://a/b", "file:///etc/passwd", "file:rtsp://x"] {
            assert_eq!(bad.parse::<SourceSpec>(), Err(SourceError::Url), "{bad}");
        }
        for bad in ["file:", "file:../a", "file:/media/../etc/passwd", "file:a\nb", "file:a\0"] {
            assert_eq!(bad.parse::<SourceSpec>(), Err(SourceError::Path), "{bad:?}");
        }
        for bad in ["", "RTMP", "srt", "http://a", "/a.mp4"] {
            assert!(matches!(bad.parse::<SourceSpec>(), Err(SourceError::Form(_))), "{bad}");
        }
        for good in ["rtmp", "test", "file:/a/b c.mp4", "file:show.mkv"] {
            assert_eq!(good.parse::<SourceSpec>().map(|s| s.to_string()).as_deref(), Ok(good));
        }
    }

    #[test]
    fn a_file_is_used_by_its_absolute_path_when_it_is_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let show = dir.path().join("show.mp4");
        std::fs::write(&show, "x").expect("written");
        std::os::unix::fs::symlink(&show, dir.path().join("link")).expect("linked");
        let check = |path: &Path| {
            format!("file:{}", path.display()).parse::<SourceSpec>().expect("a source").check()
        };
        assert_eq!(check(&show), Ok(()));
        assert_eq!(check(&dir.path().join("link")), Ok(()));
        let relative = check(Path::new("show.mp4")).expect_err("relative").to_string();
        assert!(relative.contains("give its absolute path"), "{relative}");
        for bad in [dir.path(), &dir.path().join("none.mp4"), Path::new("/dev/null")] {
            assert_eq!(check(bad), Err(SourceError::NotAFile(bad.into())));
        }
        assert_eq!(SourceSpec::Test.check(), Ok(()));
    }
}
