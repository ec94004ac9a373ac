//! The playlists' promises, read back with an independent parser where it knows the tags.

use super::*;
use crate::id::StreamName;
use crate::testing::{At, end, part, session};
use crate::window::{StreamWindow, WINDOW_US_DEFAULT};

fn demo() -> StreamWindow {
    let name: StreamName = "demo".parse().expect("a name");
    StreamWindow::new(name, WINDOW_US_DEFAULT)
}

/// Whole segments `from..to` of four parts in both renditions of `session`.
fn feed(window: &mut StreamWindow, number: u32, from: u64, to: u64, first: u64) {
    for msn in from..to {
        for rendition in 0..2 {
            for p in 0..4 {
                let at = At {
                    session: number,
                    rendition,
                    msn,
                    part: p,
                    last: p == 3,
                    discontinuity: msn == first,
                };
                window.apply(&part(at)).expect("it fits");
            }
        }
    }
}

fn open_part(window: &mut StreamWindow, number: u32, msn: u64, p: u16) {
    let at = At { session: number, rendition: 0, msn, part: p, last: false, discontinuity: false };
    window.apply(&part(at)).expect("it fits");
}

fn video(window: &StreamWindow) -> &crate::window::RenditionWindow {
    window.rendition(&"480p".parse().expect("an id")).expect("video is there")
}

fn render(window: &StreamWindow) -> String {
    media(window).full()
}

fn media(window: &StreamWindow) -> Media<'_> {
    Media { rendition: video(window), part_target_us: 550_000, target_duration_s: 2, reports: &[] }
}

#[test]
fn a_live_playlist_says_what_exists_and_hints_at_what_comes() {
    let mut window = demo();
    window.apply(&session(3, 10, 4)).expect("first");
    feed(&mut window, 3, 10, 12, 10);
    open_part(&mut window, 3, 12, 0);
    let audio = Report { id: "audio".parse().expect("an id"), last_msn: Msn(11), last_part: 3 };
    let reports = [audio];
    let text = Media { reports: &reports, ..media(&window) }.full();
    let head = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n\
        #EXT-X-PART-INF:PART-TARGET=0.550000\n\
        #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.000000,\
        HOLD-BACK=6.000000,PART-HOLD-BACK=1.650000\n\
        #EXT-X-MEDIA-SEQUENCE:10\n#EXT-X-DISCONTINUITY-SEQUENCE:3\n\
        #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"../3/480p/init-1.mp4\"\n\
        #EXT-X-PROGRAM-DATE-TIME:2026-09-21T14:13:40.000Z\n\
        #EXT-X-PART:DURATION=0.500000,URI=\"../3/480p/10.0.m4s\",INDEPENDENT=YES\n\
        #EXT-X-PART:DURATION=0.500000,URI=\"../3/480p/10.1.m4s\"\n";
    assert!(text.starts_with(head), "{text}");
    let tail = "#EXTINF:2.000000,\n../3/480p/11.m4s\n\
        #EXT-X-PROGRAM-DATE-TIME:2026-09-21T14:13:44.000Z\n\
        #EXT-X-PART:DURATION=0.500000,URI=\"../3/480p/12.0.m4s\",INDEPENDENT=YES\n\
        #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"../3/480p/12.1.m4s\"\n\
        #EXT-X-RENDITION-REPORT:URI=\"../audio/media.m3u8\",LAST-MSN=11,LAST-PART=3\n";
    assert!(text.ends_with(tail), "{text}");
}

#[test]
fn an_independent_parser_reads_the_segments() {
    let mut window = demo();
    window.apply(&session(1, 5, 1)).expect("first");
    feed(&mut window, 1, 5, 30, 5);
    let text = render(&window);
    let (_, parsed) = m3u8_rs::parse_media_playlist(text.as_bytes()).expect("it parses");
    let kept = parsed.segments.len() as u64;
    assert_eq!(parsed.media_sequence, 30 - kept);
    assert_eq!(kept, 15, "thirty seconds of two-second segments");
    assert_eq!(parsed.segments[0].uri, format!("../1/480p/{}.m4s", 30 - kept));
    assert!(parsed.segments.iter().all(|s| (s.duration - 2.0).abs() < 1e-4));
    assert!(parsed.segments.iter().all(|s| s.program_date_time.is_some()));
    assert_eq!(parsed.discontinuity_sequence, 1);
    assert!(!parsed.end_list);
}

