//! Names and numbers that identify things, checked once at the edge and trusted afterwards.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limit::{RENDITION_ID_BYTES_MAX, STREAM_NAME_BYTES_MAX};

/// The name of a stream: 1 to 64 of `a-z`, `0-9` and `-`. It stands in paths, labels and records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamName(String);

/// The name of a rendition within its stream, such as `720p`: 1 to 32 of `a-z`, `0-9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RenditionId(String);

/// A session's number within its stream: one publisher connection with one encoder configuration.
/// Counted from 1, never used twice.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SessionNumber(pub u32);

/// A media sequence number: counts the segments of a stream, the same in all its renditions, and
/// never decreases for the life of the stream.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Msn(pub u64);

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or longer than the bound.
    #[error("a {what} has 1 to {max} characters, this one has {len}")]
    Length {
        /// What kind of name.
        what: &'static str,
        /// Its bound.
        max: usize,
        /// What was given.
        len: usize,
    },
    /// A character outside `a-z`, `0-9`, `-`.
    #[error("a {what} is made of a-z, 0-9 and '-', not {found:?}")]
    Character {
        /// What kind of name.
        what: &'static str,
        /// The first character that is not allowed.
        found: char,
    },
}

impl StreamName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RenditionId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SessionNumber {
    /// The session after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Msn {
    /// The segment after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

fn checked(what: &'static str, max: usize, text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > max {
        return Err(NameError::Length { what, max, len: text.len() });
    }
    match text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        Some(found) => Err(NameError::Character { what, found }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($type:ident, $what:literal, $max:expr) => {
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                checked($what, $max, text)?;
                Ok(Self(text.to_owned()))
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                checked($what, $max, &text)?;
                Ok(Self(text))
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
name!(StreamName, "stream name", STREAM_NAME_BYTES_MAX);
name!(RenditionId, "rendition id", RENDITION_ID_BYTES_MAX);

impl fmt::Display for SessionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Msn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_path_segment_are_refused() {
        for bad in ["", "..", "a/b", "A", "a b", "a\0", "é", &"x".repeat(65)] {
            assert!(bad.parse::<StreamName>().is_err(), "{bad:?} was accepted");
            assert!(bad.parse::<RenditionId>().is_err(), "{bad:?} was accepted");
        }
        assert!("a".repeat(33).parse::<RenditionId>().is_err());
        assert_eq!("demo-1".parse::<StreamName>().map(|n| n.to_string()), Ok("demo-1".into()));
    }
}
