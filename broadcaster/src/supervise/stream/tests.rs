//! The task on virtual time, with workers that are the ends of channels and a real feed.
#![allow(clippy::unwrap_used)]

use std::io;
use std::time::Duration;

use bytes::Bytes;
use common::feed::Signer;
use common::id::Msn;
use common::rendition::{Ladder, NamedLadder};
use rustix::process::Signal;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::ingest::media::Frame;
use crate::store::live::{LiveStream, OnCall};
use crate::store::spool::{Spool, read_numbers};
use crate::streams::limit::{Seats, StreamLimits};
use crate::supervise::machine::{DRAIN_MAX_MS, Standing};
use crate::testing::{info, made, start};
use crate::worker::ipc::{Failed, Lowered, MadeRendition, Part, Ready, Source};

const POLICY: Policy = Policy {
    pushed: true,
    grace_ms: 120_000,
    stream_timeout_ms: 3_600_000,
    segment_ms: 2_000,
    force_kill_ms: 5_000,
};

/// Longer than anything here may take, in virtual time.
const PATIENCE: Duration = Duration::from_secs(600);

/// A worker as the world sees it.
struct Worker {
    id: WorkerId,
    commands: mpsc::Receiver<Command>,
    signals: mpsc::Receiver<Signal>,
    events: mpsc::Sender<ChildEvent>,
    segment: u32,
    /// What it was told at its start.
    orders: Vec<Order>,
}

impl Worker {
    async fn says(&self, report: Report) {
        self.events.send(ChildEvent::Report(self.id, report)).await.unwrap();
    }

    async fn is_ready(&self) {
        let (encoder, init) = ("passthrough".into(), Bytes::from_static(b"init"));
        let rendition = MadeRendition { encoder, init, ..made("source") };
        self.says(Report::Ready(Ready {
            renditions: vec![rendition],
            notes: vec!["a note".into()],
            wall_clock_us: 1_000_000,
        }))
        .await;
    }

    /// One segment of one part.
    async fn makes_a_segment(&mut self) {
        let part = Part {
            rendition: 0,
            segment: self.segment,
            independent: true,
            last_of_segment: true,
            pts_us: u64::from(self.segment) * 500_000,
            duration_us: 500_000,
            data: Bytes::from(vec![self.segment as u8; 1000]),
        };
        self.segment += 1;
        self.says(Report::Part(part)).await;
    }

    async fn exits(self) {
        self.events.send(ChildEvent::Exited(self.id, "signal 9".into())).await.unwrap();
    }

    async fn next_command(&mut self) -> Command {
        timeout(PATIENCE, self.commands.recv()).await.unwrap().expect("the handle is alive")
    }

    async fn next_signal(&mut self) -> Signal {
        timeout(PATIENCE, self.signals.recv()).await.unwrap().expect("the handle is alive")
    }
}

/// Starts workers, or refuses to.
#[derive(Debug)]
struct Fakes(mpsc::UnboundedSender<Worker>);

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.id.fmt(f)
    }
}

impl Workers for Fakes {
    fn start(
        &self,
        id: WorkerId,
        start: Start,
        events: mpsc::Sender<ChildEvent>,
    ) -> io::Result<Child> {
        let (child, commands, signals) = Child::queued(Some(1));
        let orders = start.orders;
        let worker = Worker { id, orders, commands, signals, events, segment: 0 };
        let refuses = |_| io::Error::other("no more processes");
        self.0.send(worker).map_err(refuses)?;
        Ok(child)
    }
}

/// A publisher that was let in.
struct Encoder {
    media: mpsc::Sender<Media>,
    cancelled: watch::Receiver<Option<Refusal>>,
}

impl Encoder {
    async fn sends(&self, media: Media) {
        timeout(PATIENCE, self.media.send(media)).await.unwrap().unwrap();
    }

    async fn sends_frame(&self, key: bool) {
        self.sends(Media::Frame(frame(key))).await;
    }
}

fn frame(key: bool) -> Frame {
    Frame { track: Track::Video, key, pts_us: 0, dts_us: 0, data: Bytes::from_static(b"frame") }
}

fn avc() -> Config {
    Config::H264 { avcc: Bytes::from_static(b"avcc") }
}

