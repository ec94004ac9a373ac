//! RTMP messages: what a publisher's mean, and the few that a server sends.

use bytes::{Buf, Bytes, BytesMut};

use super::ProtocolError;
use super::amf0::{self, Value};
use super::chunk::{ChunkWriter, Message};

/// What a message of a publisher asks or carries.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming {
    /// An acknowledgement each time we have received this many bytes.
    WindowSize(u32),
    /// An answer that carries these bytes back.
    Ping([u8; 4]),
    /// A command with its transaction number and arguments.
    Command {
        name: String,
        transaction: f64,
        /// The command object, then the other arguments.
        arguments: Vec<Value>,
    },
    /// Metadata and other data: a name, then values.
    Data(Vec<Value>),
    /// The body of an FLV audio tag.
    Audio(Bytes),
    /// The body of an FLV video tag.
    Video(Bytes),
    /// Anything that needs no answer.
    Other,
}

// Message type ids (RTMP 1.0, sections 5.4 and 7.1).
const ACKNOWLEDGEMENT: u8 = 3;
const USER_CONTROL: u8 = 4;
const WINDOW_SIZE: u8 = 5;
const PEER_BANDWIDTH: u8 = 6;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const DATA_AMF3: u8 = 15;
const COMMAND_AMF3: u8 = 17;
const DATA: u8 = 18;
const COMMAND: u8 = 20;

// User control events (section 7.1.7).
const STREAM_BEGIN: u16 = 0;
const PING_REQUEST: u16 = 6;
const PING_RESPONSE: u16 = 7;

/// Chunk streams that our messages use.
const CONTROL_CHUNKS: u8 = 2;
const COMMAND_CHUNKS: u8 = 3;
const STATUS_CHUNKS: u8 = 5;

/// Reads a message.
pub(super) fn decode(message: Message) -> Result<Incoming, ProtocolError> {
    let Message { kind, mut body, .. } = message;
    match kind {
        WINDOW_SIZE => match body.first_chunk::<4>() {
            Some(size) => Ok(Incoming::WindowSize(u32::from_be_bytes(*size))),
            None => Err(ProtocolError::Control(kind)),
        },
        USER_CONTROL => match body.first_chunk::<6>() {
            Some([a, b, value @ ..]) if u16::from_be_bytes([*a, *b]) == PING_REQUEST => {
                Ok(Incoming::Ping(*value))
            }
            _ => Ok(Incoming::Other),
        },
        AUDIO => Ok(Incoming::Audio(body)),
        VIDEO => Ok(Incoming::Video(body)),
        // The AMF3 kinds start with a byte that says which format follows; encoders that use
        // them at all still send AMF0 behind it.
        COMMAND_AMF3 | DATA_AMF3 if body.is_empty() => Err(ProtocolError::Command),
        COMMAND_AMF3 => {
            body.advance(1);
            command(&body)
        }
        COMMAND => command(&body),
        DATA_AMF3 => {
            body.advance(1);
            Ok(Incoming::Data(amf0::read_all(&body)?))
        }
        DATA => Ok(Incoming::Data(amf0::read_all(&body)?)),
        _ => Ok(Incoming::Other),
    }
}

fn command(body: &[u8]) -> Result<Incoming, ProtocolError> {
    let mut values = amf0::read_all(body)?.into_iter();
    match (values.next(), values.next()) {
        (Some(Value::String(name)), Some(Value::Number(transaction))) => {
            Ok(Incoming::Command { name, transaction, arguments: values.collect() })
        }
        _ => Err(ProtocolError::Command),
    }
}

/// Writes a server's messages as chunks.
#[derive(Debug)]
pub(super) struct Outgoing {
    chunks: ChunkWriter,
    /// What is ready to be sent.
    pub(super) bytes: BytesMut,
}

