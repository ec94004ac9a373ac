//! One publisher's connection as a state machine without sockets or clock.
//!
//! The driver hands in received bytes ([`Connection::handle_bytes`]) and passing time
//! ([`Connection::handle_timeout`], due at [`Connection::poll_timeout`]), then takes events until
//! there are none ([`Connection::poll_event`]) and sends what is ready
//! ([`Connection::poll_output`]). On [`Event::Publish`] nothing more is read until the driver
//! answers with [`Connection::accept`] or [`Connection::refuse`]. After [`Event::Ended`] the last
//! output is sent and the connection closed.
//!
//! Nothing is queued: input is read only as far as the event being asked for, so memory is
//! bounded by what the driver hands in, one unfinished message per chunk stream
//! ([`super::UNFINISHED_BYTES_MAX`]) and one answer per command.

use bytes::{Bytes, BytesMut};

use super::ProtocolError;
use super::amf0::Value;
use super::chunk::{ChunkReader, MESSAGE_BYTES_MAX};
use super::flv::{Demux, FlvError};
use super::handshake::Handshake;
use super::message::{self, Incoming, Level, Outgoing};
use crate::ingest::media::Media;
use crate::streams::key::StreamKey;

/// Commands before publishing; encoders send about 6. Bounds the answers an unknown client gets.
pub const COMMANDS_MAX: u32 = 64;

/// Largest message before publishing is accepted, in bytes: commands are below 1 KiB.
pub const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// The size of our own chunks, in bytes: any answer in one.
const CHUNK_SIZE: u32 = 4096;

/// Bytes after which each side acknowledges, until the publisher asks otherwise.
const WINDOW_BYTES: u32 = 2_500_000;

/// The only message stream of a connection.
const STREAM: u32 = 1;

/// How long an encoder that said goodbye may take to close, in milliseconds.
const GOODBYE_MS: u64 = 1000;

/// What a publisher waits for at most.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From connecting to asking to publish, in milliseconds (default 10 000).
    pub handshake_ms: u64,
    /// Between two frames, in milliseconds (default 15 000).
    pub idle_ms: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { handshake_ms: 10_000, idle_ms: 15_000 }
    }
}

/// What happened on a connection.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// The publisher shows its key and waits for [`Connection::accept`] or
    /// [`Connection::refuse`].
    Publish(StreamKey),
    /// What the publisher says about itself; may come again.
    Metadata(Metadata),
    /// A configuration or a frame. Comes only after [`Connection::accept`].
    Media(Media),
    /// It is over; comes once and last.
    Ended(End),
}

/// Metadata worth a line in the log. Nothing relies on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The encoder's name, cut to 128 characters.
    pub encoder: Option<String>,
    /// Picture width in pixels.
    pub width: Option<f64>,
    /// Picture height in pixels.
    pub height: Option<f64>,
    /// Frames per second.
    pub fps: Option<f64>,
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The encoder said so.
    #[error("the encoder ended the stream")]
    Finished,
    /// It never asked to publish.
    #[error("nothing was published within {0} ms")]
    Handshake(u64),
    /// No frame for too long.
    #[error("no media came for {0} ms")]
    Idle(u64),
    /// Frames came, but no decoder configuration.
    #[error("no decoder configuration came before the media: restart the encoder")]
    NoConfig,
    /// It wanted to play.
    #[error("this address takes streams and plays none: open /watch/ of the web address")]
    Play,
    /// A rule of RTMP was broken.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The media cannot be used.
    #[error(transparent)]
    Media(#[from] FlvError),
}

/// A reason that a publisher's log shows, and RTMP's code for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Such as `NetStream.Publish.BadName`.
    pub code: &'static str,
    /// One line that says what to do.
    pub description: String,
}

/// The server side of one RTMP connection.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    patience: Patience,
    now_ms: u64,
    deadline_ms: u64,
    input: BytesMut,
    handshake: Handshake,
    chunks: ChunkReader,
    outgoing: Outgoing,
    demux: Demux,
    app: String,
    stream: u32,
    commands: u32,
    received: u32,
    acknowledged: u32,
    window: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the `connect` command.
    Opening,
    /// Between `connect` and `publish`.
    Connected,
    /// The driver decides about the key.
    Asked,
    /// Media flows.
    Publishing,
    /// The encoder said goodbye and has not closed yet.
    Leaving,
    Ended,
}

