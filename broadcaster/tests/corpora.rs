//! Replays the corpora of the fuzz targets, without a fuzzer, and can make their first files anew:
//! `cargo test -p broadcaster --test corpora -- --ignored`.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use broadcaster::fuzzing::{self, Session};
use broadcaster::ingest::media::{Config, Frame, Track};
use broadcaster::ingest::rtmp::ProtocolError;
use broadcaster::ingest::rtmp::connection::{Connection, End, Event, Patience};
use broadcaster::worker::ipc;
use bytes::{Bytes, BytesMut};

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus")).join(target)
}

fn files(target: &str) -> Vec<(String, Vec<u8>)> {
    let files: Vec<_> = std::fs::read_dir(corpus(target))
        .unwrap()
        .map(|file| file.unwrap())
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
        .collect();
    assert!(files.len() >= 8, "the corpus of {target} is gone");
    files
}

fn read(target: &str, name: &str) -> Vec<u8> {
    std::fs::read(corpus(target).join(name)).unwrap()
}

#[test]
fn captured_and_hostile_rtmp_sessions_keep_every_promise() {
    for (name, data) in files("rtmp") {
        println!("{name}: {:?}", fuzzing::rtmp(&data));
    }
}

#[test]
fn captured_encoders_are_understood_as_when_they_were_captured() {
    let publishing = |video, audio, configs| Session {
        published: 1,
        configs,
        video,
        audio,
        end: Some(End::Finished),
    };
    let cases = [
        ("ffmpeg-h264-aac", publishing((6, 2), 6, 2)),
        ("ffmpeg-h264", publishing((6, 2), 0, 1)),
        ("ffmpeg-aac", publishing((0, 0), 6, 1)),
        ("ffmpeg-extended-timestamps", publishing((6, 2), 6, 2)),
        ("rtmp2sink", publishing((6, 2), 6, 2)),
        ("librtmp", publishing((6, 2), 6, 2)),
    ];
    for (name, expected) in cases {
        for portions in ["whole", "bytes"] {
            let name = format!("{name}-{portions}");
            assert_eq!(fuzzing::rtmp(&read("rtmp", &name)), expected, "{name}");
        }
    }
    for (name, words) in [("ffmpeg-flv1", "H.264"), ("ffmpeg-mp3", "AAC")] {
        let session = fuzzing::rtmp(&read("rtmp", &format!("{name}-whole")));
        let end = session.end.map(|end| end.to_string()).unwrap_or_default();
        assert!(end.ends_with(&format!("encoder to {words}")), "{name}: {end}");
    }
    let browser = fuzzing::rtmp(&read("rtmp", "http"));
    assert_eq!(browser.end, Some(End::Protocol(ProtocolError::NotRtmp(b'G'))));
}

#[test]
fn frames_between_broadcaster_and_worker_read_back() {
    let understood: usize = files("ipc").iter().map(|(_, data)| fuzzing::ipc(data)).sum();
    assert!(understood >= 9, "every kind of message is in the corpus");
}

#[test]
fn records_and_the_playlists_made_of_them_keep_every_promise() {
    for (_, data) in files("record") {
        fuzzing::record(&data);
    }
    assert_eq!(fuzzing::record(&read("record", "show")), fuzzing::show().len());
}

#[test]
fn playlists_of_other_servers_are_read_or_refused() {
    let read = files("playlist").iter().filter(|(_, data)| fuzzing::playlist(data)).count();
    assert!(read >= 5, "{read} are read");
}

#[test]
fn queries_of_blocking_requests_are_answered_or_refused() {
    let answered = files("query").iter().filter(|(_, data)| fuzzing::query(data)).count();
    assert!(answered >= 4, "{answered} are answered");
}

#[test]
#[ignore = "writes the first files of every corpus; needs ffmpeg and GStreamer"]
fn make_corpora() {
    make_rtmp();
    make_ipc();
    make_record();
    make_query();
    make_playlist();
}

