//! The frames that messages travel in: taken from a stream of bytes, and put into one.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;

/// Largest frame, in bytes: the largest part plus its header.
pub const FRAME_BYTES_MAX: usize = common::limit::PART_BYTES_MAX as usize + 64;

/// Why bytes from the other side could not be read.
#[derive(Debug, thiserror::Error)]
pub enum IpcError {
    /// Longer than [`FRAME_BYTES_MAX`], or shorter than its type needs.
    #[error("a frame of type {kind:#04x} cannot have {len} bytes")]
    Length {
        /// The frame's type, 0 when not yet known.
        kind: u8,
        /// Its length.
        len: usize,
    },
    /// A type this side does not know.
    #[error("unknown frame type {0:#04x}")]
    Kind(u8),
    /// JSON that does not fit.
    #[error("bad JSON body: {0}")]
    Json(#[from] serde_json::Error),
    /// A field with an impossible value.
    #[error("bad value of {0}")]
    Value(&'static str),
}

/// Takes the next whole frame from `input`, or `None` when more bytes are needed.
/// Returns its type and body; the body shares `input`'s memory.
///
/// # Errors
/// [`IpcError::Length`] when the announced length is out of bounds.
pub fn take_frame(input: &mut BytesMut) -> Result<Option<(u8, Bytes)>, IpcError> {
    let Some(head) = input.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_le_bytes(*head) as usize;
    if len == 0 || len > FRAME_BYTES_MAX {
        return Err(IpcError::Length { kind: 0, len });
    }
    if input.len() < 4 + len {
        input.reserve(4 + len - input.len());
        return Ok(None);
    }
    input.advance(4);
    let mut body = input.split_to(len).freeze();
    let kind = body.get_u8();
    Ok(Some((kind, body)))
}

/// Takes the JSON header that stands before init segments.
pub(super) fn take_header<T: serde::de::DeserializeOwned>(
    kind: u8,
    mut body: Bytes,
) -> Result<(T, Bytes), IpcError> {
    if body.len() < 4 {
        return Err(IpcError::Length { kind, len: body.len() });
    }
    let header_len = body.get_u32_le() as usize;
    if header_len > body.len() {
        return Err(IpcError::Value("header length"));
    }
    Ok((serde_json::from_slice(&body.split_to(header_len))?, body))
}

pub(super) fn put_head(out: &mut BytesMut, kind: u8, body: usize) {
    out.reserve(5 + body);
    out.put_u32_le(body as u32 + 1);
    out.put_u8(kind);
}

pub(super) fn put_json(out: &mut BytesMut, kind: u8, body: &impl Serialize) {
    // Only plain structs with string keys come here, which JSON can always express.
    let body = serde_json::to_vec(body).unwrap_or_default();
    put_head(out, kind, body.len());
    out.put_slice(&body);
}
