//! What commands print and log.

use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::Value;

use crate::rig::Broadcaster;

#[test]
fn a_reader_that_goes_away_ends_no_command_in_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    for arguments in [
        &["check-hls", "--rules"][..],
        &["doctor", "--data", data],
        &["stream", "add", "show", "--data", data],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_broadcaster"))
            .args(arguments)
            .stdout(Stdio::from(writer))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked") && !said.contains("written"), "{arguments:?}: {said}");
        // A machine may lack something that the doctor misses.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{arguments:?}: {}", output.status);
    }
}

#[test]
fn a_command_whose_output_is_lost_says_so_and_fails() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    for arguments in
        [&["stream", "add", "show", "--data", data][..], &["encoders", "--json", "--data", data]]
    {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_broadcaster"))
            .args(arguments)
            .stdout(full)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("the output cannot be written"), "{arguments:?}: {said}");
    }
}

/// In a process of its own: `tracing` remembers for all threads of a process whether anybody wants
/// a line, and while one subscriber is all there is, it asks the thread that comes by first.
#[tokio::test]
async fn a_filter_by_stream_shows_more_of_that_stream_and_nothing_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut shoal = Broadcaster::start(dir.path(), |command| {
        command.args(["--log", "info,[{stream=show}]=debug"]);
    });
    for name in ["other", "show"] {
        assert_eq!(shoal.api.add(name, "a").await.0, 201);
        let stop = format!("/streams/{name}/stop");
        assert_eq!(shoal.api.call(Method::POST, &stop, Value::Null).await.0, 200);
    }
    // Each call has returned, so all that the other stream would say comes before this.
    let seen = shoal.lines_until("OperatorStopped");
    let of = |name: &str| {
        let of_it = |line: &&String| line.contains("DEBUG") && line.contains(name);
        seen.iter().filter(of_it).count()
    };
    assert!(of("stream=show") > 0, "{seen:#?}");
    assert_eq!(of("stream=other"), 0, "{seen:#?}");
}
