//! Response bodies: shared bytes, sent piece by piece without a copy.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};

use super::holds::Hold;
use crate::store::segment_file::SegmentFile;

/// A body of the origin.
#[derive(Debug)]
pub enum Body {
    /// Bytes that are already here, sent as one frame: the socket gets all of them in one call.
    Shared(Pieces),
    /// The same for a whole segment that also stands in a file.
    Filed(Pieces, Arc<SegmentFile>),
    /// No bytes, but the length that they would have (for `HEAD`).
    Absent(u64),
    /// What the API or a page answers.
    Other(axum::body::Body),
}

/// Shared bytes, one piece behind the other.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    pieces: VecDeque<Bytes>,
    left: usize,
    /// Gone when all of this is sent, or given up.
    hold: Option<Hold>,
}

impl Body {
    /// No bytes at all.
    pub fn empty() -> Self {
        Self::Shared(Pieces::default())
    }

    /// Ties a hold to what is to be sent. Gives whether there is anything.
    pub(super) fn hold(&mut self, hold: Hold) -> bool {
        match self {
            Self::Shared(pieces) | Self::Filed(pieces, _) if pieces.has_remaining() => {
                pieces.hold = Some(hold);
                true
            }
            _ => false,
        }
    }

    /// These bytes, in order.
    pub fn pieces(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        Self::Shared(pieces.into_iter().collect())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::pieces([bytes])
    }
}

impl http_body::Body for Body {
    type Data = Pieces;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Pieces>, axum::Error>>> {
        match self.get_mut() {
            Self::Shared(pieces) | Self::Filed(pieces, _) => {
                let all = std::mem::take(pieces);
                Poll::Ready(all.has_remaining().then(|| Ok(Frame::data(all))))
            }
            Self::Absent(_) => Poll::Ready(None),
            Self::Other(body) => Pin::new(body).poll_frame(cx).map(|frame| {
                frame.map(|frame| frame.map(|f| f.map_data(|bytes| Pieces::from_iter([bytes]))))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Shared(pieces) | Self::Filed(pieces, _) => !pieces.has_remaining(),
            Self::Absent(_) => true,
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Shared(pieces) | Self::Filed(pieces, _) => {
                SizeHint::with_exact(pieces.left as u64)
            }
            Self::Absent(left) => SizeHint::with_exact(*left),
            Self::Other(body) => body.size_hint(),
        }
    }
}

impl Pieces {
    /// The pieces that are left.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter()
    }
}

impl FromIterator<Bytes> for Pieces {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        let pieces: VecDeque<_> = pieces.into_iter().filter(|p| !p.is_empty()).collect();
        let left = pieces.iter().map(Bytes::len).sum();
        Self { pieces, left, hold: None }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.pieces);
        filled.map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.left, "cannot advance past the end");
        self.left -= count;
        while let Some(front) = self.pieces.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_read_as_their_bytes_in_a_row_however_they_are_taken(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..6),
            steps in prop::collection::vec(1usize..12, 0..12),
        ) {
            let mut left = pieces.concat();
            let mut buf: Pieces = pieces.into_iter().map(Bytes::from).collect();
            for step in steps {
                let step = step.min(left.len());
                let mut slices = [IoSlice::new(&[]); 4];
                let count = buf.chunks_vectored(&mut slices);
                let seen: Vec<u8> = slices.iter().take(count).flat_map(|s| s.to_vec()).collect();
                prop_assert!(left.starts_with(&seen) && left.starts_with(buf.chunk()));
                prop_assert_eq!(buf.remaining(), left.len());
                prop_assert_eq!(buf.has_remaining(), !buf.chunk().is_empty());
                buf.advance(step);
                left.drain(..step);
            }
            prop_assert_eq!(buf.copy_to_bytes(buf.remaining()).to_vec(), left);
        }
    }
}
