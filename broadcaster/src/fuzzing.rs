//! What the fuzz targets run, callable without a fuzzer: `fuzz/` feeds these functions new bytes,
//! `tests/corpora.rs` replays the corpora. Each takes bytes as a hostile side could send them and
//! checks what must hold for any of them; a panic is a finding.

use bytes::{Bytes, BytesMut};
use common::feed::{self, Record, Rendition, Signer};
use common::id::{Msn, RenditionId, SessionNumber, StreamName};
use common::playlist::{self, Media as MediaPlaylist};
use common::rendition::Kind;
use common::window::{RenditionWindow, StreamWindow, WINDOW_US_DEFAULT};
use ed25519_dalek::{Signer as _, SigningKey};

use crate::check::parse;
use crate::ingest::media::{Media, Track};
use crate::ingest::rtmp::connection::{Connection, End, Event, Patience};
use crate::worker::ipc;

/// What a replayed RTMP session held.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Publishers that showed a key.
    pub published: usize,
    /// Decoder configurations.
    pub configs: usize,
    /// Video frames, and how many of them are key frames.
    pub video: (usize, usize),
    /// Audio frames.
    pub audio: usize,
    /// How it ended, if it did.
    pub end: Option<End>,
}

/// An RTMP connection. The first byte says how the rest arrives: bit 0, whether the handshake is
/// in it (otherwise it is done already); bits 1 to 3, in portions of how many bytes.
///
/// Every publisher is let in. Events must not depend on the portions.
///
/// # Panics
/// When a promise of [`Connection`] is broken.
pub fn rtmp(data: &[u8]) -> Session {
    let Some((mode, data)) = data.split_first() else { return Session::default() };
    let portion = [1, 2, 7, 50, 128, 1000, 4096, usize::MAX][usize::from(mode >> 1 & 7)];
    let handshake = [&[3][..], &[0; 2 * 1536]].concat();
    let handshake = if mode & 1 == 0 { &handshake[..] } else { &[] };
    let replay = |portion: usize| {
        let mut connection = Connection::new(Patience::default(), 0);
        let mut events = Vec::new();
        let portions = [handshake].into_iter().chain(data.chunks(portion));
        for (now_ms, bytes) in portions.enumerate() {
            // A clock that passes no deadline: which one is first depends on the portions.
            connection.handle_bytes(bytes, now_ms as u64 % 2);
            while let Some(event) = connection.poll_event() {
                if matches!(event, Event::Publish(_)) {
                    connection.accept();
                }
                events.push(event);
            }
            while connection.poll_output().is_some() {}
        }
        events
    };
    let events = replay(portion);
    assert_eq!(events, replay(usize::MAX), "events depend on how bytes arrive");
    let mut session = Session::default();
    let mut configured = [false; 2];
    for event in events {
        assert_eq!(session.end, None, "something follows the end");
        match event {
            Event::Publish(_) => session.published += 1,
            Event::Metadata(_) => {}
            Event::Media(Media::Config(config)) => {
                configured[usize::from(config.track() == Track::Audio)] = true;
                session.configs += 1;
            }
            Event::Media(Media::Frame(frame)) => {
                assert!(frame.dts_us <= frame.pts_us, "decoded after it is shown");
                assert!(!frame.data.is_empty(), "an empty frame");
                assert!(configured[usize::from(frame.track == Track::Audio)], "no configuration");
                match frame.track {
                    Track::Video => {
                        session.video.0 += 1;
                        session.video.1 += usize::from(frame.key);
                    }
                    Track::Audio => session.audio += 1,
                }
            }
            Event::Ended(end) => session.end = Some(end),
        }
    }
    assert!(session.published <= 1, "one publisher per connection");
    session
}

