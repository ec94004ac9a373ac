//! The pages, built into the binary.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, StatusCode};
use rust_embed::RustEmbed;

use crate::origin::headers::accepts_gzip;
use crate::store::live::gzip;

/// What the page's build made. `scripts/setup.sh` and the Makefile see to it that it is there.
#[derive(RustEmbed)]
#[folder = "../viewer-web/dist"]
struct Dist;

/// Only our own scripts and styles, none of them inline; media through blobs; nothing from third
/// parties.
const POLICY: &str = "default-src 'self'; media-src 'self' blob:; img-src 'self' data: blob:; \
     connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; form-action 'self'";

/// Names with a hash in them never change their content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Every page and its assets.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(|h| page("index.html", Framing::Own, h)))
        .route("/watch/{stream}", get(|h| page("watch.html", Framing::Own, h)))
        .route("/embed/{stream}", get(|h| page("embed.html", Framing::Anyone, h)))
        .route("/studio", get(|h| page("studio.html", Framing::Own, h)))
        .route("/assets/{*path}", get(asset))
        .fallback(get(other))
}

/// Who may show a page in a frame.
#[derive(Clone, Copy)]
enum Framing {
    Own,
    Anyone,
}

async fn page(name: &str, framing: Framing, request: HeaderMap) -> Response {
    let mut response = file(name, "no-cache", &request);
    let headers = response.headers_mut();
    let policy = match framing {
        Framing::Own => {
            headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
            format!("{POLICY}; frame-ancestors 'self'")
        }
        Framing::Anyone => format!("{POLICY}; frame-ancestors *"),
    };
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

async fn asset(Path(path): Path<String>, request: HeaderMap) -> Response {
    file(&format!("assets/{path}"), IMMUTABLE, &request)
}

/// Icons and manifests at the root; everything else is not there.
async fn other(uri: http::Uri, request: HeaderMap) -> Response {
    match uri.path().trim_start_matches('/') {
        path if !path.ends_with(".html") => file(path, "public, max-age=3600", &request),
        _ => not_found(),
    }
}

fn file(name: &str, cache: &'static str, request: &HeaderMap) -> Response {
    let Some(file) = Dist::get(name) else { return not_found() };
    let kind = mime_guess::from_path(name).first_or_octet_stream();
    let mut headers = HeaderMap::new();
    if let Ok(kind) = HeaderValue::from_str(kind.as_ref()) {
        headers.insert(CONTENT_TYPE, kind);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    // Pictures are compressed already.
    let worth = kind.type_() != mime_guess::mime::IMAGE || kind.subtype() == "svg";
    let bytes = if worth && accepts_gzip(request) {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        zipped(name, &file.data)
    } else {
        match file.data {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => bytes.into(),
        }
    };
    (headers, Body::from(bytes)).into_response()
}

/// The file compressed, once. There are as many as were built in.
fn zipped(name: &str, data: &[u8]) -> Bytes {
    static ZIPPED: Mutex<BTreeMap<String, Bytes>> = Mutex::new(BTreeMap::new());
    let mut known = ZIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(name.to_owned()).or_insert_with(|| gzip(data, Compression::best())).clone()
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, [(CACHE_CONTROL, "no-store")], "not found\n").into_response()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use http::header::ACCEPT_ENCODING;

    use super::*;

    #[tokio::test]
    async fn scripts_are_compressed_for_those_who_accept_it_and_stay_the_same() {
        let name = Dist::iter().find(|name| name.ends_with(".js")).expect("a script");
        let mut request = HeaderMap::new();
        let plain = file(&name, IMMUTABLE, &request);
        request.insert(ACCEPT_ENCODING, HeaderValue::from_static("br, gzip"));
        let zipped = file(&name, IMMUTABLE, &request);
        assert_eq!(plain.headers().get(CONTENT_ENCODING), None);
        assert_eq!(zipped.headers()[CONTENT_ENCODING], "gzip");
        let [plain, zipped] =
            [plain, zipped].map(|r| axum::body::to_bytes(r.into_body(), usize::MAX));
        let (plain, zipped) = (plain.await.expect("a body"), zipped.await.expect("a body"));
        assert!(zipped.len() < plain.len());
        let mut unzipped = Vec::new();
        flate2::read::GzDecoder::new(&zipped[..]).read_to_end(&mut unzipped).expect("gzip");
        assert!(plain == unzipped);
    }
}