struct Rig {
    dir: tempfile::TempDir,
    live: Arc<LiveStream>,
    asks: mpsc::Sender<Ask>,
    status: watch::Receiver<Status>,
    workers: mpsc::UnboundedReceiver<Worker>,
    seats: Seats,
    task: JoinHandle<()>,
    connections: u64,
    counts: Arc<Counts>,
    shown: Arc<Served>,
}

impl Rig {
    fn new(policy: Policy) -> Self {
        Self::open(tempfile::tempdir().unwrap(), policy)
    }

    fn open(dir: tempfile::TempDir, policy: Policy) -> Self {
        let name: StreamName = "show".parse().unwrap();
        let (spool, _) = Spool::open(dir.path().to_owned(), 1 << 20).unwrap();
        let live = Arc::new(LiveStream::new(name.clone()));
        let signer = Arc::new(Signer::from_seed([7; 32]));
        let feed = Feed::open(name.clone(), signer, spool.clone(), live.clone()).unwrap();
        let served = Arc::new(Served::new(live.clone(), info()));
        let shown = served.clone();
        let counts: Arc<Counts> = Arc::default();
        let (started, workers) = mpsc::unbounded_channel();
        let source = if policy.pushed {
            Source::Push
        } else {
            Source::Test { width: 64, height: 64, fps: (30, 1) }
        };
        let spec = Spec {
            name: name.clone(),
            workers: Box::new(Fakes(started)),
            start: start(source, Ladder::Named(NamedLadder::Passthrough)),
            policy,
            dir: spool.stream_dir(&name),
            trial: watch::Sender::new(None).subscribe(),
            counts: counts.clone(),
        };
        let (asks, asked) = mpsc::channel(16);
        let (task, status) = StreamTask::new(spec, feed, served, asked);
        let seats = Seats::new(StreamLimits { per_user_max: 5, global_max: 20 });
        let task = tokio::spawn(task.run());
        Self { dir, live, asks, status, workers, seats, task, connections: 0, counts, shown }
    }

    /// A pushed stream on the air, with its encoder and its worker.
    async fn on_air() -> (Self, Encoder, Worker) {
        let mut rig = Self::new(POLICY);
        rig.start().await;
        let encoder = rig.publish().await.unwrap();
        let worker = rig.worker().await;
        worker.is_ready().await;
        rig.until(State::Live).await;
        (rig, encoder, worker)
    }

    fn seat(&self) -> Seat {
        self.seats.take(&"show".parse().unwrap(), "someone").unwrap()
    }

    async fn start(&self) {
        self.asks.send(Ask::Start(self.seat())).await.unwrap();
    }

    async fn publish(&mut self) -> Result<Encoder, Refusal> {
        self.connections += 1;
        let (media, from) = mpsc::channel(8);
        let (cancel, cancelled) = watch::channel(None);
        let publisher = Publisher { id: ConnectionId(self.connections), media: from, cancel };
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::Publish(publisher, self.seat(), answer)).await.unwrap();
        timeout(PATIENCE, answered).await.unwrap().unwrap()?;
        Ok(Encoder { media, cancelled })
    }

    /// The next worker that is started, after the command that says what to make.
    async fn worker(&mut self) -> Worker {
        timeout(PATIENCE, self.workers.recv()).await.unwrap().expect("the task lives")
    }

    async fn until(&mut self, state: State) -> Status {
        let there = self.status.wait_for(|status| status.state == state);
        timeout(PATIENCE, there).await.expect("it gets there").unwrap().clone()
    }

    /// Lets the task do what it can do now.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// First and last numbers of the segments that are listed.
    fn listed(&self) -> (Msn, Msn) {
        let rendition = self.live.rendition(&"source".parse().unwrap()).unwrap();
        let newest = rendition.newest();
        let segments = newest.window.segments();
        (segments.front().unwrap().msn, segments.back().unwrap().msn)
    }

    fn playlist(&self) -> String {
        let rendition = self.live.rendition(&"source".parse().unwrap()).unwrap();
        String::from_utf8(rendition.newest().full.plain().to_vec()).unwrap()
    }

    async fn ends(self) -> tempfile::TempDir {
        timeout(PATIENCE, self.task).await.expect("the task ends").unwrap();
        self.dir
    }
}

