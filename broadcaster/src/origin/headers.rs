//! Response headers, and the request headers that matter for media (hls.md 'Headers').

use std::ops::Range;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue, IF_NONE_MATCH, RANGE, VARY,
};
use http::{HeaderMap, StatusCode};

use super::{Body, Response};
use crate::store::live::Text;
use crate::store::ring::StoredSegment;

const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const ANY: HeaderValue = HeaderValue::from_static("*");
const PLAYLIST: HeaderValue = HeaderValue::from_static("application/vnd.apple.mpegurl");
const MP4: HeaderValue = HeaderValue::from_static("video/mp4");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EXPOSED: HeaderValue = HeaderValue::from_static("Content-Length, Content-Range, Date, ETag");

/// A response with CORS open for reading, which holds for everything below `/live/`.
fn open(status: StatusCode, body: Body) -> Response {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    response
}

/// A response that must not be kept, with one line of text.
pub fn refused(status: StatusCode, why: &str) -> Response {
    let mut response = open(status, Body::from(Bytes::from(format!("{why}\n"))));
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// There is no such thing, which may change at any moment.
pub fn not_found() -> Response {
    refused(StatusCode::NOT_FOUND, "not found")
}

/// The answer to a CORS preflight.
pub fn preflight() -> Response {
    let mut response = open(StatusCode::NO_CONTENT, Body::empty());
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Range"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

/// A playlist that may be kept for `max_age_s` seconds.
pub fn playlist(text: &Text, request: &HeaderMap, max_age_s: u64) -> Response {
    let zipped = accepts_gzip(request);
    let bytes = if zipped { text.gzip() } else { text.plain() };
    let mut response = open(StatusCode::OK, bytes.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, PLAYLIST);
    headers.insert(CACHE_CONTROL, max_age(max_age_s));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if zipped {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// A JSON document that must not be kept.
pub fn json(bytes: Bytes) -> Response {
    let mut response = open(StatusCode::OK, bytes.into());
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

/// A picture that changes every few seconds.
pub fn jpeg(bytes: Bytes) -> Response {
    let mut response = open(StatusCode::OK, bytes.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    response.headers_mut().insert(CACHE_CONTROL, max_age(5));
    response
}

/// Immutable media, whole or the range that was asked for. `name` is unique for ever and so is
/// the entity tag made of it.
pub fn media(stored: StoredSegment, name: &str, request: &HeaderMap) -> Response {
    let etag = format!("\"{name}\"");
    if request.get_all(IF_NONE_MATCH).iter().any(|v| matches_etag(v, &etag)) {
        let mut response = open(StatusCode::NOT_MODIFIED, Body::empty());
        immutable(response.headers_mut(), &etag);
        return response;
    }
    let StoredSegment { parts, file } = stored;
    let len = parts.iter().map(|p| p.len() as u64).sum();
    let mut response = match requested_range(request, len) {
        Asked::Whole => {
            let pieces = parts.into_iter().collect();
            open(
                StatusCode::OK,
                match file {
                    Some(file) => Body::Filed(pieces, file),
                    None => Body::Shared(pieces),
                },
            )
        }
        Asked::Part(range) => {
            let value = format!("bytes {}-{}/{len}", range.start, range.end - 1);
            let mut response = open(StatusCode::PARTIAL_CONTENT, Body::pieces(cut(parts, range)));
            insert(response.headers_mut(), CONTENT_RANGE, &value);
            response
        }
        Asked::Nothing => {
            let mut response = refused(StatusCode::RANGE_NOT_SATISFIABLE, "no such range");
            insert(response.headers_mut(), CONTENT_RANGE, &format!("bytes */{len}"));
            return response;
        }
    };
    immutable(response.headers_mut(), &etag);
    response.headers_mut().insert(CONTENT_TYPE, MP4);
    response
}

/// Turns an answer to `GET` into the answer to `HEAD`.
pub fn without_body(response: &mut Response) {
    let len = http_body::Body::size_hint(response.body()).exact().unwrap_or(0);
    *response.body_mut() = Body::Absent(len);
    response.headers_mut().insert(CONTENT_LENGTH, len.into());
}

fn immutable(headers: &mut HeaderMap, etag: &str) {
    headers.insert(CACHE_CONTROL, IMMUTABLE);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    insert(headers, ETAG, etag);
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn max_age(seconds: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("public, max-age={seconds}")).unwrap_or(NO_STORE)
}

fn matches_etag(value: &HeaderValue, etag: &str) -> bool {
    let listed = value.to_str().unwrap_or_default().split(',');
    listed.map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == etag || tag == "*")
}

/// Whether the client takes gzip.
pub fn accepts_gzip(request: &HeaderMap) -> bool {
    let accepted = request.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    accepted.flat_map(|v| v.split(',')).any(|coding| {
        let mut words = coding.split(';').map(str::trim);
        let named = matches!(words.next(), Some("gzip" | "*"));
        named && words.all(|w| w != "q=0" && w != "q=0.0")
    })
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    Part(Range<u64>),
    Nothing,
}

/// One range is answered; a malformed header, or several ranges, get the whole (RFC 9110 §14.2
/// allows to ignore the header, which keeps many overlapping ranges from growing the answer).
fn requested_range(request: &HeaderMap, len: u64) -> Asked {
    let Some(value) = request.get(RANGE).and_then(|v| v.to_str().ok()) else {
        return Asked::Whole;
    };
    let Some((first, last)) = value.strip_prefix("bytes=").and_then(|v| v.trim().split_once('-'))
    else {
        return Asked::Whole;
    };
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(len),
        (Ok(first), Err(_)) if last.is_empty() => first..len,
        (Err(_), Ok(suffix)) if first.is_empty() => len - suffix.min(len)..len,
        _ => return Asked::Whole,
    };
    if range.start >= range.end { Asked::Nothing } else { Asked::Part(range) }
}

/// The bytes of `range`, sharing the parts' memory.
fn cut(parts: Vec<Bytes>, range: Range<u64>) -> impl Iterator<Item = Bytes> {
    let mut at = 0;
    parts.into_iter().filter_map(move |part| {
        let len = part.len() as u64;
        let (from, to) = (range.start.clamp(at, at + len) - at, range.end.clamp(at, at + len) - at);
        at += len;
        (from < to).then(|| part.slice(from as usize..to as usize))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range: &'static str) -> Asked {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static(range));
        requested_range(&headers, 10)
    }

    #[test]
    fn single_ranges_are_cut_to_what_is_there_and_the_rest_is_refused_or_ignored() {
        assert_eq!(asked("bytes=2-4"), Asked::Part(2..5));
        assert_eq!(asked("bytes=8-99"), Asked::Part(8..10));
        assert_eq!(asked("bytes=8-"), Asked::Part(8..10));
        assert_eq!(asked("bytes=-3"), Asked::Part(7..10));
        assert_eq!(asked("bytes=-99"), Asked::Part(0..10));
        assert_eq!(asked("bytes=-0"), Asked::Nothing);
        assert_eq!(asked("bytes=10-"), Asked::Nothing);
        assert_eq!(asked("bytes=0-18446744073709551615"), Asked::Part(0..10));
        for whole in ["bytes=4-2", "bytes=0-1,2-3", "items=0-1", "bytes=a-b", "bytes=-"] {
            assert_eq!(asked(whole), Asked::Whole, "{whole}");
        }
    }

    #[test]
    fn a_range_over_several_chunks_shares_their_memory() {
        let chunks = vec![Bytes::from_static(b"abcd"), Bytes::from_static(b"efgh")];
        let cut: Vec<_> = cut(chunks, 2..7).collect();
        assert_eq!(cut, [&b"cd"[..], &b"efg"[..]]);
    }

    #[test]
    fn gzip_is_sent_only_to_those_who_accept_it() {
        let accepts = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
            accepts_gzip(&headers)
        };
        assert!(accepts("gzip, deflate, br") && accepts("br;q=1, gzip;q=0.5") && accepts("*"));
        assert!(!accepts("br") && !accepts("gzip;q=0") && !accepts_gzip(&HeaderMap::new()));
    }
}
