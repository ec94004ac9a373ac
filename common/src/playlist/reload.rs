//! Blocking playlist reload: what a query asks for, and whether to answer now, wait or refuse
//! (RFC 8216bis §6.2.5).

use crate::id::Msn;
use crate::window::RenditionWindow;

/// What a playlist request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// Wait until this segment (`_HLS_msn`), and part of it (`_HLS_part`), is there.
    pub until: Option<(Msn, Option<u16>)>,
    /// A delta update is welcome (`_HLS_skip=YES` or `v2`).
    pub skip: bool,
}

/// Why a query is refused with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Not a decimal number below 2^63.
    #[error("{0} is not a number that a playlist can have")]
    Number(&'static str),
    /// `_HLS_part` without `_HLS_msn`.
    #[error("_HLS_part needs _HLS_msn")]
    PartAlone,
    /// The same directive twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// Too far in the future to wait for.
    #[error("that segment or part is too far in the future")]
    TooFar,
}

/// How to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With the current playlist.
    Now,
    /// With the first playlist that has this part, or anything later. `None` as part: with the
    /// first in which that segment is whole.
    Wait(Msn, Option<u16>),
}

/// Segments that may be asked for beyond the last one (RFC 8216bis §6.2.5.2).
const MSN_AHEAD_MAX: u64 = 2;

/// Seconds that a part asked for may lie beyond the last one, divided by the part target: the
/// Advance Part Limit (RFC 8216bis §6.2.5.2).
const ADVANCE_US: u32 = 3_000_000;

impl Reload {
    /// Reads the delivery directives of a query string; other parameters are ignored.
    ///
    /// # Errors
    /// When a directive is malformed.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        let (mut msn, mut part, mut skip) = (None, None, None);
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "_HLS_msn" => set(&mut msn, "_HLS_msn", number(value, "_HLS_msn")?)?,
                "_HLS_part" => set(&mut part, "_HLS_part", number(value, "_HLS_part")?)?,
                "_HLS_skip" => set(&mut skip, "_HLS_skip", value == "YES" || value == "v2")?,
                _ => {}
            }
        }
        let until = match (msn, part) {
            (None, Some(_)) => return Err(QueryError::PartAlone),
            (None, None) => None,
            // Parts are counted in 16 bits; what is beyond is too far in any case.
            (Some(msn), part) => {
                Some((Msn(msn), part.map(|p| u16::try_from(p).unwrap_or(u16::MAX))))
            }
        };
        Ok(Self { until, skip: skip.unwrap_or(false) })
    }
}

fn set<T>(slot: &mut Option<T>, what: &'static str, value: T) -> Result<(), QueryError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(QueryError::Twice(what)),
    }
}

fn number(text: &str, what: &'static str) -> Result<u64, QueryError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = text.parse::<u64>().ok().filter(|v| digits && *v < 1 << 63);
    value.ok_or(QueryError::Number(what))
}

/// Decides how to answer a request for the playlist of `rendition`.
///
/// # Errors
/// [`QueryError::TooFar`] when what it asks for is beyond the limits.
pub fn answer(
    rendition: &RenditionWindow,
    part_target_us: u32,
    reload: Reload,
) -> Result<Answer, QueryError> {
    let Some((msn, part)) = reload.until else { return Ok(Answer::Now) };
    if rendition.ended() {
        return Ok(Answer::Now);
    }
    let (next_msn, next_part) = rendition.next_part();
    // The newest segment, whole or not; before the first one nothing may be waited for but it.
    let last = next_msn.0.saturating_sub(u64::from(next_part == 0));
    if msn.0 > last.saturating_add(MSN_AHEAD_MAX) {
        return Err(QueryError::TooFar);
    }
    let limit = ADVANCE_US.div_ceil(part_target_us.max(1));
    if let Some(part) = part {
        let from = if msn == next_msn { u32::from(next_part) } else { 0 };
        if msn >= next_msn && u32::from(part) >= from + limit {
            return Err(QueryError::TooFar);
        }
    }
    Ok(if reached(rendition, msn, part) { Answer::Now } else { Answer::Wait(msn, part) })
}

/// Whether the playlist already has what was asked for. A part past the end of a whole segment
/// means the first of the next.
pub fn reached(rendition: &RenditionWindow, msn: Msn, part: Option<u16>) -> bool {
    let (next_msn, next_part) = rendition.next_part();
    match part {
        _ if rendition.ended() => true,
        None => msn < next_msn,
        Some(part) if msn == next_msn => part < next_part,
        Some(part) if msn < next_msn => {
            let whole = rendition.segment(msn).map_or(u16::MAX, |s| s.parts.len() as u16);
            part < whole || msn.next() < next_msn || next_part > 0
        }
        Some(_) => false,
    }
}
