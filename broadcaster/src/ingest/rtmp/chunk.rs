//! RTMP's chunk stream: messages cut into chunks and interleaved (RTMP 1.0, section 5.3).
//!
//! The reader takes bytes in any portions and gives whole messages; it follows the two control
//! messages that concern itself (Set Chunk Size, Abort). Memory is bounded by what has really
//! arrived, never by what a header announces.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::ProtocolError;

/// Chunk streams of one connection: encoders use 3 to 6; each costs about 100 bytes.
pub const CHUNK_STREAMS_MAX: usize = 64;

/// Largest message of a publisher, in bytes: a key frame at 120 Mbit/s is below 2 MiB.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Unfinished messages of one connection together, in bytes: one of the largest size, and another
/// interleaved with it.
pub const UNFINISHED_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;

/// Chunk size until a Set Chunk Size message, in both directions (section 5.4.1).
const CHUNK_SIZE_DEFAULT: usize = 128;

/// The value of the 3-byte timestamp field that says that 4 more bytes follow.
const EXTENDED: u32 = 0xff_ffff;

const SET_CHUNK_SIZE: u8 = 1;
const ABORT: u8 = 2;

/// One whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Its type id.
    pub(super) kind: u8,
    /// Its message stream id.
    pub(super) stream: u32,
    /// Its time in milliseconds on the sender's clock, which wraps.
    pub(super) timestamp_ms: u32,
    /// Its content.
    pub(super) body: Bytes,
}

/// Puts a peer's chunks together.
#[derive(Debug)]
pub(super) struct ChunkReader {
    chunk_size: usize,
    message_bytes_max: usize,
    streams: BTreeMap<u32, ChunkStream>,
    unfinished_bytes: usize,
    /// The chunk whose payload comes next, and how much of it is missing.
    open: Option<(u32, usize)>,
}

/// What the headers of one chunk stream have said so far.
#[derive(Debug, Default)]
struct ChunkStream {
    timestamp_ms: u32,
    /// What a header without a timestamp adds.
    delta_ms: u32,
    /// The 4-byte timestamp of the last header that had one, if it had one.
    extended: Option<u32>,
    length: usize,
    kind: u8,
    stream: u32,
    /// The unfinished message; `Some` from its first chunk to its last.
    body: Option<BytesMut>,
}

