//! The accept loop and the life of a connection: caps, time-outs, TLS, graceful end.
//!
//! `axum::serve` has no working header time-out, so this is our own loop over hyper. A connection
//! that sends or reads too slowly is closed; one that costs nothing but waits for the next part
//! stays.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Response;
use crate::net::customer;
use crate::origin::holds::Holds;
use crate::origin::sender::{FileSender, Filed};
use crate::origin::stall::StallGuard;
use crate::origin::tls::Tls;

/// A request's head, and the pause between two requests, may take this long (faults.md row 11).
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A TLS handshake may take this long (faults.md row 23).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that takes nothing of what we send for this long is gone (faults.md row 12).
const WRITE_STALL: Duration = Duration::from_secs(20);

/// After a stop, requests under way have this long; blocked ones are released by their streams.
const DRAIN: Duration = Duration::from_secs(2);

/// Pause when the process is out of file handles (faults.md row 70).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that may wait in the kernel: a crowd of thousands within a tick.
const BACKLOG: i32 = 8192;

/// Longest request head in bytes (faults.md row 14); also the read buffer's bound.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Streams at once on an HTTP/2 connection: a browser with several tabs and blocked reloads.
const H2_STREAMS_MAX: u32 = 128;

/// What bounds the connections of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Connections in all.
    pub connections_max: usize,
    /// Connections from one address, loopback excepted: proxies live there.
    pub per_address_max: usize,
}

/// What a listener has seen. For metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections open now.
    pub open: AtomicUsize,
    /// Connections ever accepted.
    pub accepted: AtomicU64,
    /// Connections refused by a cap.
    pub refused: AtomicU64,
}

/// A listener and what it may take.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    tls: Option<Tls>,
    caps: Caps,
    counters: Arc<Counters>,
    addresses: Arc<Addresses>,
}

/// Connections per address.
#[derive(Debug, Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// Counts a connection until it is dropped.
struct Slot {
    counters: Arc<Counters>,
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Server {
    /// Binds a listener.
    ///
    /// # Errors
    /// When the address cannot be bound, for instance because it is in use.
    pub fn bind(address: SocketAddr, tls: Option<Tls>, caps: Caps) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restarted broadcaster must get its port back at once.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        Ok(Self { listener, tls, caps, counters: Arc::default(), addresses: Arc::default() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What it has seen.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Accepts until `stop` says so, then lets requests under way end. Each request goes to
    /// `handle` with the client's address.
    pub async fn run<H, F>(self, handle: H, mut stop: watch::Receiver<bool>)
    where
        H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let http = Arc::new(builder());
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            };
            let Some(slot) = self.slot(peer.ip()) else { continue };
            let (http, tls, handle, stop) =
                (http.clone(), self.tls.clone(), handle.clone(), stop.clone());
            connections.spawn(async move {
                let _slot = slot;
                connection(socket, peer, tls, &http, handle, stop).await;
            });
        }
        // From now on the system refuses clients, so that they try again and do not hang.
        drop(self.listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        // What is still open after that is cut when the set is dropped.
        let _ = tokio::time::timeout(DRAIN, drained).await;
    }

    fn slot(&self, address: IpAddr) -> Option<Slot> {
        let address = customer(address);
        let per_address = match address.is_loopback() {
            true => self.caps.connections_max,
            false => self.caps.per_address_max,
        };
        let mut addresses = self.addresses.lock();
        let open = addresses.get(&address).copied().unwrap_or(0);
        if open >= per_address
            || self.counters.open.load(Ordering::Relaxed) >= self.caps.connections_max
        {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        addresses.insert(address, open + 1);
        self.counters.open.fetch_add(1, Ordering::Relaxed);
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let (counters, addresses) = (self.counters.clone(), self.addresses.clone());
        Some(Slot { counters, addresses, address })
    }
}

impl Addresses {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
        let mut addresses = self.addresses.lock();
        if let Some(open) = addresses.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(HEAD_TIMEOUT)
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        // Rapid resets (CVE-2023-44487) end the connection.
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(64)
        .max_send_buf_size(256 * 1024);
    http
}

async fn connection<H, F>(
    socket: TcpStream,
    peer: SocketAddr,
    tls: Option<Tls>,
    http: &auto::Builder<TokioExecutor>,
    handle: H,
    stop: watch::Receiver<bool>,
) where
    H: Fn(Request<Incoming>, SocketAddr) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    if let Err(error) = tune(&socket) {
        tracing::debug!(%error, "a socket cannot be tuned");
    }
    match tls {
        None => {
            let filed = Filed::default();
            let socket = FileSender::new(socket, filed.clone());
            let handle = move |request, peer| {
                let (answer, filed) = (handle(request, peer), filed.clone());
                async move {
                    let response = answer.await;
                    filed.note(response.body());
                    response
                }
            };
            let socket = StallGuard::new(socket, WRITE_STALL);
            // Boxed, as below: a task is as large as the largest of what it may become, and
            // thousands of them wait.
            Box::pin(converse(socket, peer, http, handle, stop)).await;
        }
        Some(tls) => {
            let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket));
            if let Ok(Ok(socket)) = Box::pin(shaken).await {
                let socket = StallGuard::new(socket, WRITE_STALL);
                Box::pin(converse(socket, peer, http, handle, stop)).await;
            }
        }
    }
}

