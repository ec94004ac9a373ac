use super::*;
use crate::check::testing::{self, Story};

const HEAD: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n";

fn story() -> Story {
    let mut story = Story::new();
    story.connect();
    (0..50).for_each(|_| story.step());
    story
}

#[test]
fn a_low_latency_playlist_is_read_with_all_its_parts() {
    let playlist = parse_media(&story().playlist("720p", false)).expect("a right playlist");
    assert_eq!(playlist.target_us, 2_000_000);
    assert_eq!(playlist.part_target_us, Some(550_000));
    assert_eq!(playlist.media_sequence, 102);
    assert_eq!(playlist.segments.len(), 10);
    assert_eq!(playlist.last(), Some(Position { msn: 112, part: Some(1) }));
    assert_eq!(playlist.discontinuity_sequence, 1);
    assert_eq!(playlist.segments[0].discontinuity_number, 1);
    assert!(playlist.segments[9].parts[0].independent);
    assert!(!playlist.segments[9].parts[1].independent);
    assert_eq!(playlist.part_hint.map(|h| h.uri).as_deref(), Some("../1/720p/112.2.m4s"));
    assert_eq!(playlist.reports.len(), 2);
    assert_eq!(playlist.reports[0].last_part, Some(1));
}

#[test]
fn the_parser_agrees_with_m3u8_rs_on_what_both_read() {
    let text = story().playlist("480p", false);
    let ours = parse_media(&text).expect("a right playlist");
    let theirs = m3u8_rs::parse_media_playlist_res(text.as_bytes()).expect("they read it too");
    assert_eq!(theirs.media_sequence, ours.media_sequence);
    assert_eq!(theirs.discontinuity_sequence, ours.discontinuity_sequence);
    assert_eq!(theirs.target_duration * 1_000_000, ours.target_us);
    let whole: Vec<_> = theirs.segments.iter().filter(|s| !s.uri.is_empty()).collect();
    assert_eq!(whole.len(), ours.segments.len());
    for (theirs, ours) in whole.iter().zip(&ours.segments) {
        assert_eq!(theirs.uri, ours.resource.uri);
        assert!((f64::from(theirs.duration) * 1e6 - ours.duration_us as f64).abs() < 1.0);
    }
    let text = testing::master();
    let master = m3u8_rs::parse_master_playlist_res(text.as_bytes());
    let master = master.expect("they read it too");
    let ours = parse_master(&text).expect("a right playlist");
    for (theirs, ours) in master.variants.iter().zip(&ours.variants) {
        assert_eq!(theirs.uri, ours.uri);
        assert_eq!(Some(theirs.bandwidth), ours.bandwidth);
        assert_eq!(theirs.codecs, ours.codecs);
    }
}

#[test]
fn the_whole_playlist_is_rebuilt_from_a_delta_update() {
    let mut story = story();
    let base = parse_media(&story.playlist("720p", false)).expect("a right playlist");
    (0..5).for_each(|_| story.step());
    let delta = parse_media(&story.playlist("720p", true)).expect("a right delta");
    let whole = parse_media(&story.playlist("720p", false)).expect("a right playlist");
    assert!(delta.skipped > 1);
    let rebuilt = apply_delta(&base, &delta).expect("the base has what is skipped");
    for (a, b) in rebuilt.segments.iter().zip(&whole.segments) {
        assert!(a.same_meaning(b), "{a:?} is not {b:?}");
    }
    assert_eq!(rebuilt.open, whole.open);
    assert!(apply_delta(&MediaPlaylist::default(), &delta).is_err());
}

#[test]
fn a_part_past_the_end_of_a_segment_means_the_next_one() {
    let mut story = story();
    (0..2).for_each(|_| story.step());
    let edge = parse_media(&story.playlist("720p", false)).expect("a right playlist");
    assert_eq!(edge.last(), Some(Position { msn: 112, part: None }));
    assert!(edge.has(112, Some(3)) && edge.has(112, None));
    assert!(!edge.has(112, Some(4)), "113.0 is not there yet");
    assert!(!edge.has(113, Some(0)) && !edge.has(113, None));
    story.step();
    let next = parse_media(&story.playlist("720p", false)).expect("a right playlist");
    assert!(next.has(112, Some(4)) && next.has(113, Some(0)) && !next.has(113, Some(1)));
}

