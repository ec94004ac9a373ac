use proptest::prelude::*;

use super::super::chunk::ChunkWriter;
use super::super::{CHUNK_STREAMS_MAX, amf0};
use super::*;
use crate::ingest::media::{Config, Track};

const AVCC: &[u8] = &[1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 2, 0x67, 0x64, 1, 0, 2, 0x68, 0xee];
const IDR: &[u8] = &[0, 0, 0, 2, 0x65, 0xaa];

const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const DATA: u8 = 18;
const COMMAND: u8 = 20;

/// Writes what an encoder sends.
#[derive(Default)]
struct Encoder(BytesMut);

impl Encoder {
    fn after_handshake() -> Self {
        let mut encoder = Self::default();
        encoder.0.extend([3]);
        encoder.0.extend([0x11; 2 * 1536]);
        encoder
    }

    fn connected(app: &str) -> Self {
        let mut encoder = Self::after_handshake();
        let object = Value::object([("app", app.into()), ("tcUrl", "rtmp://host/live".into())]);
        encoder.values(COMMAND, 0, &["connect".into(), 1.0.into(), object]);
        encoder
    }

    fn publishing(name: &str) -> Self {
        let mut encoder = Self::connected("live");
        for (transaction, command) in [(2.0, "releaseStream"), (3.0, "FCPublish")] {
            let values = [command.into(), transaction.into(), Value::Null, name.into()];
            encoder.values(COMMAND, 0, &values);
        }
        encoder.values(COMMAND, 0, &["createStream".into(), 4.0.into(), Value::Null]);
        encoder.publish(name);
        encoder
    }

    fn publish(&mut self, name: &str) {
        let values = ["publish".into(), 5.0.into(), Value::Null, name.into(), "live".into()];
        self.values(COMMAND, 1, &values);
    }

    fn values(&mut self, kind: u8, stream: u32, values: &[Value]) {
        let mut body = BytesMut::new();
        values.iter().for_each(|value| value.write(&mut body));
        self.message(kind, stream, &body);
    }

    fn message(&mut self, kind: u8, stream: u32, body: &[u8]) {
        ChunkWriter::new().write(3, kind, stream, body, &mut self.0);
    }

    fn media(&mut self) {
        self.message(VIDEO, 1, &[&[0x17, 0, 0, 0, 0], AVCC].concat());
        self.message(AUDIO, 1, &[0xaf, 0, 0x11, 0x90]);
        for _ in 0..3 {
            self.message(VIDEO, 1, &[&[0x17, 1, 0, 0, 40], IDR].concat());
            self.message(AUDIO, 1, &[0xaf, 1, 1, 2, 3]);
        }
    }
}

fn connection() -> Connection {
    Connection::new(Patience::default(), 0)
}

/// Takes every event and accepts every publisher.
fn events(connection: &mut Connection) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = connection.poll_event() {
        if matches!(event, Event::Publish(_)) {
            connection.accept();
        }
        events.push(event);
    }
    events
}

fn output(connection: &mut Connection) -> Vec<u8> {
    std::iter::from_fn(|| connection.poll_output()).flatten().collect()
}