async fn converse<S, H, F>(
    socket: S,
    peer: SocketAddr,
    http: &auto::Builder<TokioExecutor>,
    handle: H,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, SocketAddr) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let first = asked.clone();
    let holds = Holds::default();
    let noting = holds.clone();
    let service = service_fn(move |request| {
        first.store(true, Ordering::Relaxed);
        let (answer, holds) = (handle(request, peer), noting.clone());
        async move {
            let mut response = answer.await;
            holds.note(response.body_mut());
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(socket), service));
    tokio::select! {
        biased;
        // How a client leaves is its own affair.
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
        () = without_request(&asked) => {}
        () = holds.expired() => return,
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        _ = connection => {}
        () = holds.expired() => {}
    }
}

/// Ends when nothing was asked in time. Hyper's own time-out for heads begins only once it knows
/// the version: a client that sends nothing, or part of HTTP/2's preface, would stay for ever.
async fn without_request(asked: &AtomicBool) {
    tokio::time::sleep(HEAD_TIMEOUT).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

fn tune(socket: &TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    // Finds clients that vanished while they wait for a part.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// Out of handles or memory: wait a little. Anything else concerns only the one connection.
pub(crate) async fn pause_after(error: &std::io::Error) {
    let starved = matches!(
        error.raw_os_error(),
        Some(libc_errno::EMFILE | libc_errno::ENFILE | libc_errno::ENOBUFS | libc_errno::ENOMEM)
    );
    if starved {
        tracing::error!(%error, "cannot accept connections; raise the limit of open files");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// The Linux error numbers that mean "no resources".
mod libc_errno {
    pub(super) const ENOMEM: i32 = rustix::io::Errno::NOMEM.raw_os_error();
    pub(super) const ENFILE: i32 = rustix::io::Errno::NFILE.raw_os_error();
    pub(super) const EMFILE: i32 = rustix::io::Errno::MFILE.raw_os_error();
    pub(super) const ENOBUFS: i32 = rustix::io::Errno::NOBUFS.raw_os_error();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_has_so_many_connections_and_proxies_on_this_machine_all_there_are() {
        let caps = Caps { connections_max: 5, per_address_max: 2 };
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(here, None, caps).expect("a port");
        let take = |address: &str| server.slot(address.parse().expect("an address"));
        let seen = |counter: &AtomicU64| counter.load(Ordering::Relaxed);

        let mut one: Vec<_> = (0..3).map(|_| take("192.0.2.1")).collect();
        assert!(one[0].is_some() && one[1].is_some() && one[2].is_none());
        assert!(take("::ffff:192.0.2.1").is_none(), "the same client by another listener");
        assert_eq!(seen(&server.counters.refused), 2);
        one.remove(0);
        let again = take("192.0.2.1");
        assert!(again.is_some(), "who left made room");

        let other = take("2001:db8::1");
        let proxied = ["127.0.0.1", "::ffff:127.0.0.1"].map(take);
        assert!(other.is_some() && proxied.iter().all(Option::is_some), "not one address's fault");
        assert!(take("127.0.0.1").is_none() && take("2001:db8::2").is_none(), "all are taken");
        assert_eq!(server.counters.open.load(Ordering::Relaxed), 5);
        drop((one, again, other, proxied));
        assert_eq!(server.counters.open.load(Ordering::Relaxed), 0);
        assert!(server.addresses.lock().is_empty(), "an address that left is remembered");
        assert_eq!((seen(&server.counters.accepted), seen(&server.counters.refused)), (6, 4));
    }
}