impl ChunkReader {
    /// A reader that accepts messages up to `message_bytes_max` bytes.
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self {
            chunk_size: CHUNK_SIZE_DEFAULT,
            message_bytes_max: message_bytes_max.min(MESSAGE_BYTES_MAX),
            streams: BTreeMap::new(),
            unfinished_bytes: 0,
            open: None,
        }
    }

    /// From now on accepts messages of every size up to [`MESSAGE_BYTES_MAX`].
    pub(super) fn accept_large_messages(&mut self) {
        self.message_bytes_max = MESSAGE_BYTES_MAX;
    }

    /// Takes bytes from `input` until a message is whole, or gives `None` when more are needed.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Message>, ProtocolError> {
        loop {
            let (id, missing) = match self.open {
                Some(open) => open,
                None => match self.header(input)? {
                    Some(open) => open,
                    None => return Ok(None),
                },
            };
            let Some(stream) = self.streams.get_mut(&id) else { return Ok(None) };
            let body = stream.body.get_or_insert_with(BytesMut::new);
            let taken = missing.min(input.len());
            self.unfinished_bytes += taken;
            if self.unfinished_bytes > UNFINISHED_BYTES_MAX {
                return Err(ProtocolError::Unfinished);
            }
            body.extend_from_slice(&input[..taken]);
            input.advance(taken);
            if taken < missing {
                self.open = Some((id, missing - taken));
                return Ok(None);
            }
            self.open = None;
            if body.len() < stream.length {
                continue;
            }
            let body = stream.body.take().unwrap_or_default().freeze();
            self.unfinished_bytes -= body.len();
            let message = Message {
                kind: stream.kind,
                stream: stream.stream,
                timestamp_ms: stream.timestamp_ms,
                body,
            };
            if !self.obey(&message)? {
                return Ok(Some(message));
            }
        }
    }

    /// Reads one chunk's header: the chunk stream's id and the length of the payload that follows.
    fn header(&mut self, input: &mut BytesMut) -> Result<Option<(u32, usize)>, ProtocolError> {
        let mut head = Header { bytes: input, at: 0 };
        let Some([first]) = head.take::<1>() else { return Ok(None) };
        let id = match first & 0x3f {
            0 => match head.take::<1>() {
                Some([low]) => 64 + u32::from(low),
                None => return Ok(None),
            },
            1 => match head.take::<2>() {
                Some([low, high]) => 64 + u32::from(low) + 256 * u32::from(high),
                None => return Ok(None),
            },
            id => u32::from(id),
        };
        let format = first >> 6;
        let known = self.streams.get(&id);
        let inside = known.is_some_and(|s| s.body.is_some());
        match (format, known) {
            // Continues or repeats a header that must have been there. librtmp starts its ping
            // stream with format 1, which can be read without a past.
            (2 | 3, None) => return Err(ProtocolError::NoHeader(id)),
            (0..=2, Some(_)) if inside => return Err(ProtocolError::Interrupted(id)),
            (_, None) if self.streams.len() >= CHUNK_STREAMS_MAX => {
                return Err(ProtocolError::ChunkStreams);
            }
            _ => {}
        }
        let mut time = None;
        let mut length_and_kind = None;
        let mut message_stream = None;
        if format <= 2 {
            let Some([a, b, c]) = head.take::<3>() else { return Ok(None) };
            time = Some(u32::from_be_bytes([0, a, b, c]));
        }
        if format <= 1 {
            let Some([a, b, c, kind]) = head.take::<4>() else { return Ok(None) };
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > self.message_bytes_max {
                return Err(ProtocolError::MessageLength(length));
            }
            length_and_kind = Some((length, kind));
        }
        if format == 0 {
            let Some(id) = head.take::<4>() else { return Ok(None) };
            message_stream = Some(u32::from_le_bytes(id));
        }
        let mut extended = None;
        if time == Some(EXTENDED) {
            let Some(bytes) = head.take::<4>() else { return Ok(None) };
            extended = Some(u32::from_be_bytes(bytes));
        } else if let (None, Some(repeated)) = (time, known.and_then(|s| s.extended)) {
            // Format 3 repeats the extended timestamp, except from some old encoders: then these
            // four bytes are payload and differ from it.
            let Some(bytes) = head.peek::<4>() else { return Ok(None) };
            if u32::from_be_bytes(bytes) == repeated {
                head.at += 4;
            }
            extended = Some(repeated);
        }
        let taken = head.at;
        input.advance(taken);

        let stream = self.streams.entry(id).or_default();
        stream.extended = extended;
        if let Some(time) = time {
            stream.delta_ms = extended.unwrap_or(time);
        }
        if let Some((length, kind)) = length_and_kind {
            (stream.length, stream.kind) = (length, kind);
        }
        if let Some(message_stream) = message_stream {
            stream.stream = message_stream;
        }
        match format {
            0 => stream.timestamp_ms = stream.delta_ms,
            _ if inside => {}
            _ => stream.timestamp_ms = stream.timestamp_ms.wrapping_add(stream.delta_ms),
        }
        if stream.length > self.message_bytes_max {
            return Err(ProtocolError::MessageLength(stream.length));
        }
        let missing = stream.length - stream.body.as_ref().map_or(0, BytesMut::len);
        Ok(Some((id, missing.min(self.chunk_size))))
    }

    /// Follows a message that is for the chunk stream itself; false when it is not.
    fn obey(&mut self, message: &Message) -> Result<bool, ProtocolError> {
        let argument = message.body.first_chunk::<4>().map(|b| u32::from_be_bytes(*b));
        match (message.kind, argument) {
            (SET_CHUNK_SIZE, Some(size @ 1..=0x7fff_ffff)) => {
                self.chunk_size = (size as usize).min(MESSAGE_BYTES_MAX);
                Ok(true)
            }
            (ABORT, Some(id)) => {
                if let Some(body) = self.streams.get_mut(&id).and_then(|s| s.body.take()) {
                    self.unfinished_bytes -= body.len();
                }
                Ok(true)
            }
            (SET_CHUNK_SIZE | ABORT, _) => Err(ProtocolError::Control(message.kind)),
            _ => Ok(false),
        }
    }
}