fn write(target: &str, name: &str, data: &[u8]) {
    std::fs::create_dir_all(corpus(target)).unwrap();
    std::fs::write(corpus(target).join(name), data).unwrap();
}

/// Every mode byte of [`fuzzing::rtmp`] without a handshake: portions of all bytes, of one.
const MODES: [(&str, u8); 2] = [("whole", 7 << 1), ("bytes", 0)];

fn make_rtmp() {
    const VIDEO: &str = "-f lavfi -i testsrc=size=32x32:rate=20:duration=0.3";
    const AUDIO: &str = "-f lavfi -i sine=duration=0.3:sample_rate=16000";
    const H264: &str = "-c:v libx264 -preset ultrafast -threads 1 -g 3 -crf 40 -x264-params \
                        no-info=1";
    const AAC: &str = "-c:a aac -b:a 16k";
    let ffmpeg = |arguments: &str| format!("ffmpeg -y {arguments} -f flv URL");
    let gstreamer = |sink: &str| {
        format!(
            "gst-launch-1.0 videotestsrc num-buffers=6 ! video/x-raw,width=32,height=32,\
             framerate=20/1 ! x264enc tune=zerolatency key-int-max=3 quantizer=40 pass=qual ! \
             flvmux streamable=true name=mux ! {sink} location=URL audiotestsrc num-buffers=5 ! \
             audio/x-raw,rate=16000 ! avenc_aac bitrate=16000 ! mux."
        )
    };
    let encoders = [
        ("ffmpeg-h264-aac", ffmpeg(&format!("{VIDEO} {AUDIO} {H264} {AAC}"))),
        ("ffmpeg-h264", ffmpeg(&format!("{VIDEO} {H264}"))),
        ("ffmpeg-aac", ffmpeg(&format!("{AUDIO} {AAC}"))),
        (
            "ffmpeg-extended-timestamps",
            ffmpeg(&format!("{VIDEO} {AUDIO} {H264} {AAC} -output_ts_offset 16777.1")),
        ),
        ("ffmpeg-flv1", ffmpeg(&format!("{VIDEO} -c:v flv"))),
        ("ffmpeg-mp3", ffmpeg(&format!("{AUDIO} -c:a libmp3lame -ar 22050 -b:a 16k"))),
        ("rtmp2sink", gstreamer("rtmp2sink")),
        ("librtmp", gstreamer("rtmpsink")),
    ];
    for (name, command) in encoders {
        let captured = capture(&command);
        // Without C0, C1 and C2, which hold nothing but filling.
        let captured = &captured[1 + 2 * 1536..];
        for (portions, mode) in MODES {
            write("rtmp", &format!("{name}-{portions}"), &[&[mode], captured].concat());
        }
    }
    let raw = |bytes: &[u8]| [&[1 | 7 << 1], bytes].concat();
    write("rtmp", "http", &raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    write("rtmp", "handshake-only", &raw(&[&[3][..], &[0; 3072]].concat()));
    write(
        "rtmp",
        "abort",
        &[&[2 << 1][..], &[2, 0, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 0, 0, 0, 3]].concat(),
    );
}

/// Runs an encoder against the real state machine; what it sent.
fn capture(command: &str) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live/abcd-efgh", listener.local_addr().unwrap());
    let mut words = command.split_whitespace().map(|word| word.replace("URL", &url));
    let mut encoder = Command::new(words.next().unwrap())
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    let mut connection = Connection::new(Patience::default(), 0);
    let (mut captured, mut buffer, mut over) = (Vec::new(), [0; 4096], false);
    while !over {
        let len = socket.read(&mut buffer).unwrap_or(0);
        captured.extend(&buffer[..len]);
        connection.handle_bytes(&buffer[..len], 0);
        over = len == 0;
        while let Some(event) = connection.poll_event() {
            match event {
                Event::Publish(_) => connection.accept(),
                Event::Ended(_) => over = true,
                _ => {}
            }
        }
        while let Some(output) = connection.poll_output() {
            socket.write_all(&output).unwrap();
        }
    }
    drop(socket);
    encoder.wait().unwrap();
    captured
}