#[test]
fn what_is_not_a_playlist_is_refused_with_its_line() {
    for (text, says) in [
        ("", "#EXTM3U"),
        ("\u{feff}#EXTM3U\n", "byte order"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:x\n", "line 2"),
        ("#EXTM3U\n#EXTINF:2,\na.m4s\n", "TARGETDURATION is missing"),
        (&format!("{HEAD}#EXTINF:2\na.m4s\n"), "comma"),
        (&format!("{HEAD}#EXTINF:-2,\na.m4s\n"), "decimal"),
        (&format!("{HEAD}#EXTINF:1e3,\na.m4s\n"), "decimal"),
        (&format!("{HEAD}a.m4s\n"), "without EXTINF"),
        (&format!("{HEAD}#EXTINF:2,\n"), "without a URI"),
        (&format!("{HEAD}#EXT-X-MAP:URI=init.mp4\n"), "quoted"),
        (&format!("{HEAD}#EXT-X-MAP:URI=\"init.mp4\n"), "end"),
        (&format!("{HEAD}#EXT-X-PART:DURATION=1,URI=\"a\"\n"), "PART-INF"),
        (&format!("{HEAD}#EXT-X-PART-INF:PART-TARGET=\"1\"\n"), "quoted"),
        (&format!("{HEAD}#EXT-X-SKIP:SKIPPED-SEGMENTS=0\n"), "nothing"),
        (&format!("{HEAD}#EXT-X-MEDIA-SEQUENCE:18446744073709551616\n"), "too large"),
        (&format!("{HEAD}#EXT-X-PROGRAM-DATE-TIME:yesterday\n"), "date"),
        (&format!("{HEAD}#EXT-X-STREAM-INF:BANDWIDTH=1\n"), "multivariant"),
    ] {
        let error = parse_media(text).expect_err(text).to_string();
        assert!(error.contains(says), "{text:?} gave {error:?}");
    }
    assert!(parse_master("#EXTM3U\n").is_err());
    assert!(parse_master(HEAD).is_err());
}

#[test]
fn dates_with_and_without_a_colon_in_the_offset_are_the_same() {
    let date = |text: &str| {
        let text = format!("{HEAD}#EXT-X-PROGRAM-DATE-TIME:{text}\n#EXTINF:2,\na\n");
        parse_media(&text).expect("a date").segments[0].date_us
    };
    assert_eq!(date("2026-01-01T00:00:00.250Z"), Some(testing::EPOCH_US + 250_000));
    assert_eq!(date("2026-01-01T01:00:00.250+01:00"), date("2026-01-01T00:00:00.250Z"));
    assert_eq!(date("2026-01-01T01:00:00.250+0100"), date("2026-01-01T00:00:00.250Z"));
}

#[test]
fn byte_ranges_follow_each_other_when_they_name_no_offset() {
    let text = format!(
        "{HEAD}#EXT-X-PART-INF:PART-TARGET=1\n\
             #EXT-X-PART:DURATION=1,URI=\"a\",BYTERANGE=\"100@0\"\n\
             #EXT-X-PART:DURATION=1,URI=\"a\",BYTERANGE=\"50\"\n"
    );
    let parts = parse_media(&text).expect("right").open.parts;
    assert_eq!(parts[1].resource.range, Some((100, 50)));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(lines in proptest::collection::vec(
        ("#EXT(-X-[A-Z-]{1,20}|INF|M3U)", "[:,=\"A-Z0-9.@-]{0,30}"), 0..20)) {
        let body: String = lines.iter().map(|(tag, value)| format!("{tag}:{value}\n")).collect();
        let _read = (parse_media(&format!("#EXTM3U\n{body}")), parse_master(&body));
    }
}
