use bytes::{BufMut, Bytes, BytesMut};
use common::id::RenditionId;
use common::rendition::Kind;
use proptest::prelude::*;

use super::frame::put_head;
use super::*;
use crate::ingest::media::{Config, Frame, Track};

fn only_frame(out: &mut BytesMut) -> (u8, Bytes) {
    let frame = take_frame(out).expect("a good length").expect("a whole frame");
    assert!(out.is_empty());
    frame
}

fn command_again(command: &Command) -> Command {
    let mut out = BytesMut::new();
    command.encode(&mut out);
    let (kind, body) = only_frame(&mut out);
    Command::decode(kind, body).expect("what was encoded")
}

fn report_again(report: &Report) -> Report {
    let mut out = BytesMut::new();
    report.encode(&mut out);
    let (kind, body) = only_frame(&mut out);
    Report::decode(kind, body).expect("what was encoded")
}

#[test]
fn every_message_comes_back_as_it_was_sent() {
    let frame = Frame {
        track: Track::Audio,
        key: true,
        pts_us: -7,
        dts_us: i64::MIN,
        data: Bytes::from_static(b"aac"),
    };
    let id: RenditionId = "720p".parse().expect("an id");
    for command in [
        Command::Config(Config::H264 { avcc: Bytes::from_static(b"avcc") }),
        Command::Config(Config::Aac { asc: Bytes::from_static(b"asc") }),
        Command::Frame(frame),
        Command::Orders(vec![Order { rendition: id.clone(), on: false, lowered: Lowered::No }]),
        Command::Drain,
    ] {
        assert_eq!(command_again(&command), command);
    }
    let made = MadeRendition {
        id,
        kind: Kind::Video,
        codec: "avc1.64001f".into(),
        width: 1280,
        height: 720,
        fps: (30_000, 1001),
        sample_rate: 0,
        channels: 0,
        bitrate: 2_500_000,
        encoder: "x264enc".into(),
        init: Bytes::from_static(b"init"),
    };
    let ready = Ready {
        renditions: vec![
            made.clone(),
            MadeRendition { init: Bytes::from_static(b"2"), ..made.clone() },
        ],
        notes: vec!["a note".into()],
        wall_clock_us: -1,
    };
    let part = Part {
        rendition: 3,
        segment: u32::MAX,
        independent: true,
        last_of_segment: false,
        pts_us: u64::MAX,
        duration_us: 500_000,
        data: Bytes::from_static(b"moof"),
    };
    for report in [
        Report::Ready(ready),
        Report::Part(part.clone()),
        Report::Part(Part { independent: false, last_of_segment: true, ..part }),
        Report::Status(Status { lag_us: vec![1, 2], ..Status::default() }),
        Report::Withdrawn(Withdrawn { rendition: 0, note: "why".into(), failed: true }),
        Report::Changed(Changed { segment: 7, renditions: vec![(1, made)] }),
        Report::Thumb(Bytes::from_static(b"jpeg")),
        Report::Failed(Failed { code: FailCode::Changed, message: "m".into() }),
        Report::Drained,
    ] {
        assert_eq!(report_again(&report), report);
    }
}

#[test]
fn a_length_out_of_bounds_is_refused_before_memory_is_spent() {
    for len in [0, FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
        let mut input = BytesMut::from(&len.to_le_bytes()[..]);
        assert!(matches!(take_frame(&mut input), Err(IpcError::Length { .. })), "{len}");
    }
}

proptest! {
    #[test]
    fn no_frame_panics_and_none_is_taken_before_it_is_whole(
        kind: u8, body in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200,
    ) {
        let _ = Command::decode(kind, Bytes::from(body.clone()));
        let _ = Report::decode(kind, Bytes::from(body.clone()));
        let mut whole = BytesMut::new();
        put_head(&mut whole, kind, body.len());
        whole.put_slice(&body);
        let mut short = BytesMut::from(&whole[..cut.min(whole.len() - 1)]);
        prop_assert!(matches!(take_frame(&mut short), Ok(None)));
        prop_assert_eq!(only_frame(&mut whole), (kind, Bytes::from(body)));
    }
}
