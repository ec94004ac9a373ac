//! A server with one stream, and the means to make that stream and time go on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use broadcaster::feed::{Feed, Timing};
use broadcaster::origin::serve::{Caps, Counters, Server};
use broadcaster::origin::{Info, Origin, P2pInfo, Served};
use broadcaster::store::live::{LiveRendition, LiveStream};
use broadcaster::store::ring::StoredSegment;
use broadcaster::store::spool::{Spool, SpoolThread};
use broadcaster::worker::ipc::{Changed, MadeRendition, Part, Ready};
use bytes::Bytes;
use common::feed::Signer;
use common::id::{Msn, SessionNumber, StreamName};
use common::rendition::Kind;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Parts of a segment, half a second each.
pub(crate) const PARTS: u32 = 4;

/// Nothing here takes this long unless it hangs.
pub(crate) const HANGS: Duration = Duration::from_secs(30);

/// The stream `show` with its one rendition `v`: session 1, segments from 0.
pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) live: Arc<LiveStream>,
    pub(crate) feed: Feed,
    pub(crate) counters: Arc<Counters>,
    spool: Spool,
    thread: Option<SpoolThread>,
    part_bytes: usize,
    made: u32,
    made_other: u32,
    _dir: tempfile::TempDir,
    stop: watch::Sender<bool>,
    server: Option<JoinHandle<()>>,
}

impl Rig {
    /// Three whole segments, and the first part of segment 3.
    pub(crate) fn new() -> Self {
        Self::with(1000, Caps { connections_max: 1000, per_address_max: 1000 })
    }

    pub(crate) fn with(part_bytes: usize, caps: Caps) -> Self {
        let name: StreamName = "show".parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (spool, thread) = Spool::open(dir.path().to_owned(), 1 << 30).unwrap();
        let live = Arc::new(LiveStream::new(name.clone()));
        let signer = Arc::new(Signer::from_seed([7; 32]));
        let mut feed = Feed::open(name.clone(), signer, spool.clone(), live.clone()).unwrap();
        feed.begin_broadcast().unwrap();
        let timing = Timing { part_us: 500_000, segment_us: 2_000_000 };
        feed.begin_session(&ready(), timing).unwrap();

        let origin = Arc::new(Origin::default());
        origin.add(Arc::new(Served::new(live.clone(), info())));
        let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), None, caps).unwrap();
        let (address, counters) = (server.local_addr().unwrap(), server.counters());
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(server.run(
            move |request: http::Request<hyper::body::Incoming>, peer: SocketAddr| {
                let origin = origin.clone();
                Box::pin(async move {
                    let uri = request.uri();
                    let path = uri.path().strip_prefix("/live/").unwrap_or_default();
                    let query = uri.query().unwrap_or_default();
                    origin.answer(request.method(), path, query, request.headers(), peer.ip()).await
                })
            },
            stopped,
        ));
        let mut rig = Self {
            address,
            live,
            feed,
            counters,
            spool,
            thread: Some(thread),
            part_bytes,
            made: 0,
            made_other: 0,
            _dir: dir,
            stop,
            server: Some(server),
        };
        rig.make(3 * PARTS + 1);
        rig
    }

    /// Another session, that describes a second rendition `w` as well.
    pub(crate) fn begin_session(&mut self) {
        let mut ready = ready();
        let mut other = ready.renditions[0].clone();
        (other.id, other.height, other.bitrate) = ("w".parse().unwrap(), 480, 1_000_000);
        ready.renditions.push(other);
        let timing = Timing { part_us: 500_000, segment_us: 2_000_000 };
        self.feed.begin_session(&ready, timing).unwrap();
        (self.made, self.made_other) = (0, 0);
    }

    /// The worker makes so many parts more of `w`.
    pub(crate) fn make_other(&mut self, parts: u32) {
        for _ in 0..parts {
            let part = part(self.made_other, self.part_bytes);
            self.feed.part(&Part { rendition: 1, ..part });
            self.made_other += 1;
        }
    }

    /// The worker makes so many parts more.
    pub(crate) fn make(&mut self, parts: u32) {
        for _ in 0..parts {
            self.feed.part(&part(self.made, self.part_bytes));
            self.made += 1;
        }
    }

    /// The worker makes the rendition again, from the next segment on, after it was withdrawn.
    pub(crate) fn resume(&mut self) {
        let segment = self.made.div_ceil(PARTS);
        let made = ready().renditions.remove(0);
        self.feed.change(&Changed { segment, renditions: vec![(0, made)] }).unwrap();
        self.made = segment * PARTS;
    }

    /// Everything made so far is written to the spool's files, and nothing after that.
    pub(crate) fn write_files(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.stop(&self.spool);
        }
    }

    /// Tells the server to stop. Gives its end.
    pub(crate) fn stop(&mut self) -> JoinHandle<()> {
        self.stop.send_replace(true);
        self.server.take().unwrap()
    }

    pub(crate) fn rendition(&self) -> Arc<LiveRendition> {
        self.live.rendition(&"v".parse().unwrap()).unwrap()
    }

    /// Requests that are blocked at this moment.
    pub(crate) fn blocked(&self) -> usize {
        self.rendition().followers()
    }

    /// Connections that are open at this moment.
    pub(crate) fn open(&self) -> usize {
        self.counters.open.load(Ordering::Relaxed)
    }

    pub(crate) fn playlist(&self) -> Bytes {
        self.rendition().newest().full.plain()
    }

    /// The bytes of one part, as the worker made it.
    pub(crate) fn part(&self, msn: u32, index: u32) -> Bytes {
        part(msn * PARTS + index, self.part_bytes).data
    }

    /// The bytes of a whole segment, as the worker made it.
    pub(crate) fn segment(&self, msn: u32) -> Vec<u8> {
        (0..PARTS).flat_map(|index| self.part(msn, index)).collect()
    }

    pub(crate) fn stored(&self, msn: u64) -> StoredSegment {
        self.live.ring.segment(&"v".parse().unwrap(), SessionNumber(1), Msn(msn))
    }
}

