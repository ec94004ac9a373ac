//! Answers to requests: blocking reloads, delta updates, refusals and headers.

use super::{Asked, Dropped, Engine, Outage};
use crate::check::catalog::Rule;
use crate::check::parse::{MediaPlaylist, Resource, apply_delta, parse_media};

/// Status and headers of an answer, as far as rules look at them. Header values are as sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) cache_control: Option<String>,
    pub(crate) allow_origin: Option<String>,
    pub(crate) etag: Option<String>,
    pub(crate) content_range: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) vary: Option<String>,
}

/// What a playlist was asked for, which decides how long it may be cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reload {
    Plain,
    /// A blocking reload that was answered with what it asked for.
    Blocking {
        target_us: u64,
    },
}

/// A question asked to see how it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    /// A query that must be refused.
    BadQuery(String),
    /// A number that is long since listed.
    OldMsn(String),
    /// A part past the end of a listed segment.
    PartOverflow(String),
    /// A media URL that nothing names.
    UnknownUrl(String),
}

/// A delta update that waits for the whole playlist of the same moment.
#[derive(Debug, Clone)]
pub(super) struct Delta {
    update: MediaPlaylist,
    base: MediaPlaylist,
}

/// Timers of client and server differ a little.
const TIMER_MS: u64 = 500;

impl Engine {
    /// Whether a playlist is an answer to what was asked.
    pub(super) fn check_answers(
        &mut self,
        at_ms: u64,
        name: &str,
        asked: Asked,
        now: &MediaPlaylist,
    ) {
        let Some((msn, part)) = asked.position else { return };
        let waited_ms = at_ms.saturating_sub(asked.sent_ms);
        let wait_max_ms = 3 * now.target_us / 1000;
        if now.ended || now.has(msn, part) || waited_ms + TIMER_MS >= wait_max_ms {
            return;
        }
        let wanted = part.map_or(msn.to_string(), |p| format!("{msn}.{p}"));
        let end = now.last().map_or("nothing".into(), |l| l.to_string());
        let detail = format!(
            "asked for {wanted}, answered after {:.1} s with a playlist that ends at {end}",
            waited_ms as f64 / 1e3
        );
        self.find(at_ms, Rule::BlockingReloadEarly, name, detail);
    }

    /// A blocking reload was answered with an error.
    pub(crate) fn handle_reload_refused(
        &mut self,
        at_ms: u64,
        name: &str,
        asked: Asked,
        meta: &Meta,
    ) {
        self.check_error(at_ms, name, meta, "a playlist");
        let waited_ms = at_ms.saturating_sub(asked.sent_ms);
        let target_us = self.playlist(name).map_or(0, |p| p.target_us);
        let timed_out = meta.status == 503 && waited_ms + TIMER_MS >= 3 * target_us / 1000;
        if asked.position.is_some() && timed_out {
            return;
        }
        let detail = format!("answered {} after {:.1} s", meta.status, waited_ms as f64 / 1e3);
        let gone = meta.status == 404 || meta.status == 410;
        let rule = if gone { Rule::ListedPlaylistMissing } else { Rule::BlockingReloadRefused };
        // A rendition that left the multivariant playlist may be gone.
        if !gone || self.renditions.get(name).is_some_and(|r| r.listed) {
            self.suspect(at_ms, rule, name, detail);
        }
    }

    /// A blocking reload was not answered at all.
    pub(crate) fn handle_reload_timeout(&mut self, at_ms: u64, name: &str, asked: Asked) {
        let waited_ms = at_ms.saturating_sub(asked.sent_ms);
        let detail = format!("no answer within {:.1} s", waited_ms as f64 / 1e3);
        self.suspect(at_ms, Rule::BlockingReloadTimeout, name, detail);
    }

    /// A request that waits for nothing was not answered in time.
    pub(crate) fn handle_slow(&mut self, at_ms: u64, name: &str, what: &str) {
        self.suspect(at_ms, Rule::ResponseSlow, name, what.to_owned());
    }

    /// An answer to a request with `_HLS_skip=YES`; `base` is the playlist the client had.
    pub(crate) fn handle_delta(
        &mut self,
        at_ms: u64,
        name: &str,
        base: &MediaPlaylist,
        text: &str,
    ) {
        match parse_media(text) {
            Ok(update) => {
                let waiting = &mut self.rendition(name).waiting_deltas;
                waiting.push_back(Delta { update, base: base.clone() });
                if waiting.len() > 4 {
                    waiting.pop_front();
                }
                self.match_deltas(at_ms, name);
            }
            Err(error) => {
                let detail = format!("a delta update: {error}");
                self.find(at_ms, Rule::PlaylistSyntax, name, detail);
            }
        }
    }

