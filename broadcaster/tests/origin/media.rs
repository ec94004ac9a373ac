//! What is served and how it is labelled: ranges, entity tags, compression, names that name
//! nothing (faults rows 14 to 16, 20, 21; hls.md 'Headers').

use std::io::Read as _;

use crate::client::{Answer, answer, request};
use crate::rig::{PARTS, Rig};

fn is_not_kept(answer: &Answer, status: u16) -> bool {
    answer.status == status && answer.header("cache-control") == "no-store"
}

#[tokio::test]
async fn every_uri_of_a_playlist_is_served_as_the_worker_made_it() {
    let rig = Rig::new();
    let playlist = rig.get("v/media.m3u8").await;
    assert_eq!(playlist.header("content-type"), "application/vnd.apple.mpegurl");
    assert_eq!(playlist.header("cache-control"), "public, max-age=1");
    assert_eq!(playlist.header("access-control-allow-origin"), "*");
    let quoted = playlist.text().split('"').skip(1).step_by(2);
    let bare = playlist.text().lines().filter(|line| !line.starts_with('#'));
    let uris: Vec<_> = quoted.chain(bare).map(|uri| uri.strip_prefix("../").unwrap()).collect();
    // An init segment, the parts, the hint and the whole segments.
    assert_eq!(uris.len() as u32, 1 + 3 * PARTS + 1 + 1 + 3, "{uris:?}");
    for uri in uris {
        let expected = match uri.trim_start_matches("1/v/").split('.').collect::<Vec<_>>()[..] {
            ["init-1", "mp4"] => b"the init segment".to_vec(),
            ["3", "1", "m4s"] => continue,
            [msn, part, "m4s"] => rig.part(msn.parse().unwrap(), part.parse().unwrap()).to_vec(),
            [msn, "m4s"] => rig.segment(msn.parse().unwrap()),
            _ => panic!("{uri} is no name of media"),
        };
        let answer = rig.get(uri).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "video/mp4"), "{uri}");
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert_eq!(answer.header("etag"), format!("\"{uri}\""));
        assert_eq!(answer.header("content-length"), expected.len().to_string());
        assert!(answer.body == expected, "{uri}");
    }
}