/// Lets other tasks and the sockets go on until this holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < HANGS, "never: {what}");
        tokio::task::yield_now().await;
    }
}

/// Lets every task do all that it can do without time going on. Each turn of the runtime also
/// asks the system for what arrived, and one thread runs everything, so a few turns are enough.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Lets so much time go by at once. Time stands still only for this moment: while it does, the
/// runtime would skip to the next timer whenever a socket is waited for.
pub(crate) async fn later(duration: Duration) {
    settle().await;
    tokio::time::pause();
    tokio::time::advance(duration).await;
    tokio::time::resume();
    settle().await;
}

fn info() -> Info {
    Info {
        stream: "show".into(),
        title: "Show".into(),
        state: "live",
        broadcast: 1,
        session: 1,
        public_key: String::new(),
        session_record: None,
        renditions: Vec::new(),
        latency_target_ms: 2_000,
        part_ms: 500,
        segment_ms: 2_000,
        started_at: None,
        p2p: P2pInfo { policy: "off" },
        signaling: None,
        ice_servers: Vec::new(),
    }
}

fn ready() -> Ready {
    let rendition = MadeRendition {
        id: "v".parse().unwrap(),
        kind: Kind::Video,
        codec: "avc1.64001f".into(),
        width: 1280,
        height: 720,
        fps: (30, 1),
        sample_rate: 0,
        channels: 0,
        bitrate: 2_400_000,
        encoder: "none".into(),
        init: Bytes::from_static(b"the init segment"),
    };
    Ready { renditions: vec![rendition], notes: Vec::new(), wall_clock_us: 1_000_000 }
}

/// The bytes differ from part to part and all over.
fn part(number: u32, part_bytes: usize) -> Part {
    let mut state = u64::from(number) + 1;
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    Part {
        rendition: 0,
        segment: number / PARTS,
        independent: number.is_multiple_of(PARTS),
        last_of_segment: number % PARTS == PARTS - 1,
        pts_us: u64::from(number) * 500_000,
        duration_us: 500_000,
        data: std::iter::repeat_with(next).take(part_bytes).collect(),
    }
}
