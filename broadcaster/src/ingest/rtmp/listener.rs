//! RTMP over TCP: accepts publishers, asks the [`PublishGate`] about each, and hands their media
//! on.
//!
//! One task per connection. What goes wrong in it, panics included, ends that connection only.
//! Nobody waits for long: a publisher that sends nothing, reads nothing, or whose media is not
//! taken is ended with a reason, and whoever gave out the [`PublishSlot`] learns of the end by
//! its media channel closing.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::id::StreamName;
use common::redact;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument, error, info, info_span, warn};

use super::connection::{Connection, End, Event, Patience, Rejection};
use crate::ingest::media::Media;
use crate::net::customer;
use crate::streams::key::StreamKey;
use crate::streams::limit::LimitReached;

/// Decides who may publish what.
pub trait PublishGate: Send + Sync + 'static {
    /// Lets the publisher at `peer`, who shows `key`, publish the stream of that key, or says why
    /// not. Answers within [`ListenerLimits::answer`].
    fn authorize(
        &self,
        key: &StreamKey,
        peer: SocketAddr,
    ) -> impl Future<Output = Result<PublishSlot, Refusal>> + Send;
}

/// The right to publish one stream, held as long as the connection lasts.
#[derive(Debug)]
pub struct PublishSlot {
    /// The stream.
    pub stream: StreamName,
    /// Where its media goes. Its capacity is what the publisher may be ahead of the worker: about
    /// 250 hold two seconds. It closes when the publisher is gone.
    pub media: mpsc::Sender<Media>,
    /// Becomes `Some` when the publisher is to be ended, and says why. Dropping the sender means
    /// [`Refusal::Stopped`].
    pub cancel: watch::Receiver<Option<Refusal>>,
}

/// Why a publisher may not publish, or no longer; its encoder's log shows these words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No stream has this key.
    #[error("This stream key is unknown: copy it again from the studio")]
    UnknownKey,
    /// The stream has got another key since.
    #[error("This stream key was replaced: copy the new one from the studio")]
    KeyReplaced,
    /// As many streams as allowed run already.
    #[error(transparent)]
    LimitReached(#[from] LimitReached),
    /// The stream's media comes from elsewhere.
    #[error("This stream does not take an encoder, its source is {0}")]
    OtherSource(String),
    /// Another connection with the same key has taken its place.
    #[error("Another encoder took over with the same stream key")]
    TakenOver,
    /// Two encoders keep taking the stream from each other.
    #[error("Two encoders use this stream key in turns: stop one of them")]
    Contested,
    /// The operator stopped the stream.
    #[error("The stream was stopped by its operator")]
    Stopped,
    /// The media is not taken.
    #[error(
        "Media is not taken in time: either the encoder sends faster than real time \
         (ffmpeg: add -re), or this server cannot keep up"
    )]
    NotTaken,
    /// The server goes down.
    #[error("The server is restarting: connect again in a few seconds")]
    Restarting,
    /// The server did not decide in time.
    #[error("The server is not ready: try again in a few seconds")]
    NotReady,
    /// Anything else, in words for the publisher.
    #[error("{0}")]
    Other(String),
}

impl Refusal {
    fn rejection(&self) -> Rejection {
        let code = match self {
            Self::UnknownKey | Self::KeyReplaced => "NetStream.Publish.Unauthorized",
            _ => "NetStream.Publish.BadName",
        };
        Rejection { code, description: self.to_string() }
    }
}

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    /// What the protocol waits for.
    pub patience: Patience,
    /// Connections in all (default 512): each costs about 40 KiB until it publishes.
    pub connections_max: usize,
    /// Connections of one address, or of one /64 in IPv6 (default 64): a studio's encoders behind
    /// one address, and their reconnects.
    pub connections_per_address_max: usize,
    /// How long the gate may think (default 5 s).
    pub answer: Duration,
    /// How long media may wait when the slot's channel is full (default 2 s).
    pub media_wait: Duration,
    /// How long a client may take to read an answer (default 5 s).
    pub write: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            patience: Patience::default(),
            connections_max: 512,
            connections_per_address_max: 64,
            answer: Duration::from_secs(5),
            media_wait: Duration::from_secs(2),
            write: Duration::from_secs(5),
        }
    }
}

