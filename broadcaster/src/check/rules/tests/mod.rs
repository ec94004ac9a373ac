//! A stream told right breaks no rule; told wrong in one way, it breaks just that rule.

mod answers;
mod edits;
mod late;
mod table;

use bytes::Bytes;

use super::{Asked, Engine, Finding, Limits, Meta, News, Reload};
use crate::check::catalog::Rule;
use crate::check::parse::{Position, Resource};
use crate::check::testing::{self, BASE, EPOCH_US, NAMES, Story, Told};

type Script = Box<dyn FnMut(&mut Story, usize)>;
type EditText = Box<dyn FnMut(usize, &str, String) -> String>;
type EditMedia = Box<dyn FnMut(&str, &Told, Option<usize>, Vec<u8>) -> Vec<u8>>;
type EditInit = Box<dyn FnMut(&str, Vec<u8>) -> Vec<u8>>;
type After = Box<dyn FnMut(&mut Engine, usize, u64)>;

/// How a run departs from the right story. What is not set stays right.
pub(super) struct Tamper {
    /// Steps of half a second.
    pub(super) until: usize,
    /// From which step playlists are asked for plainly, not blocking.
    pub(super) plain_from: usize,
    pub(super) deltas: bool,
    pub(super) media: bool,
    pub(super) limits: Limits,
    pub(super) script: Script,
    pub(super) playlist: EditText,
    pub(super) bytes: EditMedia,
    pub(super) init: EditInit,
    pub(super) master: Box<dyn FnMut(String) -> String>,
    pub(super) after: After,
}

impl Default for Tamper {
    fn default() -> Self {
        Self {
            until: 70,
            plain_from: usize::MAX,
            deltas: true,
            media: true,
            limits: Limits::default(),
            script: Box::new(|_, _| {}),
            playlist: Box::new(|_, _, text| text),
            bytes: Box::new(|_, _, _, bytes| bytes),
            init: Box::new(|_, bytes| bytes),
            master: Box::new(|text| text),
            after: Box::new(|_, _, _| {}),
        }
    }
}

/// Good headers of media.
pub(super) fn media_meta() -> Meta {
    Meta {
        status: 200,
        content_type: Some("video/mp4".into()),
        cache_control: Some("public, max-age=31536000, immutable".into()),
        allow_origin: Some("*".into()),
        etag: Some("\"abc\"".into()),
        ..Meta::default()
    }
}

/// Good headers of a playlist that was not waited for.
pub(super) fn playlist_meta() -> Meta {
    Meta {
        status: 200,
        content_type: Some("application/vnd.apple.mpegurl".into()),
        cache_control: Some("max-age=1".into()),
        allow_origin: Some("*".into()),
        content_encoding: Some("gzip".into()),
        vary: Some("Accept-Encoding".into()),
        ..Meta::default()
    }
}

/// Good headers of an error.
pub(super) fn error_meta(status: u16) -> Meta {
    Meta { status, cache_control: Some("no-store".into()), ..Meta::default() }
}

/// The story that every run tells: a session, a lost segment, an encoder that goes in the middle
/// of a segment and comes back after 15 s, a server that restarts within 5 s, the end.
fn happens(story: &mut Story, engine: &mut Engine, step: usize, at_ms: u64) {
    match step {
        1 => story.connect(),
        77 => story.lose_segment(),
        100 => story.disconnect(),
        130 => story.connect(),
        160 => {
            engine.handle_broken(at_ms, "720p", "connection reset".into());
            engine.handle_refused(at_ms + 100);
            story.disconnect();
            story.now_us += 5_000_000;
        }
        161 => {
            story.connect();
            engine.handle_answered(at_ms, at_ms - 10);
        }
        195 => {
            story.disconnect();
            story.ended = true;
        }
        _ => {}
    }
}

