//! Response bodies: shared bytes, sent piece by piece without a copy.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// A body of the origin.
#[derive(Debug)]
pub enum Body {
    /// Bytes that are already here.
    Shared {
        /// What is still to be sent, in order.
        chunks: VecDeque<Bytes>,
        /// Its length in bytes.
        left: u64,
    },
    /// No bytes, but the length that they would have (for `HEAD`).
    Absent(u64),
    /// What the API or a page answers.
    Other(axum::body::Body),
}

impl Body {
    /// No bytes at all.
    pub fn empty() -> Self {
        Self::Shared { chunks: VecDeque::new(), left: 0 }
    }

    /// These bytes, in order.
    pub fn chunks(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        let chunks: VecDeque<_> = chunks.into_iter().filter(|c| !c.is_empty()).collect();
        let left = chunks.iter().map(|c| c.len() as u64).sum();
        Self::Shared { chunks, left }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::chunks([bytes])
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.get_mut() {
            Self::Shared { chunks, left } => Poll::Ready(chunks.pop_front().map(|chunk| {
                *left -= chunk.len() as u64;
                Ok(Frame::data(chunk))
            })),
            Self::Absent(_) => Poll::Ready(None),
            Self::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Shared { chunks, .. } => chunks.is_empty(),
            Self::Absent(_) => true,
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Shared { left, .. } | Self::Absent(left) => SizeHint::with_exact(*left),
            Self::Other(body) => body.size_hint(),
        }
    }
}
