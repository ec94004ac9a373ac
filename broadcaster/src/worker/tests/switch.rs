//! Renditions that are switched off, on, or over to another encoder while the session goes on.

use super::*;
use crate::worker::encoder::choice::ProvenEncoder;
use crate::worker::encoder::fakes::{self, Fault};
use crate::worker::ipc::{Lowered, Order, Withdrawn};

fn order(id: &str, on: bool, lowered: Lowered) -> Order {
    Order { rendition: id.parse().expect("an id"), on, lowered }
}

fn position(reports: &[Report], fits: impl Fn(&Report) -> bool) -> usize {
    reports.iter().position(fits).expect("it was reported")
}

/// Whether every rendition in `which` has the same starts of segments.
fn aligned(parts: &BTreeMap<u8, Vec<Part>>, which: &[u8]) {
    let mut starts: BTreeMap<u32, BTreeMap<u8, u64>> = BTreeMap::new();
    for i in which {
        for part in parts[i].iter().rev() {
            starts.entry(part.segment).or_default().insert(*i, part.pts_us);
        }
    }
    for (segment, of) in starts {
        let first = of.values().next();
        assert!(of.values().all(|start| Some(start) == first), "segment {segment}: {of:?}");
    }
}

#[test]
fn a_rendition_ends_with_a_segment_and_comes_back_with_one_while_the_others_go_on() {
    let mut session = Session::start(test_source((30, 1)), rungs(&["360p", "240p"]));
    session.until_segment(0);
    session.command(Command::Orders(vec![order("240p", false, Lowered::No)]));
    session.until(|r| matches!(r, Report::Withdrawn(w) if w.rendition == 1 && !w.failed));
    session.until(|r| matches!(r, Report::Part(p) if p.rendition == 0 && p.segment == 2));
    session.command(Command::Orders(vec![order("240p", true, Lowered::No)]));
    session.until(|r| matches!(r, Report::Part(p) if p.rendition == 1 && p.segment >= 3));
    session.command(Command::Drain);
    session.until(|r| matches!(r, Report::Drained));
    let reports = std::mem::take(&mut session.seen);
    assert!(
        !reports.iter().any(|r| matches!(r, Report::Changed(_))),
        "the same encoder makes the same init segment"
    );
    let gone = position(&reports, |r| matches!(r, Report::Withdrawn(_)));
    let of_240p = |r: &Report| matches!(r, Report::Part(p) if p.rendition == 1);
    let last = reports[..gone].iter().rfind(|r| of_240p(r));
    assert!(matches!(last, Some(Report::Part(p)) if p.last_of_segment), "{last:?}");
    let back = reports[gone..].iter().find(|r| of_240p(r));
    let Some(Report::Part(back)) = back else { panic!("it comes back") };
    assert!(back.independent);
    let outcome = Outcome::of(reports);
    aligned(&outcome.parts, &[0, 1]);
    let all: Vec<u32> = outcome.parts[&0].iter().map(|p| p.segment).collect();
    assert!((0..=3).all(|s| all.iter().filter(|n| **n == s).count() == 4 || s == 3), "{all:?}");
}

#[test]
fn one_that_is_off_from_the_start_is_described_and_never_made() {
    let mut session = Session::begin(test_source((30, 1)), rungs(&["360p", "240p"]), |start| {
        start.orders = vec![order("240p", false, Lowered::No)];
    });
    session.until_segment(1);
    let outcome = session.drain();
    assert_eq!(outcome.ids(), ["360p", "240p", "audio"]);
    assert!(!outcome.ready.renditions[1].init.is_empty());
    assert!(!outcome.parts.contains_key(&1));
}

#[test]
fn another_encoder_begins_at_one_boundary_for_all_renditions() {
    let mut session = Session::start(test_source((30, 1)), rungs(&["360p", "240p"]));
    session.until_segment(0);
    session.command(Command::Orders(vec![order("360p", true, Lowered::Effort)]));
    session.until(|r| matches!(r, Report::Changed(_)));
    let Some(Report::Changed(changed)) = session.seen.last().cloned() else { panic!("changed") };
    session
        .until(|r| matches!(r, Report::Part(p) if p.rendition == 0 && p.segment > changed.segment));
    let reports = std::mem::take(&mut session.seen);
    let [(0, made)] = &changed.renditions[..] else { panic!("{changed:?}") };
    let at = position(&reports, |r| matches!(r, Report::Changed(_)));
    for (i, report) in reports.iter().enumerate() {
        if let Report::Part(part) = report {
            assert_eq!(part.segment >= changed.segment, i > at, "segment {}", part.segment);
        }
    }
    let outcome = Outcome::of(reports);
    assert_ne!(outcome.ready.renditions[0].init, made.init);
    aligned(&outcome.parts, &[0, 1]);
    let segments: Vec<u32> = outcome.parts[&0].iter().map(|p| p.segment).collect();
    assert!(segments.windows(2).all(|w| w[1] - w[0] <= 1), "nothing is missing: {segments:?}");
}