/// The answer's severity, as encoders read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Status,
    Error,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self { chunks: ChunkWriter::new(), bytes: BytesMut::new() }
    }

    pub(super) fn set_chunk_size(&mut self, size: u32) {
        self.chunks.set_chunk_size(size, &mut self.bytes);
    }

    /// Says that `total` bytes have been received, a count that wraps.
    pub(super) fn acknowledge(&mut self, total: u32) {
        self.control(ACKNOWLEDGEMENT, &total.to_be_bytes());
    }

    /// Asks for acknowledgements each `size` bytes, and allows that much without one.
    pub(super) fn window(&mut self, size: u32) {
        self.control(WINDOW_SIZE, &size.to_be_bytes());
        let [a, b, c, d] = size.to_be_bytes();
        self.control(PEER_BANDWIDTH, &[a, b, c, d, 2]); // 2: dynamic
    }

    pub(super) fn pong(&mut self, value: [u8; 4]) {
        self.user_control(PING_RESPONSE, value);
    }

    pub(super) fn stream_begin(&mut self, stream: u32) {
        self.user_control(STREAM_BEGIN, stream.to_be_bytes());
    }

    /// Answers the command with that transaction number.
    pub(super) fn result(&mut self, transaction: f64, object: Value, value: Value) {
        let values = ["_result".into(), transaction.into(), object, value];
        self.command(COMMAND_CHUNKS, 0, &values);
    }

    /// Tells the publisher of `stream` how its stream stands; `description` is what its log shows.
    pub(super) fn status(&mut self, stream: u32, level: Level, code: &str, description: &str) {
        let level = match level {
            Level::Status => "status",
            Level::Error => "error",
        };
        let information = Value::object([
            ("level", level.into()),
            ("code", code.into()),
            ("description", description.into()),
        ]);
        let values = ["onStatus".into(), 0.0.into(), Value::Null, information];
        self.command(STATUS_CHUNKS, stream, &values);
    }

    fn command(&mut self, chunks: u8, stream: u32, values: &[Value]) {
        let mut body = BytesMut::new();
        values.iter().for_each(|value| value.write(&mut body));
        self.chunks.write(chunks, COMMAND, stream, &body, &mut self.bytes);
    }

    fn user_control(&mut self, event: u16, value: [u8; 4]) {
        let mut body = [0; 6];
        body[..2].copy_from_slice(&event.to_be_bytes());
        body[2..].copy_from_slice(&value);
        self.control(USER_CONTROL, &body);
    }

    fn control(&mut self, kind: u8, body: &[u8]) {
        self.chunks.write(CONTROL_CHUNKS, kind, 0, body, &mut self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &'static [u8]) -> Message {
        Message { kind, stream: 1, timestamp_ms: 0, body: Bytes::from_static(body) }
    }

    const COMMAND_BODY: &[u8] = b"\x02\x00\x01x\x00\x3f\xf0\0\0\0\0\0\0\x05";

    #[test]
    fn a_command_is_read_in_both_of_its_kinds() {
        let expected =
            Incoming::Command { name: "x".into(), transaction: 1.0, arguments: vec![Value::Null] };
        assert_eq!(decode(message(COMMAND, COMMAND_BODY)).as_ref(), Ok(&expected));
        let amf3 = [&[0], COMMAND_BODY].concat();
        let amf3 = Message { body: amf3.into(), ..message(COMMAND_AMF3, b"") };
        assert_eq!(decode(amf3), Ok(expected));
    }

    #[test]
    fn commands_without_name_or_number_are_errors() {
        for body in [&b""[..], &COMMAND_BODY[..4], b"\x05\x05"] {
            assert_eq!(decode(message(COMMAND, body)), Err(ProtocolError::Command), "{body:?}");
        }
        assert_eq!(decode(message(COMMAND_AMF3, b"")), Err(ProtocolError::Command));
    }

    #[test]
    fn pings_carry_their_value_and_short_control_messages_are_ignored_or_refused() {
        assert_eq!(
            decode(message(USER_CONTROL, &[0, 6, 1, 2, 3, 4])),
            Ok(Incoming::Ping([1, 2, 3, 4]))
        );
        assert_eq!(decode(message(USER_CONTROL, &[0, 6, 1])), Ok(Incoming::Other));
        assert_eq!(decode(message(WINDOW_SIZE, &[1])), Err(ProtocolError::Control(WINDOW_SIZE)));
    }
}
