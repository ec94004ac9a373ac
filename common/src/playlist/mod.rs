//! Playlists derived from the live window: Low-Latency HLS (RFC 8216bis) written the same way at
//! the origin and in the browser, and the rules for answering blocking reloads.

mod media;
mod multivariant;
mod reload;

use crate::id::{Msn, RenditionId, SessionNumber};

pub use media::date_time;
pub use media::{Media, Report};
pub use multivariant::{Variant, multivariant};
pub use reload::{Answer, QueryError, Reload, answer, reached};

/// Path of a part, relative to a stream's media root (`/live/{stream}/`).
pub fn part_path(session: SessionNumber, rendition: &RenditionId, msn: Msn, part: u16) -> String {
    format!("{session}/{rendition}/{msn}.{part}.m4s")
}

/// Path of a segment, relative to a stream's media root.
pub fn segment_path(session: SessionNumber, rendition: &RenditionId, msn: Msn) -> String {
    format!("{session}/{rendition}/{msn}.m4s")
}

/// Path of an init segment, relative to a stream's media root.
pub fn init_path(session: SessionNumber, rendition: &RenditionId, init_number: u16) -> String {
    format!("{session}/{rendition}/init-{init_number}.mp4")
}

/// Seconds with six decimals, exact for microseconds.
fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
mod tests;