#[tokio::test]
async fn a_segment_that_left_its_playlist_is_still_served() {
    let mut rig = Rig::new();
    rig.make(16 * PARTS);
    assert!(!rig.get("v/media.m3u8").await.text().contains("../1/v/0.m4s"));
    for (uri, expected) in [("1/v/0.m4s", rig.segment(0)), ("1/v/0.2.m4s", rig.part(0, 2).to_vec())]
    {
        let answer = rig.get(uri).await;
        assert_eq!(answer.status, 200, "{uri}");
        assert!(answer.body == expected, "{uri}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_404_and_must_not_be_kept() {
    let rig = Rig::new();
    for path in [
        "/live/show/other/media.m3u8",
        "/live/show/thumb.jpg",
        "/live/other/master.m3u8",
        "/live/show/1/v/4.m4s",
        "/live/show/1/v/18446744073709551615.m4s",
        "/live/show/1/v/0.4.m4s",
        "/live/show/1/v/0.65535.m4s",
        "/live/show/0/v/0.m4s",
        "/live/show/1/v/init-2.mp4",
        "/live/show/",
        "/live/",
        "/",
    ] {
        let answer = answer(rig.address, &request("GET", path, &[])).await;
        assert!(is_not_kept(&answer, 404), "{path}: {answer:?}");
        assert_eq!(answer.text(), "not found\n", "{path}");
    }
}

#[tokio::test]
async fn no_path_leads_anywhere_else() {
    let rig = Rig::new();
    for path in [
        "/live/../numbers.json",
        "/live/show/../show/master.m3u8",
        "/live/show/./master.m3u8",
        "/live/show/../../../../etc/passwd",
        "/live/show/%2e%2e/%2e%2e/etc/passwd",
        "/live/show/%252e%252e/etc/passwd",
        "/live/show/..%2f..%2fetc%2fpasswd",
        "/live/show/1/v/..%5c..%5cnumbers.json",
        "/live/show/1/v/%2e%2e",
        "/live/show/1/v/0.m4s%00",
        "/live/show/1/v/0.m4s%0d%0aX-Bad:%201",
        "/live/show/1/v/%c0%ae%c0%ae/0.m4s",
        "/live/show/1/v/%ff.m4s",
        "/live/show//1/v/0.m4s",
        "/live//etc/passwd",
        "//etc/passwd",
        "/live/show/1/v/00.m4s",
        "/live/show/1/V/0.m4s",
        "/live/show/1/v/0.m4s/",
        "http://other.invalid/etc/passwd",
        "etc",
    ] {
        let answer = answer(rig.address, &request("GET", path, &[])).await;
        assert!(is_not_kept(&answer, 404), "{path}: {answer:?}");
        assert_eq!(answer.text(), "not found\n", "nothing of {path} comes back");
    }
    // What is no address at all does not get that far.
    for path in ["/live/show/\0", "/live/show/a b", "/live/show/1/v/\u{1}.m4s"] {
        let answer = answer(rig.address, &request("GET", path, &[])).await;
        assert_eq!((answer.status, answer.body.len()), (400, 0), "{path:?}: {answer:?}");
    }
}

#[tokio::test]
async fn one_range_is_answered_with_just_that() {
    let rig = Rig::new();
    let whole = rig.segment(0);
    let ranges = [
        ("0-0", 0..1),
        // Over the border of two parts.
        ("990-1009", 990..1010),
        ("3999-", 3999..4000),
        ("1000-99999", 1000..4000),
        ("-1", 3999..4000),
        ("-99999", 0..4000),
    ];
    for (asked, range) in ranges {
        let answer = rig.ask("GET", "1/v/0.m4s", &[&format!("Range: bytes={asked}")]).await;
        assert_eq!(answer.status, 206, "{asked}");
        let named = format!("bytes {}-{}/4000", range.start, range.end - 1);
        assert_eq!(answer.header("content-range"), named);
        assert_eq!(answer.header("etag"), "\"1/v/0.m4s\"");
        assert!(answer.body == whole[range], "{asked}");
    }
}

#[tokio::test]
async fn a_range_beyond_the_end_is_416_and_says_how_long_it_is() {
    let rig = Rig::new();
    for asked in ["4000-", "4000-4001", "-0", "18446744073709551615-"] {
        let answer = rig.ask("GET", "1/v/0.m4s", &[&format!("Range: bytes={asked}")]).await;
        assert!(is_not_kept(&answer, 416), "{asked}: {answer:?}");
        assert_eq!(answer.header("content-range"), "bytes */4000", "{asked}");
    }
}

#[tokio::test]
async fn many_ranges_and_malformed_ones_get_the_whole_once() {
    let rig = Rig::new();
    let overlapping = vec!["0-"; 1000].join(",");
    for asked in ["0-1,5-9", "9-5", "a-b", "-", "", "1", &overlapping] {
        let answer = rig.ask("GET", "1/v/0.m4s", &[&format!("Range: bytes={asked}")]).await;
        assert_eq!(answer.status, 200, "{asked}");
        assert!(answer.body == rig.segment(0), "{asked}");
    }
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let rig = Rig::new();
    for path in ["master.m3u8", "v/media.m3u8", "info.json", "1/v/0.m4s", "1/v/0.1.m4s", "none"] {
        let (head, get) = (rig.ask("HEAD", path, &[]).await, rig.get(path).await);
        assert!(head.body.is_empty(), "{path}");
        assert_eq!(head.header("content-length"), get.body.len().to_string(), "{path}");
        let (mut one, mut other) = (head.headers, get.headers);
        one.remove("date");
        other.remove("date");
        assert_eq!((head.status, one), (get.status, other), "{path}");
    }
}

#[tokio::test]
async fn a_page_elsewhere_may_ask_for_ranges_and_nothing_may_be_changed() {
    let rig = Rig::new();
    let asks = ["Origin: https://a.invalid", "Access-Control-Request-Method: GET"];
    let preflight = rig.ask("OPTIONS", "1/v/0.m4s", &asks).await;
    assert_eq!((preflight.status, preflight.body.len()), (204, 0));
    assert_eq!(preflight.header("access-control-allow-origin"), "*");
    assert_eq!(preflight.header("access-control-allow-methods"), "GET, HEAD, OPTIONS");
    assert_eq!(preflight.header("access-control-allow-headers"), "Range");
    for method in ["POST", "PUT", "DELETE", "TRACE", "ANYTHING"] {
        assert!(is_not_kept(&rig.ask(method, "1/v/0.m4s", &[]).await, 405), "{method}");
    }
}

#[tokio::test]
async fn who_has_it_already_is_told_so_and_gets_no_bytes() {
    let rig = Rig::new();
    for tags in ["\"1/v/0.m4s\"", "W/\"1/v/0.m4s\"", "\"x\", \"1/v/0.m4s\"", "*"] {
        let answer = rig.ask("GET", "1/v/0.m4s", &[&format!("If-None-Match: {tags}")]).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{tags}");
        assert_eq!(answer.header("etag"), "\"1/v/0.m4s\"");
        assert!(answer.header("cache-control").contains("immutable"));
    }
    let answer = rig.ask("GET", "1/v/1.m4s", &["If-None-Match: \"1/v/0.m4s\""]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == rig.segment(1));
    // A playlist changes under its name, and must never be called unchanged.
    let answer = rig.ask("GET", "v/media.m3u8", &["If-None-Match: *"]).await;
    assert_eq!((answer.status, answer.header("etag")), (200, ""));
}

#[tokio::test]
async fn playlists_are_compressed_for_who_accepts_that_and_media_never_is() {
    let rig = Rig::new();
    for path in ["v/media.m3u8", "master.m3u8"] {
        let plain = rig.get(path).await;
        let zipped = rig.ask("GET", path, &["Accept-Encoding: br, gzip"]).await;
        assert_eq!(
            (plain.header("content-encoding"), plain.header("vary")),
            ("", "Accept-Encoding")
        );
        assert_eq!(zipped.header("content-encoding"), "gzip", "{path}");
        assert_eq!(zipped.header("vary"), "Accept-Encoding");
        assert!(zipped.body.len() < plain.body.len());
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(&zipped.body[..]).read_to_end(&mut text).unwrap();
        assert!(text == plain.body, "{path}");
    }
    let media = rig.ask("GET", "1/v/0.m4s", &["Accept-Encoding: gzip"]).await;
    assert_eq!(media.header("content-encoding"), "");
    assert!(media.body == rig.segment(0));
}