#[test]
fn a_new_session_closes_the_open_segment_and_counts_on() {
    let mut window = demo();
    window.apply(&session(1, 5, 1)).expect("first");
    feed(&mut window, 1, 5, 8, 5);
    open_part(&mut window, 1, 8, 0);
    assert!(window.apply(&session(2, 8, 2)).is_err(), "number 8 is in use");
    window.apply(&session(2, 9, 2)).expect("the next number");
    feed(&mut window, 2, 9, 10, 9);
    let text = render(&window);
    assert!(text.contains("#EXTINF:0.500000,\n../1/480p/8.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"../2/480p/init-1.mp4\"\n"), "{text}");
    assert!(text.contains("#EXT-X-DISCONTINUITY-SEQUENCE:0\n"), "{text}");
}

#[test]
fn a_discontinuity_is_counted_when_its_tag_leaves_and_not_before() {
    let mut window = demo();
    window.apply(&session(1, 0, 1)).expect("first");
    feed(&mut window, 1, 0, 10, 0);
    window.apply(&session(2, 10, 2)).expect("next");
    let mut last = 0;
    for msn in 10..40 {
        feed(&mut window, 2, msn, msn + 1, 10);
        let text = render(&window);
        let (_, parsed) = m3u8_rs::parse_media_playlist(text.as_bytes()).expect("it parses");
        let tags = parsed.segments.iter().filter(|s| s.discontinuity).count() as u64;
        let first = parsed.media_sequence;
        let expected = if first == 0 { 0 } else { 1 + u64::from(first > 10) };
        assert_eq!(parsed.discontinuity_sequence, expected, "at {first}");
        assert!(parsed.discontinuity_sequence >= last);
        assert_eq!(parsed.discontinuity_sequence + tags, 2, "the newest segment's number");
        last = parsed.discontinuity_sequence;
    }
}

