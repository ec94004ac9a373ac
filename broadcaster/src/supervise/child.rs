//! One worker process: started, fed, listened to, ended and reaped.
//!
//! One task attends each process until it is reaped: only that task sends it signals, so none
//! ever reaches a process that got its number later. The process dies with us: its socket closes,
//! it asks the system for a signal at our death, and it is killed when its handle is dropped.
//! Nothing here decides; see [`super::machine`].

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use common::id::StreamName;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child as Process, Command as Program};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::Instrument as _;

use super::machine::WorkerId;
use crate::cleanup::WORKER_OF;
use crate::ingest::media::Config;
use crate::worker::ipc::{Command, Report, Start, take_frame};

/// Commands that may wait for the worker: about 3 s of 60 fps video and 48 kHz AAC. A worker that
/// leaves more unread hangs.
const COMMANDS_MAX: usize = 320;

/// The same in bytes: 3 s of the 80 Mbit/s that no encoder for RTMP exceeds, so that a few huge
/// access units cannot fill the memory.
const COMMAND_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Signals that may wait: the machine sends two at most.
const SIGNALS_MAX: usize = 4;

/// After a worker's end its last words are read for this long at most; they are in the socket
/// already, unless a process it left behind holds it open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Read at once from the worker's socket: a large part in a few reads.
const READ_BYTES: usize = 256 * 1024;

/// Longest log line taken over from a worker, in bytes.
const LINE_BYTES_MAX: usize = 500;

/// Starts workers.
pub trait Workers: std::fmt::Debug + Send {
    /// Starts one that makes what `start` says. What it does comes through `events`.
    ///
    /// # Errors
    /// When it cannot be started.
    fn start(
        &self,
        id: WorkerId,
        start: Start,
        events: mpsc::Sender<ChildEvent>,
    ) -> io::Result<Child>;
}

/// Workers that are processes: `program worker`.
#[derive(Clone, Debug)]
pub struct Processes {
    /// The program, which is our own.
    pub program: PathBuf,
    /// The stream that they work for, for logs.
    pub stream: StreamName,
    /// Whose they are, so that one that is left behind is known by it.
    pub owner: Option<String>,
}

impl Workers for Processes {
    fn start(
        &self,
        id: WorkerId,
        start: Start,
        events: mpsc::Sender<ChildEvent>,
    ) -> io::Result<Child> {
        Child::spawn(self, id, start, events)
    }
}

/// What a worker process did.
#[derive(Debug)]
pub enum ChildEvent {
    /// It said something.
    Report(WorkerId, Report),
    /// It said something that cannot be read; nothing it says counts any more.
    Garbled(WorkerId, String),
    /// It is gone, and how.
    Exited(WorkerId, String),
}

/// Where jemalloc reads its settings when a process starts.
const MALLOC_CONF: &str = "_RJEM_MALLOC_CONF";

/// A worker's dozens of GStreamer threads each allocate a little of our own: one arena for all of
/// them keeps its memory level (decision 0005).
const WORKER_MALLOC: &str = "narenas:1";

/// The handle of a running worker. Dropping it kills the worker.
#[derive(Debug)]
pub struct Child {
    pid: Option<u32>,
    commands: mpsc::Sender<Command>,
    waiting_bytes: Arc<AtomicUsize>,
    signals: mpsc::Sender<Signal>,
}

/// The worker's queue is full, or it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackedUp;

impl Child {
    /// Starts a process and tells it what to make. What it does comes through `events`.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn spawn(
        workers: &Processes,
        id: WorkerId,
        start: Start,
        events: mpsc::Sender<ChildEvent>,
    ) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(ours)?.into_split();
        let Processes { program, stream, owner } = workers;
        let mut command = Program::new(program);
        command
            .arg("worker")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(owner) = owner {
            command.env(WORKER_OF, owner);
        }
        if std::env::var_os(MALLOC_CONF).is_none() {
            command.env(MALLOC_CONF, WORKER_MALLOC);
        }
        let mut process = spawn_on_lasting_thread(command)?;
        let pid = process.id();
        let span = tracing::info_span!("worker", %stream, pid);
        if let Some(stderr) = process.stderr.take() {
            tokio::spawn(log_lines(stderr).instrument(span.clone()));
        }
        let (child, queue, signals) = Self::queued(pid);
        // A new queue has room.
        let _ = child.send(Command::Start(Box::new(start)));
        let waiting_bytes = child.waiting_bytes.clone();
        tokio::spawn(write(writer, queue, waiting_bytes).instrument(span.clone()));
        tokio::spawn(attend(id, reader, process, signals, events).instrument(span));
        Ok(child)
    }

    /// A handle, and the ends where its commands and signals come out.
    pub(super) fn queued(
        pid: Option<u32>,
    ) -> (Self, mpsc::Receiver<Command>, mpsc::Receiver<Signal>) {
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let (signals, signalled) = mpsc::channel(SIGNALS_MAX);
        let waiting_bytes = Arc::default();
        (Self { pid, commands, waiting_bytes, signals }, queue, signalled)
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Queues a command.
    ///
    /// # Errors
    /// [`BackedUp`] when the worker does not read.
    pub fn send(&self, command: Command) -> Result<(), BackedUp> {
        let bytes = media_bytes(&command);
        if self.waiting_bytes.load(Ordering::Relaxed) + bytes > COMMAND_BYTES_MAX {
            return Err(BackedUp);
        }
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.commands.try_send(command).map_err(|_| {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            BackedUp
        })
    }

    /// Asks it to exit.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Makes it exit.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // Full only if the same was asked before; closed once it is reaped.
        let _ = self.signals.try_send(signal);
    }
}

