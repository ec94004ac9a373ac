//! Blocking reloads and hinted parts (faults rows 17 to 19).

use std::sync::Arc;
use std::time::Duration;

use crate::client::request;
use crate::rig::{PARTS, Rig, later, settle, until};

/// Three target durations.
const BLOCK: Duration = Duration::from_secs(6);

#[tokio::test]
async fn a_blocked_reload_is_answered_with_the_next_part_and_not_before() {
    let mut rig = Rig::new();
    let blocked = rig.starts_to_get("v/media.m3u8?_HLS_msn=3&_HLS_part=1");
    until("it is blocked", || rig.blocked() == 1).await;
    let old = Arc::downgrade(&rig.rendition().newest());
    rig.make(1);
    let answer = blocked.await.unwrap();
    assert_eq!((answer.status, answer.header("cache-control")), (200, "public, max-age=12"));
    assert!(answer.text().contains("../1/v/3.1.m4s"), "{}", answer.text());
    assert!(answer.body == rig.playlist());
    assert_eq!(rig.blocked(), 0);
    assert!(old.upgrade().is_none(), "an old version is still held");
}

#[tokio::test]
async fn a_reload_of_a_segment_waits_until_that_is_whole() {
    let mut rig = Rig::new();
    let blocked = rig.starts_to_get("v/media.m3u8?_HLS_msn=3");
    until("it is blocked", || rig.blocked() == 1).await;
    rig.make(PARTS - 2);
    settle().await;
    assert_eq!(rig.blocked(), 1, "a part is missing");
    rig.make(1);
    assert!(blocked.await.unwrap().text().contains("\n../1/v/3.m4s\n"));
}

#[tokio::test]
async fn a_part_past_the_end_of_its_segment_means_the_first_of_the_next() {
    let mut rig = Rig::new();
    let blocked = rig.starts_to_get(&format!("v/media.m3u8?_HLS_msn=3&_HLS_part={PARTS}"));
    until("it is blocked", || rig.blocked() == 1).await;
    rig.make(PARTS - 1);
    settle().await;
    assert_eq!(rig.blocked(), 1, "segment 3 is whole, segment 4 has no part");
    rig.make(1);
    assert!(blocked.await.unwrap().text().contains("URI=\"../1/v/4.0.m4s\",INDEPENDENT=YES"));
}

#[tokio::test]
async fn what_is_there_already_is_answered_at_once() {
    let rig = Rig::new();
    for query in ["", "?_HLS_msn=0", "?_HLS_msn=2&_HLS_part=99", "?_HLS_msn=3&_HLS_part=0", "?x=y"]
    {
        let answer = rig.get(&format!("v/media.m3u8{query}")).await;
        assert_eq!(answer.status, 200, "{query}");
        assert!(answer.body == rig.playlist(), "{query}");
    }
}

#[tokio::test]
async fn a_hinted_part_is_waited_for_and_delivered_and_no_other_is() {
    let mut rig = Rig::new();
    let playlist = rig.get("v/media.m3u8").await;
    let hint = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"../1/v/3.1.m4s\"\n";
    assert!(playlist.text().contains(hint), "{}", playlist.text());
    let hinted = rig.starts_to_get("1/v/3.1.m4s");
    until("it is waited for", || rig.blocked() == 1).await;
    for other in ["1/v/3.2.m4s", "1/v/4.0.m4s", "2/v/3.1.m4s", "1/a/3.1.m4s", "1/v/3.m4s"] {
        let answer = rig.get(other).await;
        assert_eq!((answer.status, answer.header("cache-control")), (404, "no-store"), "{other}");
    }
    rig.make(1);
    let answer = hinted.await.unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, "video/mp4"));
    assert!(answer.body == rig.part(3, 1));
    assert!(answer.header("cache-control").contains("immutable"));
}

