//! Liveness, readiness, and the health of one quality.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use common::id::{RenditionId, StreamName};
use http::StatusCode;
use serde_json::json;

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
    Path((stream, rendition)): Path<(StreamName, RenditionId)>,
) -> Result<Response, ApiError> {
    let (_, handle) = api.registry.get(&stream)?;
    let live = handle.served.live.rendition(&rendition);
    let live = live.ok_or_else(|| ApiError::not_found(format!("{stream} has no {rendition}")))?;
    let state = handle.status().state;
    let status = match state {
        machine::State::Live => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let (msn, part) = live.newest().window.last_part().unwrap_or_default();
    Ok((status, Json(json!({ "state": state, "msn": msn, "part": part }))).into_response())
}
