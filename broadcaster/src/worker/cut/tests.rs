use proptest::prelude::*;

use super::*;

const PART_US: u32 = 500_000;
const SEGMENT_US: u32 = 2_000_000;

fn sample(start: u64, key: bool) -> Sample {
    Sample { start, offset: 0, key, data: Bytes::from_static(&[0; 10]) }
}

/// Cuts a rendition of constant frames: `frame(i)` is the start of frame `i` in ticks.
fn cut_all(
    timescale: u32,
    frames: u64,
    timeline: &Timeline,
    frame: impl Fn(u64) -> u64,
) -> Vec<Cut> {
    let mut cutter = PartCutter::new(PART_US, timescale, frame(1));
    let mut cuts = Vec::new();
    for i in 0..frames {
        let segment = timeline.segment_of(ticks_to_us(frame(i), timescale));
        cuts.extend(cutter.push(segment, sample(frame(i), segment != cutter.segment() || i == 0)));
    }
    cuts
}

fn video_timeline(frames: u64, us: impl Fn(u64) -> u64) -> Timeline {
    let mut timeline = Timeline::new(SEGMENT_US);
    for i in 0..frames {
        timeline.see(us(i));
    }
    timeline
}

fn duration_us(cut: &Cut, timescale: u32) -> u64 {
    ticks_to_us(cut.end, timescale) - ticks_to_us(cut.start(), timescale)
}

/// PART-TARGET is 1.1 part lengths; 85 % of it for all but the last of a segment.
fn check_lengths(cuts: &[Cut], timescale: u32) {
    for cut in cuts {
        let us = duration_us(cut, timescale);
        assert!(us <= 550_000, "a part of {us} µs");
        assert!(cut.last_of_segment || us >= 467_500, "a part of {us} µs inside a segment");
    }
    for pair in cuts.windows(2) {
        assert_eq!(pair[0].end, pair[1].start(), "parts follow without gap or overlap");
        assert_eq!(pair[0].last_of_segment, pair[0].segment != pair[1].segment);
        assert!(pair[1].segment - pair[0].segment <= 1);
    }
}

const RATES: [(u64, u64); 9] = [
    (24_000, 1001),
    (24, 1),
    (25, 1),
    (30_000, 1001),
    (30, 1),
    (50, 1),
    (60_000, 1001),
    (60, 1),
    (15, 1),
];

#[test]
fn parts_keep_their_bounds_at_every_usual_frame_rate() {
    for (num, den) in RATES {
        let frames = 40 * num / den;
        let ns = |i: u64| (i * den * 1_000_000_000 + num / 2) / num;
        let timeline = video_timeline(frames, |i| (ns(i) + 500) / 1000);
        let cuts = cut_all(90_000, frames, &timeline, |i| ns_to_ticks(ns(i), 90_000));
        check_lengths(&cuts, 90_000);
        let in_segment = |s| cuts.iter().filter(|c| c.segment == s).count();
        let most = if num == 15 { 5 } else { 4 };
        assert!((0..18).all(|s| (4..=most).contains(&in_segment(s))), "{num}/{den}");
        for cut in cuts.iter().filter(|c| c.segment > 0 && c.samples[0].key) {
            // A millisecond early counts as on time: containers round that much.
            let early = u64::from(cut.segment) * 2_000_000 - 1000;
            let late = ticks_to_us(cut.start(), 90_000) - early;
            assert!(late < 1_000_000 * den / num + 1001, "{num}/{den}: {late} µs late");
        }
    }
}

#[test]
fn audio_is_cut_at_the_first_frame_at_or_after_the_video_boundary() {
    for rate in [44_100, 48_000, 32_000] {
        for (num, den) in RATES {
            let us = |i: u64| (i * den * 1_000_000 + num / 2) / num;
            let timeline = video_timeline(42 * num / den, us);
            let frames = 40 * u64::from(rate) / 1024;
            let cuts = cut_all(rate, frames, &timeline, |i| i * 1024);
            check_lengths(&cuts, rate);
            for cut in cuts.iter().filter(|c| c.samples[0].key && c.segment > 0) {
                let due = u64::from(cut.segment) * 2_000_000 - 1000;
                let first_video = (0..).map(us).find(|us| *us >= due).expect("there is one");
                let late = ticks_to_us(cut.start(), rate) - first_video;
                assert!(late < 1024 * 1_000_000 / u64::from(rate) + 1);
            }
        }
    }
}