/// What happened on a listener since it started.
#[derive(Debug, Default)]
pub struct ListenerCounters {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Times that accepting failed, mostly for want of file descriptors.
    pub accept_failures: AtomicU64,
    /// Connections closed at once, because there were too many.
    pub turned_away: AtomicU64,
    /// Publishers that the gate let in.
    pub published: AtomicU64,
    /// Publishers that the gate refused.
    pub refused: AtomicU64,
    /// Connections that ended by a broken rule, an unusable codec or a time-out.
    pub failed: AtomicU64,
    /// Connections that ended by a panic: each one is a bug here.
    pub panicked: AtomicU64,
}

/// Serves publishers until `stop` becomes true or its sender is gone; then ends the connections
/// with a reason and returns within about two seconds.
pub async fn run<G: PublishGate>(
    listener: TcpListener,
    gate: Arc<G>,
    limits: ListenerLimits,
    counters: Arc<ListenerCounters>,
    stop: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    let mut room = Room::default();
    let mut full = Seldom::default();
    let mut broken = Seldom::default();
    let mut stopping = stop.clone();
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stopping) => break,
            Some(done) = tasks.join_next_with_id() => {
                room.leave(&done, &counters);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors or memory, mostly: accepting again at once would spin.
                counters.accept_failures.fetch_add(1, Ordering::Relaxed);
                if let Some(more) = broken.due() {
                    warn!(%error, more, "cannot accept RTMP connections, pausing");
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let address = customer(peer.ip());
        if !room.has_place(address, &limits) {
            counters.turned_away.fetch_add(1, Ordering::Relaxed);
            if let Some(more) = full.due() {
                warn!(peer = shown(peer), more, "too many RTMP connections, closing new ones");
            }
            continue;
        }
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        let serving = serve(socket, peer, gate.clone(), limits, counters.clone(), stop.clone());
        let task = tasks.spawn(serving.instrument(info_span!("rtmp", peer = shown(peer))));
        room.enter(task.id(), address);
    }
    drop(listener);
    let rest = async { while tasks.join_next().await.is_some() {} };
    if timeout(STOP_WAIT, rest).await.is_err() {
        warn!(connections = tasks.len(), "RTMP connections did not end in time");
    }
}

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long connections may take to end when the listener stops.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// How long a client may take to read our last words and close.
const LINGER: Duration = Duration::from_secs(1);

/// What is read in one go, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// Fastest a publisher is read, in bytes per millisecond: twice the 120 Mbit/s that the largest
/// part is made for. Bounds what can wait in the slot's channel.
const PACE_BYTES_PER_MS: u64 = 30_000;

/// What may come faster than that at once, in bytes: two messages of the largest size.
const PACE_BURST_BYTES: u64 = 2 * super::MESSAGE_BYTES_MAX as u64;

/// Who is connected from where.
#[derive(Debug, Default)]
struct Room {
    tasks: HashMap<tokio::task::Id, IpAddr>,
    addresses: BTreeMap<IpAddr, usize>,
}

impl Room {
    fn has_place(&self, address: IpAddr, limits: &ListenerLimits) -> bool {
        self.tasks.len() < limits.connections_max
            && self.addresses.get(&address).copied().unwrap_or(0)
                < limits.connections_per_address_max
    }

    fn enter(&mut self, task: tokio::task::Id, address: IpAddr) {
        self.tasks.insert(task, address);
        *self.addresses.entry(address).or_default() += 1;
    }

    fn leave(
        &mut self,
        done: &Result<(tokio::task::Id, ()), JoinError>,
        counters: &ListenerCounters,
    ) {
        let task = match done {
            Ok((task, ())) => *task,
            Err(error) => {
                if error.is_panic() {
                    counters.panicked.fetch_add(1, Ordering::Relaxed);
                    error!(%error, "an RTMP connection panicked; only this one has ended");
                }
                error.id()
            }
        };
        let Some(address) = self.tasks.remove(&task) else { return };
        if let Some(count) = self.addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
    }
}

/// Lets one line through every ten seconds, and counts what it kept back.
#[derive(Debug, Default)]
struct Seldom {
    last: Option<Instant>,
    kept_back: u64,
}

impl Seldom {
    fn due(&mut self) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < Duration::from_secs(10)) {
            self.kept_back += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.kept_back))
    }
}

