//! Answers to requests for media.

use std::time::Duration;

use common::id::{Msn, RenditionId, SessionNumber};
use common::playlist::{init_path, part_path, reached, segment_path};
use http::HeaderMap;

use super::{Response, headers};
use crate::store::live::LiveStream;

/// A hinted part is waited for this many target durations, like a blocked playlist.
const BLOCK_TARGETS: u32 = 3;

/// An init segment.
pub(super) fn init(
    live: &LiveStream,
    session: SessionNumber,
    id: &RenditionId,
    number: u16,
    request: &HeaderMap,
) -> Response {
    match live.ring.init(id, session, number) {
        Some(init) => headers::media(init.into(), &init_path(session, id, number), request),
        None => headers::not_found(),
    }
}

/// A whole segment: the parts that players know one by one, in one piece. One that is still
/// growing is not there yet, since its name would change its content.
pub(super) fn segment(
    live: &LiveStream,
    session: SessionNumber,
    id: &RenditionId,
    msn: Msn,
    request: &HeaderMap,
) -> Response {
    let growing = live.rendition(id).is_some_and(|r| {
        let newest = r.newest();
        newest.window.segment(msn).is_some_and(|s| !s.complete)
            || msn >= newest.window.next_part().0
    });
    let stored = live.ring.segment(id, session, msn);
    if stored.parts.is_empty() || growing {
        return headers::not_found();
    }
    headers::media(stored, &segment_path(session, id, msn), request)
}

/// One part. The one that the playlist hints at is waited for; any other unknown one is not
/// there.
pub(super) async fn part(
    live: &LiveStream,
    session: SessionNumber,
    id: &RenditionId,
    msn: Msn,
    part: u16,
    request: &HeaderMap,
) -> Response {
    let name = || part_path(session, id, msn, part);
    if let Some(bytes) = live.ring.part(id, session, msn, part) {
        return headers::media(bytes.into(), &name(), request);
    }
    let Some(rendition) = live.rendition(id) else { return headers::not_found() };
    let newest = rendition.newest();
    let hinted = newest.window.next_part() == (msn, part)
        && !newest.window.ended()
        && newest.window.segments().back().is_some_and(|s| s.session == session);
    if hinted {
        let target = Duration::from_secs(newest.target_duration_s.into());
        let mut versions = rendition.follow();
        drop((newest, rendition));
        let there = versions.wait_for(|snapshot| reached(&snapshot.window, msn, Some(part)));
        // Whatever ended the wait, the ring knows whether the part is there.
        tokio::select! {
            biased;
            _ = tokio::time::timeout(target * BLOCK_TARGETS, there) => {}
            () = live.released() => {}
        }
    }
    match live.ring.part(id, session, msn, part) {
        Some(bytes) => headers::media(bytes.into(), &name(), request),
        None => headers::not_found(),
    }
}