#[test]
fn half_of_the_frames_are_left_out_when_that_is_ordered() {
    let mut session = Session::start(test_source((30, 1)), rungs(&["360p", "240p"]));
    session.until_segment(0);
    session.command(Command::Orders(vec![order("360p", true, Lowered::FrameRate)]));
    session.until(|r| matches!(r, Report::Changed(_)));
    let Some(Report::Changed(changed)) = session.seen.last().cloned() else { panic!("changed") };
    session
        .until(|r| matches!(r, Report::Part(p) if p.rendition == 0 && p.segment > changed.segment));
    let made = &changed.renditions[0].1;
    assert_eq!(made.fps.0 / made.fps.1, 15);
    let outcome = Outcome::of(std::mem::take(&mut session.seen));
    let frames = |rendition: u8, segment: u32| -> usize {
        let parts = outcome.parts[&rendition].iter().filter(|p| p.segment == segment);
        parts.map(|p| parse(&p.data).samples.len()).sum()
    };
    assert_eq!((frames(0, changed.segment), frames(1, changed.segment)), (30, 60));
}

#[test]
fn source_goes_and_comes_back_with_its_own_key_frames() {
    let clip = Clip::new(10, 60, 0);
    let ladder = source_and(own("small", 180));
    let mut session = Session::begin(Source::Push, ladder, |start| {
        start.orders = vec![order("source", false, Lowered::No)];
    });
    clip.push(&mut session, Some(1), |frame| frame.pts_us < 4_000_000);
    session.command(Command::Orders(vec![order("source", true, Lowered::No)]));
    clip.push(&mut session, Some(1), |frame| frame.pts_us >= 4_000_000);
    let outcome = session.drain();
    let Some(source) = outcome.parts.get(&0) else { panic!("source comes back") };
    assert!(source[0].independent && source[0].segment >= 1, "{:?}", source[0].segment);
    aligned(&outcome.parts, &[0, 1]);
}

#[test]
fn audio_goes_on_between_key_frames_while_no_video_is_made() {
    let clip = Clip::new(8, 60, 2);
    let ladder = Ladder::Rungs(vec![own("small", 180)]);
    let mut session = Session::begin(Source::Push, ladder, |start| {
        start.orders = vec![order("small", false, Lowered::No)];
    });
    // The last key frame of that is at 4 s.
    clip.push(&mut session, Some(1), |frame| frame.dts_us < 5_900_000);
    let ends_us = |p: &Part| p.pts_us + u64::from(p.duration_us);
    session.until(|r| matches!(r, Report::Part(p) if p.rendition == 1 && ends_us(p) > 5_000_000));
    let outcome = session.drain();
    assert!(!outcome.parts.contains_key(&0));
    let segments: Vec<u32> = outcome.parts[&1].iter().map(|p| p.segment).collect();
    assert!(segments.windows(2).all(|w| w[1] - w[0] <= 1), "nothing is missing: {segments:?}");
    assert_eq!(segments.iter().filter(|segment| **segment == 1).count(), 4);
}

#[test]
fn one_picture_stays_listed_when_encoders_fail_one_after_the_other() {
    fakes::register("nvh264enc", Fault::DiesLater);
    fakes::register("vaapih264enc", Fault::Dies);
    let fake =
        |element| ProvenEncoder { sessions_max: Some(1), ..ProvenEncoder::unlimited(element) };
    let mut session = Session::begin(test_source((30, 1)), rungs(&["360p", "240p"]), |start| {
        let x264 = ProvenEncoder::unlimited("x264enc");
        start.encoders = vec![fake("nvh264enc"), fake("vaapih264enc"), x264];
    });
    session.until(|r| matches!(r, Report::Changed(_)));
    session.until_segment(2);
    session.command(Command::Drain);
    session.until(|r| matches!(r, Report::Drained));
    let reports = std::mem::take(&mut session.seen);
    for element in ["vaapih264enc", "nvh264enc"] {
        let why = format!("{element} failed");
        position(&reports, |r| match r {
            Report::Withdrawn(Withdrawn { note, .. }) | Report::Noted(note) => note.contains(&why),
            _ => false,
        });
    }
    let mut listed = BTreeSet::from([0, 1]);
    for report in &reports {
        match report {
            Report::Withdrawn(withdrawn) => listed.remove(&withdrawn.rendition),
            Report::Part(part) if part.rendition < 2 => listed.insert(part.rendition),
            _ => continue,
        };
        assert!(!listed.is_empty(), "{report:?}");
    }
}
