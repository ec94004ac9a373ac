//! A plain socket that sends a segment from its file where there is one: the kernel then passes on
//! the pages it has anyway and copies nothing (decision 0004).
//!
//! HTTP above sees an ordinary socket: it writes the memory of the parts. This one recognises that
//! memory by its address, which stays taken for as long as [`Filed`] holds the parts.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::body::{Body, Pieces};
use crate::store::segment_file::SegmentFile;

/// Shorter runs are not worth a call of their own: HTTP/2 sends such, between its frames' heads.
const RUN_BYTES_MIN: usize = 64 * 1024;

/// The segment that a connection sends from a file, until its next response.
#[derive(Clone, Debug, Default)]
pub(super) struct Filed(Arc<Mutex<Option<Whole>>>);

/// A segment in memory and in its file.
#[derive(Debug)]
struct Whole {
    pieces: Pieces,
    file: Arc<SegmentFile>,
}

/// Passes everything through; what [`Filed`] knows, by `sendfile`.
#[derive(Debug)]
pub(super) struct FileSender {
    socket: TcpStream,
    filed: Filed,
}

/// A run of bytes that also stands in a file.
struct Run {
    file: Arc<SegmentFile>,
    offset: u64,
    len: usize,
}

impl Filed {
    /// Takes note of the next response.
    pub(super) fn note(&self, body: &Body) {
        *self.lock() = match body {
            Body::Filed(pieces, file) => {
                Some(Whole { pieces: pieces.iter().cloned().collect(), file: file.clone() })
            }
            _ => None,
        };
    }

    /// From now on everything is sent from memory.
    fn forget(&self) {
        *self.lock() = None;
    }