    /// Compares waiting delta updates with the whole playlist of the same moment, once known.
    pub(super) fn match_deltas(&mut self, at_ms: u64, name: &str) {
        let rendition = self.rendition(name);
        let mut judged = Vec::new();
        rendition.waiting_deltas.retain(|delta| {
            let same = |v: &&MediaPlaylist| {
                v.last() == delta.update.last()
                    && v.media_sequence == delta.update.media_sequence
                    && v.ended == delta.update.ended
                    && v.part_hint == delta.update.part_hint
            };
            match rendition.versions.iter().find(same) {
                Some(whole) => judged.push((delta.clone(), whole.clone())),
                None => return true,
            }
            false
        });
        for (delta, whole) in judged {
            self.judge_delta(at_ms, name, &delta, &whole);
        }
    }

    fn judge_delta(&mut self, at_ms: u64, name: &str, delta: &Delta, whole: &MediaPlaylist) {
        let update = &delta.update;
        let Some(boundary_us) = whole.control.as_ref().and_then(|c| c.can_skip_until_us) else {
            return;
        };
        let mut to_edge = whole.open_us();
        let mut skippable = 0u64;
        for segment in whole.segments.iter().rev() {
            skippable += u64::from(to_edge > boundary_us);
            to_edge = to_edge.saturating_add(segment.duration_us);
        }
        if update.skipped == 0 {
            // One segment at the boundary is a matter of rounding.
            if skippable > 1 && !update.ended {
                let detail = format!("{skippable} segments could be skipped, none is");
                self.find(at_ms, Rule::DeltaMissing, name, detail);
            }
            return;
        }
        let problem = match apply_delta(&delta.base, update) {
            Err(problem) => Some(problem),
            Ok(_) if update.skipped > skippable + 1 => Some(format!(
                "it skips {} segments, {skippable} are before the skip boundary",
                update.skipped
            )),
            Ok(rebuilt) => delta_difference(&rebuilt, whole),
        };
        if let Some(problem) = problem {
            self.find(at_ms, Rule::DeltaDiffers, name, problem);
        }
    }

    /// The answer to a probe.
    pub(crate) fn handle_probe(
        &mut self,
        at_ms: u64,
        name: &str,
        probe: &Probe,
        meta: &Meta,
        text: &str,
    ) {
        let status = meta.status;
        match probe {
            Probe::BadQuery(query) => {
                // What was far ahead when the question was thought of may be there by now.
                let has_come = status == 200
                    && asked_msn(query).is_some_and(|msn| {
                        parse_media(text).is_ok_and(|now| now.open_msn() >= msn)
                    });
                if status != 400 && !has_come {
                    let detail = format!("?{query} is answered {status}");
                    self.suspect(at_ms, Rule::QueryNotRefused, name, detail);
                }
            }
            Probe::OldMsn(query) => {
                if status != 200 || parse_media(text).is_err() {
                    let detail = format!("?{query} is answered {status}");
                    self.suspect(at_ms, Rule::OldMsnRefused, name, detail);
                }
            }
            Probe::PartOverflow(query) => {
                if status != 200 || parse_media(text).is_err() {
                    let detail = format!("?{query} is answered {status}");
                    self.suspect(at_ms, Rule::PartOverflowRefused, name, detail);
                }
            }
            Probe::UnknownUrl(url) => {
                if status != 404 {
                    let detail = format!("{url} is answered {status}");
                    self.suspect(at_ms, Rule::UnknownUrlAnswered, name, detail);
                }
                self.check_error(at_ms, name, meta, url);
            }
        }
    }

    /// Headers of a playlist that was answered 200.
    pub(crate) fn check_playlist_headers(
        &mut self,
        at_ms: u64,
        name: &str,
        meta: &Meta,
        reload: Reload,
    ) {
        let kind = meta.content_type.as_deref().unwrap_or("none").to_ascii_lowercase();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !["application/vnd.apple.mpegurl", "audio/mpegurl"].contains(&kind) {
            let detail = format!("Content-Type is {kind}");
            self.find_once(at_ms, Rule::PlaylistContentType, name, kind, detail);
        }
        self.check_cors(at_ms, name, meta, "a playlist");
        let wanted_s = match reload {
            Reload::Plain => 1,
            Reload::Blocking { target_us } => 6 * target_us / 1_000_000,
        };
        let control = meta.cache_control.as_deref().unwrap_or("none");
        let max_age = directives(control).find_map(|d| d.strip_prefix("max-age=")?.parse().ok());
        if max_age != Some(wanted_s) {
            let what = if reload == Reload::Plain { "a plain" } else { "a blocking" };
            let detail = format!(
                "{what} reload's Cache-Control is {control:?}, max-age={wanted_s} was expected"
            );
            let key = format!("{what} {control}");
            self.find_once(at_ms, Rule::PlaylistCacheControl, name, &key, detail);
        }
    }