fn fed(bytes: &[u8]) -> (Vec<Event>, Vec<u8>) {
    let mut connection = connection();
    connection.handle_bytes(bytes, 0);
    (events(&mut connection), output(&mut connection))
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn ended(bytes: &[u8]) -> End {
    match fed(bytes).0.pop() {
        Some(Event::Ended(end)) => end,
        other => panic!("the connection goes on: {other:?}"),
    }
}

#[test]
fn a_publisher_connects_shows_its_key_and_sends_media() {
    let mut encoder = Encoder::publishing("abcd-efgh");
    let metadata = Value::object([("encoder", "test".into()), ("width", 640.0.into())]);
    encoder.values(DATA, 1, &["@setDataFrame".into(), "onMetaData".into(), metadata]);
    encoder.media();
    encoder.values(COMMAND, 1, &["deleteStream".into(), 6.0.into(), Value::Null, 1.0.into()]);
    let (events, output) = fed(&encoder.0);
    let [Event::Publish(key), Event::Metadata(metadata), media @ .., Event::Ended(End::Finished)] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(key.reveal(), "abcd-efgh");
    assert_eq!((metadata.encoder.as_deref(), metadata.width), (Some("test"), Some(640.0)));
    let is_config = |event: &Event| matches!(event, Event::Media(Media::Config(_)));
    assert_eq!(media.iter().filter(|event| is_config(event)).count(), 2);
    let of = |track| {
        let of = |e: &&Event| matches!(e, Event::Media(Media::Frame(f)) if f.track == track);
        media.iter().filter(of).count()
    };
    assert_eq!((of(Track::Video), of(Track::Audio)), (3, 3));
    for text in ["NetConnection.Connect.Success", "NetStream.Publish.Start", "Unpublish.Success"] {
        assert!(contains(&output, text), "{text} is missing");
    }
}

#[test]
fn nothing_is_read_before_the_driver_has_decided() {
    let mut encoder = Encoder::publishing("key");
    encoder.media();
    let mut connection = connection();
    connection.handle_bytes(&encoder.0, 0);
    assert!(matches!(connection.poll_event(), Some(Event::Publish(_))));
    assert_eq!(connection.poll_event(), None);
    assert_eq!(connection.poll_timeout(), None, "the driver's time is not the encoder's");
    connection.accept();
    let config = connection.poll_event();
    assert!(matches!(config, Some(Event::Media(Media::Config(Config::H264 { .. })))));
}

#[test]
fn a_refused_publisher_reads_the_reason_and_nothing_follows() {
    let mut connection = connection();
    connection.handle_bytes(&Encoder::publishing("wrong").0, 0);
    assert!(matches!(connection.poll_event(), Some(Event::Publish(_))));
    let code = "NetStream.Publish.BadName";
    connection.refuse(&Rejection { code, description: "a reason".into() });
    let output = output(&mut connection);
    assert!(contains(&output, code) && contains(&output, "a reason"));
    connection.handle_bytes(&Encoder::publishing("again").0, 1);
    assert_eq!((connection.poll_event(), connection.poll_output()), (None, None));
    assert_eq!(connection.poll_timeout(), None);
}

#[test]
fn the_key_is_found_wherever_an_encoder_puts_it() {
    let cases = [
        ("live", "KEY", "KEY"),
        ("live", "KEY?a=b/c", "KEY"),
        ("live", "/KEY/", "KEY"),
        ("live", "folder/KEY", "KEY"),
        ("live/KEY", "", "KEY"),
        ("live/KEY?x=y", "", "KEY"),
        ("/live/KEY/", "?x", "KEY"),
        ("live", "", ""),
    ];
    for (app, name, expected) in cases {
        let mut encoder = Encoder::connected(app);
        encoder.publish(name);
        match fed(&encoder.0).0.first() {
            Some(Event::Publish(key)) => assert_eq!(key.reveal(), expected, "{app:?} {name:?}"),
            other => panic!("{app:?} {name:?}: {other:?}"),
        }
    }
}

#[test]
fn an_unusable_codec_ends_the_connection_with_words_for_the_encoder() {
    let mut encoder = Encoder::publishing("key");
    encoder.message(VIDEO, 1, b"\x90hvc1\x01\x02");
    let (events, output) = fed(&encoder.0);
    let text = "this encoder sends HEVC: set the video encoder to H.264";
    assert!(matches!(events.last(), Some(Event::Ended(End::Media(_)))), "{events:?}");
    assert!(contains(&output, text) && contains(&output, "NetStream.Publish.Rejected"));
}

#[test]
fn who_never_publishes_is_ended_in_time() {
    let mut connection = connection();
    connection.handle_bytes(&Encoder::connected("live").0, 5_000);
    assert_eq!(connection.poll_event(), None);
    assert_eq!(connection.poll_timeout(), Some(10_000));
    connection.handle_timeout(9_999);
    assert_eq!(connection.poll_event(), None);
    connection.handle_timeout(10_000);
    assert_eq!(connection.poll_event(), Some(Event::Ended(End::Handshake(10_000))));
    assert_eq!(connection.poll_timeout(), None);
}

#[test]
fn only_frames_keep_a_publisher_from_being_idle() {
    let mut connection = connection();
    let mut encoder = Encoder::publishing("key");
    encoder.media();
    connection.handle_bytes(&encoder.0, 1_000);
    events(&mut connection);
    assert_eq!(connection.poll_timeout(), Some(16_000));
    let mut ping = Encoder::default();
    ping.message(4, 0, &[0, 6, 9, 9, 9, 9]);
    connection.handle_bytes(&ping.0, 14_000);
    assert_eq!(connection.poll_event(), None);
    assert!(contains(&output(&mut connection), "\0\x07\x09\x09\x09\x09"), "a ping is answered");
    connection.handle_timeout(16_000);
    assert_eq!(connection.poll_event(), Some(Event::Ended(End::Idle(15_000))));
}

#[test]
fn frames_without_configuration_end_with_that_reason() {
    let mut connection = connection();
    let mut encoder = Encoder::publishing("key");
    encoder.message(VIDEO, 1, &[&[0x17, 1, 0, 0, 0], IDR].concat());
    connection.handle_bytes(&encoder.0, 0);
    events(&mut connection);
    connection.handle_timeout(15_000);
    assert_eq!(connection.poll_event(), Some(Event::Ended(End::NoConfig)));
}

#[test]
fn an_encoder_that_unpublishes_and_stays_is_let_go() {
    let mut connection = connection();
    let mut encoder = Encoder::publishing("key");
    encoder.media();
    encoder.values(COMMAND, 1, &["FCUnpublish".into(), 6.0.into(), Value::Null, "key".into()]);
    encoder.media();
    connection.handle_bytes(&encoder.0, 0);
    let before = events(&mut connection).len();
    assert_eq!(before, 1 + 8, "media after the goodbye is not taken");
    connection.handle_timeout(GOODBYE_MS);
    assert_eq!(connection.poll_event(), Some(Event::Ended(End::Finished)));
}

#[test]
fn commands_out_of_order_and_too_many_of_them_end_the_connection() {
    let mut early = Encoder::after_handshake();
    early.publish("key");
    assert_eq!(ended(&early.0), End::Protocol(ProtocolError::Order("a command")));
    let mut twice = Encoder::publishing("key");
    twice.publish("key");
    assert_eq!(ended(&twice.0), End::Protocol(ProtocolError::Order("publish")));
    let mut many = Encoder::connected("live");
    for _ in 0..COMMANDS_MAX {
        many.values(COMMAND, 0, &["createStream".into(), 2.0.into(), Value::Null]);
    }
    assert_eq!(ended(&many.0), End::Protocol(ProtocolError::Commands));
    let mut player = Encoder::connected("live");
    player.values(COMMAND, 1, &["play".into(), 2.0.into(), Value::Null, "key".into()]);
    assert_eq!(ended(&player.0), End::Play);
}

#[test]
fn large_messages_are_for_accepted_publishers() {
    let mut early = Encoder::connected("live");
    early.message(VIDEO, 1, &vec![0; COMMAND_BYTES_MAX + 1]);
    let too_long = ProtocolError::MessageLength(COMMAND_BYTES_MAX + 1);
    assert_eq!(ended(&early.0), End::Protocol(too_long));
    let mut accepted = Encoder::publishing("key");
    accepted.media();
    let nal = vec![0x41; 200_000];
    let frame = [&[0x27, 1, 0, 0, 0][..], &200_000u32.to_be_bytes(), &nal].concat();
    accepted.message(VIDEO, 1, &frame);
    let (events, _) = fed(&accepted.0);
    assert!(
        matches!(events.last(), Some(Event::Media(Media::Frame(f))) if f.data.len() == 200_004)
    );
}

#[test]
fn received_bytes_are_acknowledged_as_the_encoder_asked() {
    let mut connection = connection();
    let mut encoder = Encoder::publishing("key");
    encoder.message(5, 0, &1000u32.to_be_bytes());
    connection.handle_bytes(&encoder.0, 0);
    events(&mut connection);
    output(&mut connection);
    let mut more = Encoder::default();
    more.message(VIDEO, 1, &[0; 1200]);
    connection.handle_bytes(&more.0, 1);
    let total = (encoder.0.len() + more.0.len()) as u32;
    let expected = [&[0, 0, 4, 3, 0, 0, 0, 0][..], &total.to_be_bytes()].concat();
    assert!(output(&mut connection).ends_with(&expected));
}

#[test]
fn a_browser_a_scanner_and_an_encrypted_client_are_known_by_their_first_byte() {
    for first in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0x16, 3, 1], vec![6], vec![0; 4000]] {
        let (events, output) = fed(&first);
        let expected = End::Protocol(ProtocolError::NotRtmp(first[0]));
        assert_eq!(events, [Event::Ended(expected)]);
        assert!(output.is_empty(), "no word of RTMP to who does not speak it");
    }
}

