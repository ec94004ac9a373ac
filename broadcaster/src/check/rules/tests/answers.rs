//! Ways to answer wrongly: media, requests and headers.

use super::edits::{after, bytes, delta_at_48, part_720, playlist_at_48, segment_480};
use super::{Tamper, error_meta, media_meta, playlist_meta};
use crate::check::catalog::Rule;
use crate::check::parse::Resource;
use crate::check::rules::{Asked, Dropped, Meta, Probe, Reload};
use crate::check::testing;

pub(super) fn media() -> Vec<(Rule, Tamper)> {
    vec![
        (
            Rule::AudioNotApart,
            Tamper {
                init: Box::new(|name, right| match name {
                    "720p" => testing::init_with(&["720p", "audio"]),
                    _ => right,
                }),
                ..Tamper::default()
            },
        ),
        (Rule::MediaUnreadable, segment_480(|_, right| right[..right.len() - 100].to_vec())),
        (
            Rule::MediaUnreadable,
            Tamper {
                init: Box::new(|name, right| match name {
                    "480p" => right[..right.len() - 1].to_vec(),
                    _ => right,
                }),
                ..Tamper::default()
            },
        ),
        (
            Rule::SegmentNotIdr,
            segment_480(|told, _| {
                let rest = (1..told.parts.len()).flat_map(|i| testing::part("480p", told, i));
                let start = told.media_us();
                testing::fragment("480p", start, told.parts[0], false)
                    .into_iter()
                    .chain(rest)
                    .collect()
            }),
        ),
        (
            Rule::SegmentNotIdr,
            // Marked as a sync sample, but not an IDR frame.
            segment_480(|_, right| {
                let mut bytes = right;
                let at = bytes.iter().position(|b| *b == 0x65).expect("an IDR frame");
                bytes[at] = 0x41;
                bytes
            }),
        ),
        (
            Rule::SegmentDurationWrong,
            Tamper {
                until: 44,
                ..segment_480(|told, _| {
                    let mut short = told.clone();
                    short.parts[3] -= 100_000;
                    testing::segment("480p", &short)
                })
            },
        ),
        (
            Rule::PartDurationWrong,
            Tamper {
                until: 43,
                ..part_720(1, |told| {
                    let mut short = told.clone();
                    short.parts[1] -= 100_000;
                    testing::part("720p", &short, 1)
                })
            },
        ),
        (
            Rule::IndependentFlagWrong,
            Tamper {
                until: 43,
                ..part_720(0, |told| {
                    testing::fragment("720p", told.media_us(), told.parts[0], false)
                })
            },
        ),
        (
            Rule::MediaTimelineBroken,
            bytes(|name, told, part, right| match part {
                _ if told.msn != 110 => right,
                Some(part) => testing::part(name, &told.later(200_000), part),
                None => testing::segment(name, &told.later(200_000)),
            }),
        ),
        (
            Rule::AudioBoundaryWrong,
            bytes(|name, told, part, right| match part {
                _ if name != "audio" => right,
                Some(part) => testing::part(name, &told.later(30_000), part),
                None => testing::segment(name, &told.later(30_000)),
            }),
        ),
        (
            Rule::SegmentBytesDiffer,
            bytes(|name, told, part, mut right| {
                if name == "720p" && told.msn == 110 && part.is_none() {
                    *right.last_mut().expect("bytes") ^= 1;
                }
                right
            }),
        ),
        (
            Rule::UriContentChanged,
            after(40, |engine, at_ms| {
                let resource = Resource { uri: "../1/720p/105.m4s".into(), range: None };
                engine.check_content(at_ms, "720p", &resource, b"something else");
            }),
        ),
        (
            Rule::ListedUriMissing,
            after(40, |engine, at_ms| {
                engine.handle_missing(at_ms, "720p", "105.m4s", &error_meta(404));
            }),
        ),
        (
            Rule::EvictedTooEarly,
            after(40, |engine, at_ms| {
                let dropped = Dropped {
                    msn: 1,
                    resource: Resource::default(),
                    fetchable_until_ms: at_ms + 2_000,
                };
                engine.handle_evicted(at_ms, "720p", &dropped, &error_meta(404));
            }),
        ),
        (
            Rule::PreloadHintUnanswered,
            after(40, |engine, at_ms| {
                engine.handle_hint_failed(at_ms, "720p", &Resource::default(), &error_meta(404));
            }),
        ),
    ]
}