/// Frames between broadcaster and worker, read as each side reads them. Gives how many messages
/// were understood.
///
/// # Panics
/// When a message that was read cannot be written and read again.
pub fn ipc(data: &[u8]) -> usize {
    let mut input = BytesMut::from(data);
    let mut understood = 0;
    let again = |written: &BytesMut| -> (u8, Bytes) {
        let mut written = written.clone();
        let frame = ipc::take_frame(&mut written).expect("what is written fits the bound");
        assert!(written.is_empty(), "a message is one frame");
        frame.expect("what is written is whole")
    };
    while let Ok(Some((kind, body))) = ipc::take_frame(&mut input) {
        if let Ok(command) = ipc::Command::decode(kind, body.clone()) {
            let mut written = BytesMut::new();
            command.encode(&mut written);
            let (kind, body) = again(&written);
            let read = ipc::Command::decode(kind, body).expect("what is written reads back");
            assert_eq!(read, command);
            understood += 1;
        }
        if let Ok(report) = ipc::Report::decode(kind, body) {
            let mut written = BytesMut::new();
            report.encode(&mut written);
            let (kind, body) = again(&written);
            let read = ipc::Report::decode(kind, body).expect("what is written reads back");
            assert_eq!(read, report);
            understood += 1;
        }
    }
    understood
}

/// The seed of the fuzzed feed's key.
const SEED: [u8; 32] = [7; 32];

/// Records of a feed, each behind its length (`u16`, little endian) and without its signature:
/// read, taken into a window, and the window written as playlists. They are signed here, so what
/// a window must withstand goes beyond what a stranger can send. Gives how many records the
/// window took.
///
/// # Panics
/// When a record does not read back as it was written, or a playlist's numbers go back.
pub fn record(data: &[u8]) -> usize {
    let signer = Signer::from_seed(SEED);
    let verifier = signer.verifier();
    let mut window: Option<StreamWindow> = None;
    let mut taken = 0;
    for body in records(data) {
        // A stranger's record, which must be read before it is found to be unsigned.
        assert!(verifier.open(body).is_err(), "a signature by chance");
        let signed = sign(body);
        let Ok(record) = verifier.open(&signed) else { continue };
        assert_eq!(signer.sign(&record), signed, "a record reads back as it was written");
        let window = window
            .get_or_insert_with(|| StreamWindow::new(record.stream().clone(), WINDOW_US_DEFAULT));
        let before: Vec<_> = window.renditions().map(numbers).collect();
        if window.apply(&record).is_err() {
            let after: Vec<_> = window.renditions().map(numbers).collect();
            assert_eq!(after, before, "a refused record changes nothing");
            continue;
        }
        taken += 1;
        for (id, next) in before {
            if let Some(rendition) = window.rendition(&id) {
                assert!(rendition.next_part() >= next, "numbers go back");
            }
        }
        write_playlists(window);
    }
    taken
}

/// The records in a [`record`] input.
fn records(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = data.split_first_chunk::<2>()?;
        let (body, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
        data = rest;
        Some(body)
    })
}

fn sign(body: &[u8]) -> Vec<u8> {
    // docs/PROTOCOL.md 'Signature'.
    let signed = [b"shoal feed 1\0", body].concat();
    let signature = SigningKey::from_bytes(&SEED).sign(&signed);
    [body, &signature.to_bytes()].concat()
}

fn numbers(rendition: &RenditionWindow) -> (RenditionId, (Msn, u16)) {
    (rendition.id().clone(), rendition.next_part())
}

fn write_playlists(window: &StreamWindow) {
    let Some(session) = window.session() else { return };
    // A record may say more; check-hls calls no longer target useful.
    if session.target_duration_s > 3600 {
        return;
    }
    for rendition in window.renditions() {
        let media = MediaPlaylist {
            rendition,
            part_target_us: session.part_target_us,
            target_duration_s: session.target_duration_s,
            reports: &[],
        };
        // Read by check-hls, whose parser shares nothing with our writer.
        let full = parse::parse_media(&media.full()).expect("we write what can be read");
        let first = rendition.segments().front().map_or(rendition.next_part().0, |s| s.msn);
        assert_eq!(full.media_sequence, first.0);
        if let Some(delta) = media.delta() {
            let delta = parse::parse_media(&delta).expect("we write what can be read");
            let whole = parse::apply_delta(&full, &delta).expect("a delta fits its playlist");
            let meanings = full.segments.iter().zip(&whole.segments);
            assert_eq!(whole.segments.len(), full.segments.len());
            assert!(meanings.into_iter().all(|(a, b)| a.same_meaning(b)), "a delta means the same");
        }
    }
}

