//! A small HLS server that tells a [`Story`] in real time, for tests of the asking side: it can
//! go away and come back, and be told to do one thing wrong.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::run::lock;
use super::testing::{self, PART_US, Story, Told};

/// The one thing that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Errors may be cached.
    CachedErrors,
    /// Whole segments of 480p are missing.
    MissingSegments,
    /// Hinted parts are answered 404 until they are listed.
    HintsIgnored,
    /// Delta updates are never sent.
    NoDeltas,
}

/// A server that runs on threads of its own until it is stopped or dropped.
pub(crate) struct FakeServer {
    runtime: Option<Runtime>,
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    story: Mutex<Story>,
    /// Every segment ever told, by number.
    archive: Mutex<BTreeMap<u64, Told>>,
    fault: Fault,
    changed: watch::Sender<u64>,
}

impl FakeServer {
    /// Starts with a full window.
    pub(crate) fn start(fault: Fault) -> Self {
        let mut story = Story::new();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        story.connect();
        let mut archive = BTreeMap::new();
        story.now_us = i64::try_from(now.as_micros()).expect("a date") - 48 * PART_US as i64;
        for _ in 0..48 {
            story.step();
            keep(&mut archive, &story);
        }
        let shared = Arc::new(Shared {
            story: Mutex::new(story),
            archive: Mutex::new(archive),
            fault,
            changed: watch::Sender::new(0),
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { runtime: None, address, shared };
        server.serve();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/live/s/master.m3u8", self.address)
    }

    /// Waits until so many parts were told.
    pub(crate) fn wait_for_parts(&self, count: u64) {
        let mut changed = self.shared.changed.subscribe();
        let runtime = self.runtime.as_ref().expect("running");
        let reached = runtime.block_on(changed.wait_for(|parts| *parts >= count)).is_ok();
        assert!(reached);
    }

    /// Goes away: no connection is left, new ones are refused.
    pub(crate) fn stop(&mut self) {
        lock(&self.shared.story).disconnect();
        keep(&mut lock(&self.shared.archive), &lock(&self.shared.story));
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// Comes back after some time, with a new session.
    pub(crate) fn come_back(&mut self, after: Duration) {
        std::thread::sleep(after);
        let mut story = lock(&self.shared.story);
        story.now_us += i64::try_from(after.as_micros()).expect("short");
        story.connect();
        drop(story);
        self.serve();
    }

    fn serve(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind(self.address)).expect("the port");
        self.address = listener.local_addr().expect("an address");
        let app = Router::new().fallback(answer).with_state(self.shared.clone());
        runtime.spawn(async move { axum::serve(listener, app).await });
        let shared = self.shared.clone();
        runtime.spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_micros(PART_US));
            tick.tick().await;
            loop {
                tick.tick().await;
                lock(&shared.story).step();
                keep(&mut lock(&shared.archive), &lock(&shared.story));
                shared.changed.send_modify(|parts| *parts += 1);
            }
        });
        self.runtime = Some(runtime);
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn keep(archive: &mut BTreeMap<u64, Told>, story: &Story) {
    archive.extend(story.told.iter().map(|t| (t.msn, t.clone())));
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or("").to_owned();
    let Some(rest) = path.strip_prefix("/live/s/") else { return shared.not_found() };
    let parts: Vec<&str> = rest.split('/').collect();
    let headers = request.headers();
    match parts.as_slice() {
        ["master.m3u8"] => playlist(headers, testing::master(), "max-age=1"),
        [name, "media.m3u8"] if testing::NAMES.contains(name) => {
            shared.media_playlist(name, &query, headers).await
        }
        [session, name, file] if testing::NAMES.contains(name) => {
            match shared.media(session, name, file).await {
                Some(bytes) => media(headers, bytes),
                None => shared.not_found(),
            }
        }
        _ => shared.not_found(),
    }
}

impl Shared {
    fn not_found(&self) -> Response {
        let control = if self.fault == Fault::CachedErrors { "max-age=60" } else { "no-store" };
        (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, control)]).into_response()
    }

    async fn media_playlist(&self, name: &str, query: &str, headers: &HeaderMap) -> Response {
        let Some((wanted, skip)) = read_query(query) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let Some((msn, part)) = wanted else {
            return playlist(headers, lock(&self.story).playlist(name, skip), "max-age=1");
        };
        let next = lock(&self.story).next();
        let known = if msn == next.0 { next.1 } else { 0 };
        if msn > next.0 + 2 || (msn >= next.0 && part.unwrap_or(0) > known + 6) {
            return StatusCode::BAD_REQUEST.into_response();
        }
        let mut changed = self.changed.subscribe();
        loop {
            let text = {
                let story = lock(&self.story);
                let there = super::parse::parse_media(&story.playlist(name, false))
                    .is_ok_and(|p| p.has(msn, part));
                let skip = skip && self.fault != Fault::NoDeltas;
                there.then(|| story.playlist(name, skip))
            };
            if let Some(text) = text {
                return playlist(headers, text, "max-age=12");
            }
            if changed.changed().await.is_err() {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
        }
    }

    async fn media(&self, session: &str, name: &str, file: &str) -> Option<Bytes> {
        if file == "init-1.mp4" {
            return Some(testing::init(name).into());
        }
        let mut numbers = file.strip_suffix(".m4s")?.split('.');
        let msn: u64 = numbers.next()?.parse().ok()?;
        let part: Option<usize> = numbers.next().map(str::parse).transpose().ok()?;
        let mut changed = self.changed.subscribe();
        loop {
            let told = lock(&self.archive).get(&msn).cloned();
            let told = told.filter(|t| t.session.to_string() == session);
            match (&told, part) {
                (Some(told), None) if told.complete => {
                    let missing = self.fault == Fault::MissingSegments && name == "480p";
                    return (!missing).then(|| testing::segment(name, told).into());
                }
                (Some(told), Some(part)) if part < told.parts.len() => {
                    return Some(testing::part(name, told, part).into());
                }
                _ => {}
            }
            let next = lock(&self.story).next();
            let hinted = part.is_some_and(|part| (msn, part as u64) == next);
            if !hinted || self.fault == Fault::HintsIgnored {
                return None;
            }
            changed.changed().await.ok()?;
        }
    }
}

