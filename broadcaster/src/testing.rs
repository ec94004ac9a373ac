//! What unit tests share: a worker's start and the media that it would make, certificates.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::rendition::{Kind, Ladder};

use crate::feed::Timing;
use crate::origin::{Info, P2pInfo};
use crate::worker::ipc::{MadeRendition, Part, Ready, Source, Start};

/// Two parts of a second make a segment.
pub(crate) const TIMING: Timing = Timing { part_us: 1_000_000, segment_us: 2_000_000 };

/// Renditions by these ids, with an init segment of their own each.
pub(crate) fn ready(ids: &[&str]) -> Ready {
    let renditions = ids.iter().map(|id| made(id)).collect();
    Ready { renditions, notes: Vec::new(), wall_clock_us: 1_000 }
}

/// A rendition by this id.
pub(crate) fn made(id: &str) -> MadeRendition {
    MadeRendition {
        id: id.parse().expect("an id"),
        kind: Kind::Video,
        codec: "avc1.64001f".into(),
        width: 1280,
        height: 720,
        fps: (30, 1),
        sample_rate: 0,
        channels: 0,
        bitrate: 2_000_000,
        encoder: "none".into(),
        init: Bytes::from(format!("init of {id}")),
    }
}

/// What a worker is told at its start, with parts of half a second and segments of two.
pub(crate) fn start(source: Source, ladder: Ladder) -> Start {
    Start {
        stream: "show".into(),
        source,
        ladder,
        audio: Vec::new(),
        part_us: 500_000,
        segment_us: 2_000_000,
        keyframe_max_us: 2_200_000,
        orders: Vec::new(),
        marks: false,
        trial: None,
        encoders: Vec::new(),
        encoding_refused: None,
    }
}

/// What is said of a stream without a title that nothing is known of yet.
pub(crate) fn info() -> Info {
    Info {
        stream: "show".into(),
        title: String::new(),
        state: "ended",
        broadcast: 0,
        session: 0,
        public_key: String::new(),
        session_record: None,
        renditions: Vec::new(),
        latency_target_ms: 1650,
        part_ms: 500,
        segment_ms: 2000,
        started_at: None,
        p2p: P2pInfo { policy: "off" },
        signaling: None,
        ice_servers: Vec::new(),
    }
}

/// A part of [`TIMING`], with bytes that no other place has.
pub(crate) fn part(rendition: u8, segment: u32, index: u32) -> Part {
    let data =
        bytes_of(1000, u64::from(rendition) << 40 | u64::from(segment) << 8 | u64::from(index));
    Part {
        rendition,
        segment,
        independent: index == 0,
        last_of_segment: index == 1,
        pts_us: u64::from(2 * segment + index) * 1_000_000,
        duration_us: 1_000_000,
        data,
    }
}

/// So many bytes that differ for every `seed` and all over.
pub(crate) fn bytes_of(len: usize, seed: u64) -> Bytes {
    let mut state = seed + 1;
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A certificate and its key, made now, as PEM files in `dir` that begin with `name`.
pub(crate) fn write_certificate(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let (cert, key) = (dir.join(format!("{name}-cert.pem")), dir.join(format!("{name}-key.pem")));
    std::fs::write(&cert, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    (cert, key)
}