/// The records of a short honest broadcast: a session of one quality, two whole segments, one
/// begun.
pub fn show() -> Vec<Record> {
    let rendition = Rendition {
        number: 0,
        id: "480p".parse().expect("an id"),
        kind: Kind::Video,
        codec: "avc1.64001f".into(),
        width: 854,
        height: 480,
        fps: (30, 1),
        sample_rate: 0,
        channels: 0,
        bitrate: 1_500_000,
        stripes: 8,
        init_number: 1,
        init_length: 600,
        init_sha256: [0; 32],
    };
    let session = Record::Session(feed::Session {
        stream: stream(),
        broadcast: 1,
        session: SessionNumber(1),
        first_msn: Msn(7),
        discontinuity_sequence: 0,
        part_target_us: 500_000,
        target_duration_s: 2,
        renditions: vec![rendition],
    });
    let bytes = [0; 100];
    let piece_len = feed::piece_len(100, 8);
    let part = |msn: u64, part: u16| {
        Record::Part(feed::Part {
            stream: stream(),
            session: SessionNumber(1),
            rendition: 0,
            msn: Msn(msn),
            part,
            flags: feed::Flags {
                independent: part == 0,
                last_of_segment: part == 3,
                ..Default::default()
            },
            pts_us: (msn - 7) * 2_000_000 + u64::from(part) * 500_000,
            duration_us: 500_000,
            wall_clock_us: 1_790_000_000_000_000,
            length: 100,
            piece_len,
            pieces: bytes.chunks(piece_len.into()).map(feed::hash_piece).collect(),
        })
    };
    let parts = (0..10).map(|i| part(7 + i / 4, (i % 4) as u16));
    [session].into_iter().chain(parts).collect()
}

/// These records as [`record`] takes them.
pub fn unsigned(records: &[Record]) -> Vec<u8> {
    let signer = Signer::from_seed(SEED);
    let mut out = Vec::new();
    for record in records {
        let signed = signer.sign(record);
        let body = signed.get(..signed.len().saturating_sub(64)).unwrap_or_default();
        out.extend((body.len() as u16).to_le_bytes());
        out.extend(body);
    }
    out
}

fn stream() -> StreamName {
    "demo".parse().expect("a name")
}

/// The query of a blocking playlist request, against the window of [`show`]. Gives whether it would be answered or wait, rather than be refused.
///
/// # Panics
/// When it would wait for something that is there already.
pub fn query(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(reload) = playlist::Reload::parse(text) else { return false };
    let mut window = StreamWindow::new(stream(), WINDOW_US_DEFAULT);
    for record in show() {
        window.apply(&record).expect("an honest feed fits");
    }
    let Some(rendition) = window.renditions().next() else { return false };
    match playlist::answer(rendition, 500_000, reload) {
        Ok(playlist::Answer::Wait(msn, part)) => {
            assert!(!playlist::reached(rendition, msn, part), "it is there already");
            true
        }
        Ok(playlist::Answer::Now) => true,
        Err(_) => false,
    }
}

/// Playlists of another server, as check-hls reads them: a media or a multivariant playlist; after
/// a NUL byte, a delta update of it. Gives whether the first could be read.
///
/// # Panics
/// When a delta update that fits does not give a whole playlist.
pub fn playlist(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let (text, delta) = text.split_once('\0').unwrap_or((text, ""));
    if !parse::is_media_playlist(text) {
        return parse::parse_master(text).is_ok();
    }
    let Ok(base) = parse::parse_media(text) else { return false };
    if let Some(last) = base.last() {
        assert!(base.has(last.msn, last.part) || base.skipped > 0, "it has what it ends with");
    }
    let lengths = (base.duration_us(), base.open_us());
    assert!(lengths.1 <= lengths.0, "the open segment is part of the whole");
    assert!(
        base.edge_date_us().is_none() || !base.segments.is_empty() || base.open.date_us.is_some()
    );
    if let Ok(delta) = parse::parse_media(delta)
        && let Ok(whole) = parse::apply_delta(&base, &delta)
    {
        assert_eq!(whole.segments.len() as u64, delta.skipped + delta.segments.len() as u64);
        assert_eq!(whole.open_msn(), delta.open_msn(), "a delta ends where its whole ends");
    }
    true
}