/// A message that no encoder sends, in the middle of a session. All but the window size, since
/// acknowledgements do depend on how bytes arrive.
fn oddity() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let kinds = prop::sample::select(vec![1u8, 2, 3, 4, 6, 8, 9, 15, 17, 18, 20, 22, 99]);
    (kinds, prop::collection::vec(any::<u8>(), 0..60))
}

proptest! {
    #[test]
    fn events_do_not_depend_on_how_the_bytes_were_split(
        cuts in prop::collection::vec(1..400usize, 0..80),
        oddities in prop::collection::vec(oddity(), 0..4),
    ) {
        let mut encoder = Encoder::publishing("key");
        encoder.media();
        for (kind, body) in oddities {
            encoder.message(kind, 1, &body);
        }
        encoder.media();
        let (whole, whole_output) = fed(&encoder.0);
        let mut connection = connection();
        let (mut split, mut split_output) = (Vec::new(), Vec::new());
        let mut rest = &encoder.0[..];
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            connection.handle_bytes(piece, 0);
            split.extend(events(&mut connection));
            split_output.extend(output(&mut connection));
            rest = after;
        }
        prop_assert_eq!(whole, split);
        prop_assert_eq!(whole_output, split_output);
    }

    #[test]
    fn any_bytes_after_the_handshake_end_in_events_or_an_error(bytes: Vec<u8>) {
        let mut input = Encoder::after_handshake();
        input.0.extend(bytes);
        fed(&input.0);
    }

    #[test]
    fn any_bytes_after_publishing_end_in_events_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let mut input = Encoder::publishing("key");
        input.media();
        input.0.extend(bytes);
        let (events, _) = fed(&input.0);
        prop_assert!(events.len() > 8);
    }
}

#[test]
fn a_session_cut_into_single_bytes_gives_the_same_events() {
    let mut encoder = Encoder::publishing("key");
    encoder.media();
    let mut connection = connection();
    let mut split = Vec::new();
    for byte in &encoder.0 {
        connection.handle_bytes(&[*byte], 0);
        split.extend(events(&mut connection));
    }
    assert_eq!(split, fed(&encoder.0).0);
}

#[test]
fn bounds_of_chunks_and_values_hold_inside_a_session() {
    let mut encoder = Encoder::publishing("key");
    for id in 0..CHUNK_STREAMS_MAX {
        encoder.0.extend([0x00, id as u8, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0]);
    }
    assert_eq!(ended(&encoder.0), End::Protocol(ProtocolError::ChunkStreams));
    let mut encoder = Encoder::publishing("key");
    encoder.message(DATA, 1, &[0x05; amf0::VALUES_MAX + 1]);
    assert_eq!(ended(&encoder.0), End::Protocol(ProtocolError::Amf(amf0::AmfError::Count)));
}
