//! Framed messages between the broadcaster and its worker, over one Unix socket that is the
//! worker's standard input. Pure: bytes in, messages out.
//!
//! Frame: `length: u32 LE` of what follows, `type: u8`, body. Bodies are JSON for what is rare
//! and fixed binary layouts (little endian) for media. A frame that breaks a rule is a typed
//! error, after which the stream of bytes cannot be trusted and the connection ends.
//!
//! Types below 0x80 are commands (`command.rs`), the others reports (`report.rs`).

mod command;
mod frame;
mod report;

pub use command::{Command, Lowered, Order, Source, Start};
pub use frame::{FRAME_BYTES_MAX, IpcError, take_frame};
pub use report::{
    Changed, EncoderStatus, FailCode, Failed, MadeRendition, PASSTHROUGH, Part, Ready, Report,
    Status, Withdrawn,
};

#[cfg(test)]
mod tests;