    /// The run that `slices` begin with, when they stand in the file one behind the other.
    fn run(&self, slices: &[IoSlice<'_>]) -> Option<Run> {
        let filed = self.lock();
        let Whole { pieces, file } = filed.as_ref()?;
        let first = slices.first()?;
        let mut before = 0;
        for (at, piece) in pieces.iter().enumerate() {
            if let Some(skip) = place_in(piece, first) {
                let len = run_len(slices, pieces.iter().skip(at), skip);
                let offset = before + skip as u64;
                return (len >= RUN_BYTES_MIN).then(|| Run { file: file.clone(), offset, len });
            }
            before += piece.len() as u64;
        }
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Whole>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far into `piece` the slice begins, when it is a part of it.
fn place_in(piece: &[u8], slice: &[u8]) -> Option<usize> {
    let skip = (slice.as_ptr() as usize).checked_sub(piece.as_ptr() as usize)?;
    (skip + slice.len() <= piece.len()).then_some(skip)
}

/// How many bytes from the first of `slices` on follow each other in `pieces` without a hole,
/// beginning `skip` bytes into the first piece.
fn run_len<'a>(
    slices: &[IoSlice<'_>],
    pieces: impl Iterator<Item = &'a bytes::Bytes>,
    mut skip: usize,
) -> usize {
    let mut len = 0;
    for (slice, piece) in slices.iter().zip(pieces) {
        if place_in(piece, slice) != Some(skip) {
            break;
        }
        len += slice.len();
        if skip + slice.len() < piece.len() {
            break;
        }
        skip = 0;
    }
    len
}

impl FileSender {
    /// Sends on `socket`; `filed` says what may come from a file.
    pub(super) fn new(socket: TcpStream, filed: Filed) -> Self {
        Self { socket, filed }
    }

    fn poll_sendfile(&self, cx: &mut Context<'_>, run: &Run) -> Poll<io::Result<usize>> {
        self.poll_io(cx, || {
            let mut offset = run.offset;
            rustix::fs::sendfile(&self.socket, run.file.file(), Some(&mut offset), run.len)
        })
    }

    /// Sends what more is to follow at once, so that it shares a packet with that.
    fn poll_send_more(&self, cx: &mut Context<'_>, head: &[u8]) -> Poll<io::Result<usize>> {
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
        self.poll_io(cx, || rustix::net::send(&self.socket, head, flags))
    }

    fn poll_io(
        &self,
        cx: &mut Context<'_>,
        mut io: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_io(Interest::WRITABLE, || Ok(io()?)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncRead for FileSender {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for FileSender {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(run) = self.filed.run(slices) {
            match ready!(self.poll_sendfile(cx, &run)) {
                Ok(sent) if sent > 0 => return Poll::Ready(Ok(sent)),
                // Cut short by somebody, or unreadable: memory has the same bytes.
                _ => self.filed.forget(),
            }
        }
        if let Some((head, rest)) = slices.split_first()
            && self.filed.run(rest).is_some()
        {
            return self.poll_send_more(cx, head);
        }
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::store::segment_file::Room;

    /// Parts of a segment; in the file each byte has its lowest bit turned, so that a reader sees
    /// what came from where.
    fn segment(lengths: &[usize], file_cut_at: u64) -> (Body, Vec<u8>, Vec<u8>) {
        let parts: Vec<Bytes> = (1u8..)
            .zip(lengths)
            .map(|(n, len)| (0..*len).map(|i| (i as u8).wrapping_mul(n) & !1).collect())
            .collect();
        let memory = parts.concat();
        let turned: Vec<u8> = memory.iter().map(|b| b | 1).collect();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&turned).expect("written");
        file.set_len(file_cut_at.min(memory.len() as u64)).expect("cut");
        let file = Room::default().keep(file, memory.len() as u64).expect("room");
        (Body::Filed(parts.into_iter().collect(), Arc::new(file)), memory, turned)
    }

    /// What a reader gets of these slices.
    async fn sent(filed: Filed, slices: &mut [IoSlice<'_>]) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let reader = tokio::spawn(async move {
            let mut got = Vec::new();
            let mut socket = TcpStream::connect(address).await.expect("a connection");
            socket.read_to_end(&mut got).await.expect("everything");
            got
        });
        let socket = listener.accept().await.expect("a connection").0;
        let mut sender = FileSender::new(socket, filed);
        let mut left = slices;
        while !left.is_empty() {
            let sent = sender.write_vectored(left).await.expect("sent");
            assert!(sent > 0);
            IoSlice::advance_slices(&mut left, sent);
        }
        drop(sender);
        reader.await.expect("it read")
    }

    fn slices<'a>(head: &'a [u8], body: &'a Body) -> Vec<IoSlice<'a>> {
        let Body::Filed(pieces, _) = body else { panic!("a body of a file") };
        std::iter::once(head).chain(pieces.iter().map(|p| &p[..])).map(IoSlice::new).collect()
    }

    #[tokio::test]
    async fn the_head_comes_from_memory_and_all_parts_come_from_the_file() {
        let (body, _, in_file) = segment(&[400_000, 1, 300_000], u64::MAX);
        let filed = Filed::default();
        filed.note(&body);
        let got = sent(filed, &mut slices(b"a head", &body)).await;
        assert!(got == [b"a head", &in_file[..]].concat());
    }

    #[tokio::test]
    async fn a_file_that_is_cut_short_is_left_and_the_rest_comes_from_memory() {
        let (body, memory, in_file) = segment(&[200_000, 200_000], 300_000);
        let filed = Filed::default();
        filed.note(&body);
        let got = sent(filed, &mut slices(b"head", &body)).await;
        assert!(got == [b"head", &in_file[..300_000], &memory[300_000..]].concat());
    }

    #[tokio::test]
    async fn what_another_response_sends_and_what_is_short_comes_from_memory() {
        let (one, ..) = segment(&[200_000], u64::MAX);
        let (other, memory, _) = segment(&[200_000], u64::MAX);
        let filed = Filed::default();
        filed.note(&one);
        let got = sent(filed.clone(), &mut slices(b"", &other)).await;
        assert!(got == memory);
        filed.note(&other);
        let got = sent(filed, &mut [IoSlice::new(&slices(b"", &other)[1][..1000])]).await;
        assert!(got == memory[..1000]);
    }
}
