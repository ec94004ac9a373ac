//! A worker's one session, from [`Start`] to its last part: plans the renditions, feeds the graph,
//! cuts what comes out of it and reports. The shell around it moves bytes; the rules are in
//! [`super::cut`], [`super::ladder`] and [`super::source_push`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use common::rendition::Kind;

use super::barrier::Barrier;
use super::cut::Timeline;
use super::ipc::{Command, FailCode, Failed, MadeRendition, PASSTHROUGH, Ready, Report, Start};
use super::late::Late;
use super::pipeline::{AudioFeed, Coded, Running, VideoFeed, other};
use super::rendition::Rendition;
use super::rung::Generation;
use super::rungs::Rungs;
use super::source_file;
use super::source_push::{Begin, Intake};
use crate::ingest::media::Media;

mod begin;
mod drain;
mod pass;
mod status;
mod switch;

use drain::{DRAINS_MAX, Drain, ENDS_MAX};
use pass::Passthrough;
use status::StatusClock;

/// What the session's loop waits for.
#[derive(Debug)]
pub enum Event {
    /// From the broadcaster.
    Command(Command),
    /// The broadcaster is gone or sent nonsense: stop at once.
    Gone,
    /// A coded frame from the graph.
    Coded(Coded),
    /// A still of the source, as JPEG.
    Thumb(Bytes),
    /// An output has given its last frame.
    OutputEnded {
        /// Which.
        output: usize,
        /// Of which of its encoders; 0 for audio.
        generation: Generation,
    },
    /// A self-paced source produced its first frame at this wall clock, in microseconds since the
    /// Unix epoch.
    Started {
        /// The wall clock of session time 0.
        wall_clock_us: i64,
    },
    /// A file's tracks are known.
    Opened(source_file::Opened),
    /// Compressed media of a file.
    Media(Media),
    /// A source ended by itself.
    SourceEnded,
    /// A source cannot go on.
    Failed(Failed),
}

/// Counters that a source's thread shares with the session.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Frames left out because they came too late or the graph was full.
    pub dropped: AtomicU64,
    /// Session time of the newest frame, in microseconds.
    pub source_us: AtomicU64,
}

/// Events under way: enough that no thread waits for another in normal work (a few frames per
/// output), few enough that a stuck session stops its graph within a second.
pub const EVENTS_MAX: usize = 64;

/// How often the session looks around when nothing happens.
const TICK: Duration = Duration::from_millis(20);

/// How long the renditions may take to give their first frame. x264 and decoders take tens of
/// milliseconds; a machine that needs longer than this will not keep up either.
const READY_MAX: Duration = Duration::from_secs(10);

/// Runs a session to its end. `events` feeds it; `sender` is the other end, handed to the threads
/// it starts; `emit` sends reports and says whether anybody still listens.
pub fn run(
    start: Start,
    events: Receiver<Event>,
    sender: &SyncSender<Event>,
    emit: &mut dyn FnMut(Report) -> bool,
) {
    let mut session = Session::new(start, sender.clone());
    let result = session.begin().and_then(|()| session.work(&events, emit));
    session.stop.store(true, Ordering::Relaxed);
    // The graph's threads may wait to send: they stop waiting when nobody can receive.
    drop(events);
    match result {
        Ok(End::Drained) => {
            emit(Report::Drained);
        }
        Ok(End::Gone) => {}
        Err(failed) => {
            tracing::error!(code = ?failed.code, "{}", failed.message);
            emit(Report::Failed(failed));
        }
    }
    session.rungs.stop();
}

enum End {
    Drained,
    Gone,
}

struct Session {
    start: Start,
    sender: SyncSender<Event>,
    stop: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
    timeline: Arc<Mutex<Timeline>>,
    renditions: Vec<Rendition>,
    has_video: bool,
    graph: Option<Running>,
    notes: Vec<String>,
    wall_clock_us: Option<i64>,
    began: Instant,
    /// What was to report before every rendition was ready.
    held: VecDeque<Report>,
    ready_sent: bool,
    /// Pushed media: how it is placed in session time.
    intake: Option<Intake>,
    pass: Passthrough,
    /// Rendition number of `source`, also after it was withdrawn.
    source_index: Option<usize>,
    rungs: Rungs,
    /// Holds parts back while an encoder is replaced.
    barrier: Option<Barrier>,
    /// New encoders that came up when their barrier had fallen.
    late: Late,
    ticked: Instant,
    draining: Option<Drain>,
    status: StatusClock,
}