pub(super) fn requests() -> Vec<(Rule, Tamper)> {
    let probed = |probe: Probe, meta: Meta, text: &'static str| {
        after(40, move |engine, at_ms| engine.handle_probe(at_ms, "720p", &probe, &meta, text))
    };
    let query = || "_HLS_msn=1".to_owned();
    vec![
        (
            Rule::BlockingReloadEarly,
            playlist_at_48(|engine, at_ms, text| {
                let asked = Asked { position: Some((112, Some(1))), sent_ms: at_ms };
                engine.handle_playlist(at_ms + 100, "720p", asked, None, text);
            }),
        ),
        (
            Rule::BlockingReloadRefused,
            after(40, |engine, at_ms| {
                let asked = Asked { position: Some((110, Some(1))), sent_ms: at_ms };
                engine.handle_reload_refused(at_ms + 1_000, "720p", asked, &error_meta(503));
            }),
        ),
        (
            Rule::BlockingReloadTimeout,
            after(40, |engine, at_ms| {
                let asked = Asked { position: Some((110, Some(1))), sent_ms: at_ms };
                engine.handle_reload_timeout(at_ms + 8_000, "720p", asked);
            }),
        ),
        (Rule::QueryNotRefused, probed(Probe::BadQuery(query()), playlist_meta(), "")),
        (Rule::OldMsnRefused, probed(Probe::OldMsn(query()), error_meta(400), "")),
        (Rule::PartOverflowRefused, probed(Probe::PartOverflow(query()), error_meta(400), "")),
        (Rule::UnknownUrlAnswered, probed(Probe::UnknownUrl(query()), media_meta(), "")),
        (
            Rule::ErrorCacheable,
            probed(
                Probe::UnknownUrl(query()),
                Meta { cache_control: Some("max-age=60".into()), ..error_meta(404) },
                "",
            ),
        ),
        (
            Rule::DeltaMissing,
            playlist_at_48(|engine, at_ms, text| {
                let base = engine.playlist("720p").cloned().expect("a playlist");
                engine.handle_delta(at_ms, "720p", &base, text);
            }),
        ),
        (
            Rule::DeltaDiffers,
            delta_at_48(|text| text.replacen("EXTINF:2.000000", "EXTINF:1.900000", 1)),
        ),
        (Rule::DeltaDiffers, delta_at_48(|text| text.replacen("Y-SEQUENCE:1", "Y-SEQUENCE:2", 1))),
        (
            Rule::Unreachable,
            after(40, |engine, at_ms| {
                engine.handle_refused(at_ms - 16_000);
                engine.handle_answered(at_ms, at_ms - 10);
            }),
        ),
        (
            Rule::ResponseBroken,
            after(40, |engine, at_ms| engine.handle_broken(at_ms, "720p", "reset".into())),
        ),
        (Rule::ResponseSlow, after(40, |engine, at_ms| engine.handle_slow(at_ms, "720p", "x"))),
    ]
}

pub(super) fn headers() -> Vec<(Rule, Tamper)> {
    let media = |meta: Meta| {
        after(40, move |engine, at_ms| engine.check_media_headers(at_ms, "720p", "x.m4s", &meta))
    };
    let playlist = |meta: Meta, reload: Reload| {
        after(40, move |engine, at_ms| {
            engine.check_playlist_headers(at_ms, "720p", &meta, reload);
        })
    };
    let text = |value: &str| Some(value.to_owned());
    let range = |meta: Meta, length: u64| {
        after(40, move |engine, at_ms| {
            engine.check_range(at_ms, "720p", "x.m4s", (10, 19), (&meta, length));
        })
    };
    let ranged =
        |status, said: &str| Meta { status, content_range: Some(said.to_owned()), ..media_meta() };
    let blocking = Reload::Blocking { target_us: 2_000_000 };
    vec![
        (Rule::PlaylistCacheControl, playlist(playlist_meta(), blocking)),
        (
            Rule::PlaylistCacheControl,
            playlist(Meta { cache_control: text("max-age=12"), ..playlist_meta() }, Reload::Plain),
        ),
        (
            Rule::PlaylistContentType,
            playlist(Meta { content_type: text("text/plain"), ..playlist_meta() }, Reload::Plain),
        ),
        (
            Rule::PlaylistGzip,
            after(40, |engine, at_ms| {
                let meta = Meta { content_encoding: None, ..playlist_meta() };
                engine.check_gzip(at_ms, "720p", &meta, true);
            }),
        ),
        (
            Rule::PlaylistGzip,
            after(40, |engine, at_ms| engine.check_gzip(at_ms, "720p", &playlist_meta(), false)),
        ),
        (Rule::Cors, media(Meta { allow_origin: None, ..media_meta() })),
        (Rule::MediaCacheControl, media(Meta { cache_control: text("no-cache"), ..media_meta() })),
        (Rule::MediaContentType, media(Meta { content_type: text("text/html"), ..media_meta() })),
        (Rule::MediaContentType, media(Meta { content_type: text("audio/mp4"), ..media_meta() })),
        (Rule::MediaEtag, media(Meta { etag: text("W/\"abc\""), ..media_meta() })),
        (
            Rule::MediaEtag,
            after(40, |e, at_ms| e.check_not_modified(at_ms, "720p", "x.m4s", &media_meta())),
        ),
        (Rule::MediaRange, range(ranged(200, ""), 10)),
        (Rule::MediaRange, range(ranged(206, "bytes 10-19/100"), 9)),
        (Rule::MediaRange, range(ranged(206, "bytes 0-9/100"), 10)),
        (
            Rule::MediaRange,
            after(40, |e, at_ms| e.check_unsatisfiable(at_ms, "720p", "x.m4s", &media_meta())),
        ),
    ]
}