impl Connection {
    /// A connection that was just made.
    pub fn new(patience: Patience, now_ms: u64) -> Self {
        Self {
            phase: Phase::Opening,
            patience,
            now_ms,
            deadline_ms: now_ms.saturating_add(patience.handshake_ms),
            input: BytesMut::new(),
            handshake: Handshake::default(),
            chunks: ChunkReader::new(COMMAND_BYTES_MAX),
            outgoing: Outgoing::new(),
            demux: Demux::default(),
            app: String::new(),
            stream: STREAM,
            commands: 0,
            received: 0,
            acknowledged: 0,
            window: WINDOW_BYTES,
        }
    }

    /// Takes received bytes. `now_ms` is any clock that never goes back.
    pub fn handle_bytes(&mut self, bytes: &[u8], now_ms: u64) {
        self.now_ms = now_ms;
        if self.phase == Phase::Ended {
            return;
        }
        self.input.extend_from_slice(bytes);
        self.received = self.received.wrapping_add(bytes.len() as u32);
        if self.handshake == Handshake::Done
            && self.received.wrapping_sub(self.acknowledged) >= self.window
        {
            self.acknowledged = self.received;
            self.outgoing.acknowledge(self.received);
        }
    }

    /// Takes note of the time; call when [`Connection::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// When [`Connection::handle_timeout`] is due; `None` when never.
    pub fn poll_timeout(&self) -> Option<u64> {
        (!matches!(self.phase, Phase::Asked | Phase::Ended)).then_some(self.deadline_ms)
    }

    /// Bytes to send; call after events were taken, until `None`.
    pub fn poll_output(&mut self) -> Option<Bytes> {
        let bytes = &mut self.outgoing.bytes;
        (!bytes.is_empty()).then(|| bytes.split().freeze())
    }

    /// The next thing that happened, or `None` until more bytes or time come.
    pub fn poll_event(&mut self) -> Option<Event> {
        if matches!(self.phase, Phase::Asked | Phase::Ended) {
            return None;
        }
        match self.advance() {
            Ok(Some(event)) => Some(event),
            Ok(None) if self.now_ms < self.deadline_ms => None,
            Ok(None) => Some(self.end(self.why_late())),
            Err(end) => Some(self.end(end)),
        }
    }

    /// Lets the publisher that asked publish.
    pub fn accept(&mut self) {
        if self.phase != Phase::Asked {
            return;
        }
        self.phase = Phase::Publishing;
        self.deadline_ms = self.now_ms.saturating_add(self.patience.idle_ms);
        self.chunks.accept_large_messages();
        self.outgoing.stream_begin(self.stream);
        let (code, text) = ("NetStream.Publish.Start", "Publishing");
        self.outgoing.status(self.stream, Level::Status, code, text);
    }