/// Tells the story with `tamper` and returns what was found.
pub(super) fn tell(tamper: &mut Tamper) -> Vec<Finding> {
    let mut engine = Engine::new(tamper.limits);
    let mut story = Story::new();
    let mut sent_ms = [0u64; 3];
    let mut fed_inits: Vec<(String, Resource)> = Vec::new();
    let mut at_ms = 0;
    for step in 1..=tamper.until {
        happens(&mut story, &mut engine, step, at_ms);
        (tamper.script)(&mut story, step);
        story.step();
        at_ms = u64::try_from(story.now_us - EPOCH_US).expect("time goes on") / 1000 + 50;
        if step == 1 || step % 10 == 0 {
            let text = (tamper.master)(testing::master());
            engine.check_playlist_headers(at_ms, "", &playlist_meta(), Reload::Plain);
            engine.handle_master(at_ms, at_ms - 10, &format!("{BASE}master.m3u8"), &text);
        }
        for (index, name) in NAMES.into_iter().enumerate() {
            // While nothing changes, a blocking reload is answered after 3 target durations.
            let closing = step == 100;
            if !story.live && !story.ended && !closing && at_ms < sent_ms[index] + 6_000 {
                continue;
            }
            let before = engine.playlist(name).cloned();
            let position = before
                .as_ref()
                .filter(|_| step < tamper.plain_from && !story.ended)
                .map(|b| (b.open_msn(), Some(b.open.parts.len() as u64)));
            let asked = Asked { position, sent_ms: sent_ms[index] };
            let text = (tamper.playlist)(step, name, story.playlist(name, false));
            let wall_us = Some(story.now_us + 50_000);
            let news = engine.handle_playlist(at_ms, name, asked, wall_us, &text);
            sent_ms[index] = at_ms;
            if tamper.deltas
                && step % 7 == 0
                && let Some(base) = &before
            {
                let text = (tamper.playlist)(step, name, story.playlist(name, true));
                engine.handle_delta(at_ms, name, base, &text);
            }
            if tamper.media
                && let Some(news) = news
            {
                feed(&mut engine, &story, tamper, (at_ms, name), &news, &mut fed_inits);
            }
        }
        (tamper.after)(&mut engine, step, at_ms);
        engine.handle_time(at_ms);
    }
    engine.handle_end(at_ms);
    engine.take_findings()
}

/// Hands in the media of what is new: parts and segments of 720p and audio, segments of 480p.
fn feed(
    engine: &mut Engine,
    story: &Story,
    tamper: &mut Tamper,
    (at_ms, name): (u64, &str),
    news: &News,
    fed_inits: &mut Vec<(String, Resource)>,
) {
    let places = news.parts.iter().map(|(p, _)| p.msn).chain(news.segments.iter().map(|s| s.msn));
    for map in places.filter_map(|msn| engine.map_of(name, msn)).collect::<Vec<_>>() {
        let key = (name.to_owned(), map.clone());
        if !fed_inits.contains(&key) {
            fed_inits.push(key);
            let bytes = (tamper.init)(name, testing::init(name));
            engine.handle_init(at_ms, name, &map, &bytes);
        }
    }
    for (place, part) in news.parts.iter().filter(|_| name != "480p") {
        let Some((told, index)) = story.find(place.msn).zip(place.part) else { continue };
        let index = usize::try_from(index).expect("few parts");
        if told.gap || index >= told.parts.len() {
            continue;
        }
        let bytes = (tamper.bytes)(name, told, Some(index), testing::part(name, told, index));
        engine.check_media_headers(at_ms, name, &part.resource.uri, &media_meta());
        engine.handle_part(at_ms, name, *place, &part.resource, &Bytes::from(bytes));
    }
    for segment in news.segments.iter().filter(|s| !s.gap) {
        let Some(told) = story.find(segment.msn) else { continue };
        let bytes = (tamper.bytes)(name, told, None, testing::segment(name, told));
        let (msn, resource) = (segment.msn, &segment.resource);
        engine.handle_size(at_ms, name, msn, bytes.len() as u64);
        engine.handle_segment(at_ms, name, msn, resource, &Bytes::from(bytes));
    }
}

#[test]
fn a_right_stream_breaks_no_rule_through_gaps_reconnects_and_outages() {
    let found = tell(&mut Tamper { until: 200, ..Tamper::default() });
    assert_eq!(found, [], "{found:#?}");
}

#[test]
fn a_report_that_the_first_look_finds_a_part_behind_breaks_no_rule() {
    let (mut engine, mut story) = (Engine::new(Limits::default()), Story::new());
    story.connect();
    (0..7).for_each(|_| story.step());
    engine.handle_master(0, 0, &format!("{BASE}master.m3u8"), &testing::master());
    // Asked for at once; one was rendered just before the last part, the other just after.
    let [before, after] = [0, 1].map(|steps| {
        (0..steps).for_each(|_| story.step());
        ["720p", "480p"].map(|name| story.playlist(name, false))
    });
    let asked = Asked { position: None, sent_ms: 0 };
    let wall_us = Some(story.now_us + 50_000);
    engine.handle_playlist(0, "720p", asked, wall_us, &after[0]);
    engine.handle_playlist(0, "480p", asked, wall_us, &before[1]);
    assert_eq!(engine.take_findings(), []);
}

