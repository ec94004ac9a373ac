//! RTMP publishing: what OBS, ffmpeg, hardware encoders and phones speak.
//!
//! [`connection`] is the whole protocol as a pure state machine (bytes and time in, bytes and
//! events out); [`flv`] turns its audio and video bodies into [`crate::ingest::media`];
//! [`listener`] drives both over TCP and asks a [`listener::PublishGate`] who may publish.
//! Only publishing is spoken, never playing.

mod amf0;
mod chunk;
pub mod connection;
pub mod flv;
mod handshake;
pub mod listener;
mod message;

pub use amf0::{AmfError, DEPTH_MAX, VALUES_MAX};
pub use chunk::{CHUNK_STREAMS_MAX, MESSAGE_BYTES_MAX, UNFINISHED_BYTES_MAX};

/// A rule of RTMP that a client broke; its connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The first byte is not RTMP's version: a browser, a TLS client, a scanner.
    #[error("this is not RTMP (first byte {0:#04x})")]
    NotRtmp(u8),
    /// A header that builds on one that never came.
    #[error("chunk stream {0} starts without a full header")]
    NoHeader(u32),
    /// A new message inside an unfinished one of the same chunk stream.
    #[error("a message on chunk stream {0} is interrupted by another")]
    Interrupted(u32),
    /// Too many chunk streams.
    #[error("more than {CHUNK_STREAMS_MAX} chunk streams")]
    ChunkStreams,
    /// A message longer than allowed at this point.
    #[error("a message of {0} bytes is too long here")]
    MessageLength(usize),
    /// Too much unfinished at once.
    #[error("more than {UNFINISHED_BYTES_MAX} bytes of unfinished messages")]
    Unfinished,
    /// A protocol control message with an impossible body.
    #[error("control message {0} has an impossible body")]
    Control(u8),
    /// A command or metadata that is not AMF0.
    #[error("a command or metadata cannot be read: {0}")]
    Amf(#[from] AmfError),
    /// A command without a name and a number.
    #[error("a command has no name or no number")]
    Command,
    /// More commands than a publisher needs.
    #[error("more than {} commands", connection::COMMANDS_MAX)]
    Commands,
    /// A command out of order, such as publishing before connecting.
    #[error("{0} comes out of order")]
    Order(&'static str),
}