/// What of a command can be large.
fn media_bytes(command: &Command) -> usize {
    match command {
        Command::Frame(frame) => frame.data.len(),
        Command::Config(Config::H264 { avcc: data } | Config::Aac { asc: data }) => data.len(),
        Command::Start(_) | Command::Orders(_) | Command::Drain => 0,
    }
}

/// A process to be started, the runtime that looks after it, and where to say how that went.
type Birth = (Program, Handle, SyncSender<io::Result<Process>>);

/// Starts a process from a thread that lives as long as ours: Linux tells a child that its parent
/// died when the *thread* that started it ends, and threads of the runtime may end any time.
fn spawn_on_lasting_thread(command: Program) -> io::Result<Process> {
    static BIRTHS: OnceLock<SyncSender<Birth>> = OnceLock::new();
    let births = BIRTHS.get_or_init(|| {
        let (births, born) = sync_channel::<Birth>(1);
        std::thread::spawn(move || {
            for (mut command, runtime, answer) in born {
                let _entered = runtime.enter();
                let _ = answer.send(command.spawn());
            }
        });
        births
    });
    let (answer, answered) = sync_channel(1);
    let gone = |_| io::Error::other("the thread that starts workers has ended");
    births.send((command, Handle::current(), answer)).map_err(|_| gone(()))?;
    answered.recv().map_err(|_| gone(()))?
}

async fn write(
    mut socket: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Command>,
    waiting_bytes: Arc<AtomicUsize>,
) {
    let mut out = BytesMut::with_capacity(64 * 1024);
    while let Some(command) = queue.recv().await {
        let mut taken = media_bytes(&command);
        command.encode(&mut out);
        while out.len() < READ_BYTES
            && let Ok(command) = queue.try_recv()
        {
            taken += media_bytes(&command);
            command.encode(&mut out);
        }
        let written = socket.write_all(&out).await;
        waiting_bytes.fetch_sub(taken, Ordering::Relaxed);
        if written.is_err() {
            return;
        }
        out.clear();
    }
}

/// Stays with a process until it is reaped and has been heard out.
async fn attend(
    id: WorkerId,
    mut socket: OwnedReadHalf,
    mut process: Process,
    mut signals: mpsc::Receiver<Signal>,
    events: mpsc::Sender<ChildEvent>,
) {
    let mut hearing = pin!(hear(id, &mut socket, &events));
    let mut heard = false;
    let ended = loop {
        tokio::select! {
            () = &mut hearing, if !heard => heard = true,
            signal = signals.recv() => match signal {
                Some(signal) => send_signal(&process, signal),
                None => {
                    // Nobody holds the handle any more. It fails only for one that is dead.
                    let _ = process.start_kill();
                    break process.wait().await;
                }
            },
            ended = process.wait() => break ended,
        }
    };
    if !heard && tokio::time::timeout(LAST_WORDS, hearing).await.is_err() {
        tracing::warn!("something the worker started still holds its socket");
    }
    let how = match ended {
        Ok(status) => describe(status),
        Err(error) => format!("its end cannot be told: {error}"),
    };
    // Without a listener nobody needs to know.
    let _ = events.send(ChildEvent::Exited(id, how)).await;
}

fn send_signal(process: &Process, signal: Signal) {
    let pid = process.id().and_then(|pid| Pid::from_raw(pid as i32));
    if let Some(pid) = pid {
        // One that has died meanwhile needs no signal; its number is still its own.
        let _ = kill_process(pid, signal);
    }
}

/// Hears a worker out until it has closed its socket or said something unreadable.
async fn hear(id: WorkerId, socket: &mut OwnedReadHalf, events: &mpsc::Sender<ChildEvent>) {
    if let Err(why) = read(id, socket, events).await {
        // Without a listener nobody needs to know.
        let _ = events.send(ChildEvent::Garbled(id, why)).await;
    }
}

async fn read(
    id: WorkerId,
    socket: &mut OwnedReadHalf,
    events: &mpsc::Sender<ChildEvent>,
) -> Result<(), String> {
    let mut input = BytesMut::with_capacity(READ_BYTES);
    loop {
        input.reserve(READ_BYTES);
        match socket.read_buf(&mut input).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
        while let Some((kind, body)) = take_frame(&mut input).map_err(|e| e.to_string())? {
            let report = Report::decode(kind, body).map_err(|e| e.to_string())?;
            if events.send(ChildEvent::Report(id, report)).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Takes over what a worker writes to its standard error, line by line.
async fn log_lines(mut stderr: impl AsyncRead + Unpin) {
    let mut lines = Lines::default();
    let mut read = [0; 4096];
    while let Ok(len @ 1..) = stderr.read(&mut read).await {
        lines.take_in(&read[..len], log_line);
    }
    lines.take_in(b"\n", log_line);
}

fn log_line(line: &str) {
    match line.split_once(' ') {
        Some(("ERROR", text)) => tracing::error!("{text}"),
        Some(("WARN", text)) => tracing::warn!("{text}"),
        Some(("DEBUG" | "TRACE", text)) => tracing::debug!("{text}"),
        Some(("INFO", text)) => tracing::info!("{text}"),
        _ => tracing::warn!("{line}"),
    }
}

/// Splits bytes into lines, of which the end is left out when they are too long.
#[derive(Debug, Default)]
struct Lines {
    /// The line so far, at most [`LINE_BYTES_MAX`].
    line: Vec<u8>,
}

impl Lines {
    fn take_in(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let room = LINE_BYTES_MAX - self.line.len();
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&self.line);
                if !line.trim().is_empty() {
                    each(line.trim());
                }
                self.line.clear();
            }
        }
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".into(),
    }
}

#[cfg(test)]
mod tests;
