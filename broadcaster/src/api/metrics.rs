//! Prometheus metrics. Labels are names of streams,
//! renditions and owners, which are bounded by the store.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use common::rendition::Kind;
use http::header::CONTENT_TYPE;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Api;
use super::view::QualityHealth;
use crate::origin::tls::Tls;
use crate::supervise::stream::state_name;
use crate::worker::encoder::{self, video_named};

/// Labels of what a stream has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStream {
    stream: String,
}

/// Labels of what a quality has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRendition {
    stream: String,
    rendition: String,
}

/// Labels of what an owner has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOwner {
    owner: String,
}

/// Labels of a count of streams.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

/// `GET /metrics`: everything as it is now.
pub(super) async fn metrics(
    State(api): State<Arc<Api>>,
) -> ([(http::HeaderName, &'static str); 1], String) {
    let mut registry = Registry::with_prefix("shoal");
    streams(&api, &mut registry);
    qualities(&api, &mut registry);
    process(&api, &mut registry);
    happened(&api, &mut registry);
    host(&api, &mut registry);
    ingest(&api, &mut registry);
    certificate(&api, &mut registry);
    let mut text = String::new();
    if encode(&mut text, &registry).is_err() {
        let _ = writeln!(text, "# EOF");
    }
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}

fn streams(api: &Api, registry: &mut Registry) {
    let by_state = Family::<InState, Gauge>::default();
    let viewers = Family::<OfStream, Gauge>::default();
    let crashes = Family::<OfStream, Gauge>::default();
    let worker_memory = Family::<OfStream, Gauge>::default();
    let worker_threads = Family::<OfStream, Gauge>::default();
    let worker_handles = Family::<OfStream, Gauge>::default();
    let warnings = Family::<OfStream, Counter>::default();
    let worker_cpu = Family::<OfStream, Gauge<f64, AtomicU64>>::default();
    let bytes_http = Family::<OfStream, Counter>::default();
    let msn = Family::<OfRendition, Gauge>::default();
    let memory = Family::<OfRendition, Gauge>::default();
    let bitrate = Family::<OfRendition, Gauge>::default();
    for (entry, stream) in api.registry.list() {
        let status = stream.status();
        let of = OfStream { stream: entry.name.to_string() };
        by_state.get_or_create(&InState { state: state_name(status.state) }).inc();
        viewers.get_or_create(&of).set(stream.served.viewers.count() as i64);
        crashes.get_or_create(&of).set(status.crashes as i64);
        bytes_http.get_or_create(&of).inc_by(stream.served.bytes_http());
        if let Some(pid) = status.worker_pid {
            let used = api.monitor.usage(pid);
            worker_memory.get_or_create(&of).set(used.memory_bytes as i64);
            worker_cpu.get_or_create(&of).set(used.cpu_percent.into());
            worker_threads.get_or_create(&of).set(used.threads.into());
            worker_handles.get_or_create(&of).set(used.handles.into());
        }
        warnings.get_or_create(&of).inc_by(api.monitor.warnings(&entry.name));
        for snapshot in stream.served.live.snapshots() {
            let window = &snapshot.window;
            let of =
                OfRendition { stream: entry.name.to_string(), rendition: window.id().to_string() };
            let newest = window.last_part().map_or(0, |(msn, _)| msn.0);
            msn.get_or_create(&of).set(newest as i64);
            bitrate.get_or_create(&of).set(window.mean_bps() as i64);
            let held = stream.served.live.ring.rendition_bytes(window.id());
            memory.get_or_create(&of).set(held as i64);
        }
    }
    registry.register("streams", "Streams by state", by_state);
    registry.register("viewers", "Viewers that play by HTTP", viewers);
    registry.register("worker_crashes", "Worker crashes of this broadcast", crashes);
    registry.register_with_unit(
        "worker_memory",
        "Resident memory of the worker",
        Unit::Bytes,
        worker_memory,
    );
    registry.register("worker_cpu_percent", "CPU of the worker, 100 is one core", worker_cpu);
    registry.register("worker_threads", "Threads of the worker", worker_threads);
    registry.register("worker_handles", "Open file handles of the worker", worker_handles);
    registry.register("resource_warnings", "Warnings that the worker uses much", warnings);
    registry.register_with_unit("http_media", "Media sent by HTTP", Unit::Bytes, bytes_http);
    registry.register("rendition_msn", "Newest media sequence number", msn);
    registry.register_with_unit("rendition_memory", "Media in memory", Unit::Bytes, memory);
    registry.register("rendition_bitrate", "Measured bitrate in bit/s", bitrate);
}

/// What is made of each stream, and how well.
fn qualities(api: &Api, registry: &mut Registry) {
    let live = Family::<OfRendition, Gauge>::default();
    let lag = Family::<OfRendition, Gauge<f64, AtomicU64>>::default();
    let waiting = Family::<OfRendition, Gauge>::default();
    let cpu = Family::<OfRendition, Counter<f64, AtomicU64>>::default();
    let speed = Family::<OfStream, Gauge<f64, AtomicU64>>::default();
    let (mut encoded, mut by_hardware) = (0u32, 0u32);
    for (entry, stream) in api.registry.list() {
        let status = stream.status();
        if let Some(times) = status.pulse.speed {
            speed.get_or_create(&OfStream { stream: entry.name.to_string() }).set(times);
        }
        for (i, made) in status.renditions.iter().enumerate() {
            let of = OfRendition { stream: entry.name.to_string(), rendition: made.id.to_string() };
            let health = QualityHealth::of(api, &entry, &status, made);
            live.get_or_create(&of).set((health.state == "live").into());
            let lag_us = status.pulse.lag_us.get(i).copied().unwrap_or(0);
            lag.get_or_create(&of).set(lag_us as f64 / 1e6);
            if made.kind == Kind::Video && !made.is_passthrough() {
                let encoder = status.pulse.encoders.get(i).copied().unwrap_or_default();
                waiting.get_or_create(&of).set(encoder.waiting as i64);
                cpu.get_or_create(&of).inc_by(encoder.cpu_us as f64 / 1e6);
                let family = video_named(&made.encoder).map(|encoder| encoder.family);
                encoded += 1;
                by_hardware += u32::from(family.is_some_and(|f| f != encoder::Family::Software));
            }
        }
    }
    registry.register("rendition_live", "1 while the rendition is made and served", live);
    registry.register_with_unit("rendition_lag", "Behind the source", Unit::Seconds, lag);
    registry.register("rendition_frames_waiting", "Frames that wait for the encoder", waiting);
    registry.register_with_unit(
        "rendition_encoder",
        "Processor time of the encoder's thread in this session",
        Unit::Seconds,
        cpu,
    );
    registry.register("encode_speed", "Encoding against real time", speed);
    let share = Gauge::<f64, AtomicU64>::default();
    share.set(f64::from(by_hardware) / f64::from(encoded.max(1)));
    registry.register("hardware_share", "Encoded renditions that hardware makes", share);
    let paused = Gauge::<i64>::default();
    paused.set(api.governor.background_paused().into());
    registry.register("background_paused", "1 while work that can wait should", paused);
    let changes = Counter::<u64>::default();
    changes.inc_by(api.governor.changes_total());
    registry.register("quality_changes", "Changes of qualities by load", changes);
}

fn process(api: &Api, registry: &mut Registry) {
    let used = api.monitor.usage(std::process::id());
    let gauges: [(&str, &str, u64); 9] = [
        ("threads", "Threads of the broadcaster", used.threads.into()),
        ("handles", "Open file handles of the broadcaster", used.handles.into()),
        ("memory_bytes", "Resident memory of the broadcaster", used.memory_bytes),
        (
            "connections_open",
            "Viewers' connections",
            api.connections.open.load(Ordering::Relaxed) as u64,
        ),
        (
            "connections_accepted",
            "Connections ever accepted",
            api.connections.accepted.load(Ordering::Relaxed),
        ),
        (
            "connections_refused",
            "Connections refused by a cap",
            api.connections.refused.load(Ordering::Relaxed),
        ),
        ("spool_bytes", "Media on disk", api.spool.bytes()),
        ("spool_degraded", "1 while the disk refuses or is too slow", api.spool.degraded().into()),
        ("spool_left_out", "Writes left out by the spool", api.spool.left_out()),
    ];
    for (name, help, value) in gauges {
        let gauge = Gauge::<i64>::default();
        gauge.set(value as i64);
        registry.register(name, help, gauge);
    }
}

fn happened(api: &Api, registry: &mut Registry) {
    let counts = api.registry.counts();
    let (forgotten, forget_failures) = api.spool.forgotten();
    let counters = [
        ("stream_starts", "Streams turned on", counts.stream_starts.get()),
        ("stream_stops", "Streams that were on and are not any more", counts.stream_stops.get()),
        ("worker_starts", "Workers started", counts.worker_starts.get()),
        ("force_kills", "Workers killed since they ignored SIGTERM", counts.force_kills.get()),
        ("memory_kills", "Workers ended because of their memory", counts.memory_kills.get()),
        ("task_panics", "Tasks of streams that ended by a bug", counts.task_panics.get()),
        ("capacity_refusals", "Streams refused for want of CPU", counts.capacity_refusals.get()),
        ("cleanups", "Things left behind that were removed", counts.cleanups.get() + forgotten),
        (
            "cleanup_failures",
            "Things left behind that stay",
            counts.cleanup_failures.get() + forget_failures,
        ),
    ];
    for (name, help, value) in counters {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    let active = Family::<OfOwner, Gauge>::default();
    for (owner, running) in api.registry.seats().by_owner() {
        active.get_or_create(&OfOwner { owner }).set(running as i64);
    }
    registry.register("streams_active_of", "Streams that count for an owner's limit", active);
    let all = Gauge::<i64>::default();
    all.set(api.registry.seats().running() as i64);
    registry.register("streams_active", "Streams that count for the limit", all);
}

fn host(api: &Api, registry: &mut Registry) {
    let cost = Counter::<f64, AtomicU64>::default();
    cost.inc_by(api.monitor.cost().as_secs_f64());
    registry.register_with_unit("monitor", "CPU time that watching took", Unit::Seconds, cost);
    let Some(host) = api.monitor.host() else { return };
    let gauges = [
        ("host_cores", "Cores that we may use", host.cores),
        ("host_cpu_busy", "Cores in use by anyone", host.cpu_busy),
        ("host_memory_bytes", "Memory in use by anyone", host.memory_bytes as f64),
        ("host_memory_limit_bytes", "Memory that there is for us", host.memory_limit_bytes as f64),
        ("host_throttled", "1 while our share of the CPU is used up", host.throttled.into()),
    ];
    let disk = host
        .disk_free_bytes
        .map(|bytes| ("host_disk_free_bytes", "Room on the disk of the data folder", bytes as f64));
    for (name, help, value) in gauges.into_iter().chain(disk) {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
}

fn ingest(api: &Api, registry: &mut Registry) {
    let seen = &api.ingest;
    let counters = [
        ("rtmp_accepted", "Encoders' connections ever accepted", &seen.accepted),
        ("rtmp_accept_failures", "Times that accepting one failed", &seen.accept_failures),
        ("rtmp_turned_away", "Connections closed since there were too many", &seen.turned_away),
        ("rtmp_published", "Publishers let in", &seen.published),
        ("rtmp_refused", "Publishers refused", &seen.refused),
        ("rtmp_failed", "Connections ended by a fault or a time-out", &seen.failed),
        ("rtmp_panicked", "Connections ended by a bug in here", &seen.panicked),
    ];
    for (name, help, value) in counters {
        let counter = Counter::<u64>::default();
        counter.inc_by(value.load(Ordering::Relaxed));
        registry.register(name, help, counter);
    }
}

fn certificate(api: &Api, registry: &mut Registry) {
    let failures = Counter::<u64>::default();
    failures.inc_by(api.tls.as_ref().map_or(0, Tls::reload_failures));
    registry.register(
        "tls_reload_failures",
        "Looks at a changed certificate that could not be used",
        failures,
    );
}
