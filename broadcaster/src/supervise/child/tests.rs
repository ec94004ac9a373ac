//! Real processes: shell scripts that behave like bad workers. No test waits for a time of its
//! own; each ends when the process is reaped.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bytes::Bytes;
use common::rendition::{Ladder, NamedLadder};

use super::*;
use crate::ingest::media::{Frame, Track};
use crate::testing;
use crate::worker::ipc::{Part, Source};

/// A script in the place of the worker, and what it said.
struct Rig {
    child: Child,
    events: mpsc::Receiver<ChildEvent>,
    dir: tempfile::TempDir,
}

const ID: WorkerId = WorkerId(7);

impl Rig {
    /// Runs `script` with the socket as its standard input; files named by `files` lie in `$DIR`.
    fn run(script: &str, files: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let program = write_script(&dir, script);
        let (events_in, events) = mpsc::channel(64);
        let workers = Processes { program, stream: "show".parse().unwrap(), owner: None };
        let child = workers.start(ID, start(), events_in).unwrap();
        Self { child, events, dir }
    }

    /// Events until the worker is gone, and how it went.
    async fn until_gone(&mut self) -> (Vec<ChildEvent>, String) {
        let mut events = Vec::new();
        loop {
            match self.events.recv().await.expect("a worker's end is always told") {
                ChildEvent::Exited(id, how) => {
                    assert_eq!(id, ID);
                    self.assert_reaped();
                    return (events, how);
                }
                event => events.push(event),
            }
        }
    }

    /// The first event, by which the script says that it is set up.
    async fn first(&mut self) -> Report {
        match self.events.recv().await {
            Some(ChildEvent::Report(ID, report)) => report,
            other => panic!("{other:?} instead of a report"),
        }
    }

    fn assert_reaped(&self) {
        let pid = self.child.pid().expect("it had a process id");
        assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "a zombie is left");
    }
}

