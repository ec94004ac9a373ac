//! Answers to playlist requests, blocking reload included (RFC 8216bis §6.2.5).

use std::sync::Arc;
use std::time::Duration;

use common::id::RenditionId;
use common::playlist::{Answer, QueryError, Reload, answer, reached};
use http::{HeaderMap, StatusCode};
use tokio::sync::watch;

use super::{Response, headers};
use crate::store::live::{LiveStream, Snapshot};

/// A playlist asked for without waiting may be a second old.
const PLAIN_MAX_AGE_S: u64 = 1;

/// A blocked answer stays true for its address; kept this many target durations (hls.md).
const BLOCKING_MAX_AGE_TARGETS: u64 = 6;

/// A request blocks for this many target durations at most (RFC 8216bis §6.2.5.2).
const BLOCK_TARGETS: u32 = 3;

/// A quality that is made on demand is there within this time, or not at all: the next segment
/// begins it, at most 6 s from now, and its first part follows.
const WAKE_MAX: Duration = Duration::from_secs(9);

/// The multivariant playlist.
pub(super) fn master(live: &LiveStream, request: &HeaderMap) -> Response {
    match live.master() {
        Some(text) => headers::playlist(&text, request, PLAIN_MAX_AGE_S),
        None => headers::not_found(),
    }
}

/// A media playlist, at once or when it has what is asked for.
pub(super) async fn media(
    live: &LiveStream,
    id: &RenditionId,
    query: &str,
    request: &HeaderMap,
) -> Response {
    let reload = match Reload::parse(query) {
        Ok(reload) => reload,
        Err(error) => return bad_request(&error),
    };
    let rendition = match live.rendition(id) {
        Some(rendition) => rendition,
        None if live.on_call(id).is_some() => {
            let appears = tokio::time::timeout(WAKE_MAX, live.appearance(id));
            let appeared = tokio::select! {
                biased;
                appeared = appears => appeared,
                () = live.released() => Ok(None),
            };
            match appeared {
                Ok(Some(rendition)) => rendition,
                _ => return headers::refused(StatusCode::SERVICE_UNAVAILABLE, "it does not start"),
            }
        }
        None => return headers::not_found(),
    };
    let newest = rendition.newest();
    let (msn, part) = match answer(&newest.window, newest.part_target_us, reload) {
        Err(error) => return bad_request(&error),
        Ok(Answer::Now) => return respond(&newest, reload, request),
        Ok(Answer::Wait(msn, part)) => (msn, part),
    };
    let target = Duration::from_secs(newest.target_duration_s.into());
    drop(newest);
    let mut versions = rendition.follow();
    drop(rendition);
    let there =
        async { versions.wait_for(|s| reached(&s.window, msn, part)).await.map(|s| s.clone()) };
    let there = tokio::select! {
        biased;
        there = tokio::time::timeout(target * BLOCK_TARGETS, there) => there.map(Some),
        () = live.released() => Ok(None),
    };
    let there = there.map(Option::transpose);
    let unchanged = |versions: &watch::Receiver<Arc<Snapshot>>| {
        respond(&versions.borrow().clone(), Reload { until: None, ..reload }, request)
    };
    match there {
        Ok(Ok(Some(snapshot))) => respond(&snapshot, reload, request),
        Ok(Ok(None)) => unchanged(&versions),
        // The rendition has gone while we waited.
        Ok(Err(_)) => headers::not_found(),
        Err(_) if live.in_grace() => unchanged(&versions),
        Err(_) => headers::refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "the stream has not gone on for three target durations",
        ),
    }
}

fn respond(snapshot: &Snapshot, reload: Reload, request: &HeaderMap) -> Response {
    let text = if reload.skip { snapshot.delta() } else { &snapshot.full };
    let max_age_s = match reload.until {
        None => PLAIN_MAX_AGE_S,
        Some(_) => BLOCKING_MAX_AGE_TARGETS * u64::from(snapshot.target_duration_s),
    };
    headers::playlist(text, request, max_age_s)
}

fn bad_request(error: &QueryError) -> Response {
    headers::refused(StatusCode::BAD_REQUEST, &error.to_string())
}
