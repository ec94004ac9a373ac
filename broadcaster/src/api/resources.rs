//! What is used of the machine and by whom, and the limits, which can be changed here.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::routing::get;
use axum::{Json, Router};
use common::playlist::date_time;
use serde_json::{Value, json};

use super::view::QualityHealth;
use super::{Api, ApiError};
use crate::resource::limits::LimitsChange;
use crate::resource::monitor::Usage;
use crate::streams::store::StreamEntry;
use crate::supervise::governor::Noted;
use crate::supervise::registry::Stream;

/// Every call.
pub(super) fn router() -> Router<Arc<Api>> {
    Router::new().route("/resources", get(show).patch(change))
}

async fn show(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(view(&api))
}

/// Changes limits until the next start. What runs beyond a lowered limit goes on.
async fn change(
    State(api): State<Arc<Api>>,
    change: Result<Json<LimitsChange>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(change) = change?;
    let limits =
        api.registry.limits().change(&change).map_err(|e| ApiError::field(e.to_string()))?;
    tracing::info!(?limits, "limits were changed");
    Ok(Json(view(&api)))
}

fn view(api: &Api) -> Value {
    let seats = api.registry.seats();
    let streams: Vec<_> = api.registry.list().iter().map(|(e, s)| stream(api, e, s)).collect();
    json!({
        "limits": api.registry.limits().get().named(),
        "active": { "all": seats.running(), "by_owner": seats.by_owner() },
        "host": api.monitor.host(),
        "background_paused": api.governor.background_paused(),
        "changes": { "total": api.governor.changes_total(), "recent": changes(api) },
        "broadcaster": process(std::process::id(), api.monitor.usage(std::process::id())),
        "monitor": {
            "cpu_seconds": api.monitor.cost().as_secs_f64(),
            "warnings": api.monitor.warnings_total(),
        },
        "streams": streams,
    })
}

fn stream(api: &Api, entry: &StreamEntry, stream: &Stream) -> Value {
    let status = stream.status();
    let made = status.renditions.iter().enumerate();
    let renditions: Vec<_> = made
        .map(|(i, made)| {
            let health = QualityHealth::of(api, entry, &status, made);
            json!({
                "id": made.id.to_string(),
                "state": health.state,
                "reason": health.reason,
                "cores": api.governor.cores(&entry.name, &made.id),
                "encode_cpu_us": status.pulse.encoders.get(i).map(|e| e.cpu_us),
                "frames_waiting": status.pulse.encoders.get(i).map(|e| e.waiting),
                "memory_bytes": stream.served.live.ring.rendition_bytes(&made.id),
                "lag_ms": status.pulse.lag_us.get(i).map(|us| us / 1000),
            })
        })
        .collect();
    json!({
        "name": entry.name.to_string(),
        "owner": entry.owner,
        "state": status.state,
        "worker": status.worker_pid.map(|pid| process(pid, api.monitor.usage(pid))),
        "warnings": api.monitor.warnings(&entry.name),
        "crashes": status.crashes,
        "speed": status.pulse.speed,
        "worker_cores": status.worker_cores,
        "renditions": renditions,
    })
}

/// The newest changes of qualities, oldest first.
fn changes(api: &Api) -> Vec<Value> {
    let dated = |change: Noted| {
        let at = date_time(change.at_us);
        let mut change = serde_json::to_value(change).unwrap_or_default();
        change["at"] = at.into();
        change
    };
    api.governor.recent().into_iter().map(dated).collect()
}

fn process(pid: u32, used: Usage) -> Value {
    json!({
        "pid": pid,
        "cpu_percent": used.cpu_percent,
        "memory_bytes": used.memory_bytes,
        "threads": used.threads,
        "handles": used.handles,
        "last_check": (used.checked_us > 0).then(|| date_time(used.checked_us)),
    })
}
