//! The RTMP listener without file descriptors. A test of its own process, since they are the
//! process's.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use broadcaster::ingest::rtmp::listener::{
    ListenerCounters, ListenerLimits, PublishGate, PublishSlot, Refusal, run,
};
use broadcaster::streams::key::StreamKey;
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

struct NoStreams;

impl PublishGate for NoStreams {
    async fn authorize(&self, _: &StreamKey, _: SocketAddr) -> Result<PublishSlot, Refusal> {
        Err(Refusal::UnknownKey)
    }
}

#[tokio::test]
async fn a_listener_out_of_descriptors_neither_spins_nor_stops_for_good() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_stop, stopping) = watch::channel(false);
    let counters = Arc::new(ListenerCounters::default());
    let limits = ListenerLimits::default();
    tokio::spawn(run(listener, Arc::new(NoStreams), limits, counters.clone(), stopping));
    let sockets: Vec<_> = (0..5).map(|_| TcpSocket::new_v4().unwrap()).collect();
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
    let filling: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(!filling.is_empty());

    let started = Instant::now();
    let mut clients = Vec::new();
    for socket in sockets {
        // The kernel completes the connection; the listener cannot accept it.
        clients.push(socket.connect(address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let failures = counters.accept_failures.load(Ordering::Relaxed);
    // One try each 100 ms, however long it took; without the pause it would be thousands.
    let tries_max = started.elapsed().as_millis() as u64 / 100 + 1;
    assert!((1..=tries_max).contains(&failures), "{failures} tries, at most {tries_max} expected");
    assert_eq!(counters.accepted.load(Ordering::Relaxed), 0);

    drop(filling);
    for client in &mut clients {
        client.write_all(&[&[3][..], &[0; 1536]].concat()).await.unwrap();
        client.read_exact(&mut [0; 1 + 2 * 1536]).await.unwrap();
    }
}