#[test]
fn forty_eight_kilohertz_gives_four_parts_a_segment_and_no_crumb() {
    let timeline = video_timeline(1000, |i| i * 33_333);
    let cuts = cut_all(48_000, 900, &timeline, |i| i * 1024);
    assert!(cuts.len() >= 32);
    assert!((0..8).all(|s| cuts.iter().filter(|c| c.segment == s).count() == 4));
}

#[test]
fn a_part_is_given_out_with_the_first_frame_after_it() {
    let mut cutter = PartCutter::new(PART_US, 90_000, 3000);
    let given: Vec<usize> =
        (0..31).map(|i| cutter.push(0, sample(i * 3000, i == 0)).len()).collect();
    let at: Vec<usize> = (0..31).filter(|i| given[*i] == 1).collect();
    assert_eq!(at, [15, 30]);
    let last = cutter.finish().expect("one frame is open");
    assert_eq!((last.samples.len(), last.end, last.last_of_segment), (1, 31 * 3000, true));
}

#[test]
fn a_hole_in_the_source_never_makes_a_part_too_long() {
    let mut cutter = PartCutter::new(PART_US, 90_000, 3000);
    let mut cuts = Vec::new();
    for start in (0..5).map(|i| i * 3000).chain((0..20).map(|i| 900_000 + i * 3000)) {
        cuts.extend(cutter.push(0, sample(start, false)));
    }
    assert!(cuts.iter().all(|c| duration_us(c, 90_000) <= 550_000));
    assert_eq!(cuts[0].samples.len() + cuts[1].samples.len(), 5);
    assert_eq!(cuts[2].start(), 900_000);
}

#[test]
fn key_frames_every_two_seconds_pass_and_every_one_is_a_boundary() {
    for gop_us in [2_000_000, 2_002_000, 1_999_000, 2_200_000, 1_500_000] {
        let cuts = boundaries(gop_us, 33_333, 30_000_000).expect("short enough");
        let every: Vec<u64> = (1..).map(|i| i * gop_us).take_while(|t| *t < 29_000_000).collect();
        assert_eq!(cuts[..every.len()], every, "{gop_us}");
    }
}

#[test]
fn short_distances_of_key_frames_are_gathered_into_segments() {
    for gop_us in [33_333, 250_000, 500_000, 1_000_000] {
        let cuts = boundaries(gop_us, 33_333, 60_000_000).expect("short enough");
        let lengths: Vec<u64> = cuts.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(
            lengths.iter().skip(30).all(|l| (1_900_000..=2_400_000).contains(l)),
            "{lengths:?}"
        );
        assert!(lengths.iter().all(|l| (200_000..=2_400_000).contains(l)), "{lengths:?}");
    }
}

#[test]
fn key_frames_too_far_apart_are_noticed_before_the_segment_is_too_long() {
    assert_eq!(boundaries(8_333_000, 33_333, 30_000_000), Err(2_233_311));
}

#[test]
fn segments_of_any_length_and_source_round_to_their_target_duration() {
    for segment_us in (1..=6).map(|s| s * 1_000_000) {
        for gop_us in (100_000..7_000_000).step_by(100_000) {
            let cuts = boundaries_of(segment_us, gop_us, 33_333, 60_000_000);
            let lengths = cuts.iter().flat_map(|c| c.windows(2)).map(|w| w[1] - w[0]);
            let longest = lengths.max().unwrap_or(0);
            assert!(longest < u64::from(segment_us) + 500_000, "{segment_us} {gop_us} {longest}");
            let passes = gop_us <= u64::from(segment_us) + 200_000;
            assert_eq!(cuts.is_ok(), passes, "{segment_us} {gop_us}");
        }
    }
}

/// The segment starts that a source with this distance of key frames gets.
fn boundaries(gop_us: u64, frame_us: u64, until_us: u64) -> Result<Vec<u64>, u64> {
    boundaries_of(SEGMENT_US, gop_us, frame_us, until_us)
}

fn boundaries_of(
    segment_us: u32,
    gop_us: u64,
    frame_us: u64,
    until_us: u64,
) -> Result<Vec<u64>, u64> {
    let mut cuts = SourceCuts::new(segment_us, segment_us + 200_000);
    let mut out = Vec::new();
    let (mut next_key, mut pts) = (0, 0);
    while pts < until_us {
        let key = pts >= next_key;
        let shown = if key { next_key } else { pts };
        if key {
            next_key += gop_us;
        }
        match cuts.see(shown, key) {
            SourceCut::Cut => out.push(shown),
            SourceCut::Continue => {}
            SourceCut::TooLong(distance) => return Err(distance),
        }
        pts += frame_us;
    }
    Ok(out)
}