/// What a log says of an encoder's address.
fn shown(peer: SocketAddr) -> String {
    redact::address(peer.ip().to_canonical())
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it whoever wanted us.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Why a connection's task is done.
#[derive(Debug)]
enum Outcome {
    /// The protocol ended it.
    Ended(End),
    /// It was refused, or ended from our side.
    Refused(Refusal),
    /// The socket is closed or broken.
    Lost(String),
}

async fn serve<G: PublishGate>(
    socket: TcpStream,
    peer: SocketAddr,
    gate: Arc<G>,
    limits: ListenerLimits,
    counters: Arc<ListenerCounters>,
    stop: watch::Receiver<bool>,
) {
    if let Err(error) = prepare(&socket) {
        warn!(%error, "cannot set socket options");
    }
    let mut publisher = Publisher {
        socket,
        peer,
        gate,
        limits,
        connection: Connection::new(limits.patience, 0),
        started: Instant::now(),
        slot: None,
        stop,
        bytes: 0,
    };
    let outcome = publisher.drive(&counters).await;
    let seconds = publisher.started.elapsed().as_secs();
    let stream = publisher.slot.as_ref().map(|slot| slot.stream.to_string());
    let bytes = publisher.bytes;
    let refused = |refusal: &Refusal| {
        counters.refused.fetch_add(1, Ordering::Relaxed);
        info!(reason = %refusal, "publisher refused");
    };
    match (&outcome, stream) {
        (Outcome::Ended(End::Finished), Some(stream)) => {
            info!(stream, seconds, bytes, "publisher finished");
        }
        (Outcome::Ended(end), stream) => {
            counters.failed.fetch_add(1, Ordering::Relaxed);
            warn!(stream, seconds, bytes, reason = %end, "publisher ended");
        }
        (Outcome::Refused(refusal), None) => refused(refusal),
        (Outcome::Refused(refusal), Some(stream)) => {
            warn!(stream, seconds, bytes, reason = %refusal, "publisher ended");
        }
        (Outcome::Lost(reason), Some(stream)) => {
            warn!(stream, seconds, bytes, reason, "publisher lost");
        }
        // A port scan, or a client that changed its mind.
        (Outcome::Lost(_), None) => {}
    }
    // The stream is told before the client: its grace starts now.
    publisher.slot = None;
    if let Outcome::Refused(refusal) = &outcome {
        publisher.connection.refuse(&refusal.rejection());
    }
    if !matches!(outcome, Outcome::Lost(_)) {
        publisher.say_goodbye().await;
    }
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

struct Publisher<G> {
    socket: TcpStream,
    peer: SocketAddr,
    gate: Arc<G>,
    limits: ListenerLimits,
    connection: Connection,
    started: Instant,
    slot: Option<PublishSlot>,
    stop: watch::Receiver<bool>,
    bytes: u64,
}

impl<G: PublishGate> Publisher<G> {
    async fn drive(&mut self, counters: &ListenerCounters) -> Outcome {
        let mut buffer = vec![0; READ_BYTES];
        let mut pace = Pace::default();
        loop {
            while let Some(event) = self.connection.poll_event() {
                let done = match event {
                    Event::Publish(key) => {
                        if let Err(lost) = self.flush().await {
                            return lost;
                        }
                        self.ask(&key, counters).await
                    }
                    Event::Metadata(metadata) => {
                        let stream = self.slot.as_ref().map(|slot| slot.stream.as_str());
                        info!(stream, ?metadata, "publisher describes its stream");
                        Ok(())
                    }
                    Event::Media(media) => self.deliver(media).await.map_err(Outcome::Refused),
                    Event::Ended(end) => Err(Outcome::Ended(end)),
                };
                if let Err(outcome) = done {
                    return outcome;
                }
            }
            if let Err(lost) = self.flush().await {
                return lost;
            }
            let deadline_ms = self.connection.poll_timeout().unwrap_or(u64::MAX);
            let now_ms = self.now_ms();
            let wait = Duration::from_millis(pace.wait_ms(now_ms));
            let socket = &mut self.socket;
            let reading = async {
                sleep(wait).await;
                socket.read(&mut buffer).await
            };
            let read = tokio::select! {
                biased;
                refusal = cancelled(&mut self.slot, &mut self.stop) => {
                    return Outcome::Refused(refusal);
                }
                read = reading => Some(read),
                () = sleep(Duration::from_millis(deadline_ms.saturating_sub(now_ms))) => None,
            };
            let now_ms = self.now_ms();
            match read {
                None => self.connection.handle_timeout(now_ms),
                Some(Ok(0)) => return Outcome::Lost("the encoder closed the connection".into()),
                Some(Ok(len)) => {
                    self.bytes += len as u64;
                    pace.spend(len as u64);
                    self.connection.handle_bytes(buffer.get(..len).unwrap_or_default(), now_ms);
                }
                Some(Err(error)) => return Outcome::Lost(error.to_string()),
            }
        }
    }

    async fn ask(&mut self, key: &StreamKey, counters: &ListenerCounters) -> Result<(), Outcome> {
        let answer = tokio::select! {
            answer = timeout(self.limits.answer, self.gate.authorize(key, self.peer)) => answer,
            () = stopped(&mut self.stop) => Ok(Err(Refusal::Restarting)),
        };
        let slot = match answer {
            Ok(Ok(slot)) => slot,
            Ok(Err(refusal)) => return Err(Outcome::Refused(refusal)),
            Err(_) => return Err(Outcome::Refused(Refusal::NotReady)),
        };
        counters.published.fetch_add(1, Ordering::Relaxed);
        info!(stream = %slot.stream, "publishing");
        self.slot = Some(slot);
        self.connection.accept();
        Ok(())
    }

    /// Hands media on; waits a little when the stream is behind, and no longer.
    async fn deliver(&mut self, media: Media) -> Result<(), Refusal> {
        let Some(slot) = &self.slot else { return Ok(()) };
        let media = match slot.media.try_send(media) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Refusal::Stopped),
            Err(mpsc::error::TrySendError::Full(media)) => media,
        };
        let sender = slot.media.clone();
        tokio::select! {
            biased;
            refusal = cancelled(&mut self.slot, &mut self.stop) => Err(refusal),
            sent = timeout(self.limits.media_wait, sender.send(media)) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(Refusal::Stopped),
                Err(_) => Err(Refusal::NotTaken),
            },
        }
    }

    async fn flush(&mut self) -> Result<(), Outcome> {
        while let Some(bytes) = self.connection.poll_output() {
            match timeout(self.limits.write, self.socket.write_all(&bytes)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(Outcome::Lost(error.to_string())),
                Err(_) => return Err(Outcome::Lost("the encoder reads no answers".into())),
            }
        }
        Ok(())
    }

    /// Sends the last words and waits for the client to close. Closing at once, with its bytes
    /// unread, would reset the connection and the words could be lost on the way.
    async fn say_goodbye(&mut self) {
        let goodbye = async {
            if self.flush().await.is_err() || self.socket.shutdown().await.is_err() {
                return;
            }
            let mut buffer = vec![0; READ_BYTES];
            while matches!(self.socket.read(&mut buffer).await, Ok(len) if len > 0) {}
        };
        // Late or not, the socket is closed after this.
        let _ = timeout(LINGER, goodbye).await;
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

/// Waits until the slot is taken back or the listener stops.
async fn cancelled(slot: &mut Option<PublishSlot>, stop: &mut watch::Receiver<bool>) -> Refusal {
    let taken_back = async {
        match slot {
            Some(slot) => match slot.cancel.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or(Refusal::Stopped),
                Err(_) => Refusal::Stopped,
            },
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        refusal = taken_back => refusal,
        () = stopped(stop) => Refusal::Restarting,
    }
}

/// A bucket that fills at [`PACE_BYTES_PER_MS`] and holds [`PACE_BURST_BYTES`].
#[derive(Debug, Default)]
struct Pace {
    /// What was taken beyond what has flowed in since.
    owed_bytes: u64,
    at_ms: u64,
}

impl Pace {
    fn spend(&mut self, bytes: u64) {
        self.owed_bytes = self.owed_bytes.saturating_add(bytes);
    }

    /// How long to wait before reading on, in milliseconds.
    fn wait_ms(&mut self, now_ms: u64) -> u64 {
        let flowed = now_ms.saturating_sub(self.at_ms).saturating_mul(PACE_BYTES_PER_MS);
        self.at_ms = now_ms;
        self.owed_bytes = self.owed_bytes.saturating_sub(flowed);
        self.owed_bytes.saturating_sub(PACE_BURST_BYTES).div_ceil(PACE_BYTES_PER_MS)
    }
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
