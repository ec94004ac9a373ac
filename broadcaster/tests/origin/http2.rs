//! HTTP/2 without TLS, as a proxy on the same machine speaks it, and big segments from files and
//! from memory over both versions.

use std::time::Duration;

use broadcaster::origin::serve::Caps;
use http::Version;
use reqwest::Client;

use crate::rig::{HANGS, PARTS, Rig, later, settle, until};

/// Segments of 600 kB.
const PART_BYTES: usize = 150_000;

/// A segment that also stands in a file, and one that does not.
const FILED: u32 = 2;
const IN_MEMORY: u32 = 4;

fn rig() -> Rig {
    let caps = Caps { connections_max: 100, per_address_max: 100 };
    let mut rig = Rig::with(PART_BYTES, caps);
    rig.write_files();
    rig.make(2 * PARTS);
    assert!(rig.stored(FILED.into()).file.is_some(), "nothing to send from");
    assert!(rig.stored(IN_MEMORY.into()).file.is_none(), "the spool has ended");
    rig
}

/// A client of HTTP/2, or of HTTP/1.1 for none; `frame` is the longest frame it takes.
fn client(frame: Option<u32>) -> Client {
    // Without TLS nobody asks it anything, but no client is made without one.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().timeout(HANGS).no_gzip().no_proxy();
    match frame {
        None => builder.http1_only(),
        Some(frame) => builder
            .http2_prior_knowledge()
            .http2_max_frame_size(frame)
            .http2_initial_stream_window_size(4 << 20)
            .http2_initial_connection_window_size(8 << 20),
    }
    .build()
    .unwrap()
}

/// A client of HTTP/2 that lets so much through before it has read it.
fn client_with_window(bytes: u32) -> Client {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().no_gzip().no_proxy().http2_prior_knowledge();
    builder.http2_initial_stream_window_size(bytes).build().unwrap()
}

fn url(rig: &Rig, path: &str) -> String {
    format!("http://{}/live/show/{path}", rig.address)
}

async fn segment(rig: &Rig, client: &Client, msn: u32) -> bool {
    let answer = client.get(url(rig, &format!("1/v/{msn}.m4s"))).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.content_length(), Some(u64::from(PARTS) * PART_BYTES as u64));
    answer.bytes().await.unwrap() == rig.segment(msn)
}

#[tokio::test]
async fn playlists_and_blocked_reloads_work_over_http_2() {
    let mut rig = Rig::new();
    let client = client(Some(1 << 14));
    let answer = client.get(url(&rig, "v/media.m3u8")).send().await.unwrap();
    assert_eq!((answer.version(), answer.status().as_u16()), (Version::HTTP_2, 200));
    assert!(answer.bytes().await.unwrap() == rig.playlist());

    let blocked = client.get(url(&rig, "v/media.m3u8?_HLS_msn=3&_HLS_part=1")).send();
    let blocked = tokio::spawn(blocked);
    until("it is blocked", || rig.blocked() == 1).await;
    // Others on the same connection do not wait for it.
    let answer = client.get(url(&rig, "1/v/0.m4s")).send().await.unwrap();
    assert!(answer.bytes().await.unwrap() == rig.segment(0));
    assert_eq!(rig.open(), 1);
    rig.make(1);
    let answer = blocked.await.unwrap().unwrap();
    assert!(answer.bytes().await.unwrap() == rig.playlist());
}

#[tokio::test]
async fn requests_given_up_on_a_connection_that_stays_leave_nothing_behind() {
    let rig = Rig::new();
    let client = client(Some(1 << 14));
    for _ in 0..10 {
        let ask = || client.get(url(&rig, "v/media.m3u8?_HLS_msn=3&_HLS_part=1")).send();
        let waiting: Vec<_> = (0..10).map(|_| tokio::spawn(ask())).collect();
        until("all wait", || rig.blocked() == 10).await;
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
        until("nobody waits", || rig.blocked() == 0).await;
    }
    let answer = client.get(url(&rig, "v/media.m3u8")).send().await.unwrap();
    assert!(answer.bytes().await.unwrap() == rig.playlist());
    assert_eq!(rig.open(), 1);
}

#[tokio::test]
async fn a_big_segment_arrives_as_it_was_made_from_a_file_and_from_memory() {
    let rig = rig();
    for frame in [None, Some(1 << 14), Some(1 << 20)] {
        let client = client(frame);
        for msn in [FILED, IN_MEMORY, FILED] {
            assert!(segment(&rig, &client, msn).await, "segment {msn}, frames of {frame:?}");
        }
    }
}

#[tokio::test]
async fn segments_sent_at_once_on_one_connection_do_not_mix() {
    let rig = rig();
    for frame in [1 << 14, 1 << 20] {
        let client = client(Some(frame));
        let ask = |msn| segment(&rig, &client, msn);
        let got = tokio::join!(
            ask(FILED),
            ask(IN_MEMORY),
            ask(FILED - 1),
            ask(FILED),
            ask(IN_MEMORY),
            ask(0)
        );
        assert_eq!(got, (true, true, true, true, true, true), "frames of {frame}");
    }
}

#[tokio::test]
async fn ranges_of_a_filed_segment_are_what_they_say() {
    let rig = rig();
    let whole = rig.segment(FILED);
    for frame in [None, Some(1 << 20)] {
        let client = client(frame);
        for (from, to) in [(0, 0), (149_999, 150_000), (70_000, 500_000), (0, 599_999)] {
            let ask = client.get(url(&rig, &format!("1/v/{FILED}.m4s")));
            let answer = ask.header("Range", format!("bytes={from}-{to}")).send().await.unwrap();
            assert_eq!(answer.status(), 206);
            assert!(answer.bytes().await.unwrap() == whole[from..=to], "{from}-{to}");
        }
    }
}

#[tokio::test]
async fn a_client_that_lets_no_media_through_is_closed_when_nobody_needs_it_any_more() {
    let rig = rig();
    // It takes 64 kB of a segment and then no more, while it answers every ping.
    let client = client_with_window(1 << 16);
    let stuck = client.get(url(&rig, &format!("1/v/{FILED}.m4s"))).send().await.unwrap();
    assert_eq!((stuck.status().as_u16(), rig.open()), (200, 1));
    for _ in 0..6 {
        later(Duration::from_secs(11)).await;
        settle().await;
    }
    assert_eq!(rig.open(), 1, "it has a little more than a minute");
    later(Duration::from_secs(11)).await;
    until("it is closed", || rig.open() == 0).await;
    assert!(stuck.bytes().await.is_err());
}
