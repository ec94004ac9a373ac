//! A checker that looks late, on a machine that is busy, blames nobody for what happened meanwhile.

use super::{BASE, Rule, playlist_meta};
use crate::check::rules::{Asked, Engine, Limits, Probe};
use crate::check::testing::{self, Story};

fn after_steps(engine: &mut Engine, story: &mut Story, steps: usize) -> String {
    (0..steps).for_each(|_| story.step());
    engine.handle_master(0, 0, &format!("{BASE}master.m3u8"), &testing::master());
    story.playlist("720p", false)
}

#[test]
fn what_was_far_ahead_when_it_was_asked_for_may_have_come_by_the_answer() {
    let (mut engine, mut story) = (Engine::new(Limits::default()), Story::new());
    story.connect();
    let text = after_steps(&mut engine, &mut story, 42);
    let mut ask = |ahead: u64| {
        let query = format!("_HLS_msn={}&_HLS_part=1000", 110 + ahead);
        engine.handle_probe(0, "720p", &Probe::BadQuery(query), &playlist_meta(), &text);
        engine.handle_end(10_000);
        engine.take_findings().into_iter().map(|found| found.rule).collect::<Vec<_>>()
    };
    assert_eq!(ask(0), [], "its parts are being listed");
    assert_eq!(ask(1), [Rule::QueryNotRefused]);
}

#[test]
fn a_segment_may_go_so_long_after_it_was_last_seen_and_not_after_its_going_was_noticed() {
    let until = |noticed_ms: u64| -> Vec<u64> {
        let (mut engine, mut story) = (Engine::new(Limits::default()), Story::new());
        story.connect();
        let look = |engine: &mut Engine, at_ms: u64, text: &str| {
            let asked = Asked { position: None, sent_ms: at_ms };
            engine.handle_playlist(at_ms, "720p", asked, None, text).expect("a playlist").dropped
        };
        let text = after_steps(&mut engine, &mut story, 90);
        look(&mut engine, 1_000, &text);
        let later = after_steps(&mut engine, &mut story, 10);
        let dropped = look(&mut engine, noticed_ms, &later);
        dropped.iter().map(|d| d.fetchable_until_ms).collect()
    };
    assert!(!until(1_500).is_empty());
    assert_eq!(until(61_000), until(1_500));
}

#[test]
fn an_average_is_above_what_is_said_only_when_a_playlist_asked_for_later_still_says_so() {
    let (mut engine, mut story) = (Engine::new(Limits::default()), Story::new());
    story.connect();
    let mut exceeds = |engine: &mut Engine, at_ms: u64, steps: usize| {
        (0..steps).for_each(|_| story.step());
        let asked = Asked { position: None, sent_ms: at_ms };
        let text = story.playlist("720p", false);
        let news = engine.handle_playlist(at_ms, "720p", asked, None, &text).expect("a playlist");
        for segment in news.segments {
            engine.handle_size(at_ms, "720p", segment.msn, 10_000_000);
        }
        let found = engine.take_findings();
        found.iter().any(|found| found.rule == Rule::AverageBandwidthExceeded)
    };
    let master = |engine: &mut Engine, at_ms: u64| {
        let (url, text) = (format!("{BASE}master.m3u8"), testing::master());
        engine.handle_master(at_ms + 10, at_ms, &url, &text).expect("a playlist");
    };
    master(&mut engine, 0);
    exceeds(&mut engine, 1_000, 9);
    for at_s in 1..12 {
        assert!(!exceeds(&mut engine, 1_000 + 2_000 * at_s, 4), "it was asked for before");
    }
    master(&mut engine, 30_000);
    assert!(exceeds(&mut engine, 31_000, 4));
}