/// What `_HLS_msn` and `_HLS_part` ask for, and whether `_HLS_skip` does.
type Wanted = (Option<(u64, Option<u64>)>, bool);

/// Reads a query; `None` when it is malformed.
fn read_query(query: &str) -> Option<Wanted> {
    let (mut msn, mut part, mut skip) = (None, None, false);
    let number =
        |text: &str| text.parse::<u64>().ok().filter(|n| *n <= 1 << 63 && !text.starts_with('+'));
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match key {
            "_HLS_msn" => msn = Some(number(value)?),
            "_HLS_part" => part = Some(number(value)?),
            "_HLS_skip" => skip = value == "YES",
            _ => {}
        }
    }
    if part.is_some() && msn.is_none() {
        return None;
    }
    Some((msn.map(|msn| (msn, part)), skip))
}

fn playlist(headers: &HeaderMap, text: String, control: &'static str) -> Response {
    let accepts = headers.get(header::ACCEPT_ENCODING).is_some_and(|v| v == "gzip");
    let common = [
        (header::CONTENT_TYPE, "application/vnd.apple.mpegurl"),
        (header::CACHE_CONTROL, control),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::VARY, "Accept-Encoding"),
    ];
    if !accepts {
        return (common, text).into_response();
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory");
    let body = encoder.finish().expect("memory");
    (common, [(header::CONTENT_ENCODING, "gzip")], body).into_response()
}

fn media(headers: &HeaderMap, bytes: Bytes) -> Response {
    let etag = format!("\"{}-{}\"", bytes.len(), bytes.iter().map(|b| u64::from(*b)).sum::<u64>());
    let common = [
        (header::CONTENT_TYPE, "video/mp4".to_owned()),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned()),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*".to_owned()),
        (header::ETAG, etag.clone()),
    ];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == etag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let range = headers.get(header::RANGE).and_then(|v| v.to_str().ok());
    let range = range.and_then(|r| r.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = range else { return (common, bytes).into_response() };
    let first: usize = first.parse().expect("the checker asks well");
    let last: usize = last.parse().expect("the checker asks well");
    if first >= bytes.len() {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let last = last.min(bytes.len() - 1);
    let said = format!("bytes {first}-{last}/{}", bytes.len());
    let body = bytes.slice(first..=last);
    (StatusCode::PARTIAL_CONTENT, common, [(header::CONTENT_RANGE, said)], body).into_response()
}