/// A look at the front of the input that takes nothing until the whole header is there.
struct Header<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Header<'_> {
    fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        self.bytes.get(self.at..)?.first_chunk().copied()
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = self.peek()?;
        self.at += N;
        Some(taken)
    }
}

/// Cuts our own messages into chunks: small ones with time 0, so a full header is cheap enough.
#[derive(Debug)]
pub(super) struct ChunkWriter {
    chunk_size: usize,
}

impl ChunkWriter {
    /// A writer with the protocol's default chunk size.
    pub(super) fn new() -> Self {
        Self { chunk_size: CHUNK_SIZE_DEFAULT }
    }

    /// Announces another chunk size and uses it from then on.
    pub(super) fn set_chunk_size(&mut self, size: u32, out: &mut BytesMut) {
        self.write(2, SET_CHUNK_SIZE, 0, &size.to_be_bytes(), out);
        self.chunk_size = size as usize;
    }

    /// Appends one message on chunk stream `id` (2 to 63) to `out`.
    pub(super) fn write(&self, id: u8, kind: u8, stream: u32, body: &[u8], out: &mut BytesMut) {
        out.put_u8(id);
        out.put_uint(0, 3);
        out.put_uint(body.len() as u64, 3);
        out.put_u8(kind);
        out.put_u32_le(stream);
        for (index, chunk) in body.chunks(self.chunk_size).enumerate() {
            if index > 0 {
                out.put_u8(0xc0 | id);
            }
            out.put_slice(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reader() -> ChunkReader {
        ChunkReader::new(MESSAGE_BYTES_MAX)
    }

    fn read(bytes: &[u8]) -> Result<Vec<Message>, ProtocolError> {
        let (mut reader, mut input) = (reader(), BytesMut::from(bytes));
        std::iter::from_fn(|| reader.next(&mut input).transpose()).collect()
    }

    /// Header of format 0 on chunk stream 4.
    fn full(time: u32, len: u32, kind: u8) -> Vec<u8> {
        let mut head = vec![4];
        head.extend(&time.to_be_bytes()[1..]);
        head.extend(&len.to_be_bytes()[1..]);
        head.push(kind);
        head.extend(1u32.to_le_bytes());
        head
    }

    #[test]
    fn a_message_longer_than_a_chunk_is_put_together() {
        let body: Vec<u8> = (0..300).map(|i| i as u8).collect();
        let mut out = BytesMut::new();
        ChunkWriter::new().write(5, 9, 7, &body, &mut out);
        let expected = Message { kind: 9, stream: 7, timestamp_ms: 0, body: body.into() };
        assert_eq!(read(&out), Ok(vec![expected]));
    }

    #[test]
    fn every_header_format_moves_time_as_the_specification_says() {
        let mut bytes = full(1000, 1, 9);
        bytes.push(0xa0);
        bytes.extend([0x44, 0, 0, 40, 0, 0, 1, 8, 0xa1]); // format 1: delta, length, type
        bytes.extend([0x84, 0, 0, 20, 0xa2]); // format 2: delta
        bytes.extend([0xc4, 0xa3]); // format 3: the same delta again
        let messages = read(&bytes).expect("valid chunks");
        let seen: Vec<_> = messages.iter().map(|m| (m.timestamp_ms, m.kind, m.body[0])).collect();
        assert_eq!(seen, [(1000, 9, 0xa0), (1040, 8, 0xa1), (1060, 8, 0xa2), (1080, 8, 0xa3)]);
        assert!(messages.iter().all(|m| m.stream == 1));
    }

    #[test]
    fn extended_timestamps_are_read_whether_or_not_continuations_repeat_them() {
        let time: u32 = 0x0123_4567;
        for repeated in [true, false] {
            let mut bytes = full(EXTENDED, 130, 9);
            bytes.extend(time.to_be_bytes());
            bytes.extend([0x55; 128]);
            bytes.push(0xc4);
            if repeated {
                bytes.extend(time.to_be_bytes());
            }
            bytes.extend([0x66; 2]);
            bytes.extend([0x84, 0, 0, 5].iter().chain(&[0x77; 130]).copied());
            bytes.insert(bytes.len() - 2, 0xc4);
            let messages = read(&bytes).expect("valid chunks");
            let times: Vec<_> = messages.iter().map(|m| m.timestamp_ms).collect();
            assert_eq!(times, [time, time + 5], "repeated: {repeated}");
            assert_eq!(&messages[0].body[127..], [0x55, 0x66, 0x66]);
        }
    }

    #[test]
    fn ids_of_one_two_and_three_bytes_are_read() {
        let mut bytes = Vec::new();
        for head in [vec![0x3f], vec![0x00, 200], vec![0x01, 1, 2]] {
            bytes.extend(head);
            bytes.extend([0, 0, 0, 0, 0, 1, 9, 1, 0, 0, 0, 0xee]);
        }
        assert_eq!(read(&bytes).map(|m| m.len()), Ok(3));
    }

    #[test]
    fn two_interleaved_messages_both_arrive() {
        let mut bytes = full(0, 130, 9);
        bytes.extend([1; 128]);
        bytes.extend([5, 0, 0, 0, 0, 0, 3, 8, 1, 0, 0, 0, 2, 2, 2]);
        bytes.extend([0xc4, 1, 1]);
        let kinds: Vec<_> = read(&bytes).expect("valid").iter().map(|m| m.kind).collect();
        assert_eq!(kinds, [8, 9]);
    }

    #[test]
    fn set_chunk_size_and_abort_are_obeyed() {
        let mut bytes = vec![2, 0, 0, 0, 0, 0, 4, SET_CHUNK_SIZE, 0, 0, 0, 0, 0, 0, 1, 0];
        bytes.extend(full(0, 300, 9));
        bytes.extend([1; 256]);
        bytes.extend([0xc2, 0, 0, 0, 0]); // on the control stream: a chunk size of 0
        assert_eq!(read(&bytes), Err(ProtocolError::Control(SET_CHUNK_SIZE)));
        bytes.truncate(bytes.len() - 5);
        bytes.extend([0x42, 0, 0, 0, 0, 0, 4, ABORT, 0, 0, 0, 4]);
        bytes.extend(full(7, 1, 8));
        bytes.push(9);
        let messages = read(&bytes).expect("a new message may start after an abort");
        assert_eq!(messages.iter().map(|m| m.timestamp_ms).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn broken_rules_are_named() {
        assert_eq!(read(&[0xc4]), Err(ProtocolError::NoHeader(4)));
        assert_eq!(read(&full(0, 9_000_000, 9)), Err(ProtocolError::MessageLength(9_000_000)));
        let mut twice = full(0, 200, 9);
        twice.extend([0; 128]);
        twice.extend(full(0, 200, 9));
        assert_eq!(read(&twice), Err(ProtocolError::Interrupted(4)));
        let many: Vec<u8> = (0..=CHUNK_STREAMS_MAX as u8)
            .flat_map(|id| [0x00, id, 0, 0, 0, 0, 0, 0, 9, 1, 0, 0, 0])
            .collect();
        assert_eq!(read(&many), Err(ProtocolError::ChunkStreams));
    }

    #[test]
    fn unfinished_messages_cannot_fill_the_memory() {
        let mut bytes = vec![2, 0, 0, 0, 0, 0, 4, SET_CHUNK_SIZE, 0, 0, 0, 0];
        bytes.extend(0x7f_0000u32.to_be_bytes());
        let mut reader = reader();
        let mut input = BytesMut::from(&bytes[..]);
        assert_eq!(reader.next(&mut input), Ok(None));
        let ended = (10..20u8).find_map(|id| {
            let mut head = full(0, MESSAGE_BYTES_MAX as u32, 9);
            head[0] = id;
            input.extend(head);
            input.extend(vec![0; 0x7f_0000]);
            reader.next(&mut input).err().map(|error| (id, error))
        });
        assert_eq!(ended, Some((12, ProtocolError::Unfinished)));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_messages_or_an_error(bytes: Vec<u8>) {
            if let Ok(messages) = read(&bytes) {
                let total: usize = messages.iter().map(|m| m.body.len()).sum();
                prop_assert!(total <= bytes.len());
            }
        }
    }
}