    /// An answer to a request that accepts gzip.
    pub(crate) fn check_gzip(&mut self, at_ms: u64, name: &str, meta: &Meta, readable: bool) {
        let encoded = meta.content_encoding.as_deref() == Some("gzip") && readable;
        let varies = meta.vary.as_deref().unwrap_or("").to_ascii_lowercase();
        if !encoded || !varies.contains("accept-encoding") {
            let detail = format!(
                "Content-Encoding is {}, Vary {}, {}",
                meta.content_encoding.as_deref().unwrap_or("none"),
                meta.vary.as_deref().unwrap_or("none"),
                if readable { "readable" } else { "not readable" }
            );
            self.find_once(at_ms, Rule::PlaylistGzip, name, "", detail);
        }
    }

    /// Headers of media or an init segment that was answered 200 or 206.
    pub(crate) fn check_media_headers(&mut self, at_ms: u64, name: &str, uri: &str, meta: &Meta) {
        let control = meta.cache_control.as_deref().unwrap_or("none");
        let has = |wanted: &str| directives(control).any(|d| d.eq_ignore_ascii_case(wanted));
        if !(has("public") && has("max-age=31536000") && has("immutable")) {
            let detail = format!("{uri}: Cache-Control is {control:?}");
            self.find_once(at_ms, Rule::MediaCacheControl, name, control, detail);
        }
        let kind = meta.content_type.as_deref().unwrap_or("none");
        if kind != "video/mp4" && (kind != "audio/mp4" || self.is_video(name)) {
            let detail = format!("{uri}: Content-Type is {kind}");
            self.find_once(at_ms, Rule::MediaContentType, name, kind, detail);
        }
        if !is_strong_etag(meta) {
            let detail = format!("{uri}: ETag is {}", meta.etag.as_deref().unwrap_or("missing"));
            self.find_once(at_ms, Rule::MediaEtag, name, "strong", detail);
        }
        self.check_cors(at_ms, name, meta, uri);
    }

    /// The answer to `If-None-Match` with the tag that the resource has.
    pub(crate) fn check_not_modified(&mut self, at_ms: u64, name: &str, uri: &str, meta: &Meta) {
        if meta.status != 304 {
            let detail = format!("{uri}: If-None-Match is answered {}", meta.status);
            self.find_once(at_ms, Rule::MediaEtag, name, "304", detail);
        }
    }

    /// The answer to a byte range; `length` is how many bytes came, `whole` how many there are.
    pub(crate) fn check_range(
        &mut self,
        at_ms: u64,
        name: &str,
        uri: &str,
        wanted: (u64, u64),
        got: (&Meta, u64),
    ) {
        let (meta, length) = got;
        let range = format!("bytes {}-{}/", wanted.0, wanted.1);
        let right = meta.content_range.as_deref().is_some_and(|r| r.starts_with(&range));
        if meta.status != 206 || !right || length != wanted.1 - wanted.0 + 1 {
            let detail = format!(
                "{uri}: bytes {}-{} are answered {}, Content-Range {}, {length} bytes",
                wanted.0,
                wanted.1,
                meta.status,
                meta.content_range.as_deref().unwrap_or("none")
            );
            self.find_once(at_ms, Rule::MediaRange, name, "range", detail);
        }
    }

    /// The answer to a byte range past the end.
    pub(crate) fn check_unsatisfiable(&mut self, at_ms: u64, name: &str, uri: &str, meta: &Meta) {
        if meta.status != 416 {
            let detail = format!("{uri}: a range past the end is answered {}", meta.status);
            self.find_once(at_ms, Rule::MediaRange, name, "416", detail);
        }
    }

    /// Something listed could not be fetched, although it was still listed when it was asked for.
    pub(crate) fn handle_missing(&mut self, at_ms: u64, name: &str, uri: &str, meta: &Meta) {
        let detail = format!("{uri} is answered {}", meta.status);
        self.suspect(at_ms, Rule::ListedUriMissing, name, detail);
        self.check_error(at_ms, name, meta, uri);
    }

    /// A playlist that the multivariant playlist lists could not be fetched at first.
    pub(crate) fn handle_playlist_missing(&mut self, at_ms: u64, name: &str, meta: &Meta) {
        self.check_error(at_ms, name, meta, "a playlist");
        let detail = format!("answered {}", meta.status);
        self.suspect(at_ms, Rule::ListedPlaylistMissing, name, detail);
    }

