//! The bytes of every live stream and the newest view of it that readers share.
//!
//! [`live::LiveStream`] is what the origin reads: playlists rendered once per version and media
//! in memory, both shared without a copy. [`spool`] keeps the same on disk, so that a restarted
//! broadcaster serves its last window at once.

pub mod live;
pub mod ring;
pub mod segment_file;
pub mod spool;