fn make_ipc() {
    let frame = Frame {
        track: Track::Video,
        key: true,
        pts_us: 80_000,
        dts_us: -1,
        data: Bytes::from_static(&[0, 0, 0, 2, 0x65, 1]),
    };
    let start = r#"{"stream":"demo","source":{"kind":"test","width":64,"height":36,"fps":[30,1]},
        "ladder":["480p","source"],"audio":[{"id":"audio","kbps":128,"sample_rate":48000,
        "channels":2}],"part_us":500000,"segment_us":2000000,"keyframe_max_us":2200000}"#;
    let commands = [
        ("start", ipc::Command::Start(serde_json::from_str(start).unwrap())),
        ("config-h264", ipc::Command::Config(Config::H264 { avcc: Bytes::from_static(&[1, 2]) })),
        (
            "config-aac",
            ipc::Command::Config(Config::Aac { asc: Bytes::from_static(&[0x11, 0x90]) }),
        ),
        ("frame", ipc::Command::Frame(frame)),
        ("drain", ipc::Command::Drain),
    ];
    let rendition = r#"{"id":"480p","kind":"video","codec":"avc1.64001f","width":854,"height":480,
        "fps":[30,1],"sample_rate":0,"channels":0,"bitrate":1500000,"encoder":"x264enc"}"#;
    let mut rendition: ipc::MadeRendition = serde_json::from_str(rendition).unwrap();
    rendition.init = Bytes::from_static(b"ftypmoov");
    let ready = ipc::Ready {
        renditions: vec![rendition.clone(), rendition],
        notes: vec!["auto picked 480p".into()],
        wall_clock_us: 1_790_000_000_000_000,
    };
    let part = ipc::Part {
        rendition: 1,
        segment: 3,
        independent: true,
        last_of_segment: true,
        pts_us: 6_000_000,
        duration_us: 500_000,
        data: Bytes::from_static(b"moofmdat"),
    };
    let failed = ipc::Failed { code: ipc::FailCode::Input, message: "not media".into() };
    let reports = [
        ("ready", ipc::Report::Ready(ready)),
        ("part", ipc::Report::Part(part)),
        ("status", ipc::Report::Status(ipc::Status::default())),
        ("failed", ipc::Report::Failed(failed)),
        ("drained", ipc::Report::Drained),
    ];
    let mut all = BytesMut::new();
    let written = commands.into_iter().map(|(name, command)| (name, command.into_bytes()));
    for (name, bytes) in written.chain(reports.into_iter().map(|(n, r)| (n, r.into_bytes()))) {
        write("ipc", name, &bytes);
        all.extend_from_slice(&bytes);
    }
    write("ipc", "all", &all);
    write("ipc", "too-long", &[0xff, 0xff, 0xff, 0x7f, 1]);
    write("ipc", "empty-frame", &[0, 0, 0, 0]);
}

/// Both directions encode alike.
trait IntoFrame {
    fn into_bytes(self) -> BytesMut;
}

impl IntoFrame for ipc::Command {
    fn into_bytes(self) -> BytesMut {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out
    }
}

impl IntoFrame for ipc::Report {
    fn into_bytes(self) -> BytesMut {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out
    }
}