#[test]
fn a_delta_update_skips_only_what_is_older_than_the_boundary() {
    let mut window = demo();
    window.apply(&session(1, 0, 1)).expect("first");
    feed(&mut window, 1, 0, 6, 0);
    assert_eq!(media(&window).delta(), None, "12 s are all within the boundary");
    feed(&mut window, 1, 6, 15, 0);
    let delta = media(&window).delta().expect("18 s are older");
    assert!(delta.contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=9\n"), "{delta}");
    assert!(!delta.contains("/8.m4s") && delta.contains("/9.m4s"), "{delta}");
    let full = render(&window);
    let after = |text: &str| text.split_once("/9.m4s").map(|(_, rest)| rest.to_owned());
    assert_eq!(after(&full), after(&delta), "what is not skipped is the same");
}

#[test]
fn parts_are_listed_for_three_target_durations_and_then_only_their_segment() {
    let mut window = demo();
    window.apply(&session(1, 0, 1)).expect("first");
    feed(&mut window, 1, 0, 15, 0);
    let text = render(&window);
    let listed: Vec<u64> = (0..15).filter(|msn| text.contains(&format!("/{msn}.0.m4s"))).collect();
    assert_eq!(listed, [11, 12, 13, 14], "6 s from the edge and the segment across it");
}

#[test]
fn an_ended_playlist_has_its_end_and_no_hint() {
    let mut window = demo();
    window.apply(&session(1, 0, 1)).expect("first");
    feed(&mut window, 1, 0, 3, 0);
    open_part(&mut window, 1, 3, 0);
    window.apply(&end(1, 4)).expect("the end");
    let text = render(&window);
    assert!(text.ends_with("#EXTINF:0.500000,\n../1/480p/3.m4s\n#EXT-X-ENDLIST\n"), "{text}");
    assert!(!text.contains("PRELOAD-HINT"));
    // A new broadcast takes up the numbers.
    window.apply(&session(2, 4, 2)).expect("again");
    assert!(!render(&window).contains("ENDLIST"));
}

#[test]
fn directives_that_break_the_rules_are_refused_and_others_ignored() {
    let parse = Reload::parse;
    assert_eq!(parse(""), Ok(Reload::default()));
    assert_eq!(parse("x=1&_HLS_skip=YES"), Ok(Reload { until: None, skip: true }));
    let both = Reload { until: Some((Msn(7), Some(2))), skip: false };
    assert_eq!(parse("_HLS_msn=7&_HLS_part=2"), Ok(both));
    assert_eq!(parse("_HLS_part=2"), Err(QueryError::PartAlone));
    for bad in ["-1", "", "x", "1.5", "9223372036854775808", "99999999999999999999", "+1", "0x1"] {
        let query = format!("_HLS_msn={bad}");
        assert_eq!(parse(&query), Err(QueryError::Number("_HLS_msn")), "{bad}");
    }
    assert_eq!(parse("_HLS_msn=1&_HLS_msn=2"), Err(QueryError::Twice("_HLS_msn")));
}

#[test]
fn reloads_are_answered_held_or_refused_by_how_far_ahead_they_ask() {
    let mut window = demo();
    window.apply(&session(1, 0, 1)).expect("first");
    feed(&mut window, 1, 0, 5, 0);
    open_part(&mut window, 1, 5, 0);
    let ask = |msn: u64, part: Option<u16>| {
        let reload = Reload { until: Some((Msn(msn), part)), skip: false };
        answer(video(&window), 550_000, reload)
    };
    assert_eq!(ask(0, None), Ok(Answer::Now), "old ones get the current playlist");
    assert_eq!(ask(4, None), Ok(Answer::Now));
    assert_eq!(ask(5, None), Ok(Answer::Wait(Msn(5), None)));
    assert_eq!(ask(5, Some(0)), Ok(Answer::Now));
    assert_eq!(ask(5, Some(1)), Ok(Answer::Wait(Msn(5), Some(1))));
    assert_eq!(ask(4, Some(9)), Ok(Answer::Now), "past the end means part 0 of the next");
    assert_eq!(ask(5, Some(6)), Ok(Answer::Wait(Msn(5), Some(6))));
    assert_eq!(ask(5, Some(7)), Err(QueryError::TooFar));
    assert_eq!(ask(6, Some(0)), Ok(Answer::Wait(Msn(6), Some(0))));
    assert_eq!(ask(7, None), Ok(Answer::Wait(Msn(7), None)));
    assert_eq!(ask(8, None), Err(QueryError::TooFar));
    assert_eq!(ask(u64::MAX >> 1, None), Err(QueryError::TooFar));
}

#[test]
fn the_multivariant_playlist_lists_qualities_best_first_with_one_audio_group() {
    let variant = |id: &str, kind, width, bitrate| Variant {
        id: id.parse().expect("an id"),
        kind,
        codec: if width > 0 { "avc1.64001f" } else { "mp4a.40.2" }.into(),
        width,
        height: width * 9 / 16,
        fps: 30.0,
        channels: 2,
        bitrate,
        peak_bps: 0,
        mean_bps: 0,
    };
    use crate::rendition::Kind::{Audio, Video};
    let text = multivariant(&[
        variant("360p", Video, 640, 700_000),
        variant("720p", Video, 1280, 2_500_000),
        variant("audio", Audio, 0, 128_000),
    ]);
    let (_, parsed) = m3u8_rs::parse_master_playlist(text.as_bytes()).expect("it parses");
    let uris: Vec<_> = parsed.variants.iter().map(|v| v.uri.as_str()).collect();
    assert_eq!(uris, ["720p/media.m3u8", "360p/media.m3u8", "audio/media.m3u8"]);
    assert_eq!(parsed.alternatives.len(), 1);
    assert_eq!(parsed.alternatives[0].uri.as_deref(), Some("audio/media.m3u8"));
    let best = &parsed.variants[0];
    assert_eq!(best.codecs.as_deref(), Some("avc1.64001f,mp4a.40.2"));
    assert!(best.bandwidth >= 2_628_000 && best.audio.as_deref() == Some("audio"));
}

#[test]
fn every_wall_clock_that_a_record_may_name_is_a_date() {
    use crate::limit::WALL_CLOCK_US_MAX;
    assert_eq!(super::media::date_time(0), "1970-01-01T00:00:00.000Z");
    assert_eq!(super::media::date_time(WALL_CLOCK_US_MAX), "9999-12-31T23:59:59.999Z");
}
