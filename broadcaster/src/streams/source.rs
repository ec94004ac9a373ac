//! Where a stream's media comes from, and which files may be one.
//!
//! A file is named by its path, never by a URL: what plays must be on this machine. Whoever holds
//! the admin token or writes the configuration may name any file by its absolute path; a relative
//! path is looked up in the media directories and cannot leave them.

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
    /// A relative path without a media directory that has it.
    #[error(
        "{0} is in no media directory: give its absolute path, or add its directory to `media_dirs`"
    )]
    NotFound(PathBuf),
    /// An absolute path from someone who may only name media directories' files.
    #[error("{0} is outside the media directories")]
    Outside(PathBuf),
    /// Not a regular file, or not readable.
    #[error("{0} is not a file that can be read")]
    NotAFile(PathBuf),
}

/// Who names a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The administrator: any absolute path.
    Admin,
    /// Anyone else: the media directories only.
    Owner,
}

impl SourceSpec {
    /// The file to read, with symbolic links resolved; `None` when this is not a file.
    /// Called again at each start, since files come and go.
    ///
    /// # Errors
    /// When there is no such file, or it may not be used.
    pub fn file(
        &self,
        media_dirs: &[PathBuf],
        trust: Trust,
    ) -> Result<Option<PathBuf>, SourceError> {
        let Self::File(path) = self else { return Ok(None) };
        let inside = |path: &Path| {
            let dirs = media_dirs.iter().filter_map(|dir| dir.canonicalize().ok());
            dirs.into_iter().any(|dir| path.starts_with(dir))
        };
        let found = if path.is_absolute() {
            let found = path.canonicalize().map_err(|_| SourceError::NotAFile(path.clone()))?;
            if trust != Trust::Admin && !inside(&found) {
                return Err(SourceError::Outside(path.clone()));
            }
            found
        } else {
            let found = media_dirs.iter().find_map(|dir| dir.join(path).canonicalize().ok());
            let found = found.ok_or_else(|| SourceError::NotFound(path.clone()))?;
            if !inside(&found) {
                return Err(SourceError::Outside(path.clone()));
            }
            found
        };
        // A pipe or a device could hang the worker or never end.
        match std::fs::metadata(&found) {
            Ok(metadata) if metadata.is_file() => Ok(Some(found)),
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
    fn a_file_is_found_in_the_media_directories_and_nowhere_else() {
        let root = tempfile::tempdir().expect("a directory");
        let media = root.path().join("media");
        std::fs::create_dir(&media).expect("made");
        std::fs::write(media.join("show.mp4"), "x").expect("written");
        std::fs::write(root.path().join("secret"), "x").expect("written");
        std::os::unix::fs::symlink(root.path().join("secret"), media.join("link")).expect("linked");
        let dirs = [media.clone()];
        let look = |source: &str, trust| {
            source.parse::<SourceSpec>().expect("a source").file(&dirs, trust)
        };
        let show = media.join("show.mp4").canonicalize().expect("there");
        assert_eq!(look("file:show.mp4", Trust::Owner), Ok(Some(show.clone())));
        let absolute = format!("file:{}", show.display());
        assert_eq!(look(&absolute, Trust::Owner), Ok(Some(show)));
        assert!(matches!(look("file:none.mp4", Trust::Admin), Err(SourceError::NotFound(_))));
        let outside = Err(SourceError::Outside("link".into()));
        assert_eq!(look("file:link", Trust::Admin), outside, "a link must not lead out");
        let secret = format!("file:{}", root.path().join("secret").display());
        assert!(matches!(look(&secret, Trust::Owner), Err(SourceError::Outside(_))));
        assert!(look(&secret, Trust::Admin).is_ok(), "the administrator may name any file");
        assert!(matches!(look("file:/dev/null", Trust::Admin), Err(SourceError::NotAFile(_))));
        let directory = format!("file:{}", media.display());
        assert!(matches!(look(&directory, Trust::Admin), Err(SourceError::NotAFile(_))));
        assert_eq!(look("test", Trust::Owner), Ok(None));
    }
}