impl Session {
    fn new(start: Start, sender: SyncSender<Event>) -> Self {
        let timeline = Arc::new(Mutex::new(Timeline::new(start.segment_us)));
        let rungs = Rungs::new(Arc::clone(&timeline), sender.clone());
        Self {
            start,
            sender,
            stop: Arc::new(AtomicBool::new(false)),
            pulse: Arc::new(Pulse::default()),
            timeline,
            renditions: Vec::new(),
            has_video: true,
            graph: None,
            notes: Vec::new(),
            wall_clock_us: None,
            began: Instant::now(),
            held: VecDeque::new(),
            ready_sent: false,
            intake: None,
            pass: Passthrough::default(),
            source_index: None,
            rungs,
            barrier: None,
            late: Late::default(),
            ticked: Instant::now(),
            draining: None,
            status: StatusClock::new(),
        }
    }

    fn work(
        &mut self,
        events: &Receiver<Event>,
        emit: &mut dyn FnMut(Report) -> bool,
    ) -> Result<End, Failed> {
        loop {
            match events.recv_timeout(TICK) {
                Ok(Event::Gone) | Err(RecvTimeoutError::Disconnected) => return Ok(End::Gone),
                Ok(event) => {
                    if let Err(failed) = self.handle(event, emit) {
                        // The graph's own words say more than what followed from them.
                        return Err(self
                            .graph
                            .as_ref()
                            .and_then(Running::failure)
                            .unwrap_or(failed));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if !self.tick(emit)? {
                return Ok(End::Gone);
            }
            if self.is_drained() {
                self.finish(emit)?;
                return Ok(End::Drained);
            }
        }
    }

    fn handle(&mut self, event: Event, emit: &mut dyn FnMut(Report) -> bool) -> Result<(), Failed> {
        match event {
            Event::Coded(coded) => self.handle_coded(coded, emit),
            Event::Command(Command::Frame(frame)) => self.handle_media(Media::Frame(frame), emit),
            Event::Command(Command::Config(config)) => {
                self.handle_media(Media::Config(config), emit)
            }
            Event::Media(media) => self.handle_media(media, emit),
            Event::Command(Command::Drain) => self.drain(DRAINS_MAX, emit),
            Event::SourceEnded => self.drain(ENDS_MAX, emit),
            Event::Command(Command::Orders(orders)) => {
                self.handle_orders(&orders);
                Ok(())
            }
            // The shell took the first one; a second is a mistake that changes nothing.
            Event::Command(Command::Start(_)) | Event::Gone => Ok(()),
            Event::Thumb(jpeg) => {
                self.report(Report::Thumb(jpeg), emit);
                Ok(())
            }
            Event::OutputEnded { output, generation } => {
                self.handle_output_ended(output, generation, emit)
            }
            Event::Started { wall_clock_us } => {
                self.wall_clock_us = Some(wall_clock_us);
                Ok(())
            }
            Event::Opened(opened) => self.handle_opened(opened),
            Event::Failed(failed) => Err(failed),
        }
    }

    fn handle_opened(&mut self, opened: source_file::Opened) -> Result<(), Failed> {
        if opened.pushes {
            self.intake = Some(Intake::default());
            self.notes.extend(opened.notes);
            return Ok(());
        }
        self.notes.extend(opened.notes);
        self.build(opened.video, opened.audio.map(|audio| (audio, None)))?;
        let graph = self.graph.as_ref();
        let feeds = (graph.and_then(|g| g.video.clone()), graph.and_then(|g| g.audio.clone()));
        // The source's thread waits for its feeds; it is gone only when the session is over.
        let _ = opened.feeds.send(feeds);
        Ok(())
    }

    /// Takes media of a publisher or of a file that is read without decoding.
    fn handle_media(
        &mut self,
        media: Media,
        emit: &mut dyn FnMut(Report) -> bool,
    ) -> Result<(), Failed> {
        let now = self.began.elapsed();
        let Some(intake) = &mut self.intake else { return Ok(()) };
        match media {
            Media::Config(config) => intake.handle_config(config)?,
            Media::Frame(frame) => {
                self.status.bytes += frame.data.len() as u64;
                if let Some(placed) = intake.handle_frame(frame, now, wall_clock_us())? {
                    return self.handle_placed(placed, emit);
                }
            }
        }
        self.begin_pushed(now, emit)
    }

    /// Begins the session of a publisher when its tracks are clear at `now`.
    fn begin_pushed(
        &mut self,
        now: Duration,
        emit: &mut dyn FnMut(Report) -> bool,
    ) -> Result<(), Failed> {
        let begin = match &mut self.intake {
            Some(intake) => intake.poll_begin(now)?,
            None => None,
        };
        let Some(begin) = begin else { return Ok(()) };
        let Begin { video, audio, wall_clock_us, notes, frames } = begin;
        self.notes.extend(notes);
        self.wall_clock_us = Some(wall_clock_us);
        let video_config = video.as_ref().map(|v| v.avcc.clone());
        let video =
            video.map(|v| (v.picture, VideoFeed::H264 { avcc: v.avcc, picture: v.picture }));
        let audio =
            audio.map(|a| (AudioFeed::Aac { asc: a.asc.clone(), info: a.info }, Some(a.asc)));
        self.build(video, audio)?;
        if let (Some((i, _)), Some(config)) = (&self.pass.video, video_config) {
            self.configure(*i, &config)?;
        }
        for placed in frames {
            self.handle_placed(placed, emit)?;
        }
        Ok(())
    }

    fn report(&mut self, report: Report, emit: &mut dyn FnMut(Report) -> bool) {
        if self.ready_sent {
            emit(report);
        } else {
            self.held.push_back(report);
        }
    }

    /// Looks after what depends on time; `false` when nobody listens any more.
    fn tick(&mut self, emit: &mut dyn FnMut(Report) -> bool) -> Result<bool, Failed> {
        self.begin_pushed(self.began.elapsed(), emit)?;
        for i in 0..self.renditions.len() {
            if self.renditions[i].made.kind != Kind::Audio {
                continue;
            }
            let mut timeline = lock(&self.timeline);
            let parts = self.renditions[i].poll_audio(&mut timeline, !self.has_video);
            drop(timeline);
            self.send(i, parts.map_err(|e| other(e.to_string()))?, emit);
        }
        self.poll_ready(emit)?;
        let elapsed_ms = whole_ms(&mut self.ticked, Instant::now());
        self.poll_failures(elapsed_ms, emit)?;
        self.poll_endings(elapsed_ms, emit)?;
        self.poll_orders();
        self.poll_openings(elapsed_ms, emit)?;
        self.poll_barrier(emit);
        if self.status.last.elapsed() < Duration::from_secs(1) {
            return Ok(true);
        }
        if let Some(failed) = self.graph.as_ref().and_then(Running::failure) {
            return Err(failed);
        }
        if let Some(failed) = self.pass.stills.as_ref().and_then(Running::failure) {
            tracing::info!("no more poster pictures: {}", failed.message);
            self.pass.stills = None;
        }
        Ok(emit(Report::Status(self.poll_status())))
    }

    /// Reports [`Ready`] once every rendition is, and what waited for it. A part is among that:
    /// without one there is nothing to list, and with one the bitrate of what passes is known.
    fn poll_ready(&mut self, emit: &mut dyn FnMut(Report) -> bool) -> Result<(), Failed> {
        if self.ready_sent || self.renditions.is_empty() {
            return Ok(());
        }
        let late = self.renditions.iter().find(|r| !r.is_ready());
        if let (Some(late), true) = (late, self.began.elapsed() > READY_MAX) {
            return Err(other(format!("'{}' gave no frame within 10 s", late.made.id)));
        }
        let has_part = self.held.iter().any(|r| matches!(r, Report::Part(_)));
        let (None, Some(wall_clock_us), true) = (late, self.wall_clock_us, has_part) else {
            return Ok(());
        };
        for rendition in self.renditions.iter_mut().filter(|r| r.made.encoder == PASSTHROUGH) {
            let measured = rendition.measured_bitrate();
            if measured > 0 {
                rendition.made.bitrate = measured;
            }
        }
        let renditions: Vec<MadeRendition> =
            self.renditions.iter().map(|r| r.made.clone()).collect();
        let notes = std::mem::take(&mut self.notes);
        self.ready_sent = true;
        emit(Report::Ready(Ready { renditions, notes, wall_clock_us }));
        if let (true, Some(i)) = (self.pass.is_off, self.source_index) {
            self.withdraw(i, switch::SWITCHED_OFF.to_owned(), false, emit);
        }
        for report in self.held.drain(..) {
            emit(report);
        }
        Ok(())
    }
}

/// Starts GStreamer once.
///
/// # Errors
/// [`FailCode::Machine`] when it is not installed properly.
pub fn init_gstreamer() -> Result<(), Failed> {
    gst::init().map_err(|error| Failed {
        code: FailCode::Machine,
        message: format!("GStreamer does not start: {error}"),
    })
}

/// A failure that only another input can mend.
pub fn input(message: String) -> Failed {
    Failed { code: FailCode::Input, message }
}

/// Starts a thread of the session.
///
/// # Errors
/// When the machine has no room for it.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Failed> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map(drop)
        .map_err(|error| other(format!("cannot start a thread: {error}")))
}

/// Whole milliseconds from `since` to `now`. What is left of the last one is counted the next time:
/// with every event there is a tick, and clocks that are told less would run slow.
fn whole_ms(since: &mut Instant, now: Instant) -> u64 {
    let ms = now.saturating_duration_since(*since).as_millis() as u64;
    *since += Duration::from_millis(ms);
    ms
}

fn wall_clock_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64
}

fn lock(timeline: &Mutex<Timeline>) -> MutexGuard<'_, Timeline> {
    timeline.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_lose_no_time_however_short_they_are() {
        let began = Instant::now();
        let mut ticked = began;
        let ticks = (1..=1000).map(|i| began + Duration::from_micros(900) * i);
        assert_eq!(ticks.map(|now| whole_ms(&mut ticked, now)).sum::<u64>(), 900);
    }
}