fn make_record() {
    let show = fuzzing::show();
    write("record", "show", &fuzzing::unsigned(&show));
    write("record", "session", &fuzzing::unsigned(&show[..1]));
    write("record", "part", &fuzzing::unsigned(&show[1..2]));
    write("record", "first-segment", &fuzzing::unsigned(&show[..5]));
    let mut swapped = show.clone();
    swapped.swap(2, 6);
    write("record", "out-of-order", &fuzzing::unsigned(&swapped));
    write("record", "twice", &fuzzing::unsigned(&[&show[..], &show[..]].concat()));
    let whole = fuzzing::unsigned(&show[..2]);
    write("record", "cut", &whole[..whole.len() - 3]);
    // docs/PROTOCOL.md 'End': stream, broadcast, session, next msn.
    let mut end = vec![1, 3, 4];
    end.extend(b"demo");
    end.extend([1, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    let end = [&(end.len() as u16).to_le_bytes()[..], &end].concat();
    write("record", "ended", &[fuzzing::unsigned(&show), end].concat());
}

fn make_query() {
    let queries = [
        ("none", ""),
        ("msn", "_HLS_msn=8"),
        ("part", "_HLS_msn=9&_HLS_part=2"),
        ("skip", "_HLS_msn=9&_HLS_part=1&_HLS_skip=YES"),
        ("skip-v2", "_HLS_skip=v2&x=y"),
        ("part-alone", "_HLS_part=1"),
        ("negative", "_HLS_msn=-1"),
        ("huge", "_HLS_msn=9223372036854775808"),
        ("far", "_HLS_msn=12"),
        ("far-part", "_HLS_msn=9&_HLS_part=70000"),
        ("twice", "_HLS_msn=9&_HLS_msn=9"),
        ("not-a-number", "_HLS_msn=+9&_HLS_part=%31"),
    ];
    for (name, query) in queries {
        write("query", name, query.as_bytes());
    }
}

fn make_playlist() {
    const HEAD: &str = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n\
         #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,\
         CAN-SKIP-UNTIL=12.0,HOLD-BACK=6.0,PART-HOLD-BACK=1.5\n#EXT-X-MEDIA-SEQUENCE:7\n";
    const MAP: &str = "#EXT-X-MAP:URI=\"1/480p/init-1.mp4\"\n";
    const DATE: &str = "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z\n";
    const PART: &str = "#EXT-X-PART:DURATION=0.5,URI=\"1/480p/7.0.m4s\",INDEPENDENT=YES\n";
    const SEGMENT: &str = "#EXTINF:2.000000,\n1/480p/7.m4s\n";
    const OPEN: &str = "#EXT-X-PART:DURATION=0.5,URI=\"1/480p/8.0.m4s\"\n\
         #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"1/480p/8.1.m4s\"\n\
         #EXT-X-RENDITION-REPORT:URI=\"../audio/media.m3u8\",LAST-MSN=8,LAST-PART=0\n";
    let live = format!("{HEAD}{MAP}{DATE}{PART}{SEGMENT}{OPEN}");
    let playlists = [
        ("live", live.clone()),
        ("ended", format!("{HEAD}{MAP}{DATE}{SEGMENT}#EXT-X-ENDLIST\n")),
        ("discontinuity", format!("{HEAD}{MAP}{SEGMENT}#EXT-X-DISCONTINUITY\n{MAP}{SEGMENT}")),
        ("gap", format!("{HEAD}{MAP}#EXT-X-GAP\n{SEGMENT}")),
        ("ranges", format!("{HEAD}{MAP}#EXTINF:2,\n#EXT-X-BYTERANGE:10@20\nall.m4s\n")),
        ("delta", format!("{live}\0{HEAD}#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n{SEGMENT}{OPEN}")),
        ("delta-too-much", format!("{live}\0{HEAD}#EXT-X-SKIP:SKIPPED-SEGMENTS=99999999999\n")),
        (
            "multivariant",
            "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\",URI=\"audio/media.m3u8\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1500000,CODECS=\"avc1.64001f,mp4a.40.2\",\
             RESOLUTION=854x480,FRAME-RATE=30.000,AUDIO=\"a\"\n480p/media.m3u8\n"
                .to_owned(),
        ),
        ("not-a-playlist", "<html></html>".to_owned()),
        ("numbers", live.replace("0.5", "1e400").replace(":7", ":18446744073709551615")),
    ];
    for (name, text) in playlists {
        write("playlist", name, text.as_bytes());
    }
}
