//! For every rule at least one way to break it, and it alone.

use std::collections::BTreeSet;

use super::edits::{
    after, always, bytes, edit_before_segment, from, lines, only_open_parts, reports, text, told,
    without_open_segment,
};
use super::{Tamper, answers, error_meta, tell};
use crate::check::catalog::{RULES, Rule};
use crate::check::rules::{Asked, Limits};
use crate::check::testing;

#[test]
fn each_departure_breaks_its_rule_and_no_other() {
    let mut wrong = Vec::new();
    for (index, (rule, mut tamper)) in cases().into_iter().enumerate() {
        let found = tell(&mut tamper);
        let rules: BTreeSet<Rule> = found.iter().map(|f| f.rule).collect();
        if rules != BTreeSet::from([rule]) {
            let first: Vec<_> = found.iter().take(5).collect();
            wrong.push(format!("case {index}, {rule}: {rules:?} {first:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_of_the_catalogue_has_a_case() {
    let covered: BTreeSet<Rule> = cases().iter().map(|(rule, _)| *rule).collect();
    let missing: Vec<_> = RULES.iter().filter(|r| !covered.contains(r)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

fn cases() -> Vec<(Rule, Tamper)> {
    let mut all = alone();
    all.extend(history());
    all.extend(across());
    all.extend(master());
    all.extend(answers::media());
    all.extend(answers::requests());
    all.extend(answers::headers());
    all
}

fn alone() -> Vec<(Rule, Tamper)> {
    vec![
        (
            Rule::PlaylistSyntax,
            text(|step, name, text| {
                if step == 30 && name == "720p" {
                    text.replace("#EXTINF:", "#EXTINF ")
                } else {
                    text
                }
            }),
        ),
        (Rule::LowLatencyMissing, always("CAN-BLOCK-RELOAD=YES,", "")),
        (Rule::SegmentTooLong, Tamper { until: 70, ..told(|story, _| story.parts = 6) }),
        (Rule::PartTooLong, always("PART-TARGET=0.55", "PART-TARGET=0.45")),
        (
            Rule::PartTooShort,
            text(|_, _, t| {
                t.replace("PART-TARGET=0.55", "PART-TARGET=0.60").replace("BACK=1.65", "BACK=1.80")
            }),
        ),
        (
            Rule::PartsSumDiffers,
            lines(|_, name, line| {
                let chosen =
                    name == "720p" && line.contains("/110.") && line.contains("EXT-X-PART");
                chosen.then(|| line.replace("DURATION=0.500000", "DURATION=0.470000"))
            }),
        ),
        (Rule::PartHoldBack, always("PART-HOLD-BACK=1.65", "PART-HOLD-BACK=1.60")),
        (Rule::HoldBack, always(",HOLD-BACK=6.0", ",HOLD-BACK=5.0")),
        (Rule::CanSkipUntil, always("CAN-SKIP-UNTIL=12.0", "CAN-SKIP-UNTIL=11.0")),
        (
            Rule::PartsListedTooBriefly,
            Tamper {
                until: 60,
                ..text(|_, name, t| if name == "720p" { only_open_parts(&t) } else { t })
            },
        ),
        (Rule::PartsListedTooLong, told(|story, _| story.parts_kept_us = 30_000_000)),
        (
            Rule::ProgramDateTimeMissing,
            text(
                |_, name, t| {
                    if name == "720p" { edit_before_segment(&t, 110, |_| None) } else { t }
                },
            ),
        ),
        (
            Rule::ProgramDateTimeWrong,
            told(|story, step| {
                story.clock_ahead_us = if (41..45).contains(&step) { 1_000_000 } else { 0 };
            }),
        ),
        (
            Rule::ProgramDateTimeWrong,
            // A clock that is ahead.
            told(|story, step| {
                if step == 1 {
                    story.clock_ahead_us = 3_600_000_000;
                }
            }),
        ),
        (Rule::MapMissing, lines(|_, _, line| line.starts_with("#EXT-X-MAP").then(String::new))),
        (
            Rule::FirstPartNotIndependent,
            lines(|_, name, line| {
                let chosen = name == "720p" && line.contains("/110.0.m4s");
                chosen.then(|| line.replace(",INDEPENDENT=YES", ""))
            }),
        ),
        (Rule::WindowTooShort, Tamper { until: 60, ..told(|story, _| story.window = 2) }),
    ]
}

fn history() -> Vec<(Rule, Tamper)> {
    let mut kept = String::new();
    let mut frozen = String::new();
    vec![
        (
            Rule::MsnDecreased,
            Tamper {
                until: 44,
                plain_from: 40,
                deltas: false,
                ..lines(|step, name, line| {
                    let number = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:")?;
                    let number: u64 = number.parse().expect("a number");
                    (step >= 40 && name == "720p")
                        .then(|| format!("#EXT-X-MEDIA-SEQUENCE:{}", number - 50))
                })
            },
        ),
        (
            Rule::DiscontinuitySequenceDecreased,
            Tamper {
                until: 44,
                deltas: false,
                ..text(|step, _, t| {
                    t.replace(
                        "Y-SEQUENCE:0",
                        if step < 40 { "Y-SEQUENCE:5" } else { "Y-SEQUENCE:4" },
                    )
                })
            },
        ),
        (
            Rule::DiscontinuitySequenceWrong,
            Tamper {
                until: 44,
                deltas: false,
                ..text(
                    |step, _, t| {
                        if step < 40 { t } else { t.replace("Y-SEQUENCE:0", "Y-SEQUENCE:1") }
                    },
                )
            },
        ),
        (Rule::SegmentChanged, from(40, "720p", "/105.m4s", "/105b.m4s")),
        (Rule::PartChanged, from(42, "720p", "/110.0.m4s", "/110.0b.m4s")),
        (
            Rule::PlaylistRewritten,
            Tamper {
                until: 46,
                plain_from: 43,
                ..text(move |step, name, t| {
                    if name != "720p" {
                        return t;
                    }
                    if step == 41 {
                        kept.clone_from(&t);
                    }
                    if step == 43 { kept.clone() } else { t }
                })
            },
        ),
        (
            Rule::TargetDurationChanged,
            Tamper {
                until: 60,
                deltas: false,
                script: Box::new(|story, step| {
                    story.parts_kept_us = if step < 40 { 9_000_000 } else { 6_000_000 };
                }),
                ..text(|step, _, t| {
                    let t = t.replace("UNTIL=12.0,HOLD-BACK=6.0", "UNTIL=18.0,HOLD-BACK=9.0");
                    if step < 40 { t.replace("TARGETDURATION:2", "TARGETDURATION:3") } else { t }
                })
            },
        ),
        (Rule::PartTargetChanged, from(40, "", "PART-TARGET=0.55", "PART-TARGET=0.54")),
        (Rule::ServerControlChanged, from(40, "", ",HOLD-BACK=6.0", ",HOLD-BACK=7.0")),
        (
            Rule::MapChangedWithoutDiscontinuity,
            Tamper {
                until: 60,
                ..text(|_, name, t| {
                    if name != "720p" {
                        return t;
                    }
                    let map = "#EXT-X-MAP:URI=\"../1/720p/init-2.mp4\"";
                    edit_before_segment(&t, 110, |date| Some(format!("{map}\n{date}")))
                })
            },
        ),
        (Rule::UriReused, Tamper { media: false, ..from(40, "720p", "/111.0.m4s", "/109.0.m4s") }),
        (
            Rule::EndedThenContinued,
            text(
                |step, name, t| {
                    if step == 40 && name == "720p" { t + "#EXT-X-ENDLIST\n" } else { t }
                },
            ),
        ),
        (
            Rule::PreloadHintMissing,
            lines(|step, name, line| {
                let chosen = step > 30 && name == "720p" && line.starts_with("#EXT-X-PRELOAD");
                chosen.then(String::new)
            }),
        ),
        (
            Rule::PreloadHintWrong,
            lines(|step, name, line| {
                let chosen = step == 42 && name == "720p" && line.starts_with("#EXT-X-PRELOAD");
                chosen.then(|| line.replace("110.2", "110.9"))
            }),
        ),
        (
            Rule::PreloadHintWrong,
            // The end of a segment is never foreseen.
            Tamper {
                deltas: false,
                ..lines(|_, name, line| {
                    let chosen = name == "720p" && line.starts_with("#EXT-X-PRELOAD");
                    chosen.then(|| line.replace(".0.m4s", ".0b.m4s"))
                })
            },
        ),
        (
            Rule::PlaylistStuck,
            Tamper {
                until: 130,
                limits: Limits { grace_ms: 1_000, ..Limits::default() },
                ..Tamper::default()
            },
        ),
        (
            Rule::PartListedLate,
            after(40, |engine, at_ms| {
                engine.handle_listed("720p", "110.0.m4s", at_ms, at_ms + 2_000);
            }),
        ),
        (
            Rule::PartListedLate,
            // Parts appear only when their segment is whole.
            Tamper {
                until: 99,
                plain_from: 0,
                deltas: false,
                ..text(|_, name, t| if name == "720p" { without_open_segment(&t) } else { t })
            },
        ),
        (
            Rule::RenditionBehind,
            Tamper {
                until: 60,
                plain_from: 30,
                ..text(move |step, name, t| {
                    if name != "480p" {
                        return t;
                    }
                    if step == 29 {
                        frozen.clone_from(&t);
                    }
                    if step < 30 { t } else { frozen.clone() }
                })
            },
        ),
    ]
}

fn across() -> Vec<(Rule, Tamper)> {
    vec![
        (
            Rule::TargetDurationDiffers,
            Tamper {
                until: 60,
                deltas: false,
                script: Box::new(|story, _| story.parts_kept_us = 9_000_000),
                ..text(|_, name, t| {
                    let t = t.replace("UNTIL=12.0,HOLD-BACK=6.0", "UNTIL=18.0,HOLD-BACK=9.0");
                    if name == "480p" {
                        t.replace("TARGETDURATION:2", "TARGETDURATION:3")
                    } else {
                        t
                    }
                })
            },
        ),
        (Rule::ServerControlDiffers, from(0, "480p", ",HOLD-BACK=6.0", ",HOLD-BACK=7.0")),
        (
            Rule::DiscontinuityDiffers,
            Tamper { until: 40, ..from(0, "480p", "Y-SEQUENCE:0", "Y-SEQUENCE:1") },
        ),
        (
            Rule::SegmentBoundaryDiffers,
            Tamper {
                until: 40,
                ..lines(|_, name, line| {
                    let chosen = name == "480p" && line.starts_with("#EXT-X-PROGRAM-DATE-TIME");
                    chosen.then(|| line.replace("Z", ".1Z"))
                })
            },
        ),
        (
            Rule::SegmentBoundaryDiffers,
            // The media itself, with dates that are right.
            bytes(|name, told, part, right| match (name, part) {
                ("480p", None) => testing::segment(name, &told.later(100_000)),
                _ => right,
            }),
        ),
        (
            Rule::MapUnchangedAtDiscontinuity,
            Tamper {
                until: 140,
                ..lines(|_, name, line| {
                    let map = line.starts_with("#EXT-X-MAP");
                    map.then(|| format!("#EXT-X-MAP:URI=\"../0/{name}/init-1.mp4\""))
                })
            },
        ),
        (
            Rule::RenditionReportMissing,
            lines(|_, name, line| {
                let chosen = name == "720p"
                    && line.starts_with("#EXT-X-RENDITION-REPORT")
                    && line.contains("480p");
                chosen.then(String::new)
            }),
        ),
        (Rule::RenditionReportWrong, reports(-2)),
        (Rule::RenditionReportWrong, reports(40)),
    ]
}

fn master() -> Vec<(Rule, Tamper)> {
    let said = |from: &'static str, to: &'static str| Tamper {
        master: Box::new(move |t| t.replace(from, to)),
        ..Tamper::default()
    };
    vec![
        (Rule::VariantAttributeMissing, said(",FRAME-RATE=30.000", "")),
        (Rule::VariantAttributeMissing, said(",AVERAGE-BANDWIDTH=300000", "")),
        (Rule::PlaylistSyntax, said("RESOLUTION=1280x720", "RESOLUTION=large")),
        (Rule::CodecsWrong, said("avc1.42c01f", "avc1.64001f")),
        (Rule::CodecsWrong, said(",mp4a.40.2\",RES", "\",RES")),
        (Rule::ResolutionWrong, said("1280x720", "1280x718")),
        (Rule::FrameRateWrong, said("FRAME-RATE=30.000", "FRAME-RATE=25.000")),
        (
            Rule::BandwidthExceeded,
            said(
                "BANDWIDTH=400000,AVERAGE-BANDWIDTH=300000",
                "BANDWIDTH=200000,AVERAGE-BANDWIDTH=200000",
            ),
        ),
        (
            Rule::AverageBandwidthExceeded,
            said("AVERAGE-BANDWIDTH=300000", "AVERAGE-BANDWIDTH=150000"),
        ),
        (
            Rule::AverageBandwidthExceeded,
            said("AVERAGE-BANDWIDTH=300000", "AVERAGE-BANDWIDTH=500000"),
        ),
        (
            Rule::ListedPlaylistMissing,
            after(40, |engine, at_ms| {
                engine.handle_playlist_missing(at_ms, "480p", &error_meta(404));
            }),
        ),
        (
            Rule::ListedPlaylistMissing,
            after(40, |engine, at_ms| {
                engine.handle_reload_refused(at_ms, "480p", Asked::default(), &error_meta(404));
            }),
        ),
    ]
}
