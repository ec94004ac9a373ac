//! The child process of one live stream: GStreamer and nothing else. It knows nothing of
//! numbering, peers or HTTP; it turns a source into parts and says what they are.
//!
//! Its standard input is one end of a Unix socket that carries [`ipc`] frames both ways. It exits
//! when that socket ends, and is killed when the thread that started it ends (Linux counts the
//! parent's *thread*, so the broadcaster starts workers from one that lives as long as itself).

pub mod aac;
pub mod backlog;
pub mod barrier;
pub mod cut;
pub mod encoder;
pub mod h264;
pub mod ipc;
pub mod ladder;
pub mod late;
mod leak;
pub mod mux;
pub mod pipeline;
pub mod rendition;
pub mod rung;
pub mod rungs;
pub mod session;
pub mod source_file;
pub mod source_push;
pub mod source_test;
pub mod testcard;
pub mod trial;

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::BytesMut;

use ipc::{Command, Report, Start, take_frame};
use session::{EVENTS_MAX, Event};

/// How long the broadcaster may take to read a report. It reads in a task of its own; one that
/// does not for so long hangs, and a new worker is better than a stuck one.
const WRITE_MAX: Duration = Duration::from_secs(20);

/// How long the broadcaster may take to say what to make.
const START_MAX: Duration = Duration::from_secs(10);

/// Bytes taken from the socket at a time: a few frames of a busy publisher.
const READ_BYTES: usize = 256 * 1024;

/// Runs the worker on standard input until its source or its broadcaster ends.
pub fn run() -> ExitCode {
    exit_code(serve())
}

/// Measures what encoding costs on this machine and prints a [`ladder::TrialResult`] as JSON.
pub fn run_trial() -> ExitCode {
    exit_code((|| {
        let result = trial::run().map_err(|failed| anyhow::anyhow!(failed.message))?;
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&result)?)?;
        Ok(())
    })())
}

/// Prints the encoders that GStreamer knows here, as a JSON list of
/// [`encoder::attempt::Listed`].
pub fn run_list_encoders() -> ExitCode {
    exit_code((|| {
        die_with_parent()?;
        let listed = encoder::attempt::list().map_err(|failed| anyhow::anyhow!(failed.message))?;
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&listed)?)?;
        Ok(())
    })())
}

/// Tries an encoder and prints a [`encoder::verdict::Tried`] as JSON.
pub fn run_try_encoder(element: &str, demands: &encoder::attempt::Demands) -> ExitCode {
    let tried = (|| {
        die_with_parent()?;
        let tried = encoder::attempt::run(element, demands);
        let tried = tried.map_err(|failed| anyhow::anyhow!(failed.message))?;
        let mut out = std::io::stdout();
        writeln!(out, "{}", serde_json::to_string(&tried)?)?;
        out.flush()?;
        Ok(())
    })();
    if tried.is_ok() {
        // At once: what hangs would also hang an orderly end.
        std::process::exit(0);
    }
    exit_code(tried)
}

fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> anyhow::Result<()> {
    die_with_parent()?;
    // When memory runs out a worker goes, which is replaced, and not the broadcaster.
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "1000") {
        tracing::debug!(%error, "cannot offer to be ended first when memory runs out");
    }
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("no standard input")?;
    let mut socket = UnixStream::from(socket);
    socket
        .set_write_timeout(Some(WRITE_MAX))
        .context("standard input is no socket: the broadcaster starts its workers, not a person")?;
    let mut input = BytesMut::new();
    let start = read_start(&mut socket, &mut input)?;
    tracing::info!(stream = start.stream, source = ?start.source, "worker starts");
    leak::begin(&start.stream);
    let (sender, events) = sync_channel(EVENTS_MAX);
    let reader = socket.try_clone().context("cannot read and write at once")?;
    let commands = sender.clone();
    std::thread::Builder::new()
        .name("commands".to_owned())
        .spawn(move || read_commands(reader, input, &commands))
        .context("cannot start a thread")?;
    let mut out = BytesMut::new();
    let mut failed = false;
    session::run(*start, events, &sender, &mut |report| {
        failed |= matches!(report, Report::Failed(_));
        out.clear();
        report.encode(&mut out);
        if let Err(error) = socket.write_all(&out) {
            tracing::warn!("the broadcaster does not listen: {error}");
            return false;
        }
        true
    });
    if failed {
        bail!("the session failed");
    }
    Ok(())
}

fn die_with_parent() -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("cannot ask to die with the broadcaster")
}

fn read_start(socket: &mut UnixStream, input: &mut BytesMut) -> anyhow::Result<Box<Start>> {
    socket.set_read_timeout(Some(START_MAX))?;
    loop {
        if let Some((kind, body)) = take_frame(input)? {
            let Command::Start(start) = Command::decode(kind, body)? else {
                bail!("the first message is not Start");
            };
            socket.set_read_timeout(None)?;
            return Ok(start);
        }
        if read_more(socket, input).context("no Start message")? == 0 {
            bail!("the broadcaster went away before it said what to make");
        }
    }
}

fn read_commands(mut socket: UnixStream, mut input: BytesMut, events: &SyncSender<Event>) {
    loop {
        let command = match take_frame(&mut input) {
            Ok(Some((kind, body))) => Command::decode(kind, body),
            Ok(None) => match read_more(&mut socket, &mut input) {
                Ok(1..) => continue,
                Ok(0) | Err(_) => break,
            },
            Err(error) => Err(error),
        };
        match command {
            Ok(command) => {
                if events.send(Event::Command(command)).is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!("the broadcaster's messages make no sense: {error}");
                break;
            }
        }
    }
    if events.try_send(Event::Gone).is_err() {
        // The session is stuck or over; with the broadcaster gone nobody misses it.
        std::process::exit(1);
    }
}

fn read_more(socket: &mut UnixStream, input: &mut BytesMut) -> std::io::Result<usize> {
    let old = input.len();
    input.resize(old + READ_BYTES, 0);
    let read = loop {
        match socket.read(&mut input[old..]) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => break other,
        }
    };
    input.truncate(old + read.as_ref().copied().unwrap_or(0));
    read
}

#[cfg(test)]
mod tests;
