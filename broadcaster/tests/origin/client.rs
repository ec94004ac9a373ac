//! A client that sends exactly what it is told to and shows exactly what came back.

use std::io::Write as _;
use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::rig::{HANGS, Rig};

/// What came back, until the server closed.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header's value; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Rig {
    /// `GET` of something below `/live/show/`.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Answer {
        answer(self.address, &request(method, &format!("/live/show/{path}"), headers)).await
    }

    /// A `GET` that goes on while the test does.
    pub(crate) fn starts_to_get(&self, path: &str) -> tokio::task::JoinHandle<Answer> {
        let (address, path) = (self.address, format!("/live/show/{path}"));
        tokio::spawn(async move { answer(address, &request("GET", &path, &[])).await })
    }

    /// A connection on which these bytes stand before the server knows of it.
    pub(crate) fn connection(&self, bytes: &[u8]) -> TcpStream {
        let mut socket = std::net::TcpStream::connect(self.address).unwrap();
        socket.write_all(bytes).unwrap();
        socket.set_nonblocking(true).unwrap();
        TcpStream::from_std(socket).unwrap()
    }
}

/// A request after whose answer the server closes.
pub(crate) fn request(method: &str, path: &str, headers: &[&str]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Sends these bytes on a connection of their own.
pub(crate) async fn answer(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    read(&rest(&mut socket).await)
}

/// Everything until the server closes. One that closes before it read all we sent resets the
/// connection, after what it had to say.
pub(crate) async fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    let _ = timeout(HANGS, socket.read_to_end(&mut got)).await.expect("the server closes");
    got
}

/// Reads one response, with the body that its length announces.
pub(crate) fn read(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a response");
    let mut lines = std::str::from_utf8(&bytes[..end]).unwrap().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
    }
    let body = bytes[end + 4..].to_vec();
    assert!(!headers.contains_key("transfer-encoding"), "the length is known");
    Answer { status, headers, body }
}