/// A quality goes between two looks at the multivariant playlist and is back with one segment;
/// whether the multivariant playlist says so.
fn told_with_a_quality_that_goes(says_so: bool) -> Vec<Finding> {
    let (mut engine, mut story) = (Engine::new(Limits::default()), Story::new());
    let gone = |step: usize| (63..84).contains(&step);
    story.connect();
    for step in 1..=100 {
        story.step();
        let at_ms = step as u64 * 500;
        let asked = Asked { position: None, sent_ms: at_ms };
        for name in NAMES.into_iter().filter(|name| *name != "480p" || !gone(step)) {
            let mut told = story.clone();
            if name == "480p" && step >= 84 {
                told.told.retain(|t| t.msn >= 100 + 83 / 4);
            }
            let mut text = told.playlist(name, false);
            if gone(step) {
                let others = text.lines().filter(|l| !l.contains("/480p/media.m3u8"));
                text = others.map(|l| format!("{l}\n")).collect();
            }
            engine.handle_playlist(at_ms, name, asked, Some(story.now_us + 50_000), &text);
        }
        if step % 10 == 1 {
            let mut master = testing::master();
            if gone(step) && says_so {
                let kept = master.split_inclusive("media.m3u8\n").filter(|v| !v.contains("480p/"));
                master = kept.collect();
            }
            engine.handle_master(at_ms + 20, at_ms + 10, &format!("{BASE}master.m3u8"), &master);
        }
    }
    engine.take_findings()
}

#[test]
fn a_quality_may_leave_the_master_playlist_and_come_back_with_a_new_window() {
    let found = told_with_a_quality_that_goes(true);
    assert_eq!(found, [], "{found:#?}");
    let found: Vec<Rule> = told_with_a_quality_that_goes(false).iter().map(|f| f.rule).collect();
    assert!(found.contains(&Rule::RenditionReportMissing), "{found:?}");
    assert!(found.contains(&Rule::WindowTooShort), "{found:?}");
}

/// Segment 110 has a part of 0.3 s, after which comes a frame of `next_us`.
fn told_with_a_short_part(next_us: u64) -> Tamper {
    Tamper {
        script: Box::new(move |story, step| {
            story.part_us = if step == 42 { 300_000 } else { testing::PART_US };
            if step == 42
                && let Some(open) = story.told.last_mut()
            {
                open.hole = Some((2, next_us));
            }
        }),
        ..Tamper::default()
    }
}

#[test]
fn a_part_may_be_short_where_the_next_frame_does_not_fit() {
    let found = tell(&mut told_with_a_short_part(300_000));
    assert_eq!(found, [], "{found:#?}");
    let found = tell(&mut told_with_a_short_part(200_000));
    let rules: Vec<_> = found.iter().map(|f| (f.rule, f.rendition.as_str())).collect();
    let expected = NAMES.map(|name| (Rule::PartTooShort, name));
    assert_eq!(rules.len(), 3, "{found:#?}");
    assert!(expected.iter().all(|e| rules.contains(e)), "{found:#?}");
}

#[test]
fn the_story_really_has_what_it_is_said_to_have() {
    let mut engine = Engine::new(Limits::default());
    let mut story = Story::new();
    let mut texts = String::new();
    for step in 1..=200 {
        happens(&mut story, &mut engine, step, 1000);
        story.step();
        texts += &story.playlist("720p", false);
    }
    for tag in ["EXT-X-GAP", "EXT-X-DISCONTINUITY\n", "DURATION=0.300000", "EXT-X-ENDLIST"] {
        assert!(texts.contains(tag), "{tag}");
    }
    assert!(story.playlist("720p", true).contains("EXT-X-SKIP"), "there is something to skip");
}

#[test]
fn an_outage_of_five_seconds_is_told_and_breaks_no_rule() {
    let mut engine = Engine::new(Limits::default());
    engine.handle_refused(1_000);
    engine.handle_refused(2_000);
    // An answer to a request from before the outage does not end it.
    assert!(!engine.handle_answered(2_100, 900));
    assert!(engine.handle_answered(6_000, 5_900));
    let outages: Vec<u64> = engine.take_outages().iter().map(super::Outage::length_ms).collect();
    assert_eq!(outages, [5_000]);
    assert_eq!(engine.take_findings(), []);
}

#[test]
fn a_break_near_an_outage_belongs_to_it() {
    let mut engine = Engine::new(Limits::default());
    engine.handle_broken(1_000, "720p", "reset".into());
    engine.handle_refused(1_500);
    engine.handle_answered(3_000, 2_900);
    engine.handle_broken(9_000, "720p", "reset".into());
    engine.handle_end(20_000);
    let found = engine.take_findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].at_ms, 9_000);
}

#[test]
fn a_position_orders_parts_before_their_segment() {
    let part = |msn, part| Position { msn, part: Some(part) };
    let whole = |msn| Position { msn, part: None };
    assert!(part(5, 0) < part(5, 1) && part(5, 1) < whole(5) && whole(5) < part(6, 0));
}
