//! Liveness, readiness, and the health of one quality.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use common::id::{RenditionId, StreamName};
use http::StatusCode;
use serde_json::json;

use super::error::Named;
use super::view::QualityHealth;
use super::{Api, ApiError};
use crate::supervise::machine;

/// The process answers.
pub(super) async fn alive() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

/// New viewers and encoders are welcome. A spool that cannot write degrades, since live goes on.
/// Nobody is once the broadcaster goes down.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, Json<serde_json::Value>) {
    let (code, status) = match (api.registry.is_closing(), api.spool.degraded()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (false, true) => (StatusCode::OK, "degraded"),
        (false, false) => (StatusCode::OK, "ok"),
    };
    (code, Json(json!({ "status": status, "spool_degraded": api.spool.degraded() })))
}

/// One quality: 200 while it is live, 503 while it is not, 404 when there is none.
pub(super) async fn rendition(
    State(api): State<Arc<Api>>,
    Named((stream, rendition)): Named<(StreamName, RenditionId)>,
) -> Result<Response, ApiError> {
    let (entry, handle) = api.registry.get(&stream)?;
    let status = handle.status();
    let made = status.renditions.iter().find(|r| r.id == rendition);
    let made = made.ok_or_else(|| ApiError::not_found(format!("{stream} has no {rendition}")))?;
    let health = QualityHealth::of(&api, &entry, &status, made);
    let code = match (health.state, status.state) {
        ("live", machine::State::Live) => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let live = handle.served.live.rendition(&rendition);
    let newest = live.and_then(|live| live.newest().window.last_part());
    let body = json!({
        "state": status.state,
        "quality": health.state,
        "msn": newest.map(|(msn, _)| msn),
        "part": newest.map(|(_, part)| part),
    });
    Ok((code, Json(body)).into_response())
}
