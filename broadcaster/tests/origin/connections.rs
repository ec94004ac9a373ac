//! Connections that cost more than they should: silent, slow, too big, too many (faults rows 11,
//! 14).

use std::sync::atomic::Ordering;
use std::time::Duration;

use broadcaster::origin::serve::Caps;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{answer, read, request, rest};
use crate::rig::{HANGS, Rig, later, settle, until};

/// A request's head may take this long.
const HEAD: Duration = Duration::from_secs(10);

const MOMENT: Duration = Duration::from_millis(1);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[tokio::test]
async fn a_client_that_never_finishes_its_first_request_is_closed_in_ten_seconds() {
    let rig = Rig::new();
    for sent in [
        &b""[..],
        b"G",
        b"GET /live/show/v/media.m3u8 HTTP/1.1\r\nHost: he",
        // HTTP/2 begins like this.
        b"P",
        &PREFACE[..20],
    ] {
        let mut socket = rig.connection(sent);
        until("it is accepted", || rig.open() == 1).await;
        later(HEAD / 2).await;
        assert_eq!(rig.open(), 1, "{sent:?}: too early");
        later(HEAD / 2 + MOMENT).await;
        assert!(rest(&mut socket).await.is_empty());
        assert_eq!(rig.open(), 0, "{sent:?}");
    }
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_keep_a_connection() {
    let rig = Rig::new();
    for sent in ["GET", "PRI"] {
        let mut socket = rig.connection(&[]);
        until("it is accepted", || rig.open() == 1).await;
        for byte in sent.bytes() {
            socket.write_all(&[byte]).await.unwrap();
            later(Duration::from_secs(4)).await;
        }
        until("it is closed", || rig.open() == 0).await;
        assert!(rest(&mut socket).await.is_empty());
    }
}

#[tokio::test]
async fn silence_after_a_request_is_closed_too() {
    let rig = Rig::new();
    let mut socket = rig.connection(b"GET /live/show/1/v/0.0.m4s HTTP/1.1\r\nHost: here\r\n\r\n");
    let mut got = vec![0; 1];
    while !got.ends_with(&rig.part(0, 0)) {
        assert!(socket.read_buf(&mut got).await.unwrap() > 0, "it stays open");
    }
    later(HEAD + MOMENT).await;
    assert!(rest(&mut socket).await.is_empty());
    assert_eq!(rig.open(), 0);
}

#[tokio::test]
async fn silence_after_the_beginning_of_http_2_is_closed_in_thirty_seconds() {
    let rig = Rig::new();
    // The preface and empty settings.
    let mut socket = rig.connection(&[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat());
    until("it is accepted", || rig.open() == 1).await;
    for _ in 0..3 {
        later(HEAD + MOMENT).await;
    }
    rest(&mut socket).await;
    assert_eq!(rig.open(), 0);
}

#[tokio::test]
async fn a_request_that_came_in_time_is_not_cut_short_by_that() {
    let mut rig = Rig::new();
    let mut socket = rig.connection(&[]);
    until("it is accepted", || rig.open() == 1).await;
    later(HEAD - Duration::from_secs(3)).await;
    let path = "/live/show/v/media.m3u8?_HLS_msn=3&_HLS_part=1";
    socket.write_all(&request("GET", path, &[])).await.unwrap();
    until("it is blocked", || rig.blocked() == 1).await;
    later(Duration::from_secs(4)).await;
    rig.make(1);
    assert_eq!(read(&rest(&mut socket).await).status, 200);
}

#[tokio::test]
async fn heads_that_are_too_long_or_have_too_many_lines_are_refused() {
    let rig = Rig::new();
    let ask = async |headers: &[&str]| {
        let answer = answer(rig.address, &request("GET", "/live/show/v/media.m3u8", headers)).await;
        (answer.status, answer.body.len())
    };
    let long = format!("X-Long: {}", "x".repeat(20 * 1024));
    assert_eq!(ask(&[&long]).await, (431, 0));
    assert_eq!(ask(&vec!["X-Many: x"; 101]).await, (431, 0));
    assert_eq!(ask(&["Not a header"]).await, (400, 0));
    let length = format!("X-Fits: {}", "x".repeat(8 * 1024));
    assert_eq!(ask(&[&length]).await, (200, rig.playlist().len()));
    let path = format!("/live/{}", "x".repeat(20 * 1024));
    let answer = answer(rig.address, &request("GET", &path, &[])).await;
    assert!(matches!(answer.status, 414 | 431), "{answer:?}");
    assert_eq!(rig.open(), 0);
}

#[tokio::test]
async fn connections_beyond_the_cap_are_closed_until_another_leaves() {
    let rig = Rig::with(1000, Caps { connections_max: 2, per_address_max: 2 });
    let refused = || rig.counters.refused.load(Ordering::Relaxed);
    let mut held = vec![rig.connection(&[]), rig.connection(&[])];
    until("both are accepted", || rig.open() == 2).await;
    for n in 1..=3 {
        let mut socket = rig.connection(&[]);
        assert!(rest(&mut socket).await.is_empty());
        assert_eq!((refused(), rig.open()), (n, 2));
    }
    held.pop();
    until("one has left", || rig.open() == 1).await;
    assert_eq!(rig.get("v/media.m3u8").await.status, 200);
    assert_eq!((refused(), rig.counters.accepted.load(Ordering::Relaxed)), (3, 3));
    assert_eq!(rig.open(), 1, "the one that is held");
}

#[tokio::test]
async fn a_stop_lets_requests_under_way_end_and_then_ends_the_server() {
    let mut rig = Rig::new();
    let blocked = rig.starts_to_get("v/media.m3u8?_HLS_msn=3&_HLS_part=1");
    until("it is blocked", || rig.blocked() == 1).await;
    let server = rig.stop();
    settle().await;
    assert!(tokio::net::TcpStream::connect(rig.address).await.is_err(), "it still listens");
    rig.make(1);
    assert_eq!(blocked.await.unwrap().status, 200);
    tokio::time::timeout(HANGS, server).await.expect("the server ends").unwrap();
}