#[tokio::test(start_paused = true)]
async fn media_reaches_the_worker_from_the_first_key_frame_on() {
    let mut rig = Rig::new(POLICY);
    rig.start().await;
    let encoder = rig.publish().await.unwrap();
    let mut worker = rig.worker().await;
    encoder.sends(Media::Config(avc())).await;
    encoder.sends_frame(false).await;
    encoder.sends_frame(true).await;
    encoder.sends_frame(false).await;
    assert_eq!(worker.next_command().await, Command::Config(avc()));
    assert_eq!(worker.next_command().await, Command::Frame(frame(true)));
    assert_eq!(worker.next_command().await, Command::Frame(frame(false)));
}

#[tokio::test(start_paused = true)]
async fn a_crashed_worker_is_replaced_and_gets_configuration_and_key_frame_again() {
    let (mut rig, encoder, mut worker) = Rig::on_air().await;
    encoder.sends(Media::Config(avc())).await;
    encoder.sends_frame(true).await;
    worker.makes_a_segment().await;
    worker.makes_a_segment().await;
    rig.settle().await;
    let before = rig.status.borrow().clone();
    let crashed = Instant::now();
    worker.exits().await;
    rig.until(State::Grace).await;
    let mut worker = rig.worker().await;
    assert!(crashed.elapsed() <= Duration::from_secs(1), "{:?}", crashed.elapsed());
    encoder.sends_frame(false).await;
    encoder.sends_frame(true).await;
    assert_eq!(worker.next_command().await, Command::Config(avc()));
    assert_eq!(worker.next_command().await, Command::Frame(frame(true)));
    worker.is_ready().await;
    let status = rig.until(State::Live).await;
    assert_eq!((status.broadcast, status.session), (before.broadcast, before.session + 1));
    assert_eq!(status.crashes, 1);
    worker.makes_a_segment().await;
    rig.settle().await;
    assert_eq!(rig.listed(), (Msn(0), Msn(2)), "the numbering goes on");
    let playlist = rig.playlist();
    assert!(playlist.contains("#EXT-X-DISCONTINUITY\n"), "{playlist}");
    assert!(!playlist.contains("#EXT-X-ENDLIST"), "{playlist}");
}

#[tokio::test(start_paused = true)]
async fn a_second_encoder_takes_over_and_nothing_of_the_old_worker_counts() {
    let (mut rig, old, mut old_worker) = Rig::on_air().await;
    old_worker.makes_a_segment().await;
    let asked = Instant::now();
    let new = rig.publish().await.unwrap();
    let worker = rig.worker().await;
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert_eq!(*old.cancelled.borrow(), Some(Refusal::TakenOver));
    assert!(old.media.is_closed());
    assert_eq!(old_worker.next_signal().await, Signal::TERM);
    old_worker.makes_a_segment().await;
    worker.is_ready().await;
    rig.until(State::Live).await;
    old_worker.makes_a_segment().await;
    old_worker.says(Report::Drained).await;
    rig.settle().await;
    assert_eq!(rig.listed(), (Msn(0), Msn(0)));
    assert_eq!(rig.status.borrow().state, State::Live);
    assert!(!new.media.is_closed());

    assert!(rig.publish().await.is_ok(), "the second take-over");
    assert!(new.media.is_closed());
    assert_eq!(rig.publish().await.err(), Some(Refusal::Contested));
}

#[tokio::test(start_paused = true)]
async fn an_encoder_that_drops_and_returns_finds_its_broadcast() {
    let (mut rig, encoder, mut worker) = Rig::on_air().await;
    worker.makes_a_segment().await;
    drop(encoder);
    assert_eq!(worker.next_command().await, Command::Drain);
    // What it still held counts.
    worker.makes_a_segment().await;
    worker.says(Report::Drained).await;
    worker.exits().await;
    let before = rig.until(State::Grace).await;
    tokio::time::sleep(Duration::from_secs(110)).await;
    assert!(rig.live.in_grace() && !rig.playlist().contains("#EXT-X-ENDLIST"));
    let _encoder = rig.publish().await.unwrap();
    let mut worker = rig.worker().await;
    worker.is_ready().await;
    let status = rig.until(State::Live).await;
    assert_eq!(status.broadcast, before.broadcast);
    worker.makes_a_segment().await;
    rig.settle().await;
    assert_eq!(rig.listed(), (Msn(0), Msn(2)));
}

