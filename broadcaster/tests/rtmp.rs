//! Real encoders, broken clients and hostile bytes against the RTMP listener over TCP.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broadcaster::ingest::media::{Config, Frame, Media, Track};
use broadcaster::ingest::rtmp::connection::Patience;
use broadcaster::ingest::rtmp::listener::{
    ListenerCounters, ListenerLimits, PublishGate, PublishSlot, Refusal, run,
};
use broadcaster::streams::key::StreamKey;
use broadcaster::streams::limit::LimitReached;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};

/// A publisher that was let in, seen from the stream's side.
struct Published {
    media: mpsc::Receiver<Media>,
    cancel: watch::Sender<Option<Refusal>>,
}

/// Lets in whoever shows `key`; other words have other answers.
struct Gate {
    published: mpsc::UnboundedSender<Published>,
    capacity: usize,
}

impl PublishGate for Gate {
    async fn authorize(&self, key: &StreamKey, _: SocketAddr) -> Result<PublishSlot, Refusal> {
        match key.reveal() {
            "key" => {}
            "full" => return Err(LimitReached { max: 5, running: 5 }.into()),
            "panic" => panic!("a bug in the connection's task"),
            "slow" => std::future::pending().await,
            _ => return Err(Refusal::UnknownKey),
        }
        let (sender, media) = mpsc::channel(self.capacity);
        let (cancel, cancelled) = watch::channel(None);
        self.published.send(Published { media, cancel }).unwrap();
        let stream = "show".parse().unwrap();
        Ok(PublishSlot { stream, media: sender, cancel: cancelled })
    }
}

struct Server {
    address: SocketAddr,
    published: mpsc::UnboundedReceiver<Published>,
    counters: Arc<ListenerCounters>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

async fn server(limits: ListenerLimits, capacity: usize) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, published) = mpsc::unbounded_channel();
    let counters = Arc::new(ListenerCounters::default());
    let (stop, stopping) = watch::channel(false);
    let gate = Arc::new(Gate { published: sender, capacity });
    let task = tokio::spawn(run(listener, gate, limits, counters.clone(), stopping));
    Server { address, published, counters, stop, task }
}

fn patience(handshake_ms: u64, idle_ms: u64) -> ListenerLimits {
    ListenerLimits { patience: Patience { handshake_ms, idle_ms }, ..Default::default() }
}

impl Server {
    fn url(&self, app_and_key: &str) -> String {
        format!("rtmp://{}/{app_and_key}", self.address)
    }

    fn count(&self, counter: impl Fn(&ListenerCounters) -> &AtomicU64) -> u64 {
        counter(&self.counters).load(Ordering::Relaxed)
    }
}

/// A small live picture and tone, as `ffmpeg` arguments up to the output's options.
const INPUT: &str = "-hide_banner -nostdin -re -f lavfi -i testsrc=size=64x36:rate=25:duration=2 \
     -re -f lavfi -i sine=duration=2";
const H264: &str = "-c:v libx264 -preset ultrafast -g 25 -bf 2 -threads 1";

fn ffmpeg(arguments: &str, url: &str) -> tokio::process::Child {
    Command::new("ffmpeg")
        .args(arguments.split_whitespace())
        .args(["-f", "flv", url])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("ffmpeg is installed by scripts/setup.sh")
}

/// What an encoder sent until its connection ended.
async fn received(mut published: Published) -> (Vec<Config>, Vec<Frame>) {
    let (mut configs, mut frames) = (Vec::new(), Vec::new());
    while let Some(media) = published.media.recv().await {
        match media {
            Media::Config(config) => configs.push(config),
            Media::Frame(frame) => frames.push(frame),
        }
    }
    (configs, frames)
}

fn of(frames: &[Frame], track: Track) -> Vec<&Frame> {
    frames.iter().filter(|frame| frame.track == track).collect()
}

