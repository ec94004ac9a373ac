//! Every bound that more than one package relies on, with its reason.

/// Longest name of a stream or a rendition's owner, in bytes: fits a path segment and a label.
pub const STREAM_NAME_BYTES_MAX: usize = 64;

/// Longest rendition id, in bytes (interfaces.md).
pub const RENDITION_ID_BYTES_MAX: usize = 32;

/// Renditions of one stream: ids in records are one byte; 32 leaves room for every preset twice
/// and bounds the work one stream can cause.
pub const RENDITIONS_MAX: usize = 32;

/// Largest piece of a part, in bytes: the largest message that data channels of every browser
/// carry without surprises is 16 KiB.
pub const PIECE_BYTES_MAX: u32 = 16 * 1024;

/// Largest part, in bytes: 0.5 s at 120 Mbit/s, four times the heaviest preset's peak.
pub const PART_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// Pieces of one part that a record may name: `PART_BYTES_MAX` in full pieces, doubled because
/// the last stripe row may be short.
pub const PIECES_MAX: usize = 2 * (PART_BYTES_MAX / PIECE_BYTES_MAX) as usize;

/// Parts in one segment: 60 fps cut at every frame for 6 s would be 360; normal is 4.
pub const PARTS_PER_SEGMENT_MAX: u16 = 512;

/// Largest init segment, in bytes: real ones are below 2 KiB.
pub const INIT_BYTES_MAX: usize = 64 * 1024;

/// Latest wall clock, in microseconds since the Unix epoch: the end of the year 9999, after which a
/// date has no four digits for its year (RFC 3339 §5.6).
pub const WALL_CLOCK_US_MAX: i64 = 253_402_300_799_999_999;
