//! Records for tests: what an honest broadcaster would say.

use crate::feed::{End, Flags, Part, Record, Rendition, Session, hash_piece, piece_len};
use crate::id::{Msn, SessionNumber};
use crate::rendition::Kind;

/// A session of `demo` with a video and an audio rendition.
pub(crate) fn session(number: u32, first_msn: u64, discontinuity_sequence: u64) -> Record {
    Record::Session(Session {
        stream: "demo".parse().expect("a name"),
        broadcast: 1,
        session: SessionNumber(number),
        first_msn: Msn(first_msn),
        discontinuity_sequence,
        part_target_us: 550_000,
        target_duration_s: 2,
        renditions: vec![rendition(0, "480p", Kind::Video), rendition(1, "audio", Kind::Audio)],
    })
}

/// One entry of the session table.
pub(crate) fn rendition(number: u8, id: &str, kind: Kind) -> Rendition {
    Rendition {
        number,
        id: id.parse().expect("an id"),
        kind,
        codec: if kind == Kind::Video { "avc1.64001f" } else { "mp4a.40.2" }.into(),
        width: 854,
        height: 480,
        fps: (30, 1),
        sample_rate: 48_000,
        channels: 2,
        bitrate: 1_500_000,
        stripes: 8,
        init_number: 1,
        init_length: 600,
        init_sha256: [0; 32],
    }
}

/// Where a part stands and what is special about it.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) session: u32,
    pub(crate) rendition: u8,
    pub(crate) msn: u64,
    pub(crate) part: u16,
    pub(crate) last: bool,
    pub(crate) discontinuity: bool,
}

/// A part of half a second.
pub(crate) fn part(at: At) -> Record {
    let bytes = [at.part as u8; 5000];
    let piece_len = piece_len(5000, 8);
    Record::Part(Part {
        stream: "demo".parse().expect("a name"),
        session: SessionNumber(at.session),
        rendition: at.rendition,
        msn: Msn(at.msn),
        part: at.part,
        flags: Flags {
            independent: at.part == 0,
            last_of_segment: at.last,
            discontinuity: at.discontinuity,
            gap: false,
        },
        pts_us: at.msn * 2_000_000 + u64::from(at.part) * 500_000,
        duration_us: 500_000,
        wall_clock_us: 1_790_000_000_000_000 + at.msn as i64 * 2_000_000,
        length: 5000,
        piece_len,
        pieces: bytes.chunks(piece_len.into()).map(hash_piece).collect(),
    })
}

/// The end of `demo`.
pub(crate) fn end(session: u32, next_msn: u64) -> Record {
    Record::End(End {
        stream: "demo".parse().expect("a name"),
        broadcast: 1,
        session: SessionNumber(session),
        next_msn: Msn(next_msn),
    })
}
