//! Streams as JSON (interfaces.md).

use std::sync::Arc;

use common::playlist::date_time;
use common::rendition::{Kind, Ladder};
use serde::Serialize;
use serde_json::{Value, json};

use super::Api;
use crate::resource::quality::{Encode, Priority};
use crate::store::live::Snapshot;
use crate::streams::store::StreamEntry;
use crate::supervise::governor::WATCHED;
use crate::supervise::machine::State;
use crate::supervise::registry::Stream;
use crate::supervise::stream::Status;
use crate::worker::ipc::{Lowered, MadeRendition};

/// One stream, for the operator.
#[derive(Debug, Serialize)]
pub(super) struct StreamView {
    name: String,
    title: String,
    owner: String,
    source: String,
    ladder: Ladder,
    repeat: bool,
    state: State,
    reason: Value,
    broadcast: u32,
    session: u32,
    started_at: Option<String>,
    renditions: Vec<RenditionView>,
    viewers: usize,
    worker: Option<Value>,
    ingest: Option<Value>,
    notes: Vec<String>,
    crashes: u64,
    p2p: Value,
}

#[derive(Debug, Serialize)]
struct RenditionView {
    id: String,
    kind: Kind,
    codec: String,
    width: u32,
    height: u32,
    fps: f64,
    bitrate: u32,
    /// Measured over the session, in bit/s.
    bitrate_measured: u64,
    encoder: String,
    state: &'static str,
    /// Why it is not live, or not made as planned.
    reason: Option<String>,
    /// What is spared on it: `no`, `effort` or `frame_rate`.
    lowered: Lowered,
    enabled: bool,
    encode: Encode,
    priority: Priority,
    memory_bytes_max: u64,
    /// Whether somebody asked for it in the last 10 s.
    watched: bool,
    /// Cores that it takes, as measured.
    cores: Option<f64>,
    msn: Option<u64>,
    torrents: u32,
    peers: u32,
    segments: usize,
    memory_bytes: u64,
    upload_bytes_per_s: u64,
    /// How far behind the source its encoder is, in milliseconds.
    lag_ms: Option<u64>,
}

/// One stream, for viewers.
#[derive(Debug, Serialize)]
pub(super) struct ListedView {
    name: String,
    title: String,
    state: State,
    started_at: Option<String>,
    viewers: usize,
    width: u32,
    height: u32,
}

impl ListedView {
    pub(super) fn new(entry: &StreamEntry, stream: &Stream) -> Self {
        let status = stream.status();
        let best = status.renditions.iter().max_by_key(|r| r.width * r.height);
        Self {
            name: entry.name.to_string(),
            title: entry.title.clone(),
            state: status.state,
            started_at: status.started_at_us.map(date_time),
            viewers: stream.served.viewers.count(),
            width: best.map_or(0, |r| r.width),
            height: best.map_or(0, |r| r.height),
        }
    }
}

impl StreamView {
    pub(super) fn new(api: &Api, entry: &StreamEntry, stream: &Stream) -> Self {
        let status = stream.status();
        let snapshots = stream.served.live.snapshots();
        let renditions = status
            .renditions
            .iter()
            .enumerate()
            .map(|(i, made)| RenditionView::new(api, entry, stream, &status, &snapshots, (i, made)))
            .collect();
        Self {
            name: entry.name.to_string(),
            title: entry.title.clone(),
            owner: entry.owner.clone(),
            source: entry.source.to_string(),
            ladder: entry.ladder.clone(),
            repeat: entry.repeat,
            state: status.state,
            reason: json!({ "code": status.cause.code(), "message": status.cause.to_string() }),
            broadcast: status.broadcast,
            session: status.session,
            started_at: status.started_at_us.map(date_time),
            renditions,
            viewers: stream.served.viewers.count(),
            worker: status.worker_pid.map(|pid| {
                let used = api.monitor.usage(pid);
                json!({
                    "pid": pid,
                    "cpu_percent": used.cpu_percent,
                    "memory_bytes": used.memory_bytes,
                })
            }),
            ingest: ingest(&status),
            notes: status.notes,
            crashes: status.crashes,
            p2p: p2p(stream.served.bytes_http()),
        }
    }
}