#[tokio::test]
async fn impossible_reloads_are_refused_and_nobody_waits() {
    let rig = Rig::new();
    for query in [
        "_HLS_msn=6",
        "_HLS_msn=1000000",
        "_HLS_msn=3&_HLS_part=7",
        "_HLS_msn=3&_HLS_part=65536",
        "_HLS_msn=-1",
        "_HLS_msn=%2D1",
        "_HLS_msn=",
        "_HLS_msn",
        "_HLS_msn=three",
        "_HLS_msn=3.0",
        "_HLS_msn=+3",
        "_HLS_msn=0x3",
        "_HLS_msn=9223372036854775808",
        "_HLS_msn=99999999999999999999999",
        "_HLS_part=0",
        "_HLS_part=1&_HLS_skip=YES",
        "_HLS_msn=3&_HLS_part=-1",
        "_HLS_msn=3&_HLS_msn=3",
    ] {
        let answer = rig.get(&format!("v/media.m3u8?{query}")).await;
        assert_eq!((answer.status, answer.header("cache-control")), (400, "no-store"), "{query}");
        assert_eq!(rig.blocked(), 0, "{query}");
    }
}

#[tokio::test]
async fn a_stream_that_stalls_releases_whoever_waits_after_three_target_durations() {
    let rig = Rig::new();
    let playlist = rig.starts_to_get("v/media.m3u8?_HLS_msn=3&_HLS_part=1");
    let hinted = rig.starts_to_get("1/v/3.1.m4s");
    until("both wait", || rig.blocked() == 2).await;
    later(BLOCK / 2).await;
    assert_eq!(rig.blocked(), 2, "too early");
    later(BLOCK / 2 + Duration::from_millis(1)).await;
    assert_eq!(rig.blocked(), 0);
    for (answer, status) in [(playlist, 503), (hinted, 404)] {
        let answer = answer.await.unwrap();
        assert_eq!((answer.status, answer.header("cache-control")), (status, "no-store"));
    }
}

#[tokio::test]
async fn while_the_encoder_may_return_a_stalled_reload_gets_what_there_is() {
    let rig = Rig::new();
    rig.live.set_grace(true);
    let blocked = rig.starts_to_get("v/media.m3u8?_HLS_msn=3&_HLS_part=1");
    until("it is blocked", || rig.blocked() == 1).await;
    later(BLOCK + Duration::from_millis(1)).await;
    let answer = blocked.await.unwrap();
    // It must not be kept for long: under its address belongs another playlist.
    assert_eq!((answer.status, answer.header("cache-control")), (200, "public, max-age=1"));
    assert!(answer.body == rig.playlist());
}

#[tokio::test]
async fn the_end_of_the_broadcast_releases_whoever_waits() {
    let mut rig = Rig::new();
    let playlist = rig.starts_to_get("v/media.m3u8?_HLS_msn=3&_HLS_part=1");
    let hinted = rig.starts_to_get("1/v/3.1.m4s");
    until("both wait", || rig.blocked() == 2).await;
    rig.feed.end_broadcast().unwrap();
    assert!(playlist.await.unwrap().text().ends_with("#EXT-X-ENDLIST\n"));
    assert_eq!(hinted.await.unwrap().status, 404);
}

#[tokio::test]
async fn a_rendition_that_is_withdrawn_releases_whoever_waits() {
    let mut rig = Rig::new();
    let (rendition, path) = (rig.rendition(), "v/media.m3u8?_HLS_msn=3&_HLS_part=1");
    let playlist = rig.starts_to_get(path);
    until("it is blocked", || rendition.followers() == 1).await;
    drop(rendition);
    rig.feed.withdraw(0);
    assert_eq!(playlist.await.unwrap().status, 404);
}

#[tokio::test]
async fn clients_that_leave_while_they_wait_leave_nothing_behind() {
    let mut rig = Rig::new();
    for round in 0..10 {
        let paths = ["/live/show/v/media.m3u8?_HLS_msn=3&_HLS_part=1", "/live/show/1/v/3.1.m4s"];
        let ask = |n: usize| rig.connection(&request("GET", paths[n % 2], &[]));
        let waiting: Vec<_> = (0..100).map(ask).collect();
        until("all wait", || rig.blocked() == 100).await;
        assert_eq!(rig.open(), 100);
        drop(waiting);
        until("all have left", || rig.open() == 0).await;
        assert_eq!(rig.blocked(), 0, "round {round}");
    }
    // The stream's own and the one in hand.
    let newest = rig.rendition().newest();
    assert_eq!(Arc::strong_count(&newest), 2, "somebody still holds the playlist");
    rig.make(1);
    assert_eq!(Arc::strong_count(&newest), 1);
}