/// The log of an encoder that ends by itself.
async fn log_of(encoder: tokio::process::Child) -> String {
    let output = encoder.wait_with_output().await.unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_publishes_h264_and_aac_with_correct_times() {
    let mut server = server(ListenerLimits::default(), 250).await;
    let arguments = format!("{INPUT} {H264} -c:a aac");
    let encoder = ffmpeg(&arguments, &server.url("live/key"));
    let (configs, frames) = received(server.published.recv().await.unwrap()).await;
    let log = log_of(encoder).await;
    assert!(!log.contains("Error") && !log.contains("error"), "{log}");
    assert!(matches!(configs[..], [Config::H264 { .. }, Config::Aac { .. }]), "{configs:?}");
    let (video, audio) = (of(&frames, Track::Video), of(&frames, Track::Audio));
    assert_eq!(video.len(), 50);
    assert!(audio.len() >= 80, "{}", audio.len());
    assert_eq!(video.iter().filter(|frame| frame.key).count(), 2);
    assert!(video[0].key);
    assert!(video.is_sorted_by_key(|frame| frame.dts_us));
    assert!(video.iter().any(|frame| frame.pts_us > frame.dts_us), "B-frames are reordered");
    let mut shown: Vec<_> = video.iter().map(|frame| frame.pts_us).collect();
    shown.sort_unstable();
    let steps: Vec<_> = shown.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(steps, [40_000; 49], "25 frames per second");
    let start = audio[0].pts_us - shown[0];
    assert!((-100_000..=100_000).contains(&start), "audio starts {start} us after video");
    assert_eq!(server.count(|c| &c.failed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_go_on_where_rtmp_needs_extended_timestamps_and_where_its_clock_wraps() {
    // ffmpeg's clock has 31 bits.
    for (what, offset_ms) in [("24 bits", 0xff_ffff - 1000), ("31 bits", 0x7fff_ffff - 1000)] {
        let mut server = server(ListenerLimits::default(), 250).await;
        let offset = format!("{INPUT} {H264} -c:a aac -output_ts_offset {offset_ms}ms");
        let encoder = ffmpeg(&offset, &server.url("live/key"));
        let (_, frames) = received(server.published.recv().await.unwrap()).await;
        log_of(encoder).await;
        for (track, step_max) in [(Track::Video, 41_000), (Track::Audio, 24_000)] {
            let times: Vec<_> = of(&frames, track).iter().map(|frame| frame.dts_us).collect();
            assert!(times.len() >= 50, "{what}: {} frames", times.len());
            let steps = times.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(steps.clone().all(|step| step > 0 && step <= step_max), "{what}: {times:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_and_librtmp_publish_too() {
    for sink in ["rtmp2sink", "rtmpsink"] {
        let mut server = server(ListenerLimits::default(), 250).await;
        // librtmp, which OBS uses as well, wants its options in the address.
        let url = match sink {
            "rtmpsink" => format!("{} live=1", server.url("live/key")),
            _ => server.url("live/key"),
        };
        let pipeline = format!(
            "videotestsrc num-buffers=50 ! video/x-raw,width=64,height=36,framerate=25/1 ! \
             x264enc tune=zerolatency key-int-max=25 ! flvmux streamable=true name=mux ! {sink} \
             name=out audiotestsrc num-buffers=80 ! avenc_aac ! mux."
        );
        let mut encoder = Command::new("gst-launch-1.0")
            .args(pipeline.split_whitespace().flat_map(|word| match word {
                "name=out" => vec![format!("location={url}")],
                word => vec![word.to_owned()],
            }))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("GStreamer's tools are installed by scripts/setup.sh");
        let (configs, frames) = received(server.published.recv().await.unwrap()).await;
        // Whether it calls our closing after its own last command an error depends on which of
        // the two it sees first; what counts is that every frame arrived.
        encoder.wait().await.unwrap();
        assert_eq!(configs.len(), 2, "{sink}");
        assert_eq!(of(&frames, Track::Video).len(), 50, "{sink}");
        assert!(of(&frames, Track::Audio).len() >= 70, "{sink}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_encoder_reads_why_in_its_log() {
    let limits = ListenerLimits { answer: Duration::from_millis(200), ..ListenerLimits::default() };
    let mut server = server(limits, 250).await;
    let h264 = format!("{INPUT} {H264} -c:a aac");
    let cases = [
        ("live/wrong", &h264[..], "This stream key is unknown: copy it again from the studio"),
        ("live/full", &h264, "Maximum 5 concurrent streams reached"),
        ("live/slow", &h264, "The server is not ready: try again in a few seconds"),
    ];
    for (path, arguments, words) in cases {
        let log = log_of(ffmpeg(arguments, &server.url(path))).await;
        assert!(log.contains(words), "{path}: {log}");
        assert!(server.published.try_recv().is_err(), "{path} was let in");
    }
    assert_eq!(server.count(|c| &c.refused), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_with_other_codecs_reads_what_to_set() {
    let mut server = server(ListenerLimits::default(), 250).await;
    let cases = [
        ("-an -c:v flv", "this encoder sends Sorenson H.263: set the video encoder to H.264"),
        ("-vn -c:a libmp3lame", "this encoder sends MP3: set the audio encoder to AAC"),
    ];
    for (codecs, words) in cases {
        let encoder = ffmpeg(&format!("{INPUT} {codecs}"), &server.url("live/key"));
        let (configs, frames) = received(server.published.recv().await.unwrap()).await;
        assert!(configs.is_empty() && frames.is_empty());
        let log = log_of(encoder).await;
        assert!(log.contains(words), "{codecs}: {log}");
    }
    assert_eq!(server.count(|c| &c.failed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_taken_back_ends_its_encoder_with_the_reason() {
    let mut server = server(ListenerLimits::default(), 250).await;
    let endless =
        format!("{INPUT} {H264} -an").replace(":duration=2", "").replace("duration=2", "");
    let encoder = ffmpeg(&endless, &server.url("live/key"));
    let mut published = server.published.recv().await.unwrap();
    assert!(published.media.recv().await.is_some(), "media flows");
    published.cancel.send(Some(Refusal::TakenOver)).unwrap();
    while published.media.recv().await.is_some() {}
    let log = log_of(encoder).await;
    assert!(log.contains("Another encoder took over with the same stream key"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_takes_no_media_ends_its_encoder_instead_of_waiting_for_ever() {
    let limits =
        ListenerLimits { media_wait: Duration::from_millis(100), ..ListenerLimits::default() };
    let mut server = server(limits, 4).await;
    let encoder = ffmpeg(&format!("{INPUT} {H264} -an"), &server.url("live/key"));
    let published = server.published.recv().await.unwrap();
    let log = log_of(encoder).await;
    assert!(log.contains("Media is not taken in time"), "{log}");
    assert_eq!(received(published).await.1.len(), 3, "what fitted after the configuration");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_a_panic_end_their_own_connection_only() {
    let mut server = server(ListenerLimits::default(), 250).await;
    let handshake = [&[3][..], &[0; 2 * 1536]].concat();
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 10_000],
        &[3],
        &[&handshake[..], &[0xff; 500]].concat(),
    ];
    for bytes in garbage {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        // Read to the end: the server closes. A reset is a close as well.
        let _ = socket.read_to_end(&mut Vec::new()).await;
    }
    let arguments = format!("{INPUT} {H264} -an");
    log_of(ffmpeg(&arguments, &server.url("live/panic"))).await;
    let encoder = ffmpeg(&arguments, &server.url("live/key"));
    let (_, frames) = received(server.published.recv().await.unwrap()).await;
    assert_eq!(frames.len(), 50);
    log_of(encoder).await;
    assert_eq!(server.count(|c| &c.panicked), 1);
    assert_eq!(server.count(|c| &c.accepted), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_and_who_goes_silent_are_closed() {
    let mut server = server(patience(2000, 2000), 250).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(silent.read_to_end(&mut Vec::new()).await.unwrap(), 0, "closed without a word");
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(&[3, 0, 0]).await.unwrap();
    assert_eq!(slow.read_to_end(&mut Vec::new()).await.unwrap(), 0);

    // An encoder that stops sending but keeps its connection: ffmpeg, stopped by a signal.
    let encoder = ffmpeg(&format!("{INPUT} {H264} -an"), &server.url("live/key"));
    let mut published = server.published.recv().await.unwrap();
    assert!(published.media.recv().await.is_some());
    let pid = rustix::process::Pid::from_raw(encoder.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    while published.media.recv().await.is_some() {}
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    drop(encoder);
    assert_eq!(server.count(|c| &c.failed), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_take_every_connection() {
    let limits = ListenerLimits { connections_per_address_max: 3, ..ListenerLimits::default() };
    let server = server(limits, 250).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        // An answer proves that this one has its place.
        socket.write_all(&[&[3][..], &[0; 1536]].concat()).await.unwrap();
        socket.read_exact(&mut [0; 1 + 2 * 1536]).await.unwrap();
        open.push(socket);
    }
    let mut fourth = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(fourth.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed at once");
    assert_eq!(server.count(|c| &c.turned_away), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_tells_its_encoders_and_returns() {
    let mut server = server(ListenerLimits::default(), 250).await;
    let encoder = ffmpeg(&format!("{INPUT} {H264} -an"), &server.url("live/key"));
    let mut published = server.published.recv().await.unwrap();
    assert!(published.media.recv().await.is_some());
    server.stop.send(true).unwrap();
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens");
    let log = log_of(encoder).await;
    assert!(log.contains("The server is restarting"), "{log}");
}
