//! `/api/v1`: what the operator sees and does. Every call needs the admin token; errors are
//! `{"error":{"code","message"}}` with the right status.

mod error;
mod health;
mod metrics;
mod resources;
mod streams;
mod view;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, StatusCode};
use subtle::ConstantTimeEq as _;

pub use error::ApiError;

use crate::ingest::rtmp::listener::ListenerCounters;
use crate::origin::Origin;
use crate::origin::serve::Counters;
use crate::origin::tls::Tls;
use crate::resource::monitor::Monitor;
use crate::store::spool::Spool;
use crate::supervise::governor::Governor;
use crate::supervise::registry::Registry;

/// Largest request body, in bytes: a stream with 32 rungs of its own is 4 KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A request's body may take this long (faults.md row 13).
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A wrong token costs this long, so that guessing is slow.
const WRONG_TOKEN_PAUSE: Duration = Duration::from_millis(300);

/// What the API works on.
#[derive(Debug)]
pub struct Api {
    /// Every stream.
    pub registry: Arc<Registry>,
    /// What is served.
    pub origin: Arc<Origin>,
    /// What is kept on disk.
    pub spool: Spool,
    /// What decides which qualities are made.
    pub governor: Arc<Governor>,
    /// What processes use.
    pub monitor: Arc<Monitor>,
    /// Viewers' connections.
    pub connections: Arc<Counters>,
    /// Encoders' connections.
    pub ingest: Arc<ListenerCounters>,
    /// The certificate, when we speak HTTPS.
    pub tls: Option<Tls>,
    /// The admin token.
    pub token: String,
    /// Where encoders publish, as shown to people: `rtmp://HOST:PORT/live`.
    pub ingest_port: u16,
    /// The host of `--public-url`, when given.
    pub public_host: Option<String>,
}

/// The API, for both listeners.
pub fn router(api: Arc<Api>) -> Router {
    let v1 = streams::router()
        .merge(resources::router())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(api.clone(), guard));
    Router::new()
        .nest("/api/v1", v1)
        .route("/streams.json", get(streams::listed))
        .route("/healthz", get(health::alive))
        .route("/healthz/{stream}/{rendition}", get(health::rendition))
        .route("/readyz", get(health::ready))
        .with_state(api)
}

/// What only the admin listener has.
pub fn admin_router(api: Arc<Api>) -> Router {
    Router::new().route("/metrics", get(metrics::metrics)).with_state(api)
}

async fn guard(
    State(api): State<Arc<Api>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if !api.knows_host(request.headers()) {
        return Err(ApiError::new(
            StatusCode::MISDIRECTED_REQUEST,
            "UNKNOWN_HOST",
            "this host name is not ours: call by address, or set --public-url",
        ));
    }
    if !api.is_admin(request.headers()) {
        tokio::time::sleep(WRONG_TOKEN_PAUSE).await;
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "UNAUTHORIZED",
            "send the admin token as: Authorization: Bearer TOKEN",
        ));
    }
    let has_body = http_body::Body::size_hint(request.body()).exact() != Some(0);
    let changes = [Method::POST, Method::PATCH].contains(request.method());
    if changes && has_body && !is_json(request.headers()) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "JSON_NEEDED",
            "send JSON, with Content-Type: application/json",
        ));
    }
    match tokio::time::timeout(BODY_TIMEOUT, next.run(request)).await {
        Ok(response) => Ok(response),
        Err(_) => {
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "TIMEOUT", "the request took too long"))
        }
    }
}

impl Api {
    fn is_admin(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
        let given = given.and_then(|v| v.strip_prefix("Bearer ")).unwrap_or_default();
        given.as_bytes().ct_eq(self.token.as_bytes()).into()
    }

    /// Names that anyone can point at us are refused, so that a page of theirs cannot speak in
    /// our name (DNS rebinding).
    fn knows_host(&self, headers: &HeaderMap) -> bool {
        // HTTP/2 has no Host header; such clients speak TLS with a name that we chose.
        let Some(host) = headers.get(HOST).and_then(|v| v.to_str().ok()) else { return true };
        let host = host_of(host);
        host.eq_ignore_ascii_case("localhost")
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
            || self.public_host.as_deref().is_some_and(|ours| host.eq_ignore_ascii_case(ours))
    }
}

/// The host without its port.
pub fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|k| k.trim().eq_ignore_ascii_case("application/json"))
}