impl RenditionView {
    fn new(
        api: &Api,
        entry: &StreamEntry,
        stream: &Stream,
        status: &Status,
        snapshots: &[Arc<Snapshot>],
        (index, made): (usize, &MadeRendition),
    ) -> Self {
        let quality = entry.qualities.get(&made.id).copied().unwrap_or_default();
        let quality = quality.decide((made.width, made.height));
        let health = QualityHealth::of(api, entry, status, made);
        let window = snapshots.iter().map(|s| &s.window).find(|w| *w.id() == made.id);
        Self {
            id: made.id.to_string(),
            kind: made.kind,
            codec: made.codec.clone(),
            width: made.width,
            height: made.height,
            fps: f64::from(made.fps.0) / f64::from(made.fps.1.max(1)),
            bitrate: made.bitrate,
            bitrate_measured: window.map_or(0, |w| w.mean_bps()),
            encoder: made.encoder.clone(),
            state: health.state,
            reason: health.reason,
            lowered: api.governor.ordered(&entry.name, &made.id).1,
            enabled: quality.enabled,
            encode: quality.encode,
            priority: quality.priority,
            memory_bytes_max: quality.memory_bytes_max,
            watched: stream.served.asked.lately(&made.id, WATCHED),
            cores: api.governor.cores(&entry.name, &made.id),
            msn: window.and_then(|w| w.last_part()).map(|(msn, _)| msn.0),
            torrents: 0,
            peers: 0,
            segments: window.map_or(0, |w| w.segments().len()),
            memory_bytes: stream.served.live.ring.rendition_bytes(&made.id),
            upload_bytes_per_s: 0,
            lag_ms: status.pulse.lag_us.get(index).map(|us| us / 1000),
        }
    }
}

/// Whether one quality is made, and why not.
pub(super) struct QualityHealth {
    pub(super) state: &'static str,
    pub(super) reason: Option<String>,
}

impl QualityHealth {
    pub(super) fn of(
        api: &Api,
        entry: &StreamEntry,
        status: &Status,
        made: &MadeRendition,
    ) -> Self {
        let place = status.renditions.iter().position(|r| r.id == made.id);
        let withdrawn = place.and_then(|i| status.withdrawn.get(&(i as u8)));
        let (ordered, _) = api.governor.ordered(&entry.name, &made.id);
        let decided = api.governor.reason(&entry.name, &made.id);
        let (state, reason) = match (status.state, withdrawn) {
            (State::Failed, _) => ("failed", Some(status.cause.to_string())),
            (State::Live, None) => ("live", decided),
            (State::Live, Some(gone)) if gone.failed => ("failed", Some(gone.note.clone())),
            (State::Live, Some(_)) if !ordered => ("suspended", decided),
            (State::Live, Some(_)) => ("suspended", Some("it begins with the next segment".into())),
            _ => ("suspended", Some(status.cause.to_string())),
        };
        Self { state, reason }
    }
}

/// What comes in, while something does.
fn ingest(status: &Status) -> Option<Value> {
    if status.state != State::Live {
        return None;
    }
    let pulse = &status.pulse;
    let best = status.renditions.iter().max_by_key(|r| r.width * r.height)?;
    Some(json!({
        "bitrate_bps": pulse.bitrate_in,
        "keyframe_interval_s": pulse.keyframe_distance_us as f64 / 1e6,
        "b_frames": pulse.b_frames,
        "frames_dropped": pulse.frames_dropped,
        "codec": best.codec,
        "width": best.width,
        "height": best.height,
        "fps": f64::from(best.fps.0) / f64::from(best.fps.1.max(1)),
    }))
}

fn p2p(bytes_http: u64) -> Value {
    json!({
        "bytes_http": bytes_http,
        "bytes_root": 0,
        "bytes_turn": 0,
        "bytes_peer": 0,
        "bytes_played": bytes_http,
        "offload": 0.0,
    })
}