    /// A segment whose line has gone was asked for while it must still be served.
    pub(crate) fn handle_evicted(&mut self, at_ms: u64, name: &str, what: &Dropped, meta: &Meta) {
        if meta.status != 200 && meta.status != 206 && at_ms < what.fetchable_until_ms {
            let detail = format!(
                "segment {} is answered {}, {:.1} s before it may go",
                what.msn,
                meta.status,
                (what.fetchable_until_ms - at_ms) as f64 / 1e3
            );
            self.suspect(at_ms, Rule::EvictedTooEarly, name, detail);
        }
    }

    /// The hinted URL was answered; judged when its part is listed, for only then was it owed.
    pub(crate) fn handle_hint_failed(
        &mut self,
        at_ms: u64,
        name: &str,
        resource: &Resource,
        meta: &Meta,
    ) {
        self.check_error(at_ms, name, meta, &resource.uri);
        let detail = format!("{} is answered {}, then listed", resource.uri, meta.status);
        self.suspect(at_ms, Rule::PreloadHintUnanswered, name, detail);
    }

    /// A hinted part's bytes were complete at `complete_ms` and it was listed at `listed_ms`.
    pub(crate) fn handle_listed(
        &mut self,
        name: &str,
        uri: &str,
        complete_ms: u64,
        listed_ms: u64,
    ) {
        let Some(target_us) = self.playlist(name).and_then(|p| p.part_target_us) else { return };
        let late_ms = listed_ms.saturating_sub(complete_ms);
        if late_ms > target_us / 1000 + self.limits.slack_ms {
            let detail = format!("{uri} was complete {:.2} s earlier", late_ms as f64 / 1e3);
            self.suspect(listed_ms, Rule::PartListedLate, name, detail);
        }
    }

    fn check_error(&mut self, at_ms: u64, name: &str, meta: &Meta, what: &str) {
        if !matches!(meta.status, 404 | 410 | 503) {
            return;
        }
        let control = meta.cache_control.as_deref().unwrap_or("none");
        if !directives(control).any(|d| d.eq_ignore_ascii_case("no-store")) {
            let detail = format!("{what}: {} with Cache-Control {control:?}", meta.status);
            let key = format!("{} {control}", meta.status);
            self.find_once(at_ms, Rule::ErrorCacheable, name, &key, detail);
        }
    }

    fn check_cors(&mut self, at_ms: u64, name: &str, meta: &Meta, what: &str) {
        if meta.allow_origin.as_deref() != Some("*") {
            let origin = meta.allow_origin.as_deref().unwrap_or("missing");
            let detail = format!("{what}: Access-Control-Allow-Origin is {origin}");
            self.find_once(at_ms, Rule::Cors, name, what_kind(what), detail);
        }
    }
}

/// Whether the answer has an ETag that is not weak.
pub(crate) fn is_strong_etag(meta: &Meta) -> bool {
    meta.etag.as_deref().is_some_and(|e| e.len() > 2 && e.starts_with('"') && e.ends_with('"'))
}

impl Outage {
    /// For how long connections were refused.
    pub(crate) fn length_ms(&self) -> u64 {
        self.to_ms.saturating_sub(self.from_ms)
    }
}

/// The segment that a query asks for, if it is a number.
fn asked_msn(query: &str) -> Option<u64> {
    let msn = query.split('&').find_map(|pair| pair.strip_prefix("_HLS_msn="))?;
    msn.parse().ok()
}

fn what_kind(what: &str) -> &str {
    if what == "a playlist" { what } else { "media" }
}

fn directives(control: &str) -> impl Iterator<Item = &str> {
    control.split(',').map(str::trim)
}

fn delta_difference(rebuilt: &MediaPlaylist, whole: &MediaPlaylist) -> Option<String> {
    if (rebuilt.target_us, rebuilt.media_sequence, rebuilt.discontinuity_sequence)
        != (whole.target_us, whole.media_sequence, whole.discontinuity_sequence)
    {
        return Some("its target duration or sequence numbers differ from the playlist's".into());
    }
    if rebuilt.segments.len() != whole.segments.len() {
        let (ours, theirs) = (rebuilt.segments.len(), whole.segments.len());
        return Some(format!("with it there are {ours} segments, in the playlist {theirs}"));
    }
    let pair = rebuilt.segments.iter().zip(&whole.segments).find(|(a, b)| {
        !a.same_meaning(b)
            || a.discontinuity_number != b.discontinuity_number
            || (!a.parts.is_empty() && a.parts != b.parts)
    });
    if let Some((ours, theirs)) = pair {
        return Some(format!("segment {} differs: {ours:?}, not {theirs:?}", theirs.msn));
    }
    (rebuilt.open != whole.open).then(|| "the segment in progress differs".into())
}
