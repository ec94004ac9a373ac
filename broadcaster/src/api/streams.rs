//! Calls on streams.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use common::id::{RenditionId, StreamName};
use http::header::{CACHE_CONTROL, HOST};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::error::Named;
use super::view::{ListedView, StreamView};
use super::{Api, ApiError, host_of};
use crate::resource::quality::QualityChoice;
use crate::streams::store::NewStream;
use crate::supervise::registry::listed as is_listed;

/// Every call.
pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/streams", get(list).post(create))
        .route("/streams/{name}", get(show).delete(remove))
        .route("/streams/{name}/start", post(start))
        .route("/streams/{name}/stop", post(stop))
        .route("/streams/{name}/key", post(renew_key))
        .route("/streams/{name}/renditions/{rendition}", patch(choose))
        .fallback(|| async { ApiError::not_found("there is no such call") })
}

/// `GET /streams.json`: what viewers may know, without a token.
pub(super) async fn listed(
    State(api): State<Arc<Api>>,
) -> ([(http::HeaderName, &'static str); 1], Json<Value>) {
    let streams: Vec<_> = api
        .registry
        .list()
        .into_iter()
        .filter(|(_, stream)| is_listed(stream.status().state))
        .map(|(entry, stream)| ListedView::new(&entry, &stream))
        .collect();
    ([(CACHE_CONTROL, "public, max-age=1")], Json(json!({ "streams": streams })))
}

async fn list(State(api): State<Arc<Api>>) -> Json<Value> {
    let streams: Vec<_> = api
        .registry
        .list()
        .iter()
        .map(|(entry, stream)| StreamView::new(&api, entry, stream))
        .collect();
    Json(json!({ "streams": streams }))
}

async fn create(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    new: Result<Json<NewStream>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let Json(new) = new?;
    let name = new.name.clone();
    let key = api.registry.create(new).await?;
    let mut view = view(&api, &name)?;
    view["ingest_url"] = ingest_url(&api, &headers).into();
    view["stream_key"] = key.reveal().into();
    Ok((StatusCode::CREATED, Json(view)))
}

async fn show(
    State(api): State<Arc<Api>>,
    Named(name): Named<StreamName>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let mut view = view(&api, &name)?;
    view["ingest_url"] = ingest_url(&api, &headers).into();
    Ok(Json(view))
}

async fn remove(
    State(api): State<Arc<Api>>,
    Named(name): Named<StreamName>,
) -> Result<StatusCode, ApiError> {
    api.registry.remove(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn start(
    State(api): State<Arc<Api>>,
    Named(name): Named<StreamName>,
) -> Result<Json<Value>, ApiError> {
    api.registry.start(&name).await?;
    Ok(Json(view(&api, &name)?))
}

async fn stop(
    State(api): State<Arc<Api>>,
    Named(name): Named<StreamName>,
) -> Result<Json<Value>, ApiError> {
    api.registry.stop(&name).await?;
    Ok(Json(view(&api, &name)?))
}

/// Changes what the operator wants of one quality: whether and when it is made, its priority, its
/// memory.
async fn choose(
    State(api): State<Arc<Api>>,
    Named((name, rendition)): Named<(StreamName, RenditionId)>,
    change: Result<Json<QualityChoice>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(change) = change?;
    api.registry.choose(&name, &rendition, change)?;
    api.governor.wake();
    Ok(Json(view(&api, &name)?))
}

async fn renew_key(
    State(api): State<Arc<Api>>,
    Named(name): Named<StreamName>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let key = api.registry.renew_key(&name).await?;
    let ingest_url = ingest_url(&api, &headers);
    Ok(Json(json!({ "name": name, "ingest_url": ingest_url, "stream_key": key.reveal() })))
}

fn view(api: &Api, name: &StreamName) -> Result<Value, ApiError> {
    let (entry, stream) = api.registry.get(name)?;
    Ok(serde_json::to_value(StreamView::new(api, &entry, &stream)).unwrap_or_default())
}

/// The host by which the caller reached us is the one by which an encoder will.
fn ingest_url(api: &Api, headers: &HeaderMap) -> String {
    let asked = headers.get(HOST).and_then(|v| v.to_str().ok()).map(host_of);
    let host = api.public_host.as_deref().or(asked).unwrap_or("localhost");
    format!("rtmp://{host}:{}/live", api.ingest_port)
}
