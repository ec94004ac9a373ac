//! The origin with one stream in it, filled through the feed as a worker would fill it.

use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Context as _;
use broadcaster::feed::{Feed, Timing};
use broadcaster::origin::serve::{Caps, Server};
use broadcaster::origin::{Info, Origin, P2pInfo, Served};
use broadcaster::store::live::LiveStream;
use broadcaster::store::spool::Spool;
use broadcaster::worker::ipc::{MadeRendition, Part, Ready};
use bytes::Bytes;
use common::feed::Signer;
use common::id::StreamName;
use common::rendition::Kind;
use rustix::net::SendFlags;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use tokio::sync::watch;

use super::child::now_us;

/// Parts of a segment and their size: segments of 600 kB, 2.4 Mbit/s.
const PARTS: u32 = 4;
const PART_BYTES: usize = 150_000;
/// A full window of 30 s.
pub(crate) const SEGMENTS: u32 = 15;
/// Where the stream is served.
pub(crate) const BASE: &str = "/live/bench/v/media.m3u8";

/// Serves until stdin ends. Prints its address, then answers lines: `release` makes the next part
/// and `send N` sends N bytes on every connection, each answered with when that began.
pub(crate) fn main() -> anyhow::Result<()> {
    let name: StreamName = "bench".parse()?;
    let folder = tempfile::tempdir()?;
    let (spool, _thread) = Spool::open(folder.path().join("spool"), 1 << 30)?;
    let live = Arc::new(LiveStream::new(name.clone()));
    let signer = Arc::new(Signer::from_seed([7; 32]));
    let mut feed = Feed::open(name.clone(), signer, spool, live.clone())?;
    feed.begin_broadcast()?;
    feed.begin_session(&ready()?, Timing { part_us: 500_000, segment_us: 2_000_000 })?;
    let mut made = 0;
    // Ends in the middle of a segment, so that a release is one more part.
    while made < SEGMENTS * PARTS + 1 {
        feed.part(&part(made));
        made += 1;
    }

    let origin = Arc::new(Origin::default());
    origin.add(Arc::new(Served::new(live, info(&name))));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let caps = Caps { connections_max: 20_000, per_address_max: 20_000 };
    let server = {
        let _inside = runtime.enter();
        Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), None, caps)?
    };
    let address = server.local_addr()?;
    let (_stop, stopped) = watch::channel(false);
    runtime.spawn(server.run(
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

    let mut stdout = std::io::stdout();
    writeln!(stdout, "{address}")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["release"] => {
                let next = part(made);
                made += 1;
                let began_us = now_us();
                feed.part(&next);
                writeln!(stdout, "{began_us}")?;
            }
            ["send", length] => {
                let payload = vec![b'x'; length.parse()?];
                let sockets = connections(address)?;
                let began_us = now_us();
                for socket in &sockets {
                    // What does not fit into an empty socket buffer would be no bare send.
                    let sent = rustix::net::send(socket, &payload, SendFlags::NOSIGNAL)?;
                    anyhow::ensure!(sent == payload.len(), "a socket took only {sent} bytes");
                }
                writeln!(stdout, "{began_us}")?;
            }
            _ => anyhow::bail!("{line:?} is not a thing to do"),
        }
    }
    Ok(())
}

/// A second handle for each connection that the server has accepted.
fn connections(address: SocketAddr) -> anyhow::Result<Vec<OwnedFd>> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    // Open to the end: a new handle that got the folder's number would be taken once more.
    let mut folder = std::fs::read_dir("/proc/self/fd")?;
    let numbers = folder
        .by_ref()
        .map(|entry| Ok(entry?.file_name().to_string_lossy().parse()?))
        .collect::<anyhow::Result<Vec<i32>>>()?;
    let mut sockets = Vec::new();
    // The list is complete before the first new handle, which would be found in it again.
    for number in numbers {
        // What was closed meanwhile is no fault.
        let Ok(handle) = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()) else { continue };
        let ours = rustix::net::getsockname(&handle)
            .is_ok_and(|name| SocketAddr::try_from(name).is_ok_and(|name| name == address));
        if ours && rustix::net::getpeername(&handle).is_ok() {
            sockets.push(handle);
        }
    }
    Ok(sockets)
}

fn info(name: &StreamName) -> Info {
    Info {
        stream: name.to_string(),
        title: name.to_string(),
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

fn ready() -> anyhow::Result<Ready> {
    let rendition = MadeRendition {
        id: "v".parse().context("an id")?,
        kind: Kind::Video,
        codec: "avc1.64001f".into(),
        width: 1280,
        height: 720,
        fps: (30, 1),
        sample_rate: 0,
        channels: 0,
        bitrate: 2_400_000,
        encoder: "none".into(),
        init: Bytes::from_static(b"init"),
    };
    let wall_clock_us = i64::try_from(now_us())? - 60_000_000;
    Ok(Ready { renditions: vec![rendition], notes: Vec::new(), wall_clock_us })
}

/// The bytes differ from part to part and do not compress.
fn part(number: u32) -> Part {
    let mut state = u64::from(number) + 1;
    let data: Vec<u8> = std::iter::repeat_with(|| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(PART_BYTES)
    .collect();
    Part {
        rendition: 0,
        segment: number / PARTS,
        independent: number.is_multiple_of(PARTS),
        last_of_segment: number % PARTS == PARTS - 1,
        pts_us: u64::from(number) * 500_000,
        duration_us: 500_000,
        data: data.into(),
    }
}
