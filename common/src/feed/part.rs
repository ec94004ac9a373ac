//! The part record: one CMAF part and the hash of each of its pieces.

use sha2::{Digest as _, Sha256};

use super::FeedError;
use super::bytes::{Reader, Writer};
use crate::id::{Msn, SessionNumber, StreamName};
use crate::limit::{
    PART_BYTES_MAX, PARTS_PER_SEGMENT_MAX, PIECE_BYTES_MAX, PIECES_MAX, WALL_CLOCK_US_MAX,
};

/// Bytes kept of each piece's SHA-256: 128 bits leave no practical second preimage.
pub const PIECE_HASH_BYTES: usize = 16;

/// Truncated SHA-256 of one piece.
pub type PieceHash = [u8; PIECE_HASH_BYTES];

/// One part of one rendition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The stream.
    pub stream: StreamName,
    /// The session that made it.
    pub session: SessionNumber,
    /// The rendition's number in the session's table.
    pub rendition: u8,
    /// The segment it belongs to.
    pub msn: Msn,
    /// Its place in the segment, from 0.
    pub part: u16,
    /// What is special about it.
    pub flags: Flags,
    /// Presentation time of its first frame, in microseconds since the session's start.
    pub pts_us: u64,
    /// Its duration in microseconds.
    pub duration_us: u32,
    /// Wall clock of its first frame, in microseconds since the Unix epoch.
    pub wall_clock_us: i64,
    /// Its length in bytes; 0 only for a gap.
    pub length: u32,
    /// Bytes per piece, the last may be shorter; 0 only for a gap.
    pub piece_len: u16,
    /// One hash per piece, in order.
    pub pieces: Vec<PieceHash>,
}

/// Properties of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Decoding can start with it.
    pub independent: bool,
    /// It is the last part of its segment.
    pub last_of_segment: bool,
    /// Its segment follows a discontinuity.
    pub discontinuity: bool,
    /// The whole segment is missing in this rendition; there are no bytes.
    pub gap: bool,
}

impl Flags {
    const KNOWN: u8 = 0x0f;

    fn to_byte(self) -> u8 {
        u8::from(self.independent)
            | u8::from(self.last_of_segment) << 1
            | u8::from(self.discontinuity) << 2
            | u8::from(self.gap) << 3
    }

    fn from_byte(byte: u8) -> Result<Self, FeedError> {
        if byte & !Self::KNOWN != 0 {
            return Err(FeedError::Value("flags"));
        }
        Ok(Self {
            independent: byte & 1 != 0,
            last_of_segment: byte & 2 != 0,
            discontinuity: byte & 4 != 0,
            gap: byte & 8 != 0,
        })
    }
}

/// Bytes per piece of a part of `length` bytes in `stripes` stripes: the largest that is at most
/// [`PIECE_BYTES_MAX`] and gives every stripe the same number of pieces (swarm.md 'Units').
pub fn piece_len(length: u32, stripes: u8) -> u16 {
    if length == 0 {
        return 0;
    }
    let stripes = u32::from(stripes.max(1));
    let rows = length.div_ceil(stripes * PIECE_BYTES_MAX);
    // At most PIECE_BYTES_MAX, which fits.
    length.div_ceil(stripes * rows) as u16
}

/// The hash that a record carries for a piece with these bytes.
pub fn hash_piece(piece: &[u8]) -> PieceHash {
    let digest: [u8; 32] = Sha256::digest(piece).into();
    let mut hash = [0; PIECE_HASH_BYTES];
    hash.copy_from_slice(&digest[..PIECE_HASH_BYTES]);
    hash
}

impl Part {
    /// How many pieces a part of this length has.
    pub fn piece_count(&self) -> usize {
        if self.piece_len == 0 {
            return 0;
        }
        self.length.div_ceil(u32::from(self.piece_len)) as usize
    }

    /// Whether `bytes` are exactly this part.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.length as usize
            && self.piece_len > 0
            && bytes
                .chunks(self.piece_len.into())
                .zip(&self.pieces)
                .all(|(piece, hash)| hash_piece(piece) == *hash)
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.text(self.stream.as_str());
        out.u32(self.session.0);
        out.u8(self.rendition);
        out.u64(self.msn.0);
        out.u16(self.part);
        out.u8(self.flags.to_byte());
        out.u64(self.pts_us);
        out.u32(self.duration_us);
        out.i64(self.wall_clock_us);
        out.u32(self.length);
        out.u16(self.piece_len);
        for hash in &self.pieces {
            out.raw(hash);
        }
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, FeedError> {
        let mut part = Self {
            stream: input.name("stream")?,
            session: SessionNumber(input.u32()?),
            rendition: input.u8()?,
            msn: Msn(input.u64()?),
            part: input.u16()?,
            flags: Flags::from_byte(input.u8()?)?,
            pts_us: input.u64()?,
            duration_us: input.u32()?,
            wall_clock_us: input.i64()?,
            length: input.u32()?,
            piece_len: input.u16()?,
            pieces: Vec::new(),
        };
        part.check()?;
        let count = part.piece_count();
        part.pieces.reserve_exact(count);
        for _ in 0..count {
            part.pieces.push(input.array()?);
        }
        Ok(part)
    }

    fn check(&self) -> Result<(), FeedError> {
        let gap = self.flags.gap;
        if gap != (self.length == 0) || self.length > PART_BYTES_MAX {
            return Err(FeedError::Value("length"));
        }
        if gap != (self.piece_len == 0) || u32::from(self.piece_len) > PIECE_BYTES_MAX {
            return Err(FeedError::Value("piece length"));
        }
        if self.piece_count() > PIECES_MAX {
            return Err(FeedError::Value("number of pieces"));
        }
        if !(0..=WALL_CLOCK_US_MAX).contains(&self.wall_clock_us) {
            return Err(FeedError::Value("wall clock"));
        }
        if self.part >= PARTS_PER_SEGMENT_MAX {
            return Err(FeedError::Value("part"));
        }
        if gap && (self.part != 0 || !self.flags.last_of_segment) {
            return Err(FeedError::Value("gap"));
        }
        if self.duration_us == 0 {
            return Err(FeedError::Value("duration"));
        }
        Ok(())
    }
}
