//! The pages, built into the binary.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, StatusCode};
use rust_embed::RustEmbed;

/// What the page's build made. `scripts/setup.sh` and the Makefile see to it that it is there.
#[derive(RustEmbed)]
#[folder = "../viewer-web/dist"]
struct Dist;

/// Only our own scripts and styles; media through blobs; nothing from third parties.
const POLICY: &str = "default-src 'self'; media-src 'self' blob:; img-src 'self' data: blob:; \
     style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; connect-src 'self' ws: wss:; \
     object-src 'none'; base-uri 'none'; form-action 'self'";

/// Names with a hash in them never change their content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Every page and its assets.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(|| page("index.html", Framing::Own)))
        .route("/watch/{stream}", get(|| page("watch.html", Framing::Own)))
        .route("/embed/{stream}", get(|| page("embed.html", Framing::Anyone)))
        .route("/studio", get(|| page("studio.html", Framing::Own)))
        .route("/assets/{*path}", get(asset))
        .fallback(get(other))
}

/// Who may show a page in a frame.
#[derive(Clone, Copy)]
enum Framing {
    Own,
    Anyone,
}

async fn page(name: &str, framing: Framing) -> Response {
    let mut response = file(name, "no-cache");
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

async fn asset(Path(path): Path<String>) -> Response {
    file(&format!("assets/{path}"), IMMUTABLE)
}

/// Icons and manifests at the root; everything else is not there.
async fn other(uri: http::Uri) -> Response {
    match uri.path().trim_start_matches('/') {
        path if !path.ends_with(".html") => file(path, "public, max-age=3600"),
        _ => not_found(),
    }
}

fn file(name: &str, cache: &'static str) -> Response {
    let Some(file) = Dist::get(name) else { return not_found() };
    let kind = mime_guess::from_path(name).first_or_octet_stream();
    let mut headers = HeaderMap::new();
    if let Ok(kind) = HeaderValue::from_str(kind.as_ref()) {
        headers.insert(CONTENT_TYPE, kind);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    (headers, Body::from(file.data.into_owned())).into_response()
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, [(CACHE_CONTROL, "no-store")], "not found\n").into_response()
}
