//! The end: orderly, bounded, and told to everyone.

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::rig::Broadcaster;

/// A broadcaster with a stream on the air, and the stream's worker.
async fn on_air(data: &std::path::Path) -> (Broadcaster, Pid) {
    let shoal = Broadcaster::start(data, |_| {});
    let new = json!({"name": "show", "source": "test", "ladder": ["240p"]});
    let (status, body) = shoal.api.call(Method::POST, "/streams", new).await;
    assert_eq!(status, 201, "{body}");
    let worker = worker(&shoal).await;
    (shoal, worker)
}

/// The worker of the stream, once that is on the air.
async fn worker(shoal: &Broadcaster) -> Pid {
    let pid = loop {
        let (_, body) = shoal.api.call(Method::GET, "/streams/show", Value::Null).await;
        let listed = shoal.api.get("/live/show/master.m3u8").await.unwrap().status().is_success();
        if let Some(pid) = body["worker"]["pid"].as_i64().filter(|_| listed) {
            break pid;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    Pid::from_raw(pid as i32).unwrap()
}

fn number(playlist: &str, tag: &str) -> u64 {
    let line = playlist.lines().find_map(|l| l.strip_prefix(tag)).unwrap();
    line.trim_start_matches(':').parse().unwrap()
}

#[tokio::test]
async fn a_stopped_worker_and_a_waiting_viewer_hold_up_nothing_and_numbers_go_on_after() {
    let dir = tempfile::tempdir().unwrap();
    let (mut shoal, worker) = on_air(dir.path()).await;
    let playlist = "/live/show/240p/media.m3u8";
    let before = shoal.api.get(playlist).await.unwrap().text().await.unwrap();
    kill_process(worker, Signal::STOP).unwrap();
    // Beyond what will ever be made, and near enough to be waited for.
    let msn = number(&before, "#EXT-X-MEDIA-SEQUENCE") + before.matches("#EXTINF").count() as u64;
    let blocked = {
        let (api, path) = (shoal.api.clone(), format!("{playlist}?_HLS_msn={}", msn + 1));
        tokio::spawn(async move { api.get(&path).await.unwrap().status().as_u16() })
    };
    tokio::task::yield_now().await;
    shoal.signal(Signal::TERM);
    assert_eq!(shoal.ended().code(), Some(0));
    // Refused when it came too late, never cut in the middle.
    if let Ok(status) = blocked.await {
        assert_eq!(status, 200);
    }
    assert!(rustix::process::test_kill_process(worker).is_err(), "the worker is gone");

    let mut shoal = Broadcaster::start(dir.path(), |_| {});
    self::worker(&shoal).await;
    let after = shoal.api.get(playlist).await.unwrap().text().await.unwrap();
    for tag in ["#EXT-X-MEDIA-SEQUENCE", "#EXT-X-DISCONTINUITY-SEQUENCE"] {
        assert!(number(&after, tag) >= number(&before, tag), "{tag} went back");
    }
    shoal.signal(Signal::INT);
    assert_eq!(shoal.ended().code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut shoal, worker) = on_air(dir.path()).await;
    kill_process(worker, Signal::STOP).unwrap();
    shoal.signal(Signal::TERM);
    shoal.logs("a second signal stops at once");
    shoal.signal(Signal::INT);
    assert_eq!(shoal.ended().code(), Some(130));
}