fn write_script(dir: &tempfile::TempDir, script: &str) -> PathBuf {
    let program = dir.path().join("worker.sh");
    // Written by another process, or a fork elsewhere in this one could hold it open for writing,
    // which forbids to run it.
    let body = format!("#!/bin/sh\nDIR={}\n{script}\n", dir.path().display());
    let status = std::process::Command::new("sh")
        .args(["-c", "printf %s \"$1\" > \"$2\"", "sh", &body])
        .arg(&program)
        .status()
        .unwrap();
    assert!(status.success());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

fn start() -> Start {
    testing::start(Source::Push, Ladder::Named(NamedLadder::Passthrough))
}

fn encoded(report: &Report) -> Vec<u8> {
    let mut out = BytesMut::new();
    report.encode(&mut out);
    out.to_vec()
}

fn pulse() -> Vec<u8> {
    encoded(&Report::Status(crate::worker::ipc::Status::default()))
}

fn frame(bytes: usize) -> Command {
    let data = Bytes::from(vec![0; bytes]);
    Command::Frame(Frame { track: Track::Video, key: true, pts_us: 0, dts_us: 0, data })
}

#[tokio::test]
async fn its_last_words_come_before_its_end() {
    let part = Report::Part(Part {
        rendition: 0,
        segment: 3,
        independent: true,
        last_of_segment: true,
        pts_us: 0,
        duration_us: 500_000,
        data: vec![1; 100_000].into(),
    });
    let said = [encoded(&part), encoded(&Report::Drained)].concat();
    let mut rig = Rig::run("cat $DIR/said >&0; exit 3", &[("said", &said)]);
    let (events, how) = rig.until_gone().await;
    assert!(
        matches!(&events[..], [ChildEvent::Report(_, first), ChildEvent::Report(_, Report::Drained)]
            if *first == part),
        "{events:?}"
    );
    assert_eq!(how, "exit status 3");
}

#[tokio::test]
async fn a_crash_is_told_by_its_signal() {
    let mut rig = Rig::run("kill -SEGV $$", &[]);
    let (events, how) = rig.until_gone().await;
    assert!(events.is_empty(), "{events:?}");
    assert_eq!(how, "signal 11");
}

#[tokio::test]
async fn garbage_is_told_once_and_the_worker_can_still_be_ended() {
    let garbage = [0xff; 4096];
    let mut rig = Rig::run("cat $DIR/garbage >&0; exec sleep 600", &[("garbage", &garbage)]);
    let first = rig.events.recv().await;
    assert!(matches!(&first, Some(ChildEvent::Garbled(ID, _))), "{first:?}");
    rig.child.terminate();
    let (events, how) = rig.until_gone().await;
    assert!(events.is_empty(), "{events:?}");
    assert_eq!(how, "signal 15");
}

#[tokio::test]
async fn one_that_ignores_sigterm_falls_to_sigkill() {
    let script = "trap '' TERM; cat $DIR/pulse >&0; exec sleep 600";
    let mut rig = Rig::run(script, &[("pulse", &pulse())]);
    rig.first().await;
    rig.child.terminate();
    rig.child.kill();
    let (_, how) = rig.until_gone().await;
    assert_eq!(how, "signal 9");
}

#[tokio::test]
async fn one_whose_handle_is_dropped_is_killed_and_reaped() {
    let mut rig =
        Rig::run("trap '' TERM; cat $DIR/pulse >&0; exec sleep 600", &[("pulse", &pulse())]);
    rig.first().await;
    let (child, ..) = Child::queued(rig.child.pid());
    drop(std::mem::replace(&mut rig.child, child));
    let (_, how) = rig.until_gone().await;
    assert_eq!(how, "signal 9");
}

#[tokio::test]
async fn a_socket_left_open_by_something_it_started_delays_its_end_but_does_not_hide_it() {
    let mut rig = Rig::run("sleep 600 <&0 & echo $! > $DIR/left; exit 0", &[]);
    let (_, how) = rig.until_gone().await;
    assert_eq!(how, "exit status 0");
    let left = fs::read_to_string(rig.dir.path().join("left")).unwrap();
    let left = Pid::from_raw(left.trim().parse().unwrap()).unwrap();
    kill_process(left, Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_worker_that_does_not_read_backs_up_by_number_and_by_bytes() {
    let mut rig = Rig::run("cat $DIR/pulse >&0; exec sleep 600", &[("pulse", &pulse())]);
    rig.first().await;
    let sent = (0..100_000).take_while(|_| rig.child.send(frame(64 * 1024)).is_ok()).count();
    assert!((COMMANDS_MAX..2 * COMMANDS_MAX).contains(&sent), "{sent} commands went in");
    rig.child.kill();
    rig.until_gone().await;

    let (child, _queue, _signals) = Child::queued(None);
    let sent = (0..100).take_while(|_| child.send(frame(8 * 1024 * 1024)).is_ok()).count();
    assert_eq!(sent, COMMAND_BYTES_MAX / (8 * 1024 * 1024));
    assert_eq!(child.send(Command::Drain), Ok(()), "what is small still goes in");
}

#[tokio::test]
async fn what_was_written_makes_room_again() {
    let mut rig = Rig::run("cat > /dev/null", &[]);
    for _ in 0..40 {
        while rig.child.send(frame(1024 * 1024)).is_err() {
            tokio::task::yield_now().await;
        }
    }
    while rig.child.waiting_bytes.load(Ordering::Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
    rig.child.kill();
    rig.until_gone().await;
}

#[tokio::test]
async fn its_first_command_is_what_to_make() {
    let mut rig = Rig::run("head -c 5 > $DIR/head; exit 0", &[]);
    rig.until_gone().await;
    let head = fs::read(rig.dir.path().join("head")).unwrap();
    let mut sent = BytesMut::new();
    Command::Start(Box::new(start())).encode(&mut sent);
    assert_eq!(head, sent[..5]);
}

#[tokio::test]
async fn a_missing_program_is_an_error_and_leaves_nothing_behind() {
    let (events_in, mut events) = mpsc::channel(1);
    let program = PathBuf::from("/nonexistent/broadcaster");
    let workers = Processes { program, stream: "show".parse().unwrap(), owner: None };
    let spawned = workers.start(ID, start(), events_in);
    assert_eq!(spawned.map(|_| ()).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(events.recv().await.is_none(), "no task holds the channel");
}

#[test]
fn long_log_lines_are_cut_and_the_next_one_is_whole() {
    let mut lines = Lines::default();
    let mut seen = Vec::new();
    let long = vec![b'x'; 10 * LINE_BYTES_MAX];
    for bytes in [&b"one\ntw"[..], b"o\n\n", &long, b"\nlast\n"] {
        lines.take_in(bytes, |line| seen.push(line.to_owned()));
        assert!(lines.line.len() <= LINE_BYTES_MAX);
    }
    assert_eq!(seen, ["one", "two", &"x".repeat(LINE_BYTES_MAX), "last"]);
}