#[tokio::test(start_paused = true)]
async fn the_playlist_ends_after_grace_and_the_next_encoder_begins_another_broadcast() {
    let (mut rig, encoder, mut worker) = Rig::on_air().await;
    worker.makes_a_segment().await;
    drop(encoder);
    worker.says(Report::Drained).await;
    worker.exits().await;
    rig.until(State::Ended).await;
    assert!(rig.playlist().contains("#EXT-X-ENDLIST"));
    assert_eq!(rig.seats.running(), 0);
    let _encoder = rig.publish().await.unwrap();
    assert_eq!(rig.seats.running(), 1);
    let mut worker = rig.worker().await;
    worker.is_ready().await;
    assert_eq!(rig.until(State::Live).await.broadcast, 2);
    worker.makes_a_segment().await;
    rig.settle().await;
    assert_eq!(rig.listed().1, Msn(1));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_worker_is_replaced_while_media_flows_and_killed_when_it_ignores_sigterm() {
    let (mut rig, encoder, mut worker) = Rig::on_air().await;
    worker.makes_a_segment().await;
    let hung = Instant::now();
    tokio::spawn(async move {
        while encoder.media.send(Media::Frame(frame(true))).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    assert_eq!(worker.next_signal().await, Signal::TERM);
    let stalled_s = hung.elapsed().as_secs_f64();
    assert!((4.0..5.0).contains(&stalled_s), "after {stalled_s} s");
    assert_eq!(rig.status.borrow().cause, Cause::Stalled);
    rig.worker().await;
    assert_eq!(worker.next_signal().await, Signal::KILL);
    let killed_s = hung.elapsed().as_secs_f64();
    assert!((9.0..10.0).contains(&killed_s), "after {killed_s} s");
}

#[tokio::test(start_paused = true)]
async fn a_worker_above_its_memory_limit_is_replaced_and_counted_once() {
    let (mut rig, _encoder, mut worker) = Rig::on_air().await;
    for pid in [99, 1, 1] {
        rig.asks.send(Ask::OverMemory { pid, used_mb: 600, limit_mb: 500 }).await.unwrap();
    }
    assert_eq!(worker.next_signal().await, Signal::TERM);
    assert_eq!(rig.worker().await.id, WorkerId(2));
    let status = rig.status.borrow().clone();
    assert_eq!(status.cause, Cause::MemoryLimit { used_mb: 600, limit_mb: 500 });
    assert_eq!((status.crashes, rig.counts.memory_kills.get()), (1, 1));
    assert_eq!(rig.counts.worker_starts.get(), 2);
    assert_eq!((rig.counts.stream_starts.get(), rig.counts.stream_stops.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_read_never_blocks_its_encoder_and_is_replaced() {
    let (mut rig, encoder, mut worker) = Rig::on_air().await;
    for _ in 0..1000 {
        encoder.sends_frame(true).await;
    }
    assert_eq!(worker.next_signal().await, Signal::TERM);
    assert_eq!(rig.worker().await.id, WorkerId(2));
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_on_the_way_to_a_starting_worker_it_waits_for_a_key_frame() {
    let mut rig = Rig::new(POLICY);
    rig.start().await;
    let encoder = rig.publish().await.unwrap();
    let mut worker = rig.worker().await;
    encoder.sends_frame(true).await;
    for _ in 0..1000 {
        encoder.sends_frame(false).await;
    }
    rig.settle().await;
    assert!(worker.signals.try_recv().is_err(), "it may be trying encoders out");
    let mut queued = 0;
    while worker.commands.try_recv().is_ok() {
        queued += 1;
    }
    assert!((100..1000).contains(&queued), "{queued}");
    encoder.sends_frame(false).await;
    encoder.sends_frame(true).await;
    assert_eq!(worker.next_command().await, Command::Frame(frame(true)));
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_words_cannot_be_read_is_replaced() {
    let (mut rig, _encoder, mut worker) = Rig::on_air().await;
    worker.events.send(ChildEvent::Garbled(worker.id, "nonsense".into())).await.unwrap();
    assert_eq!(rig.worker().await.id, WorkerId(2));
    assert_eq!(worker.next_signal().await, Signal::TERM);
}

#[tokio::test(start_paused = true)]
async fn workers_that_cannot_be_started_fail_the_stream() {
    let mut rig = Rig::new(Policy { pushed: false, ..POLICY });
    let (_, none) = mpsc::unbounded_channel();
    drop(std::mem::replace(&mut rig.workers, none));
    rig.start().await;
    let status = rig.until(State::Failed).await;
    assert_eq!(status.cause.code(), "crash_loop");
    assert!(status.cause.to_string().contains("no more processes"), "{}", status.cause);
    assert_eq!(rig.seats.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn unusable_media_is_told_to_the_encoder_in_the_workers_words() {
    let mut rig = Rig::new(POLICY);
    rig.start().await;
    let mut encoder = rig.publish().await.unwrap();
    let worker = rig.worker().await;
    let message = "set the codec to H.264".to_owned();
    worker.says(Report::Failed(Failed { code: FailCode::Input, message: message.clone() })).await;
    timeout(PATIENCE, encoder.cancelled.changed()).await.unwrap().unwrap();
    assert_eq!(*encoder.cancelled.borrow(), Some(Refusal::Other(message)));
    assert_eq!(rig.status.borrow().state, State::Waiting);
}

#[tokio::test(start_paused = true)]
async fn an_operators_stop_lists_the_last_parts_ends_the_playlist_and_keeps_encoders_out() {
    let (mut rig, encoder, mut worker) = Rig::on_air().await;
    worker.makes_a_segment().await;
    rig.asks.send(Ask::Stop).await.unwrap();
    assert_eq!(worker.next_command().await, Command::Drain);
    assert_eq!(*encoder.cancelled.borrow(), Some(Refusal::Stopped));
    worker.makes_a_segment().await;
    worker.says(Report::Drained).await;
    rig.settle().await;
    assert_eq!(rig.listed().1, Msn(1));
    assert!(rig.playlist().contains("#EXT-X-ENDLIST"));
    assert_eq!(rig.publish().await.err(), Some(Refusal::Stopped));
    assert_eq!(rig.seats.running(), 0, "neither the stop nor the refusal keeps a seat");
    rig.start().await;
    assert!(rig.publish().await.is_ok());
    assert_eq!(rig.seats.running(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_key_ends_its_encoder_and_the_broadcast_waits_in_grace() {
    let (mut rig, encoder, _worker) = Rig::on_air().await;
    rig.asks.send(Ask::DropPublisher).await.unwrap();
    let mut cancelled = encoder.cancelled.clone();
    timeout(PATIENCE, cancelled.changed()).await.unwrap().unwrap();
    assert_eq!(*cancelled.borrow(), Some(Refusal::KeyReplaced));
    drop(encoder);
    rig.until(State::Grace).await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_drains_keeps_the_broadcast_open_and_the_next_run_goes_on() {
    let (rig, _encoder, mut worker) = Rig::on_air().await;
    worker.makes_a_segment().await;
    rig.asks.send(Ask::Shutdown).await.unwrap();
    assert_eq!(worker.next_command().await, Command::Drain);
    worker.makes_a_segment().await;
    worker.says(Report::Drained).await;
    worker.exits().await;
    let dir = rig.ends().await;
    let stream_dir = dir.path().join("show");
    assert_eq!(standing::read(&stream_dir), Some(Standing::On));
    assert!(!read_numbers(&stream_dir).unwrap().ended);

    let mut rig = Rig::open(dir, POLICY);
    let status = rig.until(State::Grace).await;
    assert_eq!(status.broadcast, 1);
    let _encoder = rig.publish().await.unwrap();
    let worker = rig.worker().await;
    worker.is_ready().await;
    let status = rig.until(State::Live).await;
    assert_eq!((status.broadcast, status.session), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_test_picture_that_was_on_starts_again_by_itself_and_a_stopped_one_does_not() {
    let own = Policy { pushed: false, ..POLICY };
    let mut rig = Rig::new(own);
    rig.start().await;
    let worker = rig.worker().await;
    worker.is_ready().await;
    rig.until(State::Live).await;
    // No shutdown: as after a power cut.
    rig.task.abort();
    let mut rig = Rig::open(rig.dir, own);
    let worker = rig.worker().await;
    worker.is_ready().await;
    assert_eq!(rig.until(State::Live).await.session, 2);
    rig.asks.send(Ask::Stop).await.unwrap();
    worker.says(Report::Drained).await;
    worker.exits().await;
    rig.until(State::Ended).await;
    drop(rig.asks);
    timeout(PATIENCE, rig.task).await.expect("a task that nobody asks ends").unwrap();
    let mut rig = Rig::open(rig.dir, own);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(rig.workers.try_recv().is_err());
    assert_eq!(rig.status.borrow().state, State::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_never_ends_its_drain_delays_a_shutdown_by_a_bound() {
    let (rig, _encoder, mut worker) = Rig::on_air().await;
    let asked = Instant::now();
    rig.asks.send(Ask::Shutdown).await.unwrap();
    assert_eq!(worker.next_signal().await, Signal::TERM);
    assert_eq!(worker.next_signal().await, Signal::KILL);
    let bound = Duration::from_millis(DRAIN_MAX_MS + POLICY.force_kill_ms + 100);
    assert!(asked.elapsed() <= bound, "{:?}", asked.elapsed());
    worker.exits().await;
    rig.ends().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_paused_stays_so_in_the_worker_that_follows_one_that_crashed() {
    let (mut rig, encoder, mut worker) = Rig::on_air().await;
    let paused =
        vec![Order { rendition: "source".parse().unwrap(), on: false, lowered: Lowered::Effort }];
    rig.asks.send(Ask::Orders(paused.clone())).await.unwrap();
    rig.settle().await;
    for _ in 0..2 {
        worker.exits().await;
        let next = rig.worker().await;
        assert_eq!(next.orders, paused);
        worker = next;
    }
    drop((encoder, worker));
}

#[tokio::test(start_paused = true)]
async fn a_quality_that_sleeps_is_listed_but_not_as_made_until_it_fails() {
    let (rig, encoder, mut worker) = Rig::on_air().await;
    let id: common::id::RenditionId = "source".parse().unwrap();
    rig.live.set_on_call([(id.clone(), OnCall::Asleep)].into());
    worker.makes_a_segment().await;
    let withdrawn =
        |failed| Report::Withdrawn(ipc::Withdrawn { rendition: 0, note: "a note".into(), failed });
    worker.says(withdrawn(false)).await;
    rig.settle().await;
    let listed = || rig.live.master().is_some();
    assert!(rig.shown.info().renditions.is_empty() && rig.live.on_call(&id).is_some() && listed());
    // No segment ends meanwhile.
    rig.live.set_on_call([].into());
    rig.asks.send(Ask::Orders(Vec::new())).await.unwrap();
    rig.settle().await;
    assert!(!listed(), "the operator has switched it off");
    rig.live.set_on_call([(id.clone(), OnCall::Woken)].into());
    worker.makes_a_segment().await;
    rig.settle().await;
    assert_eq!(rig.shown.info().renditions.len(), 1, "it is back");
    worker.says(withdrawn(true)).await;
    rig.settle().await;
    assert!(rig.live.on_call(&id).is_none() && !listed(), "it will not come back");
    drop((encoder, worker));
}

#[tokio::test(start_paused = true)]
async fn viewers_of_a_stream_that_is_on_are_told_that_the_broadcaster_restarts() {
    let (rig, _encoder, worker) = Rig::on_air().await;
    rig.asks.send(Ask::Shutdown).await.unwrap();
    rig.settle().await;
    assert_eq!(rig.shown.info().state, "restarting");
    worker.says(Report::Drained).await;
    worker.exits().await;
    rig.settle().await;
    assert_eq!(rig.shown.info().state, "restarting", "to the end");
    let rig = Rig::open(rig.ends().await, POLICY);
    rig.settle().await;
    assert_eq!(rig.shown.info().state, "grace", "back, and waiting for its encoder");

    let off = Rig::new(POLICY);
    off.asks.send(Ask::Shutdown).await.unwrap();
    off.settle().await;
    assert_eq!(off.shown.info().state, "ended", "nothing will go on");
}

#[tokio::test(start_paused = true)]
async fn numbers_that_cannot_be_kept_end_the_session_before_anything_is_announced() {
    let mut rig = Rig::new(Policy { pushed: false, ..POLICY });
    // A file where the stream's folder should be: nothing can be written below it.
    std::fs::write(rig.dir.path().join("show"), b"in the way").unwrap();
    rig.start().await;
    for _ in 0..5 {
        let mut worker = rig.worker().await;
        worker.is_ready().await;
        assert_eq!(worker.next_signal().await, Signal::TERM);
        worker.makes_a_segment().await;
        worker.exits().await;
    }
    let status = rig.until(State::Failed).await;
    assert!(status.cause.to_string().contains("numbering"), "{}", status.cause);
    assert!(rig.live.rendition(&"source".parse().unwrap()).is_none());
}