    /// Tells the publisher why it is refused, or why it is ended, and ends the connection.
    pub fn refuse(&mut self, rejection: &Rejection) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            let Rejection { code, description } = rejection;
            self.outgoing.status(self.stream, Level::Error, code, description);
        }
    }

    fn advance(&mut self) -> Result<Option<Event>, End> {
        if self.handshake != Handshake::Done
            && !self.handshake.advance(&mut self.input, &mut self.outgoing.bytes)?
        {
            return Ok(None);
        }
        while let Some(message) = self.chunks.next(&mut self.input)? {
            let (stream, timestamp_ms) = (message.stream, message.timestamp_ms);
            let publishing = self.phase == Phase::Publishing;
            let media = match message::decode(message)? {
                Incoming::Video(body) if publishing => {
                    self.demux.handle_video(timestamp_ms, body)?
                }
                Incoming::Audio(body) if publishing => {
                    self.demux.handle_audio(timestamp_ms, body)?
                }
                Incoming::Command { name, transaction, arguments } => {
                    match self.command(&name, transaction, &arguments, stream)? {
                        Some(event) => return Ok(Some(event)),
                        None => continue,
                    }
                }
                Incoming::Data(values) if publishing => match metadata(&values) {
                    Some(metadata) => return Ok(Some(Event::Metadata(metadata))),
                    None => continue,
                },
                Incoming::WindowSize(size) => {
                    self.window = size.clamp(1, MESSAGE_BYTES_MAX as u32);
                    continue;
                }
                Incoming::Ping(value) => {
                    self.outgoing.pong(value);
                    continue;
                }
                _ => continue,
            };
            if let Some(media) = media {
                if matches!(media, Media::Frame(_)) {
                    self.deadline_ms = self.now_ms.saturating_add(self.patience.idle_ms);
                }
                return Ok(Some(Event::Media(media)));
            }
        }
        Ok(None)
    }

    fn command(
        &mut self,
        name: &str,
        transaction: f64,
        arguments: &[Value],
        stream: u32,
    ) -> Result<Option<Event>, End> {
        if matches!(self.phase, Phase::Opening | Phase::Connected) {
            self.commands += 1;
            if self.commands > COMMANDS_MAX {
                return Err(ProtocolError::Commands.into());
            }
        }
        match (name, self.phase) {
            ("connect", Phase::Opening) => {
                let object = arguments.first();
                let app = object.and_then(|o| o.get("app")).and_then(Value::as_str);
                self.app = app.unwrap_or_default().to_owned();
                self.phase = Phase::Connected;
                self.greet(transaction);
            }
            ("connect", _) => return Err(ProtocolError::Order("connect").into()),
            (_, Phase::Opening) => return Err(ProtocolError::Order("a command").into()),
            ("createStream", _) => {
                self.outgoing.result(transaction, Value::Null, f64::from(STREAM).into());
            }
            ("publish", Phase::Connected) => {
                let name = arguments.get(1).and_then(Value::as_str).unwrap_or_default();
                self.stream = stream;
                self.phase = Phase::Asked;
                return Ok(Some(Event::Publish(presented_key(&self.app, name))));
            }
            ("publish", _) => return Err(ProtocolError::Order("publish").into()),
            ("play" | "play2", _) => return Err(End::Play),
            ("FCUnpublish", Phase::Publishing) => {
                self.phase = Phase::Leaving;
                self.deadline_ms = self.now_ms.saturating_add(GOODBYE_MS);
                self.outgoing.result(transaction, Value::Null, Value::Undefined);
            }
            ("deleteStream" | "closeStream", Phase::Publishing | Phase::Leaving) => {
                return Err(End::Finished);
            }
            // Answers to us, which never asked anything.
            ("_result" | "_error" | "onStatus", _) => {}
            // releaseStream, FCPublish, getStreamLength, _checkbw and the like: encoders go on
            // with any answer, and some wait for one.
            _ if transaction > 0.0 => {
                self.outgoing.result(transaction, Value::Null, Value::Undefined);
            }
            _ => {}
        }
        Ok(None)
    }

    fn greet(&mut self, transaction: f64) {
        self.outgoing.window(WINDOW_BYTES);
        self.outgoing.set_chunk_size(CHUNK_SIZE);
        let server =
            Value::object([("fmsVer", "FMS/3,5,7,7009".into()), ("capabilities", 31.0.into())]);
        let information = Value::object([
            ("level", "status".into()),
            ("code", "NetConnection.Connect.Success".into()),
            ("description", "Connection succeeded.".into()),
            ("objectEncoding", 0.0.into()),
        ]);
        self.outgoing.result(transaction, server, information);
    }

    fn why_late(&self) -> End {
        match self.phase {
            Phase::Leaving => End::Finished,
            Phase::Publishing if self.demux.frames_before_config > 0 => End::NoConfig,
            Phase::Publishing => End::Idle(self.patience.idle_ms),
            _ => End::Handshake(self.patience.handshake_ms),
        }
    }

    fn end(&mut self, end: End) -> Event {
        let (level, code) = match &end {
            End::Finished => (Level::Status, "NetStream.Unpublish.Success"),
            End::Play => (Level::Error, "NetStream.Play.Failed"),
            End::Media(_) | End::NoConfig | End::Idle(_) => {
                (Level::Error, "NetStream.Publish.Rejected")
            }
            End::Handshake(_) | End::Protocol(_) => (Level::Error, "NetConnection.Call.Failed"),
        };
        if !matches!(self.phase, Phase::Opening) {
            self.outgoing.status(self.stream, level, code, &end.to_string());
        }
        self.phase = Phase::Ended;
        self.input = BytesMut::new();
        Event::Ended(end)
    }
}

/// The key in what an encoder was given: the stream name without its query; when the name is
/// empty (a server address that ends in the key), the last part of the application's path.
fn presented_key(app: &str, name: &str) -> StreamKey {
    let last = |path: &str| {
        let path = path.split('?').next().unwrap_or_default();
        path.trim_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
    };
    let key = match last(name) {
        name if name.is_empty() && app.trim_matches('/').contains('/') => last(app),
        name => name,
    };
    StreamKey::presented(key)
}

fn metadata(values: &[Value]) -> Option<Metadata> {
    let at = values.iter().position(|v| v.as_str() == Some("onMetaData"))?;
    let properties = values.get(at + 1)?;
    let number = |name| properties.get(name).and_then(Value::as_number);
    let encoder = properties.get("encoder").and_then(Value::as_str);
    Some(Metadata {
        encoder: encoder.map(|name| name.chars().take(128).collect()),
        width: number("width"),
        height: number("height"),
        fps: number("framerate").or_else(|| number("videoframerate")),
    })
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