#[test]
fn millisecond_timestamps_do_not_move_the_sample_clock() {
    let mut clock = SampleClock::new(44_100, 1024);
    for i in 0..100_000u64 {
        let exact_ns = i * 1024 * 1_000_000_000 / 44_100;
        assert_eq!(clock.place(exact_ns / 1_000_000 * 1_000_000), Some(i * 1024));
    }
}

#[test]
fn the_sample_clock_follows_a_gap_and_leaves_out_an_overlap() {
    let mut clock = SampleClock::new(48_000, 1024);
    assert_eq!(clock.place(0), Some(0));
    assert_eq!(clock.place(1_000_000_000), Some(48_000));
    assert_eq!(clock.place(500_000_000), None);
    assert_eq!(clock.place(1_021_000_000), Some(49_024));
}

#[test]
fn thinning_keeps_half_of_sixty_and_four_fifths_of_thirty() {
    let kept = |from: u64, to: u32| {
        let mut thinner = Thinner::new((to, 1));
        (0..10 * from)
            .filter(|i| thinner.keep(i * 1_000_000_000 / from, i % (2 * from) == 0))
            .count()
    };
    assert_eq!(kept(60, 30), 300);
    assert_eq!(kept(50, 25), 250);
    assert_eq!(kept(30, 24), 240);
    assert_eq!(kept(30, 30), 300);
}

#[test]
fn frames_that_are_lost_make_no_part_shorter_than_it_had_to_be() {
    for (first, count) in (1..110).flat_map(|first| (1..12).map(move |count| (first, count))) {
        let mut cutter = PartCutter::new(PART_US, 90_000, 3000);
        let came = (0..120u64).filter(|i| !(first..first + count).contains(i));
        let mut cuts = Vec::new();
        for i in came {
            cuts.extend(cutter.push((i / 60) as u32, sample(i * 3000, i % 60 == 0)));
        }
        cuts.extend(cutter.finish());
        for pair in cuts.windows(2).filter(|pair| !pair[0].last_of_segment) {
            let next = pair[1].samples.get(1).map_or(pair[1].end, |s| s.start) - pair[1].start();
            let (length_us, next_us) = (duration_us(&pair[0], 90_000), ticks_to_us(next, 90_000));
            let fits = length_us + next_us <= 550_000;
            assert!(length_us >= 467_500 || !fits, "{first} {count}: {length_us} + {next_us}");
        }
    }
}

proptest! {
    #[test]
    fn parts_of_any_source_are_bounded_and_in_order(
        gaps in proptest::collection::vec(prop_oneof![8 => 900u64..6000, 1 => 6000u64..400_000], 20..400),
        keys in 10usize..80,
    ) {
        let mut cutter = PartCutter::new(PART_US, 90_000, 3000);
        let (mut start, mut cuts, mut count) = (0, Vec::new(), 0);
        for (i, gap) in gaps.iter().enumerate() {
            cuts.extend(cutter.push((i / keys) as u32, sample(start, i % keys == 0)));
            start += gap;
            count += 1;
        }
        cuts.extend(cutter.finish());
        prop_assert_eq!(cuts.iter().map(|c| c.samples.len()).sum::<usize>(), count);
        for cut in &cuts {
            prop_assert!(duration_us(cut, 90_000) <= 550_000);
            prop_assert!(cut.samples.iter().skip(1).all(|s| !s.key));
        }
        for pair in cuts.windows(2) {
            prop_assert!(pair[0].end <= pair[1].start());
            prop_assert_eq!(pair[0].last_of_segment, pair[0].segment != pair[1].segment);
        }
    }

    #[test]
    fn every_rendition_of_a_timeline_gets_the_same_segments(
        frame_us in 16_000u64..50_000, thin in 1u64..3,
    ) {
        let mut timeline = Timeline::new(SEGMENT_US);
        let pts: Vec<u64> = (0..600).map(|i| i * frame_us).collect();
        for pts in &pts {
            timeline.see(*pts);
        }
        let first_of = |step: usize, segment: u32| {
            pts.iter().step_by(step).find(|p| timeline.segment_of(**p) == segment).copied()
        };
        for segment in 0..5 {
            let (full, thinned) = (first_of(1, segment), first_of(thin as usize, segment));
            let (full, thinned) = (full.expect("long enough"), thinned.expect("long enough"));
            prop_assert!(thinned - full < thin * frame_us);
        }
    }
}
