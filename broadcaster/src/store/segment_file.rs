//! Whole segments on disk, kept open so that the origin can send from the page cache. Handles are
//! bounded: what finds no room is sent from memory.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Segment files open at once. A ring holds about 70 s: 35 segments of 2 s in each of four
/// qualities are 140 for a stream, so this is enough for three and a half.
pub const OPEN_MAX: usize = 512;

/// Smaller segments, such as audio's, are sent from memory: the copy costs less than the calls.
const BYTES_MIN: u64 = 64 * 1024;

/// Hands out room for open files. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Room(Arc<AtomicUsize>);

/// A segment's parts, one behind the other. What is in it never changes; its name may go.
#[derive(Debug)]
pub struct SegmentFile {
    file: File,
    bytes: u64,
    room: Room,
}

impl Room {
    /// Keeps a file of `bytes` bytes open when it is worth it and there is room.
    pub fn keep(&self, file: File, bytes: u64) -> Option<SegmentFile> {
        if bytes < BYTES_MIN {
            return None;
        }
        if self.0.fetch_add(1, Ordering::Relaxed) >= OPEN_MAX {
            self.0.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(SegmentFile { file, bytes, room: self.clone() })
    }
}

impl SegmentFile {
    /// The file, to read from.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for SegmentFile {
    fn drop(&mut self) {
        self.room.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_files_and_each_that_closes_makes_room_for_another() {
        let room = Room::default();
        let open = || tempfile::tempfile().expect("a file");
        let mut kept: Vec<_> = (0..OPEN_MAX).filter_map(|_| room.keep(open(), BYTES_MIN)).collect();
        assert_eq!(kept.len(), OPEN_MAX);
        assert!(room.keep(open(), BYTES_MIN).is_none(), "no room");
        kept.pop();
        assert!(room.keep(open(), BYTES_MIN - 1).is_none(), "too small to be worth it");
        assert!(room.keep(open(), BYTES_MIN).is_some());
    }
}
